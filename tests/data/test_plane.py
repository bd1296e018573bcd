"""Points in the plane: where they may lie, what a mixture knows, and what seeds decide."""

import re

import numpy as np
import pytest
from scipy import stats

from minidiff.data import FIGURES, Mixture, eight_gaussians, points
from minidiff.errors import BadInput

PARTS = {"moons": 2, "spiral": 2, "checkerboard": 8, "gaussians": 8, "figure": 1}
LOPSIDED = Mixture(np.array([[0.5, 0.0], [-0.5, 0.2]]), np.array([0.3, 0.6]), np.array([0.7, 0.3]))


@pytest.mark.parametrize("name", FIGURES)
def test_points_are_as_large_as_pictures_and_repeat_by_seed(name):
    x, part = points(name, 2000, seed=4)
    assert x.shape == (2000, 2) and x.dtype == np.float32 and part.dtype == np.int64
    assert sorted(set(part.tolist())) == list(range(PARTS[name]))
    assert np.quantile(np.abs(x), 0.98) < 1.15 and x.std() > 0.25
    np.testing.assert_array_equal(points(name, 2000, seed=4)[0], x)
    assert np.abs(points(name, 2000, seed=5)[0] - x).max() > 0.1


def test_the_checkerboard_is_dark_on_every_second_square_alone():
    x, part = points("checkerboard", 5000)
    column, row = np.floor(2 * (x[:, 0] + 1)).astype(int), np.floor(2 * (x[:, 1] + 1)).astype(int)
    assert ((column + row) % 2 == 0).all() and column.max() == row.max() == 3
    assert np.bincount(part).min() > 500
    for k in range(8):
        assert len({(c, r) for c, r in zip(column[part == k], row[part == k], strict=True)}) == 1


def test_the_moons_are_one_upper_and_one_lower_half():
    x, part = points("moons", 2000)
    assert (x[part == 0, 1] > -0.3).all() and x[part == 0, 1].mean() > 0.2 > -0.2 > x[part == 1, 1].mean()


@pytest.mark.parametrize("mixture", [eight_gaussians(), LOPSIDED])
def test_a_mixtures_draws_have_its_moments(mixture):
    x, part = mixture.draw(50_000, np.random.default_rng(0))
    mean = mixture.weights @ mixture.means
    np.testing.assert_allclose(x.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(np.bincount(part) / len(part), mixture.weights, atol=0.01)
    second = (mixture.weights[:, None] * (mixture.means**2 + mixture.deviations[:, None] ** 2)).sum(0)
    np.testing.assert_allclose((x**2).mean(0), second, atol=0.02)


@pytest.mark.parametrize(("a", "sigma"), [(1.0, 0.0), (0.8, 0.6), (0.1, 2.0)])
def test_the_density_is_that_of_scipy(a, sigma):
    x = np.random.default_rng(0).standard_normal((20, 2))
    p = sum(w * stats.multivariate_normal(a * m, (a * s) ** 2 + sigma**2).pdf(x)
            for w, m, s in zip(LOPSIDED.weights, LOPSIDED.means, LOPSIDED.deviations, strict=True))  # fmt: skip
    np.testing.assert_allclose(LOPSIDED.log_density(x, a, sigma), np.log(p), rtol=1e-9)


@pytest.mark.parametrize(("a", "sigma"), [(0.9, 0.4), (0.3, 0.95)])
def test_the_expected_picture_is_what_averages_say(a, sigma):
    """E[x0 | x_t] near a place, from two million pairs that happen to lie there; and by Tweedie from the density's slope."""
    rng = np.random.default_rng(0)
    x0, _ = LOPSIDED.draw(2_000_000, rng)
    xt, place = a * x0 + sigma * rng.standard_normal(x0.shape), np.array([[0.4, -0.1]])
    near = np.linalg.norm(xt - place, axis=1) < 0.03
    expected = LOPSIDED.expected(place, a, sigma)
    np.testing.assert_allclose(x0[near].mean(0), expected[0], atol=5 * x0[near].std() / np.sqrt(near.sum()) + 0.01)
    h = 1e-4
    slope = [(LOPSIDED.log_density(place + h * e, a, sigma) - LOPSIDED.log_density(place - h * e, a, sigma))[0] / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(expected[0], (place[0] + sigma**2 * np.array(slope)) / a, atol=1e-6)      # Robbins 1956


def test_a_part_that_is_known_is_the_only_one():
    x, labels = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), np.array([0, 1, -1])
    one, other, both = LOPSIDED.expected(x, 0.5, 0.8, labels)
    alone = [Mixture(LOPSIDED.means[k : k + 1], LOPSIDED.deviations[k : k + 1]).expected(x[:1], 0.5, 0.8)[0] for k in (0, 1)]
    np.testing.assert_allclose([one, other], alone)
    np.testing.assert_allclose(both, LOPSIDED.expected(x[:1], 0.5, 0.8)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: points("star", 5), "points: 'star' is unknown; it is one of: moons, spiral, checkerboard, gaussians, figure"),
        (lambda: points("moons", -1), "points: n must be a whole number, 0 or more; got -1"),
        (lambda: Mixture(np.zeros((2, 2)), np.ones(3)),
         "Mixture: means must be (K,D), deviations and weights (K,), deviations above 0; got (2, 2), (3,) and (2,)"),
        (lambda: Mixture(np.zeros((2, 2)), np.ones(2), np.array([0.5, 0.6])), "Mixture: weights must be parts of 1, got [0.5 0.6]"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()
