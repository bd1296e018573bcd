"""Chapter 19: more from each question to the network."""

import numpy as np

from ... import diffusion
from ...diffusion.solvers import Answer, DPMSolverPlusPlus
from ..task import Task


def heun_step(slope, z, S_t, S_s):
    """A step of Heun's method from S_t to S_s along dz/dS = slope(z, S).            # (…) -> (…)

        h = S_s − S_t,    k₁ = slope(z, S_t),    k₂ = slope(z + h k₁, S_s),    z_s = z + h (k₁ + k₂)/2

    A step along the slope here, and again along the mean of the slopes here and there: twice the steps, a quarter of the error.
    """
    h = S_s - S_t
    k1 = slope(z, S_t)
    k2 = slope(z + h * k1, S_s)
    return z + 0.5 * h * (k1 + k2)


def dpm_step(xt, x0, before, rates_t, rates_s, rates_before):
    """A step of DPM-Solver++ (2M) from x_t to x_s (Lu et al. 2022).            # (…) (…) (…) -> (…)

    x0 is the network's guess at t, `before` the one of the step before; rates are pairs (a, σ) at t, s, and where `before` was made.

        λ = ln(a/σ),    h = λ_s − λ_t,    h' = λ_t − λ_before
        D = x̂0 + (h/2h') (x̂0 − before)
        x_s = (σ_s/σ_t) x_t + (a_s − a_t σ_s/σ_t) D

    D is where the guess will be in the middle of the step, if it goes on as it went.
    """
    (a_t, sigma_t), (a_s, sigma_s), (a_b, sigma_b) = rates_t, rates_s, rates_before
    h, h_before = np.log(a_s / sigma_s) - np.log(a_t / sigma_t), np.log(a_t / sigma_t) - np.log(a_b / sigma_b)
    d = x0 + h / (2 * h_before) * (x0 - before)
    ratio = sigma_s / sigma_t
    return ratio * xt + (a_s - a_t * ratio) * d


def _decay(z, S):
    """slope = −2 z"""
    return -2.0 * z


def _clock(z, S):
    """slope = 3 S"""
    return np.full_like(z, 3.0 * S)


def _both(z, S):
    """slope = S z"""
    return S * z


def _heun(slope, z, S_t, S_s):
    """What the method gives in closed form."""
    h = S_s - S_t
    if slope is _decay:
        return z * (1 - 2 * h + 2 * h * h)
    if slope is _clock:
        return z + 1.5 * (S_s**2 - S_t**2)
    return z * (1 + 0.5 * h * (S_t + S_s + h * S_t * S_s))


def _dpm(xt, x0, before, rates_t, rates_s, rates_before):
    signal, noise = np.array([(1.0, 0.0), (1.0, 1e-3), rates_s, rates_t, rates_before]).T
    guesses = iter([before, x0])
    road = diffusion.Schedule("", signal, noise, signal**2, {})
    solver = DPMSolverPlusPlus(road, lambda x, t: Answer(next(guesses), None), lambda: None, 2)
    solver.step(xt, 4, 3)
    return solver.step(xt, 3, 2)[0]


def _dpm_cases(rng):
    for shape, angles in [((3,), (0.6, 0.4, 1.0)), ((2, 1, 2, 2), (1.2, 0.3, 1.4)), ((4,), (0.5, 0.45, 0.7))]:
        yield (*rng.standard_normal((3, *shape)), *((float(np.cos(u)), float(np.sin(u))) for u in angles))


TASKS = [
    Task(
        heun_step, "Look before you step", 19, "easy", 10,
        reference=_heun,
        cases=lambda rng: [(_decay, rng.standard_normal(3), 1.0, 0.7), (_clock, rng.standard_normal((2, 2)), 0.8, 0.5), (_both, rng.standard_normal(3), 2.0, 1.2)],
        hints=("Take a step, look at the slope there, and come back.", "The second slope is that at the end of the trial step, z + h k₁, and at S_s.", "k2 = slope(z + h * k1, S_s); z + 0.5 * h * (k1 + k2)."),
        slips=[
            ("return z + 0.5 * h * (k1 + k2)", "return z + h * k1", "this is Euler's method: the second slope is missing"),
            ("return z + 0.5 * h * (k1 + k2)", "return z + h * (k1 + k2)", "the mean of the two slopes is wanted, not their sum"),
            ("slope(z + h * k1, S_s)", "slope(z, S_s)", "the second slope is that at z + h k₁, where the first one leads"),
            ("slope(z + h * k1, S_s)", "slope(z + h * k1, S_t)", "the second slope is that at S_s"),
            ("h = S_s - S_t", "h = S_t - S_s", "h is S_s − S_t, and so negative on the way down"),
            ("    k2 = slope(z + h * k1, S_s)\n    return z + 0.5 * h * (k1 + k2)", "    return z + h * slope(z + 0.5 * h * k1, 0.5 * (S_t + S_s))", "this is the midpoint method: Heun's second slope is that at the end of the step"),
        ],
    ),
    Task(
        dpm_step, "Remember the last answer", 19, "hard", 20,
        reference=_dpm, cases=_dpm_cases,
        hints=(
            "With D = x̂0 it is DDIM. What is new is only D: a straight line through two guesses, read further on.",
            "The two guesses lie h' apart on the scale λ, and the middle of the step is h/2 away from the last one.",
            "d = x0 + h / (2 * h_before) * (x0 − before); ratio = sigma_s / sigma_t; ratio * xt + (a_s − a_t * ratio) * d.",
        ),
        slips=[
            ("d = x0 + h / (2 * h_before) * (x0 - before)", "d = x0", "this is DDIM: the answer before is not used"),
            ("h / (2 * h_before)", "h_before / (2 * h)", "h and h' are exchanged"),
            ("h / (2 * h_before)", "h / h_before", "half a step on: the 2 is missing"),
            ("(x0 - before)", "(before - x0)", "the line goes from the answer before through this one, and on; here it goes back"),
            ("np.log(a_s / sigma_s) - np.log(a_t / sigma_t), np.log(a_t / sigma_t) - np.log(a_b / sigma_b)", "a_s - a_t, a_t - a_b", "steps are measured in λ = ln(a/σ)"),
            ("(a_s - a_t * ratio)", "(a_s - a_t)", "x_t still holds a_t x̂0, and σ_s/σ_t of it comes along: a_s − a_t σ_s/σ_t"),
        ],
    ),
]  # fmt: skip
