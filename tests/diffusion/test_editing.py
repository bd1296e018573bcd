"""Edits of pictures: what must stay the same, what is known in closed form, and what seeds and batches may change."""

import re

import numpy as np
import pytest
from scipy import stats

from minidiff import backend, evaluate, models
from minidiff.data import Mixture, eight_gaussians
from minidiff.diffusion import (
    SAMPLERS,
    Exact,
    Guidance,
    decode,
    denoise,
    image_to_image,
    inpaint,
    interpolate,
    invert,
    make_schedule,
    q_onward,
    sample,
    slerp,
    write_augmented,
)
from minidiff.diffusion.editing import back_and_forth, steps_below
from minidiff.diffusion.solvers import SOLVERS, Answer
from minidiff.diffusion.targets import predict_x0
from minidiff.errors import BadInput

SCHEDULE = make_schedule("cosine", 60)
EACH = pytest.mark.parametrize("sampler", SAMPLERS)
RING = eight_gaussians()
HALF = np.arange(8)[:, None] < 4                 # (8,1): the upper half is known


@pytest.fixture
def network():
    """A real U-Net, small and untrained. Asked for v, so that its guess at T is as large as a picture: from ε it would be
    divided by the signal that is left, a two-thousandth."""
    backend.manual_seed(3)
    return models.UNet(image_size=8, channels=(8, 16), num_classes=10, target="v")


@pytest.fixture
def images(rng):
    return rng.uniform(-1, 1, (5, 1, 8, 8)).astype(np.float32)


LABELS = np.array([3, 1, 4, 1, -1])
EDITS = {
    "image_to_image": lambda model, x, n=5, **how: image_to_image(model, SCHEDULE, x[:n], LABELS[:n], 0.5, 6, **how),
    "denoise": lambda model, x, n=5, **how: denoise(model, SCHEDULE, 1.5 * x[:n], LABELS[:n], 0.8, 6, **how),
    "inpaint": lambda model, x, n=5, **how: inpaint(model, SCHEDULE, x[:n], HALF, LABELS[:n], resample=1, steps=6, **how),
    "invert": lambda model, x, n=5, **how: invert(model, SCHEDULE, x[:n], LABELS[:n], 6, **how),
    "decode": lambda model, x, n=5, **how: decode(model, SCHEDULE, x[:n], LABELS[:n], 6, **how),
    "interpolate": lambda model, x, n=5, **how: interpolate(model, SCHEDULE, x[:n], -x[:n], LABELS[:n], 3, 4, **how),
}  # fmt: skip
CHANCE = {"image_to_image": {"sampler": "ddim"}, "inpaint": {"sampler": "ddim"}, "denoise": {"sampler": "ddpm"}, "invert": {}, "interpolate": {}}
EVERY = pytest.mark.parametrize("edit", EDITS)


# ------------------------------------------------------------------------------------ batches, seeds, modes


@EVERY
def test_batch_size_and_number_of_pictures_change_no_picture(network, images, edit):
    runs = [EDITS[edit](network, images, batch_size=size) for size in (1, 2, 64)]
    for run in runs[1:]:
        np.testing.assert_allclose(run, runs[0], atol=1e-4)
    np.testing.assert_allclose(EDITS[edit](network, images, n=2), runs[0][:2], atol=1e-4)
    assert runs[0].dtype == np.float32 and np.isfinite(runs[0]).all()


@EVERY
@pytest.mark.parametrize(("name", "options"), [("flow", {}), ("cosine", {"zero_terminal_snr": True}), ("edm", {})])
@pytest.mark.parametrize("T", [1, 2, 6])
def test_a_classifier_keeps_every_edit_finite_where_the_signal_ends(network, images, edit, name, options, T):
    schedule = make_schedule(name, T, **options)
    guidance = Guidance(classifier=lambda x0: x0.mean((2, 3)) * np.arange(10, dtype=np.float32), strength=10.0)
    short = {"denoise": lambda x: denoise(network, schedule, x, LABELS, 0.0, guidance=guidance),
             "image_to_image": lambda x: image_to_image(network, schedule, x, LABELS, 1.0, guidance=guidance),
             "inpaint": lambda x: inpaint(network, schedule, x, HALF, LABELS, resample=1, guidance=guidance),
             "invert": lambda x: invert(network, schedule, x, LABELS, sampler="heun", guidance=guidance),
             "decode": lambda x: decode(network, schedule, x, LABELS, sampler="heun", guidance=guidance),
             "interpolate": lambda x: interpolate(network, schedule, x, -x, LABELS, 3, guidance=guidance)}  # fmt: skip
    assert np.isfinite(short[edit](images)).all()


@pytest.mark.parametrize("edit", CHANCE)
def test_the_seed_decides(network, images, edit):
    a, b, other = (EDITS[edit](network, images, seed=seed, **CHANCE[edit]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - other).max() > 0.05
    np.testing.assert_allclose(EDITS[edit](network, images, n=2, seed=1, batch_size=1, **CHANCE[edit]), a[:2], atol=1e-4)


@EVERY
def test_the_model_is_asked_in_evaluation_mode_and_put_back(oracle, images, edit):
    def fails(x, t, labels):
        raise RuntimeError("no answer")

    for noise in (lambda x, t, labels: x, fails):                # the stand-in refuses to be asked while training
        model = oracle(noise)
        model.train(True)
        try:
            EDITS[edit](model, images)
        except RuntimeError as error:
            assert noise is fails and str(error) == "no answer"
        assert model.training is True


@EVERY
def test_pictures_that_are_given_are_left_as_they_are(network, images, edit):
    before = images.copy()
    EDITS[edit](network, images)
    np.testing.assert_array_equal(images, before)


def test_pictures_drawn_in_parts_are_those_drawn_at_once(network):
    whole = sample(network, SCHEDULE, LABELS, steps=4, seed=3)
    np.testing.assert_allclose(sample(network, SCHEDULE, LABELS[2:], steps=4, seed=3, first=2), whole[2:], atol=1e-4)


# ----------------------------------------------------------------------------------------- image to image


def test_no_strength_gives_the_pictures_back_and_little_strength_nearly(knows_gaussian, rng):
    """Pixels N(0.3, 0.2²): the more noise, the less is left of the picture, to nothing at T."""
    schedule, m, s = make_schedule("cosine", 200), 0.3, 0.2
    model, x = knows_gaussian(schedule, m, s), (m + s * rng.standard_normal((16, 1, 16, 16))).astype(np.float32)
    labels = np.zeros(16, int)
    np.testing.assert_array_equal(image_to_image(model, schedule, x, labels, 0.0, clip=False), x)
    kept = []
    for strength in (0.02, 0.1, 0.3, 0.6, 1.0):
        y = image_to_image(model, schedule, x, labels, strength, clip=False)
        kept.append(np.corrcoef(x.ravel(), y.ravel())[0, 1])
        assert abs(y.mean() - m) < 0.02 and abs(y.std() - s) < 0.02       # of the data still, whatever the strength
    assert kept == sorted(kept, reverse=True) and kept[0] > 0.9 and abs(kept[-1]) < 0.06


def test_what_is_kept_is_what_bayes_says(knows_gaussian, rng):
    """y, drawn from p(x0 | x_τ), is as far from x as another draw of it: their correlation is the part s²/(s² + (σ/a)²)."""
    schedule, s, strength = make_schedule("cosine", 200), 0.5, 0.4
    t = round(strength * 200)
    ratio = (schedule.noise[t] / schedule.signal[t]) ** 2
    x = (s * rng.standard_normal((16, 1, 16, 16))).astype(np.float32)
    y = image_to_image(knows_gaussian(schedule, 0.0, s), schedule, x, np.zeros(16, int), strength, clip=False)
    assert np.corrcoef(x.ravel(), y.ravel())[0, 1] == pytest.approx(s**2 / (s**2 + ratio), abs=0.05)     # 3 of 1/√4096


def test_the_steps_are_those_of_the_whole_road_below_the_start(oracle, images):
    assert steps_below(SCHEDULE, 40, 4) == [40, 30, 15, 0] and steps_below(SCHEDULE, 45, 4) == [45, 30, 15, 0]
    assert steps_below(SCHEDULE, 60, [60, 7, 0]) == [60, 7, 0] and steps_below(SCHEDULE, 0, None) == [0]
    model = oracle(lambda x, t, labels: x)
    image_to_image(model, SCHEDULE, images, LABELS, 0.5, 6)
    assert [t for _, t, _ in model.asked] == [30, 20, 10]


# ----------------------------------------------------------------------------------------------- denoise


@EACH
def test_noise_over_the_one_picture_there_is_goes_away(knows_picture, rng, sampler):
    picture = rng.uniform(-1, 1, (1, 8, 8)).astype(np.float32)
    noisy = picture + 0.5 * rng.standard_normal((3, 1, 8, 8)).astype(np.float32)
    restored = denoise(knows_picture(SCHEDULE, picture), SCHEDULE, noisy, [0, 1, 2], 0.5, sampler=sampler)
    np.testing.assert_allclose(restored, np.broadcast_to(picture, noisy.shape), atol=1e-4)


@pytest.mark.parametrize("name", ["cosine", "flow", "edm"])
def test_what_is_restored_is_drawn_from_the_posterior(knows_gaussian, rng, name):
    """x ~ N(m, s²) seen as y = x + σ n is N(m + k (y − m), (1 − k) s²), k = s²/(s² + σ²)."""
    m, s, schedule = 0.3, 0.5, make_schedule(name, 500)
    t = 200
    sigma = schedule.noise[t] / schedule.signal[t]
    k = s**2 / (s**2 + sigma**2)
    y = m + np.hypot(s, sigma) * rng.standard_normal((16, 1, 16, 16))
    error = denoise(knows_gaussian(schedule, m, s), schedule, y, np.zeros(16, int), sigma, clip=False) - (m + k * (y - m))
    deviation = np.sqrt(1 - k) * s
    assert abs(error.mean()) < 4 * deviation / 64 + 0.01 * s and error.std() == pytest.approx(deviation, rel=0.06)


def test_the_step_is_the_one_whose_noise_is_nearest(oracle, images):
    ratio = SCHEDULE.noise / SCHEDULE.signal
    for t in (1, 20, 60):
        seen = []
        model = oracle(lambda x, t, labels, seen=seen: seen.append((t, x)) or x)
        denoise(model, SCHEDULE, images, LABELS, ratio[t] * 1.001 if t < 60 else ratio[t])
        assert seen[0][0] == t
        np.testing.assert_allclose(seen[0][1], SCHEDULE.signal[t] * images, rtol=1e-6)
    np.testing.assert_array_equal(denoise(model, SCHEDULE, images, LABELS, 0.4 * ratio[1]), images)


# ----------------------------------------------------------------------------------------------- inpaint


@EACH
@pytest.mark.parametrize("mask", [HALF, np.ones((8, 8), bool), np.zeros((8, 8), bool)], ids=["half", "all", "none"])
def test_known_pixels_stay_exactly_as_they_were(network, images, sampler, mask):
    out = inpaint(network, SCHEDULE, images, mask, LABELS, resample=1, steps=4, sampler=sampler)
    known = np.broadcast_to(mask, images.shape)
    np.testing.assert_array_equal(out[known], images[known])
    assert np.abs(out - images)[~known].min(initial=1) >= 0 and np.abs(out).max() <= 1


def test_what_unknown_pixels_hold_does_not_matter(network, images):
    other = np.where(HALF, images, np.nan).astype(np.float32)
    run = [inpaint(network, SCHEDULE, x, HALF, LABELS, steps=3) for x in (images, other)]
    np.testing.assert_array_equal(*run)


def test_resampling_goes_back_and_forth():
    assert back_and_forth([3, 2, 1, 0], 0, 1) == [3, 2, 1, 0]
    assert back_and_forth([3, 2, 1, 0], 1, 1) == [3, 2, 3, 2, 1, 2, 1, 0]
    assert back_and_forth([8, 6, 4, 2, 0], 2, 2) == [8, 6, 4, 8, 6, 4, 8, 6, 4, 2, 0]


def test_the_way_back_up_is_the_forward_process(rng):
    for name in ("cosine", "flow", "edm"):
        schedule, z = make_schedule(name, 60), rng.standard_normal((2, 20_000))
        xs = schedule.signal[20] * 0.7 + schedule.noise[20] * z[0]
        xt = q_onward(schedule, xs, 20, 45, z[1])
        assert xt.mean() == pytest.approx(schedule.signal[45] * 0.7, abs=4 * schedule.noise[45] / np.sqrt(20_000))
        assert xt.std() == pytest.approx(schedule.noise[45], rel=0.02)
    beta = SCHEDULE.beta[8]
    np.testing.assert_allclose(q_onward(SCHEDULE, 1.0, 7, 8, 0.0), np.sqrt(1 - beta))
    np.testing.assert_allclose(q_onward(SCHEDULE, 0.0, 7, 8, 1.0), np.sqrt(beta))


def inpainted(known, n=2000, **how):
    """The second number of points of the ring whose first is known."""
    schedule, x = make_schedule("cosine", 128), np.tile(np.array([known, 0.0], np.float32), (n, 1))
    mask = np.array([True, False])
    return inpaint(Exact(RING, schedule), schedule, x, mask, np.full(n, -1), clip=False, batch_size=n, **how)[:, 1]


def test_the_unknown_part_fits_the_known():
    """Where the ring is met at x = 0 there are two parts, as likely as each other; a walk that is told but not resampled
    leaves a few points in between."""
    between = {}
    for resample in (0, 4):
        y = inpainted(0.0, resample=resample, steps=64)
        between[resample] = (np.abs(np.abs(y) - 0.8) > 0.35).mean()
        assert 0.4 < (y > 0).mean() < 0.6
    assert between[4] < 0.01 < between[0]


def test_numbers_that_know_nothing_of_each_other_are_drawn_as_without_the_known_one():
    """One Gaussian: the second number is N(0.3, 0.4²), whatever the first."""
    mixture, schedule = Mixture(np.array([[-0.2, 0.3]]), np.array([0.4])), make_schedule("cosine", 400)
    x = np.tile(np.array([0.9, 0.0], np.float32), (2000, 1))
    y = inpaint(Exact(mixture, schedule), schedule, x, [True, False], np.full(2000, -1), resample=1, clip=False, batch_size=2000)[:, 1]
    assert stats.kstest(y, stats.norm(0.3, 0.4).cdf).pvalue > 1e-4


def test_a_solver_with_a_memory_forgets_when_it_goes_back(knows_picture, rng):
    picture = rng.uniform(-1, 1, (1, 8, 8)).astype(np.float32)
    out = inpaint(knows_picture(SCHEDULE, picture), SCHEDULE, picture[None], HALF, [0], resample=2, jump=2, steps=9, sampler="dpm++")
    np.testing.assert_allclose(out[0], picture, atol=1e-4)


def test_a_walk_that_goes_back_up_tells_its_solver(oracle, images, monkeypatch):
    told = []
    monkeypatch.setattr(SOLVERS["dpm++"], "forget", lambda self: told.append(self.before) or setattr(self, "before", None))
    inpaint(oracle(lambda x, t, labels: x), SCHEDULE, images, HALF, LABELS, resample=2, steps=3, sampler="dpm++")
    assert len(told) == 4 and all(before is not None for before in told)
    solver = SOLVERS["dpm++"](SCHEDULE, lambda x, t: Answer(np.sin(t * x), x), None, 3)
    x, _ = solver.step(images, 60, 40)
    solver.forget()
    fresh = SOLVERS["dpm++"](SCHEDULE, solver.ask, None, 3)
    np.testing.assert_array_equal(solver.step(x, 40, 20)[0], fresh.step(x, 40, 20)[0])


# ------------------------------------------------------------------------------------- there and back again


def round_trip(model, schedule, x, labels, steps, sampler):
    latents = invert(model, schedule, x, labels, steps, sampler, clip=False)
    return np.sqrt(np.square(decode(model, schedule, latents, labels, steps, sampler, clip=False) - x).mean())


@pytest.mark.parametrize(("sampler", "order", "last"), [("ddim", 1, 0.008), ("heun", 2, 2e-4)])
@pytest.mark.parametrize("name", ["cosine", "flow"])
def test_the_round_trip_misses_by_less_the_more_steps_there_are(name, sampler, order, last):
    schedule = make_schedule(name, 256)
    model, (x, _) = Exact(RING, schedule, "flow"), RING.draw(200, np.random.default_rng(0))
    errors = [round_trip(model, schedule, x, np.full(200, -1), steps, sampler) for steps in (16, 64, 256)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < last, errors
    assert errors[0] / errors[2] > 2 ** (2 * order)


def test_the_round_trip_of_a_network_misses_by_less_too(network, images):
    errors = [round_trip(network, SCHEDULE, images, LABELS, steps, "ddim") for steps in (5, 15, 60)]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2], errors


def test_latents_of_data_are_noise():
    """2,000 points of the ring, inverted: normal in each direction, of which this p-value is one of two in 10,000 tries."""
    schedule = make_schedule("flow", 200)
    x, _ = RING.draw(2000, np.random.default_rng(1))
    z = invert(Exact(RING, schedule, "flow"), schedule, x, np.full(2000, -1), sampler="heun", clip=False, batch_size=2000)
    for direction in ([1, 0], [0, 1], [0.6, 0.8]):
        assert stats.kstest(z @ np.array(direction), "norm").pvalue > 1e-4


def test_inverting_a_sample_finds_the_noise_it_came_from():
    schedule, labels = make_schedule("flow", 400), np.full(100, -1)
    model, z = Exact(RING, schedule, "flow"), np.random.default_rng(0).standard_normal((100, 2))
    x = decode(model, schedule, z, labels, sampler="heun", clip=False)
    found = invert(model, schedule, x, labels, sampler="heun", clip=False)
    assert np.median(np.abs(found - z)) < 1e-3


def test_the_first_step_up_asks_about_the_first_step(oracle, images):
    for seed in (None, 0):
        seen = []
        model = oracle(lambda x, t, labels, seen=seen: seen.append((t, x)) or 0 * x)
        invert(model, SCHEDULE, images, LABELS, 4, seed=seed)
        assert [t for t, _ in seen] == [1, 15, 30, 45]
        away = (seen[0][1] - SCHEDULE.signal[1] * images) / SCHEDULE.noise[1]
        assert np.abs(away).max() < 1e-4 if seed is None else away.std() == pytest.approx(1.0, abs=0.2)
    seen.clear()
    invert(model, SCHEDULE, images, LABELS, 60, seed=0)
    assert [t for t, _ in seen] == list(range(1, 60))


def test_what_does_not_spread_has_noise_by_seed_alone(knows_picture, rng):
    """There is one picture. It stays without noise on its way up; with a seed it goes up on the noise of the first step."""
    picture = rng.uniform(-1, 1, (1, 8, 8)).astype(np.float32)
    model, x = knows_picture(SCHEDULE, picture), np.stack([picture] * 40)
    for sampler in ("ddim", "heun"):
        bare, noisy = (invert(model, SCHEDULE, x, np.zeros(40, int), 12, sampler, seed=seed) for seed in (None, 3))
        np.testing.assert_allclose(bare, SCHEDULE.signal[-1] * x, atol=1e-4)
        assert stats.kstest(noisy.ravel(), "norm").pvalue > 1e-4
        np.testing.assert_allclose(decode(model, SCHEDULE, noisy, np.zeros(40, int), 12, sampler), x, atol=1e-4)


# ----------------------------------------------------------------------------------------------- between


def test_slerp_goes_along_the_arc(rng):
    a, b = rng.standard_normal((2, 4, 3, 5))
    a, b = (x / np.sqrt(np.square(x).sum((1, 2), keepdims=True)) for x in (a, b))
    way = np.stack([slerp(a, b, w) for w in np.linspace(0, 1, 9)])
    np.testing.assert_allclose(np.square(way).sum((2, 3)), 1.0)                      # on the sphere
    steps = np.square(np.diff(way, axis=0)).sum((2, 3))
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape))        # at one speed
    np.testing.assert_allclose(way[0], a)
    np.testing.assert_allclose(way[-1], b, atol=1e-12)


def test_slerp_of_one_line_is_straight(rng):
    a = rng.standard_normal((3, 6)).astype(np.float32)
    for b in (a, 3 * a, 0 * a, -a):
        np.testing.assert_allclose(slerp(a, b, 0.25), 0.75 * a + 0.25 * b, rtol=1e-5, atol=1e-6)
        assert slerp(a, b, 0.25).dtype == np.float32


def test_interpolation_begins_and_ends_with_the_pictures():
    schedule, mixture = make_schedule("flow", 256), RING
    x, _ = mixture.draw(40, np.random.default_rng(0))
    way = interpolate(Exact(mixture, schedule, "flow"), schedule, x[:20], x[20:], np.full(20, -1), 5, sampler="heun", clip=False, batch_size=7)
    assert way.shape == (20, 5, 2)
    np.testing.assert_allclose(way[:, 0], x[:20], atol=0.01)
    np.testing.assert_allclose(way[:, -1], x[20:], atol=0.01)
    # what lies between is data too: likelier than the middles of straight lines, by far
    assert np.median(mixture.log_density(way[:, 2])) > np.median(mixture.log_density((x[:20] + x[20:]) / 2)) + 1


# -------------------------------------------------------------------------------------------- an archive


def test_an_archive_holds_what_sample_draws(network, tmp_path, monkeypatch):
    monkeypatch.setattr("minidiff.diffusion.editing.PART", 3)              # 8 pictures in parts of 3, 3 and 2
    path = write_augmented(tmp_path / "new" / "set.npz", network, SCHEDULE, 4, classes=[7, 2], steps=3, sampler="ddim", seed=5)
    images, labels = evaluate.read_samples(path)
    assert labels.dtype == np.int64 and list(labels) == [7, 2] * 4 and images.dtype == np.float32
    np.testing.assert_allclose(images, sample(network, SCHEDULE, labels, "ddim", 3, seed=5), atol=1e-4)
    assert [p.name for p in path.parent.iterdir()] == ["set.npz"]


def test_an_archive_is_not_overwritten_nor_left_half_written(network, oracle, tmp_path):
    path = write_augmented(tmp_path / "set.npz", network, SCHEDULE, 1, steps=1)
    before = path.read_bytes()
    with pytest.raises(BadInput, match=f"^{re.escape(f'write_augmented: {path} is there already; give another path, or overwrite=True')}$"):
        write_augmented(path, network, SCHEDULE, 1, steps=1)

    def fails(x, t, labels):
        raise RuntimeError("no answer")

    with pytest.raises(RuntimeError):
        write_augmented(path, oracle(fails), SCHEDULE, 1, steps=1, overwrite=True)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["set.npz"]
    write_augmented(path, network, SCHEDULE, 2, steps=1, overwrite=True)
    assert len(evaluate.read_samples(path)[1]) == 20


def test_an_archive_needs_a_picture_for_each_label(tmp_path):
    with pytest.raises(BadInput, match="^.*set.npz: 2 images and 3 labels; there must be one label for each image$"):
        evaluate.write_samples(tmp_path / "set.npz", np.arange(3), [np.zeros((2, 1, 4, 4), np.float32)])
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------- bad input

X = np.zeros((2, 1, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, p: image_to_image(m, SCHEDULE, X, [0, 1], 1.5), "image_to_image: strength must lie between 0 and 1, got 1.5"),
        (lambda m, p: image_to_image(m, SCHEDULE, X, [0]), "image_to_image: images must be float (1, 1, 8, 8), one for each label; got float32 (2, 1, 8, 8)"),
        (lambda m, p: image_to_image(m, SCHEDULE, X.astype(int), [0, 1]), "image_to_image: images must be float (2, 1, 8, 8), one for each label; got int64 (2, 1, 8, 8)"),
        (lambda m, p: image_to_image(m, SCHEDULE, X + 3, [0, 1]), "image_to_image: images run 3 … 3; they must lie in [-1,1], or clip must be False"),
        (lambda m, p: image_to_image(m, SCHEDULE, X * np.nan, [0, 1]), "image_to_image: images hold NaN or infinity"),
        (lambda m, p: image_to_image(m, SCHEDULE, X, [0, 12]), "sample: class 12 is not in this model; it knows 0-9"),
        (lambda m, p: image_to_image(m, SCHEDULE, X, [0, 1], steps=0), "sample: steps must be a whole number from 1 to 60, the model's T; got 0"),
        (lambda m, p: denoise(m, make_schedule("linear", 60), X, [0, 1], 2.0), "denoise: sigma must lie between 0 and 0.914, the most noise on this schedule; got 2.0"),
        (lambda m, p: denoise(m, make_schedule("flow", 60), X, [0, 1], float("inf")), "denoise: sigma must lie between 0 and 59, the most noise on this schedule; got inf"),
        (lambda m, p: denoise(m, SCHEDULE, X, [0, 1], -0.1), f"denoise: sigma must lie between 0 and {SCHEDULE.noise[-1] / SCHEDULE.signal[-1]:.3g}, the most noise on this schedule; got -0.1"),
        (lambda m, p: inpaint(m, SCHEDULE, X, np.ones((8, 8)), [0, 1]), "inpaint: mask must be bool and broadcast to (2, 1, 8, 8), True where the picture is known; got float64 (8, 8)"),
        (lambda m, p: inpaint(m, SCHEDULE, X, np.ones((8, 7), bool), [0, 1]), "inpaint: mask must be bool and broadcast to (2, 1, 8, 8), True where the picture is known; got bool (8, 7)"),
        (lambda m, p: inpaint(m, SCHEDULE, X, HALF, [0, 1], resample=-1), "inpaint: resample must be a whole number, 0 or more; got -1"),
        (lambda m, p: inpaint(m, SCHEDULE, X, HALF, [0, 1], jump=0), "inpaint: jump must be a whole number, 1 or more; got 0"),
        (lambda m, p: invert(m, SCHEDULE, X, [0, 1], sampler="ddpm"), "invert: sampler 'ddpm' cannot be walked up; it is one of: ddim, heun"),
        (lambda m, p: invert(m, SCHEDULE, X, [0.5, 1]), "sample: labels must be a row of integers, got float64 of shape (2,)"),
        (lambda m, p: decode(m, SCHEDULE, X[0], [0]), "decode: images must be float (1, 1, 8, 8), one for each label; got float32 (1, 8, 8)"),
        (lambda m, p: interpolate(m, SCHEDULE, X, X, [0, 1], 1), "interpolate: count must be a whole number, 2 or more; got 1"),
        (lambda m, p: slerp(X, X[0], 0.5), "slerp: a and b must have one shape, got (2, 1, 8, 8) and (1, 8, 8)"),
        (lambda m, p: write_augmented("set.zip", m, SCHEDULE, 1), "write_augmented: set.zip: unknown ending '.zip'; it must be .npz"),
        (lambda m, p: write_augmented(p / "s.npz", m, SCHEDULE, 0), "write_augmented: per_class must be a whole number, 1 or more; got 0"),
        (lambda m, p: write_augmented(p / "s.npz", m, SCHEDULE, 1, classes=[10]), "sample: class 10 is not in this model; it knows 0-9"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_in_one_line(oracle, tmp_path, call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call(oracle(lambda x, t, labels: x), tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_many_pictures_at_a_time_say_how_many_to_try(network, images, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("minidiff.diffusion.samplers.guided_output", full)
    with pytest.raises(BadInput, match="^invert: 64 pictures at a time do not fit into memory; try batch_size 32$"):
        invert(network, SCHEDULE, images, LABELS, 4)


# -------------------------------------------------------------------------------- the network that has no need


def test_the_exact_network_answers_what_the_mixture_expects(rng):
    """Made of Tensor operations: the same numbers as by NumPy, and for steps that differ from point to point."""
    x, labels, t = rng.standard_normal((7, 2)), np.array([-1, 0, 1, -1, 4, 5, 7]), np.array([1, 2, 30, 45, 59, 60, 7])
    for target in ("eps", "x0", "v", "flow"):
        model = Exact(RING, SCHEDULE, target)
        for step in (1, 30, 60):
            expected = RING.expected(x, SCHEDULE.signal[step], SCHEDULE.noise[step], labels)
            np.testing.assert_allclose(predict_x0(SCHEDULE, x, step, model(x, step, labels).data, target), expected, atol=1e-8)
        several = model(x, t, labels).data
        np.testing.assert_allclose(several, [model(x[i : i + 1], int(t[i]), labels[i : i + 1]).data[0] for i in range(7)])
