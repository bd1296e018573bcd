"""Chance inside a network: numbers dropped while it learns, so that it relies on none of them alone."""

from __future__ import annotations

import numpy as np

from .. import backend
from ..backend import Array
from ..errors import BadInput
from ..tensor import Tensor
from .elementwise import check_floating


def check_probability(name: str, argument: str, p: float) -> None:
    """Raises BadInput unless p is from 0 to 1."""
    if not 0.0 <= p <= 1.0:
        raise BadInput(f"{name}: {argument} must be a probability from 0 to 1, got {p}")


def dropout_factors(shape: tuple[int, ...], p: float, like: Array) -> Array:
    """0 with probability p, else 1/(1 − p), so that the mean is 1; of the library, dtype and device of `like`."""
    kept = backend.default_rng().random(shape, dtype=np.float32) >= p
    scale = 0.0 if p == 1.0 else 1.0 / (1.0 - p)
    return backend.asarray((kept * scale).astype(backend.dtype_of(like)), like=like)


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each number set to 0 with probability p and the rest divided by 1 − p; x itself when not training."""
    check_probability("dropout", "p", p)
    check_floating("dropout", x)
    return x * Tensor(dropout_factors(x.shape, p, x.data)) if training and p else x


def dropout2d(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """`dropout` of whole channels of x (N,C,H,W): neighbouring pixels say much the same, one alone is not missed."""
    check_probability("dropout2d", "p", p)
    if x.ndim != 4:
        raise BadInput(f"dropout2d: x must be (N,C,H,W), got shape {x.shape}")
    check_floating("dropout2d", x)
    return x * Tensor(dropout_factors((*x.shape[:2], 1, 1), p, x.data)) if training and p else x
