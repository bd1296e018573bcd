"""When does a digit become a digit? The judge looks at every step of the way from noise.

At step k of K the sampler has x_s, the picture with its noise, and x̂0, what the network takes it for. The judge, who has seen
clean digits alone, is shown both. A sample is *recognised* from the first look on after which the answer is right and stays
right; the moment is given as a part of the way, k/K: 0.6 means that the last 40 % only finish what can be read already.

A classifier must answer something to noise, too, and has its favourite: this judge says 8. An 8 would be recognised before there
is anything to see. So the judge's scores are taken relative to their mean over all samples at the same step,

    z_i − 1/N Σ_j z_j            (all classes asked for equally often)

which asks of each sample how it differs from the others, and makes nothing of what they have in common, the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .judge import Judge, load_judge

VIEWS = ("x0_hat", "xt")


@dataclass
class Recognition:
    """A callback for :func:`minidiff.diffusion.sample` that asks the judge at every step.

        seen = Recognition(labels, steps=100)
        diffusion.sample(model, schedule, labels, steps=100, callback=seen)
        seen.moments("x0_hat")                        # when each sample was recognised, as a part of the way

    labels, steps    those of the sampler: (N,), each class equally often; K
    fair             take scores relative to their mean, as above; False takes the judge's word
    scores           by view, "x0_hat" and "xt": the judge's, (K,N,classes)
    """

    labels: np.ndarray
    steps: int
    judge: Judge = field(default_factory=load_judge)
    fair: bool = True
    scores: dict[str, np.ndarray] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = np.asarray(self.labels)

    def __call__(self, step: int, s: int, xs: np.ndarray, x0_hat: np.ndarray, indices: np.ndarray) -> None:
        for view, images in (("x0_hat", x0_hat), ("xt", xs)):
            z = self.judge.scores(images.clip(-1.0, 1.0))
            self.scores.setdefault(view, np.zeros((self.steps, len(self.labels), z.shape[1]), np.float32))[step - 1, indices] = z

    def right(self, view: str = "x0_hat") -> np.ndarray:
        """Whether the judge is right about each sample after each step.            # (K,N)"""
        z = self.scores[view]
        return (z - z.mean(1, keepdims=True) if self.fair else z).argmax(2) == self.labels

    def accuracy(self, view: str = "x0_hat", label: int | None = None) -> np.ndarray:
        """The share of samples that the judge is right about after each step, of one class or of all.            # (K,)"""
        mine = slice(None) if label is None else self.labels == label
        return self.right(view)[:, mine].mean(1)

    def moments(self, view: str = "x0_hat") -> np.ndarray:
        """When each sample is recognised, as a part of the way; infinite for one that is wrong at the end.            # (N,)"""
        wrong = ~self.right(view)
        last_wrong = np.where(wrong.any(0), self.steps - wrong[::-1].argmax(0), 0)         # number of the last wrong look, 1 … K
        return np.where(last_wrong == self.steps, np.inf, (last_wrong + 1) / self.steps)

    def table(self, shares: Sequence[float] = (0.5, 0.9)) -> list[dict[str, Any]]:
        """For each class and all together (class None): when so large shares of its samples are recognised, by view.

        A sample that never is counts as later than all others; where a share is never reached the value is None.
        """
        rows: list[dict[str, Any]] = []
        for label in [*np.unique(self.labels), None]:
            mine = slice(None) if label is None else self.labels == label
            row: dict[str, Any] = {"class": None if label is None else int(label)}
            for view in VIEWS:
                moments = np.sort(self.moments(view)[mine])
                for share in shares:
                    moment = moments[min(len(moments) - 1, int(np.ceil(share * len(moments))) - 1)]
                    row[f"{view}_{share:g}"] = float(moment) if np.isfinite(moment) else None
            rows.append(row)
        return rows
