"""Gradient clipping: a bound on how far one bad batch can throw the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .. import kernels
from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor
from .optimizer import all_tensors


def clip_grad_norm(parameters: Tensor | Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by one factor so that their common norm is at most max_norm; the norm before.

    parameters   tensors, or one alone; those whose grad is None are left out

        norm = √Σ g²  over all numbers of all gradients,      g ← g · min(1, max_norm / norm)

    One factor for all keeps the direction (Pascanu et al. 2013). A gradient's array may be shared,
    so a scaled one takes its place and nothing is written to. When the norm is not finite the
    gradients stay as they are, for the caller to see and stop. max_norm=inf only measures.
    BadInput for a max_norm that is not above 0, or a parameter that is no tensor.
    """
    if not max_norm > 0:
        raise BadInput(f"clip_grad_norm: max_norm must be above 0, got {max_norm}")
    parameters = [parameters] if isinstance(parameters, Tensor) else all_tensors("clip_grad_norm", parameters)
    live = [p for p in parameters if p.grad is not None]
    norm = _norm([p.grad.data for p in live])
    scale = float(max_norm) / (norm + 1e-6)  # PyTorch's guard against norm = 0
    if math.isfinite(norm) and scale < 1:
        for p in live:
            p.grad = Tensor(p.grad.data * scale)
    return norm


def _norm(arrays: list[Array]) -> float:
    """√Σ g², added up in float64: numbers above 1e19 squared leave float32."""
    if not arrays:
        return 0.0
    if kernel := kernels.special("gradient_norm", *arrays):
        return float(kernel(arrays, math.inf)[0])
    xp = array_module(arrays[0])
    squares = [xp.square(g, dtype=xp.float64).sum() for g in arrays]
    return math.sqrt(float(sum(squares)))  # adds on the device, so the GPU is asked once
