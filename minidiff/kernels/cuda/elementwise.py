"""Sums and changes of type on the GPU; see elementwise.cu."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...backend import Array
from .layout import address, beside, type_name
from .runtime import Kernel

V, THREADS = 8, 256                                              # numbers of a thread, threads of a block


def cast(x: Array, dtype: Any) -> Array:
    """x in float32 or bfloat16, in the same order in memory; itself if it is that already."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    x = dense(x)
    y = beside(x, dtype)
    _kernel("cast", A=type_name(x), B="float", Y=type_name(y))(blocks(x.size), THREADS, x, y, x.size)
    return y


def add(a: Array, b: Array) -> Array:
    """a + b of one shape and order in memory, float32 or bfloat16; the result has the wider type of the two."""
    a = dense(a)
    b = in_order_of(a, b)
    y = beside(a, a.dtype if type_name(b) == "bf16" else b.dtype)
    _kernel("add", A=type_name(a), B=type_name(b), Y=type_name(y))(blocks(y.size), THREADS, a, b, y, y.size)
    return y


def dense(x: Array) -> Array:
    """x without gaps in memory, its axes in whatever order, from a multiple of 16 bytes on: itself where it is so."""
    return x if is_dense(x) and address(x) % 16 == 0 else x.copy(order="K")


def in_order_of(a: Array, b: Array) -> Array:
    """b, of a's shape, with its numbers in memory in the order that those of a dense a have."""
    steps = zip(a.shape, a.strides, b.strides, strict=True)
    if all(n == 1 or s // a.itemsize == t // b.itemsize for n, s, t in steps) and address(b) % 16 == 0:
        return b
    c = beside(a, b.dtype)
    c[...] = b
    return c


def is_dense(x: Array) -> bool:
    """Whether the numbers of x lie without gaps, its axes in whatever order."""
    size = x.itemsize
    for n, step in sorted(zip(x.shape, x.strides, strict=True), key=lambda pair: (pair[1], pair[0])):
        if n == 1:
            continue
        if step != size:
            return False
        size *= n
    return True


def blocks(n: int) -> int:
    """How many blocks n numbers take."""
    return -(-n // (V * THREADS))


@functools.cache
def _kernel(name: str, **types: str) -> Kernel:
    return Kernel("elementwise.cu", name, **types)
