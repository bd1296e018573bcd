"""Operations that treat every number alike, and GELU.

In each class: the formula, and on its right the gradient rule. g is the gradient of the letter
behind it, so `ga = gy b` reads ∂L/∂a = ∂L/∂y · b.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backend, kernels
from ..autograd import FusedOp, Op
from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor

SQRT_2 = math.sqrt(2.0)


# ----------------------------------------------------------------------------------- conversions


def as_tensor(x: Any, like: Tensor | None = None) -> Tensor:
    """x as a Tensor. A Python number takes the dtype of `like`: it never promotes float32 to float64."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.generic):
        x = x.item()
    xp = np if like is None else array_module(like.data)
    if isinstance(x, bool | int | float) and like is not None:
        keep = like.dtype.kind == "f" or not isinstance(x, float)
        return Tensor(xp.asarray(x, dtype=like.dtype if keep else np.float32))
    if isinstance(x, np.ndarray) or hasattr(x, "__cuda_array_interface__"):
        return Tensor(xp.asarray(x))
    if isinstance(x, int | float | list | tuple):
        array = xp.asarray(x)
        return Tensor(array.astype(np.float32) if array.dtype == np.float64 else array)
    raise TypeError(f"a tensor, array or number is needed, not {type(x).__name__}")


def _binary(op: Op, a: Any, b: Any) -> Tensor:
    """Apply an operation of two arguments that broadcast against each other."""
    a, b = _pair(op.name.lower(), a, b)
    return op(a, b)


def _pair(name: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Two arguments as tensors whose shapes broadcast; an integer one takes the other's floating-point dtype."""
    a = as_tensor(a, b if isinstance(b, Tensor) else None)
    b = as_tensor(b, a)
    if a.dtype.kind == "f" and b.dtype.kind != "f":
        b = astype(b, a.dtype)
    elif b.dtype.kind == "f" and a.dtype.kind != "f":
        a = astype(a, b.dtype)
    _broadcast(name, a.shape, b.shape)
    return a, b


def _broadcast(name: str, *shapes: tuple[int, ...]) -> None:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise BadInput(f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast") from None


def _floating(name: str, x: Tensor) -> Tensor:
    if x.dtype.kind != "f":
        raise BadInput(f"{name}: x must hold floating-point numbers, got {x.dtype}")
    return x


class AsType(Op):
    """y = x in another dtype            gx = gy in x's dtype"""

    dtype: Any

    def forward(self, x: Array) -> Array:
        self.source = x.dtype
        return x.astype(self.dtype)

    def backward(self, gy: Tensor) -> Tensor:
        return astype(gy, self.source)


class ToDevice(Op):
    """y = x on another device            gx = gy on x's device"""

    device: str

    def forward(self, x: Array) -> Array:
        self.source = backend.device_of(x)
        return backend.to_device(x, self.device)

    def backward(self, gy: Tensor) -> Tensor:
        return to_device(gy, self.source)


def astype(x: Tensor, dtype: Any) -> Tensor:
    """x in another dtype; itself if it has it already."""
    return x if x.dtype == np.dtype(dtype) else AsType(dtype=np.dtype(dtype))(x)


def to_device(x: Tensor, device: str) -> Tensor:
    """x on another device."""
    return ToDevice(device=device)(x)


# ------------------------------------------------------------------------------------ arithmetic


class Add(Op):
    """y = a + b            ga = gy,   gb = gy"""

    def forward(self, a: Array, b: Array) -> Array:
        return a + b

    def backward(self, gy: Tensor) -> Any:
        return gy, gy


class Sub(Op):
    """y = a − b            ga = gy,   gb = −gy"""

    def forward(self, a: Array, b: Array) -> Array:
        return a - b

    def backward(self, gy: Tensor) -> Any:
        return gy, -gy if self.needs[1] else None


class Mul(Op):
    """y = a b            ga = gy b,   gb = gy a"""

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        return a * b

    def backward(self, gy: Tensor) -> Any:
        a, b = self.saved
        return gy * b if self.needs[0] else None, gy * a if self.needs[1] else None


class Div(Op):
    """y = a / b            ga = gy / b,   gb = −gy y / b"""

    def forward(self, a: Array, b: Array) -> Array:
        y = a / b
        self.save(b, y)
        return y

    def backward(self, gy: Tensor) -> Any:
        b, y = self.saved
        ga = gy / b
        return ga, -(ga * y) if self.needs[1] else None


class Neg(Op):
    """y = −x            gx = −gy"""

    def forward(self, x: Array) -> Array:
        return -x

    def backward(self, gy: Tensor) -> Tensor:
        return -gy


class Pow(Op):
    """y = xᵖ for a constant p            gx = gy p xᵖ⁻¹"""

    p: float

    def forward(self, x: Array) -> Array:
        self.save(x)
        return x**self.p

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * (self.p * x ** (self.p - 1)) if self.p != 0 else gy * 0.0


def add(a: Any, b: Any) -> Tensor:
    """a + b"""
    return _binary(Add(), a, b)


def sub(a: Any, b: Any) -> Tensor:
    """a − b"""
    return _binary(Sub(), a, b)


def mul(a: Any, b: Any) -> Tensor:
    """a b, number by number"""
    return _binary(Mul(), a, b)


def div(a: Any, b: Any) -> Tensor:
    """a / b"""
    return _binary(Div(), a, b)


def neg(x: Tensor) -> Tensor:
    """−x"""
    return Neg()(x)


def pow(x: Any, p: Any) -> Tensor:
    """xᵖ; p may be a number, or a tensor if x is positive (xᵖ = e^{p ln x})."""
    if isinstance(p, int | float | np.generic):
        return Pow(p=p.item() if isinstance(p, np.generic) else p)(as_tensor(x))
    p = as_tensor(p)
    return exp(p * log(as_tensor(x, p)))


# ----------------------------------------------------------------------------- functions of one x


class Exp(Op):
    """y = eˣ            gx = gy y"""

    def forward(self, x: Array) -> Array:
        y = array_module(x).exp(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy * y


class Log(Op):
    """y = ln x            gx = gy / x"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return array_module(x).log(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy / x


class Sqrt(Op):
    """y = √x            gx = gy / 2y"""

    def forward(self, x: Array) -> Array:
        y = array_module(x).sqrt(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy / (2.0 * y)


class Sin(Op):
    """y = sin x            gx = gy cos x"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return array_module(x).sin(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * cos(x)


class Cos(Op):
    """y = cos x            gx = −gy sin x"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return array_module(x).cos(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return -(gy * sin(x))


class Tanh(Op):
    """y = tanh x            gx = gy (1 − y²)"""

    def forward(self, x: Array) -> Array:
        y = array_module(x).tanh(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy * (1.0 - y * y)


class Sigmoid(Op):
    """y = 1 / (1 + e⁻ˣ)            gx = gy y (1 − y)

    Computed as ½ (1 + tanh ½x), which is the same function and cannot overflow.
    """

    def forward(self, x: Array) -> Array:
        y = 0.5 * array_module(x).tanh(0.5 * x) + 0.5
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy * (y * (1.0 - y))


class Erf(Op):
    """y = 2/√π ∫₀ˣ e^{−s²} ds            gx = gy 2/√π e^{−x²}"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return kernels.erf(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * (exp(-(x * x)) * (2.0 / math.sqrt(math.pi)))


class Abs(Op):
    """y = |x|            gx = gy sign x   (0 at 0)"""

    def forward(self, x: Array) -> Array:
        self.cache = array_module(x).sign(x)
        return array_module(x).abs(x)

    def backward(self, gy: Tensor) -> Tensor:
        return gy * Tensor(self.cache)


class ReLU(Op):
    """y = max(x, 0)            gx = gy where x > 0, else 0"""

    def forward(self, x: Array) -> Array:
        self.cache = x > 0
        return array_module(x).maximum(x, 0)

    def backward(self, gy: Tensor) -> Tensor:
        return gy * Tensor(self.cache.astype(gy.dtype))


class Clip(Op):
    """y = x kept between low and high            gx = gy where it was inside, else 0"""

    low: float
    high: float

    def forward(self, x: Array) -> Array:
        self.cache = (x >= self.low) & (x <= self.high)
        return array_module(x).clip(x, self.low, self.high)

    def backward(self, gy: Tensor) -> Tensor:
        return gy * Tensor(self.cache.astype(gy.dtype))


def exp(x: Tensor) -> Tensor:
    """eˣ"""
    return Exp()(x)


def log(x: Tensor) -> Tensor:
    """ln x"""
    return Log()(x)


def sqrt(x: Tensor) -> Tensor:
    """√x"""
    return Sqrt()(x)


def sin(x: Tensor) -> Tensor:
    """sin x"""
    return Sin()(x)


def cos(x: Tensor) -> Tensor:
    """cos x"""
    return Cos()(x)


def tanh(x: Tensor) -> Tensor:
    """tanh x"""
    return Tanh()(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e⁻ˣ)"""
    return Sigmoid()(x)


def erf(x: Tensor) -> Tensor:
    """The error function."""
    return Erf()(x)


def abs(x: Tensor) -> Tensor:
    """|x|"""
    return Abs()(x)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)"""
    return ReLU()(x)


def clip(x: Tensor, low: float, high: float) -> Tensor:
    """x kept between low and high."""
    return Clip(low=low, high=high)(x)


# ------------------------------------------------------------------------------- choosing of two


class Where(Op):
    """y = a where the condition holds, else b            ga = gy there,   gb = gy elsewhere"""

    condition: Array

    def forward(self, a: Array, b: Array) -> Array:
        return array_module(a).where(self.condition, a, b)

    def backward(self, gy: Tensor) -> Any:
        chosen = Tensor(array_module(gy.data).broadcast_to(self.condition, gy.shape).astype(gy.dtype))
        return gy * chosen, gy * (1.0 - chosen)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where `condition` (a boolean array or tensor) holds, else b."""
    if isinstance(condition, Tensor):
        condition = condition.data
    if getattr(condition, "dtype", None) != np.bool_:
        raise BadInput("where: the condition must be an array of booleans")
    a, b = _pair("where", a, b)
    _broadcast("where", condition.shape, a.shape, b.shape)
    return Where(condition=condition)(a, b)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b; the gradient goes to the larger, to a where they are equal."""
    a, b = _pair("maximum", a, b)
    return where(a.data >= b.data, a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b; the gradient goes to the smaller, to a where they are equal."""
    a, b = _pair("minimum", a, b)
    return where(a.data <= b.data, a, b)


# ------------------------------------------------------------------------------ smooth activations


class GELU(FusedOp):
    """y = x Φ(x), Φ the normal distribution function            gx = gy (Φ(x) + x φ(x))

    Hendrycks & Gimpel 2016. Each input is kept with the probability that a standard normal number
    is below it. approximate="tanh" is their eq. for Φ by a tanh:

        y = ½ x (1 + tanh u),   u = √(2/π) (x + 0.044715 x³)
    """

    approximate: str

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

    def forward(self, x: Array) -> Array:
        return x * _sigmoid(x)

    def backward(self, gy: Array) -> Array:
        (x,) = self.saved
        s = _sigmoid(x)
        return gy * (s * (1.0 + x * (1.0 - s)))

    @staticmethod
    def reference(x: Tensor) -> Tensor:
        return x * sigmoid(x)


def _sigmoid(x: Array) -> Array:
    return 0.5 * array_module(x).tanh(0.5 * x) + 0.5


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x), exactly ("none") or by the tanh formula ("tanh")."""
    if approximate not in ("none", "tanh"):
        raise BadInput(f"gelu: approximate={approximate!r} is unknown; it is 'none' or 'tanh'")
    return GELU(approximate=approximate)(_floating("gelu", x))


def silu(x: Tensor) -> Tensor:
    """x σ(x), also called swish."""
    return SiLU()(_floating("silu", x))
