"""Writing in place: what would give a wrong gradient is refused, and what would not is let be."""

import gc
import re

import numpy as np
import pytest

import minidiff as md
from minidiff import inplace, ops
from minidiff.errors import BadInput
from minidiff.tensor import Tensor


def leaf(*shape):
    return Tensor(np.ones(shape), requires_grad=True)


def overwrite(x):
    with md.no_grad():
        x[...] = 5.0


def step(*parameters, optimizer=md.optim.SGD):
    for p in parameters:
        p.grad = Tensor(np.ones(p.shape))
    optimizer(parameters, lr=0.1).step()


def step_of_adamw(*parameters):
    step(*parameters, optimizer=md.optim.AdamW)


# what keeps w itself, a view of it, or another tensor in the same memory
KEEPING = {
    "itself": lambda x, w: (x * w, "Mul"),
    "its transpose": lambda x, w: (x @ w.T, "MatMul"),
    "a row": lambda x, w: (w[1] * x, "Mul"),
    "a piece of a reshape": lambda x, w: (w.reshape(9)[2:5].exp() * w.reshape(9)[2:5], "Mul"),
    "a broadcast view": lambda x, w: ((w.broadcast_to(4, 3, 3) * x).sum(0), "Mul"),
    "a detached copy of the tensor": lambda x, w: (w.detach() * x, "Mul"),
    "a kernel": lambda x, w: (ops.gelu(w), "GELU"),
}


@pytest.mark.parametrize("write", [overwrite, step, step_of_adamw], ids=["x[...] =", "SGD", "AdamW"])
@pytest.mark.parametrize("keeping", KEEPING)
def test_backward_refuses_numbers_that_were_written_to(keeping, write):
    x, w = leaf(3, 3), leaf(3, 3)
    y, name = KEEPING[keeping](x, w)
    write(w)
    message = (rf"^{name}: backward needs numbers of shape \(.*\) that were written to since forward;"
               r" write to them after backward, or to a copy$")  # fmt: skip
    with pytest.raises(RuntimeError, match=message):
        y.sum().backward()


def test_a_view_that_is_written_to_is_its_owner_written_to():
    w = leaf(3, 3)
    y = w * w
    with md.no_grad():
        w[0][1] = 7.0
    with pytest.raises(RuntimeError, match="^Mul: backward needs"):
        y.sum().backward()


def test_a_window_made_by_numpy_is_in_the_memory_of_its_array():
    array = np.arange(6.0)
    x, windows, w = Tensor(array), Tensor(np.lib.stride_tricks.sliding_window_view(array, 3)), leaf(3)
    y = windows * w
    x[...] = 0.0
    with pytest.raises(RuntimeError, match="^Mul: backward needs"):
        y.sum().backward()


def test_load_state_dict_between_forward_and_backward_is_seen():
    layer = md.nn.Linear(3, 3)
    h = Tensor(np.ones((1, 3), np.float32), requires_grad=True)
    y = layer(h).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="^MatMul: backward needs numbers of shape"):
        y.backward()


def test_what_does_not_need_the_numbers_may_go_on():
    x, w = leaf(3), leaf(3)
    y = (x + w).sum()  # the gradient of a sum does not depend on what was added
    overwrite(w)
    y.backward()
    np.testing.assert_array_equal(w.grad.numpy(), 1.0)


def test_an_older_write_and_one_after_backward_are_no_harm():
    x, w = leaf(3), leaf(3)
    overwrite(w)
    for _ in range(3):
        x.grad = w.grad = None
        (x * w).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), w.numpy())
        step(w)


def test_a_second_backward_after_a_step_is_refused():
    w = leaf(3)
    y = (w * w).sum()
    y.backward(retain_graph=True)
    step(w)
    with pytest.raises(RuntimeError, match="^Mul: backward needs"):
        y.backward()


def test_a_gradient_of_a_gradient_after_a_step_is_refused():
    w = leaf(3)
    gw = md.grad((w**3).sum(), w, create_graph=True)
    step(w)
    with pytest.raises(RuntimeError, match="backward needs numbers of shape"):
        gw.sum().backward()


def test_parameters_of_another_graph_may_be_written_to():
    """As when two networks are trained in turn: the step of one is nothing to the graph of the other."""
    a, b = leaf(3), leaf(3)
    ya, yb = (a * a).sum(), (b * b).sum()
    yb.backward()
    step(b)
    ya.backward()
    np.testing.assert_array_equal(a.grad.numpy(), 2.0)


def test_accumulated_gradients_averaged_weights_and_steps_go_together():
    """Two backward passes to a step, weights swapped for their average in between, state loaded: all as one would train."""
    model = md.nn.Linear(2, 2)
    optimizer, ema = md.optim.AdamW(model.parameters(), lr=0.1), md.optim.EMA(model, decay=0.5)
    x = md.tensor(np.ones((4, 2), np.float32))
    for _ in range(3):
        for _ in range(2):
            model(x).sum().backward()
        optimizer.step()
        ema.update()
        optimizer.zero_grad()
        loss = model(x).sum()
        with ema.applied(), md.no_grad():
            model(x)
        loss.backward()  # the swap gave back the very arrays
        model.load_state_dict(model.state_dict())
    assert all(np.isfinite(p.numpy()).all() for p in model.parameters())


@pytest.mark.parametrize("index", [0, (slice(None), 1), [0, 2], np.array([True, False, True])], ids=repr)
@pytest.mark.parametrize("numbers", [2.0, np.float32(2.0), md.tensor(2.0)], ids=["number", "NumPy's", "tensor"])
def test_writing_is_numpys(index, numbers):
    x, expected = md.tensor(np.zeros((3, 3))), np.zeros((3, 3))
    x[index] = numbers
    expected[index] = 2.0
    np.testing.assert_array_equal(x.numpy(), expected)


def test_an_index_to_write_at_may_be_a_tensor():
    x = md.tensor(np.zeros(3))
    x[md.tensor([0, 2])] = 1.0
    np.testing.assert_array_equal(x.numpy(), [1.0, 0.0, 1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: (leaf(2) * 2.0).__setitem__(0, 1.0),
         "a result of Mul cannot be written to; ops.where and ops.put make a new tensor"),
        (lambda: leaf(2).__setitem__(0, 1.0),
         "writing to a tensor has no gradient; do it under no_grad(), or make a new one with ops.where"),
        (lambda: md.tensor(np.ones(2)).__setitem__(0, leaf()),
         "writing to a tensor has no gradient; do it under no_grad(), or make a new one with ops.where"),
    ],
)  # fmt: skip
def test_writes_that_would_lose_a_gradient_are_refused(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()


def test_arrays_that_are_gone_are_forgotten():
    before = len(inplace._writes)
    for _ in range(10):
        overwrite(leaf(3))
    gc.collect()
    assert len(inplace._writes) <= before
