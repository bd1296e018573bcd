"""What stands between the layers of a network: ReLU and its smooth relatives, softmax."""

from __future__ import annotations

import math

from .. import kernels
from ..autograd import FusedOp, Op
from ..backend import Array, array_module
from ..errors import BadInput
from ..kernels import functions
from ..tensor import Tensor
from .elementwise import as_tensor, check_floating, erf, exp, in_float32, log, logistic, sigmoid, tanh, where
from .reduce import check_axis
from .shape import reshape

SQRT_2 = math.sqrt(2.0)


# ---------------------------------------------------------------------------------- with a corner


class ReLU(Op):
    """y = max(x, 0)            gx = 0 where x ≤ 0, else gy: also where x is NaN, as y is then"""

    def forward(self, x: Array) -> Array:
        y = functions(x).maximum(x, 0)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return where(functions(y.data).less_equal(y.data, 0), 0.0, gy)


class LeakyReLU(Op):
    """y = x where x > 0, else s x            gx = gy where x > 0, else s gy"""

    slope: float

    def forward(self, x: Array) -> Array:
        self.save(x)
        kernel = kernels.special("leaky_relu", x)
        return array_module(x).where(x > 0, x, self.slope * x) if kernel is None else kernel(x, self.slope)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return where(functions(x.data).greater(x.data, 0), gy, self.slope * gy)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)"""
    return ReLU()(as_tensor(x))


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, negative_slope · x elsewhere."""
    return LeakyReLU(slope=float(negative_slope))(check_floating("leaky_relu", x))


# ----------------------------------------------------------------------------------------- smooth


class GELU(FusedOp):
    """y = x Φ(x), Φ the normal distribution function            gx = gy (Φ(x) + x φ(x))

    Hendrycks & Gimpel 2016. Each input is kept with the probability that a standard normal number
    is below it. approximate="tanh" is their eq. for Φ by a tanh:

        y = ½ x (1 + tanh u),   u = √(2/π) (x + 0.044715 x³)
    """

    approximate: str

    takes_bfloat16 = "kernel"

    def forward(self, x: Array) -> Array:
        return kernels.of(x).gelu(x, self.approximate)

    def backward(self, gy: Array) -> Array:
        (x,) = self.saved
        return kernels.of(x).gelu_backward(x, gy, self.approximate)

    @staticmethod
    def reference(x: Tensor, approximate: str = "none") -> Tensor:
        if approximate == "none":
            return x * (0.5 * (1.0 + erf(x / SQRT_2)))
        u = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
        return 0.5 * x * (1.0 + tanh(u))


class SiLU(FusedOp):
    """y = x σ(x), σ the sigmoid            gx = gy (σ + x σ (1 − σ))"""

    portable = True
    takes_bfloat16 = "kernel"

    def forward(self, x: Array) -> Array:
        kernel = kernels.special("silu", x)
        return x * logistic(x) if kernel is None else kernel(x)

    def backward(self, gy: Array) -> Array:
        (x,) = self.saved
        if kernel := kernels.special("silu_backward", x, gy):
            return kernel(x, gy)
        s = logistic(x)
        return gy * (s * (1.0 + x * (1.0 - s)))

    @staticmethod
    def reference(x: Tensor) -> Tensor:
        return x * sigmoid(x)


class Softplus(Op):
    """y = ln(1 + e^{βx}) / β            gx = gy σ(βx), σ the sigmoid

    Computed as max(x, 0) + ln(1 + e^{−β|x|}) / β, the same function, in which nothing overflows and
    small numbers keep their digits.
    """

    beta: float

    def forward(self, x: Array) -> Array:
        self.save(x)
        if kernel := kernels.special("softplus", x):
            return kernel(x, self.beta)
        xp = array_module(x)
        return xp.maximum(x, 0) + xp.log1p(xp.exp(-self.beta * xp.abs(x))) / self.beta

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * sigmoid(self.beta * x)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x), exactly ("none") or by the tanh formula ("tanh")."""
    if approximate not in ("none", "tanh"):
        raise BadInput(f"gelu: approximate={approximate!r} is unknown; it is 'none' or 'tanh'")
    return GELU(approximate=approximate)(check_floating("gelu", x))


def silu(x: Tensor) -> Tensor:
    """x σ(x), also called swish."""
    return SiLU()(check_floating("silu", x))


def softplus(x: Tensor, beta: float = 1.0) -> Tensor:
    """ln(1 + e^{βx}) / β, a ReLU with a round corner: the rounder, the smaller β.

    Exact everywhere, so PyTorch's threshold, beyond which it returns x, is not needed.
    """
    if not beta > 0:
        raise BadInput(f"softplus: beta must be larger than 0, got {beta}")
    return Softplus(beta=float(beta))(check_floating("softplus", x))


# ---------------------------------------------------------------------------------- probabilities


class Softmax(FusedOp):
    """yᵢ = e^{xᵢ} / Σⱼ e^{xⱼ} along one axis            gx = y (gy − Σⱼ gyⱼ yⱼ)

    The largest x is taken off first: that changes nothing in the quotient and nothing overflows.
    The sum in the gradient is there because all y together stay 1: raising one lowers the rest.
    """

    axis: int
    portable = True

    def forward(self, x: Array) -> Array:
        kernel = kernels.special("softmax", x)
        y = _softmax(x, self.axis) if kernel is None else kernel(x, self.axis)
        self.save(y)
        return y

    def backward(self, gy: Array) -> Array:
        _, y = self.saved
        if kernel := kernels.special("softmax_backward", y, gy):
            return kernel(y, gy, self.axis)
        return y * (gy - array_module(y).sum(gy * y, axis=self.axis, keepdims=True))

    @staticmethod
    def reference(x: Tensor, axis: int) -> Tensor:
        e = exp(x - _largest(x, axis))
        return e / e.sum(axis, keepdims=True)


class LogSoftmax(FusedOp):
    """yᵢ = xᵢ − ln Σⱼ e^{xⱼ} along one axis            gx = gy − eʸ Σⱼ gyⱼ

    The largest x is taken off before the difference, not after: far from 0, float32 has no digits
    left for it.
    """

    axis: int
    portable = True

    def forward(self, x: Array) -> Array:
        y = log_probabilities(x, self.axis)
        self.save(y)
        return y

    def backward(self, gy: Array) -> Array:
        _, y = self.saved
        if kernel := kernels.special("log_softmax_backward", y, gy):
            return kernel(y, gy, self.axis)
        xp = array_module(y)
        return gy - xp.exp(y) * xp.sum(gy, axis=self.axis, keepdims=True)

    @staticmethod
    def reference(x: Tensor, axis: int) -> Tensor:
        z = x - _largest(x, axis)
        return z - log(exp(z).sum(axis, keepdims=True))


def _softmax(x: Array, axis: int) -> Array:
    xp = array_module(x)
    y = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    y /= xp.sum(y, axis=axis, keepdims=True)
    return y


def log_probabilities(x: Array, axis: int) -> Array:
    """ln softmax(x) of an array."""
    if kernel := kernels.special("log_softmax", x):
        return kernel(x, axis)
    xp = array_module(x)
    z = x - xp.max(x, axis=axis, keepdims=True)
    return z - xp.log(xp.sum(xp.exp(z), axis=axis, keepdims=True))


def _largest(x: Tensor, axis: int) -> Tensor:
    """The largest x along an axis, as a constant: it changes no softmax, and so no gradient."""
    return Tensor(functions(x.data).max(x.data, axis=axis, keepdims=True))


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """e^x divided by its sum along `axis`."""
    return _along("softmax", Softmax, x, axis)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """ln softmax(x) = x − ln Σ eˣ along `axis`."""
    return _along("log_softmax", LogSoftmax, x, axis)


def _along(name: str, op: type[Softmax] | type[LogSoftmax], x: Tensor, axis: int) -> Tensor:
    """op along an axis of x; a single number is a row of one, and where there are no numbers none come out."""
    axis = check_axis(name, axis, x.ndim)
    check_floating(name, x)
    if not x.size:
        return reshape(x, x.shape)
    return in_float32(op(axis=axis), x) if x.ndim else reshape(_along(name, op, reshape(x, (1,)), 0), ())
