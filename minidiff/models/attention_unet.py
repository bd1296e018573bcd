"""The U-Net that grew out of the first one: residual blocks, and pixels that look at each other.

    x ── init ── res ── res ──────────────────────────────── join ── res … ── norm, SiLU, out ── ε̂      32 x 32
                         └─ half ── res ── res ── … join ── res … ── twice ──┘                           16 x 16
                                    attention       │       attention
                                                    └─ mid: res, attention, res                          4 x 4

    every res   hears time and class: FiLM, as in `unet.GELUConvBlock`
    skips       from every block on the way down, not from every level only

Ho et al. (2020, appendix B) made this network for CIFAR-10; FiLM, and heads of 64 channels, are Dhariwal & Nichol's (2021).
The defaults are its size: 37 million parameters, 1.6 million of them for FiLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..backend import Array, array_module, can_look
from ..errors import BadInput
from ..nn import Conv2d, ConvTranspose2d, Dropout, Embedding, GroupNorm, Linear, Module, ModuleList
from ..nn import functional as F
from ..tensor import Tensor
from .conditions import (
    TARGETS,
    VARIANCES,
    EmbedBlock,
    SinusoidalPositionEmbedBlock,
    check_choices,
    checked_conditions,
    silent,
    size_lines,
    told_style,
    unusual,
)

NAME = "attention-unet"


def _groups(channels: int) -> int:
    """32 groups, as everywhere since Wu & He; fewer where the channels are few, so that each group has four."""
    return min(32, channels // 4)


class ResidualBlock(Module):
    """y = S x + conv₂(SiLU((1 + s) GN(conv₁(SiLU(GN(x)))) + b)),   s, b = Linear(SiLU(e))      # (N,I,H,W), (N,E) -> (N,O,H,W)

    He et al. 2016, in the order norm, activation, convolution. S is the identity, or a 1x1 convolution where O is not I.
    conv₂ and the Linear start at zero: the block starts as S, and a deep network as a shallow one.
    """

    def __init__(self, in_chs: int, out_chs: int, embed_dim: int, dropout: float = 0.0) -> None:
        self.in_chs, self.out_chs = in_chs, out_chs
        self.norm1 = GroupNorm(_groups(in_chs), in_chs)
        self.conv1 = Conv2d(in_chs, out_chs, 3, padding=1)
        self.film = silent(Linear(embed_dim, 2 * out_chs))
        self.norm2 = GroupNorm(_groups(out_chs), out_chs)
        self.dropout = Dropout(dropout) if dropout else None
        self.conv2 = silent(Conv2d(out_chs, out_chs, 3, padding=1))
        self.shortcut = Conv2d(in_chs, out_chs, 1) if in_chs != out_chs else None

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """e is SiLU of the embedding: the same for all blocks, so it is computed once."""
        h = self.conv1(F.group_norm_silu(x, self.norm1.num_groups, self.norm1.weight, self.norm1.bias, self.norm1.eps))
        s = self.film(e)                                         # (N,2O)
        scale, shift = 1.0 + s[:, : self.out_chs], s[:, self.out_chs :]
        gamma, beta = scale * self.norm2.weight, scale * self.norm2.bias + shift
        h = F.group_norm_silu(h, self.norm2.num_groups, gamma, beta, self.norm2.eps)
        h = self.conv2(h if self.dropout is None else self.dropout(h))
        return h + (x if self.shortcut is None else self.shortcut(x))

    def describe(self) -> str:
        return f"ResidualBlock: in_chs={self.in_chs}, out_chs={self.out_chs}"


class AttentionBlock(Module):
    """y = x + P attention(Q GN(x), K GN(x), V GN(x)), every pixel a query that sees all pixels.    # (N,C,H,W) -> (N,C,H,W)

    Q, K, V and P are 1x1 convolutions. The heads look separately, each with `width` of the channels. P starts at zero, so
    that at first every pixel keeps to itself.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        self.channels, self.heads = channels, channels // width
        self.norm = GroupNorm(_groups(channels), channels)
        self.query, self.key, self.value = (Conv2d(channels, channels, 1) for _ in range(3))
        self.proj = silent(Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x_hat = self.norm(x)
        q, k, v = (
            layer(x_hat).reshape(n, self.heads, c // self.heads, h * w).transpose(0, 1, 3, 2)      # (N,heads,HW,C/heads)
            for layer in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(y.transpose(0, 1, 3, 2).reshape(n, c, h, w))

    def describe(self) -> str:
        return f"AttentionBlock: channels={self.channels}, heads={self.heads}"


class Stage(Module):
    """One block of a level: a residual block, and attention after it where there is any."""

    def __init__(self, in_chs: int, out_chs: int, embed_dim: int, dropout: float, head_width: int | None) -> None:
        self.block = ResidualBlock(in_chs, out_chs, embed_dim, dropout)
        self.attention = AttentionBlock(out_chs, head_width) if head_width else None

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.block(x, e)
        return h if self.attention is None else self.attention(h)


class AttentionUNet(Module):
    """The noise ε̂ in x_t, given the step and the class.            # (N,C,H,W), (N,), (N,) -> (N,C,H,W)

    in_channels   1 for gray images, 3 for colour
    image_size    height and width; must divide by 2 once per entry of `channels` after the first
    channels      of the full-size level and of each level below it
    blocks        residual blocks of a level on the way down; on the way up there is one more
    attention     at which image sizes pixels look at each other; the bottom does in any case
    head_width    channels of each head
    num_classes   labels run 0 … num_classes − 1; −1 means "no class", which has a learned vector too
    time_dim      how many numbers the clock of t has
    dropout       in every residual block
    target        what the answer means, as in `UNet`; so do `variance` and `style_dim`

    Raises BadInput for sizes that cannot be.
    """

    def __init__(
        self, in_channels: int = 3, image_size: int = 32, channels: Sequence[int] = (128, 256, 256, 256), blocks: int = 2,
        attention: Sequence[int] = (16,), head_width: int = 64, num_classes: int = 10, time_dim: int = 128,
        dropout: float = 0.0, target: str = "eps", variance: str = "fixed", style_dim: int = 0,
    ) -> None:  # fmt: skip
        _check(image_size, channels, blocks, attention, head_width, num_classes, target, variance)
        self.config = dict(
            network=NAME, in_channels=in_channels, image_size=image_size, channels=list(channels), blocks=blocks,
            attention=list(attention), head_width=head_width, num_classes=num_classes, time_dim=time_dim, dropout=dropout,
            target=target, **unusual(variance, style_dim),
        )  # fmt: skip
        self.variance, self.style_dim = variance, style_dim
        self.num_classes, self.target, self.blocks = num_classes, target, blocks
        first, bottom, embed, sizes = channels[0], channels[-1], 4 * channels[0], [image_size >> i for i in range(len(channels))]

        def stage(i: int, o: int, looks: bool) -> Stage:
            return Stage(i, o, embed, dropout, head_width if looks else None)

        self.clock = SinusoidalPositionEmbedBlock(time_dim)
        self.time_embed = EmbedBlock(time_dim, embed)
        self.class_embed = Embedding(num_classes + 1, embed)
        self.style_embed = EmbedBlock(2 * style_dim, embed) if style_dim else None
        self.init = Conv2d(in_channels, first, 3, padding=1)
        self.downs, self.halves, skips, c = ModuleList(), ModuleList(), [first], first
        for level, (o, size) in enumerate(zip(channels, sizes, strict=True)):
            for _ in range(blocks):
                self.downs.append(stage(c, o, size in attention))
                skips.append(c := o)
            if level < len(channels) - 1:
                self.halves.append(Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
        self.mid = ModuleList([stage(bottom, bottom, True), stage(bottom, bottom, False)])
        self.ups, self.twices = ModuleList(), ModuleList()
        for o, size in zip(reversed(channels), reversed(sizes), strict=True):
            for _ in range(blocks + 1):
                self.ups.append(stage(c + skips.pop(), o, size in attention))
                c = o
            if size < image_size:
                self.twices.append(ConvTranspose2d(c, c, 2, stride=2))
        self.norm = GroupNorm(_groups(first), first)
        self.out = silent(Conv2d(first, in_channels * (2 if variance == "learned" else 1), 3, padding=1))

    def forward(self, x: Any, t: Any, labels: Any, style: Any = None) -> Tensor:
        """x (N,C,H,W) noisy images; t (N,) or one step, 1 … T; labels (N,) or one, −1 for no class; style (N,S) or None."""
        x = ops.as_tensor(x)
        t, labels = checked_conditions("AttentionUNet", x, t, labels, self.config["in_channels"], self.config["image_size"])
        e = self.time_embed(self.clock(t)) + self.class_embed(self._rows(labels))
        if self.style_embed is not None:
            e = e + self.style_embed(told_style("AttentionUNet", style, len(x), self.style_dim, x))
        e = F.silu(e)

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
            h = up(ops.concatenate([h, skips.pop()], axis=1), e)
            level, last = divmod(i + 1, self.blocks + 1)
            if last == 0 and level <= len(self.twices):
                h = self.twices[level - 1](h)
        return self.out(F.group_norm_silu(h, self.norm.num_groups, self.norm.weight, self.norm.bias, self.norm.eps))

    def _rows(self, labels: Array) -> Array:
        """Which row of the class table each label has: its own, and the last one for no class."""
        if can_look(labels) and labels.size and not -1 <= labels.min() <= labels.max() < self.num_classes:
            raise BadInput(f"AttentionUNet: labels must lie in -1 … {self.num_classes - 1}; got {labels.min()} … {labels.max()}")
        return array_module(labels).where(labels == -1, self.num_classes, labels)

    def summary(self) -> str:
        """The network's blocks, parameters and memory, in the report's words."""
        stages = [*self.downs, *self.mid, *self.ups]
        parts = [part for s in stages for part in (s.block, s.attention) if part is not None]
        lines = [f"Created {part.describe()}" for part in [*parts, self.clock, self.time_embed]]
        lines += [f"Created Embedding: {self.class_embed.extra_repr()}"]
        lines += [f"Created {self.style_embed.describe()}"] if self.style_embed else []
        return "\n".join([*lines, *size_lines(self)])


def _check(
    image_size: int, channels: Sequence[int], blocks: int, attention: Sequence[int], head_width: int, num_classes: int,
    target: str, variance: str,
) -> None:  # fmt: skip
    name = "AttentionUNet"
    if len(channels) < 2 or any(int(c) != c or c < 8 or c % _groups(c) for c in channels):
        raise BadInput(f"{name}: channels must be two or more multiples of 32, or smaller multiples of 4 from 8 on;"
                       f" got {tuple(channels)}")  # fmt: skip
    scale = 2 ** (len(channels) - 1)
    if image_size < scale or image_size % scale:
        raise BadInput(f"{name}: image_size must be a multiple of {scale} for {len(channels)} levels, got {image_size}")
    sizes = [image_size >> i for i in range(len(channels))]
    if strange := [size for size in attention if size not in sizes]:
        raise BadInput(f"{name}: attention at {strange[0]}x{strange[0]}, but the levels are {', '.join(map(str, sizes))} wide")
    looking = {c for c, size in zip(channels, sizes, strict=True) if size in attention} | {channels[-1]}
    if head_width < 1 or any(c % head_width for c in looking):
        raise BadInput(f"{name}: head_width {head_width} must divide the channels where there is attention: {sorted(looking)}")
    for argument, value in (("blocks", blocks), ("num_classes", num_classes)):
        if int(value) != value or value < 1:
            raise BadInput(f"{name}: {argument} must be a whole number, 1 or more; got {value}")
    check_choices(name, target=(target, TARGETS), variance=(variance, VARIANCES))
