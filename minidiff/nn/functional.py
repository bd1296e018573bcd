"""The operations of neural networks by PyTorch's names and meanings: `import minidiff.nn.functional as F`."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BadInput
from ..ops import (
    adaptive_avg_pool2d,
    avg_pool1d,
    avg_pool2d,
    batch_norm,
    binary_cross_entropy_with_logits,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    cross_entropy,
    dropout,
    dropout2d,
    embedding,
    gelu,
    group_norm,
    group_norm_gelu,
    group_norm_silu,
    huber_loss,
    instance_norm,
    interpolate,
    l1_loss,
    layer_norm,
    leaky_relu,
    log_softmax,
    matmul,
    max_pool1d,
    max_pool2d,
    mse_loss,
    nll_loss,
    one_hot,
    pixel_shuffle,
    pixel_unshuffle,
    relu,
    scaled_dot_product_attention,
    sigmoid,
    silu,
    smooth_l1_loss,
    softmax,
    softplus,
    tanh,
)
from ..ops import pad as pad_each
from ..tensor import Tensor

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "embedding",
    "gelu",
    "group_norm",
    "group_norm_gelu",
    "group_norm_silu",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "relu",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
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


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """A border around x: `pad` is (before, after) of the last dimension, then of the last but one, and so on.

    mode is "constant", "reflect", "replicate" or "circular"; see `ops.pad`, which takes pairs in order.
    """
    pad = tuple(pad) if isinstance(pad, Sequence) else (pad,)
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise BadInput(f"pad: pad {pad} must be a pair for each dimension to pad, the last first (x {x.shape})")
    pairs = [*zip(pad[::2], pad[1::2], strict=True)]
    return pad_each(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1], mode, value)
