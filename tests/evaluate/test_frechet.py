"""The Fréchet distance is that of the formula, and behaves like a distance."""

import numpy as np
import pytest

import minidiff as md
from minidiff.errors import BadInput
from minidiff.evaluate import frechet, frechet_distance, judge, sample_frechet
from minidiff.models import Classifier


def cloud(mean, root, n=4000, seed=0):
    """n points whose mean is exactly `mean` and whose covariance is exactly root rootᵀ."""
    z = np.random.default_rng(seed).standard_normal((n, len(mean)))
    z -= z.mean(axis=0)
    values, vectors = np.linalg.eigh(z.T @ z / (n - 1))
    return mean + z @ (vectors / np.sqrt(values)) @ vectors.T @ np.asarray(root).T


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


MEANS = np.array([0.0, 1.0, -2.0]), np.array([1.0, 1.0, 0.5])
DEVIATIONS = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.1, 0.5])
CLOSED = ((MEANS[0] - MEANS[1]) ** 2).sum() + ((DEVIATIONS[0] - DEVIATIONS[1]) ** 2).sum()


@pytest.mark.parametrize("turn", [np.eye(3), rotation(3)], ids=["along the axes", "rotated"])
def test_normal_clouds_whose_axes_agree_have_the_closed_form(turn):
    """Σ₁ and Σ₂ commute, so the trace is Σ (s₁ − s₂)²."""
    a, b = (cloud(turn @ mean, turn * s) for mean, s in zip(MEANS, DEVIATIONS, strict=True))
    assert frechet_distance(a, b) == pytest.approx(CLOSED, rel=1e-9)


def test_covariances_that_do_not_commute_agree_with_the_root_of_a_matrix():
    from scipy.linalg import sqrtm

    roots = np.random.default_rng(1).standard_normal((2, 5, 5))
    a, b = (cloud(np.zeros(5), root) for root in roots)
    s1, s2 = (root @ root.T for root in roots)
    assert frechet_distance(a, b) == pytest.approx(np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real), rel=1e-8)


def test_equal_clouds_have_no_distance_and_two_clouds_the_same_both_ways(rng):
    a, b = rng.standard_normal((300, 8)) * 3, rng.standard_normal((200, 8)) + 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, rng.permutation(a)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)


def test_moving_and_turning_both_clouds_changes_nothing_and_scaling_goes_by_the_square(rng):
    a, b = rng.standard_normal((300, 6)), rng.standard_normal((300, 6)) * [1, 2, 3, 1, 1, 1]
    turn, here = rotation(6), frechet_distance(a, b)
    assert frechet_distance(a @ turn + 5, b @ turn + 5) == pytest.approx(here, rel=1e-9)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * here, rel=1e-9)


def test_fewer_images_than_features_are_allowed_and_tell_too_large_a_distance(rng):
    """Both clouds are of one distribution: the true distance is 0. The excess falls as 1/N once N is well above F."""
    few, some, many = (np.mean([frechet_distance(*rng.standard_normal((2, n, 16))) for _ in range(5)]) for n in (8, 200, 800))
    assert few > some > many > 0
    assert some / many == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("a", [np.zeros((1, 3)), np.zeros(3), np.array([[np.nan] * 3] * 4)], ids=["one", "flat", "nan"])
def test_what_is_no_cloud_is_refused(a):
    with pytest.raises(BadInput, match=r"frechet: features must be finite numbers \(N,F\), N at least 2; got"):
        frechet_distance(a, np.zeros((4, 3)))


def test_features_of_other_length_are_refused(rng):
    with pytest.raises(BadInput, match="frechet: features of different length: 3 and 4"):
        frechet_distance(rng.standard_normal((5, 3)), rng.standard_normal((5, 4)))


# ---------------------------------------------------------------------------------------- of images


@pytest.fixture(scope="module")
def real():
    return md.data.to_model(md.data.load("glyphs", "test", limit=200).images)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache for features."""
    monkeypatch.setattr(frechet, "cache_folder", lambda *parts: tmp_path.joinpath(*parts))
    return tmp_path


def test_the_distance_grows_with_noise_and_with_blur(real, rng):
    from scipy import ndimage

    noisy = [real + s * rng.standard_normal(real.shape, dtype=np.float32) for s in (0.0, 0.2, 0.5)]
    blurred = [ndimage.gaussian_filter(real, (0, 0, s, s)) for s in (0.5, 1.0, 2.0)]
    for ladder in (noisy, [real, *blurred]):
        found = [sample_frechet(images, "glyphs", labels=np.arange(200) % 10) for images in ladder]
        distances = [f.distance for f in found]
        assert distances == sorted(distances) and distances[-1] > 3 * distances[0]
        assert 0.7 < distances[0] / found[0].floor < 1.4  # the first 200 test images are no better and no worse than others
        assert max(distances) < found[0].noise
    assert "of 200 samples to as many training images of glyphs, in the judge's 128 features (floor," in str(found[0])
    assert found[0].to_json()["n"] == 200


def test_the_floor_has_the_samples_classes():
    """A perfect model asked for 1s and 7s alone is far from a data set of ten digits: its floor is, too."""
    test = md.data.load("glyphs", "test")
    some = np.flatnonzero(np.isin(test.labels, (1, 7)))[:100]
    images, labels = md.data.to_model(test.images[some]), test.labels[some]
    told, untold = sample_frechet(images, "glyphs", labels=labels), sample_frechet(images, "glyphs")
    assert told.distance == untold.distance and 0.8 < told.distance / told.floor < 1.25
    assert untold.distance > 2 * untold.floor
    with pytest.raises(BadInput, match=r"frechet: 100 samples need as many labels, got \(3,\)"):
        sample_frechet(images, "glyphs", labels=labels[:3])


def small_judge(seed):
    md.manual_seed(seed)
    return judge.Judge(Classifier(channels=(8, 8, 8)))


def test_features_are_kept_by_judge_and_data_and_made_anew_when_damaged(real, own_cache, monkeypatch):
    first, folder = sample_frechet(real[:20], "glyphs", small_judge(0)), own_cache / "features"
    kept = sorted(folder.iterdir())
    assert len(kept) == 2  # training and test images
    sample_frechet(real[:20], "glyphs", small_judge(1))
    assert len(list(folder.iterdir())) == 4  # another judge has files of its own
    for path in kept:
        path.write_bytes(b"cut")
    assert sample_frechet(real[:20], "glyphs", small_judge(0)) == first
    same = small_judge(0)
    monkeypatch.setattr(same, "features", lambda images: pytest.fail("the features are in the cache"))
    assert frechet.real_features(same, md.data.load("glyphs"), 20).shape == (20, 8)


@pytest.mark.parametrize("n", [0, 1, "one too many"])
def test_numbers_of_samples_that_have_no_equal_are_refused(n, own_cache):
    sizes = len(md.data.load("glyphs", "test"))
    n = sizes + 1 if n == "one too many" else n
    with pytest.raises(BadInput, match=f"frechet: {n:,} samples; 2 to {sizes:,} can be held against"):
        sample_frechet(np.zeros((n, 1, 28, 28), np.float32), "glyphs", small_judge(0))
