"""How fast the picture drowns: what is left of it at each step, how much noise there is, and what follows from that."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, array_module
from ..errors import BadInput

SCHEDULES = ("linear", "rescaled-linear", "cosine", "sigmoid", "flow", "edm")
HEARD = 0.05  # of the signal may be left at T before sampling from pure noise starts somewhere else


@dataclass(frozen=True)
class Schedule:
    """A road from the picture to noise, in T steps:

        x_t = signal[t] x0 + noise[t] ε,      ε ~ N(0, 1),      signal[0] = 1,  noise[0] = 0

    All arrays are float64 of length T + 1. Where signal² + noise² = 1, x_t stays as large as the picture: "variance
    preserving", the road of Ho et al. (2020), with the names of their section 2

        alpha_bar[t] = signal[t]² = alpha[1] · … · alpha[t],      beta[t] = 1 − alpha[t]

    "flow" goes straight, signal = 1 − t/T and noise = t/T (Lipman et al. 2023, Liu et al. 2023); "edm" keeps the picture
    as it is and adds noise without end (Karras et al. 2022). Divided by √(signal² + noise²) each road is a variance
    preserving one: alpha_bar, the picture's part of the variance, and so alpha and beta, have a meaning on all of them.
    """

    name: str
    signal: np.ndarray
    noise: np.ndarray
    alpha_bar: np.ndarray
    config: dict[str, Any] = field(repr=False)
    _tables: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.signal) - 1

    @property
    def alpha(self) -> np.ndarray:
        """What one step leaves of alpha_bar; alpha[0] = 1."""
        return 1.0 - self.beta

    @property
    def beta(self) -> np.ndarray:
        """The noise variance of each step; beta[0] = 0."""
        return np.concatenate([[0.0], 1.0 - self.alpha_bar[1:] / self.alpha_bar[:-1]])

    @property
    def snr(self) -> np.ndarray:
        """Signal-to-noise ratio signal² / noise²; infinite at t = 0."""
        with np.errstate(divide="ignore"):
            return np.square(self.signal / self.noise)

    @property
    def log_snr(self) -> np.ndarray:
        """ln snr: +∞ at t = 0, and −∞ where nothing of the picture is left. On this scale schedules can be compared."""
        with np.errstate(divide="ignore"):
            return 2.0 * (np.log(self.signal) - np.log(self.noise))

    @property
    def is_variance_preserving(self) -> bool:
        """Whether signal² + noise² = 1 at every step."""
        return bool(np.allclose(self.signal**2 + self.noise**2, 1.0, rtol=0, atol=1e-9))

    def beside(self, name: str, like: Array, make: Any = None) -> Array:
        """A table over t, "signal" and "noise" or one that `make()` gives, float64, where `like` lies; taken there once."""
        key = name, array_module(like).__name__
        if key not in self._tables:
            self._tables[key] = backend.asarray(getattr(self, name) if make is None else make(), like=like)
        return self._tables[key]

    def report(self) -> str:
        """What is left at the end, how the signal-to-noise ratio falls, and whether noise is the right place to start from."""
        T, log_snr, start = self.T, self.log_snr, math.sqrt(self.alpha_bar[-1])
        lines = [
            f"schedule {self.name}, T = {T}: {'variance preserving' if self.is_variance_preserving else 'not variance preserving'}",
            f"signal at T: {start:.1%} of x_T" + ("" if self.is_variance_preserving else " in relation to its size"),
            f"alpha_bar at T: {self.alpha_bar[-1]:.3g}",
            "ln SNR at t = " + ", ".join(f"{t}: {log_snr[t]:+.1f}" for t in sorted({1, *(max(1, T * i // 4) for i in range(1, 5))})),
        ]
        if start > HEARD:
            lines.append(f"warning: x_T still has {start:.0%} of the picture, so samples that start from pure noise start off the"
                         " road; take more steps, rescaled-linear or cosine, or zero_terminal_snr=True")  # fmt: skip
        return "\n".join(lines)


def make_schedule(
    name: str = "linear", T: int = 100, beta_start: float = 1e-4, beta_end: float = 0.02, s: float = 0.008,
    start: float = -3.0, end: float = 3.0, tau: float = 1.0, sigma_min: float = 0.002, sigma_max: float = 80.0,
    rho: float = 7.0, zero_terminal_snr: bool = False,
) -> Schedule:  # fmt: skip
    """A noise schedule by name; `make_schedule(**schedule.config)` makes the same one again.

    linear            β from beta_start to beta_end in T even steps (Ho et al. 2020, made for T = 1000).
                      At T = 100 it leaves √ᾱ_T = 60 % of the picture.
    rescaled-linear   the same β times 1000/T, so that any T drowns the picture as T = 1000 does
    cosine            ᾱ_t = cos²((t/T + s)/(1 + s) · π/2), normalised to 1 at t = 0, β at most 0.999
                      (Nichol & Dhariwal 2021, eq. 17)
    sigmoid           ᾱ_t falls like 1 / (1 + e^{u/τ}), u from `start` to `end`, brought to 1 at t = 0 and 0 at T; β at
                      most 0.999 (Jabri et al. 2023, algorithm 2). Larger τ spends more steps on little noise.
    flow              x_t = (1 − t/T) x0 + t/T ε
    edm               x_t = x0 + σ_t ε, σ from sigma_min to sigma_max, evenly in σ^{1/ρ} (Karras et al. 2022, eq. 5)

    zero_terminal_snr   shift and scale the signal so that nothing of the picture is left at T, and as much as before at
                        t = 1 (Lin et al. 2023, algorithm 1). The network must not be asked for ε then.

    Raises BadInput for an unknown name, T < 1, or numbers that make no schedule. With T = 1 the only step is the noisiest one.
    """
    if name not in SCHEDULES:
        raise BadInput(f"schedule {name!r} is unknown; it is one of: {', '.join(SCHEDULES)}")
    if not (np.isfinite(T) and int(T) == T and T >= 1):
        raise BadInput(f"schedule: T must be a whole number of steps, 1 or more; got {T}")
    T = int(T)
    own: dict[str, Any] = {
        "linear": {"beta_start": beta_start, "beta_end": beta_end}, "rescaled-linear": {"beta_start": beta_start, "beta_end": beta_end},
        "cosine": {"s": s}, "sigmoid": {"start": start, "end": end, "tau": tau}, "flow": {},
        "edm": {"sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho},
    }[name]  # fmt: skip
    config = {"name": name, "T": T, **own}
    if name in ("flow", "edm"):
        if zero_terminal_snr:
            raise BadInput(f"schedule {name}: zero_terminal_snr is for the schedules made of β: {', '.join(SCHEDULES[:4])}")
        signal, noise = _flow(T) if name == "flow" else _edm(T, **own)
        alpha_bar = signal**2 / (signal**2 + noise**2)
    else:
        beta = _BETAS[name](T, **own)
        if not (np.isfinite(beta).all() and beta.min() > 0 and beta.max() < 1):
            raise BadInput(f"schedule {name}: every beta must lie between 0 and 1; these run {beta.min():g} … {beta.max():g}")
        alpha_bar = np.concatenate([[1.0], np.cumprod(1.0 - beta)])
        if zero_terminal_snr:
            alpha_bar, config["zero_terminal_snr"] = _to_zero(alpha_bar), True
        signal, noise = np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar)
    schedule = Schedule(name, signal, noise, alpha_bar, config)
    with np.errstate(invalid="ignore"):
        stays = np.flatnonzero(~(np.diff(schedule.log_snr) < 0))          # NaN where it is infinite twice
    if len(stays):
        t = int(stays[0])
        raise BadInput(f"schedule {name}: ln SNR must fall with every step; from t = {t} to {t + 1} of {T} it stays {schedule.log_snr[t]:g} in"
                       " float64. Take fewer steps, or numbers that are less extreme")  # fmt: skip
    return schedule


def _down_from(end: float, start: float, T: int) -> np.ndarray:
    """T numbers from start up to end, evenly spaced and counted from the end, so that a single step is the noisiest one."""
    return np.linspace(end, start, T)[::-1]


def _linear(T: int, beta_start: float, beta_end: float) -> np.ndarray:
    return _down_from(beta_end, beta_start, T)


def _rescaled_linear(T: int, beta_start: float, beta_end: float) -> np.ndarray:
    return np.minimum(1000.0 / T * _down_from(beta_end, beta_start, T), 0.999)


def _cosine(T: int, s: float) -> np.ndarray:
    return _betas_of(np.cos((np.arange(T + 1) / T + s) / (1 + s) * math.pi / 2) ** 2)


def _sigmoid(T: int, start: float, end: float, tau: float) -> np.ndarray:
    if not (start < end and tau > 0 and np.isfinite([start, end, tau]).all()):
        raise BadInput(f"schedule sigmoid: start must lie below end, and tau above 0; got {start}, {end} and {tau}")
    falling = 1.0 / (1.0 + np.exp(np.linspace(start, end, T + 1) / tau))
    return _betas_of((falling - falling[-1]) / (falling[0] - falling[-1]))


def _betas_of(alpha_bar: np.ndarray) -> np.ndarray:
    """β of a given ᾱ, at most 0.999, so that something is left for the last step to work with."""
    return np.clip(1.0 - alpha_bar[1:] / alpha_bar[:-1], None, 0.999)


_BETAS: dict[str, Any] = {"linear": _linear, "rescaled-linear": _rescaled_linear, "cosine": _cosine, "sigmoid": _sigmoid}


def _flow(T: int) -> tuple[np.ndarray, np.ndarray]:
    tau = np.arange(T + 1) / T
    return 1.0 - tau, tau


def _edm(T: int, sigma_min: float, sigma_max: float, rho: float) -> tuple[np.ndarray, np.ndarray]:
    if not (0 < sigma_min < sigma_max < math.inf and 0 < rho < math.inf):
        raise BadInput(f"schedule edm: 0 < sigma_min < sigma_max and rho > 0 are needed; got {sigma_min}, {sigma_max} and {rho}")
    sigma = _down_from(sigma_max ** (1 / rho), sigma_min ** (1 / rho), T) ** rho
    return np.ones(T + 1), np.concatenate([[0.0], sigma])


def _to_zero(alpha_bar: np.ndarray) -> np.ndarray:
    """ᾱ with √ᾱ shifted to 0 at T and scaled to what it was at t = 1."""
    root = np.sqrt(alpha_bar[1:])
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1])) if len(root) > 1 else np.zeros(1)
    return np.concatenate([[1.0], root**2])
