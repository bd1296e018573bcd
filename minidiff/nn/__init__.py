"""Networks: modules, layers, and the functions they call."""

from . import functional
from .layers import (
    GELU,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Embedding,
    Flatten,
    GroupNorm,
    Identity,
    Linear,
    ModuleList,
    ReLU,
    Sequential,
    SiLU,
)
from .module import Module, Parameter

__all__ = [
    "GELU",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GroupNorm",
    "Identity",
    "Linear",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "functional",
]
