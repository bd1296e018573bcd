"""ReLU and its relatives, softmax."""

import numpy as np
from scipy import special

from .. import ops
from ..ops.activation import GELU, SiLU, Softmax
from .case import apart, case, normal, textbook

for _shape in [(), (1,), (3, 1, 5)]:
    case(f"relu, shape {_shape}", ops.relu, [apart(*_shape)], lambda x: np.maximum(x, 0), lambda torch, x: torch.relu(x))
for _slope in (0.01, 0.3, -0.5):
    case(f"leaky_relu, slope {_slope}", lambda x, s=_slope: ops.leaky_relu(x, s), [apart(3, 4)],
         lambda x, s=_slope: np.where(x > 0, x, s * x),
         lambda torch, x, s=_slope: torch.nn.functional.leaky_relu(x, s))  # fmt: skip

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
for _beta in (1.0, 3.0, 0.5):
    case(f"softplus, beta {_beta}", lambda x, b=_beta: ops.softplus(x, b), [normal(3, 5)],
         lambda x, b=_beta: np.logaddexp(0, b * x) / b, lambda torch, x, b=_beta: torch.nn.functional.softplus(x, b))  # fmt: skip
for _axis in (-1, 0):
    case(f"softmax, axis {_axis}", lambda x, a=_axis: ops.softmax(x, a), [normal(3, 4)], textbook(Softmax, _axis),
         lambda torch, x, a=_axis: x.softmax(a))  # fmt: skip
    case(f"log_softmax, axis {_axis}", lambda x, a=_axis: ops.log_softmax(x, a), [normal(3, 4)],
         lambda x, a=_axis: special.log_softmax(x, a), lambda torch, x, a=_axis: x.log_softmax(a))  # fmt: skip
