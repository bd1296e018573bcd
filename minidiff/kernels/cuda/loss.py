"""The mean squared error on the GPU; see loss.cu."""

from __future__ import annotations

import functools

import numpy as np

from ...backend import Array
from .elementwise import THREADS, blocks, dense, in_order_of
from .layout import beside, empty, type_name
from .runtime import Kernel

BLOCKS = 264                                                     # two for each multiprocessor of an H100


def mse_loss(a: Array, b: Array) -> Array:
    """Σ (a − b)² / n, a float32 array of no dimensions."""
    a = dense(a)
    b = in_order_of(a, b)
    count = min(BLOCKS, blocks(a.size))
    partial, loss = empty((count,), np.float32, a), empty((), np.float32, a)
    _kernel("squares", a, b)(count, THREADS, a, b, partial, a.size, shared=4 * 33)
    _kernel("total", a, b)(1, THREADS, partial, loss, count, 1.0 / a.size, shared=4 * 33)
    return loss


def mse_loss_backward(a: Array, b: Array, gy: Array) -> Array:
    """2 (a − b) gy / n for a gy of one number; of a's dtype, and in memory as a is."""
    a = dense(a)
    b, ga = in_order_of(a, b), beside(a, a.dtype)
    _kernel("gradient", a, b)(blocks(a.size), THREADS, a, b, gy, ga, a.size, 2.0 / a.size)
    return ga


def _kernel(name: str, a: Array, b: Array) -> Kernel:
    return _cached(name, type_name(a), type_name(b))


@functools.cache
def _cached(name: str, a: str, b: str) -> Kernel:
    return Kernel("loss.cu", name, A=a, B=b)


def keep(history: Array, slot: Array, loss: Array, norm: Array) -> None:
    """history[slot] = loss, norm; all float32 in the GPU's memory, slot an int32 array of one number."""
    _cached("keep", "float", "float")(1, 32, history, slot, loss, norm)
