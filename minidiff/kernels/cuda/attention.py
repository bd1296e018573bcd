"""Attention on the GPU; see attention.cu."""

from __future__ import annotations

import functools
import math

import numpy as np

from ...backend import Array
from .layout import contiguous, empty, math_of
from .runtime import Kernel

ROWS, THREADS = 64, 128
WIDEST = 64                                                      # width of heads: beyond, backward's registers spill


def takes_attention(q: Array, k: Array, v: Array) -> bool:
    """Whether the kernels take these heads: q, k and v of one type and width, which is not too wide."""
    alike = q.dtype == k.dtype == v.dtype and q.shape[-1] == v.shape[-1] and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
    return alike and q.shape[-1] <= WIDEST and bool(q.size and k.size)


def attention(q: Array, k: Array, v: Array, scale: float) -> tuple[Array, Array]:
    """softmax(c q kᵀ) v, and of each query m = max s and ln Σ e^{s − m} for backward.

    (…,L,E) (…,S,E) (…,S,E) -> (…,L,E), (…,L,2)
    """
    q, k, v = map(contiguous, (q, k, v))
    y, sums = empty(q.shape, q.dtype, q), empty((*q.shape[:-1], 2), np.float32, q)
    heads, length, keys = _sizes(q, k)
    _kernel("attention", q)((-(-length // ROWS), heads), THREADS, q, k, v, y, sums, length, keys, float(scale),
                            shared=_shared(q, 3))  # fmt: skip
    return y, sums


def attention_backward(
    q: Array, k: Array, v: Array, y: Array, sums: Array, gy: Array, scale: float
) -> tuple[Array, Array, Array]:
    """gq, gk, gv"""
    q, k, v, y, gy = map(contiguous, (q, k, v, y, gy))
    heads, length, keys = _sizes(q, k)
    d = empty(q.shape[:-1], np.float32, q)
    _kernel("row_products", q)(-(-d.size // 4), THREADS, y, gy, d, d.size)
    gq, gk, gv = (empty(a.shape, a.dtype, a) for a in (q, k, v))
    given = q, k, v, gy, sums, d
    _kernel("attention_backward_q", q)((-(-length // ROWS), heads), THREADS, *given, gq, length, keys, float(scale),
                                       shared=_shared(q, 5))  # fmt: skip
    _kernel("attention_backward_kv", q)((-(-keys // ROWS), heads), THREADS, *given, gk, gv, length, keys, float(scale),
                                        shared=_shared(q, 6))  # fmt: skip
    return gq, gk, gv


def _sizes(q: Array, k: Array) -> tuple[int, int, int]:
    return math.prod(q.shape[:-2]), q.shape[-2], k.shape[-2]


def _width(e: int) -> int:
    return max(32, 1 << (e - 1).bit_length())


def _shared(q: Array, tiles: int) -> int:
    """Bytes of so many tiles of rows, and of one of scores."""
    return ROWS * (tiles * _width(q.shape[-1]) + ROWS) * q.dtype.itemsize


def _kernel(name: str, q: Array) -> Kernel:
    kind, e = math_of(q), q.shape[-1]
    return _cached(name, "FP32" if kind == "TF32" and e > 32 else kind, e)                # TF32 would spill there


@functools.cache
def _cached(name: str, kind: str, e: int) -> Kernel:
    return Kernel("attention.cu", name, MATH=kind, E=e, WIDTH=_width(e))
