"""out += a b in one call.

NumPy can only make a new product, so adding to a sum costs a temporary and another pass over it.
BLAS's own gemm adds as it multiplies. SciPy publishes the addresses of its BLAS functions for
compiled code (`scipy.linalg.cython_blas.__pyx_capi__`); ctypes calls them from Python, and lets go
of Python's global lock while they run.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np


@functools.cache
def _gemm(dtype: np.dtype) -> Callable[..., None] | None:
    """BLAS's sgemm or dgemm; None where SciPy offers none that takes 32-bit sizes."""
    from scipy.linalg import cython_blas

    name = {"float32": "sgemm", "float64": "dgemm"}.get(dtype.name)
    capsule = cython_blas.__pyx_capi__.get(name)
    if capsule is None:
        return None
    get_name, get_pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature = get_name(capsule)
    if signature.count(b"int *") != 6:  # m, n, k and three leading dimensions
        return None
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(get_pointer(capsule, signature))


def multiply_add(a: np.ndarray, b: np.ndarray, out: np.ndarray, fresh: bool = False) -> None:
    """out += a b, or out = a b if `fresh`.            # (M,K) (K,N) -> (M,N)

    Rows of a, b and out may be far apart, and a or b transposed; what BLAS cannot read in place is
    copied first. The rows of out must be contiguous.
    """
    gemm = _gemm(out.dtype)
    if gemm is None or 0 in (*a.shape, *b.shape):
        np.add(0 if fresh else out, a @ b, out=out)
        return
    a, b = _readable(a), _readable(b)
    (m, k), n = a.shape, b.shape[1]
    (a_order, a_stride), (b_order, b_stride), (_, out_stride) = _layout(a), _layout(b), _layout(out)
    # BLAS counts by columns, so it sees each matrix transposed: it is asked for outᵀ = bᵀ aᵀ.
    real = _FLOAT if out.itemsize == 4 else _DOUBLE
    gemm(
        b_order, a_order, _whole(n), _whole(m), _whole(k), real[1], b.ctypes.data, _whole(b_stride),
        a.ctypes.data, _whole(a_stride), real[0 if fresh else 1], out.ctypes.data, _whole(out_stride),
    )  # fmt: skip


def _readable(x: np.ndarray) -> np.ndarray:
    """x, or a copy where its lines are not contiguous or lie over each other (a broadcast or flipped array)."""
    (rows, columns), size = x.strides, x.itemsize
    by_rows = columns == size and rows >= size * x.shape[1]
    by_columns = rows == size and columns >= size * x.shape[0]
    return x if by_rows or by_columns else np.ascontiguousarray(x)


def _layout(x: np.ndarray) -> tuple[bytes, int]:
    """How BLAS is to read a readable x: as it lies or transposed, and the distance from line to line in numbers."""
    rows, columns = x.strides
    if columns == x.itemsize:
        return b"N", max(rows // x.itemsize, x.shape[1])
    return b"T", max(columns // x.itemsize, x.shape[0])


@functools.lru_cache(maxsize=4096)
def _whole(n: int) -> Any:
    """A whole number as BLAS wants it, by reference. Making one takes longer than finding it again."""
    return ctypes.byref(ctypes.c_int(n))


_FLOAT = [ctypes.byref(ctypes.c_float(value)) for value in (0.0, 1.0)]
_DOUBLE = [ctypes.byref(ctypes.c_double(value)) for value in (0.0, 1.0)]
