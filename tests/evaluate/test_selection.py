"""Best of N keeps what is liked best, repeatably, and tells what it cost."""

import numpy as np
import pytest

import minidiff as md
from minidiff import diffusion
from minidiff.errors import BadInput
from minidiff.evaluate import best_of, clip_score, judge_score, load_judge
from minidiff.models import MLP

SCHEDULE = diffusion.make_schedule("cosine", T=20)
HOW = {"sampler": "ddim", "steps": 4, "clip": False}
LABELS = np.array([3, 0, 7, 3, 5])


def first_coordinate(images, labels):
    return images[:, 0] - 0.1 * labels


@pytest.fixture
def model():
    md.manual_seed(0)
    return MLP(width=16, target="v")


def test_one_of_one_is_to_sample(model):
    kept = best_of(model, SCHEDULE, LABELS, 1, score=first_coordinate, seed=5, **HOW)
    assert np.array_equal(kept.images, diffusion.sample(model, SCHEDULE, LABELS, seed=5, **HOW)) and kept.gain == 0


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_best_candidates_of_each_label_are_kept_in_order(model, keep):
    drawn = diffusion.sample(model, SCHEDULE, np.repeat(LABELS, 4), seed=1, **HOW)
    table = first_coordinate(drawn, np.repeat(LABELS, 4)).reshape(5, 4)
    kept = best_of(model, SCHEDULE, LABELS, 4, keep, score=first_coordinate, seed=1, **HOW)
    assert np.allclose(kept.scores.reshape(5, keep), -np.sort(-table, axis=1)[:, :keep], atol=1e-6)
    assert np.allclose(kept.images, drawn[kept.indices], atol=1e-6) and np.array_equal(kept.labels, np.repeat(LABELS, keep))
    assert kept.candidates.shape == (5, 4) and kept.gain == pytest.approx(kept.scores.mean() - table.mean(), abs=1e-6)


def test_the_same_seed_keeps_the_same_whatever_the_batch(model):
    one, same, other = (best_of(model, SCHEDULE, LABELS, 3, score=first_coordinate, seed=s, batch_size=b, **HOW) for s, b in ((2, 64), (2, 2), (3, 64)))
    assert np.array_equal(one.indices, same.indices) and np.allclose(one.images, same.images, atol=1e-6)
    assert not np.allclose(one.images, other.images, atol=1e-3)


def test_a_label_that_the_chooser_does_not_know_is_refused():
    """−1 is no class in particular to the sampler; as an index it would be the last one."""
    images = np.zeros((2, 1, 32, 32), np.float32)
    for labels in ([0, -1], [0, 10]):
        with pytest.raises(BadInput, match=rf"best_of: this score knows classes 0 to 9; labels run from {min(labels)} to {max(labels)}"):
            judge_score(load_judge())(images, np.array(labels))


def test_of_equals_the_first_is_kept(model):
    kept = best_of(model, SCHEDULE, LABELS, 3, score=lambda images, labels: np.zeros(len(images)), **HOW)
    assert kept.indices.tolist() == [0, 3, 6, 9, 12]


@pytest.mark.parametrize(("sampler", "guidance", "asks"), [("ddim", 0.0, 4), ("ddim", 2.0, 8), ("heun", 0.0, 7)])
def test_the_cost_is_what_the_network_was_asked(sampler, guidance, asks):
    class Counting(MLP):
        asked = 0

        def forward(self, x, t, labels):
            type(self).asked += len(x)
            return super().forward(x, t, labels)

    model = Counting(width=8, target="v")
    kept = best_of(model, SCHEDULE, LABELS, 6, score=first_coordinate, **{**HOW, "sampler": sampler}, guidance=guidance)
    assert Counting.asked == kept.evaluations == 5 * 6 * asks              # Heun's last step asks once


def test_choosing_by_one_coordinate_gains_what_the_best_of_n_normals_gain(model):
    """Noise itself, chosen by its first coordinate: the largest of 4 standard normals is 1.0294 on average."""
    class Still(MLP):
        def forward(self, x, t, labels):
            return super().forward(x, t, labels) * 0.0

    kept = best_of(Still(width=8, target="eps"), SCHEDULE, np.zeros(2000, int), 4, score=lambda x, _: x[:, 0], **{**HOW, "steps": [1, 0]}, batch_size=4096)
    spread = kept.candidates.std()
    assert kept.scores.mean() / spread == pytest.approx(1.0294, abs=0.05)
    assert kept.images[:, 1].mean() / spread == pytest.approx(0, abs=0.07)          # what nobody looked at has not changed


@pytest.mark.parametrize(("options", "message"), [
    ({"n": 3, "keep": 4}, "best_of: keep must be 1 to 3, the number of candidates; got 4"),
    ({"n": 3, "keep": 0}, "best_of: keep must be 1 to 3, the number of candidates; got 0"),
    ({"n": 2, "score": lambda images, labels: np.zeros(3)}, "best_of: score must give 10 finite numbers for as many images, got float64 of shape (3,)"),
    ({"n": 2, "score": lambda images, labels: labels / 0}, "best_of: score must give 10 finite numbers for as many images, got float64 of shape (10,)"),
    ({"n": 2, "labels": np.empty(0, int)}, "best_of: labels must hold at least one label"),
    ({"n": 2, "labels": np.array([11])}, "sample: class 11 is not in this model; it knows 0-"),
])  # fmt: skip
def test_what_cannot_be_chosen_is_said(model, options, message):
    with np.errstate(divide="ignore", invalid="ignore"), pytest.raises(BadInput) as error:
        best_of(model, SCHEDULE, **{"labels": LABELS, "score": first_coordinate, **HOW, **options})
    assert str(error.value).startswith(message)


def test_the_judge_and_clip_give_their_probability_of_the_label(mini):
    glyphs = md.data.load("glyphs", "test", limit=30)
    x, labels = md.data.to_model(glyphs.images), glyphs.labels
    for score in (judge_score(load_judge()), clip_score(mini)):
        right, wrong = score(x, labels), score(x, (labels + 1) % 10)
        assert right.shape == (30,) and ((0 <= right) & (right <= 1)).all() and right.mean() > 2 * wrong.mean()
        assert sum(score(x, np.full(30, k)) for k in range(10)) == pytest.approx(np.ones(30), abs=1e-5)
