"""The judge: a classifier trained with minidiff on real MNIST (examples/train_judge.py) that says what a sample shows."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import no_grad
from ..errors import BadInput
from ..models.classifier import SIZE, Classifier
from ..tensor import Tensor
from .calibration import tempered
from .samples import range_fault

if TYPE_CHECKING:
    from ..train import Loaded

BUNDLED = Path(__file__).resolve().parent / "pretrained" / "judge.npz"
FORMAT = "minidiff-judge"


class Judge:
    """A classifier with the crop that its images need.

    `accuracy` is what it reached on real test digits: no verdict on samples is surer than that. `temperature` divides its
    scores, so that it is as often right as it is sure: see `calibration`.
    """

    def __init__(self, model: Classifier, accuracy: float | None = None, temperature: float = 1.0) -> None:
        self.model, self.accuracy, self.temperature = model.eval(), accuracy, temperature

    def __call__(self, x0: Tensor) -> Tensor:
        """ln p(class | image), up to a constant, of Tensors: for `diffusion.Guidance(classifier=judge)`.            # as `probabilities`"""
        top, left = _corner(x0.shape, SIZE)
        return self.model(x0[:, :, top : top + SIZE, left : left + SIZE]) * (1.0 / self.temperature)

    def probabilities(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """p(class | image).            # (N,1,H,W) in [−1,1], H and W at least 28 -> (N,K)"""
        return tempered(self.scores(images, batch_size), self.temperature)

    def scores(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """What the probabilities are the softmax of, at temperature 1.            # (N,1,H,W) -> (N,K)"""
        return self._run(self.model, images, batch_size)

    def features(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """The vectors before the last layer.            # (N,1,H,W) -> (N,F)"""
        return self._run(self.model.features, images, batch_size)

    def classify(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """The likeliest class of each image.            # (N,1,H,W) -> (N,) int64"""
        return self.probabilities(images, batch_size).argmax(axis=1)

    def _run(self, network: Any, images: np.ndarray, batch_size: int) -> np.ndarray:
        images = crop(images)
        with no_grad():
            parts = [network(images[i : i + batch_size]).numpy() for i in range(0, len(images), batch_size)]
        return np.concatenate(parts)


def crop(images: np.ndarray, size: int = SIZE) -> np.ndarray:
    """The middle of the images, where padding to 32x32 left the digit.            # (N,1,H,W) -> (N,1,28,28)"""
    if fault := range_fault(images):
        warnings.warn(f"judge: {fault}", stacklevel=3)
    top, left = _corner(images.shape, size)
    return np.ascontiguousarray(images[:, :, top : top + size, left : left + size], dtype=np.float32)


def _corner(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Where the middle of such images begins."""
    if len(shape) != 4 or shape[1] != 1 or min(shape[2:]) < size or shape[0] == 0:
        raise BadInput(f"judge: images must be (N, 1, {size} or more, {size} or more), got {shape}")
    return (shape[2] - size) // 2, (shape[3] - size) // 2


def save_judge(model: Classifier, path: str | Path, accuracy: float, temperature: float = 1.0) -> None:
    """Write the classifier with its test accuracy and temperature; float16 weights halve the file."""
    import json

    from ..files import write_npz

    meta = json.dumps({"format": FORMAT, "version": 1, "config": model.config, "accuracy": accuracy, "temperature": temperature})
    weights = {f"model/{name}": array.astype(np.float16) for name, array in model.state_dict().items()}
    write_npz(path, {"meta": np.array(meta), **weights}, compress=True)


def load_judge(path: str | Path | None = None) -> Judge:
    """The bundled judge, or one from a file of `save_judge`. Raises BadInput for any other file."""
    import json

    from ..files import UNREADABLE

    path = BUNDLED if path is None else Path(path)
    if not path.is_file():
        raise BadInput(f"judge: {path} does not exist; examples/train_judge.py makes one")
    try:
        with np.load(path, allow_pickle=False) as archive:
            meta = json.loads(str(archive["meta"]))
            weights = {name.removeprefix("model/"): archive[name] for name in archive.files if name != "meta"}
    except (OSError, AttributeError, *UNREADABLE):
        raise BadInput(f"judge: {path} is damaged or no judge; examples/train_judge.py makes one") from None
    if meta.get("format") != FORMAT:
        raise BadInput(f"judge: {path} holds a {meta.get('format')}, not a judge; examples/train_judge.py makes one")
    model = Classifier(**meta["config"])
    model.load_state_dict(weights)
    return Judge(model, meta["accuracy"], meta.get("temperature", 1.0))


def check_judgeable(loaded: Loaded) -> None:
    """Raises BadInput for a model whose pictures the judge, who knows grey digits, has nothing to say of."""
    if loaded.classes != tuple("0123456789") or loaded.model.config["in_channels"] != 1:
        raise BadInput(f"the judge knows grey digits, 0 to 9; {loaded.path.name} draws {', '.join(loaded.classes[:4])} …"
                       f" with {loaded.model.config['in_channels']} channel(s)")  # fmt: skip


# ---------------------------------------------------------------------------------------- verdicts


@dataclass(frozen=True)
class Verdict:
    """How many of `n` samples show the class that was asked for, in all and class by class."""

    n: int
    correct: int
    by_class: dict[int, tuple[int, int]]  # label: (correct, of how many)
    judge_accuracy: float | None

    @property
    def accuracy(self) -> float:
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy (Wilson 1927), which is right also near 0 and 1."""
        return wilson(self.correct, self.n)

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {
            "n": self.n, "correct": self.correct, "class_accuracy": self.accuracy, "interval_95": list(self.interval),
            "by_class": {str(label): {"correct": c, "n": n} for label, (c, n) in self.by_class.items()},
            "judge_test_accuracy": self.judge_accuracy,
        }  # fmt: skip

    def __str__(self) -> str:
        low, high = self.interval
        sure = f"; the judge is right on {self.judge_accuracy:.2%} of real test digits" if self.judge_accuracy else ""
        lines = [f"class accuracy {self.accuracy:.1%} of {self.n} samples (95 % interval {low:.1%} – {high:.1%}){sure}"]
        lines += [f"  {label}  {c / n:6.1%}  {c}/{n}" for label, (c, n) in self.by_class.items()]
        return "\n".join(lines)


def wilson(correct: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of p that `correct` hits in n tries leave plausible at z standard deviations.

        (p̂ + z²/2n ± z √(p̂(1 − p̂)/n + z²/4n²)) / (1 + z²/n)
    """
    p = correct / n
    middle = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def judge_samples(images: np.ndarray, labels: np.ndarray, judge: Judge | None = None) -> Verdict:
    """Count the samples that show their label.            # (N,1,H,W) in [−1,1], (N,)"""
    judge = load_judge() if judge is None else judge
    if len(images) != len(labels):
        raise BadInput(f"judge: {len(images)} images and {len(labels)} labels; there must be one label for each image")
    right = judge.classify(images) == labels
    by_class = {int(k): (int(right[labels == k].sum()), int((labels == k).sum())) for k in np.unique(labels)}
    return Verdict(len(labels), int(right.sum()), by_class, judge.accuracy)
