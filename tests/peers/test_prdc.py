"""minidiff beside prdc: precision, recall, density and coverage."""

import numpy as np
import pytest

from minidiff.evaluate import density_coverage, precision_recall


def measured(real, samples, k):
    return {**precision_recall(real, samples, k).to_json(), **density_coverage(real, samples, k).to_json()}


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 3000.0])
def test_points_without_repeats_agree(compute_prdc, rng, shift, k):
    """A measure of shares: to the last point, also far from the origin."""
    real, samples = rng.standard_normal((400, 10)) + shift, 0.8 * rng.standard_normal((400, 10)) + 0.4 + shift
    found = measured(real, samples, k)
    for name, value in compute_prdc(real, samples, k).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert 0 < found["recall"] < found["precision"] < 1


def test_repeats_do_not_cover_themselves_in_prdc(compute_prdc, rng):
    """prdc takes the open ball, distance < radius. Where every point occurs more than k times radii are 0, nothing is nearer, and a
    set does not cover itself. Kynkäänniemi et al. 2019 (eq. 1) have ≤; Naeem et al. 2020 speak of balls, open or not."""
    points = np.repeat(np.round(rng.standard_normal((40, 6)) * 8) / 8, 5, axis=0)
    theirs, found = compute_prdc(points, points, 3), measured(points, points, 3)
    assert [theirs[name] for name in ("precision", "recall", "coverage")] == [0.0] * 3
    assert [found[name] for name in ("precision", "recall", "coverage")] == [1.0] * 3
