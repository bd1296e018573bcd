"""The class-conditioned U-Net of the report, and the blocks it is made of.

    x ── init ──────────────────────────────────── concat ── up ── up ── out ── ε̂        32 x 32
            └─ down ─────────── concat ── up ──────────┘                                  16 x 16
                 └─ down ── + ── mid ──┘                                                    8 x 8
                            │
            time, class ────┘        (condition="film": into every block instead)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..errors import BadInput
from ..nn import Conv2d, ConvTranspose2d, GroupNorm, Linear, Module, ModuleList
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

CONDITIONS = ("before-mid", "after-mid", "film")
NORM_GROUPS = 8


class GELUConvBlock(Module):
    """y = GELU(GroupNorm(Conv3x3(x)))            # (N,I,H,W) -> (N,O,H,W)

    With `embed_dim`, an embedding e (N,E) steers the block (FiLM, Perez et al. 2018): each sample
    brings a scale s and a shift b for every channel,

        y = GELU((1 + s) GroupNorm(Conv3x3(x)) + b),      s, b = two halves of Linear(e)

    which costs nothing at the size of an image: (1 + s)(γ x̂ + β) + b is a GroupNorm with
    γ' = (1 + s) γ and β' = (1 + s) β + b. The Linear starts at zero, so that e starts out unheard.
    """

    def __init__(self, in_chs: int, out_chs: int, embed_dim: int = 0) -> None:
        self.conv = Conv2d(in_chs, out_chs, 3, padding=1)
        self.norm = GroupNorm(NORM_GROUPS, out_chs)
        self.film = silent(Linear(embed_dim, 2 * out_chs)) if embed_dim else None

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        gamma, beta = self.norm.weight, self.norm.bias
        if self.film is not None:
            s, b = _halves(self.film(e))                         # (N,O) each
            gamma, beta = (1.0 + s) * gamma, (1.0 + s) * beta + b
        return F.group_norm_gelu(self.conv(x), NORM_GROUPS, gamma, beta, self.norm.eps)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    half = x.shape[1] // 2
    return x[:, :half], x[:, half:]


class RearrangePoolBlock(Module):
    """Every 2x2 patch becomes four channels, then a GELUConvBlock.            # (N,C,H,W) -> (N,C,H/2,W/2)

    Halves the image as a strided convolution does, and can lose nothing on the way.
    """

    def __init__(self, in_chs: int) -> None:
        self.conv = GELUConvBlock(4 * in_chs, in_chs)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pixel_unshuffle(x, 2))


class DownBlock(Module):
    """Two GELUConvBlocks, then half the size.            # (N,I,H,W) -> (N,O,H/2,W/2)"""

    def __init__(self, in_chs: int, out_chs: int, embed_dim: int = 0, pool: str = "conv") -> None:
        self.in_chs, self.out_chs = in_chs, out_chs
        self.conv1 = GELUConvBlock(in_chs, out_chs, embed_dim)
        self.conv2 = GELUConvBlock(out_chs, out_chs, embed_dim)
        self.pool = Conv2d(out_chs, out_chs, 3, stride=2, padding=1) if pool == "conv" else RearrangePoolBlock(out_chs)

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        return self.pool(self.conv2(self.conv1(x, e), e))

    def describe(self) -> str:
        return f"DownBlock: in_chs={self.in_chs}, out_chs={self.out_chs}, spatial_reduction=2x"


class UpBlock(Module):
    """Twice the size, join the skip, then two GELUConvBlocks.    # (N,I,H,W), (N,S,2H,2W) -> (N,O,2H,2W)

    With skip_chs = 0 nothing is joined: see `UNet`'s `skips`.
    """

    def __init__(self, in_chs: int, skip_chs: int, out_chs: int, embed_dim: int = 0) -> None:
        self.in_chs, self.skip_chs, self.out_chs = in_chs, skip_chs, out_chs
        self.up = ConvTranspose2d(in_chs, out_chs, 2, stride=2)
        self.conv1 = GELUConvBlock(out_chs + skip_chs, out_chs, embed_dim)
        self.conv2 = GELUConvBlock(out_chs, out_chs, embed_dim)

    def forward(self, x: Tensor, skip: Tensor, e: Tensor | None = None) -> Tensor:
        x = ops.concatenate([self.up(x), skip], axis=1) if self.skip_chs else self.up(x)
        return self.conv2(self.conv1(x, e), e)

    def describe(self) -> str:
        channels = f"in_chs={self.in_chs}, skip_chs={self.skip_chs}, out_chs={self.out_chs}"
        return f"UpBlock: {channels}, spatial_increase=2x"


class UNet(Module):
    """The noise ε̂ in x_t, given the step and the class.            # (N,C,H,W), (N,), (N,) -> (N,C,H,W)

    The defaults are the report's network, 957,513 parameters (a reconstruction: the report lists no
    layers, and this is the most natural set with exactly its count).

    in_channels   1 for gray images, 3 for colour
    image_size    height and width; must divide by `patch`, and by 2 once per entry of `channels` after the first
    channels      of the full-size level and of each level below it
    num_classes   labels run 0 … num_classes − 1; −1 means "no class"
    time_dim      how many numbers the clock of t has
    condition     where time and class enter: added "before-mid" or "after-mid" blocks at the
                  bottleneck, or "film": scaling and shifting inside every block
    pool          how a DownBlock halves: "conv" (strided) or "rearrange" (RearrangePoolBlock)
    patch         work on patches of this many pixels a side, each one pixel with patch² times the
                  channels: the same network at a quarter of the cost for patch 2
    target        what the answer means: "eps" the noise, "x0" the picture, "v", "flow", "edm": see `diffusion.targets`
    variance      "learned": twice as many channels come out, the second half of them v of `diffusion.variance`
    style_dim     how many style values a picture has beside its class (a slant, a weight), about unit size; not a number
                  where nobody has said
    skips, clock  False leaves out the skips, or says nothing of the step: controls, to see what they are good for

    Raises BadInput for sizes that cannot be.
    """

    def __init__(
        self, in_channels: int = 1, image_size: int = 32, channels: Sequence[int] = (32, 64, 128),
        num_classes: int = 10, time_dim: int = 8, condition: str = "before-mid", pool: str = "conv", patch: int = 1,
        target: str = "eps", variance: str = "fixed", style_dim: int = 0, skips: bool = True, clock: bool = True,
    ) -> None:  # fmt: skip
        _check(image_size, channels, num_classes, condition, pool, patch, target, variance)
        self.config = dict(
            in_channels=in_channels, image_size=image_size, channels=list(channels), num_classes=num_classes,
            time_dim=time_dim, condition=condition, pool=pool, patch=patch, target=target, **unusual(variance, style_dim, skips=skips, clock=clock),
        )  # fmt: skip
        self.variance, self.style_dim = variance, style_dim
        self.num_classes, self.condition, self.patch, self.target = num_classes, condition, patch, target
        first, bottom = channels[0], channels[-1]
        embed = bottom if condition == "film" else 0             # what a block needs to know of the embedding
        pairs = list(zip(channels, channels[1:], strict=False))

        self.init = GELUConvBlock(in_channels * patch**2, first)
        self.downs = ModuleList([DownBlock(i, o, embed, pool) for i, o in pairs])
        self.mid = ModuleList([GELUConvBlock(bottom, bottom, embed) for _ in range(2)])
        # Level by level upwards; the skip of each is what its DownBlock was given.
        self.ups = ModuleList([UpBlock(o, i if skips else 0, i, embed) for i, o in reversed(pairs)])
        self.out = Conv2d(first, in_channels * patch**2 * (2 if variance == "learned" else 1), 3, padding=1)
        self.clock = SinusoidalPositionEmbedBlock(time_dim) if clock else None
        self.time_embed = EmbedBlock(time_dim, bottom, hidden_dim=time_dim) if clock else None
        self.class_embed = EmbedBlock(num_classes, bottom)
        self.style_embed = EmbedBlock(2 * style_dim, bottom) if style_dim else None

    def forward(self, x: Any, t: Any, labels: Any, style: Any = None) -> Tensor:
        """x (N,C,H,W) noisy images; t (N,) or one step, 1 … T; labels (N,) or one, −1 for no class; style (N,S) or None."""
        x = ops.as_tensor(x)
        t, labels = checked_conditions("UNet", x, t, labels, self.config["in_channels"], self.config["image_size"])
        e = self.class_embed(F.one_hot(labels, self.num_classes))
        if self.clock is not None:
            e = self.time_embed(self.clock(t)) + e
        if self.style_embed is not None:
            e = e + self.style_embed(told_style("UNet", style, len(x), self.style_dim, x))
        film = F.gelu(e) if self.condition == "film" else None

        skips = [self.init(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)]
        for down in self.downs:
            skips.append(down(skips[-1], film))
        h = skips.pop()
        if self.condition == "before-mid":
            h = h + e[:, :, None, None]
        for block in self.mid:
            h = block(h, film)
        if self.condition == "after-mid":
            h = h + e[:, :, None, None]
        for up in self.ups:
            h = up(h, skips.pop(), film)
        h = self.out(h)
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h

    def summary(self) -> str:
        """The network's blocks, parameters and memory, in the report's words."""
        blocks = [*self.downs, *self.ups, *([self.clock, self.time_embed] if self.clock else []), self.class_embed]
        blocks += [self.style_embed] if self.style_embed else []
        return "\n".join([*(f"Created {block.describe()}" for block in blocks), *size_lines(self)])


def _check(
    image_size: int, channels: Sequence[int], num_classes: int, condition: str, pool: str, patch: int,
    target: str, variance: str,
) -> None:
    if len(channels) < 2 or any(int(c) != c or c < 1 or c % NORM_GROUPS for c in channels):
        raise BadInput(f"UNet: channels must be two or more multiples of {NORM_GROUPS}, got {tuple(channels)}")
    if int(patch) != patch or patch < 1:
        raise BadInput(f"UNet: patch must be a whole number, 1 or more; got {patch}")
    scale = patch * 2 ** (len(channels) - 1)
    if image_size < scale or image_size % scale:
        of_patches = f" of {patch}-pixel patches" if patch > 1 else ""
        raise BadInput(
            f"UNet: image_size must be a multiple of {scale} for {len(channels)} levels{of_patches}, got {image_size}"
        )
    if num_classes < 1:
        raise BadInput(f"UNet: num_classes must be 1 or more, got {num_classes}")
    check_choices("UNet", condition=(condition, CONDITIONS), pool=(pool, ("conv", "rearrange")), target=(target, TARGETS),
                  variance=(variance, VARIANCES))  # fmt: skip
