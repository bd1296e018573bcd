"""Random numbers on the GPU; see noise.cu, and minidiff/philox.py for what they are."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...backend import Array
from .layout import empty
from .runtime import Kernel

THREADS = 256


def philox_normal(seed: int, first_row: int, n: int, size: int, step: Any, stream: int, like: Array) -> Array:
    """Standard normal numbers (n,size) float32 of rows first_row …; step may be an int32 array of one number."""
    y = empty((n, size), np.float32, like)
    _draw("NORMAL", y, None, seed, first_row, step, stream, 0, 0)
    return y


def philox_uniform(seed: int, first_row: int, n: int, size: int, step: Any, stream: int, like: Array) -> Array:
    """Numbers (n,size) float32 from [0,1)."""
    y = empty((n, size), np.float32, like)
    _draw("UNIFORM", y, None, seed, first_row, step, stream, 0, 0)
    return y


def philox_integers(
    seed: int, first_row: int, n: int, size: int, step: Any, stream: int, like: Array, low: int, high: int
) -> Array:
    """Whole numbers (n,) int64 from low … high − 1."""
    y = empty((n, 1), np.int64, like)
    _draw("INTEGERS", None, y, seed, first_row, step, stream, low, high - low)
    return y[:, 0]


def _draw(
    kind: str, y: Array | None, integers: Array | None, seed: int, first_row: int, step: Any, stream: int, low: int, span: int
) -> None:
    n, size = (integers if y is None else y).shape               # type: ignore[union-attr]
    in_memory = hasattr(step, "shape")
    word = np.uint32
    _kernel(kind)(
        -(-n * -(-size // 4) // THREADS), THREADS, y, integers, n, size, word(seed & 0xFFFFFFFF), word(seed >> 32),
        word(first_row), word(0 if in_memory else step), step if in_memory else None, word(stream), low, word(span),
    )  # fmt: skip


@functools.cache
def _kernel(kind: str) -> Kernel:
    return Kernel("noise.cu", "draw", KIND=kind)
