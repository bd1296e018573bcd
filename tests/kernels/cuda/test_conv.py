"""Convolutions of the GPU, run by the emulator, against the CPU's in float64."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels import cpu
from minidiff.kernels.cuda import conv

# ‖y − exact‖ / ‖exact‖: float32 sums of a few hundred products; inputs rounded to 10 bits of mantissa; and to 7 bits
# (of results alone: the inputs are bfloat16 for the exact ones too).
ERROR = {"fp32": 2e-6, "tf32": 1e-3, "bf16": 5e-3}
PRECISION = pytest.mark.parametrize("precision", ERROR)

#         N, C, O, (H, W), kernel, stride, padding, dilation, groups
CASES = {
    "3x3": (2, 16, 32, (7, 5), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "3x3 of many channels": (1, 72, 136, (4, 4), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "3x3 stride 2": (3, 8, 16, (8, 6), (3, 3), (2, 2), (1, 1), (1, 1), 1),
    "1x1": (2, 24, 40, (5, 3), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "2x2 stride 2": (1, 32, 16, (6, 4), (2, 2), (2, 2), (0, 0), (1, 1), 1),
    "one channel in": (3, 1, 32, (6, 7), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "one channel out": (2, 32, 1, (6, 7), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "odd channels": (2, 5, 3, (7, 6), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "uneven": (2, 3, 10, (9, 8), (3, 2), (2, 1), (0, 2), (1, 3), 1),
    "dilated stride 3": (1, 4, 8, (13, 12), (3, 3), (3, 2), (2, 1), (2, 1), 1),
    "one row, fewer than the stride": (1, 1, 1, (1, 5), (3, 3), (2, 2), (1, 1), (1, 1), 1),
    "one column, fewer than the stride": (2, 8, 4, (4, 1), (3, 5), (1, 3), (1, 2), (1, 1), 1),
    "groups": (2, 16, 24, (5, 4), (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "a group for each channel": (2, 6, 6, (5, 4), (3, 3), (2, 2), (1, 1), (1, 1), 6),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def numbers(rng, precision, *shape):
    """Standard normal numbers, of which the precision loses nothing where it is bf16; and the same in float64."""
    a = rng.standard_normal(shape).astype(np.float32)
    if precision == "bf16":
        a = a.astype(backend.bfloat16()).astype(np.float32)
    return a, a.astype(np.float64)


def assert_close(actual, expected, precision):
    assert actual.shape == expected.shape
    norm = np.linalg.norm(expected)
    assert np.linalg.norm(actual.astype(np.float64) - expected) <= ERROR[precision] * norm


@PRECISION
@EACH
def test_convolution_and_its_gradients(case, precision, order, rng):
    n, c, o, size, kernel, stride, padding, dilation, groups = case
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    x, x64 = numbers(rng, precision, n, c, *size)
    w, w64 = numbers(rng, precision, o, c // groups, *kernel)
    b, b64 = numbers(rng, "fp32", o)
    with backend.precision(precision):
        y = conv.conv2d(x, w, b, **options)
        gy, gy64 = numbers(rng, precision, *y.shape)
        found = conv.conv2d_backward(x, w, gy, (True,) * 3, **options)
    assert y.dtype == (backend.bfloat16() if precision == "bf16" else np.float32)
    assert_close(y, cpu.conv2d(x64, w64, b64, **options), precision)
    for g, e in zip(found, cpu.conv2d_backward(x64, w64, gy64, (True,) * 3, **options), strict=True):
        assert g.dtype == np.float32
        assert_close(g, e, precision)


@PRECISION
@EACH
def test_transposed_convolution_and_its_gradients(case, precision, order, rng):
    n, c, o, size, kernel, stride, padding, dilation, groups = case
    extra = tuple(max(s, d) - 1 for s, d in zip(stride, dilation, strict=True))
    options = dict(stride=stride, padding=padding, output_padding=extra, dilation=dilation, groups=groups)
    x, x64 = numbers(rng, precision, n, o, *size)
    w, w64 = numbers(rng, precision, o, c // groups, *kernel)
    b, b64 = numbers(rng, "fp32", c)
    with backend.precision(precision):
        y = conv.conv_transpose2d(x, w, b, **options)
        gy, gy64 = numbers(rng, precision, *y.shape)
        found = conv.conv_transpose2d_backward(x, w, gy, (True,) * 3, **options)
    assert_close(y, cpu.conv_transpose2d(x64, w64, b64, **options), precision)
    for g, e in zip(found, cpu.conv_transpose2d_backward(x64, w64, gy64, (True,) * 3, **options), strict=True):
        assert_close(g, e, precision)


def test_a_slice_of_channels_is_read_in_place(rng, order):
    """Half of the channels of an image that lies channels last has a pitch, and is not copied."""
    memory, _ = numbers(rng, "fp32", 2, 5, 4, 32)
    x = memory.transpose(0, 3, 1, 2)[:, 16:]
    w, w64 = numbers(rng, "fp32", 8, 16, 3, 3)
    options = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    y = conv.conv2d(x, w, None, **options)
    assert_close(y, cpu.conv2d(x.astype(np.float64), w64, None, **options), "fp32")
    assert y.strides[1] == y.itemsize, "the result lies channels last"


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_an_empty_batch_gives_an_empty_image_and_weights_no_gradient(name, groups, rng):
    x, gy = np.zeros((0, 4, 5, 5), np.float32), np.zeros((0, 4, 5, 5), np.float32)
    w, b = numbers(rng, "fp32", 4, 4 // groups, 3, 3)[0], np.zeros(4, np.float32)
    options = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=groups)
    options |= {"output_padding": (0, 0)} if name == "conv_transpose2d" else {}
    y, found = getattr(conv, name)(x, w, b, **options), getattr(conv, f"{name}_backward")(x, w, gy, (True,) * 3, **options)
    assert y.shape == found[0].shape == x.shape
    for g, p in zip(found[1:], (w, b), strict=True):
        np.testing.assert_array_equal(g, np.zeros_like(p))


def test_only_the_gradients_asked_for_are_made(rng):
    x, w, gy = (numbers(rng, "fp32", *shape)[0] for shape in ((1, 4, 4, 4), (8, 4, 3, 3), (1, 8, 4, 4)))
    options = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    for needs in ((True, False, False), (False, True, False), (False, False, True)):
        found = conv.conv2d_backward(x, w, gy, needs, **options)
        assert [g is not None for g in found] == list(needs)
