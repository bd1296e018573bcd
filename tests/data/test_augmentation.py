import dataclasses
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff import data
from minidiff.data import DataLoader, Dataset, augment
from minidiff.data.augmentation import SHIFT, check_names, shift
from minidiff.data.style import slant
from minidiff.errors import BadInput


def pictures(n=64, size=9, channels=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, channels, size, size)).astype(np.float32)


def toy(n=50, allowed=("shift", "flip")):
    images = np.random.default_rng(1).integers(0, 256, (n, 6, 6), dtype=np.uint8)
    return Dataset("toy", images, np.arange(n) % 10, tuple("0123456789"), None, allowed)


@settings(max_examples=40, deadline=None)
@given(dy=st.integers(-SHIFT, SHIFT), dx=st.integers(-SHIFT, SHIFT), size=st.integers(1, 7))
def test_a_shift_moves_every_pixel_and_fills_with_black(dy, dx, size):
    x = pictures(3, size)
    moved = shift(x, np.full(3, dy), np.full(3, dx))
    for row in range(size):
        for column in range(size):
            from_row, from_column = row - dy, column - dx
            there = 0 <= from_row < size and 0 <= from_column < size
            np.testing.assert_array_equal(moved[:, :, row, column], x[:, :, from_row, from_column] if there else -1)


def test_every_shift_is_as_likely():
    x = np.full((5000, 1, 9, 9), -1, np.float32)
    x[:, 0, 4, 4] = 1
    at = np.argwhere(augment(x, np.arange(5000), ("shift",), 0, 0)[:, 0] == 1)[:, 1:] - 4
    counts = Counter(map(tuple, at))
    assert set(counts) == {(dy, dx) for dy in range(-SHIFT, SHIFT + 1) for dx in range(-SHIFT, SHIFT + 1)}
    assert max(counts.values()) < 260 and min(counts.values()) > 140          # 200 each; five deviations of 14 and more


def test_one_in_two_is_mirrored_and_the_others_are_as_they_were():
    x = pictures(2000)
    y = augment(x, np.arange(2000), ("flip",), 3, 1)
    mirrored = (y == x[..., ::-1]).all((1, 2, 3))
    assert ((y == x).all((1, 2, 3)) ^ mirrored).all() and 900 < mirrored.sum() < 1100


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 10_000), names=st.sampled_from([("shift",), ("flip",), ("shift", "flip"), ("flip", "shift")]),
       order=st.permutations(range(12)))
def test_what_happens_to_a_sample_depends_on_seed_epoch_and_its_number_alone(seed, epoch, names, order):
    x, order = pictures(12), np.array(order)
    together = augment(x, np.arange(12), names, seed, epoch)
    np.testing.assert_array_equal(augment(x[order], order, names, seed, epoch), together[order])
    np.testing.assert_array_equal(augment(x[order[:5]], order[:5], names, seed, epoch), together[order[:5]])
    np.testing.assert_array_equal(augment(x, np.arange(12), names[::-1], seed, epoch), together)


@pytest.mark.parametrize("name", data.AUGMENTATIONS)
def test_seeds_and_epochs_differ_and_the_input_is_left_alone(name):
    x = pictures(200)
    before = x.copy()
    first, other_epoch, other_seed = (augment(x, np.arange(200), (name,), *of) for of in ((0, 0), (0, 1), (1, 0)))
    np.testing.assert_array_equal(x, before)
    for other in (other_epoch, other_seed):
        assert 0.2 < (first != other).any((1, 2, 3)).mean() < 0.99
    assert first.dtype == np.float32 and first.flags.writeable
    np.testing.assert_array_equal(augment(x, np.arange(200), (), 0, 0), x)


def test_flip_turns_the_slant_around_and_shift_leaves_style_as_it_is():
    """Why flip is refused beside style values, and shift is not."""
    digits = data.to_model(data.load("glyphs", "test", limit=100).images)
    np.testing.assert_allclose(slant(digits[..., ::-1]), -slant(digits), atol=1e-4)
    moved = augment(digits, np.arange(100), ("shift",), 0, 0)
    np.testing.assert_allclose(slant(moved), slant(digits), atol=1e-4)          # the frame is as wide as the shift: no ink is lost
    assert not np.array_equal(moved, digits)


# ------------------------------------------------------------------------------------------------ where it makes sense

def test_each_set_knows_what_leaves_its_classes_as_they_are():
    from minidiff.data import cifar10, mnist

    assert data.load("glyphs", "test", limit=1).augmentations == mnist.MNIST.augmentations == ("shift",)
    assert mnist.FASHION_MNIST.augmentations == cifar10.AUGMENTATIONS == ("shift", "flip")
    assert toy().subset([1, 2]).augmentations == ("shift", "flip")


@pytest.mark.parametrize("names, message", [
    (("flip",), "augment: flip does not leave the classes of glyphs as they are; what does: shift (Dataset.augmentations)"),
    (("shift", "zoom"), "augment: unknown augmentation 'zoom'; there are shift, flip"),
])
def test_digits_are_not_mirrored(names, message):
    digits = data.load("glyphs", "test", limit=20)
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        DataLoader(digits, 4, augment=names)
    assert check_names(dataclasses.replace(digits, augmentations=("shift", "flip")), ("flip",)) == ("flip",)          # who insists


@pytest.mark.parametrize("names, message", [
    (("flip",), "DataLoader: flip mirrors the pictures and so makes style values such as slant wrong; leave one of the two out"),
])
def test_flip_beside_style_is_refused_and_shift_is_not(names, message):
    style = np.zeros((50, 1), np.float32)
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        DataLoader(toy(), 5, size=6, style=style, augment=names)
    DataLoader(toy(), 5, size=6, style=style, augment="shift").close()


# ------------------------------------------------------------------------------------------------ in a loader

@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_loader_shows_each_epoch_anew_and_says_which(prefetch, shuffle):
    dataset = toy()
    with DataLoader(dataset, 10, seed=4, size=10, prefetch=prefetch, shuffle=shuffle, augment=("flip", "shift")) as loader:
        for e in range(3):
            order = np.random.default_rng((4, e)).permutation(50) if shuffle else np.arange(50)
            for b in range(5):
                rows = order[10 * b:10 * b + 10]
                images, labels = next(loader)
                np.testing.assert_array_equal(images, augment(data.to_model(dataset.images[rows], 10), rows, ("shift", "flip"), 4, e))
                np.testing.assert_array_equal(labels, dataset.labels[rows])


def test_a_resumed_loader_augments_as_the_first_would_have():
    options = dict(seed=7, size=8, augment=("shift", "flip"))
    with DataLoader(toy(), 8, **options) as first, DataLoader(toy(), 8, **options) as second:
        for _ in range(9):
            next(first)
        second.load_state_dict(first.state_dict())
        for _ in range(9):
            np.testing.assert_array_equal(next(first)[0], next(second)[0])


@pytest.mark.parametrize("there, here, message", [
    (("shift",), (), "augment is shift there and none here"),
    ((), ("shift", "flip"), "augment is none there and shift+flip here"),
    (("flip",), ("shift",), "augment is flip there and shift here"),
])
def test_a_state_of_another_augmentation_is_refused(there, here, message):
    with DataLoader(toy(), 8, size=6, augment=there) as first, DataLoader(toy(), 8, size=6, augment=here) as second, \
         pytest.raises(BadInput, match=f"^DataLoader: the state belongs to another loader: {re.escape(message)}$"):
        second.load_state_dict(first.state_dict())


def test_samples_told_of_by_place_are_not_augmented_in_silence():
    with DataLoader(toy(), 8, size=6, augment="shift") as loader, \
         pytest.raises(BadInput, match=r"^DataLoader: shift is done by next\(loader\); place\(\) tells of samples as they are$"):
        loader.place()
