"""Normalisation: numbers brought to mean 0 and variance 1, then scaled and shifted as learned.

All do the same to some set of numbers; they differ in which numbers share a mean and a variance:

    group_norm       of each sample, a group of channels          (Wu & He 2018)
    instance_norm    of each sample, each channel                 (Ulyanov et al. 2016): as many groups as channels
    layer_norm       of each sample, the last axes                (Ba et al. 2016)
    batch_norm       of the whole batch, each channel             (Ioffe & Szegedy 2015)

The last ties the samples of a batch together, and so remembers averages for the day when there is no batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend, kernels
from ..autograd import FusedOp
from ..backend import Array, array_module
from ..errors import BadInput
from ..inplace import written
from ..tensor import Tensor
from .activation import gelu, silu
from .elementwise import check_floating, in_float32, sqrt
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

    takes_bfloat16 = "kernel"
    activation = "none"  # what follows at once

    def forward(self, x: Array, gamma: Array, beta: Array) -> Array:
        y, self.cache = kernels.of(x).group_norm(x, gamma, beta, self.groups, self.eps, self.activation)
        return y

    def backward(self, gy: Array) -> Any:
        x, gamma, beta = self.saved
        return kernels.of(x).group_norm_backward(x, gamma, beta, self.cache, gy, self.groups, self.activation)

    @staticmethod
    def reference(x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float) -> Tensor:
        n, c, *size = x.shape
        grouped = reshape(x, (n, groups, c // groups * math.prod(size)))
        centred = grouped - mean(grouped, -1, keepdims=True)
        x_hat = reshape(centred / sqrt(mean(centred * centred, -1, keepdims=True) + eps), x.shape)
        gamma, beta = (reshape(p, (*p.shape, *(1 for _ in size))) for p in (gamma, beta))
        return gamma * x_hat + beta


class GroupNormGELU(GroupNorm):
    """y = GELU(GroupNorm(x)) in one pass, while the numbers are in the cache.

    Only x, and the mean and deviation of each group, are kept: backward computes the rest again,
    which is cheaper than fetching it from memory.
    """

    activation = "gelu"

    @staticmethod
    def reference(x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float) -> Tensor:
        return gelu(GroupNorm.reference(x, gamma, beta, groups, eps))


class GroupNormSiLU(GroupNorm):
    """y = SiLU(GroupNorm(x)) in one pass, as `GroupNormGELU`."""

    activation = "silu"

    @staticmethod
    def reference(x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float) -> Tensor:
        return silu(GroupNorm.reference(x, gamma, beta, groups, eps))


class Normalise(FusedOp):
    """Normalise over some axes: LayerNorm over the last ones, BatchNorm over all but the channels.

        μ, σ² = mean, variance of x over the axes,   x̂ = (x − μ) / √(σ² + ε),   y = γ x̂ + β

    Backward as in `GroupNorm`, with h = γ gy and means ⟨·⟩ over the axes:

        gx = (h − ⟨h⟩ − x̂ ⟨h x̂⟩) / √(σ² + ε),   gγ = Σ gy x̂,   gβ = Σ gy

    γ and β have as many axes as x, of length 1 where they are shared; there their gradients are summed.
    """

    axes: tuple[int, ...]
    eps: float

    portable = True

    def forward(self, x: Array, gamma: Array, beta: Array) -> Array:
        xp = array_module(x)
        self.mu = xp.mean(x, axis=self.axes, keepdims=True)
        y = x - self.mu
        self.variance = xp.mean(y * y, axis=self.axes, keepdims=True)
        self.cache = 1.0 / xp.sqrt(self.variance + self.eps)
        y *= self.cache
        y *= gamma
        y += beta
        return y

    def backward(self, gy: Array) -> Any:
        x, gamma, _ = self.saved
        xp, rstd = array_module(x), self.cache
        x_hat = (x - self.mu) * rstd
        shared = tuple(i for i, n in enumerate(gamma.shape) if n == 1)
        g_gamma = xp.sum(gy * x_hat, axis=shared, keepdims=True)
        g_beta = xp.sum(gy, axis=shared, keepdims=True)
        if not self.needs[0]:
            return None, g_gamma, g_beta
        h = gy * gamma
        x_hat *= xp.mean(h * x_hat, axis=self.axes, keepdims=True)
        h -= xp.mean(h, axis=self.axes, keepdims=True)
        h -= x_hat
        h *= rstd
        return h, g_gamma, g_beta

    @staticmethod
    def reference(x: Tensor, gamma: Tensor, beta: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
        centred = x - mean(x, axes, keepdims=True)
        x_hat = centred / sqrt(mean(centred * centred, axes, keepdims=True) + eps)
        return gamma * x_hat + beta


# --------------------------------------------------------------------------------- checked entries


def _check_channels(name: str, x: Tensor, least: int = 2) -> None:
    """x must have at least that many dimensions, and hold floating-point numbers."""
    if x.ndim < least:
        raise BadInput(f"{name}: x must be {'(N,C,…)' if least == 2 else '(N,C,L,…)'}, got shape {x.shape}")
    check_floating(name, x)


def _check_eps(name: str, eps: float, least: str = "0 or more") -> None:
    """eps must be finite and not negative; where batches teach the variance it must be above 0, as in PyTorch."""
    if not (0 <= eps < math.inf) or (eps == 0 and least != "0 or more"):
        raise BadInput(f"{name}: eps must be a finite number, {least}; got {eps}")


def _affine(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """γ x + β for an x without numbers, which have no mean: x keeps its shape, and γ and β get gradients of 0."""
    gamma, beta = (reshape(p, (*p.shape, *(1 for _ in x.shape[2:]))) for p in (gamma, beta))
    return gamma * x + beta


def _per_channel(p: Tensor, ndim: int) -> Tensor:
    """(C,) -> (1,C,1,…), beside x (N,C,…)"""
    return reshape(p, (1, p.shape[0], *(1 for _ in range(ndim - 2))))


def _weights(name: str, x: Tensor, gamma: Tensor | None, beta: Tensor | None, shapes: Any) -> tuple[Tensor, Tensor]:
    """γ and β, of one of the shapes and x's dtype (float32 for bfloat16); ones and zeros of the first shape for None."""
    dtype = np.dtype(np.float32) if backend.is_bfloat16(x.data) else x.dtype
    for label, p in (("weight", gamma), ("bias", beta)):
        if p is not None and p.shape not in shapes:
            wanted = " or ".join(map(str, shapes))
            raise BadInput(f"{name}: {label} must have shape {wanted}, got {p.shape} (x {x.shape})")
        if p is not None and p.dtype != dtype:
            raise BadInput(f"{name}: {label} is {p.dtype}, x is {x.dtype}; they must be alike")
    gamma = Tensor(backend.full(shapes[0], 1.0, like=x.data, dtype=dtype)) if gamma is None else gamma
    beta = Tensor(backend.full(shapes[0], 0.0, like=x.data, dtype=dtype)) if beta is None else beta
    return gamma, beta


def _apply(op: type[GroupNorm], name: str, x: Tensor, groups: int, gamma: Any, beta: Any, eps: float) -> Tensor:
    _check_channels(name, x)
    n, c = x.shape[:2]
    if groups < 1 or c % groups:
        raise BadInput(f"{name}: {c} channels do not divide into {groups} groups (x {x.shape})")
    _check_eps(name, eps)
    gamma, beta = _weights(name, x, gamma, beta, [(c,), (n, c)])
    return in_float32(op(groups=groups, eps=eps), x, gamma, beta) if x.size else _affine(x, gamma, beta)


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


def group_norm_silu(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """silu(group_norm(x, …)) in one pass over the data."""
    return _apply(GroupNormSiLU, "group_norm_silu", x, num_groups, weight, bias, eps)


def layer_norm(
    x: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """x normalised over its last axes, whose lengths are normalized_shape; weight and bias have that shape.

    Raises BadInput where x does not end in normalized_shape, or weight or bias do not fit it.
    """
    shape = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    if not shape or min(shape) < 0 or x.shape[-len(shape) :] != shape:
        raise BadInput(f"layer_norm: x {x.shape} does not end in normalized_shape {shape}")
    check_floating("layer_norm", x)
    _check_eps("layer_norm", eps)
    beside_x = (*(1 for _ in x.shape[: -len(shape)]), *shape)
    gamma, beta = (reshape(p, beside_x) for p in _weights("layer_norm", x, weight, bias, [shape]))
    if not x.size:
        return gamma * x + beta
    return in_float32(Normalise(axes=tuple(range(x.ndim - len(shape), x.ndim)), eps=eps), x, gamma, beta)


def instance_norm(
    x: Tensor, running_mean: Array | None = None, running_var: Array | None = None, weight: Tensor | None = None,
    bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Each channel of each sample of x (N,C,L,…) normalised over its own image; PyTorch's order of arguments.

    running_mean, running_var and momentum as in `batch_norm`; the statistics that they average are
    those of the samples. They are what x is normalised by if use_input_stats is False.
    """
    name = "instance_norm"
    _check_channels(name, x, least=3)
    _check_eps(name, eps)
    statistics = _checked_statistics(name, x, running_mean, running_var, required=not use_input_stats)
    gamma, beta = _weights(name, x, weight, bias, [x.shape[1:2]])
    if not use_input_stats:
        return _by_statistics(x, *statistics, gamma, beta, eps)
    if math.prod(x.shape[2:]) == 1:
        raise BadInput(f"{name}: one number has no variance; x {x.shape} has one per sample and channel")
    if running_mean is not None and x.size:
        xp, over = array_module(x.data), tuple(range(2, x.ndim))
        mu = xp.mean(x.data, axis=over, keepdims=True)
        variance = xp.mean((x.data - mu) ** 2, axis=over)
        means = xp.mean(xp.reshape(mu, x.shape[:2]), axis=0), xp.mean(variance, axis=0)
        _remember(*statistics, *means, math.prod(x.shape[2:]), momentum)
    return in_float32(GroupNorm(groups=x.shape[1], eps=eps), x, gamma, beta) if x.size else _affine(x, gamma, beta)


def batch_norm(
    x: Tensor, running_mean: Array | None, running_var: Array | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Each channel of x (N,C,…) normalised over the batch, or by remembered statistics; PyTorch's order of arguments.

    running_mean, running_var   arrays (C,), or None
    training                    True: normalise by the batch's own mean and variance, and move the
                                arrays, in place, by `momentum` towards them (towards the unbiased
                                variance, over n − 1); False: normalise by the arrays

    Raises BadInput where shapes or dtypes do not fit, there is nothing to normalise by, or a channel
    of the batch has a single number, which has no variance.
    """
    name = "batch_norm"
    _check_channels(name, x)
    _check_eps(name, eps, "above 0")
    statistics = _checked_statistics(name, x, running_mean, running_var, required=not training)
    gamma, beta = _weights(name, x, weight, bias, [x.shape[1:2]])
    if not training:
        return _by_statistics(x, *statistics, gamma, beta, eps)
    if not x.size:
        return _affine(x, gamma, beta)                               # and the statistics stay as they are
    m = x.shape[0] * math.prod(x.shape[2:])
    if m < 2:
        raise BadInput(f"{name}: training needs two or more numbers per channel, x {x.shape} has {m}")
    op = Normalise(axes=(0, *range(2, x.ndim)), eps=eps)
    y = in_float32(op, x, _per_channel(gamma, x.ndim), _per_channel(beta, x.ndim))
    if running_mean is not None:
        xp = array_module(x.data)
        _remember(*statistics, *(xp.reshape(a, (x.shape[1],)) for a in (op.mu, op.variance)), m, momentum)
    return y


def _checked_statistics(name: str, x: Tensor, mu: Any, variance: Any, required: bool) -> tuple[Array, Array]:
    """The two arrays of remembered statistics; Tensors may stand for them."""
    if (mu is None) != (variance is None) or (required and mu is None):
        missing = "running_mean" if mu is None else "running_var"
        use = "to normalise by" if required else "beside the other"
        raise BadInput(f"{name}: {missing} is needed {use}, got None")
    arrays = tuple(a.data if isinstance(a, Tensor) else a for a in (mu, variance))
    for label, a in zip(("running_mean", "running_var"), arrays, strict=True):
        if a is not None and a.shape != x.shape[1:2]:
            raise BadInput(f"{name}: {label} must have shape {x.shape[1:2]}, got {a.shape} (x {x.shape})")
        if a is not None and not required and not backend.is_writeable(a):
            raise BadInput(f"{name}: {label} is read-only, and training moves it; give a copy")
    return arrays


def _remember(mu: Array, variance: Array, new_mu: Array, new_variance: Array, n: int, momentum: float) -> None:
    """Move the remembered statistics, in place, towards those of n new numbers."""
    for old, new in ((mu, new_mu), (variance, new_variance * (n / (n - 1)))):
        old[...] = old + momentum * (backend.astype(new, backend.dtype_of(old)) - old)
        written(old)


def _by_statistics(x: Tensor, mu: Array, variance: Array, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """(x − μ) γ / √(σ² + ε) + β for μ and σ² that do not depend on x."""
    mu, variance = (Tensor(backend.asarray(a, like=x.data, dtype=x.dtype)) for a in (mu, variance))
    scale = gamma / sqrt(variance + eps)
    return (x - _per_channel(mu, x.ndim)) * _per_channel(scale, x.ndim) + _per_channel(beta, x.ndim)
