"""Networks: the U-Net and its blocks by the report's names, and the judge's classifier."""

from .classifier import Classifier
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
    "Classifier",
    "DownBlock",
    "EmbedBlock",
    "GELUConvBlock",
    "RearrangePoolBlock",
    "SinusoidalPositionEmbedBlock",
    "UNet",
    "UpBlock",
]
