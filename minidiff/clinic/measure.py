"""What a case does: held-out loss, the judge's verdict, the Fréchet distance, and the pictures themselves."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from .. import data, diffusion
from ..autograd import no_grad
from ..data import Dataset, find_mnist
from ..errors import BadInput
from ..evaluate import Frechet, Verdict, judge_samples, load_judge, sample_frechet
from .cases import CASES
from .healthy import Healthy, Trained, train

HELD_OUT, HELD_OUT_SEED = 256, 20_000
FRAME = 3  # pixels at the edge, where no digit of MNIST reaches


@dataclass(frozen=True)
class Result:
    """A case's figures and pictures. The loss does not compare across schedules, targets and ranges of the data."""

    case: type[Healthy]
    loss: float
    verdict: Verdict
    frechet: Frechet | None
    images: np.ndarray  # (N,1,32,32), classes one after the other, again and again
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values. `ground` is the frame that should be black: its mean, and its deviation."""
        case, edge = self.case, np.concatenate([self.images[..., :FRAME, :].ravel(), self.images[..., -FRAME:, :].ravel()])
        return {
            "name": case.name, "wrong": case.wrong,
            "found_by": case.find.__name__ if case.find else None, "trained_as": case.trained_as or case.name,
            "held_out_loss": round(self.loss, 5), "class_accuracy": self.verdict.accuracy, "interval_95": list(self.verdict.interval),
            "n": self.verdict.n, "frechet": None if self.frechet is None else round(self.frechet.distance, 3),
            "ground": {"mean": round(float(edge.mean()), 4), "deviation": round(float(edge.std()), 4)}, "seconds": round(self.seconds, 1),
        }  # fmt: skip


class Clinic:
    """Runs cases on one data set; a network that several cases share is trained once.

    per_class   pictures of each class that are drawn and judged
    """

    def __init__(self, data_name: str = "mnist", steps: int = 1000, per_class: int = 20, seed: int = 0) -> None:
        if data_name not in ("mnist", "glyphs"):
            raise BadInput(f"clinic: data must be mnist or glyphs, which the judge can read; got {data_name!r}")
        for name, value in (("steps", steps), ("per_class", per_class)):
            if value < 1:
                raise BadInput(f"clinic: {name} must be 1 or more, got {value}")
        self.data_name, self.steps, self.per_class, self.seed = data_name, steps, per_class, seed
        self.train, self.test = data.load(data_name), data.load(data_name, "test", limit=HELD_OUT)
        self.judge = load_judge()
        self.has_mnist = find_mnist() is not None
        self._trained: dict[str, Trained] = {}

    def trained(self, name: str) -> Trained:
        if name not in self._trained:
            self._trained[name] = train(CASES[name](), self.train, self.steps, self.seed)
        return self._trained[name]

    def run(self, name: str) -> Result:
        """One case, from training to verdict."""
        started, case = perf_counter(), known(name)()
        trained = self.trained(case.trained_as or name)
        labels = np.tile(np.arange(10), self.per_class)
        with case.weights(trained.ema):
            loss = held_out_loss(case, trained.model, self.test)
            images = case.present(case.sample(trained.model, labels, seed=self.seed))
        frechet = sample_frechet(images, "mnist", self.judge, labels) if self.has_mnist else None
        return Result(type(case), loss, judge_samples(images, labels, self.judge), frechet, images, perf_counter() - started)


def known(name: str) -> type[Healthy]:
    """The case of this name. Raises BadInput."""
    if name not in CASES:
        raise BadInput(f"clinic: there is no case {name!r}; there are {', '.join(CASES)}")
    return CASES[name]


def held_out_loss(case: Healthy, model: Any, test: Dataset) -> float:
    """The loss on unseen images, prepared as the case does it, always with the same t and ε."""
    pairs, rng = case.dataset(test), np.random.default_rng(HELD_OUT_SEED)
    total = 0.0
    with no_grad():
        for i in range(0, len(pairs), 64):
            x0 = case.prepare(data.to_model(pairs.images[i : i + 64]))
            total += diffusion.loss(model, case.road(), x0, pairs.labels[i : i + 64], rng, drop=0.0).item() * len(x0)
    return total / len(pairs)


def table(results: list[Result]) -> str:
    """A line for each case; Fréchet's column only where it could be measured."""
    rows = [("case", "what is wrong", "loss", "class", "Fréchet", "found by", "looks like")]
    for r in results:
        found = r.case.find.__name__ if r.case.find else "-"
        distance = "" if r.frechet is None else f"{r.frechet.distance:.1f}"
        rows.append((r.case.name, r.case.wrong, f"{r.loss:.4f}", f"{r.verdict.accuracy:.1%}", distance, found, r.case.looks))
    if all(r.frechet is None for r in results):
        rows = [row[:4] + row[5:] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {2, 3} | ({4} if len(rows[0]) == 7 else set())
    return "\n".join("  ".join(f"{text:>{w}}" if i in right else f"{text:<{w}}" for i, (text, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows)
