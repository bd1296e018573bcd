"""One table of every differentiable operation: inputs, what must come out, and what PyTorch calls it.

Inputs are drawn so that every case is smooth and well-conditioned where it is: kinks, ties, poles
and the end of a function's domain are at least 0.1 away, far beyond any step of a difference.
A new operation is tested by adding it here; a test fails until that is done.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from minidiff import backend, ops
from minidiff.autograd import Alias
from minidiff.nn import functional as F
from minidiff.ops.conv import Conv2d, ConvTranspose2d
from minidiff.ops.elementwise import GELU, SiLU, ToDevice
from minidiff.ops.loss import CrossEntropy, MSELoss
from minidiff.ops.norm import GroupNorm, GroupNormGELU
from minidiff.ops.reduce import Softmax
from minidiff.tensor import Tensor

# ----------------------------------------------------------------------------------------- inputs


def normal(*shape):
    return lambda rng: rng.standard_normal(shape)


def positive(*shape):
    """For log, sqrt, powers and divisors."""
    return lambda rng: rng.uniform(0.5, 2.0, shape)


def apart(*shape, offset=0.1):
    """No two numbers closer than 0.25, none closer to 0 than 0.1: for max, abs, relu, clip."""

    def draw(rng):
        n = int(np.prod(shape))
        return (0.25 * rng.permutation(np.arange(n) - n // 2) + offset).reshape(shape)

    return draw


def between(*shape):
    """0.1 or more away from every number of `apart`: for choosing between two."""
    return apart(*shape, offset=0.225)


def exact(*shape):
    """Multiples of 1/32 that float32 holds exactly, also when moved by the step h = 1/1024."""
    return lambda rng: rng.integers(-32, 33, shape) / 32


# ------------------------------------------------------------------------------------------ cases


@dataclass(frozen=True)
class Case:
    """`ours(*tensors)` must equal `expected(*arrays)`, and `theirs(torch, *tensors)`.

    The name begins with the public name of the operation. h is gradcheck's step.
    """

    name: str
    ours: Callable
    draws: tuple[Callable, ...]
    expected: Callable
    theirs: Callable | None = None
    h: float = 1e-5

    @property
    def operation(self):
        return self.name.split(",")[0]

    def inputs(self, dtype=np.float64):
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [np.asarray(draw(rng), dtype) for draw in self.draws]


CASES: list[Case] = []


def case(name, ours, draws, expected, theirs=None, **options):
    CASES.append(Case(name, ours, tuple(draws), expected, theirs, **options))


def textbook(op, *constants, **options):
    """The expected value from an operation's own reference, which is made of primitives."""
    return lambda *arrays: op.reference(*map(Tensor, arrays), *constants, **options).data


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

# Reductions.
for _name, _domain, _numpy in [("sum", normal, np.sum), ("mean", normal, np.mean), ("max", apart, np.max),
                               ("min", apart, np.min), ("var", normal, np.var)]:  # fmt: skip
    for _axis, _keep in [(None, False), (1, False), ((0, -1), True), ((2, 0), False)]:
        case(
            f"{_name}, axis {_axis}, keepdims {_keep}",
            lambda x, name=_name, axis=_axis, keep=_keep: getattr(ops, name)(x, axis, keep), [_domain(2, 3, 2)],
            lambda x, fn=_numpy, axis=_axis, keep=_keep: fn(x, axis=axis, keepdims=keep),
            lambda torch, x, name=_name, axis=_axis, keep=_keep: {
                "sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin,
                "var": lambda x, dim, keepdim: torch.var(x, dim, correction=0, keepdim=keepdim),
            }[name](x, dim=tuple(range(x.ndim)) if axis is None else axis, keepdim=keep),
        )  # fmt: skip
case("var, correction", lambda x: ops.var(x, 1, correction=1), [normal(2, 4)], lambda x: np.var(x, 1, ddof=1),
     lambda torch, x: torch.var(x, 1))  # fmt: skip
case("sum, of one number", ops.sum, [normal()], np.sum, lambda torch, x: x.sum())
case("sum_to", lambda x: ops.sum_to(x, (3, 1)), [normal(2, 3, 4)], lambda x: x.sum((0, 2))[:, None],
     lambda torch, x: x.sum_to_size(3, 1))  # fmt: skip
case("logsumexp", lambda x: ops.logsumexp(x, (0, 2)), [normal(2, 3, 2)], lambda x: special.logsumexp(x, (0, 2)),
     lambda torch, x: torch.logsumexp(x, (0, 2)))  # fmt: skip
for _axis in (-1, 0):
    case(f"softmax, axis {_axis}", lambda x, a=_axis: ops.softmax(x, a), [normal(3, 4)], textbook(Softmax, _axis),
         lambda torch, x, a=_axis: x.softmax(a))  # fmt: skip
    case(f"log_softmax, axis {_axis}", lambda x, a=_axis: ops.log_softmax(x, a), [normal(3, 4)],
         lambda x, a=_axis: special.log_softmax(x, a), lambda torch, x, a=_axis: x.log_softmax(a))  # fmt: skip

# Arrangements. Each function is written once and means the same in NumPy, in PyTorch and here.
for _label, _index in {
    "slices": (slice(None), slice(3, 0, -2)), "integer": (..., 1), "new axis": (slice(None), None, 0),
    "rows with repeats": (np.array([0, 2, 0]),), "pairs": (np.array([0, 2, 2]), np.array([1, 3, 3])),
    "mask": (np.array([True, False, True]),), "pairs beside a slice": (slice(1, None), np.array([[0, 1], [1, 1]])),
}.items():  # fmt: skip
    _backwards = any(isinstance(i, slice) and (i.step or 1) < 0 for i in _index)  # PyTorch has no negative steps
    case(f"getitem, {_label}", lambda x, i=_index: ops.getitem(x, i), [normal(3, 4)], lambda x, i=_index: x[i],
         None if _backwards else lambda torch, x, i=_index: x[i])  # fmt: skip


def _put(x, index, shape):
    y = np.zeros(shape)
    np.add.at(y, index, x)
    return y


for _label, _index, _shape in [("slices", (slice(1, 4, 2), slice(0, 3)), (2, 3)), ("repeats", (np.array([1, 0, 1]),), (3, 5))]:
    case(f"put, {_label}", lambda x, i=_index: ops.put(x, i, (4, 5)), [normal(*_shape)], lambda x, i=_index: _put(x, i, (4, 5)))
case("reshape", lambda x: ops.reshape(x, (4, -1)), [normal(2, 3, 2)], lambda x: x.reshape(4, 3),
     lambda torch, x: x.reshape(4, -1))  # fmt: skip
case("transpose", ops.transpose, [normal(2, 3, 4)], np.transpose, lambda torch, x: x.permute(2, 1, 0))
case("transpose, cyclic", lambda x: ops.transpose(x, (2, 0, -2)), [normal(2, 3, 4)], lambda x: x.transpose(2, 0, 1),
     lambda torch, x: x.permute(2, 0, 1))  # fmt: skip
case("broadcast_to, broadcast", lambda x: ops.broadcast_to(x, (2, 3, 4)), [normal(3, 1)], lambda x: np.broadcast_to(x, (2, 3, 4)),
     lambda torch, x: x.broadcast_to(2, 3, 4))  # fmt: skip
case("squeeze", lambda x: ops.squeeze(x, -2), [normal(2, 1, 3)], lambda x: x.squeeze(1), lambda torch, x: x.squeeze(1))
case("unsqueeze", lambda x: ops.unsqueeze(x, -1), [normal(2, 3)], lambda x: x[..., None], lambda torch, x: x.unsqueeze(-1))
case("concatenate", lambda *xs: ops.concatenate(xs, -1), [normal(2, 3), normal(2, 1), normal(2, 2)],
     lambda *xs: np.concatenate(xs, 1), lambda torch, *xs: torch.cat(xs, 1))  # fmt: skip
case("stack", lambda *xs: ops.stack(xs, 1), [normal(2, 3), normal(2, 3)], lambda *xs: np.stack(xs, 1),
     lambda torch, *xs: torch.stack(xs, 1))  # fmt: skip
case("pad", lambda x: ops.pad(x, [(0, 1), (2, 0)]), [normal(2, 3)], lambda x: np.pad(x, [(0, 1), (2, 0)]),
     lambda torch, x: torch.nn.functional.pad(x, (2, 0, 0, 1)))  # fmt: skip

# Products of matrices.
for _label, _left, _right in [
    ("matrices", (2, 3), (3, 4)), ("vectors", (3,), (3,)), ("row and matrix", (3,), (3, 2)), ("matrix and column", (2, 3), (3,)),
    ("batches", (2, 2, 3), (2, 3, 2)), ("broadcast batches", (2, 1, 1, 3), (3, 3, 2)), ("broadcast row", (3,), (2, 3, 2)),
]:  # fmt: skip
    case(f"matmul, {_label}", ops.matmul, [normal(*_left), normal(*_right)], np.matmul, lambda torch, a, b: a @ b)
case("linear", F.linear, [normal(2, 3), normal(4, 3), normal(4)], lambda x, w, b: x @ w.T + b,
     lambda torch, x, w, b: torch.nn.functional.linear(x, w, b))  # fmt: skip

# Convolutions: x, weight and perhaps bias; options as PyTorch spells them. All few pixels: each is moved on its own.
for _label, _shapes, _options in [
    ("1x1", [(2, 2, 2, 3), (3, 2, 1, 1), (3,)], {}),
    ("same size", [(1, 2, 3, 3), (2, 2, 3, 3), (2,)], {"padding": 1}),
    ("stride 2", [(2, 1, 5, 4), (2, 1, 3, 2)], {"stride": 2, "padding": 1}),
    ("rectangular", [(1, 2, 4, 3), (1, 2, 1, 2), (1,)], {"stride": (2, 1), "padding": (0, 2)}),
    ("dilation", [(1, 1, 5, 5), (2, 1, 2, 2)], {"dilation": (2, 3), "padding": 1}),
    ("groups", [(1, 4, 2, 3), (4, 2, 2, 2), (4,)], {"groups": 2, "padding": 1}),
    ("depthwise", [(1, 3, 3, 3), (3, 1, 2, 2)], {"groups": 3, "stride": 2}),
    ("padding beyond the kernel", [(1, 1, 2, 2), (1, 1, 2, 2)], {"padding": 3}),
]:
    _full = {k: v if isinstance(v, tuple) or k == "groups" else (v, v) for k, v in _options.items()}
    case(f"conv2d, {_label}", lambda *xs, o=_options: ops.conv2d(*xs, **o), [normal(*s) for s in _shapes],
         textbook(Conv2d, **_full), lambda torch, *xs, o=_options: torch.nn.functional.conv2d(*xs, **o))  # fmt: skip
for _label, _shapes, _options in [
    ("doubling", [(1, 2, 2, 3), (2, 2, 2, 2), (2,)], {"stride": 2}),
    ("padding and output_padding", [(2, 1, 2, 2), (1, 2, 3, 3)], {"stride": 2, "padding": 1, "output_padding": 1}),
    ("dilation", [(1, 1, 2, 3), (1, 1, 2, 2), (1,)], {"dilation": (1, 2), "padding": (1, 0)}),
    ("groups", [(1, 4, 2, 2), (4, 1, 2, 1), (2,)], {"groups": 2, "stride": (1, 3), "output_padding": (0, 2)}),
]:
    _full = {k: v if isinstance(v, tuple) or k == "groups" else (v, v) for k, v in _options.items()}
    case(f"conv_transpose2d, {_label}", lambda *xs, o=_options: ops.conv_transpose2d(*xs, **o), [normal(*s) for s in _shapes],
         textbook(ConvTranspose2d, **_full),
         lambda torch, *xs, o=_options: torch.nn.functional.conv_transpose2d(*xs, **o))  # fmt: skip

# Normalisation. apart() keeps every group's deviation far from 0, where the gradient would explode.
for _fn, _op, _then in [
    (ops.group_norm, GroupNorm, lambda F, y: y), (ops.group_norm_gelu, GroupNormGELU, lambda F, y: F.gelu(y)),
]:  # fmt: skip
    _name = _fn.__name__
    for _label, _shape, _groups, _weights in [
        ("images", (2, 4, 2, 3), 2, (4,)), ("one group", (2, 2, 3), 1, (2,)), ("channels alone", (2, 6), 3, (6,)),
        ("weights of each sample", (2, 4, 2, 1), 2, (2, 4)),
    ]:  # fmt: skip
        _torch = lambda torch, x, w, b, g=_groups, then=_then: then(  # noqa: E731
            torch.nn.functional, torch.nn.functional.group_norm(x, g, w, b)
        )
        case(f"{_name}, {_label}", lambda x, w, b, fn=_fn, g=_groups: fn(x, g, w, b),
             [apart(*_shape), normal(*_weights), normal(*_weights)], textbook(_op, groups=_groups, eps=1e-5),
             _torch if len(_weights) == 1 else None)  # fmt: skip
    case(f"{_name}, no weights", lambda x, fn=_fn: fn(x, 2, eps=0.1), [apart(2, 4, 3)],
         lambda x, op=_op: textbook(op, groups=2, eps=0.1)(x, np.ones(4), np.zeros(4)),
         lambda torch, x, then=_then: then(torch.nn.functional, torch.nn.functional.group_norm(x, 2, eps=0.1)))  # fmt: skip

# Losses.
LABELS = np.array([2, 0, 2])
case("mse_loss", ops.mse_loss, [normal(2, 3), normal(2, 3)], textbook(MSELoss),
     lambda torch, a, b: torch.nn.functional.mse_loss(a, b))  # fmt: skip
case("cross_entropy", lambda x: ops.cross_entropy(x, LABELS), [normal(3, 4)], textbook(CrossEntropy, LABELS),
     lambda torch, x: torch.nn.functional.cross_entropy(x, torch.tensor(LABELS)))  # fmt: skip

# What nn.functional adds.
ROWS = np.array([[0, 3], [3, 1]])
case("embedding", lambda w: F.embedding(ROWS, w), [normal(4, 3)], lambda w: w[ROWS],
     lambda torch, w: torch.nn.functional.embedding(torch.tensor(ROWS), w))  # fmt: skip
case("dropout, in training", lambda x: _seeded_dropout(x), [normal(4, 3)],
     lambda x: x * (np.random.default_rng(5).random(x.shape, dtype=np.float32) >= 0.25) / 0.75)  # fmt: skip
case("dropout, in evaluation", lambda x: ops.neg(F.dropout(x, 0.5, training=False)), [normal(2, 3)], np.negative,
     lambda torch, x: -torch.nn.functional.dropout(x, 0.5, training=False))  # fmt: skip
case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), [normal(1, 2, 4, 2)],
     lambda x: np.stack([x[..., u::2, v::2] for u in (0, 1) for v in (0, 1)], 2).reshape(1, 8, 2, 1),
     lambda torch, x: torch.nn.functional.pixel_unshuffle(x, 2))  # fmt: skip
case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), [normal(2, 4, 1, 3)],
     lambda x: x.reshape(2, 2, 2, 1, 3).transpose(0, 3, 1, 4, 2).reshape(2, 1, 2, 6),
     lambda torch, x: torch.nn.functional.pixel_shuffle(x, 2))  # fmt: skip
case("interpolate, nearest", lambda x: F.interpolate(x, 3), [normal(1, 2, 2, 1)], lambda x: x.repeat(3, 2).repeat(3, 3),
     lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=3))  # fmt: skip
case("interpolate, bilinear", lambda x: F.interpolate(x, 2, "bilinear"), [normal(1, 2, 2, 3)],
     lambda x: _halfway(_halfway(x, 2), 3),
     lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"))  # fmt: skip


def _seeded_dropout(x):
    backend.manual_seed(5)  # every call drops the same numbers, as a check by differences needs
    return F.dropout(x, 0.25)


def _halfway(x, axis):
    """Twice as many lines: each new one is 3/4 of the line it lies in and 1/4 of the next; ends are repeated."""
    x = np.moveaxis(x, axis, 0)
    before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
    y = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], 1).reshape(-1, *x.shape[1:])
    return np.moveaxis(y, 0, axis)
