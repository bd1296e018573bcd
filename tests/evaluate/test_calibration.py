"""What the judge says of its own sureness, against answers whose probabilities are known."""

import numpy as np
import pytest
from scipy.special import softmax

from minidiff.evaluate import calibration, confusion_matrix, fit_temperature, load_judge
from minidiff.evaluate.calibration import tempered


@pytest.fixture
def honest(rng):
    """Scores, and labels drawn with the probabilities that they say."""
    scores = 2.0 * rng.standard_normal((40_000, 4))
    p = softmax(scores, 1)
    return scores, (p.cumsum(1) < rng.random((len(p), 1))).sum(1).clip(max=3)


@pytest.mark.parametrize("too_sure", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_scores_that_are_too_large(honest, too_sure):
    scores, labels = honest
    tau = fit_temperature(too_sure * scores, labels)
    assert tau == pytest.approx(too_sure, rel=0.05)
    assert calibration(tempered(too_sure * scores, tau), labels).error < 0.012
    if too_sure != 1.0:
        assert calibration(softmax(too_sure * scores, 1), labels).error > 0.1


def test_the_error_by_hand():
    p = np.array([[0.9, 0.1], [0.95, 0.05], [0.4, 0.6], [0.35, 0.65]])
    found = calibration(p, np.array([0, 1, 1, 1]))                        # bins 0.6–0.7 and 0.9–1: all right, and half
    assert found.count.tolist() == [2, 2] and found.accuracy.tolist() == [1.0, 0.5]
    assert found.error == pytest.approx(0.5 * abs(1 - 0.625) + 0.5 * abs(0.5 - 0.925))
    assert calibration(np.array([[1.0, 0.0]]), np.array([0])).error == 0


def test_confusion_counts_rows_asked_and_columns_seen():
    found = confusion_matrix(np.array([0, 0, 2, 2, 2]), np.array([0, 1, 2, 2, 0]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 2]]


def test_the_temperature_changes_how_sure_and_not_what(rng):
    judge, images = load_judge(), rng.uniform(-1, 1, (8, 1, 28, 28)).astype(np.float32)
    before = judge.probabilities(images), judge.classify(images)
    judge.temperature *= 3.0
    after = judge.probabilities(images), judge.classify(images)
    assert (before[1] == after[1]).all() and (after[0].max(1) < before[0].max(1)).all()
