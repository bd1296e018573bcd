"""Reductions of the GPU, run by the emulator, against NumPy's in float64."""

import numpy as np
import pytest

from minidiff.kernels.cuda import runtime
from minidiff.kernels.cuda.reduce import REDUCTIONS, reduce

SHAPES = [
    ((), None), ((1,), 0), ((5,), None), ((33,), None), ((1, 1), (0,)), ((7, 5), 0), ((7, 5), 1), ((3, 4, 5), (0, 2)),
    ((3, 4, 5), 1), ((2, 3, 4, 5), (0, 2, 3)), ((2, 3, 4, 5), (1, 3)), ((3, 1200), -1), ((40, 70), 0), ((300, 3), 0),
    ((20000,), None), ((100, 6, 2), (0,)), ((1, 300), (0,)), ((2, 50, 17, 1), (1, 3)), ((2, 40, 300), 1),
]  # fmt: skip
NAMES = pytest.mark.parametrize("name", REDUCTIONS)


def channels_last(a):
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def numbers(rng, *shape):
    """Near 1, so that products neither vanish nor overflow."""
    return np.asarray(1.0 + 0.05 * rng.standard_normal(shape), np.float32)


def check(name, x, axis):
    """Rounding: at most one for each number on the way, and there are few in a thread; a product of n has n."""
    n = x.size if axis is None else np.prod([x.shape[a] for a in np.atleast_1d(axis)])
    error = 0.0 if name in ("max", "min") else 6e-8 * (n if name == "prod" else 40)
    for keepdims in (False, True):
        y, expected = reduce(name, x, axis, keepdims), getattr(np, name)(x.astype(np.float64), axis=axis, keepdims=keepdims)
        assert y.dtype == np.float32 and y.shape == np.shape(expected)
        np.testing.assert_allclose(y, expected, rtol=error)


@NAMES
@pytest.mark.parametrize("shape, axis", SHAPES, ids=str)
def test_reductions_over_any_axes(name, shape, axis, order, rng):
    check(name, numbers(rng, *shape), axis)


@NAMES
@pytest.mark.parametrize("axis", [None, 0, 1, (2, 3), (0, 2, 3), (1, 3), (0, 1), (0, 2), (0, 1, 2, 3)], ids=str)
def test_arrays_lie_in_any_way(name, axis, order, rng):
    x = numbers(rng, 2, 6, 3, 5)
    for a in (channels_last(x), x.transpose(3, 1, 0, 2), x[:, ::2], x[::-1, :, ::-1], np.broadcast_to(x[:, :1], x.shape),
              channels_last(x)[:, 2:], np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape)):  # fmt: skip
        check(name, a, axis)


@pytest.mark.parametrize("shape, axis", [((5,), 0), ((40, 70), 0), ((3, 1200), 1), ((20000,), 0)], ids=str)
@pytest.mark.parametrize("name", ["max", "min", "sum"])
def test_what_is_not_a_number_stays_so(name, shape, axis, order, rng):
    x = numbers(rng, *shape)
    x.reshape(-1)[x.size // 2] = np.nan
    assert np.array_equal(np.isnan(reduce(name, x, axis)), np.isnan(getattr(np, name)(x, axis=axis)))
    infinite = np.where(np.isnan(x), -np.inf if name == "max" else np.inf, x).astype(np.float32)
    assert np.array_equal(np.isinf(reduce(name, infinite, axis)), np.isinf(getattr(np, name)(infinite, axis=axis)))
    for number in (np.inf, -np.inf):
        assert reduce(name, np.full(9, number, np.float32)) == number


@NAMES
def test_the_result_has_memory_of_its_own(name, rng):
    x = numbers(rng, 3, 1, 4)
    y = reduce(name, x, 1)
    assert np.array_equal(y, x[:, 0]) and not np.shares_memory(x, y)


@pytest.mark.parametrize("shape, axis", [((20000,), None), ((300, 3), 0), ((40, 70), 0), ((3, 1200), 1)], ids=str)
def test_sums_have_the_same_bits_whatever_comes_first(shape, axis, rng, monkeypatch):
    x, found = rng.standard_normal(shape).astype(np.float32), []
    for backwards in (False, True, False):
        monkeypatch.setattr(runtime, "backwards", backwards)
        found.append(reduce("sum", x, axis))
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_long_sums_are_cut_into_parts(rng, monkeypatch):
    """20,000 numbers on one multiprocessor of 132 would leave the others idle."""
    grids = []
    monkeypatch.setattr(runtime, "watchers", [lambda launch: grids.append(launch.grid)])
    reduce("sum", numbers(rng, 20000))
    assert grids == [(1, 19, 1), (1, 1, 1)]
