"""What the network is trained on: guess the noise, or what stands for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, array_module
from ..errors import BadInput
from ..nn import functional as F
from ..tensor import Tensor
from .forward import q_sample
from .schedules import Schedule
from .targets import WEIGHTINGS, check_target, loss_weight, network_input, training_target
from .variance import LAMBDA, split_answer, variational_loss

TIMES = ("uniform", "logit-normal", "edm")
EDM_MEAN, EDM_SPREAD = -1.2, 1.2              # of ln σ (Karras et al. 2022, table 1)


def loss(
    model: Any, schedule: Schedule, x0: Array, labels: Array, rng: Any, drop: float = 0.1, weighting: str = "uniform",
    times: str = "uniform", style: Array | None = None,
) -> Tensor:  # fmt: skip
    """E w_t ‖y − ŷ(x_t, t, label)‖², a mean over everything (Ho et al. 2020, eq. 14 and algorithm 1, where y is ε and w 1).

    y is what the model is asked for, `model.target`; see `targets`. x0 (N,C,H,W) float32 in [−1,1], where the model lives;
    labels (N,) integers. Each sample draws its own step t and its own ε from `rng`, and loses its label with probability
    `drop`. rng is a `philox.Rng`, whose numbers are the same on every device, or NumPy's Generator.

    style       (N,S) values beside the class, for a model that takes them; a sample loses all of its own as it loses its
                label, with probability `drop`, so that either can be asked for alone
    weighting   w_t, as in `loss_weight`
    times       how t is drawn, as in `draw_steps`

    A model with a learned variance is also trained on the variational bound (Nichol & Dhariwal 2021, eq. 16).
    """
    target = getattr(model, "target", "eps")
    check_target("loss", schedule, target)
    if weighting not in WEIGHTINGS:
        raise BadInput(f"loss: weighting {weighting!r} is unknown; it is one of: {', '.join(WEIGHTINGS)}")
    t = backend.asarray(draw_steps(schedule, rng, len(x0), times), like=x0)
    eps = backend.asarray(rng.standard_normal(x0.shape, dtype=np.float32), like=x0)
    labels = drop_labels(backend.asarray(labels, like=x0), drop, rng)
    xt = q_sample(schedule, x0, t, eps)
    told = () if style is None else (drop_style(backend.asarray(style, like=x0), drop, rng),)
    answer, between = split_answer(model, model(network_input(schedule, xt, t, target), t, labels, *told))
    wanted = training_target(schedule, x0, t, eps, target)
    if weighting == "uniform":
        simple = F.mse_loss(answer, wanted)
    else:
        root = loss_weight(schedule, t, x0, weighting, target) ** 0.5
        simple = F.mse_loss(answer * Tensor(root), root * wanted)
    return simple if between is None else simple + LAMBDA * variational_loss(schedule, x0, xt, t, answer, between, target)


def draw_steps(schedule: Schedule, rng: Any, n: int, times: str = "uniform") -> Array:
    """n steps from 1 … T.            # -> (n,) integers

    uniform        each step alike (Ho et al. 2020)
    logit-normal   τ = t/T is the sigmoid of a standard normal number: the middle of the road is where a velocity is hard
                   to guess (Esser et al. 2024, section 3.1)
    edm            ln σ is normal, mean −1.2 and spread 1.2, σ = noise/signal (Karras et al. 2022, table 1)
    """
    if times not in TIMES:
        raise BadInput(f"loss: times {times!r} is unknown; it is one of: {', '.join(TIMES)}")
    if times == "uniform":
        return rng.integers(1, schedule.T + 1, n)
    u = rng.random(n)
    up_to = schedule.beside(f"times {times}", u, lambda: _up_to(schedule, times))      # the share of draws up to each step
    return (u[:, None] >= up_to[None, :-1]).sum(axis=1) + 1


def _up_to(schedule: Schedule, times: str) -> np.ndarray:
    """The share of draws that fall on each step or one before it.            # (T,)"""
    from scipy.special import ndtr

    if times == "logit-normal":
        tau = (np.arange(schedule.T) + 0.5) / schedule.T
        z = np.log(tau / (1.0 - tau))
    else:
        z = (-0.5 * schedule.log_snr[1:] - EDM_MEAN) / EDM_SPREAD
        if not np.isfinite(z).all():
            raise BadInput(f"loss: times 'edm' needs some of the picture at every step; schedule {schedule.name} has none at T")
    return ndtr(np.append(0.5 * (z[1:] + z[:-1]), np.inf))       # a step reaches half way to the next one


def drop_labels(labels: Array, drop: float, rng: Any) -> Array:
    """Labels with each one replaced by −1, "no class", with probability `drop` (Ho & Salimans 2022).

    Sample by sample: one network learns to draw with a class and without, both in every batch.
    """
    xp, lost = array_module(labels), backend.asarray(rng.random(len(labels)), like=labels) < drop
    return xp.where(lost, xp.full_like(labels, -1), labels)


def drop_style(style: Array, drop: float, rng: Any) -> Array:
    """Style values with each sample's own replaced by "not known" with probability `drop`.            # (N,S) -> (N,S)"""
    xp, lost = array_module(style), backend.asarray(rng.random(len(style)), like=style) < drop
    return xp.where(lost[:, None], xp.full_like(style, xp.nan), style)
