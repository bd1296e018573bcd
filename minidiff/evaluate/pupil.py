"""A pupil: a classifier that has seen samples and nothing else, examined on real digits.

Whoever has learned what a 4 is from samples alone knows only as many ways to write one as the samples show. So this one
number falls with both faults that samples can have, wrong labels and little variety, where the judge is content with a
single good picture of each class. It is the classification accuracy score of Ravuri & Vinyals (2019). A second pupil,
taught as long by as many real digits, says what could have been had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import data
from ..backend import manual_seed
from ..data.augmentation import augment
from ..errors import BadInput
from ..models.classifier import SIZE, Classifier
from ..nn import functional as F
from ..optim import EMA, AdamW, CosineLR
from .judge import Judge, crop, wilson

STEPS = 1500
BATCH = 64
LR = 2e-3


@dataclass(frozen=True)
class Pupils:
    """Two classifiers, one taught by samples and one by real digits, and how both did with real test digits.

    n                    how many images each was taught by, which each saw steps·64/n times
    samples, real        how many of the `examined` test digits the one and the other named rightly
    """

    n: int
    steps: int
    examined: int
    samples: int
    real: int

    @property
    def accuracy(self) -> float:
        """The share that the pupil of the samples named rightly."""
        return self.samples / self.examined

    @property
    def real_accuracy(self) -> float:
        """The same of the pupil of real digits."""
        return self.real / self.examined

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values; the intervals tell of the test digits drawn, not of the training's luck."""
        pupils = {name: {"accuracy": k / self.examined, "interval_95": list(wilson(k, self.examined))}
                  for name, k in (("samples", self.samples), ("real", self.real))}  # fmt: skip
        return {"n": self.n, "steps": self.steps, "examined": self.examined, **pupils}

    def __str__(self) -> str:
        low, high = wilson(self.samples, self.examined)
        return (f"a classifier taught by these {self.n:,} samples alone names {self.accuracy:.1%} of {self.examined:,} real test digits"
                f" (95 % interval {low:.1%} – {high:.1%}); taught by as many real digits, {self.real_accuracy:.1%}")  # fmt: skip


def pupils(images: np.ndarray, labels: np.ndarray, reference: str = "mnist", steps: int = STEPS, seed: int = 0, progress: bool = False) -> Pupils:
    """Teach one classifier by samples, one by as many training images of `reference`, and examine both on its test images.

    images (N,1,H,W) in [−1,1], H and W 28 or more; labels (N,). Each takes `steps` steps of 64 images, each moved by up to
    two pixels, from the same first weights: about two minutes on two cores.

    Raises BadInput for labels that are no classes of the data set, too few images, and where it cannot be had.
    """
    images, labels = crop(np.asarray(images)), np.asarray(labels)
    train, test = (data.load(reference, split) for split in ("train", "test"))
    n, K = len(images), len(train.classes)
    if labels.shape != (n,) or labels.min() < 0 or labels.max() >= K:
        raise BadInput(f"pupils: labels must be {n:,} classes from 0 to {K - 1}, got {labels.shape} from {labels.min()} to {labels.max()}")
    if not BATCH <= n <= len(train):
        raise BadInput(f"pupils: {n:,} samples; {BATCH} to {len(train):,} can be compared with as many images of {reference}")
    examined = data.to_model(test.images, SIZE)
    right = []
    for name, x, y in (("samples", images, labels), ("real digits", data.to_model(train.images[:n], SIZE), train.labels[:n])):
        model = teach(x, y, K, steps, seed, f"pupil of {name}" if progress else "")
        right.append(int((Judge(model).classify(examined) == test.labels).sum()))
    return Pupils(n, steps, len(test), *right)


def teach(x: np.ndarray, y: np.ndarray, num_classes: int = 10, steps: int = STEPS, seed: int = 0, bar: str = "") -> Classifier:
    """A classifier of the judge's kind that has seen these images alone.            # (N,1,28,28) in [−1,1], (N,)

    AdamW with a warm-up and a cosine, and the average of the weights along the way; `bar` names a progress bar. Starts the
    generator of weights and dropout anew from `seed`.
    """
    from tqdm import tqdm

    manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Classifier(num_classes=num_classes)
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.02)
    schedule, ema = CosineLR(optimizer, steps, warmup_steps=min(100, steps // 10)), EMA(model, decay=0.99)
    epoch, left = 0, np.empty(0, np.int64)
    for _ in tqdm(range(steps), desc=bar, leave=False, disable=not bar):
        if len(left) < BATCH:
            epoch, left = epoch + 1, rng.permutation(len(x))
        rows, left = left[:BATCH], left[BATCH:]
        loss = F.cross_entropy(model(augment(x[rows], rows, ("shift",), seed, epoch)), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        ema.update()
    model.load_state_dict({name: a for name, a in ema.state_dict().items() if name != "ema.updates"})
    return model
