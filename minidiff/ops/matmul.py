"""The product of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Op
from ..backend import Array, quiet_blas
from ..errors import BadInput
from ..tensor import Tensor
from .elementwise import as_tensor


class MatMul(Op):
    """y = a b            ga = gy bᵀ,   gb = aᵀ gy            # (…,M,K) (…,K,N) -> (…,M,N)

    The shapes leave no other choice: gy is (M,N), and only gy bᵀ has the shape (M,K) of a.
    """

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        quiet_blas()
        return a @ b

    def backward(self, gy: Tensor) -> Any:
        a, b = self.saved
        ga = matmul(gy, _swap(b)) if self.needs[0] else None
        gb = matmul(_swap(a), gy) if self.needs[1] else None
        return ga, gb


def _swap(x: Tensor) -> Tensor:
    return x.transpose(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)


def matmul(a: Any, b: Any) -> Tensor:
    """a @ b with NumPy's meaning: vectors are rows on the left, columns on the right; leading dimensions broadcast."""
    a, b = as_tensor(a), as_tensor(b)
    if a.ndim == 0 or b.ndim == 0:
        raise BadInput(f"matmul: a single number has no rows or columns (shapes {a.shape} and {b.shape})")
    rows = a.unsqueeze(0) if a.ndim == 1 else a
    columns = b.unsqueeze(1) if b.ndim == 1 else b
    try:
        np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        fits = rows.shape[-1] == columns.shape[-2]
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"matmul: shapes {a.shape} and {b.shape} do not fit")
    y = MatMul()(rows, columns)
    if b.ndim == 1:
        y = y.squeeze(-1)
    return y.squeeze(-1 if b.ndim == 1 else -2) if a.ndim == 1 else y
