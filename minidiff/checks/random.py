"""Dropout."""

import numpy as np

from .. import backend, ops
from ..nn import functional as F
from .case import case, normal


def _seeded(drop):
    def seeded(x):
        backend.manual_seed(5)  # every call drops the same numbers, as a check by differences needs
        return drop(x)

    return seeded


def _dropped(x, p, shape):
    return x * (np.random.default_rng(5).random(shape, dtype=np.float32) >= p) / (1 - p)


case("dropout, in training", _seeded(lambda x: F.dropout(x, 0.25)), [normal(4, 3)], lambda x: _dropped(x, 0.25, x.shape))
case("dropout, in evaluation", lambda x: ops.neg(F.dropout(x, 0.5, training=False)), [normal(2, 3)], np.negative,
     lambda torch, x: -torch.nn.functional.dropout(x, 0.5, training=False))  # fmt: skip
case("dropout2d, in training", _seeded(lambda x: F.dropout2d(x, 0.5)), [normal(2, 3, 2, 1)],
     lambda x: _dropped(x, 0.5, (2, 3, 1, 1)))  # fmt: skip
case("dropout2d, in evaluation", lambda x: ops.neg(F.dropout2d(x, 0.5, training=False)), [normal(2, 1, 1, 3)], np.negative,
     lambda torch, x: -torch.nn.functional.dropout2d(x, 0.5, training=False))  # fmt: skip
