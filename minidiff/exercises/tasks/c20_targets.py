"""Chapter 20: what the network may be asked, and what each step counts."""

import numpy as np

from ... import diffusion
from ..task import Task


def from_v(xt, v, signal, noise):
    """The picture and the noise, from x_t and the network's answer v (Salimans & Ho 2022).            # (…) (…) -> x0 (…), eps (…)

        x_t = a x0 + σ ε,    v = a ε − σ x0,    a² + σ² = 1            a = signal, σ = noise

    Two equations, two unknowns: v is x_t turned by 90 degrees.
    """
    return signal * xt - noise * v, noise * xt + signal * v


def min_snr_weight(alpha_bar, gamma):
    """How much an error of ε̂ counts at t = 1 … T, so that no step pulls harder than γ (Hang et al. 2023).            # (T + 1,) -> (T,)

        snr_t = ᾱ_t/(1 − ᾱ_t),    an error of x̂0 counts min(snr_t, γ)

    An error of ε̂ is one of x̂0 times √snr_t, so squared it is snr_t times as large: the weight of ε's is min(snr_t, γ)/snr_t.
    """
    snr = alpha_bar[1:] / (1 - alpha_bar[1:])
    return np.minimum(snr, gamma) / snr


def _road(signal, noise):
    signal, noise = np.array([1.0, signal]), np.array([0.0, noise])
    return diffusion.Schedule("", signal, noise, signal**2, {})


def _from_v(xt, v, signal, noise):
    road = _road(signal, noise)
    return diffusion.predict_x0(road, xt, 1, v, "v"), diffusion.predict_eps(road, xt, 1, v, "v")


def _weight(alpha_bar, gamma):
    road = diffusion.Schedule("", np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), alpha_bar, {})
    t = np.arange(1, len(alpha_bar))
    return diffusion.loss_weight(road, t, np.zeros((len(t), 1)), "min-snr", "eps")[:, 0]


TASKS = [
    Task(
        from_v, "One answer, two languages", 20, "medium", 10,
        reference=_from_v, outputs=("x0", "eps"),
        cases=lambda rng: [(*rng.standard_normal((2, *shape)), float(np.cos(u)), float(np.sin(u))) for shape, u in [((3,), 0.3), ((2, 1, 2, 2), 1.2), ((4,), 1.5)]],
        hints=("Multiply the first equation by a and the second by σ, and look at their difference.", "a x_t − σ v = (a² + σ²) x0, and the bracket is 1. For ε, the other way round.", "signal * xt − noise * v, noise * xt + signal * v."),
        slips=[
            ("signal * xt - noise * v, noise * xt + signal * v", "signal * xt + noise * v, noise * xt - signal * v", "the signs of v are the other way round: x0 = a x_t − σ v"),
            ("signal * xt - noise * v, noise * xt + signal * v", "(xt - noise * v) / signal, v", "v is taken for the noise: this is the way back from ε̂"),
            ("return signal * xt - noise * v, noise * xt + signal * v", "return noise * xt + signal * v, signal * xt - noise * v", "x0 and ε are exchanged"),
            ("signal * xt - noise * v, noise", "noise * xt - signal * v, noise", "a and σ are exchanged in x0"),
        ],
    ),
    Task(
        min_snr_weight, "What a step counts", 20, "medium", 10,
        reference=_weight,
        cases=lambda rng: [(diffusion.make_schedule(name, T=T).alpha_bar, 5.0) for name, T in [("cosine", 20), ("linear", 50)]],
        hints=("Where there is little noise, snr is large, and the weight of ε's error becomes small.", "min(snr, γ)/snr is 1 where snr is below γ, and γ/snr above.", "snr = alpha_bar[1:] / (1 − alpha_bar[1:]); np.minimum(snr, gamma) / snr."),
        slips=[
            ("np.minimum(snr, gamma) / snr", "np.minimum(snr, gamma)", "this is the weight of x̂0's errors: ε's are larger, divide by snr"),
            ("np.minimum(snr, gamma)", "np.maximum(snr, gamma)", "no step may pull harder than γ: the smaller of both"),
            ("np.minimum(snr, gamma) / snr", "np.minimum(1, snr / gamma)", "it is upside down: little noise is to count less, not more"),
            ("alpha_bar[1:] / (1 - alpha_bar[1:])", "np.sqrt(alpha_bar[1:] / (1 - alpha_bar[1:]))", "snr is the ratio of variances, without a root"),
        ],
    ),
]  # fmt: skip
