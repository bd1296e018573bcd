"""What the network is trained on: guess the noise, or what stands for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, array_module
from ..nn import functional as F
from ..tensor import Tensor
from .forward import q_sample, training_target
from .schedules import Schedule


def loss(
    model: Any, schedule: Schedule, x0: Array, labels: Array, rng: Any, drop: float = 0.1
) -> Tensor:
    """E ‖ε − ε̂(x_t, t, label)‖², a mean over everything (Ho et al. 2020, eq. 14 and algorithm 1).

    A model with `model.target` other than "eps" is asked for that instead; see `training_target`.
    x0 (N,C,H,W) float32 in [−1,1], where the model lives; labels (N,) integers. Each sample draws its
    own step t from 1 … T and its own ε from `rng`, and loses its label with probability `drop`.
    rng is a `philox.Rng`, whose numbers are the same on every device, or NumPy's Generator.
    """
    t = backend.asarray(rng.integers(1, schedule.T + 1, len(x0)), like=x0)
    eps = backend.asarray(rng.standard_normal(x0.shape, dtype=np.float32), like=x0)
    labels = backend.asarray(labels, like=x0)
    xt = q_sample(schedule, x0, t, eps)
    wanted = training_target(schedule, x0, t, eps, getattr(model, "target", "eps"))
    return F.mse_loss(model(xt, t, drop_labels(labels, drop, rng)), wanted)


def drop_labels(labels: Array, drop: float, rng: Any) -> Array:
    """Labels with each one replaced by −1, "no class", with probability `drop` (Ho & Salimans 2022).

    Sample by sample: one network learns to draw with a class and without, both in every batch.
    """
    xp, lost = array_module(labels), backend.asarray(rng.random(len(labels)), like=labels) < drop
    return xp.where(lost, xp.full_like(labels, -1), labels)
