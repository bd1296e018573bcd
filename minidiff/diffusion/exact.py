"""A network that has nothing to learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.conditions import check_choices
from ..tensor import Tensor
from .targets import TARGETS, network_input, noise_in, training_target


class Exact:
    """A network that has learned everything there is to learn about a `data.Mixture`: it answers E[y | x_t].

    For samplers: what they get wrong with it is theirs. It looks to the library like any other model.
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
        """x (N,D), one step t, labels (N,)."""
        given = x.data if isinstance(x, Tensor) else x
        a, sigma = float(self.schedule.signal[t]), float(self.schedule.noise[t])
        xt = given / network_input(self.schedule, np.ones((1, 1)), t, self.target)      # as it was before it was shown
        x0 = self.mixture.expected(xt, a, sigma, np.broadcast_to(labels, (len(xt),)))
        return Tensor(training_target(self.schedule, x0, t, noise_in(self.schedule, xt, t, x0), self.target).astype(given.dtype))
