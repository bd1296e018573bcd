"""Recipes: everything that decides what a training run computes, in one frozen, JSON-able record."""
from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backend import PRECISIONS
from ..diffusion import SAMPLERS, TIMES, WEIGHTINGS
from ..errors import BadInput
from ..files import read_json

OPTIMIZERS = ("adam", "adamw", "sgd")
LR_SCHEDULES = ("constant", "cosine")

# A resumed run may change these: they decide how long it goes on, where it runs and what it shows,
# while every other field is part of what the steps already taken have computed.
FREE_ON_RESUME = frozenset({
    "preset", "epochs", "steps", "device", "precision", "threads", "sheet_every", "sheet_per_class", "sheet_sampler", "sheet_steps",
    "guidance", "checkpoint_every", "keep", "validate", "recompute",
})


@dataclass(frozen=True)
class Config:
    """One training recipe.

    ``model`` holds arguments of :class:`minidiff.models.UNet`, ``schedule`` those of
    :func:`minidiff.diffusion.make_schedule`. Either ``epochs`` or ``steps`` says how long to train; ``steps`` wins.
    For ``clip``, ``ema``, ``drop``, ``warmup``, ``sheet_every``, ``checkpoint_every``, ``keep`` and ``validate``
    zero means "off".

    ``start`` names a bundled model, a run's folder or a checkpoint with the same network: see :mod:`minidiff.train.start`.

    ``accumulate`` = K takes the gradient of a batch in K parts of batch/K samples, with the same t, noise and dropped
    labels as in one piece: the same step to rounding, in the memory of a part. ``recompute`` forgets what the blocks of
    the network compute and computes it again in backward: the same step bit for bit, in less memory and more time.
    """

    preset: str = "custom"
    data: str = "mnist"
    limit: int | None = None                 # train on the first `limit` images only
    image_size: int = 32
    model: dict[str, Any] = field(default_factory=dict)
    start: str | None = None                 # the model whose weights it begins with; None: random ones
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "cosine", "T": 100})

    epochs: float | None = None
    steps: int | None = None
    batch: int = 64
    accumulate: int = 1                      # parts in which a batch goes through the network
    recompute: bool = False                  # keep the inputs of blocks only, and compute the rest twice
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    lr_schedule: str = "cosine"
    warmup: int = 0                          # steps of linear warm-up before the cosine
    lr_floor: float = 0.0                    # where the cosine ends
    clip: float = 0.0                        # largest global gradient norm
    ema: float = 0.0                         # decay of the averaged weights
    augment: tuple[str, ...] = ()            # how pictures are varied: see data.augmentation
    style: tuple[str, ...] = ()              # values that the network is told beside the class: see data.style
    drop: float = 0.1                        # rate at which a sample loses its label, for guidance
    weighting: str = "uniform"               # how much a step's error counts: see diffusion.loss_weight
    times: str = "uniform"                   # how steps are drawn: see diffusion.loss
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"                  # how the GPU multiplies: fp32, tf32 or bf16
    threads: int | None = None               # None: the backend decides

    sheet_every: int = 500                   # steps between sample sheets
    sheet_per_class: int = 4
    sheet_sampler: str = "ddpm"              # its fresh noise mends early errors, which 25 steps of ddim keep
    sheet_steps: int = 25
    guidance: float = 0.0                    # of the sheets, and of `minidiff sample` unless it says otherwise
    checkpoint_every: int = 500
    keep: int = 3                            # checkpoints kept besides the final model; 0 keeps all
    validate: int = 512                      # held-out images of the validation loss

    def __post_init__(self) -> None:
        for name in ("augment", "style"):                        # JSON knows lists alone
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        _check(self)

    def replace(self, **changes: Any) -> Config:
        """A copy with some fields changed; giving only one of ``epochs`` and ``steps`` clears the other."""
        if changes.get("steps") is not None:
            changes.setdefault("epochs", None)
        elif changes.get("epochs") is not None:
            changes.setdefault("steps", None)
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Config:
        """The opposite of :meth:`to_json`; unknown fields raise BadInput that names them."""
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise BadInput(f"train: unknown field {', '.join(unknown)}")
        return cls(**values)

    @classmethod
    def load(cls, path: str | Path) -> Config:
        """The recipe in a JSON file, or in a run's folder, as ``minidiff train`` writes it; what is left out has its usual value."""
        path = Path(path)
        path = path / "config.json" if path.is_dir() else path
        try:
            return cls.from_json(read_json(path))
        except (BadInput, TypeError) as error:
            raise BadInput(str(error) if str(path) in str(error) else f"{path}: {error}") from None

    def total_steps(self, batches_per_epoch: int) -> int:
        """How many optimiser steps this recipe takes when one epoch has ``batches_per_epoch`` of them."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None       # _check has seen to it
        return max(1, round(self.epochs * batches_per_epoch))

    def __str__(self) -> str:
        """One field a line, aligned, as ``minidiff train`` prints it."""
        shown = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        width = max(map(len, shown))
        return "\n".join(f"{name:<{width}}  {_plain(value)}" for name, value in shown.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_plain(v)}" for k, v in value.items()) or "defaults"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(c: Config) -> None:
    """Refuse what no run could use, naming the field, the value, and what would be right."""
    if c.epochs is None and c.steps is None:
        raise BadInput("train: give epochs or steps, neither is set")
    for name in ("lr", "epochs"):
        value = getattr(c, name)
        if value is not None and not (_number(value) and value > 0):
            raise BadInput(f"train: {name} must be a finite number above 0, got {value}")
    for name in ("steps", "batch", "accumulate", "image_size", "limit", "threads", "sheet_steps", "sheet_per_class"):
        value = getattr(c, name)
        if value is not None and not (_whole(value) and value >= 1):
            raise BadInput(f"train: {name} must be a whole number of at least 1, got {value}")
    for name in ("warmup", "seed", "sheet_every", "checkpoint_every", "keep", "validate"):
        value = getattr(c, name)
        if not (_whole(value) and value >= 0):
            raise BadInput(f"train: {name} must be a whole number of at least 0, got {value}")
    for name in ("weight_decay", "lr_floor", "clip", "guidance"):
        value = getattr(c, name)
        if not (_number(value) and value >= 0):
            raise BadInput(f"train: {name} must be a finite number of at least 0, got {value}")
    if c.batch % c.accumulate:
        raise BadInput(f"train: accumulate must divide the batch of {c.batch}, got {c.accumulate}")
    if not isinstance(c.recompute, bool):
        raise BadInput(f"train: recompute must be true or false, got {c.recompute}")
    for name in ("model", "schedule"):
        if not isinstance(getattr(c, name), dict):
            raise BadInput(f"train: {name} must hold options by name, got {getattr(c, name)}")
    if not (_number(c.ema) and 0 <= c.ema < 1):
        raise BadInput(f"train: ema must lie in [0, 1), 0 for none, got {c.ema}")
    if not (_number(c.drop) and 0 <= c.drop <= 1):
        raise BadInput(f"train: drop must lie in [0, 1], got {c.drop}")
    for name, known in (("optimizer", OPTIMIZERS), ("lr_schedule", LR_SCHEDULES), ("precision", PRECISIONS),
                        ("weighting", WEIGHTINGS), ("times", TIMES), ("sheet_sampler", SAMPLERS)):
        if getattr(c, name) not in known:
            raise BadInput(f"train: unknown {name} '{getattr(c, name)}'; there are {', '.join(known)}")


REPORT = Config(
    # The report's recipe as it stands. It masks labels during training but does not say how often: `drop` is our
    # reading. Its schedule leaves 60 % of the signal at t = T, and the class is heard only at the bottleneck, so
    # this preset reproduces the report's weaknesses too; `mnist` is the recipe that works.
    preset="report", data="mnist", epochs=15, batch=64,
    model={"channels": [32, 64, 128], "condition": "before-mid", "time_dim": 8},
    schedule={"name": "linear", "T": 100, "beta_start": 1e-4, "beta_end": 0.02},
    optimizer="adam", lr=1e-3, lr_schedule="constant", drop=0.1,
    sheet_every=937, sheet_steps=100, guidance=0.0, checkpoint_every=469,
)

MNIST = Config(
    # The report's network with the class in every block, and v for a target: at the noisy end, where the class is
    # decided, the loss then asks for the picture and not for the noise. Telling every block takes a fifth of the
    # parameters, so the bottom is a little narrower and the whole no larger than the report's million.
    preset="mnist", data="mnist", steps=10_000, batch=64,
    model={"channels": [32, 64, 112], "condition": "film", "time_dim": 32, "target": "v"},
    schedule={"name": "cosine", "T": 100},
    optimizer="adamw", lr=2e-3, lr_schedule="cosine", warmup=200, lr_floor=1e-5,
    clip=1.0, ema=0.999, drop=0.1,
    sheet_every=2500, guidance=0.3, checkpoint_every=500,
)

TINY = Config(
    # A quarter of the parameters, on 2x2 patches, so that many steps fit in a few minutes; small batches, because
    # so short a run is short of steps before it is short of images.
    preset="tiny", data="mnist", steps=2400, batch=32,
    model={"channels": [32, 64], "condition": "film", "time_dim": 32, "patch": 2, "target": "v"},
    schedule={"name": "cosine", "T": 100},
    optimizer="adamw", lr=5e-3, lr_schedule="cosine", warmup=100, lr_floor=3e-5,
    clip=1.0, ema=0.99, drop=0.1,
    sheet_every=500, guidance=2.0, checkpoint_every=200, validate=256,
)

LARGE = Config(
    preset="large", data="mnist", epochs=20, batch=64,
    model={"channels": [64, 128, 256], "condition": "film", "time_dim": 64, "target": "v"},
    schedule={"name": "cosine", "T": 100},
    optimizer="adamw", lr=1e-3, lr_schedule="cosine", warmup=500, lr_floor=1e-5,
    clip=1.0, ema=0.999, drop=0.1,
    sheet_every=937, guidance=2.0, checkpoint_every=469,
)

ATTENTION = Config(
    # Forty times the report's network: residual blocks, attention at 16x16 and at the bottom. A recipe for a GPU.
    preset="attention", data="mnist", steps=20_000, batch=128,
    model={"network": "attention-unet", "channels": [128, 256, 256, 256], "blocks": 2, "attention": [16], "target": "v"},
    schedule={"name": "cosine", "T": 1000},
    optimizer="adamw", lr=2e-4, lr_schedule="cosine", warmup=1000, lr_floor=1e-6,
    clip=1.0, ema=0.9995, drop=0.1, precision="bf16",
    sheet_every=5000, sheet_sampler="ddim", guidance=1.0, checkpoint_every=2500,
)

PRESETS: dict[str, Config] = {c.preset: c for c in (REPORT, MNIST, TINY, LARGE, ATTENTION)}


def preset(name: str) -> Config:
    """The recipe of this name; an unknown name raises BadInput that lists what there is."""
    if name not in PRESETS:
        raise BadInput(f"unknown preset '{name}'; there are {', '.join(PRESETS)}")
    return PRESETS[name]
