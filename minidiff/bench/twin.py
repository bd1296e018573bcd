"""The same network in PyTorch, for speed and for parity. The only module here that needs torch.

Names are minidiff's, so that a state_dict goes over as it is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..models import UNet

GROUPS = 8


class GELUConv(nn.Module):
    def __init__(self, in_chs: int, out_chs: int, embed_dim: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chs, out_chs, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, out_chs)
        self.film = nn.Linear(embed_dim, 2 * out_chs) if embed_dim else None

    def forward(self, x: torch.Tensor, e: torch.Tensor | None) -> torch.Tensor:
        y = self.norm(self.conv(x))
        if self.film is not None:
            s, b = self.film(e)[:, :, None, None].chunk(2, dim=1)
            y = (1 + s) * y + b
        return F.gelu(y)


class RearrangePool(nn.Module):
    def __init__(self, in_chs: int) -> None:
        super().__init__()
        self.conv = GELUConv(4 * in_chs, in_chs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pixel_unshuffle(x, 2), None)


class Down(nn.Module):
    def __init__(self, in_chs: int, out_chs: int, embed_dim: int, pool: str) -> None:
        super().__init__()
        self.conv1 = GELUConv(in_chs, out_chs, embed_dim)
        self.conv2 = GELUConv(out_chs, out_chs, embed_dim)
        self.pool = nn.Conv2d(out_chs, out_chs, 3, 2, 1) if pool == "conv" else RearrangePool(out_chs)

    def forward(self, x: torch.Tensor, e: torch.Tensor | None) -> torch.Tensor:
        return self.pool(self.conv2(self.conv1(x, e), e))


class Up(nn.Module):
    def __init__(self, in_chs: int, skip_chs: int, out_chs: int, embed_dim: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_chs, out_chs, 2, 2)
        self.conv1 = GELUConv(out_chs + skip_chs, out_chs, embed_dim)
        self.conv2 = GELUConv(out_chs, out_chs, embed_dim)

    def forward(self, x: torch.Tensor, skip: torch.Tensor, e: torch.Tensor | None) -> torch.Tensor:
        x = torch.cat([self.up(x), skip], dim=1)
        return self.conv2(self.conv1(x, e), e)


class Embed(nn.Module):
    def __init__(self, input_dim: int, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, embed_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class TorchUNet(nn.Module):
    """`minidiff.models.UNet` in PyTorch, made from its configuration."""

    def __init__(self, in_channels: int, image_size: int, channels: list[int], num_classes: int, time_dim: int,
                 condition: str, pool: str, patch: int, target: str) -> None:  # fmt: skip
        super().__init__()
        self.condition, self.time_dim, self.num_classes, self.patch = condition, time_dim, num_classes, patch
        bottom = channels[-1]
        embed = bottom if condition == "film" else 0
        pairs = list(zip(channels, channels[1:]))
        self.init = GELUConv(in_channels * patch**2, channels[0])
        self.downs = nn.ModuleList(Down(i, o, embed, pool) for i, o in pairs)
        self.mid = nn.ModuleList(GELUConv(bottom, bottom, embed) for _ in range(2))
        self.ups = nn.ModuleList(Up(o, i, i, embed) for i, o in reversed(pairs))
        self.out = nn.Conv2d(channels[0], in_channels * patch**2, 3, padding=1)
        self.time_embed = Embed(time_dim, bottom, time_dim)
        self.class_embed = Embed(num_classes, bottom, bottom)

    def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        half = self.time_dim // 2
        omega = torch.exp(-math.log(10_000.0) / (half - 1) * torch.arange(half, dtype=torch.float64))
        angle = t[:, None] * omega
        clock = torch.cat([angle.sin(), angle.cos()], dim=1).to(x.dtype)
        onehot = (labels[:, None] == torch.arange(self.num_classes)).to(x.dtype)
        e = self.time_embed(clock) + self.class_embed(onehot)
        film = F.gelu(e) if self.condition == "film" else None
        added = e[:, :, None, None]

        skips = [self.init(F.pixel_unshuffle(x, self.patch), None)]
        for down in self.downs:
            skips.append(down(skips[-1], film))
        h = skips.pop()
        h = h + added if self.condition == "before-mid" else h
        for block in self.mid:
            h = block(h, film)
        h = h + added if self.condition == "after-mid" else h
        for up in self.ups:
            h = up(h, skips.pop(), film)
        return F.pixel_shuffle(self.out(h), self.patch)


def torch_unet(model: UNet) -> TorchUNet:
    """A PyTorch copy of `model`: same structure, same weights."""
    twin = TorchUNet(**model.config)
    state: dict[str, Any] = {name: torch.tensor(array) for name, array in model.state_dict().items()}
    twin.load_state_dict(state)
    return twin
