"""A network that has nothing to learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..models.conditions import check_choices
from ..tensor import Tensor
from .targets import TARGETS, network_input, noise_in, training_target

NEVER = -1e30  # the logarithm of a probability of 0, which can still be multiplied with


class Exact:
    """A network that has learned everything there is to learn about a `data.Mixture`: it answers E[y | x_t].

    For samplers: what they get wrong with it is theirs. It looks to the library like any other model, and is made of Tensor
    operations, so that its Jacobian can be asked for.
    """

    training = False

    def __init__(self, mixture: Any, schedule: Any, target: str = "eps") -> None:
        check_choices("Exact", target=(target, TARGETS))
        self.mixture, self.schedule, self.target = mixture, schedule, target
        self.sample_shape = (mixture.means.shape[1],)
        self.config = {"num_classes": len(mixture.weights)}

    def eval(self) -> Exact:
        return self

    def train(self, mode: bool = True) -> Exact:
        return self

    def __call__(self, x: Any, t: Any, labels: Any) -> Tensor:
        """x (N,D); t and labels (N,) or one for all."""
        x, t = ops.as_tensor(x), np.asarray(t)
        seen = network_input(self.schedule, np.ones((len(x), 1)), t, self.target)         # how much larger than x_t
        xt = x.astype(np.float64) * Tensor(1.0 / seen)
        x0 = self._expected(xt, t, np.broadcast_to(labels, (len(x),)))
        return training_target(self.schedule, x0, t, noise_in(self.schedule, xt, t, x0), self.target).astype(x.dtype)

    def _expected(self, xt: Tensor, t: np.ndarray, labels: np.ndarray) -> Tensor:
        """E[x0 | x_t], as `data.Mixture.expected` has it.            # (N,D) -> (N,D)"""
        m, (K, D) = self.mixture, self.mixture.means.shape
        a, sigma = (np.reshape(table[t], (-1, 1)) for table in (self.schedule.signal, self.schedule.noise))
        v = (a * m.deviations) ** 2 + sigma**2                                              # (N,K) or (1,K)
        away = xt.reshape(-1, 1, D) - a[:, :, None] * m.means                               # (N,K,D)
        with np.errstate(divide="ignore"):
            prior = np.maximum(np.log(m.weights), NEVER) - 0.5 * D * np.log(2 * math.pi * v)
        other = (labels[:, None] >= 0) & (labels[:, None] != np.arange(K))
        ln_parts = Tensor(np.where(other, NEVER, prior)) - (away * away).sum(2) * Tensor(0.5 / v)
        r = ops.softmax(ln_parts, 1)
        guess = Tensor(m.means) + away * Tensor((a * m.deviations**2 / v)[:, :, None])
        return (r.reshape(-1, K, 1) * guess).sum(1)
