"""Batches from a data set in the GPU's memory; see batch.cu."""

from __future__ import annotations

import functools

import numpy as np

from ...backend import Array
from .layout import empty
from .runtime import Kernel

THREADS = 256


def gather_batch(
    images: Array, labels: Array, order: Array, first: Array, batch: int, size: int
) -> tuple[Array, Array]:
    """Images order[first] … order[first + batch − 1] as a model sees them, and their labels.

    images uint8 (M,C,H,W), labels int64 (M,), order int32, first int32 of one number -> float32 (N,C,size,size), int64 (N,)
    """
    _, c, h, w = images.shape
    x, y = empty((batch, c, size, size), np.float32, images), empty((batch,), np.int64, images)
    _kernel()(-(-x.size // THREADS), THREADS, images, labels, order, first, x, y, batch, c, h, w, size)
    return x, y


@functools.cache
def _kernel() -> Kernel:
    return Kernel("batch.cu", "gather_batch")
