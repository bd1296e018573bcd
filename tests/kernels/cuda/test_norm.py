"""GroupNorm and activations of the GPU, run by the emulator, against the CPU's in float64."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels import cpu
from minidiff.kernels.cuda import activation as activations
from minidiff.kernels.cuda import norm

ERROR = {"float32": 3e-6, "bfloat16": 5e-3}      # float32 rounding, and one rounding of the result to 8 bits
DTYPE = pytest.mark.parametrize("dtype", ERROR)


def numbers(rng, dtype, *shape, shift=0.0):
    """Random numbers of the dtype, and the same in float64."""
    a = (rng.standard_normal(shape) + shift).astype(backend.bfloat16() if dtype == "bfloat16" else dtype)
    return a, a.astype(np.float64)


def assert_close(actual, expected, dtype):
    assert actual.shape == expected.shape
    assert np.linalg.norm(actual.astype(np.float64) - expected) <= ERROR[dtype] * np.linalg.norm(expected)


@DTYPE
@pytest.mark.parametrize("activation", ["none", "gelu", "silu"])
@pytest.mark.parametrize(
    "shape, groups",
    [((2, 32, 4, 4), 8), ((3, 64, 5, 7), 8), ((1, 5, 3, 3), 1), ((2, 6, 4, 2), 6), ((2, 24, 3, 5), 4), ((2, 1040, 2, 1), 8),
     ((4, 16), 4), ((2, 8, 9), 2)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "film"])
def test_group_norm(shape, groups, activation, per_sample, dtype, order, rng):
    x, x64 = numbers(rng, dtype, *shape, shift=3.0)
    gy, gy64 = numbers(rng, dtype, *shape)
    weights = (shape[0], shape[1]) if per_sample else shape[1:2]
    (gamma, gamma64), (beta, beta64) = numbers(rng, "float32", *weights), numbers(rng, "float32", *weights)
    y, cache = norm.group_norm(x, gamma, beta, groups, 1e-5, activation)
    exact, exact_cache = cpu.group_norm(x64, gamma64, beta64, groups, 1e-5, activation)
    assert y.dtype == x.dtype
    assert_close(y, exact, dtype)
    found = norm.group_norm_backward(x, gamma, beta, cache, gy, groups, activation)
    expected = cpu.group_norm_backward(x64, gamma64, beta64, exact_cache, gy64, groups, activation)
    for g, e, kind in zip(found, expected, (dtype, "float32", "float32"), strict=True):
        assert_close(g, e, kind)


@pytest.mark.parametrize("own", [(True, False), (False, True)], ids=["gamma of each sample", "beta of each sample"])
def test_one_weight_may_be_shared_and_the_other_not(own, order, rng):
    (x, x64), (gy, gy64) = numbers(rng, "float32", 3, 8, 2, 3), numbers(rng, "float32", 3, 8, 2, 3)
    (gamma, gamma64), (beta, beta64) = (numbers(rng, "float32", *((3, 8) if each else (8,))) for each in own)
    y, cache = norm.group_norm(x, gamma, beta, 2, 1e-5, "gelu")
    exact, exact_cache = cpu.group_norm(x64, gamma64, beta64, 2, 1e-5, "gelu")
    assert_close(y, exact, "float32")
    found = norm.group_norm_backward(x, gamma, beta, cache, gy, 2, "gelu")
    for g, e in zip(found, cpu.group_norm_backward(x64, gamma64, beta64, exact_cache, gy64, 2, "gelu"), strict=True):
        assert_close(g, e, "float32")


@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "film"])
def test_an_empty_batch_has_empty_gradients_and_weights_none(per_sample, rng):
    x, weights = np.zeros((0, 4, 3, 3), np.float32), (0, 4) if per_sample else (4,)
    gamma, beta = numbers(rng, "float32", *weights)[0], numbers(rng, "float32", *weights)[0]
    y, cache = norm.group_norm(x, gamma, beta, 2, 1e-5, "gelu")
    gx, *found = norm.group_norm_backward(x, gamma, beta, cache, x, 2, "gelu")
    assert y.shape == gx.shape == x.shape
    for g in found:
        np.testing.assert_array_equal(g, np.zeros(weights))


def test_a_large_mean_costs_no_digits(order, rng):
    """Deviations are from a number of the group, so a mean of 1000 σ leaves the variance as it is."""
    x, x64 = numbers(rng, "float32", 2, 8, 4, 4, shift=1000.0)
    one, zero = np.ones(8, np.float32), np.zeros(8, np.float32)
    y, _ = norm.group_norm(x, one, zero, 2, 1e-5, "none")
    exact, _ = cpu.group_norm(x64, one.astype(float), zero.astype(float), 2, 1e-5, "none")
    assert np.abs(y - exact).max() < 2e-4          # x itself has steps of 6e-5


@DTYPE
@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("size", [1, 7, 4099])
def test_gelu(approximate, size, dtype, order, rng):
    x, x64 = numbers(rng, dtype, size)
    gy, gy64 = numbers(rng, dtype, size)
    assert_close(activations.gelu(x, approximate), cpu._gelu(x64, approximate), dtype)
    assert_close(activations.gelu_backward(x, gy, approximate), gy64 * cpu._gelu_slope(x64, approximate), dtype)


@DTYPE
def test_silu(dtype, order, rng):
    (x, x64), (gy, gy64) = numbers(rng, dtype, 3, 5, 7), numbers(rng, dtype, 3, 5, 7)
    s = 1 / (1 + np.exp(-x64))
    assert_close(activations.silu(x), x64 * s, dtype)
    assert_close(activations.silu_backward(x, gy), gy64 * s * (1 + x64 * (1 - s)), dtype)


def test_the_two_arrays_of_a_backward_may_lie_differently(rng):
    x = rng.standard_normal((2, 4, 4, 8)).astype(np.float32).transpose(0, 3, 1, 2)
    gy = rng.standard_normal(x.shape).astype(np.float32)
    expected = gy * cpu._gelu_slope(x.astype(float))
    assert np.abs(activations.gelu_backward(x, gy, "none") - expected).max() < 1e-6
