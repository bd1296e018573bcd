"""The operations of neural networks by PyTorch's names and meanings: `import minidiff.nn.functional as F`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend
from ..backend import array_module
from ..errors import BadInput
from ..ops import (
    conv2d,
    conv_transpose2d,
    cross_entropy,
    gelu,
    group_norm,
    group_norm_gelu,
    leaky_relu,
    log_softmax,
    matmul,
    mse_loss,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from ..ops import pad as pad_each
from ..tensor import Tensor

__all__ = [
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "group_norm",
    "group_norm_gelu",
    "interpolate",
    "leaky_relu",
    "linear",
    "log_softmax",
    "mse_loss",
    "one_hot",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x wᵀ + b            # (…,I) (O,I) (O,) -> (…,O)"""
    if weight.ndim != 2 or x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise BadInput(f"linear: x {x.shape} does not end in the {weight.shape[-1:]} inputs of weight {weight.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise BadInput(f"linear: bias must have shape {weight.shape[:1]}, got {bias.shape}")
    y = matmul(x, weight.T)
    return y if bias is None else y + bias


def one_hot(labels: Any, num_classes: int, dtype: Any = np.float32) -> Tensor:
    """1 at the label, 0 elsewhere; label −1 is "no class" and gives zeros only.            # (N,) -> (N,K)"""
    labels = labels.data if isinstance(labels, Tensor) else np.asarray(labels)
    _check_range("one_hot", labels, -1, num_classes)
    return Tensor((labels[..., None] == array_module(labels).arange(num_classes)).astype(dtype))


def embedding(indices: Any, weight: Tensor) -> Tensor:
    """The rows of `weight` that `indices` name.            # (…) (K,D) -> (…,D)"""
    indices = indices.data if isinstance(indices, Tensor) else array_module(weight.data).asarray(indices)
    if weight.ndim != 2:
        raise BadInput(f"embedding: weight must be (rows, dimensions), got shape {weight.shape}")
    _check_range("embedding", indices, 0, weight.shape[0])
    return weight[indices]


def _check_range(name: str, indices: Any, low: int, high: int) -> None:
    if indices.dtype.kind not in "iu":
        raise BadInput(f"{name}: indices must be integers, got {indices.dtype}")
    if indices.size and (int(indices.min()) < low or int(indices.max()) >= high):
        raise BadInput(f"{name}: indices must lie in {low} … {high - 1}; got {indices.min()} … {indices.max()}")


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each number set to 0 with probability p and the rest divided by 1 − p; x itself when not training."""
    if not 0.0 <= p <= 1.0:
        raise BadInput(f"dropout: p must be a probability from 0 to 1, got {p}")
    if not training or p == 0.0:
        return x
    kept = backend.default_rng().random(x.shape, dtype=np.float32) >= p
    scale = 0.0 if p == 1.0 else 1.0 / (1.0 - p)
    return x * Tensor(backend.to_device((kept * scale).astype(x.dtype), x.device))


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """A border around x: `pad` is (before, after) of the last dimension, then of the last but one, and so on.

    mode is "constant", "reflect", "replicate" or "circular"; see `ops.pad`, which takes pairs in order.
    """
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise BadInput(f"pad: pad {tuple(pad)} must be a pair for each dimension to pad, the last first (x {x.shape})")
    pairs = [*zip(pad[::2], pad[1::2], strict=True)]
    return pad_each(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1], mode, value)


# ------------------------------------------------------------------------------- changing the size


def _images(name: str, x: Tensor) -> tuple[int, int, int, int]:
    if x.ndim != 4:
        raise BadInput(f"{name}: x must be (N,C,H,W), got shape {x.shape}")
    return x.shape  # type: ignore[return-value]


def pixel_unshuffle(x: Tensor, r: int) -> Tensor:
    """Every r x r patch becomes r² channels: a smaller image that lost nothing.    # (N,C,rH,rW) -> (N,C r²,H,W)"""
    n, c, h, w = _images("pixel_unshuffle", x)
    if h % r or w % r:
        raise BadInput(f"pixel_unshuffle: a {h}x{w} image does not divide into {r}x{r} patches")
    x = x.reshape(n, c, h // r, r, w // r, r).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(n, c * r * r, h // r, w // r)


def pixel_shuffle(x: Tensor, r: int) -> Tensor:
    """The opposite of `pixel_unshuffle`.            # (N,C r²,H,W) -> (N,C,rH,rW)"""
    n, c, h, w = _images("pixel_shuffle", x)
    if c % (r * r):
        raise BadInput(f"pixel_shuffle: {c} channels are no multiple of {r}·{r}")
    x = x.reshape(n, c // (r * r), r, r, h, w).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // (r * r), h * r, w * r)


def interpolate(x: Tensor, scale_factor: int = 2, mode: str = "nearest") -> Tensor:
    """Images enlarged by a whole factor, "nearest" or "bilinear" (align_corners=False).

    Both are linear in x and treat rows and columns alike: y = A x Aᵀ with A (f H, H) the weights of
    each new line in the old ones.            # (N,C,H,W) -> (N,C,fH,fW)
    """
    n, c, h, w = _images("interpolate", x)
    if int(scale_factor) != scale_factor or scale_factor < 1:
        raise BadInput(f"interpolate: scale_factor must be a whole number, 1 or more; got {scale_factor}")
    f = int(scale_factor)
    if mode == "nearest":
        x = x.reshape(n, c, h, 1, w, 1).broadcast_to(n, c, h, f, w, f)
        return x.reshape(n, c, h * f, w * f)
    if mode != "bilinear":
        raise BadInput(f"interpolate: mode {mode!r} is unknown; it is 'nearest' or 'bilinear'")
    rows, columns = (backend.to_device(_bilinear_weights(size, f).astype(x.dtype), x.device) for size in (h, w))
    return matmul(matmul(rows, x), columns.T)


def _bilinear_weights(size: int, f: int) -> np.ndarray:
    """A[i,k]: how much old line k counts in new line i, whose centre lies at (i + ½)/f − ½."""
    centre = np.clip((np.arange(size * f) + 0.5) / f - 0.5, 0, size - 1)
    return np.maximum(0.0, 1.0 - np.abs(centre[:, None] - np.arange(size)))
