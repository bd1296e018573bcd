"""The moment of recognition is where the judge's answer stays right."""

import numpy as np
import pytest

import minidiff as md
from minidiff.evaluate import Recognition


class Script:
    """A judge that reads its answer off the first pixel."""

    def scores(self, images):
        return np.eye(5)[np.rint(images[:, 0, 0, 0] * 10).astype(int)]


def told(answers, labels):
    """A Recognition that was shown these answers: (K,N) of x̂0; of x_t always 0."""
    seen = Recognition(np.array(labels), len(answers), judge=Script(), fair=False)
    for k, row in enumerate(answers, 1):
        images = np.zeros((len(row), 1, 28, 28), np.float32)
        images[:, 0, 0, 0] = np.array(row) / 10
        for part in (slice(0, 2), slice(2, None)):                        # batches come one after the other
            seen(k, 0, np.zeros_like(images[part]), images[part], np.arange(len(row))[part])
    return seen


def test_the_moment_is_after_the_last_mistake():
    seen = told([[1, 2, 0, 3], [1, 0, 0, 3], [1, 2, 0, 0], [1, 2, 3, 4]], labels=[1, 2, 3, 3])
    assert seen.moments().tolist() == [0.25, 0.75, 1.0, np.inf]
    assert seen.accuracy().tolist() == [0.75, 0.5, 0.5, 0.75] and seen.accuracy(label=3).tolist() == [0.5, 0.5, 0, 0.5]
    assert seen.moments("xt").tolist() == [np.inf] * 4


def test_the_table_gives_shares_of_each_class_and_of_all():
    seen = told([[1, 0, 2], [1, 0, 2], [1, 0, 0], [1, 1, 0]], labels=[1, 1, 2])
    rows = {row["class"]: row for row in seen.table(shares=(0.5, 1.0))}
    assert rows[1]["x0_hat_0.5"] == 0.25 and rows[1]["x0_hat_1"] == 1.0
    assert rows[2]["x0_hat_0.5"] is None and rows[None]["x0_hat_0.5"] == 1.0 and rows[None]["x0_hat_1"] is None


def test_the_networks_guess_is_read_before_the_picture_is():
    loaded, labels = md.train.load_model("mnist"), np.arange(10)
    seen = Recognition(labels, 10)
    images = md.diffusion.sample(loaded.model, loaded.schedule, labels, "ddim", 10, guidance=1.0, callback=seen)
    assert (seen.scores["xt"][-1].argmax(1) == seen.judge.classify(images)).all()
    assert np.median(seen.moments("x0_hat")) < np.median(seen.moments("xt")) <= 1.0
    assert seen.accuracy("x0_hat")[-1] == pytest.approx(seen.accuracy("xt")[-1])


def test_a_favourite_answer_is_not_recognition(rng):
    """A judge that says 2 to noise, and hears a little of the truth: fair, the twos come no sooner than the others."""

    class Fond:
        def scores(self, images):
            return images[:, 0, 0, :3] + np.array([0.0, 0.0, 0.5])

    labels = np.arange(300) % 3
    for fair in (True, False):
        seen = Recognition(labels, 2, judge=Fond(), fair=fair)
        for k, truth in enumerate((0.0, 0.8), 1):
            x = 0.1 * rng.standard_normal((300, 1, 28, 28)).astype(np.float32)
            x[np.arange(300), 0, 0, labels] += truth
            seen(k, 0, x, x, np.arange(300))
        assert (seen.accuracy(label=2)[0] > 0.9) != fair
        assert seen.accuracy()[-1] > 0.95 and seen.accuracy()[0] < 0.5
