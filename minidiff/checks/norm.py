"""Normalisation. apart() keeps every deviation far from 0, where the gradient would explode."""

import numpy as np

from .. import ops
from ..ops.norm import GroupNorm, GroupNormGELU
from .case import apart, case, normal, textbook

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
