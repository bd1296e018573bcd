"""Likelihoods against answers known in closed form: one picture, Gaussian pixels, a mixture in the plane."""

import math
import re

import numpy as np
import pytest
from scipy import stats

from minidiff import backend, models
from minidiff.data import Mixture, eight_gaussians
from minidiff.diffusion import Exact, dequantise, likelihood, make_schedule, ode_log_likelihood, variational_bound
from minidiff.diffusion.variance import step_back
from minidiff.errors import BadInput
from minidiff.tensor import Tensor

SCHEDULE = make_schedule("cosine", 60)
WIDE = Mixture(np.array([[0.7, -0.2], [-0.5, 0.6], [-0.3, -0.7]]), np.array([0.35, 0.45, 0.4]), np.array([0.5, 0.3, 0.2]))
LN2 = math.log(2.0)


@pytest.fixture
def network():
    backend.manual_seed(3)
    return models.UNet(image_size=8, channels=(8, 16), num_classes=10, target="v")


@pytest.fixture
def images(rng):
    return (rng.integers(0, 256, (5, 1, 8, 8)) / 127.5 - 1).astype(np.float32)


LABELS = np.array([3, 1, 4, 1, -1])


# ------------------------------------------------------------------------------------------- the bound


@pytest.mark.parametrize("name", ["cosine", "linear", "flow", "edm"])
def test_a_picture_that_is_known_costs_its_start_and_its_bins(knows_picture, rng, name):
    """All steps in between are free. At T the start misses a_T x0; at t = 1 each bin 2/255 wide holds what a normal number
    with the variance of the second step has in it."""
    schedule = make_schedule(name, 60)
    picture = (rng.integers(0, 256, (1, 8, 8)) / 127.5 - 1).astype(np.float32)
    picture[0, 0, :2] = -1, 1                    # the first and the last bin have no end
    found = variational_bound(knows_picture(schedule, picture), schedule, np.stack([picture] * 3), [0, 1, 2])
    prior = 0.5 * (schedule.signal[-1] / schedule.noise[-1]) ** 2 * np.square(picture).mean() / LN2
    deviation = math.sqrt(step_back(schedule, 2, 1)[2])
    inside = np.where(np.abs(picture) == 1, stats.norm.cdf(1 / 255 / deviation), 2 * stats.norm.cdf(1 / 255 / deviation) - 1)
    decoder = -np.log2(inside).mean()
    assert found.prior == pytest.approx(prior, rel=1e-6) and found.decoder == pytest.approx(decoder, rel=0.01, abs=1e-3)
    np.testing.assert_allclose(found.terms[2:], 0.0, atol=1e-5)
    assert found.total == pytest.approx(prior + decoder, rel=0.01, abs=1e-3)
    assert len(found.terms) == 61 and found.terms[0] == 0 and found.standard_error < 0.01 * found.total + 1e-3


def test_the_terms_of_gaussian_pixels_are_those_of_their_posterior(knows_gaussian, rng):
    """What a step must tell is what x_t leaves open of x0, a²s²σ²/(a²s² + σ²)/a², seen through the step's mean."""
    schedule, m, s = make_schedule("cosine", 40), 0.1, 0.25
    x = np.clip(m + s * rng.standard_normal((32, 1, 16, 16)), -1, 1).astype(np.float32)
    found = variational_bound(knows_gaussian(schedule, m, s), schedule, x, np.zeros(32, int), clip=False)
    t = np.arange(2, 41)
    c0, _, small, _ = step_back(schedule, t, t - 1)
    left = s**2 * schedule.noise[t] ** 2 / ((schedule.signal[t] * s) ** 2 + schedule.noise[t] ** 2)
    np.testing.assert_allclose(found.terms[2:], 0.5 * c0**2 * left / small / LN2, rtol=0.08)     # √(2/8192) is 1.6 %
    assert found.total == pytest.approx(found.prior + found.terms.sum(), rel=1e-9)


def test_the_bound_lies_above_the_entropy_and_comes_down_to_it_with_T(knows_gaussian, rng):
    """Gaussian pixels of 256 levels hold log₂(s √(2πe) 127.5) = 7.04 bits; more steps lose less. Of the two variances the large
    is theirs, where x_t tells little of x0: the small one is for a picture that is known, and does not come down."""
    m, s = 0.0, 0.25
    x = np.clip(np.rint((m + s * rng.standard_normal((16, 1, 16, 16)) + 1) * 127.5) / 127.5 - 1, -1, 1).astype(np.float32)
    entropy = math.log2(s * math.sqrt(2 * math.pi * math.e) * 127.5)
    totals = {}
    for T, variance in ((10, "large"), (30, "large"), (90, "large"), (90, "small")):
        schedule = make_schedule("cosine", T)
        totals[T, variance] = variational_bound(knows_gaussian(schedule, m, s), schedule, x, np.zeros(16, int), variance=variance, clip=False).total
    assert entropy < totals[90, "large"] < totals[30, "large"] < totals[10, "large"]
    assert totals[90, "large"] < entropy + 0.06 and totals[90, "small"] > entropy + 0.5


def test_drawn_steps_are_right_on_average(network, images):
    whole = variational_bound(network, SCHEDULE, images, LABELS)
    some = [variational_bound(network, SCHEDULE, images, LABELS, draws=8, seed=seed) for seed in range(30)]
    totals = np.array([b.total for b in some])
    error = totals.std(ddof=1) / math.sqrt(30)
    assert abs(totals.mean() - whole.total) < 4 * error and error < 0.05 * whole.total
    # the standard error that one run gives is of the size of what runs differ by
    assert np.median([b.standard_error for b in some]) == pytest.approx(totals.std(ddof=1), rel=0.8)
    assert np.isnan(some[0].terms).any() and not np.isnan(whole.terms).any()


def test_drawn_terms_that_are_all_alike_add_up_to_all(network, images, monkeypatch):
    monkeypatch.setattr(likelihood, "bound_terms", lambda schedule, x0, *_: Tensor(np.ones(len(x0))))
    for draws in (None, 1, 7, 100):
        bound = variational_bound(network, SCHEDULE, images, LABELS, draws)
        assert bound.total - bound.prior == pytest.approx(60)


def test_each_pictures_chance_is_its_own(network, images):
    for draws in (None, 4):
        runs = [variational_bound(network, SCHEDULE, images, LABELS, draws, seed=2, batch_size=size) for size in (1, 2, 64)]
        for run in runs[1:]:
            assert run.total == pytest.approx(runs[0].total, rel=1e-4)
            np.testing.assert_allclose(run.terms, runs[0].terms, rtol=1e-3, atol=1e-6)
    assert variational_bound(network, SCHEDULE, images, LABELS, 4, seed=3).total != runs[0].total


def test_a_learned_variance_is_heard_and_each_can_be_chosen(images):
    backend.manual_seed(0)
    model = models.UNet(image_size=8, channels=(8, 16), num_classes=10, variance="learned", target="v")
    totals = {v: variational_bound(model, SCHEDULE, images, LABELS, variance=v).total for v in (None, "small", "large", "learned")}
    assert totals[None] == totals["learned"] and len(set(totals.values())) == 3


def test_a_road_of_one_step_has_only_the_decoder(knows_picture):
    schedule, x = make_schedule("linear", 1), np.zeros((2, 1, 8, 8), np.float32)
    for draws in (None, 3):
        bound = variational_bound(knows_picture(schedule, x[0]), schedule, x, [0, 1], draws)
        assert bound.total == pytest.approx(bound.prior + bound.decoder) and len(bound.terms) == 2


def test_one_picture_has_no_spread_and_a_bound_speaks(network, images):
    bound = variational_bound(network, SCHEDULE, images[:1], LABELS[:1])
    assert math.isnan(bound.standard_error)
    bound = variational_bound(network, SCHEDULE, images, LABELS)
    rest = bound.terms[2:].sum()
    assert str(bound) == (f"{bound.total:.3f} ± {bound.standard_error:.3f} bits per number: {bound.prior:.3f} at T,"
                          f" {rest:.3f} between, {bound.terms[1]:.3f} at t = 1")


# ------------------------------------------------------------------------------------------- the density


@pytest.mark.parametrize(("name", "target"), [("cosine", "eps"), ("cosine", "v"), ("flow", "flow"), ("edm", "eps"), ("sigmoid", "x0")])
def test_the_density_of_a_mixture_is_found(name, target):
    """To 1 % of what ln p is on average, point by point. On the road edm what is left is its start, N(0, σ_T²) at σ_T = 80."""
    x, _ = WIDE.draw(100, np.random.default_rng(0))
    schedule = make_schedule(name, 500)
    found = ode_log_likelihood(Exact(WIDE, schedule, target), schedule, x, np.full(100, -1), exact=True, clip=False, batch_size=100)
    true = WIDE.log_density(x.astype(np.float32).astype(float))
    np.testing.assert_allclose(found.nats, true, atol=0.01 * np.abs(true).mean())
    assert (found.standard_error == 0).all()
    np.testing.assert_allclose(found.bits, -found.nats / (2 * LN2) + 7)


def test_of_one_part_it_is_that_parts():
    x, part = eight_gaussians().draw(60, np.random.default_rng(0))
    schedule, ring = make_schedule("flow", 1000), eight_gaussians()
    found = ode_log_likelihood(Exact(ring, schedule, "flow"), schedule, x, part, exact=True, clip=False)
    s = ring.deviations[part]
    own = -0.5 * np.square(x - ring.means[part]).sum(1) / s**2 - np.log(2 * math.pi * s**2)
    np.testing.assert_allclose(found.nats, own, atol=0.03)


def test_the_error_falls_with_the_square_of_the_steps():
    x, _ = WIDE.draw(50, np.random.default_rng(0))
    schedule = make_schedule("flow", 512)
    true = WIDE.log_density(x.astype(np.float32).astype(float))
    error = {}
    for steps in (16, 64):
        found = ode_log_likelihood(Exact(WIDE, schedule, "flow"), schedule, x, np.full(50, -1), steps, exact=True, clip=False)
        error[steps] = np.sqrt(np.square(found.nats - true).mean())
    assert error[64] < error[16] / 10


def test_hutchinsons_trace_is_right_within_its_standard_error():
    x, _ = WIDE.draw(100, np.random.default_rng(0))
    schedule = make_schedule("flow", 50)
    model, labels = Exact(WIDE, schedule, "flow"), np.full(100, -1)
    exact = ode_log_likelihood(model, schedule, x, labels, exact=True, clip=False)
    found = ode_log_likelihood(model, schedule, x, labels, probes=16, clip=False)
    # 16 signs of two numbers: v and −v give the same, so their error is one of few values. Some are 0: ask where it is not.
    told = found.standard_error > 1e-3
    z = (found.nats - exact.nats)[told] / found.standard_error[told]
    assert told.mean() > 0.5 and np.abs(z).max() < 6 and np.sqrt(np.square(z).mean()) == pytest.approx(1.0, abs=0.35)
    assert np.isnan(ode_log_likelihood(model, schedule, x[:2], labels[:2], 5, clip=False).standard_error).all()


def test_a_guess_is_clipped_as_the_sampler_clips_it():
    """Data around 3 and around 5 are all at 1, where guesses end."""
    schedule, x, labels = make_schedule("cosine", 60), np.zeros((2, 2), np.float32), np.zeros(2, int)
    found = {}
    for clip in (True, False):
        found[clip] = [ode_log_likelihood(Exact(Mixture(np.full((1, 2), m), np.array([0.01])), schedule), schedule, x, labels, exact=True, clip=clip).nats
                       for m in (3.0, 5.0)]  # fmt: skip
    np.testing.assert_allclose(*found[True])
    assert np.abs(found[False][0] - found[False][1]).min() > 1


def test_gaussian_pixels_have_their_entropy_in_bits(rng):
    """A U-Net's shape of data: 16 numbers, each N(0.1, 0.3²), of which Hutchinson's trace is exact: J is diagonal."""
    m, s = 0.1, 0.3
    mixture, schedule = Mixture(np.full((1, 16), m), np.array([s])), make_schedule("flow", 100)
    x = (m + s * rng.standard_normal((200, 16))).astype(np.float32)
    found = ode_log_likelihood(Exact(mixture, schedule, "flow"), schedule, x, np.zeros(200, int), probes=2, clip=False)
    np.testing.assert_allclose(found.nats, stats.norm(m, s).logpdf(x.astype(float)).sum(1), atol=0.05)
    assert found.standard_error.max() < 1e-3
    bits = math.log2(s * math.sqrt(2 * math.pi * math.e) * 128)               # 128 levels to the unit
    assert found.bits.mean() == pytest.approx(bits, abs=4 / math.sqrt(2 * 3200) / LN2)


def test_a_networks_trace_by_chance_is_that_by_all_directions(network, images):
    exact = ode_log_likelihood(network, SCHEDULE, images[:2], LABELS[:2], steps=3, exact=True)
    found = ode_log_likelihood(network, SCHEDULE, images[:2], LABELS[:2], steps=3, probes=24)
    assert (np.abs(found.nats - exact.nats) < 4 * found.standard_error).all()
    assert (found.standard_error < 0.1 * np.abs(exact.nats)).all()


def test_each_pictures_directions_are_its_own(network, images):
    runs = [ode_log_likelihood(network, SCHEDULE, images, LABELS, steps=3, probes=2, seed=1, batch_size=size) for size in (1, 2, 64)]
    for run in runs[1:]:
        np.testing.assert_allclose(run.nats, runs[0].nats, rtol=1e-4)
    other = ode_log_likelihood(network, SCHEDULE, images, LABELS, steps=3, probes=2, seed=2)
    assert (other.nats != runs[0].nats).all()


def test_the_model_is_left_as_it_was(network, images):
    network.train()
    variational_bound(network, SCHEDULE, images, LABELS, draws=1)
    ode_log_likelihood(network, SCHEDULE, images, LABELS, steps=1)
    assert network.training and all(p.grad is None for p in network.parameters())


# -------------------------------------------------------------------------------------------- levels


def test_dequantised_levels_fill_their_bins(rng):
    levels = np.arange(256)
    x = np.tile((levels / 127.5 - 1).astype(np.float32), (400, 1))
    spread = dequantise(x, seed=1)
    assert spread.dtype == np.float32 and spread.min() >= -1 and spread.max() <= 1
    assert np.abs((spread.astype(float) + 1) * 128 - (levels + 0.5)).max() < 0.5 + 1e-4      # each in its own, to rounding
    assert stats.kstest(((spread.astype(float) + 1) * 128 % 1).ravel()[:20_000], "uniform").pvalue > 1e-4
    np.testing.assert_array_equal(dequantise(x[:3], seed=1), spread[:3])
    assert (dequantise(x[:3], seed=2) != spread[:3]).any()


# ------------------------------------------------------------------------------------------ bad input

X = np.zeros((2, 1, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: variational_bound(m, SCHEDULE, X, [0, 1], draws=0), "variational_bound: draws must be a whole number of steps, 1 or more, or None for every step; got 0"),
        (lambda m: variational_bound(m, SCHEDULE, X, [0, 1], variance="learned"), "variational_bound: variance 'learned'; it must be small, large or, where the model has learned one, learned"),
        (lambda m: variational_bound(m, SCHEDULE, X[:0], np.zeros(0, int)), "variational_bound: there are no images"),
        (lambda m: variational_bound(m, SCHEDULE, X - 2, [0, 1]), "variational_bound: images run -2 … -2; they must lie in [-1,1], or clip must be False"),
        (lambda m: variational_bound(m, SCHEDULE, X, [0, 10]), "sample: class 10 is not in this model; it knows 0-9"),
        (lambda m: variational_bound(m, make_schedule("flow", 60), X, [0, 1]), "variational_bound: at T nothing of the picture is left in this schedule, and ε is x_T itself; train for x0, v or flow"),
        (lambda m: ode_log_likelihood(m, make_schedule("flow", 60), X, [0, 1]), "ode_log_likelihood: at T nothing of the picture is left in this schedule, and ε is x_T itself; train for x0, v or flow"),
        (lambda m: ode_log_likelihood(m, SCHEDULE, X, [0, 1], probes=0), "ode_log_likelihood: probes must be a whole number, 1 or more; got 0"),
        (lambda m: ode_log_likelihood(m, SCHEDULE, X, [0]), "ode_log_likelihood: images must be float (1, 1, 8, 8), one for each label; got float32 (2, 1, 8, 8)"),
        (lambda m: ode_log_likelihood(m, SCHEDULE, X, [0, 1], steps=61), "sample: steps must be a whole number from 1 to 60, the model's T; got 61"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_in_one_line(oracle, call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call(oracle(lambda x, t, labels: x))
