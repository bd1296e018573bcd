"""How arrays lie in memory on the GPU.

An image (N,C,H,W) lies as NHWC: the channels of one pixel are neighbours, then come the pixels of a row. A thread that
reads 16 bytes reads 8 bfloat16 channels of one pixel, which is what the tensor cores take. Shapes and indices are the
same as everywhere in the library; only the strides differ, so nothing above the kernels notices.

Between two pixels lie P ≥ C numbers, the pitch: a slice of channels is such an array too, and needs no copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import backend
from ...backend import Array, array_module
from . import runtime

BFLOAT16 = "bfloat16"


def type_name(x: Array) -> str:
    """The C type of x's numbers: "float" or "bf16"."""
    return "bf16" if backend.dtype_of(x).name == BFLOAT16 else "float"


def math_of(x: Array) -> str:
    """How products of x are computed: "BF16" for bfloat16, else "FP32", or "TF32" where the precision allows it."""
    if type_name(x) == "bf16":
        return "BF16"
    return "FP32" if backend.get_precision() == "fp32" else "TF32"


def empty(shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
    """Memory with anything in it, beside `like`, in C order."""
    xp = array_module(like)
    return runtime.memory(shape, dtype) if xp is np else xp.empty(shape, dtype=dtype)


def beside(x: Array, dtype: Any) -> Array:
    """Memory without gaps for as many numbers as x has, of its shape and with its axes in the same order in memory."""
    axes = memory_order(x)
    y = empty(tuple(x.shape[i] for i in axes), dtype, x)
    return y.transpose([axes.index(i) for i in range(x.ndim)])


def memory_order(x: Array) -> list[int]:
    """The axes of x from that of the longest steps through memory to that of neighbours."""
    return sorted(range(x.ndim), key=lambda i: (-abs(x.strides[i]), i))


def new(shape: tuple[int, int, int, int], dtype: Any, like: Array) -> Array:
    """An image (N,C,H,W) with anything in it, channels last."""
    n, c, h, w = shape
    return empty((n, h, w, c), dtype, like).transpose(0, 3, 1, 2)


def contiguous(x: Array) -> Array:
    """x in C order; itself if it is so already."""
    return array_module(x).ascontiguousarray(x)


def images(x: Array, aligned: int = 16) -> tuple[Array, int]:
    """x (N,C,H,W) with channels last, and its pitch P: itself where it lies so already, else a copy.

    aligned   every pixel starts at a multiple of so many bytes, unless a pixel of C numbers has another size anyway
    """
    pitch = _pitch(x, aligned)
    if pitch is None:
        x = array_module(x).ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        pitch = x.shape[1]
    return x, pitch


def _pitch(x: Array, aligned: int) -> int | None:
    """P of an array that lies channels last, else None."""
    (n, c, h, w), size = x.shape, x.dtype.itemsize
    if 0 in x.shape:
        return None
    steps = [s // size for s in x.strides]
    # an axis of length 1 has no step of its own
    pitch = steps[3] if w > 1 else steps[2] // w if h > 1 else steps[0] // (h * w) if n > 1 else c
    expected = (h * w * pitch, 1, w * pitch, pitch)
    fits = pitch >= c and all(m == 1 or a == b for m, a, b in zip(x.shape, steps, expected, strict=True))
    if not fits:
        return None
    if c * size % aligned == 0 and (pitch * size % aligned or address(x) % aligned):
        return None
    return pitch


def address(x: Array) -> int:
    """Where the first number lies."""
    return x.__array_interface__["data"][0] if array_module(x) is np else x.data.ptr
