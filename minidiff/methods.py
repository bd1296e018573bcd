"""What a Tensor can do, by its usual names: the operators and the methods.

Only names: `a + b` is `ops.add(a, b)`, `x.sum(0)` is `ops.sum(x, 0)`. All mathematics is in `minidiff.ops`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import is_array

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

    def __pos__(self: Any) -> Tensor:
        return self

    def __abs__(self: Any) -> Tensor:
        return ops.abs(self)

    def __getitem__(self: Any, index: Any) -> Tensor:
        return ops.getitem(self, index)

    def __iter__(self: Any) -> Iterator[Tensor]:
        """The rows: x[0], x[1], …"""
        return (self[i] for i in range(len(self)))

    __radd__ = __add__
    __rmul__ = __mul__

    # There is no __iadd__ and the like: x += y means x = x + y, a new tensor, and no recorded array changes.

    # ----------------------------------------------------------------------------- the comparisons
    # Element by element, giving booleans without gradient. As == no longer tells whether two names are
    # of one tensor, a tensor is found in a set or dict by identity; `x in [..]` compares numbers.

    def __eq__(self: Any, other: Any) -> Tensor:  # type: ignore[override]
        return ops.eq(self, other) if _is_number(other) else NotImplemented

    def __ne__(self: Any, other: Any) -> Tensor:  # type: ignore[override]
        return ops.ne(self, other) if _is_number(other) else NotImplemented

    def __lt__(self: Any, other: Any) -> Tensor:
        return ops.lt(self, other)

    def __le__(self: Any, other: Any) -> Tensor:
        return ops.le(self, other)

    def __gt__(self: Any, other: Any) -> Tensor:
        return ops.gt(self, other)

    def __ge__(self: Any, other: Any) -> Tensor:
        return ops.ge(self, other)

    __hash__ = object.__hash__

    # ------------------------------------------------------------------------- one number at a time

    def abs(self: Any) -> Tensor:
        return ops.abs(self)

    def atan(self: Any) -> Tensor:
        return ops.atan(self)

    def clip(self: Any, low: Any = None, high: Any = None) -> Tensor:
        return ops.clip(self, low, high)

    def cos(self: Any) -> Tensor:
        return ops.cos(self)

    def cosh(self: Any) -> Tensor:
        return ops.cosh(self)

    def erf(self: Any) -> Tensor:
        return ops.erf(self)

    def exp(self: Any) -> Tensor:
        return ops.exp(self)

    def expm1(self: Any) -> Tensor:
        return ops.expm1(self)

    def log(self: Any) -> Tensor:
        return ops.log(self)

    def log1p(self: Any) -> Tensor:
        return ops.log1p(self)

    def maximum(self: Any, other: Any) -> Tensor:
        return ops.maximum(self, other)

    def minimum(self: Any, other: Any) -> Tensor:
        return ops.minimum(self, other)

    def pow(self: Any, p: Any) -> Tensor:
        return ops.pow(self, p)

    def reciprocal(self: Any) -> Tensor:
        return ops.reciprocal(self)

    def relu(self: Any) -> Tensor:
        return ops.relu(self)

    def rsqrt(self: Any) -> Tensor:
        return ops.rsqrt(self)

    def sigmoid(self: Any) -> Tensor:
        return ops.sigmoid(self)

    def sin(self: Any) -> Tensor:
        return ops.sin(self)

    def sinh(self: Any) -> Tensor:
        return ops.sinh(self)

    def sqrt(self: Any) -> Tensor:
        return ops.sqrt(self)

    def square(self: Any) -> Tensor:
        return ops.square(self)

    def tan(self: Any) -> Tensor:
        return ops.tan(self)

    def tanh(self: Any) -> Tensor:
        return ops.tanh(self)

    # ------------------------------------------------------------------------ many numbers become few

    def argmax(self: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return ops.argmax(self, axis, keepdims)

    def argmin(self: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return ops.argmin(self, axis, keepdims)

    def cumsum(self: Any, axis: int) -> Tensor:
        return ops.cumsum(self, axis)

    def log_softmax(self: Any, axis: int = -1) -> Tensor:
        return ops.log_softmax(self, axis)

    def logsumexp(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.logsumexp(self, axis, keepdims)

    def max(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis, keepdims)

    def mean(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis, keepdims)

    def min(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.min(self, axis, keepdims)

    def prod(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.prod(self, axis, keepdims)

    def softmax(self: Any, axis: int = -1) -> Tensor:
        return ops.softmax(self, axis)

    def std(self: Any, axis: Axis = None, keepdims: bool = False, correction: float = 1) -> Tensor:
        return ops.std(self, axis, keepdims, correction)

    def sum(self: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis, keepdims)

    def var(self: Any, axis: Axis = None, keepdims: bool = False, correction: float = 1) -> Tensor:
        return ops.var(self, axis, keepdims, correction)

    # ------------------------------------------------------------------- shapes: f(2, 3) is f((2, 3))

    def broadcast_to(self: Any, *shape: int | Sequence[int]) -> Tensor:
        return ops.broadcast_to(self, _flat(shape))

    def chunk(self: Any, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
        return ops.chunk(self, chunks, axis)

    def expand(self: Any, *shape: int | Sequence[int]) -> Tensor:
        return ops.expand(self, _flat(shape))

    def flatten(self: Any, start_axis: int = 0, end_axis: int = -1) -> Tensor:
        return ops.flatten(self, start_axis, end_axis)

    def flip(self: Any, *axes: int | Sequence[int]) -> Tensor:
        """Read backwards along the axes given; along all when none are."""
        return ops.flip(self, _flat(axes) if axes else None)

    def moveaxis(self: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
        return ops.moveaxis(self, source, destination)

    def permute(self: Any, *axes: int | Sequence[int]) -> Tensor:
        return ops.permute(self, _flat(axes))

    def repeat_interleave(self: Any, repeats: int, axis: int) -> Tensor:
        return ops.repeat_interleave(self, repeats, axis)

    def reshape(self: Any, *shape: int | Sequence[int]) -> Tensor:
        return ops.reshape(self, _flat(shape))

    def roll(self: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
        return ops.roll(self, shift, axis)

    def split(self: Any, sizes: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
        return ops.split(self, sizes, axis)

    def squeeze(self: Any, axis: Axis = None) -> Tensor:
        return ops.squeeze(self, axis)

    def swapaxes(self: Any, axis0: int, axis1: int) -> Tensor:
        return ops.swapaxes(self, axis0, axis1)

    @property
    def T(self: Any) -> Tensor:
        return ops.transpose(self, None)

    def take_along_axis(self: Any, index: Any, axis: int) -> Tensor:
        return ops.take_along_axis(self, index, axis)

    def tile(self: Any, *repeats: int | Sequence[int]) -> Tensor:
        return ops.tile(self, _flat(repeats))

    def transpose(self: Any, *axes: int | Sequence[int]) -> Tensor:
        """Axes in a new order; reversed when none are given (NumPy's meaning)."""
        return ops.transpose(self, _flat(axes) or None)

    def unsqueeze(self: Any, axis: int) -> Tensor:
        return ops.unsqueeze(self, axis)

    # ------------------------------------------------------------------------------------- conversions

    def astype(self: Any, dtype: Any) -> Tensor:
        return ops.astype(self, dtype)


def _is_number(x: Any) -> bool:
    """Whether x can be compared with a tensor's numbers: != None and the like are answered by Python."""
    return isinstance(x, Methods | bool | int | float | list | tuple | np.generic) or is_array(x)


def _flat(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    """x.reshape(2, 3) and x.reshape((2, 3)) mean the same."""
    return tuple(numbers[0]) if len(numbers) == 1 and not isinstance(numbers[0], int | np.integer) else numbers
