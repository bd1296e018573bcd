"""Learning-rate schedules: they set `optimizer.lr`, once when made and again after every step.

    for batch in batches:
        ...
        optimizer.step()
        schedule.step()
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import BadInput
from .optimizer import Optimizer, fraction, not_negative


class _Schedule:
    """A learning rate that is a function `lr_at(k)` of the number k of steps done.

    peak   the optimizer's lr when the schedule is made
    k      steps done; the next one, the first having k = 0, uses lr_at(k)
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int = 0) -> None:
        self.optimizer, self.peak, self.k = optimizer, optimizer.lr, 0
        self.warmup_steps = _steps(f"{type(self).__name__}: warmup_steps", warmup_steps)

    def lr_at(self, k: int) -> float:
        """The learning rate of step k = 0, 1, …"""
        raise NotImplementedError(f"{type(self).__name__} does not define lr_at")

    def step(self, metric: float | None = None) -> None:
        """A step was taken; set the learning rate of the next. The metric is not looked at."""
        self.k += 1
        self.optimizer.lr = self.lr_at(self.k)

    def state_dict(self) -> dict[str, int | float]:
        return {"k": self.k, "peak": self.peak}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state_dict, and set the learning rate that follows from it."""
        k, peak = _taken(self, state, "k", "peak")
        self.k, self.peak = int(k), float(peak)
        self.optimizer.lr = self.lr_at(self.k)


class ConstantLR(_Schedule):
    """lr = peak, reached over `warmup_steps`:   lr_k = peak (k+1)/(W+1) for k < W"""

    def __init__(self, optimizer: Optimizer, warmup_steps: int = 0) -> None:
        super().__init__(optimizer, warmup_steps)
        self.optimizer.lr = self.lr_at(0)

    def lr_at(self, k: int) -> float:
        return self.peak * min(1.0, (k + 1) / (self.warmup_steps + 1))


class CosineLR(_Schedule):
    """Linear warm-up to the peak, then half a cosine down to the floor (Loshchilov & Hutter 2017, eq. 5).

        lr_k = peak (k+1)/(W+1)                                   k < W     (W warm-up steps)
        lr_k = floor + ½ (peak − floor) (1 + cos π (k−W)/(K−W))   W ≤ k ≤ K (K steps in all), then floor

    Warm-up starts above 0, so that no step is lost; at k = W both lines would give the peak.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int, warmup_steps: int = 0, floor: float = 0.0
    ) -> None:
        super().__init__(optimizer, warmup_steps)
        self.total_steps = _steps("CosineLR: total_steps", total_steps, least=1)
        self.floor = not_negative("CosineLR: floor", floor)
        if self.warmup_steps >= self.total_steps:
            raise BadInput(
                f"CosineLR: warmup_steps must be below total_steps, got {warmup_steps} of {total_steps}"
            )
        if self.floor > self.peak:
            raise BadInput(f"CosineLR: floor must be at most the optimizer's lr {self.peak}, got {floor}")
        self.optimizer.lr = self.lr_at(0)

    def lr_at(self, k: int) -> float:
        if k < self.warmup_steps:
            return self.peak * (k + 1) / (self.warmup_steps + 1)
        done = min(1.0, (k - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return self.floor + 0.5 * (self.peak - self.floor) * (1 + math.cos(math.pi * done))


class ReduceLROnPlateau:
    """Multiply lr by `factor` when a metric (the smaller the better) has stopped falling.

    A metric is better when it is below best · (1 − threshold). After more than `patience` steps in
    a row that are not better, lr becomes max(floor, factor · lr); the `cooldown` steps that follow do
    not count. A metric that is not a number is not better.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        floor: float = 0.0,
    ) -> None:
        self.optimizer = optimizer
        self.factor = fraction("ReduceLROnPlateau: factor", factor)
        self.patience = _steps("ReduceLROnPlateau: patience", patience)
        self.threshold = fraction("ReduceLROnPlateau: threshold", threshold)
        self.cooldown = _steps("ReduceLROnPlateau: cooldown", cooldown)
        self.floor = not_negative("ReduceLROnPlateau: floor", floor)
        # The best metric so far, how many in a row were not better, how many steps of cooldown are left.
        self.best, self.bad, self.rest = math.inf, 0, 0

    def step(self, metric: float) -> None:
        """Look at a new value of the metric; lower the learning rate if it is time."""
        metric = float(metric)
        if metric < self.best * (1 - self.threshold):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.rest:
            self.rest, self.bad = self.rest - 1, 0
        if self.bad > self.patience:
            self.optimizer.lr = min(self.optimizer.lr, max(self.floor, self.factor * self.optimizer.lr))
            self.rest, self.bad = self.cooldown, 0

    def state_dict(self) -> dict[str, int | float]:
        return {"lr": self.optimizer.lr, "best": self.best, "bad": self.bad, "rest": self.rest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state_dict, with the learning rate it had."""
        lr, best, bad, rest = _taken(self, state, "lr", "best", "bad", "rest")
        self.optimizer.lr = lr
        self.best, self.bad, self.rest = float(best), int(bad), int(rest)


def _taken(schedule: object, state: Mapping[str, Any], *names: str) -> list[Any]:
    if set(state) != set(names):
        raise BadInput(f"{type(schedule).__name__}: the state has {sorted(state)}, needs {sorted(names)}")
    return [state[name] for name in names]


def _steps(what: str, value: Any, least: int = 0) -> int:
    if not (math.isfinite(value) and int(value) == value and value >= least):
        raise BadInput(f"{what} must be a whole number of at least {least}, got {value}")
    return int(value)
