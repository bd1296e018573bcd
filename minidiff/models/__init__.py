"""Networks: the report's U-Net and its blocks by the report's names, one with attention, and the judge's classifier."""

from __future__ import annotations

from typing import Any

from ..errors import BadInput
from .attention_unet import NAME, AttentionBlock, AttentionUNet, ResidualBlock
from .classifier import Classifier
from .conditions import EmbedBlock, SinusoidalPositionEmbedBlock
from .mlp import MLP
from .unet import DownBlock, GELUConvBlock, RearrangePoolBlock, UNet, UpBlock

__all__ = [
    "AttentionBlock",
    "AttentionUNet",
    "Classifier",
    "DownBlock",
    "EmbedBlock",
    "GELUConvBlock",
    "MLP",
    "NETWORKS",
    "RearrangePoolBlock",
    "ResidualBlock",
    "SinusoidalPositionEmbedBlock",
    "UNet",
    "UpBlock",
    "build",
]

NETWORKS: dict[str, Any] = {"unet": UNet, NAME: AttentionUNet, "mlp": MLP}


def build(options: dict[str, Any]) -> Any:
    """A denoising network from what a recipe or a checkpoint says of it: the arguments of `UNet`, or, with
    `network="attention-unet"` among them, of `AttentionUNet`. Raises BadInput.
    """
    options = dict(options)
    name = options.pop("network", "unet")
    if name not in NETWORKS:
        raise BadInput(f"model: network {name!r} is unknown; it is one of {', '.join(NETWORKS)}")
    return NETWORKS[name](**options)
