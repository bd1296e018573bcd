"""Softmax and its logarithm of the GPU, run by the emulator, against the operations on NumPy's arrays in float64."""

import numpy as np
import pytest

import minidiff as md
from minidiff import ops
from minidiff.kernels.cuda import log_softmax, log_softmax_backward, runtime, softmax, softmax_backward

ERROR = 1e-6                                     # of the largest number: sums of some hundred rounded exponentials
SHAPES = [((1,), 0), ((7,), 0), ((3, 5), 1), ((3, 5), 0), ((2, 33), -1), ((2, 1500), 1), ((2, 3, 4, 5), 1), ((0, 3), 1), ((4, 1), 1)]
BOTH = pytest.mark.parametrize(
    "forward, backward, op", [(softmax, softmax_backward, ops.softmax), (log_softmax, log_softmax_backward, ops.log_softmax)],
    ids=["softmax", "log_softmax"],
)  # fmt: skip


def in_float64(op, x, gy, axis):
    t = md.tensor(x.astype(np.float64), requires_grad=True)
    y = op(t, axis)
    y.backward(gy.astype(np.float64))
    return y.numpy(), t.grad.numpy()


def assert_close(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == np.float32
    assert np.abs(actual - expected).max(initial=0.0) <= ERROR * np.abs(expected).max(initial=1e-30)


@BOTH
@pytest.mark.parametrize("shape, axis", SHAPES, ids=str)
def test_along_any_axis_forwards_and_backwards(forward, backward, op, shape, axis, order, rng):
    x, gy = (3 * rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    y, gx = in_float64(op, x, gy, axis)
    assert_close(forward(x, axis), y)
    assert_close(backward(y.astype(np.float32), gy, axis), gx)


@BOTH
def test_arrays_lie_in_any_way(forward, backward, op, order, rng):
    x, gy = rng.standard_normal((2, 5, 6, 7)).astype(np.float32)
    y, gx = in_float64(op, x[:, ::2, ::-1].transpose(1, 0, 2), gy[:, ::2].transpose(1, 0, 2), 1)
    assert_close(forward(x[:, ::2, ::-1].transpose(1, 0, 2), 1), y)
    assert_close(backward(y.astype(np.float32), gy[:, ::2].transpose(1, 0, 2), 1), gx)


@BOTH
def test_rows_at_the_edge_of_what_a_number_can_be(forward, backward, op, order):
    inf, nan = np.inf, np.nan
    x = np.array([[-inf, 0, 1], [-inf, -inf, -inf], [inf, 0, 1], [nan, 0, 1], [3e38, -3e38, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, 0]], np.float32)
    with np.errstate(all="ignore"):
        expected = op(md.tensor(x), 1).numpy()
    np.testing.assert_allclose(forward(x, 1), expected, rtol=ERROR, atol=1e-37)


def test_a_long_row_has_more_threads_than_a_short_one(monkeypatch):
    threads = []
    monkeypatch.setattr(runtime, "watchers", [lambda launch: threads.append((launch.grid[0], launch.threads))])
    for n in (1000, 3000):
        softmax(np.zeros((2, n), np.float32), 1)
    assert threads == [(2, 32), (2, 256)]


@pytest.mark.parametrize("op", [ops.softmax, ops.log_softmax])
def test_the_operations_use_them_in_both_orders(op, emulated, rng):
    """The second derivative goes through the textbook definition, and so through other kernels."""
    a, u, v = rng.standard_normal((3, 4, 6)).astype(np.float32)

    def second(dtype):
        x, gy = md.tensor(a.astype(dtype), requires_grad=True), md.tensor(u.astype(dtype), requires_grad=True)
        (gx,) = md.grad(op(x, 1), [x], gy, create_graph=True)
        return [gx.numpy(), *(g.numpy() for g in md.grad((gx * md.tensor(v.astype(dtype))).sum(), [x, gy]))]

    for found, expected in zip(second(np.float32), second(np.float64), strict=True):
        assert_close(found, expected)
