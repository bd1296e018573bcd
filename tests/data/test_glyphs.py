from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from scipy.ndimage import distance_transform_edt, zoom

from minidiff import data
from minidiff.data import glyphs
from minidiff.errors import BadInput


@pytest.fixture(scope="module")
def drawn():
    return glyphs.draw(2000)


@pytest.fixture
def small(monkeypatch):
    """Sets of forty and twenty, so that the cache is quick to fill."""
    monkeypatch.setattr(glyphs, "SIZES", {"train": 40, "test": 20})


def equal(a, b):
    return (np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
            and all(np.array_equal(a.style[key], b.style[key]) for key in (*a.style, *b.style)))


def mean_stroke_width(image, fine=6):
    """Four times the mean depth of the ink, since depths in a stroke of width w are spread over 0 … w/2."""
    ink = zoom(image.astype(np.float32), fine, order=1, grid_mode=True, mode="grid-constant") >= 127.5
    return 4 * (distance_transform_edt(ink) - 0.5)[ink].mean() / fine


def lean(images):
    """By how much x grows, on average, with the height above the centre: −μ_xy / μ_yy of the ink."""
    ink = images / images.sum(axis=(1, 2), keepdims=True)
    y, x = np.mgrid[:28, :28].astype(float)
    dx = x - (ink * x).sum(axis=(1, 2), keepdims=True)
    dy = y - (ink * y).sum(axis=(1, 2), keepdims=True)
    return -(ink * dx * dy).sum(axis=(1, 2)) / (ink * dy * dy).sum(axis=(1, 2))


def test_the_form_is_mnists(drawn):
    assert drawn.name == "glyphs" and drawn.classes == tuple("0123456789")
    assert drawn.images.shape == (2000, 28, 28) and drawn.images.dtype == np.uint8
    assert np.bincount(drawn.labels).tolist() == [200] * 10
    assert set(drawn.style) == {"slant", "weight", "face"}


def test_ink_is_white_on_black_and_about_as_much_as_mnists(drawn):
    assert (drawn.images.max(axis=(1, 2)) > 200).all()
    assert 0.10 < drawn.images.mean() / 255 < 0.18          # MNIST: 0.13
    border = np.concatenate([drawn.images[:, [0, -1]].ravel(), drawn.images[:, :, [0, -1]].ravel()])
    assert border.mean() < 1          # of 255: next to nothing is cut off


def test_a_digit_fills_about_twenty_pixels_around_the_middle(drawn):
    ink = drawn.images >= 128
    height = np.array([np.ptp(np.flatnonzero(image.any(axis=1))) + 1 for image in ink])
    assert 17 < height.mean() < 21 and height.min() >= 14 and height.max() <= 26
    weight = drawn.images / drawn.images.sum(axis=(1, 2), keepdims=True)
    for axis in (1, 2):
        centre = (weight.sum(axis=3 - axis) * np.arange(28)).sum(axis=1)
        assert np.abs(centre.mean() - 13.5) < 0.3 and np.abs(centre - 13.5).max() < 3.5


@pytest.mark.parametrize("split", glyphs.SIZES)
@pytest.mark.parametrize("n", [1, 7, 499, 501])          # on both sides of the number drawn at once
def test_a_smaller_set_is_the_start_of_a_larger_one(split, n):
    assert equal(glyphs.draw(n, split, seed=4), glyphs.draw(600, split, seed=4).subset(slice(0, n)))


def test_seeds_and_splits_share_no_image():
    sets = [glyphs.draw(50, split, seed=seed) for split in glyphs.SIZES for seed in (0, 1)]
    images = {image.tobytes() for one in sets for image in one.images}
    assert len(images) == 200


@pytest.mark.parametrize("digit", range(10))
def test_slant_is_the_angle_the_digits_really_lean(drawn, digit):
    rows = drawn.labels == digit
    slant = np.tan(np.radians(drawn.style["slant"][rows]))
    measured = lean(drawn.images[rows])
    slope, _ = np.polyfit(slant, measured, 1)
    assert np.corrcoef(slant, measured)[0, 1] > 0.9          # the rest is rotation, bending and the typeface
    assert 0.85 < slope < 1.15


def test_an_italic_is_set_upright_before_it_is_slanted(drawn):
    italic = np.array([face.lean > 0 for face in glyphs.FACES])[drawn.style["face"].astype(int)]
    left_over = lean(drawn.images) - np.tan(np.radians(drawn.style["slant"]))
    difference = [left_over[italic & (drawn.labels == digit)].mean()
                  - left_over[~italic & (drawn.labels == digit)].mean() for digit in range(10)]
    assert abs(np.mean(difference)) < 0.06          # 0.25 without it


def test_weight_is_the_stroke_width_in_pixels(drawn):
    few = drawn.subset(slice(0, 200))
    measured = np.array([mean_stroke_width(image) for image in few.images])
    error = measured - few.style["weight"]
    assert abs(error.mean()) < 0.1 and error.std() < 0.35
    assert np.corrcoef(measured, few.style["weight"])[0, 1] > 0.85


@pytest.mark.parametrize("digit", range(10))
def test_heavier_digits_have_more_ink(drawn, digit):
    rows = drawn.labels == digit
    assert np.corrcoef(drawn.style["weight"][rows], drawn.images[rows].mean(axis=(1, 2)))[0, 1] > 0.6


def test_the_typefaces_are_all_used_and_all_different(drawn):
    assert len(glyphs.FACES) >= 12
    assert set(drawn.style["face"].astype(int)) == set(range(len(glyphs.FACES)))
    fields, _ = glyphs._masters()
    for digit in range(10):
        ink = fields[digit::10] > 0
        for a in range(len(ink)):
            for b in range(a):
                overlap = (ink[a] & ink[b]).sum() / (ink[a] | ink[b]).sum()
                assert overlap < 0.97, (glyphs.FACES[a].file, glyphs.FACES[b].file, digit)


@pytest.mark.parametrize("face", glyphs.FACES, ids=lambda face: face.file)
def test_every_typeface_has_digits_and_the_lean_it_states(face):
    font = FT2Font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", face.file)))
    for digit in "0123456789":
        assert font.get_char_index(ord(digit)) != 0
    whole, fraction = font.get_sfnt_table("post")["italicAngle"]
    stated = -(whole + fraction / 65536)
    assert face.lean == pytest.approx(stated, abs=0.01)


def test_the_most_similar_digit_is_of_the_same_class(drawn):
    train = drawn.images.reshape(2000, -1).astype(np.float32) / 255
    test = glyphs.draw(300, "test")
    x = test.images.reshape(300, -1).astype(np.float32) / 255
    distance = (train**2).sum(axis=1) - 2 * x @ train.T
    accuracy = (drawn.labels[distance.argmin(axis=1)] == test.labels).mean()
    assert accuracy > 0.95


def test_the_cache_is_filled_once_and_gives_the_same(small, monkeypatch):
    first = data.load("glyphs")
    path = glyphs.cached()["train"]
    assert equal(first, glyphs.draw(40)) and [other.name for other in path.parent.iterdir()] == [path.name]
    monkeypatch.setattr(glyphs, "draw", lambda *_, **__: pytest.fail("drawn although it is in the cache"))
    assert equal(data.load("glyphs"), first)
    assert equal(data.load("glyphs", limit=15), first.subset(slice(0, 15)))


def test_a_part_of_a_set_is_drawn_without_the_rest(small):
    assert len(data.load("glyphs", limit=5)) == 5
    assert glyphs.cached() == {}


DAMAGE = {"empty": lambda whole: b"", "not an archive": lambda whole: b"rubbish",
          "cut": lambda whole: whole[:-30],
          "a hole": lambda whole: whole[:600] + bytes(200) + whole[800:],
          "a wrong header": lambda whole: whole[:40] + b"\xff" * 60 + whole[100:]}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_rebuilt_without_a_word(small, damage, recwarn):
    first = data.load("glyphs")
    path = glyphs.cached()["train"]
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert [check.ok for check in data.verify("glyphs")] == [False, True]
    assert equal(data.load("glyphs"), first)
    assert equal(glyphs._read_cache(path, 40), first)
    assert [str(check.detail) for check in data.verify("glyphs")] == \
        ["equal to a fresh drawing", "can be drawn; not in the cache yet"]
    assert len(recwarn) == 0


def test_a_cache_that_cannot_be_written_changes_nothing(small, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MINIDIFF_CACHE", str(tmp_path / "file"))
    assert equal(data.load("glyphs"), glyphs.draw(40))
    assert data.fetch("glyphs") is None


def test_fetching_draws_both_splits_into_the_cache(small, tmp_path):
    assert data.fetch("glyphs") == tmp_path / "cache" / "glyphs"
    assert set(glyphs.cached()) == {"train", "test"}


def test_other_parameters_are_kept_in_another_file(small, monkeypatch):
    before = glyphs._cache_path("train", 0)
    assert glyphs._cache_path("train", 1) != before
    monkeypatch.setattr(glyphs, "_BEND", 0.5)
    assert glyphs._cache_path("train", 0) != before


@pytest.mark.parametrize("options, message", [
    (dict(n=0), "glyphs: n is 0 and seed is 0; n must be 1 or more, seed 0 or more"),
    (dict(n=5, seed=-1), "glyphs: n is 5 and seed is -1; n must be 1 or more, seed 0 or more"),
    (dict(n=5, split="valid"), "glyphs: unknown split 'valid'; the splits are train, test"),
])
def test_wrong_numbers_are_refused(options, message):
    with pytest.raises(BadInput, match=f"^{message}$"):
        glyphs.draw(**options)
