"""The same numbers in another arrangement. Each operation stands beside the one that undoes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import Op
from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor


class Reshape(Op):
    """y = x in another shape            gx = gy in x's shape"""

    shape: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        self.source = x.shape
        return x.reshape(self.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return gy.reshape(self.source)


class Transpose(Op):
    """y = x with its axes in another order            gx = gy with them put back"""

    axes: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        return x.transpose(self.axes)

    def backward(self, gy: Tensor) -> Tensor:
        return gy.transpose(tuple(int(i) for i in np.argsort(self.axes)))


class BroadcastTo(Op):
    """y = x repeated to a larger shape            gx = gy summed over the repeats (see `SumTo`)"""

    shape: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        return array_module(x).broadcast_to(x, self.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return gy  # the engine undoes the broadcast, here as everywhere


class GetItem(Op):
    """y = x[index]            gx = gy put at index, zero elsewhere (see `Put`)"""

    index: Any

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return array_module(x).asarray(x[self.index])

    def backward(self, gy: Tensor) -> Tensor:
        return put(gy, self.index, self.shape)


class Put(Op):
    """y = zeros, with x added at index            gx = gy[index]

    An element that the index names twice receives both.
    """

    index: Any
    shape: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        y = xp.zeros(self.shape, x.dtype)
        if _may_repeat(self.index):
            xp.add.at(y, self.index, x)
        else:
            y[self.index] = x
        return y

    def backward(self, gy: Tensor) -> Tensor:
        return gy[self.index]


class Concatenate(Op):
    """y = a, b, … joined along an axis            each g is its piece of gy"""

    axis: int

    def forward(self, *xs: Array) -> Array:
        self.ends = np.cumsum([0, *(x.shape[self.axis] for x in xs)])
        return array_module(xs[0]).concatenate(xs, axis=self.axis)

    def backward(self, gy: Tensor) -> Any:
        lead = (slice(None),) * self.axis
        pieces = zip(self.ends[:-1], self.ends[1:], self.needs, strict=True)
        return tuple(gy[(*lead, slice(int(a), int(b)))] if need else None for a, b, need in pieces)


def _may_repeat(index: Any) -> bool:
    """Whether an index can name one element twice: only an array of integers can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(getattr(part, "ndim", 0) and part.dtype.kind in "iu" for part in parts)


def _arrays(index: Any) -> Any:
    """The index with Tensors in it replaced by their arrays."""
    if isinstance(index, tuple):
        return tuple(_arrays(i) for i in index)
    if isinstance(index, list):
        return np.asarray(index)
    return index.data if isinstance(index, Tensor) else index


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The numbers of x in another shape; one dimension may be −1, "whatever is left"."""
    shape = tuple(shape)
    known = math.prod(n for n in shape if n != -1)
    possible = all(n >= -1 for n in shape) and shape.count(-1) <= 1
    fits = possible and (known and x.size % known == 0 if -1 in shape else known == x.size)
    if not fits:
        raise BadInput(f"reshape: {x.shape} has {x.size} elements, which do not make {shape}")
    return Reshape(shape=shape)(x)


def transpose(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """x with its axes in the order given; reversed for None."""
    axes = tuple(reversed(range(x.ndim))) if axes is None else tuple(axes)
    if sorted(a + x.ndim if a < 0 else a for a in axes) != list(range(x.ndim)):
        raise BadInput(f"transpose: axes {axes} are no order of the {x.ndim} axes of {x.shape}")
    return Transpose(axes=tuple(a % x.ndim for a in axes))(x)


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """x repeated along dimensions of length 1, and along new ones in front, to `shape`."""
    shape = tuple(shape)
    try:
        fits = np.broadcast_shapes(x.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"broadcast_to: {x.shape} does not broadcast to {shape}")
    return x if x.shape == shape else BroadcastTo(shape=shape)(x)


def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """x with a new dimension of length 1 at `axis`."""
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise BadInput(f"unsqueeze: axis {axis} is out of range for a tensor of {x.ndim} dimensions")
    axis %= x.ndim + 1
    return reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def squeeze(x: Tensor, axis: int) -> Tensor:
    """x without its dimension `axis`, which must have length 1."""
    if not -x.ndim <= axis < x.ndim or x.shape[axis] != 1:
        raise BadInput(f"squeeze: axis {axis} of a tensor of shape {x.shape} has no length 1")
    axis %= x.ndim
    return reshape(x, (*x.shape[:axis], *x.shape[axis + 1 :]))


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index] with slices, integers, None, Ellipsis, and arrays of integers or booleans."""
    index = _arrays(index)
    try:
        return GetItem(index=index)(x)
    except IndexError as error:
        raise IndexError(f"getitem: {error} (tensor of shape {x.shape})") from None


def put(x: Tensor, index: Any, shape: Sequence[int]) -> Tensor:
    """Zeros of `shape` with x added at `index`: what `getitem` took out, put back."""
    index, shape = _arrays(index), tuple(shape)
    place = np.broadcast_to(np.empty(()), shape)[index].shape if array_module(x.data) is np else x.shape
    if place != x.shape:
        raise BadInput(f"put: x {x.shape} does not fit the place {place} that the index names in {shape}")
    return Put(index=index, shape=shape)(x)


def concatenate(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors joined along `axis`; their other dimensions must agree."""
    xs = list(xs)
    if not xs:
        raise BadInput("concatenate: there is no tensor to join")
    if not -xs[0].ndim <= axis < xs[0].ndim:
        raise BadInput(f"concatenate: axis {axis} is not in a tensor of shape {xs[0].shape}")
    axis %= xs[0].ndim
    rest = [(*x.shape[:axis], *x.shape[axis + 1 :]) for x in xs]
    if any(r != rest[0] for r in rest):
        raise BadInput(f"concatenate: shapes {', '.join(str(x.shape) for x in xs)} differ beside axis {axis}")
    return Concatenate(axis=axis)(*xs)


def stack(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension `axis`."""
    return concatenate([unsqueeze(x, axis) for x in xs], axis)


def pad(x: Tensor, widths: Sequence[tuple[int, int]]) -> Tensor:
    """Zeros around x: `widths` gives (before, after) for each dimension."""
    if len(widths) != x.ndim or any(n < 0 for pair in widths for n in pair):
        raise BadInput(f"pad: {x.ndim} pairs of widths, 0 or more, are needed for shape {x.shape}; got {widths}")
    inside = tuple(slice(a, a + n) for (a, _), n in zip(widths, x.shape, strict=True))
    return put(x, inside, [a + n + b for (a, b), n in zip(widths, x.shape, strict=True)])
