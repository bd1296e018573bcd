"""Convolution and its transpose on the GPU; the mathematics is in conv.cu and conv_weight.cu."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ... import backend
from ...backend import Array
from ..cpu import output_size, transposed_size
from .conv_weight import bias_gradient, weight_gradient
from .elementwise import cast
from .layout import contiguous, empty, images, math_of, new
from .runtime import Kernel

Pair = tuple[int, int]
Gradients = tuple[Array | None, Array | None, Array | None]
STAGES = 3                                                       # tiles on their way at a time


def conv2d(x: Array, w: Array, b: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Array:
    """y = conv2d(x, w) + b.            # (N,C,H,W) (O,C/G,KH,KW) -> (N,O,H',W')"""
    x = as_multiplied(x)
    size = output_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
    return _by_groups(x, w, b, groups, w.shape[0] // groups, size, stride, padding, dilation, False)


def conv2d_backward(
    x: Array, w: Array, gy: Array, needs: tuple[bool, ...], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Gradients:
    """gx, gw, gb of `conv2d`, each None where not needed."""
    dtype = x.dtype
    x, gy = as_multiplied(x), as_multiplied(gy)
    gx = gw = None
    if needs[0]:
        gx = cast(_by_groups(gy, w, None, groups, w.shape[1], x.shape[2:], stride, padding, dilation, True), dtype)
    if needs[1]:
        gw = weight_gradient(x, gy, w.shape[2:], stride, padding, dilation, groups)
    return gx, gw, bias_gradient(gy) if needs[2] else None


def conv_transpose2d(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair, groups: int
) -> Array:
    """y = conv_transpose2d(x, w) + b.            # (N,C,H,W) (C,O/G,KH,KW) -> (N,O,H',W')"""
    x = as_multiplied(x)
    size = transposed_size(x.shape[2:], w.shape[2:], stride, padding, output_padding, dilation)
    return _by_groups(x, w, b, groups, w.shape[1], size, stride, padding, dilation, True)


def conv_transpose2d_backward(
    x: Array, w: Array, gy: Array, needs: tuple[bool, ...], stride: Pair, padding: Pair, output_padding: Pair,
    dilation: Pair, groups: int,
) -> Gradients:  # fmt: skip
    """gx, gw, gb of `conv_transpose2d`, each None where not needed: a convolution of gy, and its parts in other roles."""
    dtype = x.dtype
    x, gy = as_multiplied(x), as_multiplied(gy)
    gx = gw = None
    if needs[0]:
        gx = cast(_by_groups(gy, w, None, groups, w.shape[0] // groups, x.shape[2:], stride, padding, dilation, False), dtype)
    if needs[1]:
        gw = weight_gradient(gy, x, w.shape[2:], stride, padding, dilation, groups)
    return gx, gw, bias_gradient(gy) if needs[2] else None


def as_multiplied(x: Array) -> Array:
    """x in the numbers that convolutions multiply: bfloat16 if the precision says so or x is that already."""
    return cast(x, backend.bfloat16()) if backend.get_precision() == "bf16" else x


def _by_groups(
    x: Array, w: Array, b: Array | None, groups: int, channels: int, size: Pair, stride: Pair, padding: Pair,
    dilation: Pair, transposed: bool,
) -> Array:  # fmt: skip
    """The convolution of each group of channels with its part of the weights; `channels` come out of each."""
    if groups == 1:
        return _gather(x, w, b, channels, size, stride, padding, dilation, transposed)
    c, rows = x.shape[1] // groups, w.shape[0] // groups
    parts = [
        _gather(
            x[:, g * c : (g + 1) * c], w[g * rows : (g + 1) * rows],
            None if b is None else b[g * channels : (g + 1) * channels],
            channels, size, stride, padding, dilation, transposed,
        )
        for g in range(groups)
    ]  # fmt: skip
    y = new((x.shape[0], groups * channels, *size), x.dtype, x)
    for g, part in enumerate(parts):
        y[:, g * channels : (g + 1) * channels] = part
    return y


def _gather(
    x: Array, w: Array, b: Array | None, channels: int, size: Pair, stride: Pair, padding: Pair, dilation: Pair,
    transposed: bool,
) -> Array:  # fmt: skip
    """One launch of conv.cu: x convolved with w, or back through it, to `channels` channels of `size`."""
    y, math = new((x.shape[0], channels, *size), x.dtype, x), math_of(x)
    tile = tile_sizes(math, x.shape[1], channels, size[0] * size[1])
    kernel = _kernel(math, x.shape[1], channels, w.shape[2:], stride, padding, dilation, transposed, tile)
    x, pitch = images(x)
    bm, bn, bk = tile
    step = stride if transposed else (1, 1)
    classes = min(step[0], size[0]) * min(step[1], size[1])                          # those with pixels in them
    pixels = x.shape[0] * -(-size[0] // step[0]) * -(-size[1] // step[1])            # of the largest class
    shared = STAGES * (bm + bn) * bk * x.dtype.itemsize + bm * 16 + (w.shape[2] * w.shape[3] + 1) * 4
    grid = -(-pixels // bm), -(-channels // bn), classes
    kernel(grid, bm, x, packed(w, math), None if b is None else contiguous(b), y, x.shape[0], *x.shape[2:], pitch, *size,
           shared=shared)  # fmt: skip
    return y


def tile_sizes(math: str, c: int, o: int, pixels: int) -> tuple[int, int, int]:
    """BM, BN, BK for c channels in, o channels out and so many pixels of an output image.

    A row of a tile is at most 128 bytes, which is what eight rows of a fragment are spread over, and no longer than
    there are channels. Small images make few tiles: theirs are half as high, so that each multiprocessor has some.
    """
    per_row = 64 if math == "BF16" else 32
    bk = _power(c, 16 if math == "BF16" else 8, per_row)
    return 64 if pixels <= 64 else 128, _power(o, 16, 64), bk


def _power(n: int, least: int, most: int) -> int:
    """The power of two from `least` to `most` that holds n, or `most`."""
    return min(most, max(least, 1 << (n - 1).bit_length()))


@functools.cache
def _kernel(
    math: str, c: int, o: int, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, transposed: bool,
    tile: tuple[int, int, int],
) -> Kernel:  # fmt: skip
    (bm, bn, bk), options = tile, {}
    for name, (vertical, horizontal) in {"K": kernel, "S": stride, "P": padding, "D": dilation}.items():
        options |= {name + "H": vertical, name + "W": horizontal}
    return Kernel(
        "conv.cu", "gather", MATH=math, C=c, O=o, **options, TRANSPOSED=int(transposed), BM=bm, BN=bn, BK=bk, STAGES=STAGES
    )


# --------------------------------------------------------------------------------- packed weights


def packed(w: Array, math: str) -> Array:
    """w (A,B,KH,KW) as [tap][a][b] in the numbers of the product, rows filled up to 16 bytes.

    Made anew for each convolution: weights may be written to between two at any time, also where nobody sees it.
    """
    dtype: Any = backend.bfloat16() if math == "BF16" else np.float32
    (a, b, kh, kw), per = w.shape, 8 if math == "BF16" else 4
    out = empty((kh * kw, a, -(-b // per) * per), dtype, w)
    _pack(math)(min(1024, -(-out.size // 256)), 256, contiguous(w), out, a, b, out.shape[2], kh * kw)
    return out


@functools.cache
def _pack(math: str) -> Kernel:
    return Kernel("pack.cu", "pack", MATH=math)
