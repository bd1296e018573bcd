"""Sums, means, extremes, softmax."""

import numpy as np
from scipy import special

from .. import ops
from ..ops.reduce import Softmax
from .case import apart, case, normal, textbook

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
