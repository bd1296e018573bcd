"""Operations that treat every number alike: arithmetic, functions of one number, choosing between two.

In each class: the formula, and on its right the gradient rule. g is the gradient of the letter
behind it, so `ga = gy b` reads ∂L/∂a = ∂L/∂y · b.

Where dtypes meet, floating-point wins over whole numbers and the larger over the smaller; a Python
number follows. A tensor of one number counts like any other here (in PyTorch it would follow too).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend, kernels
from ..autograd import Op
from ..backend import Array, array_module
from ..errors import BadInput
from ..kernels import functions
from ..tensor import Tensor

# ----------------------------------------------------------------------------------- conversions


def as_tensor(x: Any, like: Tensor | None = None) -> Tensor:
    """x as a Tensor. A Python number takes the dtype of `like`: it never promotes float32 to float64."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.generic):
        x = x.item()
    if isinstance(x, bool | int | float) and like is not None:
        return Tensor(backend.asarray(x, like=like.data, dtype=_dtype_of_number(x, like.dtype)))
    if backend.is_array(x):
        return Tensor(backend.asarray(_numeric(x), like=x if like is None else like.data))
    home = np.empty(()) if like is None else like.data
    if isinstance(x, int | float | list | tuple):
        if isinstance(x, list | tuple) and any(isinstance(part, Tensor) for part in x):
            raise BadInput(f"a {type(x).__name__} of tensors would lose their history; use ops.stack")
        array = _numeric(backend.array_of(x))
        if array.dtype == np.float64:
            array = array.astype(np.float32 if like is None or backend.kind(like.dtype) != "f" else like.dtype)
        return Tensor(backend.asarray(array, like=home))
    raise TypeError(f"a tensor, array or number is needed, not {type(x).__name__}")


def _numeric(x: Array) -> Array:
    """x, which must hold numbers that a Tensor can: of another kind NumPy would drop a part, or ask Python for help."""
    if backend.kind(backend.dtype_of(x)) not in "fiub":
        raise BadInput(f"{backend.dtype_of(x)} is no number type; give floats, integers or booleans")
    return x


def _dtype_of_number(x: bool | int | float, dtype: np.dtype) -> Any:
    """The dtype of a Python number that meets an array: the array's, unless that cannot hold it (−1 in uint8)."""
    if isinstance(x, float):
        return dtype if backend.kind(dtype) == "f" else np.float32
    if dtype.kind == "b":
        return dtype if isinstance(x, bool) else np.int64
    return dtype if backend.kind(dtype) == "f" or np.iinfo(dtype).min <= x <= np.iinfo(dtype).max else np.int64


def _binary(op: Op, a: Any, b: Any) -> Tensor:
    """Apply an operation of two arguments that broadcast against each other."""
    a, b = _pair(op.name.lower(), a, b)
    return op(a, b)


def _pair(name: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Two arguments as tensors whose shapes broadcast; an integer one takes the other's floating-point dtype."""
    a = as_tensor(a, b if isinstance(b, Tensor) else None)
    b = as_tensor(b, a)
    if backend.kind(a.dtype) != backend.kind(b.dtype):
        a, b = to_one_kind(a, b)
    if a.shape != b.shape:
        _broadcast(name, a.shape, b.shape)
    return a, b


def to_one_kind(*xs: Tensor) -> list[Tensor]:
    """Whole numbers beside floating-point ones take the dtype of these: NumPy would make both float64."""
    floating = [x.dtype for x in xs if backend.kind(x.dtype) == "f"]
    return [astype(x, floating[0]) if floating and backend.kind(x.dtype) != "f" else x for x in xs]


def _broadcast(name: str, *shapes: tuple[int, ...]) -> None:
    if () in shapes and len(shapes) == 2:
        return  # one number goes with everything; NumPy's check would take longer than the sum
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise BadInput(f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast") from None


def check_floating(name: str, x: Tensor) -> Tensor:
    """x, which must hold floating-point numbers."""
    if backend.kind(x.dtype) != "f":
        raise BadInput(f"{name}: x must hold floating-point numbers, got {x.dtype}")
    return x


def _float(x: Any) -> Tensor:
    """x as floating-point numbers: whole ones become float32, as in PyTorch."""
    x = as_tensor(x)
    return x if backend.kind(x.dtype) == "f" else astype(x, np.float32)


def _counted(x: Tensor) -> Tensor:
    """Booleans as int64, PyTorch's choice: NumPy's powers of them are int8."""
    return astype(x, np.int64) if x.dtype.kind == "b" else x


class AsType(Op):
    """y = x in another dtype            gx = gy in x's dtype"""

    dtype: Any
    takes_bfloat16 = True

    def forward(self, x: Array) -> Array:
        self.source = backend.dtype_of(x)
        return kernels.cast(x, self.dtype)

    def backward(self, gy: Tensor) -> Tensor:
        return astype(gy, self.source)


class ToDevice(Op):
    """y = x on another device            gx = gy on x's device"""

    device: str
    takes_bfloat16 = True

    def forward(self, x: Array) -> Array:
        self.source = backend.device_of(x)
        return backend.to_device(x, self.device)

    def backward(self, gy: Tensor) -> Tensor:
        return to_device(gy, self.source)


def astype(x: Tensor, dtype: Any) -> Tensor:
    """x in another dtype; itself if it has it already."""
    dtype = backend.named_dtype(dtype)
    return x if x.dtype == dtype else AsType(dtype=dtype)(x)


def to_device(x: Tensor, device: str) -> Tensor:
    """x on another device."""
    return ToDevice(device=device)(x)


HALF = np.dtype(np.float16)


def in_float32(fn: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """fn(*inputs); of float16 numbers computed in float32 and given as float16. For all that counts or adds up.

    In float16 a count or sum of 65,520 or more is infinite, and one that grows by 1 ends at 2,048, where the next number
    is 2,050. The gradients are computed in float32 too.
    """
    if inputs[0].dtype != HALF or any(x.dtype != HALF for x in inputs):
        return fn(*inputs)
    return astype(fn(*(astype(x, np.float32) for x in inputs)), HALF)


# ------------------------------------------------------------------------------------ arithmetic


class Add(Op):
    """y = a + b            ga = gy,   gb = gy"""

    takes_bfloat16 = True

    def forward(self, a: Array, b: Array) -> Array:
        return kernels.add(a, b)

    def backward(self, gy: Tensor) -> Any:
        return gy, gy


class Sub(Op):
    """y = a − b            ga = gy,   gb = −gy"""

    def forward(self, a: Array, b: Array) -> Array:
        return functions(a).subtract(a, b)

    def backward(self, gy: Tensor) -> Any:
        return gy, -gy if self.needs[1] else None


class Mul(Op):
    """y = a b            ga = gy b,   gb = gy a"""

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        return functions(a).multiply(a, b)

    def backward(self, gy: Tensor) -> Any:
        a, b = self.saved
        return gy * b if self.needs[0] else None, gy * a if self.needs[1] else None


class Div(Op):
    """y = a / b            ga = gy / b,   gb = −gy y / b"""

    def forward(self, a: Array, b: Array) -> Array:
        y = functions(a).divide(a, b)
        self.save(b, y)
        return y

    def backward(self, gy: Tensor) -> Any:
        b, y = self.saved
        ga = gy / b
        return ga, -(ga * y) if self.needs[1] else None


class Neg(Op):
    """y = −x            gx = −gy"""

    def forward(self, x: Array) -> Array:
        return functions(x).negative(x)

    def backward(self, gy: Tensor) -> Tensor:
        return -gy


def add(a: Any, b: Any) -> Tensor:
    """a + b"""
    return _binary(Add(), a, b)


def sub(a: Any, b: Any) -> Tensor:
    """a − b"""
    a, b = _pair("sub", a, b)
    if a.dtype.kind == b.dtype.kind == "b":
        raise BadInput("sub: booleans have no difference; use ne, or .astype(numpy.int64)")
    return Sub()(a, b)


def mul(a: Any, b: Any) -> Tensor:
    """a b, number by number"""
    return _binary(Mul(), a, b)


def div(a: Any, b: Any) -> Tensor:
    """a / b; whole numbers are divided as float32."""
    a, b = _pair("div", a, b)
    return Div()(_float(a), _float(b))


def neg(x: Any) -> Tensor:
    """−x"""
    x = as_tensor(x)
    if x.dtype.kind == "b":
        raise BadInput("neg: booleans have no sign; use x == False, or .astype(numpy.int64)")
    return Neg()(x)


# ---------------------------------------------------------------------------------------- powers


class Pow(Op):
    """y = xᵖ            gx = gy p xᵖ⁻¹,   gp = gy y ln x

    The rules can read 0 · ∞ or 0 · NaN: gx where p is 0, whatever x is, and gp where x is 0 and p not negative.
    Both gradients are 0 there, and 1 in the place of x says so without an infinite number on the way.
    """

    def forward(self, x: Array, p: Array) -> Array:
        y = kernels.power(x, p)
        self.save(x, p, y)
        return y

    def backward(self, gy: Tensor) -> Any:
        x, p, y = self.saved
        gx = gp = None
        if self.needs[0]:
            gx = gy * (p * where(p.data == 0, 1.0, x) ** (p - 1.0))
        if self.needs[1]:
            gp = gy * (y * log(where((x.data == 0) & (p.data >= 0), 1.0, x)))
        return gx, gp


class PowConstant(Op):
    """y = xᵖ for a constant p            gx = gy p xᵖ⁻¹"""

    p: float

    def forward(self, x: Array) -> Array:
        self.save(x)
        return kernels.power(x, self.p)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * (self.p * x ** (self.p - 1)) if self.p != 0 else gy * 0.0


class Sqrt(Op):
    """y = √x            gx = gy / 2y"""

    def forward(self, x: Array) -> Array:
        y = functions(x).sqrt(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy / (2.0 * y)


class RSqrt(Op):
    """y = 1 / √x            gx = −½ gy y³"""

    def forward(self, x: Array) -> Array:
        kernel = kernels.special("rsqrt", x)
        y = 1.0 / functions(x).sqrt(x) if kernel is None else kernel(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy * (-0.5 * (y * y * y))


class Square(Op):
    """y = x²            gx = 2 gy x"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return functions(x).square(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * (2.0 * x)


class Reciprocal(Op):
    """y = 1 / x            gx = −gy y²"""

    def forward(self, x: Array) -> Array:
        y = functions(x).reciprocal(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return -(gy * (y * y))


def pow(x: Any, p: Any) -> Tensor:
    """xᵖ for a number or a tensor p, which broadcast against each other.

    The gradient of p asks for ln x, so it is no number where x is negative; where x is 0 it is 0 if
    p ≥ 0, PyTorch's meaning. Raises BadInput for a negative power of whole numbers.
    """
    if isinstance(p, np.generic):
        p = p.item()
    if not isinstance(p, int | float):
        x, p = _pair("pow", x, p)
        if backend.kind(x.dtype) != "f" and bool(array_module(p.data).any(p.data < 0)):
            raise BadInput(f"pow: whole numbers ({x.dtype}) have no negative powers; use floating-point ones")
        return Pow()(x, p)
    x = as_tensor(x)
    if backend.kind(x.dtype) != "f" and p < 0 and isinstance(p, int):
        raise BadInput(f"pow: whole numbers ({x.dtype}) have no power {p}; use floating-point ones")
    return PowConstant(p=int(p) if isinstance(p, bool) else p)(_float(x) if isinstance(p, float) else _counted(x))


def sqrt(x: Any) -> Tensor:
    """√x"""
    return Sqrt()(_float(x))


def rsqrt(x: Any) -> Tensor:
    """1 / √x"""
    return RSqrt()(_float(x))


def square(x: Any) -> Tensor:
    """x²"""
    return Square()(_counted(as_tensor(x)))


def reciprocal(x: Any) -> Tensor:
    """1 / x"""
    return Reciprocal()(_float(x))


# --------------------------------------------------------------------- exponential and logarithm


class Exp(Op):
    """y = eˣ            gx = gy y"""

    def forward(self, x: Array) -> Array:
        y = functions(x).exp(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy * y


class Expm1(Op):
    """y = eˣ − 1            gx = gy (y + 1)"""

    def forward(self, x: Array) -> Array:
        y = functions(x).expm1(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy * (y + 1.0)


class Log(Op):
    """y = ln x            gx = gy / x"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return functions(x).log(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy / x


class Log1p(Op):
    """y = ln(1 + x)            gx = gy / (1 + x)"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return functions(x).log1p(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy / (1.0 + x)


def exp(x: Any) -> Tensor:
    """eˣ"""
    return Exp()(_float(x))


def expm1(x: Any) -> Tensor:
    """eˣ − 1, exact also where x is so small that eˣ rounds to 1."""
    return Expm1()(_float(x))


def log(x: Any) -> Tensor:
    """ln x"""
    return Log()(_float(x))


def log1p(x: Any) -> Tensor:
    """ln(1 + x), exact also where x is so small that 1 + x rounds to 1."""
    return Log1p()(_float(x))


# ------------------------------------------------------------------- trigonometric and hyperbolic


class Sin(Op):
    """y = sin x            gx = gy cos x"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return functions(x).sin(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * cos(x)


class Cos(Op):
    """y = cos x            gx = −gy sin x"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return functions(x).cos(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return -(gy * sin(x))


class Tan(Op):
    """y = tan x            gx = gy (1 + y²)"""

    def forward(self, x: Array) -> Array:
        y = functions(x).tan(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy * (1.0 + y * y)


class Atan(Op):
    """y = arctan x            gx = gy / (1 + x²)"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        kernel = kernels.special("atan", x)
        return backend.atan(x) if kernel is None else kernel(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy / (1.0 + x * x)


class Sinh(Op):
    """y = ½ (eˣ − e⁻ˣ)            gx = gy cosh x"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return functions(x).sinh(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * cosh(x)


class Cosh(Op):
    """y = ½ (eˣ + e⁻ˣ)            gx = gy sinh x"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return functions(x).cosh(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * sinh(x)


class Tanh(Op):
    """y = sinh x / cosh x            gx = gy (1 − y²)"""

    def forward(self, x: Array) -> Array:
        y = functions(x).tanh(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy * (1.0 - y * y)


class Sigmoid(Op):
    """y = 1 / (1 + e⁻ˣ)            gx = gy y (1 − y)

    Where x is negative that is eˣ / (1 + eˣ): nothing overflows, and what is small keeps its digits.
    """

    def forward(self, x: Array) -> Array:
        y = logistic(x)
        self.save(y)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy * (y * (1.0 - y))


def logistic(x: Array) -> Array:
    """1 / (1 + e⁻ˣ) with e^{−|x|}, which is never larger than 1."""
    if kernel := kernels.special("sigmoid", x):
        return kernel(x)
    xp = array_module(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x < 0, e, 1.0) / (1.0 + e)


class Erf(Op):
    """y = 2/√π ∫₀ˣ e^{−s²} ds            gx = gy 2/√π e^{−x²}"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return kernels.erf(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * (exp(-(x * x)) * (2.0 / math.sqrt(math.pi)))


def sin(x: Any) -> Tensor:
    """sin x"""
    return Sin()(_float(x))


def cos(x: Any) -> Tensor:
    """cos x"""
    return Cos()(_float(x))


def tan(x: Any) -> Tensor:
    """tan x"""
    return Tan()(_float(x))


def atan(x: Any) -> Tensor:
    """The angle from −π/2 to π/2 whose tangent is x."""
    return Atan()(_float(x))


def sinh(x: Any) -> Tensor:
    """½ (eˣ − e⁻ˣ)"""
    return Sinh()(_float(x))


def cosh(x: Any) -> Tensor:
    """½ (eˣ + e⁻ˣ)"""
    return Cosh()(_float(x))


def tanh(x: Any) -> Tensor:
    """sinh x / cosh x"""
    return Tanh()(_float(x))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e⁻ˣ)"""
    return Sigmoid()(_float(x))


def erf(x: Any) -> Tensor:
    """The error function."""
    return in_float32(Erf(), _float(x))


# ------------------------------------------------------------------------------- choosing of two


class Abs(Op):
    """y = |x|            gx = gy sign x   (0 at 0)"""

    def forward(self, x: Array) -> Array:
        self.save(x)
        return functions(x).abs(x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        return gy * Tensor(functions(x.data).sign(x.data))


class Clip(Op):
    """y = x kept between low and high            gx = gy where it was inside, else 0"""

    low: float | None
    high: float | None

    def forward(self, x: Array) -> Array:
        fn = functions(x)
        inside = fn.equal(x, x) if self.low is None else fn.greater_equal(x, self.low)
        self.cache = inside if self.high is None else inside & fn.less_equal(x, self.high)
        return array_module(x).clip(x, self.low, self.high)

    def backward(self, gy: Tensor) -> Tensor:
        return where(self.cache, gy, 0.0)


class Where(Op):
    """y = a where the condition holds, else b            ga = gy there, else 0,   gb = gy elsewhere, else 0"""

    condition: Array

    def forward(self, a: Array, b: Array) -> Array:
        return functions(a).where(self.condition, a, b)

    def backward(self, gy: Tensor) -> Any:
        ga = where(self.condition, gy, 0.0) if self.needs[0] else None
        gb = where(self.condition, 0.0, gy) if self.needs[1] else None
        return ga, gb


class Maximum(Op):
    """y = the larger of a and b            ga = gy where a is larger, ½ gy where they are equal, else 0;   gb likewise

    The limits of the slope from either side are 0 and 1; the half is their middle, and PyTorch's choice.
    """

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        return functions(a).maximum(a, b)

    def backward(self, gy: Tensor) -> Any:
        a, b = (x.data for x in self.saved)
        fn = functions(a)
        tied = fn.equal(a, b)
        return _share(gy, fn.less(a, b), tied), _share(gy, fn.less(b, a), tied)


class Minimum(Op):
    """y = the smaller of a and b            ga = gy where a is smaller, ½ gy where they are equal, else 0;   gb likewise"""

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        return functions(a).minimum(a, b)

    def backward(self, gy: Tensor) -> Any:
        a, b = (x.data for x in self.saved)
        fn = functions(a)
        tied = fn.equal(a, b)
        return _share(gy, fn.less(b, a), tied), _share(gy, fn.less(a, b), tied)


def _share(gy: Tensor, lost: Array, tied: Array) -> Tensor:
    return where(lost, 0.0, where(tied, 0.5 * gy, gy))


def abs(x: Any) -> Tensor:
    """|x|"""
    return Abs()(as_tensor(x))


def clip(x: Any, low: Any = None, high: Any = None) -> Tensor:
    """x kept between low and high: numbers, or tensors that broadcast to x's shape; None leaves that side open.

    The gradient goes to x where it lies inside or on the border, to a tensor that bounds it elsewhere.
    Where low > high, y is high.
    """
    x = as_tensor(x)
    low, high = (bound.item() if isinstance(bound, np.generic) else bound for bound in (low, high))
    if low is None and high is None:
        raise BadInput("clip: low and high are both None; give at least one of them")
    bounds = [bound for bound in (low, high) if bound is not None]
    if all(isinstance(bound, int | float) for bound in bounds):
        return Clip(low=low, high=high)(_float(x) if any(isinstance(bound, float) for bound in bounds) else x)
    for bound, beyond in ((low, lt), (high, gt)):
        if bound is not None:
            x, bound = _pair("clip", x, bound)
            beyond_it = beyond(x, bound).data | ne(bound, bound).data           # a bound of NaN leaves nothing known
            x = where(beyond_it, bound, x)
    return x


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where `condition` (a boolean array or tensor) holds, else b; the three broadcast against each other."""
    condition = condition.data if isinstance(condition, Tensor) else backend.plain(condition)
    if not hasattr(condition, "dtype") or backend.dtype_of(condition).kind != "b":
        found = type(condition).__name__ if not hasattr(condition, "dtype") else str(backend.dtype_of(condition))
        raise BadInput(f"where: the condition must be an array of booleans, got {found}")
    a, b = _pair("where", a, b)
    _broadcast("where", condition.shape, a.shape, b.shape)
    condition = backend.asarray(condition, like=a.data)
    if a.requires_grad or b.requires_grad:
        condition = backend.copy(condition)  # the caller may write to it before backward
    return Where(condition=condition)(a, b)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b; the gradient goes to the larger, half to each where they are equal."""
    return _binary(Maximum(), a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b; the gradient goes to the smaller, half to each where they are equal."""
    return _binary(Minimum(), a, b)


# ----------------------------------------------------- comparisons: true or false, without gradient


def eq(a: Any, b: Any) -> Tensor:
    """Where a = b, as booleans."""
    a, b = _pair("eq", a, b)
    return Tensor(functions(a.data).equal(a.data, b.data))


def ne(a: Any, b: Any) -> Tensor:
    """Where a ≠ b, as booleans."""
    a, b = _pair("ne", a, b)
    return Tensor(functions(a.data).not_equal(a.data, b.data))


def lt(a: Any, b: Any) -> Tensor:
    """Where a < b, as booleans."""
    a, b = _pair("lt", a, b)
    return Tensor(functions(a.data).less(a.data, b.data))


def le(a: Any, b: Any) -> Tensor:
    """Where a ≤ b, as booleans."""
    a, b = _pair("le", a, b)
    return Tensor(functions(a.data).less_equal(a.data, b.data))


def gt(a: Any, b: Any) -> Tensor:
    """Where a > b, as booleans."""
    a, b = _pair("gt", a, b)
    return Tensor(functions(a.data).greater(a.data, b.data))


def ge(a: Any, b: Any) -> Tensor:
    """Where a ≥ b, as booleans."""
    a, b = _pair("ge", a, b)
    return Tensor(functions(a.data).greater_equal(a.data, b.data))
