"""The classifier that has seen samples alone: it learns what they show, and no more."""

import numpy as np
import pytest

import minidiff as md
from minidiff.errors import BadInput
from minidiff.evaluate import Pupils, pupils, teach
from minidiff.evaluate.judge import Judge


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    train = md.data.load("glyphs", "train", limit=320)
    return md.data.to_model(train.images), train.labels


def test_a_pupil_learns_from_good_samples_and_not_from_wrong_labels(digits) -> None:
    images, labels = digits
    good = pupils(images, labels, "glyphs", steps=60)
    assert good.n == 320 and good.examined == 2000 and good.samples == good.real     # these samples are the first training images
    assert good.accuracy > 0.4
    wrong = pupils(images, (labels + 1) % 10, "glyphs", steps=60)
    assert wrong.accuracy < 0.2 < wrong.real_accuracy == good.real_accuracy


def test_one_picture_of_each_class_teaches_less_than_many(digits) -> None:
    images, labels = digits
    first = np.array([np.flatnonzero(labels == c)[0] for c in range(10)])
    poor = np.resize(first, 320)
    assert pupils(images[poor], labels[poor], "glyphs", steps=60).accuracy < 0.8 * pupils(images, labels, "glyphs", steps=60).accuracy


def test_the_same_seed_teaches_the_same(digits) -> None:
    x, y = digits[0][:64, :, 2:-2, 2:-2].copy(), digits[1][:64]
    a, b, c = (Judge(teach(x, y, steps=3, seed=seed)).scores(x) for seed in (0, 0, 1))
    assert np.array_equal(a, b) and not np.allclose(a, c)


def test_what_is_printed_and_written() -> None:
    found = Pupils(10_000, 1500, 10_000, 9850, 9900)
    assert "names 98.5% of 10,000 real test digits" in str(found) and "as many real digits, 99.0%" in str(found)
    values = found.to_json()
    assert values["samples"]["accuracy"] == 0.985 and values["samples"]["interval_95"][0] < 0.985 < values["samples"]["interval_95"][1]


@pytest.mark.parametrize(("change", "message"), [
    ({"labels": np.full(320, 10)}, "labels must be 320 classes from 0 to 9, got"),
    ({"labels": np.zeros(3, np.int64)}, "labels must be 320 classes"),
    ({"images": np.zeros((63, 1, 32, 32)), "labels": np.zeros(63, np.int64)}, "63 samples; 64 to"),
])  # fmt: skip
def test_bad_samples_are_refused(digits, change, message) -> None:
    given = {"images": digits[0], "labels": digits[1], **change}
    with pytest.raises(BadInput, match=message):
        pupils(**given, reference="glyphs", steps=1)
