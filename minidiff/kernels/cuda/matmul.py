"""Products of matrices on the GPU, with NumPy's meaning; see matmul.cu."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ...backend import Array, array_module
from .elementwise import cast
from .layout import address, contiguous, empty, math_of, type_name
from .runtime import Kernel

STAGES = 3
BLOCKS = 264                                                     # two for each multiprocessor of an H100


class Operand(NamedTuple):
    """A batch of matrices as they lie in memory."""

    array: Array
    turned: bool                                                 # whether a row of the memory is a column
    pitch: int                                                   # numbers from one row of the memory to the next
    step: int                                                    # numbers from one matrix to the next; 0 for one matrix
    aligned: bool                                                # whether all rows start at multiples of 16 bytes


def matmul(a: Array, b: Array) -> Array:
    """a @ b: matrices in the last two axes, vectors as rows on the left and columns on the right.

    float32 beside bfloat16 gives float32. A matrix that was transposed (by strides alone) is read as it lies.
    """
    if type_name(a) != type_name(b):
        a, b = cast(a, np.float32), cast(b, np.float32)
    rows, columns = a.ndim > 1, b.ndim > 1
    a2, b2 = a if rows else a[None, :], b if columns else b[:, None]
    batch = np.broadcast_shapes(a2.shape[:-2], b2.shape[:-2])
    m, k, n = a2.shape[-2], a2.shape[-1], b2.shape[-1]
    y = empty((*batch, m, n), a.dtype, a)
    if not (y.size and k):
        y[...] = 0
    else:
        _launch(_operand(a2, batch), _operand(b2, batch), y, m, n, k, math.prod(batch))
    return y.reshape((*batch, *((m,) if rows else ()), *((n,) if columns else ())))


def _operand(x: Array, batch: tuple[int, ...]) -> Operand:
    """x (…,R,C) for a product whose leading axes are `batch`: as it lies if that is regular enough, else a copy."""
    size = math.prod(batch)
    if math.prod(x.shape[:-2]) == 1:
        x = x.reshape(x.shape[-2:])                              # one matrix for all
    elif x.shape[:-2] != batch:
        x = array_module(x).broadcast_to(x, (*batch, *x.shape[-2:]))
    if x.ndim > 2:
        x = x.reshape((size, *x.shape[-2:]))                     # a copy only where the leading axes do not lie regularly
    rows, columns = (s // x.itemsize for s in x.strides[-2:])
    r, c = x.shape[-2:]
    if columns == 1 and rows >= c or c == 1 and rows >= 1:
        turned, pitch = False, rows if r > 1 else c
    elif rows == 1 and columns >= r or r == 1 and columns >= 1:
        turned, pitch = True, columns if c > 1 else r
    else:
        x, turned, pitch = contiguous(x), False, c
    step = x.strides[0] // x.itemsize if x.ndim > 2 else 0
    per = 16 // x.itemsize
    return Operand(x, turned, pitch, step, address(x) % 16 == pitch % per == step % per == 0)


def _launch(a: Operand, b: Operand, y: Array, m: int, n: int, k: int, batch: int) -> None:
    kind = math_of(y)
    bm, bn, bk = tile_sizes(kind, m, n, k)
    tiles = -(-m // bm) * -(-n // bn) * batch
    splits = max(1, min(BLOCKS // tiles, k // (4 * bk)))
    partial = empty((batch, splits, m, n), np.float32, y) if splits > 1 else None
    options = dict(MATH=kind, A_ORDER="ACROSS_K" if a.turned else "ALONG_K", B_ORDER="ALONG_K" if b.turned else "ACROSS_K",
                   A16=int(a.aligned), B16=int(b.aligned), BM=bm, BN=bn, BK=bk, WM=min(bm, 32), WN=min(bn, 32), STAGES=STAGES)  # fmt: skip
    threads = bm // options["WM"] * (bn // options["WN"]) * 32   # type: ignore[operator]
    _kernel("matmul", tuple(options.items()))(
        (-(-m // bm), -(-n // bn), batch * splits), threads, a.array, b.array, partial, y, m, n, k, a.pitch, b.pitch,
        np.int64(a.step), np.int64(b.step), splits, shared=STAGES * (bm + bn) * bk * y.dtype.itemsize,
    )  # fmt: skip
    if partial is not None:
        _kernel("add_splits", tuple(options.items()))(-(-y.size // 128), 128, partial, y, batch, m * n, splits)


def tile_sizes(math: str, m: int, n: int, k: int) -> tuple[int, int, int]:
    """BM, BN, BK: tiles of 64 x 64, smaller for small matrices (32 at least, so that float32 rows fill the banks)."""
    return 64 if m > 32 else 32, 64 if n > 32 else 32, 64 if math == "BF16" and k > 32 else 32


@functools.cache
def _kernel(name: str, options: tuple[tuple[str, Any], ...]) -> Kernel:
    return Kernel("matmul.cu", name, **dict(options))
