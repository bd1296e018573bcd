"""A small run as it should be. Every part of it is a method or a table, so that a case can break exactly one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import backend, diffusion, models, optim
from ..data import DataLoader, Dataset

BATCH, LR, CLIP = 32, 5e-3, 1.0
DROP = 0.1  # how many samples lose their label
GUIDANCE, SAMPLER_STEPS = 2.0, 25


@dataclass(frozen=True)
class Finding:
    """What a check saw, and whether that is as it should be."""

    healthy: bool
    seen: str


Check = Callable[["Healthy"], Finding]


class Healthy:
    """Cosine schedule, the class in every block (FiLM), v for a target, labels dropped one by one, averaged weights.

    wrong, looks, cure   what is broken, what one sees, and what to do, in a few words each
    find                 the check that tells the bug without a long training
    trained_as           the case whose trained network is used; its own where training is what is broken
    """

    name: ClassVar[str] = "healthy"
    wrong: ClassVar[str] = "nothing"
    looks: ClassVar[str] = "digits, most of them as asked for"
    cure: ClassVar[str] = ""
    find: ClassVar[Check | None] = None
    trained_as: ClassVar[str] = ""

    schedule: ClassVar[dict[str, Any]] = {"name": "cosine", "T": 100}
    network: ClassVar[dict[str, Any]] = {"channels": (32, 64), "condition": "film", "time_dim": 32, "patch": 4, "target": "v"}
    unet: ClassVar[type[models.UNet]] = models.UNet

    def road(self) -> diffusion.Schedule:
        return diffusion.make_schedule(**self.schedule)

    def build(self, seed: int = 0, **changes: Any) -> models.UNet:
        """A fresh network."""
        backend.manual_seed(seed)
        return self.unet(**{**self.network, **changes})

    def dataset(self, dataset: Dataset) -> Dataset:
        """The images and labels to learn from."""
        return dataset

    def prepare(self, x0: np.ndarray) -> np.ndarray:
        """Pictures in [−1,1], as the loader gives them, as the network gets them."""
        return x0

    def present(self, pictures: np.ndarray) -> np.ndarray:
        """What was drawn, in [−1,1] again."""
        return np.clip(pictures, -1.0, 1.0)

    def drop(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Some labels are lost, so that the network also learns to draw without."""
        return diffusion.drop_labels(labels, DROP, rng)

    def average(self, model: models.UNet) -> optim.EMA:
        """What becomes of the weights over the steps."""
        return optim.EMA(model, decay=0.99)

    def weights(self, ema: optim.EMA) -> contextlib.AbstractContextManager[Any]:
        """The weights that are drawn with."""
        return ema.applied()

    def sample(self, model: Any, labels: np.ndarray, **options: Any) -> np.ndarray:
        """One picture for each label."""
        return diffusion.sample(model, self.road(), labels, **{"steps": SAMPLER_STEPS, "guidance": GUIDANCE, **options})


@dataclass
class Trained:
    """What a training leaves: the network with its last weights, and their average."""

    model: models.UNet
    ema: optim.EMA
    losses: list[float]


def train(case: Healthy, dataset: Dataset, steps: int, seed: int = 0) -> Trained:
    """Train the case's network on the case's data: chapter 12's loop."""
    model, road = case.build(seed), case.road()
    ema = case.average(model)
    optimizer = optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    lr_schedule = optim.CosineLR(optimizer, steps, warmup_steps=min(50, steps // 5))
    rng = np.random.default_rng((seed, 1))
    losses = []
    with DataLoader(case.dataset(dataset), BATCH, seed=seed) as loader:
        for _ in range(steps):
            x0, labels = next(loader)
            loss = diffusion.loss(model, road, case.prepare(x0), case.drop(labels, rng), rng, drop=0.0)
            loss.backward()
            optim.clip_grad_norm(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            lr_schedule.step()
            ema.update()
            losses.append(loss.item())
    return Trained(model, ema, losses)
