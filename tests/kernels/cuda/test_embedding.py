"""Rows of a table and their gradients on the GPU, run by the emulator: NumPy's numbers to the last bit."""

import numpy as np
import pytest

import minidiff as md
from minidiff import backend, ops
from minidiff.kernels.cuda import add_rows, rows, runtime

SHAPES = [(11, 40, (7,)), (5, 3, (2, 3)), (4, 1, ()), (3, 129, (70,)), (6, 8, (0,)), (1, 5, (100,)), (1000, 4, (40,))]
SIZES = pytest.mark.parametrize("count, width, places", SHAPES, ids=str)


@SIZES
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_by_their_numbers(count, width, places, dtype, order, rng):
    w = rng.standard_normal((count, width)).astype(backend.bfloat16() if dtype == "bfloat16" else dtype)
    index = rng.integers(0, count, places)
    y = rows(w, index)
    assert y.dtype == w.dtype and np.array_equal(y.astype(np.float32), w[index].astype(np.float32))


@SIZES
def test_rows_are_added_in_the_order_of_their_places(count, width, places, order, rng):
    x, index = rng.standard_normal((*places, width)).astype(np.float32), rng.integers(0, count, places)
    expected = np.zeros((count, width), np.float32)
    np.add.at(expected, index, x)                # one after the other too: even the roundings are the same
    assert add_rows(x, index, count).tobytes() == expected.tobytes()


def test_indices_and_rows_may_lie_in_any_way(order, rng):
    w, index = rng.standard_normal((10, 6)).astype(np.float32)[::2, ::-1], rng.integers(0, 5, (4, 6), dtype=np.uint8)[:, ::2]
    assert np.array_equal(rows(w, index), w[index])
    x, expected = rng.standard_normal((3, 4, 6)).astype(np.float32).transpose(1, 0, 2), np.zeros((5, 6), np.float32)
    np.add.at(expected, index, x)
    assert np.array_equal(add_rows(x, index, 5), expected)


def test_a_number_that_is_no_rows_is_not_read_at(order):
    """The GPU cannot raise an error that anybody would wait for; what comes out says that something is wrong."""
    y = rows(np.ones((3, 2), np.float32), np.array([0, 3, -1, 2**40, 2]))
    assert np.array_equal(np.isnan(y[:, 0]), [False, True, True, True, False])


@pytest.mark.parametrize("padding_idx", [None, 2])
def test_the_operation_uses_them_in_any_order_of_derivative(padding_idx, emulated, rng, monkeypatch):
    launches = []
    monkeypatch.setattr(runtime, "watchers", [lambda launch: launches.append(launch.kernel.name)])
    a, u, v = (rng.standard_normal(shape) for shape in [(5, 3), (2, 4, 3), (5, 3)])
    index = rng.integers(0, 5, (2, 4))

    def derivatives(dtype):
        w, gy = (md.tensor(x.astype(dtype), requires_grad=True) for x in (a, u))
        y = ops.embedding(index, w, padding_idx)
        (gw,) = md.grad(y, [w], gy, create_graph=True)
        return [y.numpy(), gw.numpy(), md.grad((gw * md.tensor(v.astype(dtype))).sum(), gy).numpy()]

    for found, expected in zip(derivatives(np.float32), derivatives(np.float64), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert launches.count("rows") == 2 and launches.count("add_rows") == 1, "forwards, backwards, and forwards again"
