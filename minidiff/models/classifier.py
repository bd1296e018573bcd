"""The judge's network: a small convolutional classifier of 28x28 digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..errors import BadInput
from ..nn import Conv2d, Dropout, Linear, Module
from ..tensor import Tensor
from .unet import GELUConvBlock

SIZE = 28


class Classifier(Module):
    """Class scores of digit images.            # (N,1,28,28) -> (N,K)

        GELUConv → halve → GELUConv, GELUConv → halve → GELUConv → mean over the image → Linear

    The vector before the last layer (`features`, (N,F)) says what the network saw of a digit; the
    Fréchet distance compares clouds of such vectors. `channels` are those of the three sizes 28, 14, 7.
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 128), num_classes: int = 10, dropout: float = 0.2) -> None:
        if len(channels) != 3:
            raise BadInput(f"Classifier: channels must be three numbers, for 28x28, 14x14 and 7x7; got {tuple(channels)}")
        a, b, c = channels
        self.config: dict[str, Any] = {"channels": list(channels), "num_classes": num_classes, "dropout": dropout}
        self.conv1 = GELUConvBlock(1, a)
        self.pool1 = Conv2d(a, a, 3, stride=2, padding=1)
        self.conv2 = GELUConvBlock(a, b)
        self.conv3 = GELUConvBlock(b, b)
        self.pool2 = Conv2d(b, b, 3, stride=2, padding=1)
        self.conv4 = GELUConvBlock(b, c)
        self.dropout = Dropout(dropout)
        self.head = Linear(c, num_classes)

    def features(self, x: Any) -> Tensor:
        """What the last layer decides on: the mean over the image of the last block.            # (N,F)"""
        x = ops.as_tensor(x)
        if x.shape[1:] != (1, SIZE, SIZE):
            raise BadInput(f"Classifier: x must be (N, 1, {SIZE}, {SIZE}), got {x.shape}")
        h = self.pool1(self.conv1(x))
        h = self.pool2(self.conv3(self.conv2(h)))
        return self.conv4(h).mean((2, 3))

    def forward(self, x: Any) -> Tensor:
        """Scores, one per class; their softmax are probabilities."""
        return self.head(self.dropout(self.features(x)))
