"""What a Tensor can do, by its usual names: the operators and the methods.

Only names: `a + b` is `ops.add(a, b)`, `x.sum(0)` is `ops.sum(x, 0)`. All mathematics is in `minidiff.ops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from . import ops
    from .tensor import Tensor
else:
    ops: Any = None  # tensor.py sets it when Tensor, which the operations need, is whole

Axis = int | tuple[int, ...] | None


class Methods:
    """The operators and methods of `Tensor`."""

    __slots__ = ()
    __array_priority__ = 100  # array + Tensor is a Tensor: NumPy must leave it to us
    __array_ufunc__ = None

    # ------------------------------------------------------------------------------- the operators

    def __add__(self: Any, other: Any) -> Tensor:
        return ops.add(self, other)

    def __sub__(self: Any, other: Any) -> Tensor:
        return ops.sub(self, other)

    def __rsub__(self: Any, other: Any) -> Tensor:
        return ops.sub(other, self)

    def __mul__(self: Any, other: Any) -> Tensor:
        return ops.mul(self, other)

    def __truediv__(self: Any, other: Any) -> Tensor:
        return ops.div(self, other)

    def __rtruediv__(self: Any, other: Any) -> Tensor:
        return ops.div(other, self)

    def __pow__(self: Any, other: Any) -> Tensor:
        return ops.pow(self, other)

    def __rpow__(self: Any, other: Any) -> Tensor:
        return ops.pow(other, self)

    def __matmul__(self: Any, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self: Any, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __neg__(self: Any) -> Tensor:
        return ops.neg(self)

    def __getitem__(self: Any, index: Any) -> Tensor:
        return ops.getitem(self, index)

    __radd__ = __add__
    __rmul__ = __mul__

    # --------------------------------------------------------------------------------- the methods

    def exp(self: Any) -> Tensor:
        return ops.exp(self)

    def log(self: Any) -> Tensor:
        return ops.log(self)

    def sqrt(self: Any) -> Tensor:
        return ops.sqrt(self)

    def tanh(self: Any) -> Tensor:
        return ops.tanh(self)

    def sigmoid(self: Any) -> Tensor:
        return ops.sigmoid(self)

    def abs(self: Any) -> Tensor:
        return ops.abs(self)

    def clip(self: Any, low: float, high: float) -> Tensor:
        return ops.clip(self, low, high)

    def sum(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis, keepdims)

    def mean(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis, keepdims)

    def var(self: Any, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
        return ops.var(self, axis, keepdims, correction)

    def max(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis, keepdims)

    def min(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.min(self, axis, keepdims)

    def reshape(self: Any, *shape: int | Sequence[int]) -> Tensor:
        return ops.reshape(self, _flat(shape))

    def transpose(self: Any, *axes: int | Sequence[int]) -> Tensor:
        """Axes in a new order; reversed when none are given (NumPy's meaning)."""
        return ops.transpose(self, _flat(axes) or None)

    @property
    def T(self: Any) -> Tensor:
        return ops.transpose(self, None)

    def broadcast_to(self: Any, *shape: int | Sequence[int]) -> Tensor:
        return ops.broadcast_to(self, _flat(shape))

    def squeeze(self: Any, axis: int) -> Tensor:
        return ops.squeeze(self, axis)

    def unsqueeze(self: Any, axis: int) -> Tensor:
        return ops.unsqueeze(self, axis)

    # ------------------------------------------------------------------------------------- conversions

    def astype(self: Any, dtype: Any) -> Tensor:
        return ops.astype(self, dtype)


def _flat(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    """x.reshape(2, 3) and x.reshape((2, 3)) mean the same."""
    return tuple(numbers[0]) if len(numbers) == 1 and not isinstance(numbers[0], int | np.integer) else numbers
