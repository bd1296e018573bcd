"""How fast the picture drowns: the noise variance β_t of each step, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, array_module
from ..errors import BadInput

SCHEDULES = ("linear", "rescaled-linear", "cosine")


@dataclass(frozen=True)
class Schedule:
    """Noise variances and their products (Ho et al. 2020, section 2).

        alpha[t] = 1 − beta[t],      alpha_bar[t] = alpha[1] · … · alpha[t]

    x_t keeps √alpha_bar[t] of the picture and has √(1 − alpha_bar[t]) of noise. All arrays are
    float64 of length T + 1; index 0 is the clean picture: beta[0] = 0, alpha_bar[0] = 1.
    """

    name: str
    beta: np.ndarray
    config: dict[str, Any] = field(repr=False)
    _rates: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.beta) - 1

    @property
    def alpha(self) -> np.ndarray:
        return 1.0 - self.beta

    @property
    def alpha_bar(self) -> np.ndarray:
        return np.cumprod(self.alpha)

    def rates_beside(self, like: Array) -> tuple[Array, Array]:
        """√alpha_bar and √(1 − alpha_bar) for all t, float64, where `like` lies; taken there once."""
        place = array_module(like).__name__
        if place not in self._rates:
            alpha_bar = self.alpha_bar
            self._rates[place] = tuple(backend.asarray(np.sqrt(a), like=like) for a in (alpha_bar, 1.0 - alpha_bar))
        return self._rates[place]

    @property
    def snr(self) -> np.ndarray:
        """Signal-to-noise ratio alpha_bar / (1 − alpha_bar); infinite at t = 0."""
        with np.errstate(divide="ignore"):
            return self.alpha_bar / (1.0 - self.alpha_bar)


def make_schedule(
    name: str = "linear", T: int = 100, beta_start: float = 1e-4, beta_end: float = 0.02, s: float = 0.008
) -> Schedule:
    """A noise schedule by name; `make_schedule(**schedule.config)` makes the same one again.

    linear            β from beta_start to beta_end in T even steps (Ho et al. 2020, made for T = 1000).
                      At T = 100 it leaves √ᾱ_T = 60 % of the picture.
    rescaled-linear   the same β times 1000/T, so that any T drowns the picture as T = 1000 does
    cosine            ᾱ_t = cos²((t/T + s)/(1 + s) · π/2), normalised to 1 at t = 0, β at most 0.999
                      (Nichol & Dhariwal 2021, eq. 17)

    Raises BadInput for an unknown name, T < 1, or a β outside (0, 1).
    """
    if name not in SCHEDULES:
        raise BadInput(f"schedule {name!r} is unknown; it is one of: {', '.join(SCHEDULES)}")
    if not (np.isfinite(T) and int(T) == T and T >= 1):
        raise BadInput(f"schedule: T must be a whole number of steps, 1 or more; got {T}")
    T = int(T)
    if name == "cosine":
        beta = _cosine(T, s)
        config: dict[str, Any] = {"name": name, "T": T, "s": s}
    else:
        scale = 1000.0 / T if name == "rescaled-linear" else 1.0
        beta = np.linspace(beta_start * scale, beta_end * scale, T)
        config = {"name": name, "T": T, "beta_start": beta_start, "beta_end": beta_end}
        if name == "rescaled-linear":
            beta = np.minimum(beta, 0.999)
    if not (np.isfinite(beta).all() and beta.min() > 0 and beta.max() < 1):
        raise BadInput(f"schedule {name}: every beta must lie between 0 and 1; these run {beta.min():g} … {beta.max():g}")
    return Schedule(name, np.concatenate([[0.0], beta]), config)


def _cosine(T: int, s: float) -> np.ndarray:
    t = np.arange(T + 1)
    alpha_bar = np.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2
    return np.clip(1.0 - alpha_bar[1:] / alpha_bar[:-1], None, 0.999)
