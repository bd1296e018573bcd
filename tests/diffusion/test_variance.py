"""Small, large and learned variances, and the bound that they are measured by."""

import math

import numpy as np
import pytest
from scipy import stats

from minidiff import backend, models
from minidiff.diffusion import bound_terms, loss, make_schedule, q_sample, sample
from minidiff.diffusion.variance import between_variances, split_answer, step_back, variational_loss
from minidiff.tensor import Tensor

SCHEDULE = make_schedule("cosine", 40)


def test_the_mean_and_variance_are_those_of_bayes_on_any_road():
    for name in ("cosine", "flow", "edm"):
        schedule = make_schedule(name, 40)
        for t, s in ((30, 29), (30, 10), (2, 1)):
            a_t, a_s, sigma_t, sigma_s = schedule.signal[t], schedule.signal[s], schedule.noise[t], schedule.noise[s]
            alpha = a_t / a_s
            beta = sigma_t**2 - alpha**2 * sigma_s**2
            precision = 1 / sigma_s**2 + alpha**2 / beta
            c0, ct, small, large = step_back(schedule, t, s)
            assert small == pytest.approx(1 / precision) and large == pytest.approx(beta)
            assert c0 == pytest.approx(a_s / sigma_s**2 / precision) and ct == pytest.approx(alpha / beta / precision)


def test_a_learned_variance_lies_between():
    v = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(np.exp(between_variances(v, 0.01, 0.04)), [0.01, 0.02, 0.04])
    np.testing.assert_allclose(between_variances(Tensor(v), Tensor(np.array(0.01)), Tensor(np.array(0.04))).data, between_variances(v, 0.01, 0.04))


@pytest.fixture
def learned():
    backend.manual_seed(0)
    return models.UNet(image_size=8, channels=(8, 16), num_classes=3, variance="learned")


def test_a_network_that_learns_it_answers_twice_as_many_channels(learned, rng):
    x = rng.standard_normal((2, 1, 8, 8)).astype(np.float32)
    answer, v = split_answer(learned, learned(x, np.array([3, 9]), np.array([0, -1])))
    assert answer.shape == v.shape == x.shape and learned.config["variance"] == "learned"
    assert split_answer(models.UNet(image_size=8, channels=(8, 16)), answer) == (answer, None)


def test_the_bound_moves_v_alone(learned, rng):
    """The simple loss does not see v, and the bound is not let near the answer: so half of the gradients is as before."""
    x0, t = rng.uniform(-1, 1, (8, 1, 8, 8)).astype(np.float32), rng.integers(1, 41, 8)
    xt = q_sample(SCHEDULE, x0, t, rng.standard_normal(x0.shape).astype(np.float32))
    answer, v = (Tensor(rng.standard_normal(x0.shape).astype(np.float32), requires_grad=True) for _ in range(2))
    variational_loss(SCHEDULE, x0, xt, t, answer, v, "eps").backward()
    assert answer.grad is None and np.abs(v.grad.data).min(axis=(1, 2, 3)).max() > 0
    value = loss(learned, SCHEDULE, x0, np.zeros(8, int), np.random.default_rng(0))
    value.backward()
    assert np.isfinite(value.item()) and all(np.isfinite(p.grad.data).all() for p in learned.parameters())


def test_v_learns_the_variance_that_is_right(rng):
    """For a guess that is wrong by δ the best variance is small + (c0 δ)²; gradient descent on v finds it."""
    t, delta, n = 20, 0.5, 4096
    c0, _, small, large = step_back(SCHEDULE, t, t - 1)
    x0 = rng.uniform(-0.5, 0.5, (n, 1)).astype(np.float64)
    xt = q_sample(SCHEDULE, x0, t, rng.standard_normal(x0.shape))
    wrong = x0 + delta * rng.standard_normal(x0.shape)
    best = small + (c0 * delta) ** 2
    candidates = np.linspace(-1, 1, 401)
    bounds = [bound_terms(SCHEDULE, x0, xt, np.full(n, t), wrong, Tensor(np.full(x0.shape, v))).mean().item() for v in candidates[::20]]
    v = candidates[::20][int(np.argmin(bounds))]
    assert small < best < large
    assert np.exp(between_variances(v, small, large)) == pytest.approx(best, rel=0.15)


def test_the_terms_of_the_bound_are_the_kl_and_the_share_of_a_bin(rng):
    """Against scipy: KL of two normal numbers, and the probability of a bin 2/255 wide."""
    x0 = np.round(rng.uniform(-1, 1, (3, 1)) * 127.5 - 0.5) / 127.5 + 1 / 255
    eps, guess = rng.standard_normal((2, 3, 1))
    for t in (1, 2, 30):
        xt = q_sample(SCHEDULE, x0, t, eps)
        c0, ct, small, large = step_back(SCHEDULE, t, t - 1)
        found = bound_terms(SCHEDULE, x0, xt, np.full(3, t), 0.1 * guess + x0, variance="large").data
        mean, other = c0 * x0 + ct * xt, c0 * (0.1 * guess + x0) + ct * xt
        if t > 1:
            expected = 0.5 * (np.log(large / small) + (small + (mean - other) ** 2) / large - 1)
        else:
            normal = stats.norm(other, math.sqrt(large))
            above, below = normal.cdf(x0 + 1 / 255), normal.cdf(x0 - 1 / 255)
            expected = -np.log(np.where(x0 > 0.999, 1 - below, np.where(x0 < -0.999, above, above - below)))
        np.testing.assert_allclose(found, expected[:, 0] / math.log(2), rtol=1e-6)


@pytest.mark.parametrize("variance", ["small", "large", None])
def test_a_learned_variance_can_be_sampled_from(learned, variance):
    drawn = sample(learned, SCHEDULE, [0, 2, -1], "ddpm", 5, guidance=1.0, variance=variance)
    assert drawn.shape == (3, 1, 8, 8) and np.isfinite(drawn).all()
