"""Rows of a table. The row padding_idx has by definition another gradient than its slope: no case may look it up."""

import numpy as np

from ..nn import functional as F
from ..ops.embedding import AddRows
from ..ops.shape import own_index
from .case import case, normal

ROWS = np.array([[0, 3], [3, 1]])
for _label, _rows, _options in [
    ("a row twice", ROWS, {}), ("one row", np.array(2), {}), ("padding_idx", ROWS, {"padding_idx": -2}),
]:  # fmt: skip
    case(f"embedding, {_label}", lambda w, i=_rows, o=_options: F.embedding(i, w, **o), [normal(4, 3)],
         lambda w, i=_rows: w[i],
         lambda torch, w, i=_rows, o=_options: torch.nn.functional.embedding(torch.tensor(i), w, **o))  # fmt: skip


def _added(x):
    y = np.zeros((4, 3))
    np.add.at(y, ROWS, x)
    return y


case("embedding, rows added", lambda x: AddRows(index=own_index(ROWS, x.data), shape=(4, 3))(x), [normal(2, 2, 3)], _added)
