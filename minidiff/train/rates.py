"""The optimiser that a recipe asks for, and its learning rate over a run whose length may still change."""
from __future__ import annotations

from typing import Any

from .. import optim
from .config import Config


def optimizer_of(c: Config, model: Any) -> Any:
    """The recipe's optimiser over all parameters."""
    parameters = model.parameters()
    if c.optimizer == "sgd":
        return optim.SGD(parameters, lr=c.lr, momentum=0.9, weight_decay=c.weight_decay)
    kind = {"adam": optim.Adam, "adamw": optim.AdamW}[c.optimizer]
    return kind(parameters, lr=c.lr, weight_decay=c.weight_decay)


def lr_schedule_of(c: Config, optimizer: Any, total: int) -> Any:
    """The recipe's learning rate for a run of ``total`` steps."""
    if c.lr_schedule == "constant":
        return optim.ConstantLR(optimizer, warmup_steps=c.warmup)
    return optim.CosineLR(optimizer, total, warmup_steps=_warmup(c, total), floor=min(c.lr_floor, c.lr))


def plan(schedule: Any, c: Config, total: int) -> None:
    """Let a cosine end at step ``total``."""
    if c.lr_schedule == "cosine":
        schedule.total_steps, schedule.warmup_steps = total, _warmup(c, total)


def _warmup(c: Config, total: int) -> int:
    """Steps of warm-up: at most a fifth of a short run, so that there is a run after it."""
    return min(c.warmup, total // 5)
