"""Which labels samples are asked for, and which held-out images they are compared with."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.data import from_model
from minidiff.errors import BadInput
from minidiff.evaluate import in_proportion, judge_samples, read_samples
from minidiff.evaluate.samples import as_frequent


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(1, 300))
def test_classes_are_as_frequent_as_in_the_data_to_within_one(labels, n):
    asked = in_proportion(np.array(labels), n)
    share = n * np.bincount(labels) / len(labels)
    assert len(asked) == n
    assert (abs(np.bincount(asked, minlength=len(share)) - share) < 1).all()


def test_as_many_as_there_are_are_the_same_and_the_classes_are_evenly_mixed():
    labels = np.repeat(np.arange(3), (100, 50, 50))
    asked = in_proportion(labels, 200)
    assert np.bincount(asked).tolist() == [100, 50, 50]
    for start in range(0, 200, 20):
        assert (abs(np.bincount(asked[start : start + 20], minlength=3) - [10, 5, 5]) <= 1).all()


def test_equal_classes_come_in_turn():
    assert in_proportion(np.arange(30) % 3, 7)[:6].tolist() == [0, 1, 2] * 2


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.lists(st.integers(-1, 4), max_size=60))
def test_held_out_images_have_the_same_classes_as_far_as_there_are_some(among, labels):
    among, labels = np.array(among), np.array(labels[: len(among)], int)
    rows = as_frequent(labels, among)
    assert len(rows) == len(set(rows)) == len(labels) and (np.diff(rows) > 0).all()
    for k in range(5):
        assert (among[rows] == k).sum() >= min((labels == k).sum(), (among == k).sum())


def test_held_out_images_are_taken_from_all_over_the_set():
    """MNIST's second half is harder than its first; and glyphs come in turn, so that every tenth one is the same digit."""
    rows = as_frequent(np.zeros(200, int), np.zeros(1000, int))
    assert 70 < (rows < 500).sum() < 130 and np.array_equal(rows, as_frequent(np.zeros(200, int), np.zeros(1000, int)))
    of_no_class = as_frequent(np.full(200, -1), np.arange(1000) % 10) % 10
    assert (np.bincount(of_no_class, minlength=10) > 8).all()


FORM = "it must hold images float (N,C,H,W) in [-1,1] and labels integer (N,), as minidiff sample writes them"


@pytest.mark.parametrize(("change", "message"), [
    (lambda x: 3 * x, f"images run -3 … 3; {FORM}"),
    (lambda x: np.where(np.arange(4).reshape(4, 1, 1, 1) == 2, np.nan, x), f"1 of 4 images are not finite (NaN or infinity); {FORM}"),
    (lambda x: np.where(x == 1, np.inf, x), f"4 of 4 images are not finite (NaN or infinity); {FORM}"),
])  # fmt: skip
def test_images_out_of_range_or_not_finite_are_refused(tmp_path, change, message):
    x = np.tile(np.linspace(-1, 1, 28 * 28, dtype=np.float32).reshape(1, 1, 28, 28), (4, 1, 1, 1))
    np.savez(tmp_path / "s.npz", images=change(x), labels=np.arange(4))
    with pytest.raises(BadInput) as error:
        read_samples(tmp_path / "s.npz")
    assert str(error.value) == f"{tmp_path / 's.npz'}: {message}"


LABELS = np.arange(8)
X = np.random.default_rng(0).uniform(-1, 1, (8, 1, 32, 32)).astype(np.float32)
X[0, 0, :2, 0] = -1, 1
OTHER_SCALES = [((X + 1) / 2, "images run 0 … 1 (float32), and samples run -1 … 1; 2 x - 1 makes them so"),
                (X > 0, "images run 0 … 1 (bool), and samples run -1 … 1; 2 x - 1 makes them so"),
                (from_model(X), "images run 0 … 255 (uint8), and samples run -1 … 1; x / 127.5 - 1 makes them so"),
                ((X + 1) * 127.5, "images run 0 … 255 (float32), and samples run -1 … 1; x / 127.5 - 1 makes them so")]  # fmt: skip


@pytest.mark.parametrize(("images", "said"), OTHER_SCALES, ids=["0 to 1", "bool", "bytes", "floats to 255"])
def test_images_of_another_range_are_refused_with_the_range_that_was_found(tmp_path, images, said):
    np.savez(tmp_path / "s.npz", images=images, labels=LABELS)
    with pytest.raises(BadInput, match=f"^{re.escape(str(tmp_path))}/s.npz: {re.escape(said)}; it must hold images float"):
        read_samples(tmp_path / "s.npz")


@pytest.mark.parametrize(("images", "said"), OTHER_SCALES, ids=["0 to 1", "bool", "bytes", "floats to 255"])
def test_the_classifier_warns_of_arrays_of_another_range(images, said):
    with pytest.warns(UserWarning, match=f"^judge: {re.escape(said)}$"):
        judge_samples(images, LABELS)


@pytest.mark.parametrize("labels", [LABELS - 5, LABELS.astype(np.uint64) + 2**63], ids=["below -1", "beyond int64"])
def test_labels_that_no_class_can_have_are_refused(tmp_path, labels):
    np.savez(tmp_path / "s.npz", images=X, labels=labels)
    with pytest.raises(BadInput, match=f"labels run {labels.min()} … {labels.max()}; a label is a class's index, or -1 for no class"):
        read_samples(tmp_path / "s.npz")


def test_samples_with_the_channels_last_are_refused(tmp_path):
    np.savez(tmp_path / "s.npz", images=X.transpose(0, 2, 3, 1), labels=LABELS)
    with pytest.raises(BadInput, match=r"s.npz: images are \(8, 32, 32, 1\), with the channels last; expected \(N,C,H,W\)"):
        read_samples(tmp_path / "s.npz")
