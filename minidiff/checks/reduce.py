"""Sums, means, products, extremes."""

import functools

import numpy as np
from scipy import special

from .. import ops
from ..ops.reduce import Prod
from .case import apart, case, normal, textbook

# 0, alone in its row and twice: the product of the others is not the product divided by it.
ZEROS = np.array([[0.0, 2.0, -1.0, 0.5], [0.0, 1.5, 0.0, 3.0], [1.5, 0.5, -2.0, 1.0]])
case("prod, with zeros, first axis", lambda x: Prod()(x), [lambda rng: ZEROS], textbook(Prod), lambda torch, x: x.prod(0))
for _axis in (0, 1, None):
    case(f"prod, with zeros, axis {_axis}", lambda x, a=_axis: ops.prod(x, a), [lambda rng: ZEROS],
         lambda x, a=_axis: np.prod(x, a), lambda torch, x, a=_axis: x.prod() if a is None else x.prod(a))  # fmt: skip

# Each in NumPy, and in PyTorch, which calls its arguments dim and keepdim.
REDUCTIONS = [
    ("sum", normal, np.sum, lambda torch: torch.sum),
    ("mean", normal, np.mean, lambda torch: torch.mean),
    ("max", apart, np.max, lambda torch: torch.amax),
    ("min", apart, np.min, lambda torch: torch.amin),
    ("var", normal, functools.partial(np.var, ddof=1), lambda torch: torch.var),
    ("std", apart, functools.partial(np.std, ddof=1), lambda torch: torch.std),
    ("logsumexp", normal, special.logsumexp, lambda torch: torch.logsumexp),
    ("prod", normal, np.prod, lambda torch: functools.partial(_prod_of_several, torch)),
]


def _prod_of_several(torch, x, dim, keepdim):
    """PyTorch's prod takes one dimension."""
    for d in sorted((d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim)), reverse=True):
        x = torch.prod(x, d, keepdim)
    return x


for _name, _domain, _numpy, _theirs in REDUCTIONS:
    for _axis, _keep in [(None, False), (1, False), ((0, -1), True), ((2, 0), False)]:
        case(
            f"{_name}, axis {_axis}, keepdims {_keep}",
            lambda x, name=_name, axis=_axis, keep=_keep: getattr(ops, name)(x, axis, keep), [_domain(2, 3, 2)],
            lambda x, fn=_numpy, axis=_axis, keep=_keep: fn(x, axis=axis, keepdims=keep),
            lambda torch, x, fn=_theirs, axis=_axis, keep=_keep: fn(torch)(
                x, dim=tuple(range(x.ndim)) if axis is None else axis, keepdim=keep
            ),
        )  # fmt: skip
    if _name not in ("var", "std"):
        case(f"{_name}, of one number", lambda x, name=_name: getattr(ops, name)(x) * 1.5, [normal()],
             lambda x, fn=_numpy: fn(x) * 1.5)  # fmt: skip
for _name, _numpy in {"var": np.var, "std": np.std}.items():
    for _correction in (0, 2):
        case(
            f"{_name}, correction {_correction}",
            lambda x, name=_name, c=_correction: getattr(ops, name)(x, 1, correction=c), [apart(2, 4)],
            lambda x, fn=_numpy, c=_correction: fn(x, 1, ddof=c),
            lambda torch, x, name=_name, c=_correction: getattr(torch, name)(x, 1, correction=c),
        )  # fmt: skip
case("sum_to", lambda x: ops.sum_to(x, (3, 1)), [normal(2, 3, 4)], lambda x: x.sum((0, 2))[:, None],
     lambda torch, x: x.sum_to_size(3, 1))  # fmt: skip

for _axis in (0, -1):
    case(f"cumsum, axis {_axis}", lambda x, a=_axis: ops.cumsum(x, a), [normal(3, 4)], lambda x, a=_axis: x.cumsum(a),
         lambda torch, x, a=_axis: x.cumsum(a))  # fmt: skip
