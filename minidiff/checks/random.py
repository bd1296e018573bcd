"""Dropout."""

import numpy as np

from .. import backend, ops
from ..nn import functional as F
from .case import case, normal

case("dropout, in training", lambda x: _seeded_dropout(x), [normal(4, 3)],
     lambda x: x * (np.random.default_rng(5).random(x.shape, dtype=np.float32) >= 0.25) / 0.75)  # fmt: skip
case("dropout, in evaluation", lambda x: ops.neg(F.dropout(x, 0.5, training=False)), [normal(2, 3)], np.negative,
     lambda torch, x: -torch.nn.functional.dropout(x, 0.5, training=False))  # fmt: skip


def _seeded_dropout(x):
    backend.manual_seed(5)  # every call drops the same numbers, as a check by differences needs
    return F.dropout(x, 0.25)
