"""Softmax and its logarithm on the GPU; see softmax.cu."""

from __future__ import annotations

import functools

import numpy as np

from ...backend import Array, array_module
from .layout import contiguous, empty
from .runtime import Kernel

LONG = 1024                                                      # a row for more threads than a warp has


def softmax(x: Array, axis: int) -> Array:
    """eˣ / Σ eˣ along an axis."""
    return _by_rows("softmax", 0, axis, x)


def softmax_backward(y: Array, gy: Array, axis: int) -> Array:
    """y (gy − Σ gy y)"""
    return _by_rows("softmax_backward", 0, axis, y, gy)


def log_softmax(x: Array, axis: int) -> Array:
    """x − ln Σ eˣ along an axis."""
    return _by_rows("softmax", 1, axis, x)


def log_softmax_backward(y: Array, gy: Array, axis: int) -> Array:
    """gy − eʸ Σ gy"""
    return _by_rows("softmax_backward", 1, axis, y, gy)


def _by_rows(name: str, log: int, axis: int, *given: Array) -> Array:
    """Launch a kernel on float32 arrays of one shape whose rows lie along `axis`."""
    xp = array_module(given[0])
    rows = [contiguous(xp.moveaxis(x, axis, -1)) for x in given]
    n, y = rows[0].shape[-1], empty(rows[0].shape, np.float32, given[0])
    _kernel(name, log)(y.size // max(n, 1), 256 if n > LONG else 32, *rows, y, n, shared=4 * 33)
    return xp.moveaxis(y, -1, axis)


@functools.cache
def _kernel(name: str, log: int) -> Kernel:
    return Kernel("softmax.cu", name, LOG=log)
