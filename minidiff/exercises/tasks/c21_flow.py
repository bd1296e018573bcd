"""Chapter 21: the straight road."""

import numpy as np

from ... import diffusion
from ..task import Task


def flow_pair(x0, eps, tau):
    """A place on the straight road and the velocity there.            # (N,…) (N,…) (N,) -> x (N,…), velocity (N,…)

        x = (1 − τ) x0 + τ ε,    dx/dτ = ε − x0            a τ from [0,1] for every sample

    τ = 0 is the picture and τ = 1 the noise. The velocity is what the network is to say about x and τ.
    """
    tau = tau.reshape(-1, *[1] * (x0.ndim - 1))
    return (1 - tau) * x0 + tau * eps, eps - x0


def flow_sample(velocity, x, steps):
    """From noise to a picture in even steps of Euler's method: from τ = 1 to τ = 0.            # (…) -> (…)

        h = 1/steps,    x ← x − h velocity(x, τ),    τ ← τ − h            first with τ = 1, last with τ = h

    The velocity leads to the noise, and the walk goes the other way.
    """
    h = 1 / steps
    for k in range(steps):
        x = x - h * velocity(x, 1 - k * h)
    return x


def _pair(x0, eps, tau):
    road, t = diffusion.make_schedule("flow", T=20), np.round(20 * tau).astype(int)
    return diffusion.q_sample(road, x0, t, eps), diffusion.training_target(road, x0, t, eps, "flow")


def _steady(x, tau):
    """velocity = 2"""
    return np.full_like(x, 2.0)


def _growth(x, tau):
    """velocity = x"""
    return x


def _clock(x, tau):
    """velocity = τ"""
    return np.full_like(x, tau)


def _both(x, tau):
    """velocity = x + τ"""
    return x + tau


def _walk(velocity, x, steps):
    """In closed form."""
    if velocity is _both:
        k, left = np.arange(steps), 1 - 1 / steps
        return left**steps * x - ((1 - k / steps) * left ** (steps - 1 - k)).sum() / steps
    if velocity is _steady:
        return x - 2.0
    return x * (1 - 1 / steps) ** steps if velocity is _growth else x - (steps + 1) / (2 * steps)


TASKS = [
    Task(
        flow_pair, "The straight road", 21, "easy", 5,
        reference=_pair, outputs=("x", "velocity"),
        cases=lambda rng: [(*rng.standard_normal((2, *shape)), rng.integers(0, 21, shape[0]) / 20) for shape in [(3,), (4, 2), (2, 1, 2, 3)]],
        hints=("Each sample has its own τ for all of its numbers.", "Give τ as many axes as x0 has. The velocity does not depend on it.", "tau = tau.reshape(−1, *[1] * (x0.ndim − 1)); (1 − tau) * x0 + tau * eps, eps − x0."),
        slips=[
            ("eps - x0", "x0 - eps", "the velocity is dx/dτ, and τ grows towards the noise: ε − x0"),
            ("(1 - tau) * x0 + tau * eps", "tau * x0 + (1 - tau) * eps", "τ = 0 is the picture here, and τ = 1 the noise"),
            ("(1 - tau) * x0 + tau * eps", "np.sqrt(1 - tau) * x0 + np.sqrt(tau) * eps", "no roots: the road is straight, and does not keep the variance"),
            ("tau * eps, eps - x0", "tau * eps, ((1 - tau) * x0 + tau * eps) - x0", "this is the way gone so far, τ (ε − x0); the velocity is ε − x0 everywhere"),
        ],
    ),
    Task(
        flow_sample, "Down the straight road", 21, "easy", 10,
        reference=_walk,
        cases=lambda rng: [(_steady, rng.standard_normal(3), 4), (_growth, rng.standard_normal((2, 2)), 3), (_clock, rng.standard_normal(2), 5), (_both, rng.standard_normal(2), 3)],
        hints=("Ask, then go a step back along the answer.", "The k-th step, k = 0, 1, …, asks at τ = 1 − k h.", "for k in range(steps): x = x − h * velocity(x, 1 − k * h)."),
        slips=[
            ("x = x - h * velocity", "x = x + h * velocity", "the velocity leads to the noise: go against it"),
            ("1 - k * h", "k * h", "τ begins at 1, in the noise"),
            ("1 - k * h", "1 - (k + 1) * h", "the velocity is asked where the step begins, not where it ends"),
            ("range(steps)", "range(steps - 1)", "one step is missing: the walk ends at τ = h, with noise in the picture"),
            ("h = 1 / steps", "h = 1 / (steps + 1)", "there are `steps` steps from 1 to 0, each 1/steps long"),
        ],
    ),
]  # fmt: skip
