"""Best of N: draw several candidates for each picture that is wanted, and keep those that somebody likes best.

No sampler and no training gets better by it, and the price is N times the questions. What is kept is also good by the taste of
who chose: so ask another for the gain (Goodhart's law: a measure that becomes a target ceases to be a good measure).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import diffusion
from ..errors import BadInput
from .clip import Clip
from .clip_report import ENSEMBLE, class_vectors, mean_prompt, zero_shot
from .judge import Judge

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # images (N,C,H,W), labels (N,) -> (N,), more is better


@dataclass(frozen=True)
class Selection:
    """What was kept, and what it cost.

    images, labels    in the order of the labels that were asked for, the best of each first: (N·keep,C,H,W), (N·keep,)
    scores            theirs, by who chose, (N·keep,)
    indices           the number that each has among all candidates, which with the seed it can be drawn again by, (N·keep,)
    candidates        the scores of all candidates, (N,n)
    evaluations       of the network for all candidates, each of one picture (NFE): see `diffusion.evaluations`
    """

    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    indices: np.ndarray
    candidates: np.ndarray
    evaluations: int

    @property
    def gain(self) -> float:
        """How much higher the chosen score than all candidates, on average, by who chose."""
        return float(self.scores.mean() - self.candidates.mean())


def best_of(
    model: Any, schedule: diffusion.Schedule, labels: Any, n: int, keep: int = 1, *, score: Score, seed: int = 0,
    batch_size: int = 64, sampler: str = "ddpm", steps: int | None = None, guidance: float | diffusion.Guidance = 0.0, **options: Any,
) -> Selection:  # fmt: skip
    """For each label n candidates, of which the `keep` with the highest score stay.            # (N,) -> (N·keep,C,H,W)

    score         who chooses, called as score(images, labels): :func:`judge_score`, :func:`clip_score`, or any other
    batch_size    candidates that are drawn at a time, and in memory. It has no effect on which are drawn
    options       further ones of `diffusion.sample`

    Candidate j of label i is the picture number i·n + j that `sample` draws with this seed, so the same seed keeps the same, and
    n = 1 is to sample without choosing.

    Raises BadInput for a `keep` that is not 1 to n, a score of another shape or not a number, and whatever `sample` does not take.
    """
    labels = np.asarray(labels)
    if not 1 <= keep <= n:
        raise BadInput(f"best_of: keep must be 1 to {n}, the number of candidates; got {keep}")
    how = {"seed": seed, "sampler": sampler, "steps": steps, "guidance": guidance, "batch_size": batch_size, **options}
    at_once = max(1, batch_size // n)                            # labels whose candidates are drawn together
    parts = []
    for start in range(0, len(labels), at_once):
        asked = np.repeat(labels[start : start + at_once], n)
        images = diffusion.sample(model, schedule, asked, first=start * n, **how)
        parts.append(_kept(images, _scored(score, images, asked), n, keep, start * n))
    if not parts:
        raise BadInput("best_of: labels must hold at least one label")
    images, scores, indices, candidates = (np.concatenate(part) for part in zip(*parts, strict=True))
    cost = len(labels) * n * diffusion.evaluations(schedule, sampler, steps, guidance, options.get("churn", 0.0))
    return Selection(images, np.repeat(labels, keep), scores, indices, candidates, cost)


def _kept(images: np.ndarray, scores: np.ndarray, n: int, keep: int, first: int) -> tuple[np.ndarray, ...]:
    """The best of each n in a row; of equals the first."""
    table = scores.reshape(-1, n)
    order = np.argsort(-table, axis=1, kind="stable")[:, :keep]
    rows = (order + n * np.arange(len(table))[:, None]).ravel()
    return images[rows], scores[rows], rows + first, table


def _scored(score: Score, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    scores = np.asarray(score(images, labels))
    if scores.shape != labels.shape or not np.isfinite(scores).all():
        raise BadInput(f"best_of: score must give {len(labels)} finite numbers for as many images, got {scores.dtype} of shape {scores.shape}")
    return scores


def judge_score(judge: Judge) -> Score:
    """The judge's probability of the label."""
    return lambda images, labels: _of_label(judge.probabilities(images), labels)


def clip_score(clip: Clip, batch_size: int = 64) -> Score:
    """CLIP's probability of the label among ten digits, by the mean of several sentences, with its own preprocessing."""
    several = mean_prompt(class_vectors(clip, ENSEMBLE))

    def score(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return _of_label(zero_shot(clip.embed_images(images, batch_size=batch_size), several, clip.scale), labels)

    return score


def _of_label(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each row's probability of its label.            # (N,K), (N,) -> (N,)"""
    if labels.min() < 0 or labels.max() >= p.shape[1]:
        raise BadInput(f"best_of: this score knows classes 0 to {p.shape[1] - 1}; labels run from {labels.min()} to {labels.max()}")
    return p[np.arange(len(p)), labels]
