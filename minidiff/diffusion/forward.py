"""The forward process: from a picture, or from any of its noisy versions, to a noisier one in one step."""

from __future__ import annotations

import math
from typing import Any

from .. import backend
from ..errors import BadInput
from .schedules import Schedule
from .targets import rates


def q_sample(schedule: Schedule, x0: Any, t: Any, eps: Any) -> Any:
    """x_t = signal_t x0 + noise_t ε, which is √ᾱ_t x0 + √(1 − ᾱ_t) ε            (Ho et al. 2020, eq. 4)

    x0, eps (N,…) arrays or Tensors; t one step or (N,), 0 … T. What comes back is of x0's kind.
    """
    if backend.kind(x0.dtype) != "f":
        raise BadInput(f"q_sample: x0 must hold floating-point numbers in [-1,1], got {x0.dtype}")
    if eps.shape != x0.shape:
        raise BadInput(f"q_sample: eps has shape {eps.shape}, x0 has {x0.shape}")
    signal, noise = rates(schedule, t, x0, "q_sample")
    return signal * x0 + noise * eps


def q_onward(schedule: Schedule, xs: Any, s: int, t: int, eps: Any) -> Any:
    """x_t = α x_s + √(σ_t² − α² σ_s²) ε,   α = a_t / a_s,   s < t

    On a variance preserving road and with s = t − 1 that is √(1 − β_t) x_s + √β_t ε (Ho et al. 2020, eq. 2).
    """
    (a_s, sigma_s), (a_t, sigma_t) = ((float(schedule.signal[i]), float(schedule.noise[i])) for i in (s, t))
    alpha = a_t / a_s
    return alpha * xs + math.sqrt(sigma_t**2 - (alpha * sigma_s) ** 2) * eps
