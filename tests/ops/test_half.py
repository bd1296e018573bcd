"""float16: what counts or adds up is computed in float32, and only the result is rounded."""

import numpy as np
import pytest

import minidiff.nn.functional as F
from minidiff import ops
from minidiff.checks import CASES
from minidiff.checks.testing import Subject
from minidiff.tensor import Tensor

N = 70_000  # more than float16 can count to
ROWS = 3000  # more than float16 can count to in steps of 1

# Functions of x (N,), all of whose numbers are 2, of which each x has an equal part; the value, and N times that part.
OVER_ALL = {
    "mean": (ops.mean, 2.0, 1.0),
    "max": (ops.max, 2.0, 1.0),
    "min": (ops.min, 2.0, 1.0),
    "logsumexp": (ops.logsumexp, 2.0 + np.log(N), 1.0),
    "mse_loss": (lambda x: F.mse_loss(x, np.ones(N, np.float16)), 1.0, 2.0),
    "l1_loss": (lambda x: F.l1_loss(x, np.ones(N, np.float16)), 1.0, 1.0),
    "huber_loss": (lambda x: F.huber_loss(x, np.zeros(N, np.float16)), 1.5, 1.0),
    "smooth_l1_loss": (lambda x: F.smooth_l1_loss(x, np.zeros(N, np.float16)), 1.5, 1.0),
    "binary_cross_entropy_with_logits": (
        lambda x: F.binary_cross_entropy_with_logits(x, np.ones(N, np.float16)), np.log1p(np.exp(-2)), -1 / (1 + np.exp(2)),
    ),
    "cross_entropy": (
        lambda x: F.cross_entropy(ops.stack([x, Tensor(np.zeros(N, np.float16))], 1), np.zeros(N, np.int64)),
        np.log1p(np.exp(-2)), -1 / (1 + np.exp(2)),
    ),
    "nll_loss": (lambda x: F.nll_loss(x.reshape(N, 1), np.zeros(N, np.int64)), -2.0, -1.0),
    "softmax": (lambda x: (F.softmax(x) * x).sum(), 2.0, 1.0),
    "avg_pool1d": (lambda x: F.avg_pool1d(x.reshape(1, 1, N), N).sum(), 2.0, 1.0),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x.reshape(1, 1, N, 1), (1, 1)).sum(), 2.0, 1.0),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", OVER_ALL)
def test_more_numbers_than_float16_counts_have_a_mean_and_its_gradient(name):
    fn, value, part = OVER_ALL[name]
    x = Tensor(np.full(N, 2, np.float16), requires_grad=True)
    y = fn(x)
    y.backward()
    assert y.dtype == x.grad.dtype == np.float16
    assert y.item() == pytest.approx(value, rel=1e-3)
    # A part is a subnormal number, a multiple of 2⁻²⁴.
    np.testing.assert_allclose(x.grad.numpy().astype(np.float64), part / N, atol=2**-24, rtol=1e-2)


NORMS = {
    "layer_norm": lambda x: F.layer_norm(x, (N,)),
    "group_norm": lambda x: F.group_norm(x.reshape(1, 1, N), 1),
    "instance_norm": lambda x: F.instance_norm(x.reshape(1, 1, N)),
    "batch_norm": lambda x: F.batch_norm(x.reshape(N, 1), None, None, training=True),
    "std": lambda x: x - x.std(),
    "var": lambda x: x - x.var(),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NORMS)
def test_norms_over_more_numbers_than_float16_counts_are_those_of_float32(name):
    numbers = np.where(np.arange(N) % 2, 3, 1).astype(np.float16)                # mean 2, variance 1
    y = NORMS[name](Tensor(numbers)).numpy().reshape(N)
    np.testing.assert_allclose(y, NORMS[name](Tensor(numbers.astype(np.float32))).numpy().reshape(N), atol=2e-3)


@pytest.mark.parametrize(
    "summed",
    [
        lambda x: ops.sum(x, 0), lambda x: ops.cumsum(x, 0)[-1], lambda x: ops.sum_to(x, (1, 2))[0],
        lambda x: ops.matmul(Tensor(np.ones(ROWS, np.float16)), x), lambda x: ops.einsum("ij->j", x),
        lambda x: ops.mean(x, 0) * 3000, lambda x: ops.logsumexp(x - 1, 0).exp(),
    ],
)  # fmt: skip
def test_sums_along_any_axis_go_on_beyond_2048(summed):
    """NumPy adds along a strided axis in float16, where 2048 + 1 is 2048."""
    y = summed(Tensor(np.ones((ROWS, 2), np.float16)))
    np.testing.assert_allclose(y.numpy(), [ROWS, ROWS], rtol=5e-3)


def test_gradients_of_what_is_used_often_go_on_beyond_2048():
    bias, table = (Tensor(np.zeros((2, 2), np.float16), requires_grad=True) for _ in range(2))
    (Tensor(np.zeros((ROWS, 2, 2), np.float16)) + bias).sum().backward()          # broadcast
    ops.embedding(np.zeros(ROWS, np.int64), table).sum().backward()               # the same row each time
    table[[1] * ROWS].sum().backward()                                            # the same index each time
    np.testing.assert_array_equal(bias.grad.numpy(), np.full((2, 2), ROWS))
    np.testing.assert_array_equal(table.grad.numpy(), np.full((2, 2), ROWS))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_sum_that_float16_does_not_hold_is_infinite():
    assert ops.sum(Tensor(np.ones(N, np.float16))).item() == np.inf


# astype alone changes the dtype, and is there to.
@pytest.mark.parametrize("case", [case for case in CASES if case.operation != "astype"], ids=lambda case: case.name)
def test_every_operation_computes_in_float16_and_gives_it(case):
    """Values and gradients, to the rounding of inputs, results and what lies between: 2⁻¹¹ each."""
    subject = Subject.of(case)
    arrays, upstream = subject.cast("float16")
    ys, gs = subject.run(arrays, upstream)
    found = [*zip(ys, subject.values, strict=True), *zip(gs, subject.gradients, strict=True)]
    for actual, expected in found:
        if actual is not None and expected.dtype.kind == "f":
            assert actual.dtype == np.float16
            np.testing.assert_allclose(actual.numpy(), expected, atol=4e-3 * max(1.0, np.abs(expected).max(initial=0.0)), rtol=0)
