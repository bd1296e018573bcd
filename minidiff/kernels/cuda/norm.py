"""GroupNorm and the activation after it, on the GPU; see norm.cu."""

from __future__ import annotations

import functools
import math

import numpy as np

from ...backend import Array
from .conv_weight import add_up
from .layout import contiguous, empty, images, new, type_name
from .runtime import Kernel

THREADS = 512


def group_norm(
    x: Array, gamma: Array, beta: Array, groups: int, eps: float, activation: str
) -> tuple[Array, tuple[Array, Array]]:
    """y = γ x̂ + β, through the activation ("none", "gelu" or "silu"); and (μ, 1/σ) for backward, each (N,G)."""
    shape, (x, pitch) = x.shape, _as_images(x)
    y = new(x.shape, x.dtype, x)
    n, c, h, w = x.shape
    mean, rstd = empty((n, groups), np.float32, x), empty((n, groups), np.float32, x)
    kernel = _kernel("group_norm", type_name(x), type_name(x), c, groups, activation)
    kernel(n, THREADS, x, *map(contiguous, (gamma, beta)), y, mean, rstd, h * w, pitch, *_per_sample(gamma, beta),
           float(eps), shared=4 * (3 * c + _work(c, groups, x.dtype.itemsize)))  # fmt: skip
    return _as_given(y, shape), (mean, rstd)


def group_norm_backward(
    x: Array, gamma: Array, beta: Array, cache: tuple[Array, Array], gy: Array, groups: int, activation: str
) -> tuple[Array, Array, Array]:
    """gx, gγ, gβ by the formulas in `ops.norm.GroupNorm`; x̂ and the activation's slope are computed again from x."""
    shape, (x, pitch), (gy, pitch_y) = x.shape, _as_images(x), _as_images(gy)
    gx = new(x.shape, x.dtype, x)
    n, c, h, w = x.shape
    g_gamma, g_beta = empty((n, c), np.float32, x), empty((n, c), np.float32, x)
    kernel = _kernel("group_norm_backward", type_name(x), type_name(gy), c, groups, activation)
    kernel(n, THREADS, x, gy, *map(contiguous, (gamma, beta)), *cache, gx, g_gamma, g_beta, h * w, pitch, pitch_y,
           *_per_sample(gamma, beta), shared=4 * (6 * c + _work(c, groups, x.dtype.itemsize)))  # fmt: skip
    if gamma.ndim == 1:
        g_gamma = add_up(g_gamma)
    if beta.ndim == 1:
        g_beta = add_up(g_beta)
    return _as_given(gx, shape), g_gamma, g_beta


def _per_sample(gamma: Array, beta: Array) -> tuple[int, int]:
    """How far it is from one sample's γ to the next one's, and from its β: 0 where one serves all."""
    return tuple(p.shape[1] if p.ndim == 2 else 0 for p in (gamma, beta))  # type: ignore[return-value]


def _work(c: int, groups: int, itemsize: int) -> int:
    """Floats of shared memory that the sums of a block take: a row of sums for each warp or row of threads."""
    v = 16 // itemsize if c % (16 // itemsize) == 0 else 1
    per_turn = min(c // v, THREADS)
    folds = per_turn <= 32 and per_turn & (per_turn - 1) == 0
    parts = THREADS // 32 if folds else THREADS // per_turn
    return max(2 * parts * per_turn * v, 2 * groups)


def _as_images(x: Array) -> tuple[Array, int]:
    """x (N,C,…) as (N,C,H,W) with channels last, and its pitch."""
    if x.ndim != 4:
        x = x.reshape(*x.shape[:2], 1, math.prod(x.shape[2:]))
    return images(x)


def _as_given(y: Array, shape: tuple[int, ...]) -> Array:
    return y if len(shape) == 4 else y.reshape(shape)


@functools.cache
def _kernel(name: str, kind: str, kind_y: str, c: int, groups: int, activation: str) -> Kernel:
    return Kernel("norm.cu", name, T=kind, GY=kind_y, C=c, G=groups, ACT=activation.upper(), THREADS=THREADS)
