"""What a denoising network is told beside the picture: the step, as the hands of a clock, and the class; and what all
networks here check and say about themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import array_module
from ..errors import BadInput
from ..nn import GELU, Linear, Module, Sequential
from ..tensor import Tensor

TARGETS = ("eps", "x0", "v", "flow", "edm")  # what a network may be asked: see `diffusion.targets`
VARIANCES = ("fixed", "learned")


def silent(layer: Any) -> Any:
    """A layer that says 0 to everything until it has learned something."""
    layer.weight.data[...] = 0
    layer.bias.data[...] = 0
    return layer


class EmbedBlock(Module):
    """A vector made into an embedding: Linear, GELU, Linear.            # (N,I) -> (N,E)"""

    def __init__(self, input_dim: int, embed_dim: int, hidden_dim: int | None = None) -> None:
        self.input_dim, self.embed_dim = input_dim, embed_dim
        hidden_dim = embed_dim if hidden_dim is None else hidden_dim
        self.model = Sequential(Linear(input_dim, hidden_dim), GELU(), Linear(hidden_dim, embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def silence(self) -> None:
        """Answer 0 to everything, and learn from there: what is embedded says nothing as yet."""
        silent(self.model[-1])

    def describe(self) -> str:
        return f"EmbedBlock: input_dim={self.input_dim}, emb_dim={self.embed_dim}"


class SinusoidalPositionEmbedBlock(Module):
    """t as sines and cosines of falling frequency (Vaswani et al. 2017, 3.5).            # (N,) -> (N,D)

        e[i] = sin(t ωᵢ),   e[D/2 + i] = cos(t ωᵢ),   ωᵢ = 10000^{−i/(D/2 − 1)}

    A clock with D/2 hands: the fast ones tell neighbouring steps apart, the slow ones the whole run.
    """

    def __init__(self, dim: int) -> None:
        if dim < 4 or dim % 2:
            raise BadInput(f"SinusoidalPositionEmbedBlock: dim must be even and at least 4, got {dim}")
        self.dim = dim

    def forward(self, t: Any) -> Tensor:
        t = t.data if isinstance(t, Tensor) else t
        xp = array_module(t)
        half = self.dim // 2
        omega = xp.exp(-math.log(10_000.0) / (half - 1) * xp.arange(half))
        angle = t[:, None] * omega
        return Tensor(xp.concatenate([xp.sin(angle), xp.cos(angle)], axis=1).astype(np.float32))

    def describe(self) -> str:
        return f"SinusoidalPositionEmbedBlock: dim={self.dim}"


def checked_conditions(name: str, x: Tensor, t: Any, labels: Any, channels: int, size: int) -> tuple[Any, Any]:
    """t and labels as integer arrays (N,) on x's device; x must be (N, channels, size, size). Raises BadInput."""
    if x.ndim != 4 or x.shape[1:] != (channels, size, size):
        raise BadInput(f"{name}: x must be (N, {channels}, {size}, {size}), got {x.shape}")
    xp = array_module(x.data)
    checked = []
    for argument, value in (("t", t), ("labels", labels)):
        value = xp.asarray(value.data if isinstance(value, Tensor) else value)
        if value.dtype.kind not in "iu" or value.shape not in ((), (len(x),)):
            raise BadInput(f"{name}: {argument} must be {len(x)} integers or one, got {value.dtype} of shape {value.shape}")
        checked.append(xp.broadcast_to(value, (len(x),)))
    return checked[0], checked[1]


def check_choices(name: str, **choices: tuple[str, Sequence[str]]) -> None:
    """Each argument, given as its value and what it may be. Raises BadInput."""
    for argument, (value, known) in choices.items():
        if value not in known:
            raise BadInput(f"{name}: {argument} {value!r} is unknown; it is one of {', '.join(known)}")


def size_lines(model: Module) -> list[str]:
    """Parameters and memory in the report's words."""
    count = model.num_parameters()
    megabytes = 3 * 4 * count / 2**20                            # weights and Adam's two moments, float32
    return [f"Total trainable parameters: {count:,}", f"Approximate memory usage: {megabytes:.1f} MB"]


def told_style(name: str, style: Any, n: int, dim: int, like: Tensor) -> Tensor:
    """What a network is told of style: each value, 0 where it is not known, and whether it is.            # (N,S) -> (N,2S)

    Without the second half "nobody said" and "just in the middle" would be the same to it. Raises BadInput.
    """
    xp = array_module(like.data)
    style = xp.full((n, dim), xp.nan) if style is None else xp.asarray(style.data if isinstance(style, Tensor) else style)
    if style.shape != (n, dim):
        raise BadInput(f"{name}: style must be ({n}, {dim}), a row of values for each picture, got {style.shape}")
    known = ~xp.isnan(style)
    return Tensor(xp.concatenate([xp.where(known, style, 0.0), known], axis=1).astype(like.dtype))


def unusual(variance: str, style_dim: int = 0, **flags: bool) -> dict[str, Any]:
    """What of a model's options is not as usual, for its configuration: so that those of older checkpoints are whole."""
    options = {"variance": variance, "style_dim": style_dim, **flags}
    usual = {"variance": "fixed", "style_dim": 0}
    return {name: value for name, value in options.items() if value != usual.get(name, True)}
