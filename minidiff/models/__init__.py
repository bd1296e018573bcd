"""Networks: the U-Net and its blocks by the report's names."""

from .unet import (
    DownBlock,
    EmbedBlock,
    GELUConvBlock,
    RearrangePoolBlock,
    SinusoidalPositionEmbedBlock,
    UNet,
    UpBlock,
)

__all__ = [
    "DownBlock",
    "EmbedBlock",
    "GELUConvBlock",
    "RearrangePoolBlock",
    "SinusoidalPositionEmbedBlock",
    "UNet",
    "UpBlock",
]
