"""Many numbers become few: sums, products, extremes. And the opposite of broadcasting.

`axis` is one axis, a tuple of them, or None for all; `keepdims` leaves them in place with length 1.
"""

from __future__ import annotations

import builtins
import math

import numpy as np

from .. import backend
from ..autograd import FusedOp, Op
from ..backend import Array, array_module
from ..errors import BadInput
from ..kernels import functions
from ..methods import Axis
from ..tensor import Tensor
from .elementwise import astype, exp, in_float32, sqrt, where
from .shape import concatenate, reshape, transpose


def check_axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes as a tuple of numbers 0 … ndim − 1, in order; all of them for None. A single number's axis 0 is none."""
    if axis is None:
        return tuple(range(ndim))
    axes, n = axis if isinstance(axis, tuple | list) else (axis,), builtins.max(ndim, 1)
    for a in axes:
        if not isinstance(a, int | np.integer):
            raise BadInput(f"{name}: an axis is a whole number, or several or None for all; got {axis!r}")
        if not -n <= a < n:
            raise BadInput(f"{name}: axis {a} is not in a tensor of {ndim} dimensions")
    axes = tuple(sorted(int(a) % n for a in axes))
    if len(set(axes)) != len(axes):
        raise BadInput(f"{name}: axis {axis} names a dimension twice")
    return axes if ndim else ()


def check_axis(name: str, axis: int, ndim: int) -> int:
    """The number, 0 … ndim − 1, of an axis for what goes along one alone."""
    if not isinstance(axis, int | np.integer):
        raise BadInput(f"{name}: axis must be one whole number, got {axis!r}")
    return (*check_axes(name, axis, ndim), 0)[0]


def check_nonempty(name: str, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """x, which must have an element along each of `axes`: there is no largest of none."""
    for axis in axes:
        if x.shape[axis] == 0:
            raise BadInput(f"{name}: a tensor of shape {x.shape} has no element along axis {axis}; it needs 1 or more")
    return x


def _keep(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a reduction that keeps its axes with length 1."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _drop(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after a reduction that takes its axes away."""
    return tuple(n for i, n in enumerate(shape) if i not in axes)


# --------------------------------------------------------------------------- sums and what they give


class Sum(Op):
    """y = Σ x over some axes            gx = gy, repeated along them"""

    axes: tuple[int, ...]
    keepdims: bool

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return array_module(x).asarray(functions(x).sum(x, axis=self.axes, keepdims=self.keepdims))

    def backward(self, gy: Tensor) -> Tensor:
        return gy.reshape(_keep(self.shape, self.axes)).broadcast_to(self.shape)


class SumTo(Op):
    """y = x summed down to a shape that broadcasts to x's            gx = gy, broadcast

    The opposite of `BroadcastTo`: each is the other's backward.
    """

    shape: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        self.source = x.shape
        lead = x.ndim - len(self.shape)
        ones = tuple(lead + i for i, n in enumerate(self.shape) if n == 1)
        return xp.reshape(functions(x).sum(x, axis=(*range(lead), *ones), keepdims=True), self.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return gy.broadcast_to(self.source)


class CumSum(Op):
    """yᵢ = Σⱼ≤ᵢ xⱼ along one axis            gxⱼ = Σᵢ≥ⱼ gyᵢ: the running sum from the other end"""

    axis: int

    def forward(self, x: Array) -> Array:
        return backend.cumsum(x, axis=self.axis)

    def backward(self, gy: Tensor) -> Tensor:
        return gy.flip(self.axis).cumsum(self.axis).flip(self.axis)


def _countable(x: Tensor) -> Tensor:
    """Booleans and unsigned numbers as int64, PyTorch's choice: uint64, NumPy's, makes float64 of what it meets."""
    return astype(x, np.int64) if x.dtype.kind in "bu" else x


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Σ x over the given axes, or over all. Of booleans: how many are true."""
    axes = check_axes("sum", axis, x.ndim)
    return in_float32(Sum(axes=axes, keepdims=keepdims), _countable(x))


def sum_to(x: Tensor, shape: tuple[int, ...], where: str = "sum_to") -> Tensor:
    """x summed over the dimensions along which `shape` would be repeated to give x's shape."""
    try:
        fits = np.broadcast_shapes(shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"{where}: shape {x.shape} cannot be summed down to {shape}")
    return x if x.shape == shape else in_float32(SumTo(shape=shape), _countable(x))


def cumsum(x: Tensor, axis: int) -> Tensor:
    """Running sums along one axis: each number and all before it."""
    if x.ndim == 0:
        return reshape(cumsum(reshape(x, (1,)), axis), ())
    return in_float32(CumSum(axis=check_axis("cumsum", axis, x.ndim)), _countable(x))


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The average over the given axes, or over all; not a number where there is nothing to average."""
    axes = check_axes("mean", axis, x.ndim)
    n = float(math.prod(x.shape[a] for a in axes))
    return in_float32(lambda x: sum(x, axes, keepdims) / n, x)


def var(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: float = 1) -> Tensor:
    """The mean square distance from the mean, over n − correction.

    The default, 1, is PyTorch's: the estimate for all there is from a sample of n, right on average.
    0, NumPy's default, is the variance of the n numbers themselves.
    """
    axes = check_axes("var", axis, x.ndim)
    return in_float32(lambda x: _var("var", x, axes, keepdims, correction), x)


def std(x: Tensor, axis: Axis = None, keepdims: bool = False, correction: float = 1) -> Tensor:
    """√var, with var's correction. Its gradient is 0, as in PyTorch, where all numbers are alike and √ has none."""
    axes = check_axes("std", axis, x.ndim)

    def root(x: Tensor) -> Tensor:
        v = _var("std", x, axes, keepdims, correction)
        alike = v.data == 0
        return where(alike, 0.0, sqrt(where(alike, 1.0, v)))

    return in_float32(root, x)


def _var(name: str, x: Tensor, axes: tuple[int, ...], keepdims: bool, correction: float) -> Tensor:
    n = math.prod(x.shape[a] for a in axes)
    if n <= correction:
        raise BadInput(f"{name}: {n} numbers of x {x.shape} do not outnumber correction {correction}; use more, or a smaller correction")
    d = x - mean(x, axes, keepdims=True)
    return sum(d * d, axes, keepdims) / float(n - correction)


# --------------------------------------------------------------------------------------- products


class Prod(FusedOp):
    """y = Π x along the first axis            gxᵢ = gy Πⱼ≠ᵢ xⱼ            # (n,…) -> (…)

    y / xᵢ would be the product of the others, were no x zero. So it is built up instead: all before
    i times all after i, which are running products from either end.
    """

    portable = True

    def forward(self, x: Array) -> Array:
        return array_module(x).asarray(functions(x).prod(x, axis=0))

    def backward(self, gy: Array) -> Array:
        (x,) = self.saved
        if x.shape[0] == 0:
            return x
        xp = array_module(x)
        after = xp.flip(_product_before(xp.flip(x, axis=0)), axis=0)
        return gy * (_product_before(x) * after)

    @staticmethod
    def reference(x: Tensor) -> Tensor:
        """Neighbours are multiplied, then the products of neighbours, and so on."""
        while x.shape[0] > 1:
            half, odd = divmod(x.shape[0], 2)
            pairs = x[: 2 * half : 2] * x[1::2]
            x = concatenate([pairs, x[-1:]]) if odd else pairs
        return x[0] if x.shape[0] else sum(x, 0) + 1.0


def _product_before(x: Array) -> Array:
    """Πⱼ<ᵢ xⱼ along the first axis: 1, x₀, x₀ x₁, …"""
    return backend.concat([backend.full((1, *x.shape[1:]), 1.0, like=x), backend.cumprod(x[:-1, ...], axis=0)], axis=0)


def prod(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Π x over the given axes, or over all; its gradients are right also where x is 0."""
    axes = check_axes("prod", axis, x.ndim)
    x = _countable(x)
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    n = math.prod(x.shape[a] for a in axes)
    y = in_float32(Prod(), reshape(transpose(x, (*axes, *rest)), (n, *(x.shape[i] for i in rest))))
    return reshape(y, _keep(x.shape, axes)) if keepdims else y


# --------------------------------------------------------------------------------------- extremes


class Max(Op):
    """y = the largest x along some axes            gx = gy at the largest, shared equally by ties"""

    axes: tuple[int, ...]
    keepdims: bool

    def extreme(self, x: Array) -> Array:
        return functions(x).max(x, axis=self.axes, keepdims=True)

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        top = self.extreme(x)
        self.cache = functions(x).equal(x, top)
        return xp.asarray(top if self.keepdims else xp.reshape(top, _drop(x.shape, self.axes)))

    def backward(self, gy: Tensor) -> Tensor:
        largest = backend.astype(self.cache, gy.dtype)
        fn = functions(largest)
        share = fn.divide(largest, fn.sum(largest, axis=self.axes, keepdims=True))
        return gy.reshape(_keep(share.shape, self.axes)) * Tensor(share)


class Min(Max):
    """y = the smallest x along some axes            gx = gy at the smallest, shared equally by ties"""

    def extreme(self, x: Array) -> Array:
        return functions(x).min(x, axis=self.axes, keepdims=True)


class LogSumExp(Op):
    """y = ln Σ eˣ over some axes            gx = gy e / Σ e,   e = e^{x − max x}

    The largest x is taken off first and added at the end, so that nothing overflows. Where it is
    infinite there is nothing to take off: it is the sum itself. Where all x are −∞ and so y, their
    gradients are 0: e^{−∞}, of whatever a finite maximum.

    e / Σ e is e^{x − y}, but y is rounded as a large x is: the gradients would not add up to gy.
    """

    axes: tuple[int, ...]
    keepdims: bool

    def forward(self, x: Array) -> Array:
        xp, fn = array_module(x), functions(x)
        top = fn.max(x, axis=self.axes, keepdims=True)
        finite = fn.isfinite(top)
        z = fn.minimum(fn.subtract(x, fn.where(finite, top, 0.0)), 0.0)  # ≤ 0 anyway, unless top is infinite
        total = fn.sum(fn.exp(z), axis=self.axes, keepdims=True)
        y = fn.where(finite, fn.add(fn.log(fn.maximum(total, 1.0)), top), top)  # ≥ 1 anyway, unless top is infinite
        y = xp.asarray(y if self.keepdims else xp.reshape(y, _drop(x.shape, self.axes)))
        self.save(x)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        fn = functions(x.data)
        top = fn.max(x.data, axis=self.axes, keepdims=True)  # a constant: it changes no quotient
        e = exp(x - Tensor(fn.where(fn.equal(top, -math.inf), 0.0, top)))
        total = where(fn.isfinite(top), sum(e, self.axes, keepdims=True), 1.0)
        return e * (gy.reshape(_keep(x.shape, self.axes)) / total)


def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest number along the given axes, or of all (PyTorch's amax): ties share the gradient."""
    axes = check_axes("max", axis, x.ndim)
    return in_float32(Max(axes=axes, keepdims=keepdims), check_nonempty("max", x, axes))  # ties are counted


def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest number along the given axes, or of all (PyTorch's amin): ties share the gradient."""
    axes = check_axes("min", axis, x.ndim)
    return in_float32(Min(axes=axes, keepdims=keepdims), check_nonempty("min", x, axes))


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the largest number along `axis` stands (None: counted through all of x), the first of equals; no gradient."""
    return _place("argmax", x, axis, keepdims)


def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the smallest number along `axis` stands (None: counted through all of x), the first of equals; no gradient."""
    return _place("argmin", x, axis, keepdims)


def _place(name: str, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    axis = None if axis is None or x.ndim == 0 and not check_axis(name, axis, 0) else check_axis(name, axis, x.ndim)
    check_nonempty(name, x, check_axes(name, axis, x.ndim))
    return Tensor(getattr(array_module(x.data), name)(x.data, axis=axis, keepdims=keepdims))


def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """ln Σ eˣ, which neither overflows nor loses a row of −∞ (it stays −∞, with gradient 0)."""
    axes = check_axes("logsumexp", axis, x.ndim)
    x = x if backend.kind(x.dtype) == "f" else astype(x, np.float32)
    if not x.size:
        return sum(x, axes, keepdims) - math.inf                     # ln 0
    return in_float32(LogSumExp(axes=axes, keepdims=keepdims), x)
