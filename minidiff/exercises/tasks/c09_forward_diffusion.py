"""Chapter 9: how fast the picture drowns."""

import numpy as np

from ... import diffusion
from ..task import Task


def alpha_bar_of(beta):
    """What T steps leave of the picture's variance, from the steps' noise β.            # (T,) -> (T + 1,)

        ᾱ_0 = 1,    ᾱ_t = (1 − β_1) · … · (1 − β_t)

    beta[0] is β_1. ᾱ_0 = 1 is stored too, so that no formula needs a special case at its end.
    """
    return np.concatenate([[1.0], np.cumprod(1 - beta)])


def q_sample(x0, t, eps, alpha_bar):
    """Noisy pictures in one go.            # (N,…) (N,) (N,…) (T + 1,) -> (N,…)

        x_t = √ᾱ_t x0 + √(1 − ᾱ_t) ε            a t for every sample
    """
    a = alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))
    return np.sqrt(a) * x0 + np.sqrt(1 - a) * eps


def cosine_beta(T, s):
    """The cosine schedule (Nichol & Dhariwal 2021, eq. 17).            # -> (T,)

        f(t) = cos²((t/T + s)/(1 + s) · π/2),    ᾱ_t = f(t)/f(0),    β_t = 1 − ᾱ_t/ᾱ_{t−1}, at most 0.999

    for t = 1 … T. Without the bound the last step would leave nothing for the one before it to work with.
    """
    f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


def log_snr(alpha_bar):
    """ln of the signal-to-noise ratio, ln(ᾱ_t / (1 − ᾱ_t)), for t = 1 … T.            # (T + 1,) -> (T,)

    On this scale schedules can be compared. At t = 0 there is no noise, and the ratio is infinite: it is left out.
    """
    a = alpha_bar[1:]
    return np.log(a / (1 - a))


def _road(name, T):
    return diffusion.make_schedule(name, T=T)


def _q_sample(x0, t, eps, alpha_bar):
    signal = np.sqrt(alpha_bar)
    road = diffusion.Schedule("", signal, np.sqrt(1 - alpha_bar), alpha_bar, {})
    return diffusion.q_sample(road, x0, t, eps)


def _q_cases(rng):
    for shape, T in [((3, 2), 10), ((4, 1, 3, 3), 100), ((2, 2, 2), 5)]:
        x0, eps = rng.standard_normal((2, *shape))
        yield x0, rng.integers(0, T + 1, shape[0]), eps, _road("cosine", T).alpha_bar


def _running_product(beta):
    kept, rows = 1.0, [1.0]
    for b in beta:
        kept *= 1.0 - float(b)
        rows.append(kept)
    return np.array(rows)


TASKS = [
    Task(
        alpha_bar_of, "What is left of the picture", 9, "easy", 5,
        reference=_running_product,
        cases=lambda rng: [(_road("linear", 100).beta[1:],), (rng.uniform(0.01, 0.5, 7),), (np.array([0.25]),)],
        hints=(
            "Each step leaves the part 1 − β of what was there before it.",
            "ᾱ is the running product of 1 − β, with a 1 in front.",
            "np.cumprod is the running product; np.concatenate([[1.0], …]) puts the 1 in front.",
        ),
        slips=[
            ("np.concatenate([[1.0], np.cumprod(1 - beta)])", "np.cumprod(1 - beta)", "ᾱ_0 = 1 is missing, so that everything stands one step too early"),
            ("np.cumprod(1 - beta)", "np.cumprod(beta)", "what a step leaves is 1 − β; β is the noise"),
            ("np.cumprod(1 - beta)", "1 - np.cumsum(beta)", "the parts that are left multiply; they do not add up"),
            ("np.cumprod(1 - beta)", "np.cumprod(np.sqrt(1 - beta))", "this is √ᾱ, the picture's size; ᾱ is that of its variance"),
        ],
    ),
    Task(
        q_sample, "Noise in one go", 9, "easy", 10,
        reference=_q_sample, cases=_q_cases,
        hints=(
            "Take ᾱ at each sample's own step, and let it multiply the whole of that sample.",
            "alpha_bar[t] is (N,). To multiply (N,C,H,W) it must be (N,1,1,1).",
            "a = alpha_bar[t].reshape(−1, *[1] * (x0.ndim − 1)); np.sqrt(a) * x0 + np.sqrt(1 − a) * eps.",
        ),
        slips=[
            ("np.sqrt(a) * x0 + np.sqrt(1 - a) * eps", "a * x0 + (1 - a) * eps", "the roots are missing: variances add up to 1, not sizes"),
            ("alpha_bar[t]", "alpha_bar[t - 1]", "ᾱ_0 = 1 is stored, so ᾱ_t is alpha_bar[t], not alpha_bar[t − 1]"),
            ("np.sqrt(a) * x0 + np.sqrt(1 - a) * eps", "np.sqrt(1 - a) * x0 + np.sqrt(a) * eps", "picture and noise are exchanged: at t = 0 there is only the picture"),
            ("np.sqrt(1 - a) * eps", "(1 - np.sqrt(a)) * eps", "it is √(1 − ᾱ), not 1 − √ᾱ"),
            ("alpha_bar[t].reshape(-1", "alpha_bar[np.full_like(t, t[0])].reshape(-1", "every sample has a step of its own, and all got that of the first"),
        ],
    ),
    Task(
        cosine_beta, "The cosine schedule", 9, "medium", 10,
        reference=lambda T, s: diffusion.make_schedule("cosine", T=T, s=s).beta[1:], tolerance=1e-9,
        cases=lambda rng: [(100, 0.008), (10, 0.008), (7, 0.1)],
        hints=(
            "Compute f at all T + 1 places 0 … T first; β is made of neighbours.",
            "f(0) cancels: β_t = 1 − f(t)/f(t − 1).",
            "f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2, then np.minimum(1 − f[1:] / f[:-1], 0.999).",
        ),
        slips=[
            ("np.minimum(1 - f[1:] / f[:-1], 0.999)", "1 - f[1:] / f[:-1]", "β must stay at 0.999 at most, or the last step leaves nothing"),
            (" * np.pi / 2) ** 2", " * np.pi / 2)", "the cosine is to be squared"),
            ("(np.arange(T + 1) / T + s) / (1 + s)", "np.arange(T + 1) / T", "s is left out: it keeps the first steps from being too small to see"),
            ("1 - f[1:] / f[:-1]", "1 - f[1:] / f[0]", "β_t is made of ᾱ_t and ᾱ_{t−1}; with ᾱ_0 it is 1 − ᾱ_t"),
        ],
    ),
    Task(
        log_snr, "Signal and noise", 9, "easy", 5,
        reference=lambda alpha_bar: diffusion.Schedule("", np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), alpha_bar, {}).log_snr[1:],
        cases=lambda rng: [(_road("cosine", 20).alpha_bar,), (_road("linear", 100).alpha_bar,)], tolerance=1e-8,
        hints=(
            "The ratio is that of variances, of the picture and of the noise.",
            "The picture's variance is ᾱ, the noise's 1 − ᾱ.",
            "a = alpha_bar[1:], and np.log(a / (1 − a)).",
        ),
        slips=[
            ("np.log(a / (1 - a))", "np.log(np.sqrt(a / (1 - a)))", "this is half of it: the ratio is that of the variances, not of the sizes"),
            ("np.log(a / (1 - a))", "np.log((1 - a) / a)", "it is noise to signal: upside down"),
            ("np.log(a / (1 - a))", "np.log10(a / (1 - a))", "the natural logarithm is meant"),
            ("np.log(a / (1 - a))", "a / (1 - a)", "the logarithm is missing"),
        ],
    ),
]  # fmt: skip
