"""The whole verdict on samples: every measure beside what real digits, wrong labels and noise get of it.

A number alone says nothing. 97 % of what? So the same measures are taken of controls, of as many images each:

    real          held-out digits with their own labels, classes as frequent as among the samples: about what a perfect model would get
    wrong labels  the same digits, each said to be the next one: good pictures of something else
    noise         no pictures at all
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import data
from ..errors import BadInput
from .calibration import confusion_matrix
from .clouds import Manifolds, Nearest, diversity, nearest, precision_recall
from .frechet import NOISE_SEED, frechet_distance, like, real_features
from .judge import Judge, Verdict, crop, judge_samples, load_judge

CONTROLS = ("real", "wrong labels", "noise")


@dataclass(frozen=True)
class Measures:
    """What is measured of one set of images.

    verdict      how many show their label
    confidence   how sure the judge is of what it sees, on average: the largest probability
    frechet      distance to as many training images
    manifolds    precision and recall against the same
    diversity    how far apart two of one class are, as a part of what training images are: 1 is as varied
    pixels       the nearest training images, as pixels go; None where they were not looked for
    features     the same in the judge's features
    """

    verdict: Verdict
    confidence: float
    frechet: float
    manifolds: Manifolds
    diversity: float
    pixels: Nearest | None = None
    features: Nearest | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        near = {name: value.to_json() for name, value in (("pixels", self.pixels), ("features", self.features)) if value is not None}
        return {**self.verdict.to_json(), "confidence": self.confidence, "frechet": self.frechet, **self.manifolds.to_json(),
                "diversity": self.diversity, "nearest": near}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """Samples and controls, measured alike.

    images, labels    the samples
    confusion         (K,K): how many of each class asked for (rows) the judge took for each class (columns)
    """

    samples: Measures
    controls: dict[str, Measures]
    reference: str
    n: int
    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    confusion: np.ndarray = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values: those of the samples, and under "controls" the others'."""
        floor, noise = self.controls["real"].frechet, self.controls["noise"].frechet
        return {**self.samples.to_json(), "frechet_floor": floor, "frechet_noise": noise, "reference": self.reference,
                "confusion": self.confusion.tolist(), "controls": {name: m.to_json() for name, m in self.controls.items()}}  # fmt: skip

    def __str__(self) -> str:
        columns = {"samples": self.samples, **{f"{name} digits" if name == "real" else name: m for name, m in self.controls.items()}}
        heads = list(columns)
        lines = [f"{self.n:,} samples beside as many images of {self.reference}", " " * 30 + "".join(f"{head:>14}" for head in heads)]
        for name, show in ROWS:
            lines.append(f"{name:<30}" + "".join(f"{show(m):>14}" for m in columns.values()))
        low, high = self.samples.verdict.interval
        said = f"{low:.1%} – {high:.1%}"
        lines.append(f"class accuracy of the samples: 95 % interval {said}; by class " + self._by_class())
        if sure := self.samples.verdict.judge_accuracy:
            lines.append(f"the judge is right on {sure:.2%} of real test digits")
        return "\n".join(lines)

    def _by_class(self) -> str:
        return "  ".join(f"{label}: {c / n:.1%}" for label, (c, n) in self.samples.verdict.by_class.items())


def _near(nearest: Nearest | None) -> str:
    return "" if nearest is None else f"{nearest.ratio:.2f}"


def _close(nearest: Nearest | None) -> str:
    return "" if nearest is None else f"{nearest.close:.1%}"


ROWS: Sequence[tuple[str, Any]] = (
    ("class accuracy", lambda m: f"{m.verdict.accuracy:.1%}"),
    ("the judge's confidence", lambda m: f"{m.confidence:.1%}"),
    ("Fréchet distance", lambda m: f"{m.frechet:.2f}"),
    ("precision", lambda m: f"{m.manifolds.precision:.1%}"),
    ("recall", lambda m: f"{m.manifolds.recall:.1%}"),
    ("diversity within a class", lambda m: f"{m.diversity:.2f}"),
    ("nearest training image, pixels", lambda m: _near(m.pixels)),
    ("  too near (1 % expected)", lambda m: _close(m.pixels)),
    ("nearest in the judge's features", lambda m: _near(m.features)),
    ("  too near (1 % expected)", lambda m: _close(m.features)),
)


def evaluate_samples(images: np.ndarray, labels: np.ndarray, reference: str = "mnist", judge: Judge | None = None) -> Report:
    """Measure samples and controls against a data set.            # (N,1,H,W) in [−1,1], (N,)

    N may be 100 up to the size of the test set. Nearest images are looked for among all training images, and in relation to
    how near held-out images are: a ratio of 1, and 1 % suspiciously near, is what new digits would have.

    Nearest images are what takes longest: about ten seconds for 1,000 samples on two cores.

    Raises BadInput for too few or too many samples, labels that do not fit, and where the data set cannot be had.
    """
    judge = load_judge() if judge is None else judge
    images, labels = np.asarray(images), np.asarray(labels)
    train, test = (data.load(reference, split) for split in ("train", "test"))
    n, K = len(images), len(train.classes)
    if not 100 <= n <= len(test):
        raise BadInput(f"evaluate: {n:,} samples; 100 to {len(test):,} can be held against equally many of the images of {reference}")
    if labels.shape != (n,) or labels.min() < 0 or labels.max() >= K:
        raise BadInput(f"evaluate: labels must be {n:,} classes from 0 to {K - 1}, got {labels.shape} from {labels.min()} to {labels.max()}")
    known = real_features(judge, train, len(train))
    test = like(test, labels)
    world = _World(judge, known, train, test, n)
    held_out, noise = data.to_model(test.images, 28), np.random.default_rng(NOISE_SEED).standard_normal((n, 1, 28, 28), np.float32).clip(-1, 1)
    wanted = test.labels
    controls = {"real": world.measures(held_out, wanted, None), "wrong labels": world.measures(held_out, (wanted + 1) % K, None),
                "noise": world.measures(noise, np.arange(n) % K, None)}  # fmt: skip
    samples, seen = world.measures(images, labels, held_out), judge.classify(images)
    assert samples.pixels is not None and samples.features is not None
    controls["real"] = replace(controls["real"], pixels=samples.pixels.of_held_out(), features=samples.features.of_held_out())
    confusion = confusion_matrix(labels, seen, K)
    return Report(samples, controls, reference, n, images, labels, confusion)


class _World:
    """What all columns are measured against."""

    def __init__(self, judge: Judge, known: np.ndarray, train: data.Dataset, test: data.Dataset, n: int) -> None:
        self.judge, self.known, self.train, self.test, self.n = judge, known, train, test, n
        spread = diversity(known, train.labels)
        self.spread = spread

    def measures(self, images: np.ndarray, labels: np.ndarray, held_out: np.ndarray | None) -> Measures:
        """All measures of one set; the nearest images too, where there are held-out ones to compare with."""
        features, known = self.judge.features(images), self.known
        spread = diversity(features, labels)
        near: dict[str, Nearest] = {}
        if held_out is not None:
            near["features"] = nearest(features, known, real_features(self.judge, self.test, self.n))
            near["pixels"] = nearest(crop(images), data.to_model(self.train.images, 28), held_out)
        return Measures(
            judge_samples(images, labels, self.judge), float(self.judge.probabilities(images).max(1).mean()),
            frechet_distance(features, known[: self.n]), precision_recall(known[: self.n], features),
            float(np.mean([spread[c] / self.spread[c] for c in spread])), **near,
        )  # fmt: skip
