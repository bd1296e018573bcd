"""Optimizers, learning-rate schedules, gradient clipping and weight averaging."""

from .adam import Adam, AdamW
from .clip import clip_grad_norm
from .ema import EMA
from .optimizer import Optimizer
from .schedules import ConstantLR, CosineLR, ReduceLROnPlateau
from .sgd import SGD

__all__ = [
    "EMA",
    "SGD",
    "Adam",
    "AdamW",
    "ConstantLR",
    "CosineLR",
    "Optimizer",
    "ReduceLROnPlateau",
    "clip_grad_norm",
]
