"""The forward process: its moments, the shortcut against single steps, and its inverse."""

import re

import numpy as np
import pytest
from scipy import stats

from minidiff.diffusion import SCHEDULES, TARGETS, make_schedule, predict_x0, q_sample, training_target
from minidiff.errors import BadInput
from minidiff.tensor import Tensor

SCHEDULE = make_schedule("cosine", 50)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("t", [1, 30, 100])
def test_moments_are_those_of_theory(rng, name, t):
    """x_t ~ N(a x0, σ²). Of n draws the mean errs by σ/√n and the variance by σ²√(2/n); five of each are allowed."""
    schedule, n, x0 = make_schedule(name, 100), 20_000, 0.7
    a, sigma = schedule.signal[t], schedule.noise[t]
    xt = q_sample(schedule, np.full(n, x0), t, rng.standard_normal(n))
    assert abs(xt.mean() - a * x0) < 5 * sigma / np.sqrt(n)
    assert abs(xt.var() - sigma**2) < 5 * sigma**2 * np.sqrt(2 / n)


def test_step_by_step_is_the_shortcut_in_distribution(rng):
    """x_t = √α x_{t−1} + √β ε, fifty times, against one jump; two pictures, so that mean and spread both count.

    Kolmogorov and Smirnov: samples of one distribution differ this much once in 10,000 tries.
    """
    n = 20_000
    x0 = rng.choice([-0.8, 0.5], n)
    xt = x0.copy()
    for t in range(1, 31):
        xt = np.sqrt(SCHEDULE.alpha[t]) * xt + np.sqrt(SCHEDULE.beta[t]) * rng.standard_normal(n)
    jumped = q_sample(SCHEDULE, x0, np.full(n, 30), rng.standard_normal(n))
    assert stats.ks_2samp(xt, jumped).pvalue > 1e-4
    assert stats.ks_2samp(xt, q_sample(SCHEDULE, x0, np.full(n, 24), rng.standard_normal(n))).pvalue < 1e-4  # and it would tell


def test_every_sample_has_its_own_step(rng):
    x0, eps = rng.standard_normal((2, 3, 1, 4, 4))
    t = np.array([0, 10, 50])
    xt = q_sample(SCHEDULE, x0, t, eps)
    np.testing.assert_array_equal(xt[0], x0[0])  # step 0 is the clean picture
    for i in range(3):
        np.testing.assert_array_equal(xt[i], q_sample(SCHEDULE, x0, int(t[i]), eps)[i])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("wrap", [np.asarray, Tensor], ids=["array", "Tensor"])
def test_what_comes_back_is_of_x0s_kind(rng, dtype, wrap):
    x0, eps = (wrap(a.astype(dtype)) for a in rng.standard_normal((2, 3, 1, 2, 2)))
    xt = q_sample(SCHEDULE, x0, np.array([1, 20, 50]), eps)
    assert type(xt) is type(x0) and xt.dtype == dtype and xt.shape == x0.shape


def test_gradients_flow_through_tensors(rng):
    x0 = Tensor(rng.standard_normal((2, 1, 2, 2)), requires_grad=True)
    t = np.array([5, 40])
    q_sample(SCHEDULE, x0, t, Tensor(np.zeros(x0.shape))).sum().backward()
    np.testing.assert_allclose(x0.grad.data[:, 0, 0, 0], np.sqrt(SCHEDULE.alpha_bar[t]))


def test_predict_x0_undoes_q_sample(rng):
    x0, eps = rng.standard_normal((2, 4, 1, 3, 3))
    t = np.array([1, 10, 30, 49])
    np.testing.assert_allclose(predict_x0(SCHEDULE, q_sample(SCHEDULE, x0, t, eps), t, eps), x0, rtol=1e-9, atol=1e-9)


X = np.zeros((2, 1, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: q_sample(SCHEDULE, X, 3, X[:1]), "q_sample: eps has shape (1, 1, 4, 4), x0 has (2, 1, 4, 4)"),
        (lambda: q_sample(SCHEDULE, X, 51, X), "q_sample: steps run 0 … 50; got 51 … 51"),
        (lambda: q_sample(SCHEDULE, X, [-1, 3], X), "q_sample: steps run 0 … 50; got -1 … 3"),
        (lambda: q_sample(SCHEDULE, X, [1, 2, 3], X), "q_sample: t must be one step or 2, as integers; got int64 of shape (3,)"),
        (lambda: predict_x0(SCHEDULE, X, 0.5, X), "predict_x0: t must be one step or 2, as integers; got float64 of shape ()"),
    ],
)
def test_bad_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()


def test_pictures_of_whole_numbers_are_refused():
    """Rates between 0 and 1 rounded to whole numbers would leave no picture at all."""
    with pytest.raises(BadInput, match="q_sample.*uint8"):
        q_sample(SCHEDULE, np.full((2, 3), 200, np.uint8), 25, np.zeros((2, 3)))


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_leads_back_to_the_picture(target, rng):
    x0, eps = rng.standard_normal((2, 6, 1, 4, 4))
    t = np.array([1, 10, 20, 30, 40, 50])
    answer = training_target(SCHEDULE, x0, t, eps, target)
    np.testing.assert_allclose(predict_x0(SCHEDULE, q_sample(SCHEDULE, x0, t, eps), t, answer, target), x0, atol=1e-9)


def test_v_is_the_noise_at_the_start_and_the_picture_at_the_end(rng):
    schedule = make_schedule("cosine", T=1000)
    x0, eps = rng.standard_normal((2, 1, 1, 4, 4))
    np.testing.assert_allclose(training_target(schedule, x0, 0, eps, "v"), eps)
    np.testing.assert_allclose(training_target(schedule, x0, 1000, eps, "v"), -x0, atol=1e-2)
