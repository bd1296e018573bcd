"""Rows of a table, and the gradients that they give it, on the GPU; see embedding.cu."""

from __future__ import annotations

import functools

import numpy as np

from ... import backend
from ...backend import Array
from .layout import contiguous, empty, type_name
from .runtime import Kernel

THREADS, COLUMNS = 256, 128                                      # of a block of `rows`, and of `add_rows`


def rows(w: Array, indices: Array) -> Array:
    """The rows of w that indices name.            # (K,D) (…) -> (…,D)"""
    w, y = contiguous(w), empty((*indices.shape, w.shape[1]), w.dtype, w)
    _kernel("rows", type_name(w))(-(-y.size // THREADS), THREADS, w, _places(indices), y, *w.shape, y.size)
    return y


def add_rows(x: Array, indices: Array, count: int) -> Array:
    """A table of so many rows, each the sum of the rows of x at the places whose index names it.            # (…,D) (…) -> (K,D)"""
    if not indices.size:
        return backend.full((count, x.shape[-1]), 0.0, like=x)
    x, indices, width = contiguous(x), _places(indices), x.shape[-1]
    y, threads = empty((count, width), np.float32, x), min(COLUMNS, -(-width // 32) * 32)
    _kernel("add_rows", "float")((count, -(-width // COLUMNS)), threads, x, indices, y, indices.size, width)
    return y


def _places(indices: Array) -> Array:
    return contiguous(backend.astype(indices, np.int64))


@functools.cache
def _kernel(name: str, kind: str) -> Kernel:
    return Kernel("embedding.cu", name, T=kind)
