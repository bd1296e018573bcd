"""What a network may be asked about x_t, the way back from its answer, and how much each step counts.

Every target is a mixture of the picture and the noise,

    y = p x0 + q ε            x_t = a x0 + σ ε            (a, σ: the schedule's signal and noise at t)

and two equations give two unknowns, whatever the target:

    x̂0 = (q x_t − σ y) / d,      ε̂ = (a y − p x_t) / d,      d = q a − p σ

    target   p         q       what it is
    eps      0         1       the noise (Ho et al. 2020). Where noise is nearly all of x_t, guessing it says little of x0
    x0       1         0       the picture. Where there is hardly noise, it is hardly a question
    v       −σ         a       the noise where there is little of it, the picture where there is little of that
                               (Salimans & Ho 2022, section 4)
    flow    −1         1       the velocity dx/dτ = ε − x0 on the straight road x = (1 − τ) x0 + τ ε (Lipman et al. 2023)
    edm      …         …       what is wrong with the best linear guess, at unit size (Karras et al. 2022, section 5)

For edm, x̂0 = c_skip x_t + c_out y, and the network sees c_in x_t, with the size s of the data's pixels (`SIGMA_DATA`):

    c_skip = a s² / (a² s² + σ²),   c_out = σ s / √(a² s² + σ²),   c_in = 1 / √(a² s² + σ²)

Solved for y that is p = (1 − c_skip a) / c_out, q = −c_skip σ / c_out. With s = 1 on a variance preserving road it is −v.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..backend import Array
from ..errors import BadInput
from ..models.conditions import TARGETS
from ..tensor import Tensor
from .schedules import Schedule

WEIGHTINGS = ("uniform", "snr", "min-snr", "edm")
SIGMA_DATA = 0.5
GAMMA = 5.0  # of min-snr, as in the paper


def check_target(name: str, schedule: Schedule, target: str) -> None:
    """Raises BadInput for an unknown target, and for one that says nothing of the picture at the end of this schedule."""
    if target not in TARGETS:
        raise BadInput(f"{name}: target {target!r} is unknown; it is one of: {', '.join(TARGETS)}")
    if target == "eps" and schedule.signal[-1] < np.finfo(np.float32).tiny:
        raise BadInput(f"{name}: at T nothing of the picture is left in this schedule, and ε is x_T itself; train for x0, v or flow")


def training_target(schedule: Schedule, x0: Any, t: Any, eps: Any, target: str = "eps") -> Any:
    """y = p x0 + q ε, what the network is to say about x_t. x0, eps (N,…); t one step or (N,)."""
    if target == "eps":
        return eps
    p, q = (column(table, t, x0, "training_target", schedule) for table in mixture(schedule, target, t))
    return p * x0 + q * eps


def predict_x0(schedule: Schedule, xt: Any, t: Any, output: Any, target: str = "eps") -> Any:
    """x̂0 = (q x_t − σ y) / d from x_t and the network's answer y."""
    _, noise, p, q, d = _all_columns(schedule, xt, t, target, "predict_x0")
    return (q * xt - noise * output) / d


def predict_eps(schedule: Schedule, xt: Any, t: Any, output: Any, target: str = "eps") -> Any:
    """ε̂ = (a y − p x_t) / d from x_t and the network's answer y."""
    if target == "eps":
        return output
    signal, _, p, q, d = _all_columns(schedule, xt, t, target, "predict_eps")
    return (signal * output - p * xt) / d


def noise_in(schedule: Schedule, xt: Any, t: Any, x0: Any) -> Any:
    """ε = (x_t − a x0) / σ, the noise that leads from a picture to x_t; t ≥ 1."""
    signal, noise = rates(schedule, t, xt, "noise_in")
    return (xt - signal * x0) / noise


def network_input(schedule: Schedule, xt: Any, t: Any, target: str) -> Any:
    """What the network is shown: x_t, and c_in x_t for the target edm, so that it always sees numbers of unit size."""
    if target != "edm":
        return xt
    return column(_table(schedule, "c_in", t, lambda: 1.0 / np.sqrt(_size(schedule))), t, xt, "network_input", schedule) * xt


def loss_weight(schedule: Schedule, t: Any, like: Any, weighting: str, target: str) -> Any:
    """How much a sample's error counts, as a column that multiplies images of `like`'s shape.

    uniform   each error of the answer y counts alike
    snr       each error of the noise ε counts alike: the weight of Ho et al.'s simple loss, whatever the target
    min-snr   each error of the picture counts min(SNR, γ): no step pulls harder than γ (Hang et al. 2023, eq. 4)
    edm       each error of the picture counts (σ² + s²) / (σ s)², on the edm road (Karras et al. 2022, eq. 8)

    An error of y is an error of x0 times d/σ, so a weight w of x0's errors is w (σ/d)² of y's.
    """
    def table() -> np.ndarray:
        (signal, noise), (p, q) = (schedule.signal[1:], schedule.noise[1:]), (m[1:] for m in _mixture(schedule, target))
        ratio = np.square(noise / (q * signal - p * noise))      # of errors of x0 to errors of y
        s = noise / np.maximum(signal, 1e-12)
        of_x0 = {
            "snr": lambda: schedule.snr[1:], "min-snr": lambda: np.minimum(schedule.snr[1:], GAMMA),
            "edm": lambda: (s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2,
        }[weighting]()  # fmt: skip
        return np.concatenate([[0.0], of_x0 * ratio])

    return column(_table(schedule, f"weight {weighting} {target}", t, table), t, like, "loss", schedule)


# ------------------------------------------------------------------------------------- tables over t


def mixture(schedule: Schedule, target: str, t: Any) -> tuple[Array, Array]:
    """p and q for all t, where t lies."""
    return tuple(_table(schedule, f"{target} {i}", t, lambda i=i: _mixture(schedule, target)[i]) for i in range(2))  # type: ignore


def _mixture(schedule: Schedule, target: str) -> tuple[np.ndarray, np.ndarray]:
    a, sigma = schedule.signal, schedule.noise
    zero, one = np.zeros_like(a), np.ones_like(a)
    if target == "edm":
        root = np.sqrt(_size(schedule))
        with np.errstate(divide="ignore", invalid="ignore"):
            p, q = sigma / (SIGMA_DATA * root), -a * SIGMA_DATA / root
        return p, q
    return {"eps": (zero, one), "x0": (one, zero), "v": (-sigma, a), "flow": (-one, one)}[target]


def _size(schedule: Schedule) -> np.ndarray:
    """The variance of x_t's pixels, if those of x0 have SIGMA_DATA²."""
    return np.square(schedule.signal * SIGMA_DATA) + np.square(schedule.noise)


def _all_columns(schedule: Schedule, xt: Any, t: Any, target: str, name: str) -> tuple[Any, ...]:
    """a, σ, p, q and d at t, to multiply images with."""
    tables = (schedule.beside("signal", _place(t)), schedule.beside("noise", _place(t)), *mixture(schedule, target, t))
    a, sigma, p, q = (column(table, t, xt, name, schedule) for table in tables)
    return a, sigma, p, q, q * a - p * sigma


def rates(schedule: Schedule, t: Any, like: Any, name: str) -> tuple[Any, Any]:
    """signal and noise at t, to multiply images of `like`'s shape with."""
    return tuple(column(schedule.beside(rate, _place(t)), t, like, name, schedule) for rate in ("signal", "noise"))  # type: ignore


def column(table: Array, t: Any, like: Any, name: str, schedule: Schedule) -> Any:
    """The table at t, one step or (N,), in the dtype, of the kind and on the device of images `like` (N,…). Raises BadInput."""
    t, shape = _place(t), like.shape
    if backend.dtype_of(t).kind not in "iu" or t.shape not in ((), shape[:1]):
        raise BadInput(f"{name}: t must be one step or {shape[0]}, as integers; got {t.dtype} of shape {t.shape}")
    if backend.can_look(t) and t.size and (t.min() < 0 or t.max() > schedule.T):
        raise BadInput(f"{name}: steps run 0 … {schedule.T}; got {t.min()} … {t.max()}")
    rate = table[t].reshape(t.shape + (1,) * (len(shape) - 1) if t.ndim else ())
    data = like.data if isinstance(like, Tensor) else like
    rate = backend.astype(backend.asarray(rate, like=data), backend.dtype_of(data))
    return Tensor(rate) if isinstance(like, Tensor) else rate


def _place(t: Any) -> Array:
    t = t.data if isinstance(t, Tensor) else t
    return t if backend.is_array(t) else np.asarray(t)


def _table(schedule: Schedule, name: str, t: Any, make: Any) -> Array:
    return schedule.beside(name, _place(t), make)
