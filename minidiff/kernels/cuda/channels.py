"""Joining images along their channels on the GPU; see channels.cu."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ...backend import Array
from .layout import address, images, new, type_name
from .runtime import Kernel

THREADS = 256


def join(xs: Sequence[Array]) -> Array:
    """Images (N,Cᵢ,H,W) of one dtype as one with all their channels, channels last."""
    n, _, h, w = xs[0].shape
    y = new((n, sum(x.shape[1] for x in xs), h, w), xs[0].dtype, xs[0])
    c = 0
    for x in xs:
        _copy(x, y[:, c : c + x.shape[1]], y.shape[1])
        c += x.shape[1]
    return y


def _copy(x: Array, y: Array, pitch_y: int) -> None:
    """Write x into channels of an image that lies channels last with that pitch."""
    (x, pitch), per = images(x, aligned=1), 16 // x.dtype.itemsize
    (n, c, h, w), in_fours = x.shape, x.shape[1] % per == pitch % per == pitch_y % per == 0
    in_fours = in_fours and address(x) % 16 == 0 and address(y) % 16 == 0
    count = n * h * w * (c // per if in_fours else c)
    kernel = _kernel("copy_channels" if in_fours else "copy_numbers", type_name(x))
    kernel(-(-count // THREADS), THREADS, x, y, n * h * w, c, pitch, pitch_y)


@functools.cache
def _kernel(name: str, kind: str) -> Kernel:
    return Kernel("channels.cu", name, T=kind)
