"""The gradients of a convolution's weights and bias on the GPU; see conv_weight.cu and channel_sum.cu."""

from __future__ import annotations

import functools

import numpy as np

from ...backend import Array
from .layout import empty, images, math_of, type_name
from .runtime import Kernel

Pair = tuple[int, int]
BLOCKS = 528                                  # to spread the pixels over: four for each of an H100's multiprocessors
STAGES = 3


def weight_gradient(
    x: Array, gy: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """gw of a convolution of x that gave gy's shape.            # (N,C,H,W) (N,O,H',W') -> (O,C/G,KH,KW) float32"""
    c, o = x.shape[1] // groups, gy.shape[1] // groups
    gw = empty((o * groups, c, *kernel), np.float32, x)
    for g in range(groups):
        part = gw[g * o : (g + 1) * o]
        _group_gradient(x[:, g * c : (g + 1) * c], gy[:, g * o : (g + 1) * o], part, stride, padding, dilation)
    return gw


def _group_gradient(x: Array, gy: Array, gw: Array, stride: Pair, padding: Pair, dilation: Pair) -> None:
    (o, c, kh, kw), math = gw.shape, math_of(x)
    if not x.size or not gy.size:
        gw[...] = 0
        return
    (x, pitch), (gy, pitch_y) = images(x), images(gy)
    options, bm, bn, bk = _options(math, c, o, (kh, kw), stride, padding, dilation)
    pixels = gy.shape[0] * gy.shape[2] * gy.shape[3]
    tiles = -(-o // bm) * -(-c // bn)
    splits = max(1, min(BLOCKS // (tiles * kh * kw), -(-pixels // (4 * bk))))
    per_split = -(-pixels // (splits * bk)) * bk
    splits = max(1, -(-pixels // per_split))
    partial = empty((splits, kh * kw, o, c), np.float32, x)
    threads = (bm // options["WM"]) * (bn // options["WN"]) * 32
    _kernel("weight_gradient", tuple(options.items()))(
        (splits, tiles, kh * kw), threads, x, gy, partial, x.shape[0], *x.shape[2:], pitch, *gy.shape[2:], pitch_y,
        per_split, shared=STAGES * bk * (bm + bn) * x.dtype.itemsize,
    )  # fmt: skip
    _kernel("add_splits", tuple(options.items()))(min(528, -(-gw.size // 128)), 128, partial, gw, splits)


@functools.cache
def _options(
    math: str, c: int, o: int, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[dict[str, object], int, int, int]:
    """The definitions, and BM, BN, BK.

    Tiles of 64 x 64 give a warp 32 x 32; those of fewer channels are smaller, down to 16, and have fewer warps.
    """
    least = 16 if math == "BF16" else 32                         # a float32 row of 32 is spread over all banks
    bm, bn = (64 if n > 32 else 32 if n > 16 else least for n in (o, c))
    bk = 64 if math == "BF16" else 32
    options: dict[str, object] = dict(MATH=math, C=c, O=o, BM=bm, BN=bn, BK=bk, WM=min(bm, 32), WN=min(bn, 32), STAGES=STAGES)
    for name, (vertical, horizontal) in {"K": kernel, "S": stride, "P": padding, "D": dilation}.items():
        options |= {name + "H": vertical, name + "W": horizontal}
    return options, bm, bn, bk


@functools.cache
def _kernel(name: str, options: tuple[tuple[str, object], ...]) -> Kernel:
    return Kernel("conv_weight.cu", name, **dict(options))


def bias_gradient(gy: Array) -> Array:
    """gb = Σ gy over samples and pixels.            # (N,O,H',W') -> (O,) float32"""
    gy, pitch = images(gy, aligned=1)
    (n, o, h, w), threads = gy.shape, 256
    pixels = n * h * w
    blocks = max(1, min(264, -(-pixels // 64)))
    partial = empty((blocks, o), np.float32, gy)
    _sum("channel_sum", type_name(gy))(blocks, threads, gy, partial, pixels, o, pitch, -(-pixels // blocks), shared=4 * threads)
    return add_up(partial)


def add_up(partial: Array) -> Array:
    """The sums of the columns of a float32 array, row after row.            # (R,C) -> (C,)"""
    total = empty(partial.shape[1:], np.float32, partial)
    _sum("add_blocks", "float")(-(-partial.shape[1] // 128), 128, partial, total, *partial.shape)
    return total


@functools.cache
def _sum(name: str, kind: str) -> Kernel:
    return Kernel("channel_sum.cu", name, X=kind)
