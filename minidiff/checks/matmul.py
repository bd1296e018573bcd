"""Products of matrices."""

import numpy as np

from .. import ops
from ..nn import functional as F
from .case import case, normal

for _label, _left, _right in [
    ("matrices", (2, 3), (3, 4)), ("vectors", (3,), (3,)), ("row and matrix", (3,), (3, 2)), ("matrix and column", (2, 3), (3,)),
    ("batches", (2, 2, 3), (2, 3, 2)), ("broadcast batches", (2, 1, 1, 3), (3, 3, 2)), ("broadcast row", (3,), (2, 3, 2)),
]:  # fmt: skip
    case(f"matmul, {_label}", ops.matmul, [normal(*_left), normal(*_right)], np.matmul, lambda torch, a, b: a @ b)
case("linear", F.linear, [normal(2, 3), normal(4, 3), normal(4)], lambda x, w, b: x @ w.T + b,
     lambda torch, x, w, b: torch.nn.functional.linear(x, w, b))  # fmt: skip
