"""Losses."""

import numpy as np

from .. import ops
from ..ops.loss import CrossEntropy, MSELoss
from .case import case, normal, textbook

LABELS = np.array([2, 0, 2])
case("mse_loss", ops.mse_loss, [normal(2, 3), normal(2, 3)], textbook(MSELoss),
     lambda torch, a, b: torch.nn.functional.mse_loss(a, b))  # fmt: skip
case("cross_entropy", lambda x: ops.cross_entropy(x, LABELS), [normal(3, 4)], textbook(CrossEntropy, LABELS),
     lambda torch, x: torch.nn.functional.cross_entropy(x, torch.tensor(LABELS)))  # fmt: skip
