"""The forward process: from a picture to any of its noisy versions in one step, what a network may be asked
about them, and the way back from its answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..backend import Array
from ..errors import BadInput
from ..tensor import Tensor
from .schedules import Schedule


def q_sample(schedule: Schedule, x0: Any, t: Any, eps: Any) -> Any:
    """x_t = √ᾱ_t x0 + √(1 − ᾱ_t) ε            (Ho et al. 2020, eq. 4)

    x0, eps (N,…) arrays or Tensors; t one step or (N,), 0 … T. What comes back is of x0's kind.
    """
    shape = x0.shape
    if backend.kind(x0.dtype) != "f":
        raise BadInput(f"q_sample: x0 must hold floating-point numbers in [-1,1], got {x0.dtype}")
    if eps.shape != shape:
        raise BadInput(f"q_sample: eps has shape {eps.shape}, x0 has {shape}")
    signal, noise = (_column(a, x0) for a in _rates(schedule, t, shape, "q_sample"))
    return signal * x0 + noise * eps


TARGETS = ("eps", "v")


def training_target(schedule: Schedule, x0: Any, t: Any, eps: Any, target: str = "eps") -> Any:
    """What the network is to say about x_t.

    eps   ε itself (Ho et al. 2020). Where noise is nearly all of x_t, guessing it says little about x0.
    v     √ᾱ_t ε − √(1 − ᾱ_t) x0 (Salimans & Ho 2022, section 4): the noise where there is little of it,
          the picture where there is little of that. Large shapes and the class are learned sooner.
    """
    if target == "eps":
        return eps
    signal, noise = (_column(a, x0) for a in _rates(schedule, t, x0.shape, "training_target"))
    return signal * eps - noise * x0


def predict_x0(schedule: Schedule, xt: Any, t: Any, output: Any, target: str = "eps") -> Any:
    """x̂0 from x_t and the network's answer.

    eps   x̂0 = (x_t − √(1 − ᾱ_t) ε̂) / √ᾱ_t          `q_sample` solved for the picture
    v     x̂0 = √ᾱ_t x_t − √(1 − ᾱ_t) v̂               x_t and v are x0 and ε turned by an angle: turn back
    """
    signal, noise = (_column(a, xt) for a in _rates(schedule, t, xt.shape, "predict_x0"))
    return (xt - noise * output) / signal if target == "eps" else signal * xt - noise * output


def _rates(schedule: Schedule, t: Any, shape: tuple[int, ...], name: str) -> tuple[Array, Array]:
    """√ᾱ_t and √(1 − ᾱ_t), shaped to multiply images; where t lies."""
    t = t.data if isinstance(t, Tensor) else t
    t = t if backend.is_array(t) else np.asarray(t)
    if backend.dtype_of(t).kind not in "iu" or t.shape not in ((), shape[:1]):
        raise BadInput(f"{name}: t must be one step or {shape[0]}, as integers; got {t.dtype} of shape {t.shape}")
    if backend.can_look(t) and t.size and (t.min() < 0 or t.max() > schedule.T):
        raise BadInput(f"{name}: steps run 0 … {schedule.T}; got {t.min()} … {t.max()}")
    signal, noise = (rate[t] for rate in schedule.rates_beside(t))
    column = t.shape + (1,) * (len(shape) - 1) if t.ndim else ()
    return signal.reshape(column), noise.reshape(column)


def _column(rate: Array, x: Any) -> Any:
    """The rates in x's dtype, on x's device, of x's kind."""
    data = x.data if isinstance(x, Tensor) else x
    rate = backend.astype(backend.asarray(rate, like=data), backend.dtype_of(data))
    return Tensor(rate) if isinstance(x, Tensor) else rate
