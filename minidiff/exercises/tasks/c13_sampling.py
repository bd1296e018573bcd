"""Chapter 13: one step from noise towards a picture."""

import numpy as np

from ... import diffusion
from ...diffusion import solvers
from ...diffusion.variance import step_back
from ..task import Task


def time_steps(T, steps):
    """The steps at which a sampler stops: steps + 1 whole numbers from T down to 0.            # -> list

        evenly spaced, each rounded to the nearest whole number (np.round); the first is T and the last is 0
    """
    return [int(t) for t in np.round(np.linspace(T, 0, steps + 1))]


def predict_x0(xt, eps, alpha_bar_t):
    """The picture that x_t holds, if its noise is ε̂.            # (…) (…) -> (…)

        x_t = √ᾱ_t x0 + √(1 − ᾱ_t) ε,    solved for x0
    """
    return (xt - np.sqrt(1 - alpha_bar_t) * eps) / np.sqrt(alpha_bar_t)


def posterior(xt, x0, alpha_bar_t, alpha_bar_s):
    """Where x_s was, s < t, if x_t and x0 are known: a normal number (Ho et al. 2020, eq. 7).            # (…) (…) -> mean (…), variance

        α = ᾱ_t/ᾱ_s,    β = 1 − α
        mean = (√ᾱ_s β x0 + √α (1 − ᾱ_s) x_t) / (1 − ᾱ_t),    variance = (1 − ᾱ_s)/(1 − ᾱ_t) β
    """
    alpha = alpha_bar_t / alpha_bar_s
    beta = 1 - alpha
    mean = (np.sqrt(alpha_bar_s) * beta * x0 + np.sqrt(alpha) * (1 - alpha_bar_s) * xt) / (1 - alpha_bar_t)
    return mean, (1 - alpha_bar_s) / (1 - alpha_bar_t) * beta


def ddim_step(xt, x0, alpha_bar_t, alpha_bar_s, eta, z):
    """A step of DDIM from x_t to x_s (Song et al. 2021, eq. 12 and 16).            # (…) (…) -> (…)

        ε̂ = (x_t − √ᾱ_t x0) / √(1 − ᾱ_t)
        σ = η √((1 − ᾱ_s)/(1 − ᾱ_t)) √(1 − ᾱ_t/ᾱ_s)
        x_s = √ᾱ_s x0 + √(1 − ᾱ_s − σ²) ε̂ + σ z

    η = 0 leaves nothing to chance, η = 1 is DDPM. `minidiff exercises swap ddim_step` samples with yours.
    """
    eps = (xt - np.sqrt(alpha_bar_t) * x0) / np.sqrt(1 - alpha_bar_t)
    sigma = eta * np.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s))
    return np.sqrt(alpha_bar_s) * x0 + np.sqrt(1 - alpha_bar_s - sigma**2) * eps + sigma * z


def _road(alpha_bar_t, alpha_bar_s):
    """A schedule of two steps: 1 is s, 2 is t."""
    alpha_bar = np.array([1.0, alpha_bar_s, alpha_bar_t])
    return diffusion.Schedule("", np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), alpha_bar, {})


def _posterior(xt, x0, alpha_bar_t, alpha_bar_s):
    c0, ct, small, _ = step_back(_road(alpha_bar_t, alpha_bar_s), 2, 1)
    return c0 * x0 + ct * xt, small


def _ddim(xt, x0, alpha_bar_t, alpha_bar_s, eta, z):
    return solvers.ddim_step(_road(alpha_bar_t, alpha_bar_s), xt, x0, 2, 1, lambda: z, eta)


def _pairs(rng, *levels):
    for shape, level in zip([(3,), (2, 1, 3, 3), (4, 2)], levels, strict=True):
        yield (*rng.standard_normal((3, *shape)), *level)


TASKS = [
    Task(
        time_steps, "Where to stop on the way", 13, "easy", 5,
        reference=diffusion.time_steps,
        cases=lambda rng: [(100, 10), (100, 7), (10, 10), (50, 1)],
        hints=(
            "K steps have K + 1 ends.",
            "np.linspace(T, 0, K + 1) gives them; some are not whole.",
            "[int(t) for t in np.round(np.linspace(T, 0, steps + 1))].",
        ),
        slips=[
            ("steps + 1", "steps", "K steps have K + 1 ends: there is one step too few"),
            ("np.round(np.linspace(T, 0, steps + 1))", "np.linspace(T, 0, steps + 1)", "int cuts off: the nearest whole number is wanted"),
            ("np.linspace(T, 0, steps + 1)", "np.linspace(T, 1, steps + 1)", "the way ends at 0; ending at 1 leaves the noise of the last step in the picture"),
            ("np.linspace(T, 0, steps + 1)", "np.linspace(0, T, steps + 1)", "the way goes from T down to 0"),
        ],
    ),
    Task(
        predict_x0, "The picture behind the noise", 13, "easy", 5,
        reference=lambda xt, eps, a: diffusion.predict_x0(_road(a, 1.0), xt, 2, eps, "eps"),
        cases=lambda rng: [(xt, eps, a) for xt, eps, _, a in _pairs(rng, (0.9,), (0.5,), (0.02,))],
        hints=("Take the noise away, then undo the shrinking.", "x_t − √(1 − ᾱ) ε̂ is √ᾱ x0.", "(xt − np.sqrt(1 − alpha_bar_t) * eps) / np.sqrt(alpha_bar_t)."),
        slips=[
            (") / np.sqrt(alpha_bar_t)", ")", "the picture is still shrunk by √ᾱ_t: divide by it"),
            (") / np.sqrt(alpha_bar_t)", ") / alpha_bar_t", "divide by the root of ᾱ_t"),
            ("(xt - np.sqrt", "(xt + np.sqrt", "the noise is to be taken away, not added"),
            ("np.sqrt(1 - alpha_bar_t) * eps", "eps", "the noise in x_t has the size √(1 − ᾱ_t)"),
        ],
    ),
    Task(
        posterior, "Where it came from", 13, "medium", 15,
        reference=_posterior, outputs=("mean", "variance"),
        cases=lambda rng: [(xt, x0, a, b) for xt, x0, _, a, b in _pairs(rng, (0.5, 0.6), (0.1, 0.4), (0.8, 1.0))],
        hints=(
            "α is what the one step from s to t leaves; with ᾱ_s = 1 everything must end at x0.",
            "Write α and β first. Then the mean is two products over 1 − ᾱ_t.",
            "mean = (np.sqrt(alpha_bar_s) * beta * x0 + np.sqrt(alpha) * (1 − alpha_bar_s) * xt) / (1 − alpha_bar_t).",
        ),
        slips=[
            ("np.sqrt(alpha_bar_s) * beta * x0 + np.sqrt(alpha) * (1 - alpha_bar_s) * xt", "np.sqrt(alpha_bar_s) * beta * xt + np.sqrt(alpha) * (1 - alpha_bar_s) * x0", "x0 and x_t are exchanged in the mean"),
            ("return mean, (1 - alpha_bar_s) / (1 - alpha_bar_t) * beta", "return mean, beta", "this is the large variance, β, of one who does not know x0: (1 − ᾱ_s)/(1 − ᾱ_t) is missing"),
            ("return mean, (1 - alpha_bar_s) / (1 - alpha_bar_t) * beta", "return mean, np.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t) * beta)", "this is the deviation; the variance is its square"),
            ("alpha = alpha_bar_t / alpha_bar_s", "alpha = alpha_bar_t", "α is what this one step leaves, ᾱ_t/ᾱ_s; ᾱ_t is what all steps leave"),
            ("np.sqrt(alpha) * (1 - alpha_bar_s)", "alpha * (1 - alpha_bar_s)", "x_t counts √α, not α"),
        ],
    ),
    Task(
        ddim_step, "A step of DDIM", 13, "medium", 15,
        reference=_ddim,
        cases=lambda rng: [(xt, x0, a, b, eta, z) for xt, x0, z, a, b, eta in _pairs(rng, (0.5, 0.6, 0.0), (0.1, 0.4, 0.7), (0.8, 1.0, 1.0))],
        hints=(
            "The same picture with less noise. The noise is the one in x_t, of which a part σ may be made anew.",
            "ε̂ from x_t and x0 first, then σ, then the sum of three parts. Their variances add up to 1 − ᾱ_s.",
            "np.sqrt(alpha_bar_s) * x0 + np.sqrt(1 − alpha_bar_s − sigma**2) * eps + sigma * z.",
        ),
        slips=[
            ("np.sqrt(1 - alpha_bar_s - sigma**2)", "np.sqrt(1 - alpha_bar_s)", "what is made anew must be taken from the old noise: −σ² under the root is missing"),
            ("np.sqrt(alpha_bar_s) * x0 + np.sqrt(1 - alpha_bar_s - sigma**2) * eps", "np.sqrt(alpha_bar_t) * x0 + np.sqrt(1 - alpha_bar_t - sigma**2) * eps", "x_s is made with ᾱ_s: this puts it together as x_t was"),
            ("eps = (xt - np.sqrt(alpha_bar_t) * x0) / np.sqrt(1 - alpha_bar_t)", "eps = xt - np.sqrt(alpha_bar_t) * x0", "ε̂ has size 1: divide by √(1 − ᾱ_t)"),
            (" + sigma * z", "", "the fresh noise σ z is missing"),
            ("(1 - alpha_bar_s) / (1 - alpha_bar_t) *", "(1 - alpha_bar_t) / (1 - alpha_bar_s + 1e-300) *", "the ratio in σ is upside down"),
        ],
    ),
]  # fmt: skip
