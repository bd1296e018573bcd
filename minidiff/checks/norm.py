"""Normalisation. apart() keeps every deviation far from 0, where the gradient would explode."""

import numpy as np

from .. import ops
from ..ops.norm import GroupNorm, GroupNormGELU, GroupNormSiLU, Normalise
from .case import apart, case, normal, textbook

for _fn, _op, _then in [
    (ops.group_norm, GroupNorm, lambda F, y: y), (ops.group_norm_gelu, GroupNormGELU, lambda F, y: F.gelu(y)),
    (ops.group_norm_silu, GroupNormSiLU, lambda F, y: F.silu(y)),
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


def _normalised(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


for _label, _shape, _last in [("last axis", (2, 3, 4), (4,)), ("last two axes", (2, 2, 3), (2, 3)), ("one sample", (5,), (5,))]:
    case(f"layer_norm, {_label}", lambda x, w, b, s=_last: ops.layer_norm(x, s, w, b),
         [apart(*_shape), normal(*_last), normal(*_last)],
         textbook(Normalise, axes=tuple(range(-len(_last), 0)), eps=1e-5),
         lambda torch, x, w, b, s=_last: torch.nn.functional.layer_norm(x, s, w, b))  # fmt: skip
case("layer_norm, no weights", lambda x: ops.layer_norm(x, 4, eps=0.1), [apart(3, 4)],
     lambda x: textbook(Normalise, axes=(-1,), eps=0.1)(x, np.ones(4), np.zeros(4)),
     lambda torch, x: torch.nn.functional.layer_norm(x, (4,), eps=0.1))  # fmt: skip
for _label, _shape in [("images", (2, 2, 2, 3)), ("signals", (3, 2, 4))]:
    case(f"instance_norm, {_label}", lambda x, w, b: ops.instance_norm(x, None, None, w, b),
         [apart(*_shape), normal(2), normal(2)],
         lambda x, w, b: np.moveaxis(np.moveaxis(_normalised(x, tuple(range(2, x.ndim))), 1, -1) * w + b, -1, 1),
         lambda torch, x, w, b: torch.nn.functional.instance_norm(x, None, None, w, b))  # fmt: skip
case("instance_norm, no weights", lambda x: ops.instance_norm(x, eps=0.1), [apart(2, 2, 2, 2)],
     lambda x: _normalised(x, (2, 3), 0.1), lambda torch, x: torch.nn.functional.instance_norm(x, eps=0.1))  # fmt: skip

MEAN, VARIANCE = np.array([0.5, -1.0, 0.25]), np.array([1.5, 0.5, 2.0])


def _by_batch(x, w, b):
    return textbook(Normalise, axes=(0, *range(2, x.ndim)), eps=1e-5)(x, w, b)


def _beside(p, x):
    return p.reshape(3, *[1] * (x.ndim - 2))


def _by_statistics(x, w, b, eps=1e-5):
    """As remembered: the mean and variance are constants."""
    x = np.moveaxis(x, 1, -1)
    return np.moveaxis((x - MEAN) / np.sqrt(VARIANCE + eps) * w + b, -1, 1)


for _label, _shape in [("images", (2, 3, 2, 2)), ("vectors", (4, 3))]:
    case(f"batch_norm, training, {_label}", lambda x, w, b: ops.batch_norm(x, None, None, w, b, training=True),
         [apart(*_shape), normal(3), normal(3)], lambda x, w, b: _by_batch(x, *(_beside(p, x) for p in (w, b))),
         lambda torch, x, w, b: torch.nn.functional.batch_norm(x, None, None, w, b, training=True))  # fmt: skip
    case(f"batch_norm, evaluation, {_label}", lambda x, w, b: ops.batch_norm(x, MEAN, VARIANCE, w, b),
         [normal(*_shape), normal(3), normal(3)], _by_statistics,
         lambda torch, x, w, b: torch.nn.functional.batch_norm(
             x, torch.tensor(MEAN, dtype=x.dtype), torch.tensor(VARIANCE, dtype=x.dtype), w, b))  # fmt: skip
case("batch_norm, training, no weights", lambda x: ops.batch_norm(x, None, None, training=True, eps=0.1), [apart(3, 2, 2)],
     lambda x: _normalised(x, (0, 2), 0.1),
     lambda torch, x: torch.nn.functional.batch_norm(x, None, None, training=True, eps=0.1))  # fmt: skip
case("instance_norm, by remembered statistics",
     lambda x, w, b: ops.instance_norm(x, MEAN, VARIANCE, w, b, use_input_stats=False),
     [normal(2, 3, 2), normal(3), normal(3)], _by_statistics,
     lambda torch, x, w, b: torch.nn.functional.instance_norm(
         x, torch.tensor(MEAN, dtype=x.dtype), torch.tensor(VARIANCE, dtype=x.dtype), w, b, use_input_stats=False))  # fmt: skip
