"""Mean squared error, sums, changes of type and joined channels of the GPU, run by the emulator."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels.cuda import elementwise, loss
from minidiff.kernels.cuda.channels import join

DTYPE = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def numbers(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(backend.named_dtype(dtype) if dtype == "float32" else backend.bfloat16())


def channels_last(a):
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@DTYPE
@pytest.mark.parametrize("shape", [(3,), (2, 1, 5, 7), (3, 3, 32, 33)], ids=str)
def test_mse_and_its_gradient(shape, dtype, order, rng):
    a, b = numbers(rng, dtype, *shape), numbers(rng, "float32", *shape)
    a = channels_last(a) if a.ndim == 4 else a
    d = a.astype(np.float64) - b
    value = loss.mse_loss(a, b)
    assert value.shape == () and value.dtype == np.float32
    assert abs(float(value) - (d * d).mean()) <= 1e-6 * (d * d).mean()
    gy = np.asarray(3.0, np.float32)
    ga, expected = loss.mse_loss_backward(a, b, gy), 6.0 * d / d.size
    assert ga.dtype == a.dtype
    assert np.linalg.norm(ga.astype(np.float64) - expected) <= (1e-6 if dtype == "float32" else 4e-3) * np.linalg.norm(expected)


@DTYPE
def test_addition_keeps_the_order_in_memory(dtype, order, rng):
    a, b = channels_last(numbers(rng, dtype, 2, 8, 3, 5)), numbers(rng, dtype, 2, 8, 3, 5)
    y = elementwise.add(a, b)
    assert y.strides == a.strides and y.dtype == a.dtype
    exact = (a.astype(np.float32) + b.astype(np.float32)).astype(a.dtype)
    assert np.array_equal(y.astype(float), exact.astype(float))


def test_addition_of_slices_that_lie_alike(order, rng):
    """Both have gaps, of the same widths: neither may be read as if it had none."""
    a, b = (channels_last(numbers(rng, "float32", 2, 16, 3, 5))[:, 3:12] for _ in range(2))
    assert np.array_equal(elementwise.add(a, b), a + b)


def test_types_meet_in_float32(rng):
    a, b = numbers(rng, "bfloat16", 2, 5), numbers(rng, "float32", 2, 5)
    for y in (elementwise.add(a, b), elementwise.add(b, a)):
        assert y.dtype == np.float32 and np.array_equal(y, a.astype(np.float32) + b)


def test_casting_there_and_back(order, rng):
    x = channels_last(numbers(rng, "float32", 2, 3, 5, 7))
    y = elementwise.cast(x, backend.bfloat16())
    assert y.strides[1] == 2 and np.array_equal(y.astype(np.float32), x.astype(backend.bfloat16()).astype(np.float32))
    assert np.array_equal(elementwise.cast(y, np.float32), y.astype(np.float32))


def test_rounding_is_to_the_nearest_and_keeps_what_is_not_finite(order):
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, -np.inf, np.nan, 3.4e38, 1e-40, -0.0], np.float32)
    y = elementwise.cast(x, backend.bfloat16())
    assert np.array_equal(y.astype(np.float32), x.astype(backend.bfloat16()).astype(np.float32), equal_nan=True)


@DTYPE
@pytest.mark.parametrize("channels", [(8, 16), (3, 5), (8, 4, 1), (16,)], ids=str)
def test_joining_channels(channels, dtype, order, rng):
    xs = [channels_last(numbers(rng, dtype, 2, c, 3, 4)) for c in channels]
    y = join(xs)
    assert np.array_equal(y.astype(float), np.concatenate(xs, 1).astype(float)) and y.strides[1] == y.itemsize


@DTYPE
def test_arrays_that_do_not_start_at_a_multiple_of_16_bytes(dtype, order, rng):
    """A GPU cannot read 16 bytes there, and the emulator refuses to; such arrays are copied."""
    a, b = numbers(rng, dtype, 101)[1:], numbers(rng, "float32", 102)[2:]
    d = a.astype(np.float64) - b
    assert abs(float(loss.mse_loss(a, b)) - (d * d).mean()) <= 1e-6 * (d * d).mean()
    assert np.array_equal(elementwise.cast(a, np.float32), a.astype(np.float32))
    assert np.array_equal(elementwise.add(a, a).astype(np.float32), (a + a).astype(np.float32))
