"""The forward process: from a picture to any of its noisy versions in one step."""

from __future__ import annotations

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
