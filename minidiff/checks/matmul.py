"""Products of matrices."""

import numpy as np

from .. import ops
from ..nn import functional as F
from .case import case, normal

for _label, _left, _right in [
    ("matrices", (2, 3), (3, 4)), ("vectors", (3,), (3,)), ("row and matrix", (3,), (3, 2)), ("matrix and column", (2, 3), (3,)),
    ("batches", (2, 2, 3), (2, 3, 2)), ("broadcast batches", (2, 1, 1, 3), (3, 3, 2)), ("broadcast row", (3,), (2, 3, 2)),
    ("batches and one matrix", (2, 1, 2, 3), (3, 4)), ("batches and column", (2, 2, 3), (3,)),
]:  # fmt: skip
    case(f"matmul, {_label}", ops.matmul, [normal(*_left), normal(*_right)], np.matmul, lambda torch, a, b: a @ b)
case("linear", F.linear, [normal(2, 3), normal(4, 3), normal(4)], lambda x, w, b: x @ w.T + b,
     lambda torch, x, w, b: torch.nn.functional.linear(x, w, b))  # fmt: skip

# Every kind of subscripts: what is shared, summed, repeated, hidden behind dots or of length 1.
EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ji, kj", (2, 3), (4, 2)), ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ba", (2, 3)),
    ("ii->i", (3, 3)), ("ii", (3, 3)), ("iji->ij", (2, 3, 2)), ("iij,jk->ik", (2, 2, 3), (3, 2)), ("i,j->ij", (2,), (3,)),
    ("ij,ij->ij", (2, 3), (2, 3)), ("ij,ij", (2, 3), (2, 3)), ("ij,ik->i", (2, 3), (2, 2)), ("ij,k->j", (2, 3), (2,)),
    ("bhqd,bhkd->bhqk", (2, 1, 2, 3), (2, 1, 3, 3)), ("bqd,bkd->kbq", (2, 2, 3), (2, 3, 3)), ("ijk,kjl->li", (2, 2, 3), (3, 2, 2)),
    ("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)), ("...i,...i", (2, 3), (3,)), ("i...j->j...i", (2, 1, 3, 2)),
    ("ij,ij->i", (2, 1), (2, 3)), ("ij,jk->ik", (2, 1), (3, 2)), ("i,->i", (3,), ()),
    ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)), ("ab,bc,cd,da", (2, 3), (3, 2), (2, 2), (2, 2)), ("a,ab,abc->c", (2,), (2, 2), (2, 2, 3)),
    ("i,i,i->i", (3,), (3,), (3,)),
]  # fmt: skip
for _subscripts, *_shapes in EINSUMS:
    case(
        f"einsum, {_subscripts}, {' '.join(map(str, _shapes))}", lambda *xs, s=_subscripts: ops.einsum(s, *xs),
        [normal(*shape) for shape in _shapes], lambda *xs, s=_subscripts: np.einsum(s, *xs),
        lambda torch, *xs, s=_subscripts: torch.einsum(s, *xs),
    )  # fmt: skip
case("einsum, dots that the output leaves out", lambda x: ops.einsum("...i->i", x), [normal(2, 3)], lambda x: x.sum(0),
     lambda torch, x: torch.einsum("...i->i", x))  # fmt: skip
