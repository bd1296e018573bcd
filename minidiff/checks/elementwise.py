"""Arithmetic, functions of one number, choosing between two."""

import numpy as np
from scipy import special

from .. import ops
from ..autograd import Alias, Copy
from ..ops.elementwise import ToDevice
from .case import apart, between, case, exact, normal, positive


def small(*shape):
    """Between −1 and 1: for tan, whose poles are at ±π/2."""
    return lambda rng: rng.uniform(-1.0, 1.0, shape)


# Of one argument: the operation, which has the same name in PyTorch, its domain, and NumPy's.
UNARY = [
    ("neg", normal, np.negative),
    ("sqrt", positive, np.sqrt),
    ("rsqrt", positive, lambda x: 1 / np.sqrt(x)),
    ("square", normal, np.square),
    ("reciprocal", positive, np.reciprocal),
    ("exp", normal, np.exp),
    ("expm1", normal, np.expm1),
    ("log", positive, np.log),
    ("log1p", positive, np.log1p),
    ("sin", normal, np.sin),
    ("cos", normal, np.cos),
    ("tan", small, np.tan),
    ("atan", normal, np.arctan),
    ("sinh", normal, np.sinh),
    ("cosh", normal, np.cosh),
    ("tanh", normal, np.tanh),
    ("sigmoid", normal, special.expit),
    ("erf", normal, special.erf),
    ("abs", apart, np.abs),
]
for _name, _domain, _numpy in UNARY:
    for _shape in [(), (1,), (3, 1, 5)]:
        case(
            f"{_name}, shape {_shape}", getattr(ops, _name), [_domain(*_shape)], _numpy,
            lambda torch, x, name=_name: getattr(torch, name)(x),
        )  # fmt: skip

# Of two that broadcast against each other.
BINARY = [
    ("add", normal, normal, np.add),
    ("sub", normal, normal, np.subtract),
    ("mul", normal, normal, np.multiply),
    ("div", normal, positive, np.divide),
    ("pow", positive, normal, np.power),
    ("maximum", apart, between, np.maximum),
    ("minimum", apart, between, np.minimum),
]
SHAPES = {"same shape": ((2, 3), (2, 3)), "broadcast a": ((3, 1), (2, 3, 2)), "broadcast both": ((2, 1, 3), (1, 2, 1)),
          "broadcast b": ((5,), ())}  # fmt: skip
for _name, _a, _b, _numpy in BINARY:
    for _label, (_left, _right) in SHAPES.items():
        case(
            f"{_name}, {_label}", getattr(ops, _name), [_a(*_left), _b(*_right)], _numpy,
            lambda torch, a, b, name=_name: getattr(torch, name)(a, b),
        )  # fmt: skip

for _p in (2, 3, 1, 0, -1, 0.5, -1.5):
    case(f"pow, {_p}", lambda x, p=_p: ops.pow(x, p), [positive(2, 3)], lambda x, p=_p: x**p, lambda torch, x, p=_p: x**p)
case("pow, of a number", lambda p: ops.pow(2.0, p), [normal(3)], lambda p: 2.0**p, lambda torch, p: 2.0**p)
for _low, _high in [(-0.5, 0.75), (None, 0.75), (-0.5, None)]:
    case(
        f"clip, {_low} to {_high}", lambda x, a=_low, b=_high: ops.clip(x, a, b), [apart(3, 4)],
        lambda x, a=_low, b=_high: np.clip(x, a, b), lambda torch, x, a=_low, b=_high: x.clip(a, b),
    )  # fmt: skip
case("clip, tensors that broadcast", lambda x, a, b: ops.clip(x, a, b + 1.0), [apart(3, 4), between(4), between(3, 1)],
     lambda x, a, b: np.clip(x, a, b + 1.0), lambda torch, x, a, b: x.clip(a, b + 1.0))  # fmt: skip
CONDITION = np.array([[True], [False]])
for _label, _shapes in {"same shape": ((2, 3), (2, 3)), "broadcast": ((3,), (2, 1)), "broadcast condition": ((3,), (3,))}.items():
    case(
        f"where, {_label}", lambda a, b: ops.where(CONDITION, a, b), [normal(*s) for s in _shapes],
        lambda a, b: np.where(CONDITION, a, b), lambda torch, a, b: torch.where(torch.tensor(CONDITION), a, b),
    )  # fmt: skip
case(
    "astype", lambda x: ops.astype(ops.astype(x, np.float32), x.dtype), [exact(2, 3)], lambda x: x,
    lambda torch, x: x.float().to(x.dtype), h=2**-10,
)  # fmt: skip
case(
    "astype, of one factor", lambda x: x * ops.astype(x, np.float32), [exact(2, 3)], lambda x: x * x,
    lambda torch, x: x * x.float(), h=2**-10,
)  # fmt: skip
case("to_device", lambda x: ToDevice(device="cpu")(x), [normal(2, 3)], lambda x: x, lambda torch, x: x.to("cpu"))
case("Alias", lambda x: Alias()(x), [normal(2, 3)], lambda x: x)
case("Copy", lambda x: Copy()(x), [normal(2, 3)], lambda x: x)
