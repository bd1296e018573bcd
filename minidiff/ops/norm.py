"""Group normalisation, alone and with the GELU that follows it in every block of the U-Net."""

from __future__ import annotations

from typing import Any

from .. import kernels
from ..autograd import FusedOp
from ..backend import Array
from ..errors import BadInput
from ..tensor import Tensor
from .activation import gelu
from .elementwise import sqrt
from .reduce import mean
from .shape import reshape


class GroupNorm(FusedOp):
    """Normalise each sample over groups of channels (Wu & He 2018, eq. 1–4).

        μ, σ² = mean, variance of x over a group          (N,G,1)
        x̂ = (x − μ) / √(σ² + ε),   y = γ x̂ + β            (N,C,…)

    Backward, with h = γ gy and means ⟨·⟩ over the group:

        gx = (h − ⟨h⟩ − x̂ ⟨h x̂⟩) / √(σ² + ε),   gγ = Σ gy x̂,   gβ = Σ gy

    The two means appear because μ and σ depend on every element of the group: moving all of them
    together, or scaling them together, changes nothing, so gx has no part along either.

    γ and β are (C,), or (N,C) where each sample brings its own (FiLM conditioning); their gradients
    are summed over what they are shared by.
    """

    groups: int
    eps: float

    activate = False  # whether GELU follows at once

    def forward(self, x: Array, gamma: Array, beta: Array) -> Array:
        y, self.cache = kernels.of(x).group_norm(x, gamma, beta, self.groups, self.eps, self.activate)
        return y

    def backward(self, gy: Array) -> Any:
        x, gamma, beta = self.saved
        return kernels.of(x).group_norm_backward(x, gamma, beta, self.cache, gy, self.groups, self.activate)

    @staticmethod
    def reference(x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float) -> Tensor:
        n, c, *size = x.shape
        grouped = reshape(x, (n, groups, -1))
        mu = mean(grouped, -1, keepdims=True)
        centred = grouped - mu
        x_hat = reshape(centred / sqrt(mean(centred * centred, -1, keepdims=True) + eps), x.shape)
        per_channel = (-1, c, *(1 for _ in size))
        return reshape(gamma, per_channel) * x_hat + reshape(beta, per_channel)


class GroupNormGELU(GroupNorm):
    """y = GELU(GroupNorm(x)) in one pass, while the numbers are in the cache.

    Only x, and the mean and deviation of each group, are kept: backward computes the rest again,
    which is cheaper than fetching it from memory.
    """

    activate = True

    @staticmethod
    def reference(x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float) -> Tensor:
        return gelu(GroupNorm.reference(x, gamma, beta, groups, eps))


def _check(name: str, x: Tensor, groups: int, gamma: Tensor | None, beta: Tensor | None) -> None:
    if x.ndim < 2:
        raise BadInput(f"{name}: x must be (N,C,…), got shape {x.shape}")
    if x.dtype.kind != "f":
        raise BadInput(f"{name}: x must hold floating-point numbers, got {x.dtype}")
    n, c = x.shape[:2]
    if groups < 1 or c % groups:
        raise BadInput(f"{name}: {c} channels do not divide into {groups} groups (x {x.shape})")
    for label, p in (("weight", gamma), ("bias", beta)):
        if p is not None and p.shape not in ((c,), (n, c)):
            raise BadInput(f"{name}: {label} must have shape ({c},) or ({n}, {c}), got {p.shape} (x {x.shape})")
        if p is not None and p.dtype != x.dtype:
            raise BadInput(f"{name}: {label} is {p.dtype}, x is {x.dtype}; they must be alike")


def _apply(op: type[GroupNorm], name: str, x: Tensor, groups: int, gamma: Any, beta: Any, eps: float) -> Tensor:
    _check(name, x, groups, gamma, beta)
    xp = kernels.array_module(x.data)
    gamma = Tensor(xp.ones(x.shape[1], x.dtype)) if gamma is None else gamma
    beta = Tensor(xp.zeros(x.shape[1], x.dtype)) if beta is None else beta
    return op(groups=groups, eps=eps)(x, gamma, beta)


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """x (N,C,…) normalised over groups of channels, then times weight plus bias, each (C,) or (N,C)."""
    return _apply(GroupNorm, "group_norm", x, num_groups, weight, bias, eps)


def group_norm_gelu(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """gelu(group_norm(x, …)) in one pass over the data."""
    return _apply(GroupNormGELU, "group_norm_gelu", x, num_groups, weight, bias, eps)
