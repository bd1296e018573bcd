"""Samplers: each step by Bayes' rule, exact networks that must be obeyed, and what seeds and batches may change."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import ops
from minidiff.diffusion import (
    SAMPLERS,
    SCHEDULES,
    Guidance,
    evaluations,
    make_schedule,
    q_sample,
    sample,
    samplers,
    time_steps,
)
from minidiff.diffusion.solvers import SOLVERS, Answer, ddim_step, ddpm_step
from minidiff.errors import BadInput
from minidiff.nn import Module

SCHEDULE = make_schedule("cosine", 60)
EACH = pytest.mark.parametrize("sampler", SAMPLERS)


def never():
    raise AssertionError("this step draws no noise")


# ------------------------------------------------------------------------------------ single steps


@given(st.integers(1, 2000), st.data())
def test_time_steps_run_from_T_to_0_without_a_repeat(T, data):
    steps = data.draw(st.integers(1, T))
    times = time_steps(T, steps)
    assert len(times) == steps + 1 and times[0] == T and times[-1] == 0
    gaps = -np.diff(times)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 2  # even, to the rounding of both ends of a gap
    assert time_steps(T) == list(range(T, -1, -1))


@pytest.mark.parametrize(("t", "s"), [(60, 59), (40, 20), (2, 1), (50, 1)])
def test_a_ddpm_step_draws_from_the_posterior(rng, t, s):
    """By Bayes: q(x_s|x0) = N(√ᾱ_s x0, 1 − ᾱ_s) times q(x_t|x_s) = N(√α x_s, β), whose precisions add up."""
    x0, xt = rng.standard_normal((2, 5))
    a_s, alpha = SCHEDULE.alpha_bar[s], SCHEDULE.alpha_bar[t] / SCHEDULE.alpha_bar[s]
    precision = 1 / (1 - a_s) + alpha / (1 - alpha)
    mean = (np.sqrt(a_s) * x0 / (1 - a_s) + np.sqrt(alpha) * xt / (1 - alpha)) / precision
    np.testing.assert_allclose(ddpm_step(SCHEDULE, xt, x0, t, s, lambda: 0.0), mean, rtol=1e-9, atol=1e-12)
    noise = ddpm_step(SCHEDULE, xt, x0, t, s, lambda: 1.0) - ddpm_step(SCHEDULE, xt, x0, t, s, lambda: 0.0)
    np.testing.assert_allclose(noise, 1 / np.sqrt(precision), rtol=1e-9)


@pytest.mark.parametrize("t", [1, 7, 60])
def test_the_last_step_draws_no_noise_and_is_x0_hat(rng, t):
    xt, x0_hat = rng.standard_normal((2, 5)).astype(np.float32)
    np.testing.assert_allclose(ddpm_step(SCHEDULE, xt, x0_hat, t, 0, never), x0_hat, rtol=1e-6)
    np.testing.assert_allclose(ddim_step(SCHEDULE, xt, x0_hat, t, 0, never, 1.0), x0_hat, rtol=1e-6)


@pytest.mark.parametrize(("t", "s"), [(60, 59), (40, 20), (2, 1)])
def test_ddim_keeps_the_noise_it_found(rng, t, s):
    """With the right x0, η = 0 moves along the forward process of one and the same ε."""
    x0, eps = rng.standard_normal((2, 5))
    xt = q_sample(SCHEDULE, x0, t, eps)
    np.testing.assert_allclose(ddim_step(SCHEDULE, xt, x0, t, s, never, 0.0), q_sample(SCHEDULE, x0, s, eps), rtol=1e-9)


@pytest.mark.parametrize(("t", "s"), [(60, 59), (40, 20), (2, 1)])
def test_ddim_with_eta_one_is_ddpm(rng, t, s):
    xt, x0, z = rng.standard_normal((3, 5))
    ddpm, ddim = ddpm_step(SCHEDULE, xt, x0, t, s, lambda: z), ddim_step(SCHEDULE, xt, x0, t, s, lambda: z, 1.0)
    np.testing.assert_allclose(ddim, ddpm, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@EACH
def test_steps_keep_float32(rng, sampler, name):
    schedule, (xt, x0, eps, z) = make_schedule(name, 60), rng.standard_normal((4, 5)).astype(np.float32)
    solver = SOLVERS[sampler](schedule, lambda x, t: Answer(x0, eps), lambda: z, 3, eta=0.5, churn=1.0)
    for t, s in ((60, 40), (40, 20), (20, 0)):
        xt, _ = solver.step(xt, t, s)
        assert xt.dtype == np.float32 and np.isfinite(xt).all()


# ------------------------------------------------------------------------------- networks that are right


@EACH
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [None, 10, 1])
def test_the_noise_of_one_known_picture_gives_that_picture(rng, knows_picture, sampler, name, steps):
    schedule = make_schedule(name, 60)
    picture = rng.uniform(-1, 1, (1, 8, 8)).astype(np.float32)
    drawn = sample(knows_picture(schedule, picture), schedule, [0, 1, 2], sampler, steps)
    # A first guess from ε divides by the signal at T; the last, which counts, is nearly undivided.
    np.testing.assert_allclose(drawn, np.broadcast_to(picture, drawn.shape), atol=2e-2 if steps == 1 else 1e-4)


@EACH
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2])
def test_the_shortest_schedules_are_walked_from_end_to_end(rng, knows_picture, sampler, name, T):
    schedule, picture, started = make_schedule(name, T), rng.uniform(-1, 1, (1, 8, 8)).astype(np.float32), []

    def note(step, s, xs, x0_hat, indices):
        started.append(s)

    drawn = sample(knows_picture(schedule, picture), schedule, [0, 1], sampler, callback=note)
    np.testing.assert_allclose(drawn, np.broadcast_to(picture, drawn.shape), atol=1e-4)
    assert started == list(range(T))[::-1]


def test_one_step_of_edm_starts_at_the_most_noise(oracle):
    """A network that says that x_t is all noise leaves x̂0 = 0; one that says that it is all picture leaves σ_max's size."""
    model = oracle(lambda x, t, labels: np.zeros_like(x))
    assert sample(model, make_schedule("edm", 1), np.zeros(8, int), "ddim", clip=False).std() == pytest.approx(80, rel=0.1)


@pytest.mark.parametrize(("sampler", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.5)])
def test_the_score_of_a_gaussian_gives_its_mean_and_variance(knows_gaussian, sampler, eta):
    """Pixels N(0.3, 0.5²). Of n the mean errs by s/√n and the variance by s²√(2/n); four of each are allowed,
    and 2 % more for a walk of 500 steps in place of a continuous one."""
    m, s = 0.3, 0.5
    schedule = make_schedule("rescaled-linear", 500)
    drawn = sample(knows_gaussian(schedule, m, s), schedule, np.zeros(16, int), sampler, eta=eta, clip=False, seed=1)
    n = drawn.size
    assert abs(drawn.mean() - m) < 4 * s / np.sqrt(n) + 0.02 * m
    assert abs(drawn.var() - s**2) < 4 * s**2 * np.sqrt(2 / n) + 0.02 * s**2


def test_a_schedule_that_does_not_reach_noise_gives_the_wrong_mean(knows_gaussian):
    """T = 100 with the linear β starts its way back from N(0, 1), where the forward process never was."""
    schedule = make_schedule("linear", 100)
    drawn = sample(knows_gaussian(schedule, -0.8, 0.3), schedule, np.zeros(16, int), "ddim", clip=False)
    assert drawn.mean() > -0.8 + 0.1


@EACH
def test_clipping_keeps_every_guess_and_the_result_in_range(oracle, sampler):
    guesses = []
    model = oracle(lambda x, t, labels: -3.0 * x)  # a wild network
    options = dict(sampler=sampler, callback=lambda step, s, xt, x0_hat, indices: guesses.append(np.abs(x0_hat).max()))
    assert np.abs(sample(model, SCHEDULE, [0, 1], **options)).max() <= 1.0 and max(guesses) <= 1.0
    guesses.clear()
    assert np.abs(sample(model, SCHEDULE, [0, 1], clip=False, **options)).max() > 1.0 and max(guesses) > 1.0


def test_dynamic_thresholding_brings_each_picture_into_range_by_a_size_of_its_own(rng):
    """A picture within [−1,1] is left alone; a larger one is divided by its 99.5 % quantile, and only the rest is cut."""
    x0 = rng.standard_normal((3, 1, 20, 20)).astype(np.float32)
    x0[0] = np.clip(0.3 * x0[0], -1, 1)
    y = samplers.clipped(x0, "dynamic")
    assert y.dtype == np.float32 and np.abs(y).max() <= 1.0
    np.testing.assert_array_equal(y[0], x0[0])
    for plain, bright in zip(x0[1:], y[1:], strict=True):
        size = np.sort(np.abs(plain).ravel())[int(0.995 * 399)]
        inside = np.abs(plain) <= size
        assert size > 1.5 and (~inside).sum() == 2
        np.testing.assert_allclose(bright[inside], plain[inside] / size, rtol=1e-6)
        np.testing.assert_array_equal(bright[~inside], np.sign(plain[~inside]))


# ------------------------------------------------------------------------- the number of network evaluations


class Bright(Module):
    """A classifier of ten classes that is asked for its gradient."""

    def forward(self, x0):
        return x0.mean((1, 2, 3)).reshape(len(x0), 1) * np.arange(10, dtype=np.float32)


class Counting(Module):
    """A network that counts the images it is asked about."""

    config, images = {"in_channels": 1, "image_size": 8, "num_classes": 10}, 0

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, x, t, labels):
        self.images += len(x)
        return ops.as_tensor(x) * 0.5


GUIDANCES = {
    "none": 0.0, "w": 2.0, "interval": Guidance(2.0, interval=(0.2, 0.8)), "no step": Guidance(2.0, interval=(0.51, 0.52)),
    "classifier": Guidance(classifier=Bright()), "both": Guidance(2.0, interval=(0.2, 0.8), classifier=Bright()),
    "alone": Guidance(classifier=Bright(), alone=True),
}  # fmt: skip


@EACH
@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize(("name", "options"), [("edm", {}), ("flow", {})])
def test_the_announced_network_evaluations_are_those_that_are_made(sampler, guidance, name, options):
    """For every sampler, guidance and interval; with as many steps as T, half, in between, one, and steps that are given."""
    schedule = make_schedule(name, 20, **options)
    for steps, churn in ((None, 0.0), (20, 0.0), (13, 0.0), (10, 0.0), (1, 0.0), ([20, 17, 4, 1, 0], 0.0), (20, 8.0)):
        model = Counting("v")
        sample(model, schedule, [0, 3, -1], sampler, steps, guidance=GUIDANCES[guidance], churn=churn, batch_size=2)
        assert model.images == 3 * evaluations(schedule, sampler, steps, GUIDANCES[guidance], churn), (steps, churn)


def test_network_evaluations_by_hand():
    """Midpoint's and Heun's last step takes one; of 20 steps those from t = 4 to 16 of 20 lie in (0.2, 0.8)."""
    schedule = make_schedule("cosine", 20)
    found = {sampler: evaluations(schedule, sampler, 20) for sampler in SAMPLERS}
    assert found == {"ddpm": 20, "ddim": 20, "euler": 20, "midpoint": 39, "heun": 39, "dpm++": 20}
    assert evaluations(schedule, "midpoint", 10) == 20 and evaluations(schedule, "ddim", 20, 2.0) == 40
    assert evaluations(schedule, "ddim", 20, Guidance(2.0, interval=(0.2, 0.8))) == 20 + 13
    with pytest.raises(BadInput, match="^sample: sampler 'leap' is unknown"):
        evaluations(schedule, "leap")


def test_midpoint_without_a_step_between_is_heun_and_never_euler(rng, knows_gaussian):
    schedule = make_schedule("cosine", 20)
    drawn = {s: sample(knows_gaussian(schedule, 0.3, 0.5), schedule, [0, 1], s, 20, clip=False) for s in ("midpoint", "heun", "euler")}
    np.testing.assert_allclose(drawn["midpoint"], drawn["heun"], atol=1e-5)
    assert np.abs(drawn["midpoint"] - drawn["euler"]).max() > 1e-3


# --------------------------------------------------------------------------------- seeds and batches


@EACH
def test_batch_size_does_not_change_the_samples(network, sampler):
    labels = [3, 1, 4, 1, -1]
    runs = [
        sample(network, SCHEDULE, labels, sampler, 6, guidance=1.0, eta=0.5, seed=7, batch_size=size) for size in (1, 2, 64)
    ]
    for run in runs[1:]:
        np.testing.assert_allclose(run, runs[0], atol=1e-4)  # matrix products of other sizes round otherwise
    first = sample(network, SCHEDULE, labels[:2], sampler, 6, guidance=1.0, eta=0.5, seed=7)
    np.testing.assert_allclose(first, runs[0][:2], atol=1e-4)  # nor does the number of pictures


@EACH
def test_the_seed_decides(network, sampler):
    a, b, other = (sample(network, SCHEDULE, [3, 3], sampler, 4, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert a.shape == (2, 1, 8, 8) and a.dtype == np.float32
    assert np.abs(a - other).max() > 0.1 and np.abs(a[0] - a[1]).max() > 0.1


def test_ddim_without_eta_draws_noise_only_once(oracle, monkeypatch):
    draws = []

    class Counting(samplers.Rng):
        def standard_normal(self, shape, dtype=np.float32):
            draws.extend(range(shape[0]))
            return super().standard_normal(shape, dtype)

    monkeypatch.setattr(samplers, "Rng", Counting)
    counts = {}
    for sampler, eta in [("ddim", 0.0), ("ddim", 1.0), ("ddpm", 0.0), ("heun", 0.0), ("dpm++", 0.0)]:
        draws.clear()
        sample(oracle(lambda x, t, labels: x), SCHEDULE, [0, 1], sampler, 5, eta=eta)
        counts[sampler, eta] = len(draws)
    # the start; and all steps but the last
    assert counts == {("ddim", 0.0): 2, ("ddim", 1.0): 10, ("ddpm", 0.0): 10, ("heun", 0.0): 2, ("dpm++", 0.0): 2}


# -------------------------------------------------------------------------- what the caller sees and gets


@EACH
def test_the_callback_sees_every_step_of_every_batch(network, sampler):
    seen = []
    drawn = sample(
        network, SCHEDULE, [0, 1, 2], sampler, 4, batch_size=2,
        callback=lambda step, s, xt, x0_hat, indices: seen.append((step, s, xt, x0_hat, indices)),
    )  # fmt: skip
    assert [(step, s, list(indices)) for step, s, _, _, indices in seen] == [
        (step, s, indices) for indices in ([0, 1], [2]) for step, s in [(1, 45), (2, 30), (3, 15), (4, 0)]
    ]
    for _, s, xt, x0_hat, indices in seen:
        assert type(xt) is type(x0_hat) is np.ndarray and xt.shape == x0_hat.shape == (len(indices), 1, 8, 8)
        if s == 0 and sampler != "midpoint":      # which does not end on its first guess
            np.testing.assert_allclose(x0_hat, drawn[indices], rtol=1e-5, atol=1e-6)


def test_the_model_is_asked_in_evaluation_mode_and_put_back(oracle):
    def fails(x, t, labels):
        raise RuntimeError("no answer")

    for training in (True, False):
        for noise in (lambda x, t, labels: x, fails):  # the stand-in refuses to be asked while training
            model = oracle(noise)
            model.train(training)
            try:
                sample(model, SCHEDULE, [0], steps=2)
            except RuntimeError as error:
                assert noise is fails and str(error) == "no answer"
            assert model.training is training


def test_no_labels_give_no_pictures(oracle):
    model = oracle(lambda x, t, labels: x)
    assert sample(model, SCHEDULE, np.array([], int)).shape == (0, 1, 8, 8) and model.asked == []


def test_a_progress_bar_counts_all_steps(oracle, capsys):
    sample(oracle(lambda x, t, labels: x), SCHEDULE, [0, 1, 2], steps=5, batch_size=2, progress=True)
    assert "/10 " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "leap"}, "sample: sampler 'leap' is unknown; it is one of: ddpm, ddim, euler, midpoint, heun, dpm++"),
        ({"churn": -1.0}, "sample: churn must be a finite number, 0 or more; got -1.0"),
        ({"variance": "wide"}, "sample: variance 'wide' is unknown; it is one of: small, large, learned"),
        ({"variance": "learned"}, "sample: this model has not learned a variance; use small or large"),
        ({"clip": "hard"}, "sample: clip must be True, False or 'dynamic', got 'hard'"),
        ({"steps": [60, 20, 30, 0]}, "sample: a list of steps must fall from 60 or less to 0; got [60, 20, 30, 0]"),
        ({"steps": [60, 1]}, "sample: a list of steps must fall from 60 or less to 0; got [60, 1]"),
        ({"style": [0.5]}, "sample: this model has learned no style; leave style out"),
        ({"guidance": Guidance(w=1.0, negative=-1), "labels": [11]}, "sample: class 11 is not in this model; it knows 0-9"),
        ({"labels": [0, 12]}, "sample: class 12 is not in this model; it knows 0-9"),
        ({"labels": [-2]}, "sample: class -2 is not in this model; it knows 0-9"),
        ({"labels": [0.5]}, "sample: labels must be a row of integers, got float64 of shape (1,)"),
        ({"labels": 3}, "sample: labels must be a row of integers, got int64 of shape ()"),
        ({"steps": 0}, "sample: steps must be a whole number from 1 to 60, the model's T; got 0"),
        ({"steps": 61}, "sample: steps must be a whole number from 1 to 60, the model's T; got 61"),
        ({"steps": 2.5}, "sample: steps must be a whole number from 1 to 60, the model's T; got 2.5"),
        ({"steps": float("nan")}, "sample: steps must be a whole number from 1 to 60, the model's T; got nan"),
        ({"guidance": -1.0}, "sample: guidance must be a finite number, 0 or more; got -1.0"),
        ({"guidance": float("inf")}, "sample: guidance must be a finite number, 0 or more; got inf"),
        ({"eta": 1.5}, "sample: eta must lie between 0 and 1, got 1.5"),
        ({"batch_size": 0}, "sample: batch_size must be 1 or more, got 0"),
        ({"seed": -1}, "sample: seed must be a whole number, 0 or more; got -1"),
    ],
)
def test_bad_input_is_answered_in_one_line(oracle, options, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        sample(oracle(lambda x, t, labels: x), SCHEDULE, **{"labels": [0]} | options)


def test_too_many_pictures_at_a_time_say_how_many_to_try(network, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(samplers, "guided_output", full)
    with pytest.raises(BadInput, match="^sample: 64 pictures at a time do not fit into memory; try batch_size 32$"):
        sample(network, SCHEDULE, [0, 1], "ddim", 4)
