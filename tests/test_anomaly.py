"""detect_anomaly: who made the NaN, where, and only who did."""

import re
import threading

import numpy as np
import pytest

import minidiff as md
from minidiff import ops
from minidiff.autograd import mode
from minidiff.tensor import Tensor

HERE = re.escape(__file__)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns of what is provoked here


def leaf(*numbers):
    return Tensor(np.array(numbers, np.float32), requires_grad=True)


FORWARD = [
    (lambda: leaf(4.0, -1.0).sqrt(),
     r"Sqrt: made NaN \(1 of 2 numbers\) from inputs without, \(2,\) float32", "leaf(4.0, -1.0).sqrt()"),
    (lambda: leaf(1.0, 0.0, 0.0).log() + 1.0,
     r"Log: made inf \(2 of 3 numbers\) from inputs without, \(3,\) float32", "leaf(1.0, 0.0, 0.0).log() + 1.0"),
    (lambda: leaf(1.0) / Tensor(np.zeros((2, 1), np.float32)),
     r"Div: made inf \(2 of 2 numbers\) from inputs without, \(1,\) float32, \(2, 1\) float32", "np.zeros((2, 1)"),
    (lambda: leaf(np.inf) - leaf(np.inf),
     r"Sub: made NaN \(1 of 1 numbers\) from inputs without, \(1,\) float32, \(1,\) float32", "leaf(np.inf) - leaf"),
    (lambda: leaf(1.0) + leaf(2.0, np.nan) * 2.0,
     r"Mul: input 0 of \(2,\) float32, \(\) float32 held NaN before", "leaf(2.0, np.nan) * 2.0"),
    (lambda: ops.gelu(leaf(np.nan)), r"GELU: input 0 of \(1,\) float32 held NaN before", "ops.gelu(leaf(np.nan))"),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "message", "line"), FORWARD)
def test_forward_names_the_operation_its_inputs_and_the_line(fn, message, line):
    with pytest.raises(FloatingPointError, match=rf"^{message}; called at {HERE}:\d+: .*{re.escape(line)}.*$"):
        with md.detect_anomaly():
            fn()


BACKWARD = [
    (lambda: leaf(4.0, 0.0).sqrt(),
     r"Sqrt: backward made inf \(1 of 2 numbers\) in the gradient of input 0 \(2,\) from a gradient without",
     "leaf(4.0, 0.0).sqrt()"),
    (lambda: leaf(0.0).sqrt() * 0.0,
     r"Sqrt: backward made NaN \(1 of 1 numbers\) in the gradient of input 0 \(1,\) from a gradient without",
     "leaf(0.0).sqrt() * 0.0"),
]  # fmt: skip


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(("fn", "message", "line"), BACKWARD)
def test_backward_names_the_operation_and_the_line_that_called_it(fn, message, line, create_graph):
    with md.detect_anomaly():
        y = fn()
        with pytest.raises(FloatingPointError, match=rf"^{message}; called at {HERE}:\d+: .*{re.escape(line)}.*$"):
            y.sum().backward(create_graph=create_graph)


def test_what_was_recorded_without_is_named_without_its_line():
    y = leaf(0.0).sqrt()
    with md.detect_anomaly(), pytest.raises(FloatingPointError, match=r"; record it under detect_anomaly to see where it was called$"):
        y.backward()


def test_a_gradient_that_comes_with_nan_is_not_laid_at_the_operations_door():
    with md.detect_anomaly(), pytest.raises(FloatingPointError, match=r"^Mul: backward was given a gradient \(1,\) that held NaN"):
        (leaf(1.0) * 2.0).backward(np.full(1, np.nan, np.float32))


def test_inside_the_model_the_users_own_line_is_named():
    layer = md.nn.Linear(2, 2)
    layer.weight.data[0] = np.inf
    with md.detect_anomaly(), pytest.raises(FloatingPointError, match=rf"^MatMul: made NaN .*; called at {HERE}:\d+: layer\(x\)$"):
        x = Tensor(np.zeros((1, 2), np.float32))
        layer(x)


def test_infinities_that_are_meant_may_pass():
    """A mask of −inf before a softmax: no NaN comes out, forward or backward."""
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    mask = np.array([[True, True, False]])
    with md.detect_anomaly():
        y = ops.softmax(ops.where(mask, x, -np.inf))
        (y * y).sum().backward()
    assert not y.numpy()[:, 2].any() and np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("order", [1, 2])
def test_healthy_numbers_pass_unchanged(rng, order):
    def gradient():
        x = Tensor(rng0.standard_normal((2, 4)), requires_grad=True)
        y = ops.group_norm_gelu((x * x).exp() + 1.0, 2).log1p() if hasattr(Tensor, "log1p") else ops.gelu((x * x).exp())
        (g,) = md.grad(md.checkpoint(ops.softmax, y), [x], np.ones((2, 4)), create_graph=order == 2)
        return g if order == 1 else md.grad((g * g).sum(), x)

    rng0 = np.random.default_rng(1)
    expected = gradient().numpy()
    rng0 = np.random.default_rng(1)
    with md.detect_anomaly():
        np.testing.assert_array_equal(gradient().numpy(), expected)


def test_numbers_changed_behind_the_engines_back_are_noticed():
    """A write straight into the array, which nobody sees: the numbers themselves are compared."""
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with md.detect_anomaly():
        y = x * w
        w.data[0] = 100.0
        with pytest.raises(RuntimeError, match=rf"^Mul: backward meets other numbers than forward kept: they were written to; called at {HERE}:\d+: y = x \* w$"):
            y.sum().backward()


def test_it_ends_with_its_block_and_may_be_nested():
    with pytest.raises(KeyError), md.detect_anomaly(), md.detect_anomaly():
        raise KeyError
    assert mode.watchers == () and mode.anomaly is None
    with md.detect_anomaly():
        with md.detect_anomaly():
            pass
        with pytest.raises(FloatingPointError):
            leaf(0.0).log()
    assert np.isinf(leaf(0.0).log().item())


def test_other_threads_are_not_watched():
    with md.detect_anomaly():
        result = []
        thread = threading.Thread(target=lambda: result.append(leaf(0.0).log().item()))
        thread.start()
        thread.join()
    assert result == [-np.inf]
