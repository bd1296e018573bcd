"""Arrangements. Each function is written once and means the same in NumPy, in PyTorch and here."""

import numpy as np

from .. import ops
from ..nn import functional as F
from .case import case, normal

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
# What nn.functional adds.
ROWS = np.array([[0, 3], [3, 1]])
case("embedding", lambda w: F.embedding(ROWS, w), [normal(4, 3)], lambda w: w[ROWS],
     lambda torch, w: torch.nn.functional.embedding(torch.tensor(ROWS), w))  # fmt: skip
