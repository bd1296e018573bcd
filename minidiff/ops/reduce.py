"""Many numbers become few: sums, means, extremes, softmax. And the opposite of broadcasting."""

from __future__ import annotations

import math

import numpy as np

from ..autograd import Op
from ..backend import Array, array_module
from ..errors import BadInput
from ..methods import Axis
from ..tensor import Tensor


def _axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes as a tuple of numbers 0 … ndim − 1, in order; all of them for None."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    for a in axes:
        if not -ndim <= a < ndim:
            raise BadInput(f"{name}: axis {a} is not in a tensor of {ndim} dimensions")
    axes = tuple(sorted(a % ndim for a in axes))
    if len(set(axes)) != len(axes):
        raise BadInput(f"{name}: axis {axis} names a dimension twice")
    return axes


def _keep(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a reduction that keeps its axes with length 1."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


class Sum(Op):
    """y = Σ x over some axes            gx = gy, repeated along them"""

    axes: tuple[int, ...]
    keepdims: bool

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return array_module(x).asarray(x.sum(axis=self.axes, keepdims=self.keepdims))

    def backward(self, gy: Tensor) -> Tensor:
        return gy.reshape(_keep(self.shape, self.axes)).broadcast_to(self.shape)


class SumTo(Op):
    """y = x summed down to a shape that broadcasts to x's            gx = gy, broadcast

    The opposite of `BroadcastTo`: each is the other's backward.
    """

    shape: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        self.source = x.shape
        lead = x.ndim - len(self.shape)
        ones = tuple(lead + i for i, n in enumerate(self.shape) if n == 1)
        return x.sum(axis=(*range(lead), *ones), keepdims=True).reshape(self.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return gy.broadcast_to(self.source)


class Max(Op):
    """y = the largest x along some axes            gx = gy at the largest, shared equally by ties"""

    axes: tuple[int, ...]
    keepdims: bool

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        top = x.max(axis=self.axes, keepdims=True)
        self.cache = x == top
        return xp.asarray(top if self.keepdims else top.squeeze(self.axes))

    def backward(self, gy: Tensor) -> Tensor:
        largest = self.cache.astype(gy.dtype)
        largest /= largest.sum(axis=self.axes, keepdims=True)
        return gy.reshape(_keep(largest.shape, self.axes)) * Tensor(largest)


class Softmax(Op):
    """yᵢ = e^{xᵢ} / Σⱼ e^{xⱼ} along one axis            gx = y (gy − Σⱼ gyⱼ yⱼ)

    The largest x is taken off first: that changes nothing in the quotient and nothing overflows.
    The sum in the gradient is there because all y together stay 1: raising one lowers the rest.
    """

    axis: int

    def forward(self, x: Array) -> Array:
        y = array_module(x).exp(x - x.max(axis=self.axis, keepdims=True))
        y /= y.sum(axis=self.axis, keepdims=True)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return y * (gy - (gy * y).sum(self.axis, keepdims=True))

    @staticmethod
    def reference(x: Tensor, axis: int) -> Tensor:
        e = (x - Tensor(x.data.max(axis=axis, keepdims=True))).exp()
        return e / e.sum(axis, keepdims=True)


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Σ x over the given axes, or over all."""
    return Sum(axes=_axes("sum", axis, x.ndim), keepdims=keepdims)(x)


def sum_to(x: Tensor, shape: tuple[int, ...], where: str = "sum_to") -> Tensor:
    """x summed over the dimensions along which `shape` would be repeated to give x's shape."""
    try:
        fits = np.broadcast_shapes(shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"{where}: shape {x.shape} cannot be summed down to {shape}")
    return x if x.shape == shape else SumTo(shape=shape)(x)


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The average over the given axes, or over all."""
    axes = _axes("mean", axis, x.ndim)
    return sum(x, axes, keepdims) / float(math.prod(x.shape[a] for a in axes))


def var(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    """The mean square distance from the mean, over n − correction (correction 1: the unbiased estimate)."""
    axes = _axes("var", axis, x.ndim)
    n = math.prod(x.shape[a] for a in axes)
    d = x - mean(x, axes, keepdims=True)
    return sum(d * d, axes, keepdims) / float(n - correction)


def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest number along the given axes, or of all."""
    if x.size == 0:
        raise BadInput(f"max: a tensor of shape {x.shape} has no largest element")
    return Max(axes=_axes("max", axis, x.ndim), keepdims=keepdims)(x)


def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest number along the given axes, or of all."""
    return -max(-x, axis, keepdims)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """e^x divided by its sum along `axis`."""
    (axis,) = _axes("softmax", axis, x.ndim)
    return Softmax(axis=axis)(x)


def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """ln Σ eˣ, with the largest x taken off first so that nothing overflows."""
    axes = _axes("logsumexp", axis, x.ndim)
    top = Tensor(x.data.max(axis=axes, keepdims=True))
    y = sum((x - top).exp(), axes, keepdims=True).log() + top
    return y if keepdims else y.reshape(tuple(n for i, n in enumerate(x.shape) if i not in axes))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """ln softmax(x) = x − ln Σ eˣ along `axis`."""
    (axis,) = _axes("log_softmax", axis, x.ndim)
    z = x - Tensor(x.data.max(axis=axis, keepdims=True))  # first: far from 0, float32 has no digits left for the difference
    return z - sum(z.exp(), axis, keepdims=True).log()


