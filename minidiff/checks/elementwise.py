"""Arithmetic, functions of one number, choosing between two; GELU and SiLU."""

import numpy as np
from scipy import special

from .. import ops
from ..autograd import Alias
from ..ops.elementwise import GELU, SiLU, ToDevice
from .case import apart, between, case, exact, normal, positive, textbook

# Of one argument: name, domain, NumPy, PyTorch if its name is another.
UNARY = [
    ("neg", normal, np.negative, "neg"),
    ("exp", normal, np.exp, "exp"),
    ("log", positive, np.log, "log"),
    ("sqrt", positive, np.sqrt, "sqrt"),
    ("sin", normal, np.sin, "sin"),
    ("cos", normal, np.cos, "cos"),
    ("tanh", normal, np.tanh, "tanh"),
    ("sigmoid", normal, special.expit, "sigmoid"),
    ("erf", normal, special.erf, "erf"),
    ("abs", apart, np.abs, "abs"),
    ("relu", apart, lambda x: np.maximum(x, 0), "relu"),
]
for _name, _domain, _numpy, _theirs in UNARY:
    for _shape in [(), (1,), (3, 1, 5)]:
        case(
            f"{_name}, shape {_shape}", getattr(ops, _name), [_domain(*_shape)], _numpy,
            lambda torch, x, name=_theirs: getattr(torch, name)(x),
        )  # fmt: skip

# Of two that broadcast against each other.
BINARY = [
    ("add", normal, normal, np.add),
    ("sub", normal, normal, np.subtract),
    ("mul", normal, normal, np.multiply),
    ("div", normal, positive, np.divide),
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
case("pow, tensor exponent", ops.pow, [positive(2, 3), normal(3)], np.power, lambda torch, x, p: x**p)
case("pow, of a number", lambda p: ops.pow(2.0, p), [normal(3)], lambda p: 2.0**p, lambda torch, p: 2.0**p)
case(
    "clip", lambda x: ops.clip(x, -0.5, 0.75), [apart(3, 4)], lambda x: np.clip(x, -0.5, 0.75),
    lambda torch, x: x.clip(-0.5, 0.75),
)  # fmt: skip
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

# Smooth activations, from each side and from far outside (float32 takes another path than float64).
for _label, _scale in {"near": 1.0, "far": 4.0}.items():
    for _approximate in ("none", "tanh"):
        case(
            f"gelu, {_approximate}, {_label}", lambda x, s=_scale, a=_approximate: ops.gelu(x * s, a), [normal(3, 5)],
            lambda x, s=_scale, a=_approximate: textbook(GELU, a)(x * s),
            lambda torch, x, s=_scale, a=_approximate: torch.nn.functional.gelu(x * s, approximate=a),
        )  # fmt: skip
case("gelu, 0-d", ops.gelu, [normal()], textbook(GELU), lambda torch, x: torch.nn.functional.gelu(x))
case("silu", ops.silu, [normal(3, 5)], textbook(SiLU), lambda torch, x: torch.nn.functional.silu(x))
