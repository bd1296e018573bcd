"""Style is measured as it was made, told in unit size, and asked for by name."""
import json
import tracemalloc

import numpy as np
import pytest

from minidiff import data
from minidiff.data import Dataset, StyleScale, style_values
from minidiff.data.style import ink, slant, weight
from minidiff.errors import BadInput


def bar(lean: float, width: float, size: int = 32, height: float = 20.0) -> np.ndarray:
    """A stem of this width that leans by so many degrees, with soft edges; ink from 0 to 1."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    across = (x + np.tan(np.radians(lean)) * y) * np.cos(np.radians(lean))
    return np.clip(0.5 + width / 2 - abs(across), 0, 1) * np.clip(0.5 + height / 2 - abs(y), 0, 1)


@pytest.mark.parametrize("lean", [-20.0, 0.0, 5.0, 30.0])
def test_slant_is_the_angle_of_a_leaning_stem(lean: float) -> None:
    picture = 2 * bar(lean, 3.0)[None] - 1
    assert slant(picture) == pytest.approx([lean], abs=0.5)
    assert slant(picture[:, :, ::-1]) == pytest.approx([-lean], abs=0.5)         # its mirror image leans the other way


@pytest.mark.parametrize("width", [2.0, 3.0, 4.5])
def test_weight_is_the_width_of_a_stroke(width: float) -> None:
    # A stem has ends, too: 2A/P = w h / (w + h), and its corners count for a little less than two edges.
    assert weight(2 * bar(0.0, width)[None] - 1) == pytest.approx([width * 20 / (width + 20)], rel=0.03)


def test_measures_follow_how_glyphs_were_made() -> None:
    glyphs = data.load("glyphs", "test", limit=1000)
    measured = {"slant": slant(glyphs.images), "weight": weight(glyphs.images)}
    for name, least in (("slant", 0.93), ("weight", 0.85)):                     # glyphs are also turned, up to 5°, and bent
        assert np.corrcoef(measured[name], glyphs.style[name])[0, 1] > least
    assert np.polyfit(glyphs.style["slant"], measured["slant"], 1)[0] == pytest.approx(1.0, abs=0.06)


def test_the_forms_of_a_picture_measure_alike() -> None:
    images = data.load("glyphs", "test", limit=20).images
    x = data.to_model(images, 32)
    for measure in (slant, weight):
        assert measure(x) == pytest.approx(measure(images), abs=1e-4)
        assert measure(np.repeat(x, 3, axis=1)) == pytest.approx(measure(images), abs=1e-4)
        assert measure(np.full((2, 1, 8, 8), -1.0)) == pytest.approx([0, 0])
    assert ink(x).min() == 0 and ink(x).max() == 1 and ink(x).shape == (20, 32, 32)


def test_what_a_set_says_goes_before_what_is_measured() -> None:
    glyphs = data.load("glyphs", "test", limit=30)
    values = style_values(glyphs, ["weight", "slant"])
    assert values.dtype == np.float32 and (values == np.stack([glyphs.style["weight"], glyphs.style["slant"]], 1)).all()
    bare = Dataset("bare", glyphs.images, glyphs.labels, glyphs.classes)
    assert style_values(bare, ["slant"])[:, 0] == pytest.approx(slant(glyphs.images), abs=1e-4)
    assert style_values(bare, []).shape == (30, 0)
    with pytest.raises(BadInput, match="bare: nothing is known of the style 'face'; there is slant, weight"):
        style_values(bare, ["slant", "face"])


def test_a_large_set_is_measured_in_the_memory_of_a_small_one() -> None:
    images = np.tile(data.load("glyphs", "test", limit=50).images, (60, 1, 1))
    bare = Dataset("bare", images, np.zeros(3000, int), ("0",))
    tracemalloc.start()
    values = style_values(bare, ["slant", "weight"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (values == np.tile(np.stack([slant(images[:50]), weight(images[:50])], 1), (60, 1)).astype(np.float32)).all()
    assert peak < 3000 * 28 * 28 * 8 * 2                                        # all at once would take six such arrays


def test_the_scale_brings_values_to_unit_size_and_back_through_json() -> None:
    values = np.random.default_rng(0).normal([10.0, 3.0], [5.0, 0.5], (200, 2))
    scale = StyleScale.of(values, ["slant", "weight"])
    assert scale.told(values).mean(0) == pytest.approx([0, 0], abs=1e-5)
    assert scale.told(values).std(0) == pytest.approx([1, 1], abs=1e-5)
    assert StyleScale.from_json(scale.to_json()) == scale
    row = scale.asked({"weight": scale.mean[1] + 2 * scale.deviation[1]})
    assert np.isnan(row[0]) and row[1] == pytest.approx(2.0, abs=1e-5) and row.dtype == np.float32


def test_styles_are_drawn_as_the_training_set_has_each_class() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 6000)
    values = np.stack([rng.normal(10.0 * labels, 5.0), 2.0 + rng.gamma(2.0, 0.3, 6000)], axis=1)    # strokes are skewed, and never thin
    scale = StyleScale.of(values, ["slant", "weight"], labels)
    assert StyleScale.from_json(json.loads(json.dumps(scale.to_json()))) == scale
    assert scale.told(values).shape == (6000, 2) and StyleScale.of(values, ["slant", "weight"]).quantiles == ()
    for k, chosen in ((0, labels == 0), (2, labels == 2), (-1, labels >= 0)):
        drawn = scale.drawn(np.full(6000, k), seed=3)
        assert drawn.dtype == np.float32
        parts = (5, 25, 50, 75, 95)
        np.testing.assert_allclose(np.percentile(drawn, parts, axis=0), np.percentile(scale.told(values[chosen]), parts, axis=0), atol=0.1)
        assert scale.told(values).min(0)[1] <= drawn[:, 1].min() and abs(np.corrcoef(drawn.T)[0, 1]) < 0.05


def test_a_drawn_style_depends_on_the_seed_and_the_picture_s_number_alone() -> None:
    scale = StyleScale.of(np.random.default_rng(0).normal(size=(100, 2)), ["slant", "weight"], np.arange(100) % 2)
    labels = np.array([0, 1, -1, 1, 0])
    whole = scale.drawn(labels, seed=1)
    assert np.array_equal(whole[2:], scale.drawn(labels[2:], seed=1, first=2))
    assert not np.array_equal(whole, scale.drawn(labels, seed=2))
    asked = scale.asked({"weight": 3.0})
    assert np.array_equal(scale.drawn(labels, 1, asked), np.stack([whole[:, 0], np.full(5, asked[1])], axis=1))
    assert scale.drawn(np.empty(0, int)).shape == (0, 2)


def test_a_class_that_was_never_seen_is_drawn_as_all_are() -> None:
    values = np.random.default_rng(0).normal(size=(100, 1))
    scale = StyleScale.of(values, ["slant"], np.where(np.arange(100) < 50, 0, 2))
    assert scale.quantiles[1] == scale.quantiles[-1] != scale.quantiles[0]


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(BadInput, match="does not say how its training set has the styles; it was trained by an older minidiff"):
        StyleScale(("slant",), (0.0,), (1.0,)).drawn(np.zeros(3, int))
    with pytest.raises(BadInput, match="classes must lie between -1 and 1, got 0 to 2"):
        StyleScale.of(np.random.default_rng(0).normal(size=(9, 1)), ["slant"], np.arange(9) % 2).drawn(np.arange(3))


def test_what_cannot_be_asked_for_is_said() -> None:
    scale = StyleScale(("slant",), (0.0,), (1.0,))
    with pytest.raises(BadInput, match="style 'weight' is not in this model; it knows slant"):
        scale.asked({"weight": 3.0})
    with pytest.raises(BadInput, match="style slant must be a finite number, got inf"):
        scale.asked({"slant": np.inf})
    with pytest.raises(BadInput, match="style 'slant' is the same for all 5 pictures"):
        StyleScale.of(np.ones((5, 1)), ["slant"])
