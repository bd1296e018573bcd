"""Clouds whose answer is known: the same, beside each other, within each other, copied."""

import numpy as np
import pytest

from minidiff.errors import BadInput
from minidiff.evaluate import clouds, frechet_distance
from minidiff.evaluate.clouds import (
    Nearest,
    density_coverage,
    distances,
    diversity,
    nearest,
    precision_recall,
    radii,
    share_among,
)


def test_distances_are_those_of_the_definition(rng):
    a, b = rng.standard_normal((1027, 4)), rng.standard_normal((7, 4))
    found = np.concatenate([d for _, d in distances(a, b)])
    np.testing.assert_allclose(found, np.square(a[:, None] - b).sum(2), atol=1e-5)
    assert np.concatenate([d for _, d in distances(b, b)]).diagonal() == pytest.approx(np.zeros(7), abs=1e-5)


def scaled(x, dtype):
    """x in multiples of 1/64, so that float32 still holds it exactly at 3,000."""
    return (np.round(64 * x) / 64).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shift", [3000.0, -65536.0])
def test_a_shift_of_all_features_changes_no_measure(rng, shift, dtype):
    real, samples, held_out = (scaled(x, dtype) for x in rng.standard_normal((3, 300, 10)) * [[[1.0]], [[0.8]], [[1.0]]])
    labels = np.arange(300) % 3

    def measured(by):
        near = nearest(samples + dtype(by), real + dtype(by), held_out + dtype(by))
        r, s = real + dtype(by), samples + dtype(by)
        return {**precision_recall(r, s).to_json(), **density_coverage(r, s).to_json(), **near.to_json(), "index": near.index.tolist(),
                "diversity": diversity(s, labels), "frechet": frechet_distance(r, s)}  # fmt: skip

    here, there = measured(0.0), measured(shift)
    for name, value in here.items():
        assert there[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


def test_clusters_far_apart_keep_their_inner_distances(rng):
    """No shift helps here: it is float64 that resolves distances of 1 in a set 20,000 wide."""
    here = scaled(rng.standard_normal((200, 10)), np.float32)
    for far in (np.float32(20_000.0), np.float32(-20_000.0)):
        found = np.concatenate([d for _, d in distances(here + far, np.concatenate([here + far, here - far]))])[:, :200]
        np.testing.assert_allclose(found, np.square(here[:, None].astype(float) - here).sum(2), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_points_that_occur_more_than_k_times_lie_among_themselves(rng, k, scale):
    """Balls of radius 0, whose edge is their centre."""
    points = np.repeat(scale * (rng.standard_normal((20, 6)) + 7.0), k + 2, axis=0)
    assert (radii(points, k) == 0).all()
    found, covered = precision_recall(points, rng.permutation(points), k), density_coverage(points, rng.permutation(points), k)
    assert (found.precision, found.recall, covered.coverage) == (1.0, 1.0, 1.0)
    assert covered.density == pytest.approx((k + 2) / k)
    assert density_coverage(points, points + 100.0 * scale, k).coverage == 0.0


def test_density_and_coverage_by_hand():
    real = np.array([[0.0], [1.0], [10.0]])                                   # balls of 1, 1 and 9
    found = density_coverage(real, np.array([[-1.0], [0.5], [2.0], [30.0]]), 1)
    assert found.to_json() == {"density": (1 + 2 + 2) / 4, "coverage": 1.0, "k": 1}
    assert density_coverage(real, np.array([[-0.5]]), 1).coverage == pytest.approx(1 / 3)
    with pytest.raises(BadInput, match="density_coverage: there are no samples"):
        density_coverage(real, real[:0])


def test_radii_reach_to_the_kth_other_point():
    line = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert radii(line, 1).tolist() == [1, 1, 4, 16]
    assert radii(line, 2).tolist() == [9, 4, 9, 36]
    with pytest.raises(BadInput, match="clouds: k must be 1 to 3, one less than the 4 points; got 4"):
        radii(line, 4)


def test_one_distribution_has_both_and_two_apart_have_neither(rng):
    a, b = rng.standard_normal((2, 400, 5))
    same, apart = precision_recall(a, b), precision_recall(a, b + 20.0)
    assert min(same.precision, same.recall) > 0.85 and (apart.precision, apart.recall) == (0, 0)
    assert precision_recall(a, a).to_json() == {"precision": 1.0, "recall": 1.0, "n": 400, "k": 3}


def test_half_of_the_classes_is_recall_and_scribbles_are_precision(rng):
    """Two clusters are real. Samples of one of them are all real and half of what there is; with noise among them, the other way."""
    real = np.concatenate([rng.standard_normal((300, 3)), rng.standard_normal((300, 3)) + 30])
    half = precision_recall(real, rng.standard_normal((600, 3)))
    assert half.precision > 0.85 and half.recall == pytest.approx(0.5, abs=0.05)
    scattered = np.concatenate([real[::2] + 0.01, rng.uniform(-500, 500, (300, 3))])
    noisy = precision_recall(real, scattered)
    assert noisy.precision == pytest.approx(0.5, abs=0.02) and noisy.recall > 0.9


def test_clouds_of_different_size_are_refused(rng):
    with pytest.raises(BadInput, match=r"as many samples as real images are needed, got \(4, 2\) and \(5, 2\)"):
        precision_recall(np.zeros((5, 2)), np.zeros((4, 2)))


def test_share_among_by_hand():
    cloud = np.array([[0.0], [1.0], [10.0]])
    assert share_among(np.array([[-1.0], [-1.1], [2.0], [25.0]]), cloud, 1) == pytest.approx(0.5)     # balls of 1, 1 and 9


def test_diversity_is_the_mean_squared_distance_of_pairs(rng):
    x, labels = rng.standard_normal((9, 4)), np.array([0] * 5 + [3] * 4)
    for label, found in diversity(x, labels).items():
        mine = x[labels == label]
        pairs = [np.square(u - v).sum() for i, u in enumerate(mine) for v in mine[:i]]
        assert found == pytest.approx(np.mean(pairs))
    with pytest.raises(BadInput, match="diversity: class 3 has 1 image; there must be two or more of each"):
        diversity(x, np.array([0] * 8 + [3]))


def test_copies_are_noticed_and_new_ones_are_not(rng):
    train, held_out, new = rng.standard_normal((3, 500, 1, 6, 6))
    copied = np.where(np.arange(500)[:, None, None, None] % 5 == 0, train + 0.01, new)
    honest, suspicious = nearest(new, train, held_out), nearest(copied, train, held_out)
    assert honest.close < 0.04 and honest.ratio == pytest.approx(1.0, abs=0.05)
    assert suspicious.close == pytest.approx(0.2, abs=0.03)
    assert (suspicious.index[::5] == np.arange(0, 500, 5)).all() and suspicious.distance[::5] == pytest.approx(np.full(100, 0.01), rel=0.05)
    assert suspicious.to_json()["close"] == suspicious.close


@pytest.mark.parametrize("n", [100, 200, 1000])
def test_new_images_are_called_too_near_one_time_in_a_hundred(n):
    """On average over many held-out sets: a rank among n is not a rank among n + 1."""
    rng = np.random.default_rng(0)
    shares = [Nearest(np.empty(0), rng.random(n), rng.random(n)).close for _ in range(4000)]
    assert np.mean(shares) == pytest.approx(0.01, abs=0.0007)


def test_a_table_of_distances_stays_small(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((50, 3)), rng.standard_normal((40, 3))
    whole = ((a[:, None] - b) ** 2).sum(2)
    for table, parts in ((2**23, 1), (400, 5), (1, 50)):
        monkeypatch.setattr(clouds, "TABLE", table)
        found = list(clouds.distances(a, b))
        assert len(found) == parts and np.allclose(np.concatenate([d for _, d in found]), whole, atol=1e-5)
