"""The same networks in PyTorch, for speed and for parity. The only module here that needs torch.

Names are minidiff's, so that a state_dict goes over as it is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..models import AttentionUNet, UNet

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


def _clock(t: torch.Tensor, dim: int, x: torch.Tensor) -> torch.Tensor:
    half = dim // 2
    omega = torch.exp(-math.log(10_000.0) / (half - 1) * torch.arange(half, dtype=torch.float64, device=x.device))
    angle = t[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(x.dtype)


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
        clock = _clock(t, self.time_dim, x)
        onehot = (labels[:, None] == torch.arange(self.num_classes, device=x.device)).to(x.dtype)
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


class Residual(nn.Module):
    def __init__(self, in_chs: int, out_chs: int, embed_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(min(32, in_chs // 4), in_chs)
        self.conv1 = nn.Conv2d(in_chs, out_chs, 3, padding=1)
        self.film = nn.Linear(embed_dim, 2 * out_chs)
        self.norm2 = nn.GroupNorm(min(32, out_chs // 4), out_chs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_chs, out_chs, 3, padding=1)
        self.shortcut = nn.Conv2d(in_chs, out_chs, 1) if in_chs != out_chs else None

    def forward(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        s, b = self.film(e)[:, :, None, None].chunk(2, dim=1)
        h = F.silu((1 + s) * self.norm2(self.conv1(F.silu(self.norm1(x)))) + b)
        return self.conv2(self.dropout(h)) + (x if self.shortcut is None else self.shortcut(x))


class Attention(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.heads = channels // width
        self.norm = nn.GroupNorm(min(32, channels // 4), channels)
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        x_hat = self.norm(x)
        q, k, v = (layer(x_hat).reshape(n, self.heads, c // self.heads, h * w).transpose(-1, -2) for layer in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(y.transpose(-1, -2).reshape(n, c, h, w))


class TorchStage(nn.Module):
    def __init__(self, in_chs: int, out_chs: int, embed_dim: int, dropout: float, width: int | None) -> None:
        super().__init__()
        self.block = Residual(in_chs, out_chs, embed_dim, dropout)
        self.attention = Attention(out_chs, width) if width else None

    def forward(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        h = self.block(x, e)
        return h if self.attention is None else self.attention(h)


class TorchAttentionUNet(nn.Module):
    """`minidiff.models.AttentionUNet` in PyTorch, made from its configuration."""

    def __init__(self, network: str, in_channels: int, image_size: int, channels: list[int], blocks: int, attention: list[int],
                 head_width: int, num_classes: int, time_dim: int, dropout: float, target: str) -> None:  # fmt: skip
        super().__init__()
        self.time_dim, self.num_classes, self.blocks = time_dim, num_classes, blocks
        first, bottom, embed, sizes = channels[0], channels[-1], 4 * channels[0], [image_size >> i for i in range(len(channels))]

        def stage(i: int, o: int, looks: bool) -> TorchStage:
            return TorchStage(i, o, embed, dropout, head_width if looks else None)

        self.time_embed = Embed(time_dim, embed, embed)
        self.class_embed = nn.Embedding(num_classes + 1, embed)
        self.init = nn.Conv2d(in_channels, first, 3, padding=1)
        downs, halves, skips, c = [], [], [first], first
        for level, (o, size) in enumerate(zip(channels, sizes, strict=True)):
            for _ in range(blocks):
                downs.append(stage(c, o, size in attention))
                skips.append(c := o)
            if level < len(channels) - 1:
                halves.append(nn.Conv2d(c, c, 3, 2, 1))
                skips.append(c)
        ups, twices = [], []
        for o, size in zip(reversed(channels), reversed(sizes), strict=True):
            for _ in range(blocks + 1):
                ups.append(stage(c + skips.pop(), o, size in attention))
                c = o
            if size < image_size:
                twices.append(nn.ConvTranspose2d(c, c, 2, 2))
        self.downs, self.halves, self.ups, self.twices = map(nn.ModuleList, (downs, halves, ups, twices))
        self.mid = nn.ModuleList([stage(bottom, bottom, True), stage(bottom, bottom, False)])
        self.norm = nn.GroupNorm(min(32, first // 4), first)
        self.out = nn.Conv2d(first, in_channels, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        row = torch.where(labels < 0, self.num_classes, labels)
        e = F.silu(self.time_embed(_clock(t, self.time_dim, x)) + self.class_embed(row))
        h = self.init(x)
        skips = [h]
        for i, down in enumerate(self.downs):
            h = down(h, e)
            skips.append(h)
            level, last = divmod(i + 1, self.blocks)
            if last == 0 and level <= len(self.halves):
                h = self.halves[level - 1](h)
                skips.append(h)
        for block in self.mid:
            h = block(h, e)
        for i, up in enumerate(self.ups):
            h = up(torch.cat([h, skips.pop()], dim=1), e)
            level, last = divmod(i + 1, self.blocks + 1)
            if last == 0 and level <= len(self.twices):
                h = self.twices[level - 1](h)
        return self.out(F.silu(self.norm(h)))


def torch_unet(model: UNet | AttentionUNet) -> nn.Module:
    """A PyTorch copy of `model`: same structure, same weights."""
    twin = TorchAttentionUNet(**model.config) if isinstance(model, AttentionUNet) else TorchUNet(**model.config)
    state: dict[str, Any] = {name: torch.tensor(array) for name, array in model.state_dict().items()}
    twin.load_state_dict(state)
    return twin
