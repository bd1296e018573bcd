"""Targets: each a mixture of picture and noise, each the others in other words; and what their errors weigh."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.diffusion import (
    SCHEDULES,
    TARGETS,
    WEIGHTINGS,
    loss,
    loss_weight,
    make_schedule,
    predict_eps,
    predict_x0,
    q_sample,
    training_target,
)
from minidiff.diffusion.targets import GAMMA, SIGMA_DATA, noise_in
from minidiff.errors import BadInput

SHAPE = (4, 1, 3, 3)


def drawn(seed, name, T=40, end=0):
    rng = np.random.default_rng(seed)
    schedule = make_schedule(name, T)
    x0, eps = rng.standard_normal((2, *SHAPE))
    t = rng.integers(1, T + 1 - end, len(x0))
    return schedule, x0, eps, t, q_sample(schedule, x0, t, eps)


@given(st.sampled_from(SCHEDULES), st.sampled_from(TARGETS), st.integers(0, 10**6))
def test_every_answer_leads_to_the_picture_and_to_the_noise(name, target, seed):
    schedule, x0, eps, t, xt = drawn(seed, name, end=int(name == "flow"))
    y = training_target(schedule, x0, t, eps, target)
    near_end = 1.0 / np.minimum(schedule.signal[t], schedule.noise[t]).min()      # what dividing by a rate costs in digits
    np.testing.assert_allclose(predict_x0(schedule, xt, t, y, target), x0, atol=1e-12 * near_end**2, rtol=1e-9)
    np.testing.assert_allclose(predict_eps(schedule, xt, t, y, target), eps, atol=1e-12 * near_end**2, rtol=1e-9)


@given(st.sampled_from(SCHEDULES), st.sampled_from(TARGETS), st.sampled_from(TARGETS), st.integers(0, 10**6))
def test_any_answer_can_be_said_in_the_words_of_another(name, a, b, seed):
    """From y_a to x̂0 and ε̂, and from these to y_b, is what y_b would have been: also for a wrong answer."""
    schedule, x0, eps, t, xt = drawn(seed, name, end=int(name == "flow"))
    wrong = training_target(schedule, x0, t, eps, a) + 0.3
    x0_hat, eps_hat = (predict(schedule, xt, t, wrong, a) for predict in (predict_x0, predict_eps))
    other = training_target(schedule, x0_hat, t, eps_hat, b)
    scale = 1.0 + np.abs(other).max() + np.abs(x0_hat).max() + np.abs(eps_hat).max()
    np.testing.assert_allclose(predict_x0(schedule, xt, t, other, b) / scale, x0_hat / scale, atol=1e-7)
    np.testing.assert_allclose(q_sample(schedule, x0_hat, t, eps_hat) / scale, xt / scale, atol=1e-9)      # they fit together


def test_v_turns_from_the_noise_to_the_picture():
    schedule, x0, eps, _, _ = drawn(0, "cosine", 1000)
    np.testing.assert_allclose(training_target(schedule, x0, 0, eps, "v"), eps)
    np.testing.assert_allclose(training_target(schedule, x0, 1000, eps, "v"), -x0, atol=1e-2)


def test_the_velocity_is_the_slope_of_the_straight_road():
    schedule, x0, eps, _, _ = drawn(0, "flow", 50)
    slope = (q_sample(schedule, x0, 30, eps) - q_sample(schedule, x0, 20, eps)) / (10 / 50)
    np.testing.assert_allclose(training_target(schedule, x0, 25, eps, "flow"), slope, atol=1e-12)


def test_edm_is_minus_v_for_data_of_unit_size(monkeypatch):
    monkeypatch.setattr("minidiff.diffusion.targets.SIGMA_DATA", 1.0)
    schedule, x0, eps, t, _ = drawn(0, "cosine")
    np.testing.assert_allclose(training_target(schedule, x0, t, eps, "edm"), -training_target(schedule, x0, t, eps, "v"), atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_edm_asks_for_numbers_of_unit_size(name):
    """Karras et al. 2022, appendix B.6: for data of deviation s the target, and the input, have variance 1 at every step."""
    schedule, rng = make_schedule(name, 30), np.random.default_rng(0)
    x0, eps = SIGMA_DATA * rng.standard_normal((200_000, 1)), rng.standard_normal((200_000, 1))
    for t in (1, 10, 20, 30):
        assert training_target(schedule, x0, t, eps, "edm").var() == pytest.approx(1.0, rel=0.02)


def test_c_skip_and_c_out_are_the_papers():
    schedule = make_schedule("edm", 20)
    rng = np.random.default_rng(0)
    xt, y = rng.standard_normal((2, 5))
    for t in (1, 10, 20):
        sigma, s = schedule.noise[t], SIGMA_DATA
        expected = s**2 / (sigma**2 + s**2) * xt + sigma * s / np.sqrt(sigma**2 + s**2) * y
        np.testing.assert_allclose(predict_x0(schedule, xt, t, y, "edm"), expected, rtol=1e-9)


def test_noise_in_finds_the_noise():
    schedule, x0, eps, t, xt = drawn(3, "sigmoid")
    np.testing.assert_allclose(noise_in(schedule, xt, t, x0), eps, rtol=1e-6)


# ------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("target", ["eps", "v", "x0"])
def test_min_snr_has_the_papers_forms(target):
    """Hang et al. 2023, section 3.4: min(SNR, γ) for x0, over SNR for ε, over SNR + 1 for v."""
    schedule, t = make_schedule("cosine", 50), np.array([1, 10, 30, 50])
    snr = schedule.snr[t]
    expected = np.minimum(snr, GAMMA) / {"eps": snr, "v": snr + 1, "x0": 1}[target]
    np.testing.assert_allclose(loss_weight(schedule, t, np.zeros(SHAPE), "min-snr", target).ravel(), expected, rtol=1e-9)


@pytest.mark.parametrize("weighting", ["snr", "min-snr"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_weight_means_the_same_for_every_target(weighting, target):
    """One wrong guess of the picture costs the same, in whatever words it was given."""
    schedule, x0, eps, t, xt = drawn(5, "cosine")
    y = training_target(schedule, x0, t, eps, target)
    x0_hat = predict_x0(schedule, xt, t, y + 0.1, target)
    cost = loss_weight(schedule, t, x0, weighting, target) * 0.1**2
    np.testing.assert_allclose(cost * np.ones(SHAPE), loss_weight(schedule, t, x0, weighting, "x0") * (x0_hat - x0) ** 2, rtol=1e-5)


def test_snr_weights_make_every_target_the_noise():
    schedule, t = make_schedule("cosine", 50), np.array([1, 10, 30, 50])
    np.testing.assert_allclose(loss_weight(schedule, t, np.zeros(SHAPE), "snr", "eps"), 1.0)


def test_edm_weights_make_every_step_count_alike():
    """λ(σ) c_out² = 1: the weighted error of the picture is the plain error of the network's answer."""
    schedule, t = make_schedule("edm", 50), np.array([1, 10, 30, 50])
    np.testing.assert_allclose(loss_weight(schedule, t, np.zeros(SHAPE), "edm", "edm"), 1.0, rtol=1e-9)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_enter_the_loss(weighting, oracle, rng):
    """A network that answers 0: the loss is the mean of weight times target²."""
    schedule = make_schedule("edm" if weighting == "edm" else "cosine", 20)
    model = oracle(lambda x, t, labels: 0 * x)
    x0 = rng.uniform(-1, 1, (64, 1, 8, 8)).astype(np.float32)
    found = loss(model, schedule, x0, np.zeros(64, int), np.random.default_rng(3), weighting=weighting).item()
    again = np.random.default_rng(3)
    t, eps = again.integers(1, 21, 64), again.standard_normal(x0.shape, dtype=np.float32)
    w = 1.0 if weighting == "uniform" else loss_weight(schedule, t, x0, weighting, "eps")
    assert found == pytest.approx(float((w * eps**2).mean()), rel=1e-4)


# ------------------------------------------------------------------------------------- how t is drawn


@pytest.mark.parametrize(("times", "name"), [("uniform", "cosine"), ("logit-normal", "flow"), ("edm", "edm")])
def test_steps_are_drawn_as_the_papers_say(times, name):
    from scipy import stats

    from minidiff.diffusion.loss import draw_steps

    schedule, n = make_schedule(name, 200), 40_000
    t = draw_steps(schedule, np.random.default_rng(0), n, times)
    assert t.min() >= 1 and t.max() <= 200
    if times == "uniform":
        assert stats.kstest(t / 200, "uniform").statistic < 0.015
    elif times == "logit-normal":
        tau = (t - 0.5) / 200
        assert stats.kstest(np.log(tau / (1 - tau)), "norm").statistic < 0.015
    else:
        assert stats.kstest((np.log(schedule.noise[t]) + 1.2) / 1.2, "norm").statistic < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "heavy"}, "loss: weighting 'heavy' is unknown; it is one of: uniform, snr, min-snr, edm"),
        ({"times": "late"}, "loss: times 'late' is unknown; it is one of: uniform, logit-normal, edm"),
    ],
)
def test_bad_input_is_answered_in_one_line(options, message, oracle, rng):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        loss(oracle(lambda x, t, labels: x), make_schedule("cosine", 20), np.zeros((2, 1, 8, 8), np.float32), [0, 1], rng, **options)


def test_noise_is_not_asked_for_where_nothing_else_is_left(oracle, rng):
    schedule, x = make_schedule("flow", 20), np.zeros((2, 1, 8, 8), np.float32)
    with pytest.raises(BadInput, match="^loss: at T nothing of the picture is left in this schedule, and ε is x_T itself; train for x0, v or flow$"):
        loss(oracle(lambda x, t, labels: x), schedule, x, [0, 1], rng)
    with pytest.raises(BadInput, match="times 'edm' needs some of the picture at every step; schedule flow has none at T$"):
        model = oracle(lambda x, t, labels: x)
        model.target = "flow"
        loss(model, schedule, x, [0, 1], rng, times="edm")
