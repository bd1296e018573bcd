"""The whole verdict: controls get what they must, and samples stand beside them."""

import json

import numpy as np
import pytest

from minidiff import data, viz
from minidiff.errors import BadInput
from minidiff.evaluate import evaluate_samples


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Glyphs for a reference, few of them, and a cache of the test's own."""
    load = data.load
    monkeypatch.setattr(data, "load", lambda name, split="train", limit=None: load(name, split, limit=600 if split == "train" else 200))
    monkeypatch.setenv("MINIDIFF_CACHE", str(tmp_path / "cache"))
    return data.load("glyphs", "train"), data.load("glyphs", "test")


def test_held_out_digits_as_samples_are_as_good_as_the_control(few):
    _, test = few
    report = evaluate_samples(data.to_model(test.images), test.labels, "glyphs")
    real = report.controls["real"]
    assert report.samples.frechet == pytest.approx(real.frechet, rel=1e-6) and report.samples.manifolds == real.manifolds
    assert report.samples.verdict.accuracy == real.verdict.accuracy and report.samples.confidence == pytest.approx(real.confidence)
    for near in (report.samples.pixels, report.samples.features):
        assert near.ratio == pytest.approx(1.0, abs=1e-3) and near.close == pytest.approx(0.01, abs=0.01)
    assert report.confusion.sum() == 200 and report.confusion.trace() == report.samples.verdict.correct


def test_controls_get_what_they_must(few):
    _, test = few
    report = evaluate_samples(data.to_model(test.images[:150]), test.labels[:150], "glyphs")
    real, wrong, noise = (report.controls[name] for name in ("real", "wrong labels", "noise"))
    assert real.verdict.accuracy > 0.7 > 0.2 > wrong.verdict.accuracy
    assert wrong.frechet == pytest.approx(real.frechet) and wrong.manifolds == real.manifolds       # they do not look at labels
    assert noise.frechet > 10 * real.frechet and noise.manifolds.precision == 0 and noise.manifolds.recall < 0.1
    assert real.diversity == pytest.approx(1.0, abs=0.25) and noise.diversity < 0.5


def test_the_control_has_the_samples_classes(few):
    _, test = few
    wanted = np.repeat((3, 8), (10, 90))
    images = data.to_model(test.images[np.resize(np.flatnonzero(test.labels == 8), 100)])
    real = evaluate_samples(images, wanted, "glyphs").controls["real"]
    counts = {label: n for label, (_, n) in real.verdict.by_class.items()}
    assert counts[3] >= 10 and counts[8] == (test.labels == 8).sum() and sum(counts.values()) == 100       # there are no 90 eights


def test_copies_of_training_images_are_noticed(few):
    train, _ = few
    report = evaluate_samples(data.to_model(train.images[300:450]), train.labels[300:450], "glyphs")
    assert report.samples.pixels.close > 0.95 and report.samples.pixels.ratio < 0.05
    assert (report.samples.pixels.index == np.arange(300, 450)).mean() > 0.95


def test_the_report_is_a_table_a_record_and_a_card(few, tmp_path):
    train, test = few
    report = evaluate_samples(data.to_model(test.images[:120]), test.labels[:120], "glyphs")
    text = str(report)
    assert text.startswith("120 samples beside as many images of glyphs\n") and "wrong labels" in text
    assert f"{'Fréchet distance':<30}{report.samples.frechet:>14.2f}" in text
    record = json.loads(json.dumps(report.to_json()))
    assert set(record["controls"]) == {"real", "wrong labels", "noise"} and record["n"] == 120
    assert record["frechet_floor"] == record["controls"]["real"]["frechet"] and record["nearest"]["pixels"]["expected_close"] == 0.01
    path = viz.save(viz.report_card(report, train.images, "Test digits"), tmp_path / "card.png")
    assert path.stat().st_size > 20_000


@pytest.mark.parametrize(("n", "labels", "message"), [
    (50, None, "evaluate: 50 samples; 100 to 200 can be held against equally many of the images of glyphs"),
    (120, np.full(120, 10), r"evaluate: labels must be 120 classes from 0 to 9, got \(120,\) from 10 to 10"),
])  # fmt: skip
def test_what_cannot_be_evaluated_is_said(few, n, labels, message):
    _, test = few
    with pytest.raises(BadInput, match=message):
        evaluate_samples(data.to_model(test.images[:n]), test.labels[:n] if labels is None else labels, "glyphs")
