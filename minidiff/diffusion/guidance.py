"""Guidance: lean towards the class that is asked for, and away from others.

All of it changes the network's answer y, which depends on ε̂ and x̂0 along straight lines, so what is said of ε̂ in the papers
holds for every target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import backend, ops
from ..autograd import grad, no_grad
from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor
from .schedules import Schedule
from .targets import network_input, predict_x0
from .variance import split_answer


@dataclass(frozen=True)
class Guidance:
    """How a sampler leans.

    w            of classifier-free guidance, 0 for none
    interval     the steps on which w acts, as parts of T: (0.2, 0.8) leaves the first and the last fifth alone
                 (Kynkäänniemi et al. 2024: early it kills variety, late it does nothing)
    rescale      φ in [0,1]: how far the answer is brought back to the size that it had without guidance
                 (Lin et al. 2023, eq. 15–16; large w makes pictures too contrasty)
    negative     the label to lean away from, −1 for no class in particular
    classifier   a network that says what a clean picture shows, x0 -> logits (N,K), all Tensors; and how much it is
    strength     listened to (Dhariwal & Nichol 2021, algorithm 2, with the classifier looking at x̂0): from the first step on
                 whose x_t holds some of the picture, see :func:`shows_signal`
    alone        the classifier leads alone: the model is not told the class, so that one without classes will do

    Raises BadInput for numbers out of range.
    """

    w: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    negative: int = -1
    classifier: Any = None
    strength: float = 1.0
    alone: bool = False

    def __post_init__(self) -> None:
        low, high = self.interval
        if not (np.isfinite(self.w) and self.w >= 0):
            raise BadInput(f"sample: guidance must be a finite number, 0 or more; got {self.w}")
        if not 0.0 <= low <= high <= 1.0:
            raise BadInput(f"sample: the interval of guidance must be two parts of T, 0 <= low <= high <= 1; got {self.interval}")
        if not 0.0 <= self.rescale <= 1.0:
            raise BadInput(f"sample: rescale must lie between 0 and 1, got {self.rescale}")
        if not np.isfinite(self.strength):
            raise BadInput(f"sample: the strength of a classifier must be finite, got {self.strength}")
        if self.alone and (self.classifier is None or self.w):
            raise BadInput("sample: a classifier that leads alone needs a classifier, and no w beside it")

    def at(self, t: int, T: int) -> float:
        """w at step t."""
        low, high = self.interval
        return self.w if low * T <= t <= high * T else 0.0

    def led(self, schedule: Schedule, t: int) -> bool:
        """Whether the classifier acts at step t."""
        return self.classifier is not None and shows_signal(schedule, t)

    def evaluations(self, schedule: Schedule, t: int) -> int:
        """Network evaluations (NFE) for one picture at step t: the second one of w, and one more for the classifier's gradient."""
        return (2 if self.at(t, schedule.T) else 1) + self.led(schedule, t)


def shows_signal(schedule: Schedule, t: int) -> bool:
    """Whether x_t = a x0 + σ ε holds any of x0 in float32: a > ε₃₂ σ. Not at T of "flow" and of zero_terminal_snr, where a = 0."""
    return bool(schedule.signal[t] > np.finfo(np.float32).eps * schedule.noise[t])


def guided_output(
    model: Any, xt: Array, t: int, labels: np.ndarray, w: float, negative: int = -1, rescale: float = 0.0,
    style: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """ε̂ = (1 + w) ε̂(x_t, t, label) − w ε̂(x_t, t, no class)            (Ho & Salimans 2022, eq. 6)

    The same as ε̂_u + s (ε̂_c − ε̂_u) with s = 1 + w, the other convention in use. w = 0 is the plain
    conditional model and asks the network once; any other w asks it for both in one batch. For a
    model that answers with something else the same holds, because ε̂ depends on it along a straight line.

    negative    another label in the place of "no class": what the picture is to be unlike
    rescale     φ, as in :class:`Guidance`
    style       (N,S) values that go with the labels; with no class goes no style

    x_t and what comes back are float32, where the model lives; of a model with a learned variance, v is the class's own.
    """
    with no_grad():
        if w == 0:
            return model(xt, t, labels, *(() if style is None else (style,))).astype(np.float32).data
        told = () if style is None else (np.concatenate([style, np.full_like(style, np.nan)]),)
        both = model(backend.concat([xt, xt], 0), t, np.concatenate([labels, np.full_like(labels, negative)]), *told)
        (cond, v), (uncond, _) = (split_answer(model, part) for part in (both[: len(xt)], both[len(xt) :]))
        cond, uncond = cond.astype(np.float32).data, uncond.astype(np.float32).data
        y = (1.0 + w) * cond - w * uncond
        if rescale:
            y = rescaled(y, cond, rescale)
        return y if v is None else backend.concat([y, v.astype(np.float32).data], 1)


def rescaled(y: Array, cond: Array, phi: float) -> Array:
    """φ y std(cond) / std(y) + (1 − φ) y, the deviations taken over each sample            (Lin et al. 2023, eq. 15–16)"""
    xp, axes = array_module(y), tuple(range(1, y.ndim))
    size, of_y = (xp.std(each, axis=axes, keepdims=True) for each in (cond, y))
    size = xp.where(of_y > 0, size / xp.where(of_y > 0, of_y, 1.0), 1.0).astype(y.dtype)       # a constant y has no deviation to bring back
    return (phi * size + (1.0 - phi)) * y


def classifier_gradient(
    model: Any, classifier: Any, schedule: Schedule, xt: Array, t: int, labels: np.ndarray, told: np.ndarray | None = None,
    style: np.ndarray | None = None,
) -> Array:
    """∇ ln p(label | x̂0(x_t)) with respect to x_t; 0 for samples of no class.            # (N,…) -> (N,…) float32

    The classifier knows clean pictures only, so it is shown the network's guess of one, and its opinion is carried back
    through the network to x_t. `told` is what the network is told of the class, if not the label; `style` of the rest.
    """
    x = Tensor(xt, requires_grad=True)
    target = getattr(model, "target", "eps")
    answer, _ = split_answer(model, model(network_input(schedule, x, t, target), t, labels if told is None else told, *(() if style is None else (style,))))
    asked = labels >= 0
    picked = ops.take_along_axis(ops.log_softmax(classifier(predict_x0(schedule, x, t, answer, target)), 1), np.where(asked, labels, 0)[:, None], 1)
    total = (picked * Tensor(backend.asarray(asked[:, None].astype(np.float32), like=xt))).sum()
    return grad(total, x).data


def lean(schedule: Schedule, t: int, x0: Array, gradient: Array, strength: float) -> Array:
    """x̂0 moved along the classifier's gradient, at a step where it acts (`shows_signal`)

        ε̂' = ε̂ − strength · σ ∇ ln p(label | x_t)            (Dhariwal & Nichol 2021, eq. 14)
        x̂0' = x̂0 + strength · σ²/a ∇ ln p(label | x_t)       the same, as x_t = a x̂0 + σ ε̂

    Where a = 0, x_t is noise alone and independent of x0: p(label | x_t) = p(label), whose gradient is 0, so that ε̂ is right
    without guidance, and of x̂0 the formula says nothing, 0/0. There the classifier is not asked: its guidance starts one step
    later, at the first t whose x_t holds some of the picture.
    """
    a, sigma = float(schedule.signal[t]), float(schedule.noise[t])
    return x0 + (strength * sigma**2 / a) * gradient
