"""Samplers against an analytic answer: a mixture of Gaussians, whose score is known, so that what is wrong is the sampler's."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from minidiff.data import Mixture, eight_gaussians
from minidiff.diffusion import Exact, Guidance, make_schedule, sample
from minidiff.diffusion.solvers import SOLVERS, Answer
from minidiff.diffusion.targets import noise_in

# Three Gaussians that overlap, so that the way back is curved but not steep anywhere.
WIDE = Mixture(np.array([[0.7, -0.2], [-0.5, 0.6], [-0.3, -0.7]]), np.array([0.35, 0.45, 0.4]), np.array([0.5, 0.3, 0.2]))
T = 4096                                     # enough that steps of a subset are even, and half of each is a whole number
COUNTS = (8, 16, 32, 64, 128)
ORDERS = {"ddim": 1, "euler": 1, "midpoint": 2, "heun": 2, "dpm++": 2}
ROADS = {"cosine": {"zero_terminal_snr": True}, "flow": {}, "sigmoid": {}, "edm": {"sigma_max": 20.0}}


def way(schedule, x, t, s, mixture=WIDE):
    """Where the noise-free curve leads from x_t: its equation on the straight road, solved to ten digits."""
    S = schedule.noise / (schedule.signal + schedule.noise)

    def slope(S, z):
        x0 = mixture.expected(z.reshape(-1, 2), 1.0 - S, S)
        return ((z.reshape(-1, 2) - (1.0 - S) * x0) / S - x0).ravel()

    c_t, c_s = (schedule.signal[i] + schedule.noise[i] for i in (t, s))
    solved = solve_ivp(slope, (S[t], max(S[s], 1e-9)), (x / c_t).ravel(), method="DOP853", rtol=1e-10, atol=1e-12)
    return c_s * solved.y[:, -1].reshape(-1, 2)


def walk(schedule, sampler, x, times, mixture=WIDE, **options):
    def ask(x, t):
        x0 = mixture.expected(x, schedule.signal[t], schedule.noise[t])
        return Answer(x0, noise_in(schedule, x, t, x0))

    solver = SOLVERS[sampler](schedule, ask, lambda: None, len(times) - 1, **options)
    for t, s in zip(times, times[1:], strict=False):
        x, _ = solver.step(x, t, s)
    return x


def errors(name, sampler):
    """How far from the right place each number of steps ends, on the middle of the road, and the order that a line fits."""
    schedule = make_schedule(name, T, **ROADS[name])
    start, end = 7 * T // 8, T // 8           # the ends of the road have their own trouble: see the next test
    x = np.random.default_rng(0).standard_normal((64, 2)) * np.hypot(schedule.noise[start], schedule.signal[start])
    exact = way(schedule, x, start, end)
    found = [np.sqrt(np.square(walk(schedule, sampler, x, np.linspace(start, end, n + 1).astype(int)) - exact).mean()) for n in COUNTS]
    return found, -np.polyfit(np.log(COUNTS[1:]), np.log(found[1:]), 1)[0]


@pytest.mark.parametrize("name", ROADS)
@pytest.mark.parametrize("sampler", ORDERS)
def test_the_error_falls_at_the_theoretical_order(name, sampler):
    found, order = errors(name, sampler)
    assert ORDERS[sampler] - 0.25 < order < ORDERS[sampler] + 0.4, found


def test_euler_on_the_straight_road_is_ddim(rng):
    for name in ("cosine", "flow", "edm"):
        schedule, x = make_schedule(name, 100), rng.standard_normal((5, 2))
        a, b = (walk(schedule, sampler, x * schedule.noise[-1], [100, 70, 30, 0], eight_gaussians()) for sampler in ("ddim", "euler"))
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("sampler", ORDERS)
@pytest.mark.parametrize("name", ["cosine", "flow", "edm"])
def test_the_whole_road_ends_where_it_should(name, sampler):
    """From pure noise to the picture in 128 steps: the ends, where σ is 0 or nothing of the picture is left, are right too."""
    schedule = make_schedule(name, T)
    x = np.random.default_rng(0).standard_normal((64, 2)) * schedule.noise[T]
    exact = way(schedule, x, T, 0)
    assert np.abs(walk(schedule, sampler, x, np.linspace(T, 0, 129).astype(int)) - exact).max() < 0.03


# ------------------------------------------------------------------------------ what comes out, as a whole


MIXTURE = eight_gaussians()
WAYS = [
    ("cosine", "ddpm", {"steps": None}), ("cosine", "ddpm", {"variance": "large", "steps": None}), ("cosine", "ddim", {"steps": 50}),
    ("cosine", "ddim", {"eta": 0.5, "steps": 250}), ("cosine", "dpm++", {"steps": 25}), ("sigmoid", "heun", {"steps": 25}),
    ("edm", "heun", {"steps": 25}), ("edm", "heun", {"steps": 50, "churn": 20.0}), ("flow", "euler", {"steps": 100}),
    ("flow", "midpoint", {"steps": 50}), ("flow", "heun", {"steps": 50}), ("flow", "dpm++", {"steps": 50}),
]  # fmt: skip


def projections(x):
    """Points seen along a few directions, one after the other: what differs in the plane differs in one of them."""
    angle = np.pi * np.arange(4) / 4
    return x @ np.stack([np.cos(angle), np.sin(angle)])


@pytest.mark.parametrize(("name", "sampler", "options"), WAYS, ids=str)
@pytest.mark.parametrize("target", ["flow"])
def test_samples_are_distributed_as_the_data(name, sampler, options, target):
    """Kolmogorov and Smirnov in four directions: 3,000 samples of one distribution differ this much once in 4,000 tries."""
    schedule, n = make_schedule(name, 1000), 3000
    drawn = sample(Exact(MIXTURE, schedule, target), schedule, np.full(n, -1), sampler, clip=False, batch_size=n, seed=3, **options)
    real, _ = MIXTURE.draw(n, np.random.default_rng(1))
    p = [stats.ks_2samp(a, b).pvalue for a, b in zip(projections(drawn).T, projections(real).T, strict=True)]
    assert min(p) > 1e-4


def test_the_two_sample_test_would_tell():
    """Two steps, where the road is curved; and data beside the middle on a schedule that does not reach noise."""
    aside = Mixture(MIXTURE.means + np.array([0.8, 0.0]), MIXTURE.deviations, MIXTURE.weights)
    for mixture, name, T, steps in ((MIXTURE, "cosine", 1000, 2), (aside, "linear", 100, None)):
        real, _ = mixture.draw(3000, np.random.default_rng(1))
        schedule = make_schedule(name, T)
        drawn = sample(Exact(mixture, schedule), schedule, np.full(3000, -1), "ddim", steps, clip=False, batch_size=3000)
        assert min(stats.ks_2samp(a, b).pvalue for a, b in zip(projections(drawn).T, projections(real).T, strict=True)) < 1e-6


def test_a_part_that_is_asked_for_is_drawn():
    schedule = make_schedule("cosine", 200)
    labels = np.repeat(np.arange(8), 50)
    drawn = sample(Exact(MIXTURE, schedule), schedule, labels, "dpm++", 20, clip=False)
    nearest = np.linalg.norm(drawn[:, None] - MIXTURE.means, axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 0.99


def test_guidance_leans_away_from_the_others_and_keeps_to_its_interval():
    """Away from the ring's middle, further the larger w; not at all where no step lies in the interval."""
    schedule, labels = make_schedule("cosine", 200), np.repeat(np.arange(8), 50)

    def radius(**options):
        drawn = sample(Exact(MIXTURE, schedule), schedule, labels, "ddim", 50, clip=False, guidance=Guidance(**options))
        return np.linalg.norm(drawn, axis=1).mean()

    assert radius(w=0) + 0.02 < radius(w=1) < radius(w=4)
    assert radius(w=4, interval=(0.0, 0.0)) == pytest.approx(radius(w=0))
    assert radius(w=0) < radius(w=4, interval=(0.3, 0.7)) < radius(w=4)
