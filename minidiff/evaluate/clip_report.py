"""What CLIP says of samples, beside what it says of pictures that are no good samples.

Two procedures, on the same vectors. The course's, exactly: an image of class n stands before three sentences, "A handwritten
number n", "A clear, well-written digit n" and "A blurry or unclear number", and

    p = softmax(100 · cosine(image, sentence))            (3,),    score = p₁ + p₂,    good if p₁ + p₂ > p₃

with images of 0 … 1, grey in three channels, enlarged bilinearly to 224, and nothing normalised, as a public copy of the
course's notebook has it. The image cannot say "none of these": whatever it shows, the three add up to 1, and two of them speak
well of it. The proper procedure asks which of ten digits it is, with the model's own preprocessing, by one sentence and by the
mean of several. Both are asked about four controls too:

    real          held-out digits with their own labels           wrong labels    the same, each said to be the next digit
    noise         no pictures at all                              inverted        real digits, black on white
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from .. import data
from ..errors import BadInput
from .clip import Clip
from .frechet import NOISE_SEED

COURSE_PROMPTS = ("A handwritten number {}", "A clear, well-written digit {}", "A blurry or unclear number")
ENSEMBLE = ("A handwritten number {}", "the digit {}", "a photo of the digit {}", 'a photo of the number: "{}".', "a drawing of the number {}")
SHARPNESS = 100.0  # what the course multiplies cosines by
CLIP_CONTROLS = ("real", "wrong labels", "noise", "inverted")
DIGITS = tuple("0123456789")


def three_prompts(images: np.ndarray, prompts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The course's probabilities.            # unit vectors (N,D) and, of each class, (K,3,D); labels (N,) -> (N,3)"""
    return softmax(SHARPNESS * np.einsum("nd,npd->np", images, prompts[labels]), axis=1)


def zero_shot(images: np.ndarray, classes: np.ndarray, scale: float = SHARPNESS) -> np.ndarray:
    """p(class | image), each class a sentence.            # unit vectors (N,D), (K,D) -> (N,K)"""
    return softmax(scale * (images @ classes.T), axis=1)


def mean_prompt(prompts: np.ndarray) -> np.ndarray:
    """Several sentences for a class made into one: the direction of their mean (Radford et al. 2021, 3.1.4).            # (P,K,D) -> (K,D)"""
    mean = prompts.mean(0)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def class_vectors(clip: Clip, templates: Sequence[str], classes: Sequence[str] = DIGITS) -> np.ndarray:
    """Each sentence about each class.            # P templates, K classes -> (P,K,D)"""
    texts = clip.embed_texts([template.format(name) for template in templates for name in classes])
    return texts.reshape(len(templates), len(classes), -1)


@dataclass(frozen=True)
class Prompted:
    """The three sentences' verdict on a set of images.

    handwritten, clear, blurry    mean probability of each sentence
    good        the share with p₁ + p₂ > p₃: "CLIP recognised so many as good"
    green       the share whose likeliest sentence is one of the first two: the colour of a caption in the course
    by_class    the mean score p₁ + p₂ of each class
    """

    handwritten: float
    clear: float
    blurry: float
    good: float
    green: float
    by_class: dict[int, float]

    @property
    def score(self) -> float:
        """What the two good prompts get together."""
        return self.handwritten + self.clear

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {"score": self.score, **asdict(self), "by_class": {str(k): s for k, s in self.by_class.items()}}


def prompted(p: np.ndarray, labels: np.ndarray) -> Prompted:
    """What the probabilities come to.            # (N,3), (N,)"""
    score = p[:, 0] + p[:, 1]
    by_class = {int(k): float(score[labels == k].mean()) for k in np.unique(labels)}
    return Prompted(*map(float, p.mean(0)), float((score > p[:, 2]).mean()), float((p.argmax(1) < 2).mean()), by_class)


@dataclass(frozen=True)
class ClipMeasures:
    """What CLIP says of one set of images.

    course       the course's procedure, preprocessing and all
    prompts      its three sentences, with the model's own preprocessing
    accuracy     the share that, of ten sentences "A handwritten number n", is nearest to that of its label
    ensemble     the same with the mean of several sentences for each digit
    p_label      mean probability of the label among ten, at the model's own scale, by the ensemble
    by_class     `ensemble`, of each class
    """

    course: Prompted
    prompts: Prompted
    accuracy: float
    ensemble: float
    p_label: float
    by_class: dict[int, float]

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {"course": self.course.to_json(), "prompts": self.prompts.to_json(), "accuracy": self.accuracy, "ensemble": self.ensemble,
                "p_label": self.p_label, "by_class": {str(k): a for k, a in self.by_class.items()}}  # fmt: skip


@dataclass(frozen=True)
class ClipReport:
    """Samples and controls as one CLIP sees them, and which CLIP that was."""

    samples: ClipMeasures
    controls: dict[str, ClipMeasures]
    model: dict[str, Any]
    reference: str
    n: int

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values: those of the samples, and under "controls" the others'."""
        return {"model": self.model, "n": self.n, "reference": self.reference, "course_prompts": list(COURSE_PROMPTS), "ensemble_prompts": list(ENSEMBLE),
                **self.samples.to_json(), "controls": {name: m.to_json() for name, m in self.controls.items()}}  # fmt: skip

    def __str__(self) -> str:
        sets = {"samples": self.samples, **{"real digits" if name == "real" else name: m for name, m in self.controls.items()}}
        lines = [f"CLIP {self._who()}; {self.n:,} samples beside images of {self.reference}", " " * 34 + "".join(f"{head:>14}" for head in sets)]
        lines += [f"{name:<34}" + "".join(f"{show(m):>14}" for m in sets.values()) for name, show in ROWS]
        lines.append("score by class, the course's way: " + "  ".join(f"{k}: {s:.2f}" for k, s in self.samples.course.by_class.items()))
        lines.append("right among ten by class:         " + "  ".join(f"{k}: {a:.0%}" for k, a in self.samples.by_class.items()))
        lines.append(self._caution())
        return "\n".join(lines)

    def _who(self) -> str:
        m = self.model
        return f"{m['name']}, {m['weights']} ({m['parameters']:,} parameters, {m['size'][0]}x{m['size'][1]} pixels, {m['activation']})"

    def _caution(self) -> str:
        """What the figures are worth, by the controls."""
        if not self.model["trained"]:
            return "the weights are random: these figures mean nothing"
        of = {name: f"{m.course.good:.0%}" for name, m in self.controls.items()}
        return (f"by guessing, 10 % are right among ten, and two of three sentences are good; the course's way calls {of['real']} of real digits good, "
                f"{of['wrong labels']} of wrong labels, {of['noise']} of noise, {of['inverted']} of inverted digits")  # fmt: skip


ROWS: Sequence[tuple[str, Any]] = (
    ("the course: handwritten", lambda m: f"{m.course.handwritten:.3f}"),
    ("            clear", lambda m: f"{m.course.clear:.3f}"),
    ("            blurry", lambda m: f"{m.course.blurry:.3f}"),
    ("  score, the first two together", lambda m: f"{m.course.score:.3f}"),
    ("  good, score > blurry", lambda m: f"{m.course.good:.1%}"),
    ("  green, blurry not the likeliest", lambda m: f"{m.course.green:.1%}"),
    ("its prompts, own preprocessing", lambda m: f"{m.prompts.score:.3f}"),
    ("  good", lambda m: f"{m.prompts.good:.1%}"),
    ("right among ten, one prompt", lambda m: f"{m.accuracy:.1%}"),
    (f"  the mean of {len(ENSEMBLE)} prompts", lambda m: f"{m.ensemble:.1%}"),
    ("  probability of the label", lambda m: f"{m.p_label:.3f}"),
)


def evaluate_clip(
    images: np.ndarray, labels: np.ndarray, clip: Clip, reference: str = "mnist", batch_size: int = 64, progress: bool = False
) -> ClipReport:
    """Show samples and controls to CLIP.            # (N,1,H,W) in [−1,1], (N,)

    reference     digits for the controls, "mnist" or "glyphs": as many as there are samples (at most all test digits), in a frame
                  as large as that of the samples
    batch_size    pictures at a time, on which memory depends

    Every picture is embedded twice, once for each way of preprocessing.

    Raises BadInput for labels that are no digits, and for a data set that has none or cannot be had.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if labels.shape != images.shape[:1] or len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
        raise BadInput(f"clip: the prompts ask for digits: there must be one label from 0 to 9 for each of {len(images):,} images")
    test = data.load(reference, "test")
    if tuple(test.classes) != DIGITS:
        raise BadInput(f"clip: the prompts ask for digits, and {reference} has none; hold samples against mnist or glyphs")
    n = min(len(images), len(test))
    real, wanted = data.to_model(test.images[:n], images.shape[-1]), np.asarray(test.labels[:n])
    noise = np.random.default_rng(NOISE_SEED).standard_normal(real.shape, np.float32).clip(-1, 1)
    asks = _Asks(clip)
    seen = {name: asks.vectors(x, batch_size, progress) for name, x in (("samples", images), ("real", real), ("noise", noise), ("inverted", -real))}
    controls = {"real": asks.measures(*seen["real"], wanted), "wrong labels": asks.measures(*seen["real"], (wanted + 1) % 10),
                "noise": asks.measures(*seen["noise"], np.arange(n) % 10), "inverted": asks.measures(*seen["inverted"], wanted)}  # fmt: skip
    return ClipReport(asks.measures(*seen["samples"], labels), controls, clip.describe(), reference, len(images))


class _Asks:
    """The sentences, as vectors, and what is asked with them."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.course = class_vectors(clip, COURSE_PROMPTS).swapaxes(0, 1)         # (K,3,D)
        self.one, self.several = self.course[:, 0], mean_prompt(class_vectors(clip, ENSEMBLE))

    def vectors(self, images: np.ndarray, batch_size: int, progress: bool) -> tuple[np.ndarray, np.ndarray]:
        """Images as the course shows them, and as the model wants them.            # (N,C,H,W) -> (N,D), (N,D)"""
        course, own = (self.clip.embed_images(images, way, batch_size, progress) for way in ("course", "own"))
        return course, own

    def measures(self, course: np.ndarray, own: np.ndarray, labels: np.ndarray) -> ClipMeasures:
        """All that is told of one set, from its vectors.            # (N,D), (N,D), (N,)"""
        p = zero_shot(own, self.several, self.clip.scale)
        right = p.argmax(1) == labels
        return ClipMeasures(
            prompted(three_prompts(course, self.course, labels), labels), prompted(three_prompts(own, self.course, labels), labels),
            float(((own @ self.one.T).argmax(1) == labels).mean()), float(right.mean()), float(p[np.arange(len(p)), labels].mean()),
            {int(k): float(right[labels == k].mean()) for k in np.unique(labels)},
        )  # fmt: skip
