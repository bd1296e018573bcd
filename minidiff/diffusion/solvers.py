"""One step of each sampler: from x_t to a less noisy x_s.

Each asks the network for x̂0 and ε̂ (two names for one answer: x_t = a x̂0 + σ ε̂) and puts x_s together from them:

    sampler    asks   chance   order   source
    ddpm       1      yes              Ho et al. 2020, algorithm 2; any s < t
    ddim       1      η        1       Song et al. 2021, eq. 12; η = 0 leaves nothing to chance, η = 1 is ddpm
    euler      1      no       1       on the straight road, for flows; on any road the same step as ddim with η = 0
    midpoint   2      no       2       the slope half way, along the straight path; one evaluation in the step from 1 to 0
    heun       2      churn    2       Karras et al. 2022, algorithms 1 and 2; one evaluation in the last step
    dpm++      1      no       2       DPM-Solver++ (2M), Lu et al. 2022: remembers the answer before

The order says how the error falls with the number of steps: K times as many, K^order times less error.

Noise-free samplers follow the curve of the probability-flow equation (Song et al. 2021b, eq. 13), which looks simple in the
right coordinates. Divide x by c: z = x / c = A x0 + S ε. As a function of S,

    dz/dS = ε̂ + k x̂0        c = a:      A = 1,      S = σ/a,         k = 0       (Karras et al.'s σ)
                             c = a + σ:  A = 1 − S,  S = σ/(a + σ),   k = −1      (the straight road: S runs from 0 to 1)

In the first S is infinite where nothing of the picture is left; the second has no such place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..backend import Array, array_module
from .forward import q_onward
from .schedules import Schedule
from .variance import between_variances, step_back


class Answer(NamedTuple):
    """What the network says about x_t."""

    x0: Array
    eps: Array
    v: Array | None = None                    # where between the small and the large variance, if it has learned that


Ask = Callable[[Array, int], Answer]


class Solver:
    """A sampler's way of making one step.

    ask      the network, with guidance and clipping: ask(x_t, t) -> Answer
    draw     fresh standard normal numbers of x_t's shape
    steps    how many there will be
    """

    evaluations = 1                           # of the network in a step, at most

    def __init__(self, schedule: Schedule, ask: Ask, draw: Callable[[], Array], steps: int, eta: float = 0.0, churn: float = 0.0,
                 variance: str = "small") -> None:  # fmt: skip
        self.schedule, self.ask, self.draw, self.steps = schedule, ask, draw, steps
        self.eta, self.churn, self.variance = eta, churn, variance

    def step(self, xt: Array, t: int, s: int) -> tuple[Array, Array]:
        """x_s, and the x̂0 that it was made from."""
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def forget(self) -> None:
        """The next step will not begin where the last one ended."""

    def rates(self, t: int) -> tuple[float, float]:
        """a and σ as Python numbers, which promote nothing."""
        return float(self.schedule.signal[t]), float(self.schedule.noise[t])


def ddpm_step(
    schedule: Schedule, xt: Array, x0_hat: Array, t: int, s: int, draw: Callable[[], Array], variance: str = "small",
    v: Array | None = None,
) -> Array:  # fmt: skip
    """x_s drawn from q(x_s | x_t, x̂0), s < t            (Ho et al. 2020, eq. 6–7; see `variance`)

        α = ᾱ_t / ᾱ_s,   β = 1 − α                          one step from s to t, on a variance preserving road
        mean = (√ᾱ_s β x̂0 + √α (1 − ᾱ_s) x_t) / (1 − ᾱ_t)
        variance = (1 − ᾱ_s) / (1 − ᾱ_t) β

    At s = 0, ᾱ_s = 1: the variance is 0 and the mean is x̂0. The last step adds no noise, whichever variance is chosen.
    """
    c0, ct, small, large = map(float, step_back(schedule, t, s))     # a NumPy float64 would promote x_t
    mean = c0 * x0_hat + ct * xt
    if s == 0:
        return mean
    if variance == "learned":
        return mean + array_module(xt).exp(0.5 * between_variances(v, small, large)) * draw()
    return mean + math.sqrt(small if variance == "small" else large) * draw()


def ddim_step(
    schedule: Schedule, xt: Array, x0_hat: Array, t: int, s: int, draw: Callable[[], Array], eta: float, eps: Array | None = None
) -> Array:
    """x_s = √ᾱ_s x̂0 + √(1 − ᾱ_s − σ²) ε̂ + σ z            (Song et al. 2021, eq. 12 and 16)

        ε̂ = (x_t − √ᾱ_t x̂0) / √(1 − ᾱ_t)
        σ = η √((1 − ᾱ_s) / (1 − ᾱ_t)) √(1 − ᾱ_t / ᾱ_s)      η times the deviation of `ddpm_step`

    η = 0 is deterministic, η = 1 is DDPM. ε̂ is taken from x̂0 unless given, so that clipping x̂0 clips both.
    """
    (a_t, sigma_t), (a_s, sigma_s) = ((float(schedule.signal[i]), float(schedule.noise[i])) for i in (t, s))
    eps = (xt - a_t * x0_hat) / sigma_t if eps is None else eps
    variance = eta**2 * float(step_back(schedule, t, s)[2])
    xs = a_s * x0_hat + math.sqrt(max(0.0, sigma_s**2 - variance)) * eps
    return xs + math.sqrt(variance) * draw() if variance else xs


class DDPM(Solver):
    """x_s drawn from where it may have been, if x̂0 is the picture; see `ddpm_step`."""

    def step(self, xt: Array, t: int, s: int) -> tuple[Array, Array]:
        x0, _, v = self.ask(xt, t)
        return ddpm_step(self.schedule, xt, x0, t, s, self.draw, self.variance, v), x0


class DDIM(Solver):
    """x_s from the same picture and the same noise, of which a part η is made anew; see `ddim_step`."""

    def step(self, xt: Array, t: int, s: int) -> tuple[Array, Array]:
        x0, eps, _ = self.ask(xt, t)
        return ddim_step(self.schedule, xt, x0, t, s, self.draw, self.eta, eps), x0


class DPMSolverPlusPlus(Solver):
    """x_s = (σ_s/σ_t) x_t + (a_s − a_t σ_s/σ_t) D,   D = x̂0 + (h / 2h') (x̂0 − x̂0 of the step before)

    h and h' are this step's and the last one's length in λ = ln(a/σ). D is x̂0 itself in the first step, in the last, and
    after a step from where nothing of the picture is left, whose length is infinite.
    """

    before: tuple[Array, float] | None = None

    def forget(self) -> None:
        """The answer before is of another place: the walk went back up."""
        self.before = None

    def step(self, xt: Array, t: int, s: int) -> tuple[Array, Array]:
        x0 = self.ask(xt, t).x0
        (a_t, sigma_t), (a_s, sigma_s) = self.rates(t), self.rates(s)
        d, ratio = x0, sigma_s / sigma_t
        if s > 0:
            h = 0.5 * float(self.schedule.log_snr[s] - self.schedule.log_snr[t])
            if self.before is not None and math.isfinite(self.before[1]):
                d = x0 + (0.5 * h / self.before[1]) * (x0 - self.before[0])
            self.before = x0, h
        return ratio * xt + (a_s - a_t * ratio) * d, x0


class _Curve(Solver):
    """What follows the noise-free curve in the coordinates above."""

    straight = True

    def place(self, t: int) -> tuple[float, float]:
        """c and S at step t."""
        a, sigma = self.rates(t)
        c = a + sigma if self.straight else a
        return c, sigma / c

    def slope(self, answer: Answer) -> Array:
        """dz/dS"""
        return answer.eps - answer.x0 if self.straight else answer.eps


class Euler(_Curve):
    """z_s = z_t + (S_s − S_t) dz/dS"""

    def step(self, xt: Array, t: int, s: int) -> tuple[Array, Array]:
        answer, (c_t, S_t), (c_s, S_s) = self.ask(xt, t), self.place(t), self.place(s)
        return c_s * (xt / c_t + (S_s - S_t) * self.slope(answer)), answer.x0


class Midpoint(_Curve):
    """The slope of a step half as long decides. Half as long in whole steps, to m, so it counts w times, and the first slope 1 − w:
    w = (S_s − S_t) / 2(S_m − S_t) makes the order 2 for any m, and is 1 if S_m lies in the middle. Where no step lies
    between t and s, m is s and w is ½, which is Heun's step; and the step from 1 to 0 is Euler's."""

    evaluations = 2

    def step(self, xt: Array, t: int, s: int) -> tuple[Array, Array]:
        answer, (c_t, S_t), (c_s, S_s) = self.ask(xt, t), self.place(t), self.place(s)
        slope, m = self.slope(answer), (t + s) // 2
        if m > 0:
            c_m, S_m = self.place(m)
            w = 0.5 * (S_s - S_t) / (S_m - S_t)
            answer = self.ask(c_m * (xt / c_t + (S_m - S_t) * slope), m)
            slope = (1.0 - w) * slope + w * self.slope(answer)
        return c_s * (xt / c_t + (S_s - S_t) * slope), answer.x0


class Heun(_Curve):
    """A step along the slope here, then again along the mean of the slopes here and there; none but the first to s = 0.

    With churn > 0 each step first goes back by fresh noise, to a step t̂ ≥ t, whose errors the next one mends: S grows by up
    to churn/steps of itself, √2 − 1 at most. In σ, as Karras et al., where the picture keeps its size; elsewhere on the
    straight road, as σ = noise/signal has no end there, and a step along it would have none either.
    """

    evaluations = 2

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.straight = bool(np.ptp(self.schedule.signal) > 0)

    def step(self, xt: Array, t: int, s: int) -> tuple[Array, Array]:
        if self.churn:
            xt, t = self.back(xt, t)
        answer, (c_t, S_t), (c_s, S_s) = self.ask(xt, t), self.place(t), self.place(s)
        slope = self.slope(answer)
        xs = c_s * (xt / c_t + (S_s - S_t) * slope)
        if s > 0:
            xs = c_s * (xt / c_t + (S_s - S_t) * 0.5 * (slope + self.slope(self.ask(xs, s))))
        return xs, answer.x0

    def back(self, xt: Array, t: int) -> tuple[Array, int]:
        """x at a noisier step t̂, made so by fresh noise."""
        gamma = min(self.churn / self.steps, math.sqrt(2.0) - 1.0)
        with np.errstate(divide="ignore"):
            sigma = self.schedule.noise / self.schedule.signal
        back = int(np.searchsorted(sigma, (1.0 + gamma) * sigma[t]))
        back = min(max(back, t), self.schedule.T if sigma[-1] < math.inf else self.schedule.T - 1)
        if back <= t:
            return xt, t
        return q_onward(self.schedule, xt, t, back, self.draw()), back


SOLVERS: dict[str, type[Solver]] = {
    "ddpm": DDPM, "ddim": DDIM, "euler": Euler, "midpoint": Midpoint, "heun": Heun, "dpm++": DPMSolverPlusPlus,
}  # fmt: skip
