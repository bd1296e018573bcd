"""Samplers against an analytic answer: a mixture of Gaussians, whose score is known, so that what is wrong is the sampler's."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from minidiff.data import Mixture, eight_gaussians
from minidiff.diffusion import Exact, Guidance, make_schedule, sample

ROOT = Path(__file__).resolve().parents[2]


def example():
    """examples/orders.py, which prints the table that is asserted here."""
    spec = importlib.util.spec_from_file_location("orders", ROOT / "examples" / "orders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


table = example()
T, ORDERS, ROADS, way, walk = table.T, table.ORDERS, table.ROADS, table.way, table.walk


@pytest.mark.parametrize("name", ROADS)
@pytest.mark.parametrize("sampler", ORDERS)
def test_the_error_falls_at_the_theoretical_order(name, sampler):
    found, order = table.errors(name, sampler)
    assert ORDERS[sampler] - 0.25 < order < ORDERS[sampler] + 0.4, found


def test_the_committed_table_holds_every_sampler_and_road_at_its_order():
    record = json.loads((ROOT / "chapters" / "results" / "orders.json").read_text())
    assert {(row["road"], row["sampler"]) for row in record["rows"]} == {(road, sampler) for road in ROADS for sampler in ORDERS}
    for row in record["rows"]:
        assert row["theory"] - 0.25 < row["order"] < row["theory"] + 0.4
    found, order = table.errors("flow", "heun")
    kept = next(row for row in record["rows"] if (row["road"], row["sampler"]) == ("flow", "heun"))
    np.testing.assert_allclose(kept["errors"], found, rtol=1e-3)
    assert kept["order"] == pytest.approx(order, abs=1e-3)


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
