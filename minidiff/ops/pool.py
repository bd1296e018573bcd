"""Pooling: each window of an image becomes one number, its largest or its mean.

As in `conv`, a window is met one kernel element at a time: element (u,v) of all windows at once is a
strided slice of the padded image, so there are KH·KW steps however large the image is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..autograd import FusedOp
from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor
from .conv import Pair, per_axis, with_or_without_batch
from .elementwise import in_float32, where
from .matmul import matmul
from .shape import getitem, pad, squeeze, unsqueeze


class Window(NamedTuple):
    """A window along one axis: how large it is, how it moves, and how often it fits."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    positions: int

    def taps(self) -> list[slice]:
        """For each element of the window, the padded pixels that it meets as the window moves."""
        reach = self.stride * (self.positions - 1) + 1
        return [slice(self.dilation * u, self.dilation * u + reach, self.stride) for u in range(self.kernel)]

    def length(self, size: int) -> int:
        """How long the padded axis is; ceil_mode lets the last window reach beyond the padding."""
        return max(size + 2 * self.padding, self.taps()[-1].stop)


def _taps(rows: Window, columns: Window) -> list[tuple[Any, slice, slice]]:
    """Element (u,v) of every window, row by row, as an index into the padded images."""
    return [(..., row, column) for row in rows.taps() for column in columns.taps()]


def _widths(rows: Window, columns: Window, shape: tuple[int, ...]) -> list[Pair]:
    """How much is put around images of that shape."""
    axes = list(zip((rows, columns), shape[2:], strict=True))
    return [(0, 0), (0, 0), *((axis.padding, axis.length(size) - size - axis.padding) for axis, size in axes)]


def _surrounded(x: Array, widths: list[Pair], value: float) -> Array:
    """x with `value` around it; x itself where nothing goes around."""
    if not any(map(any, widths)):
        return x
    canvas = backend.full(tuple(a + n + b for (a, b), n in zip(widths, x.shape, strict=True)), value, like=x)
    canvas[_inside(widths, x.shape)] = x
    return canvas


def _inside(widths: list[Pair], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Where the image lies in what surrounds it."""
    return tuple(slice(a, a + n) for (a, _), n in zip(widths, shape, strict=True))


def _sum(terms: Iterable[Any]) -> Any:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


class MaxPool2d(FusedOp):
    """y[i,j] = max over (u,v) of x[s i + d u − p, s j + d v − p]            gx = gy at the largest, the first of ties

    x is −∞ outside, which is never the largest. NaN counts as larger than any number, as in PyTorch.
    """                                                          # (N,C,H,W) -> (N,C,H',W')

    rows: Window
    columns: Window

    portable = True

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        padded = _surrounded(x, _widths(self.rows, self.columns, x.shape), -math.inf)
        y, *patches = (padded[tap] for tap in _taps(self.rows, self.columns))
        number = xp.int16 if len(patches) < 2**15 else xp.int32  # a window of 182 x 182 has more elements
        self.cache = xp.zeros(y.shape, dtype=number)             # which element of its window is the largest
        for k, patch in enumerate(patches, start=1):
            self.cache = xp.where(_larger(patch, y), xp.asarray(k, dtype=number), self.cache)
            y = xp.maximum(y, patch)
        return y

    def backward(self, gy: Array) -> Array:
        xp, zero = array_module(gy), backend.full((), 0.0, like=gy)
        shape = self.saved[0].shape
        widths = _widths(self.rows, self.columns, shape)
        gx = backend.full(tuple(a + n + b for (a, b), n in zip(widths, shape, strict=True)), 0.0, like=gy)
        for k, tap in enumerate(_taps(self.rows, self.columns)):
            gx[tap] += xp.where(self.cache == k, gy, zero)
        return gx[_inside(widths, shape)]

    @staticmethod
    def reference(x: Tensor, rows: Window, columns: Window) -> Tensor:
        padded = pad(x, _widths(rows, columns, x.shape), value=-math.inf)
        y, *patches = (getitem(padded, tap) for tap in _taps(rows, columns))
        for patch in patches:
            y = where(_larger(patch.data, y.data), patch, y)
        return y


def _larger(a: Array, b: Array) -> Array:
    return (a > b) | (a != a)                                    # NaN alone differs from itself


class AvgPool2d(FusedOp):
    """y[i,j] = 1/n[i,j] Σ_{u,v} x[s i + u − p, s j + v − p]            gx = every gy/n, spread over its window

    x is 0 outside, and n says how many numbers a window counts. A sum over a rectangle is a sum of
    sums over its rows, so KH + KW steps do.
    """                                                          # (N,C,H,W) -> (N,C,H',W')

    rows: Window
    columns: Window
    n: Any                                                       # one number, or an array (H',W')

    portable = True

    def forward(self, x: Array) -> Array:
        padded = _surrounded(x, _widths(self.rows, self.columns, x.shape), 0.0)
        y = _sum(padded[(..., row, slice(None))] for row in self.rows.taps())
        y = _sum(y[(..., column)] for column in self.columns.taps())
        return y / self.n

    def backward(self, gy: Array) -> Array:
        shape = self.saved[0].shape
        widths = _widths(self.rows, self.columns, shape)
        height, width = (a + n + b for (a, b), n in zip(widths[2:], shape[2:], strict=True))
        gy = gy / self.n
        bands = backend.full((*gy.shape[:3], width), 0.0, like=gy)
        for column in self.columns.taps():
            bands[(..., column)] += gy
        gx = backend.full((*gy.shape[:2], height, width), 0.0, like=gy)
        for row in self.rows.taps():
            gx[(..., row, slice(None))] += bands
        return gx[_inside(widths, shape)]

    @staticmethod
    def reference(x: Tensor, rows: Window, columns: Window, n: Any) -> Tensor:
        padded = pad(x, _widths(rows, columns, x.shape))
        total = _sum(getitem(padded, tap) for tap in _taps(rows, columns))
        return total / (n if isinstance(n, float) else Tensor(n))


# --------------------------------------------------------------------------------- checked entries


def _images(name: str, x: Tensor, ndim: int) -> None:
    if x.ndim != ndim + 2:
        raise BadInput(f"{name}: x must be {'(N,C,H,W)' if ndim == 2 else '(N,C,L)'}, got shape {x.shape}")
    if backend.kind(x.dtype) != "f":
        raise BadInput(f"{name}: x must hold floating-point numbers, got {x.dtype}")


def _windows(
    name: str, x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, ndim: int
) -> list[Window]:
    """The windows along the last ndim axes of x."""
    _images(name, x, ndim)
    kernel = per_axis(name, "kernel_size", kernel, 1, ndim)
    stride = kernel if stride is None else per_axis(name, "stride", stride, 1, ndim)
    padding, dilation = per_axis(name, "padding", padding, 0, ndim), per_axis(name, "dilation", dilation, 1, ndim)
    windows = []
    for size, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        if 2 * p > k:
            raise BadInput(f"{name}: padding {padding} is more than half of kernel_size {kernel}")
        left = size + 2 * p - d * (k - 1) - 1
        positions = (-(-left // s) if ceil_mode else left // s) + 1
        if ceil_mode and (positions - 1) * s >= size + p:        # a last window that would lie in the padding alone
            positions -= 1
        if positions < 1 or size < 1:
            image = "image" if ndim == 2 else "signal"
            raise BadInput(
                f"{name}: kernel_size {kernel} with dilation {dilation} is larger than the {image} {x.shape[2:]}"
                f" padded by {padding}"
            )
        windows.append(Window(k, s, p, d, positions))
    return windows


ALONE = Window(kernel=1, stride=1, padding=0, dilation=1, positions=1)  # the rows of a signal, an image one pixel high


@with_or_without_batch(2)
def max_pool2d(
    x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0,
    dilation: int | Pair = 1, ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """The largest number of each window of x (N,C,H,W) or (C,H,W); PyTorch's meaning and order of arguments.

    Windows lie kernel_size apart unless `stride` says otherwise. With ceil_mode the last one may reach
    beyond the padded image, so that no pixel is left over. Raises BadInput where no window fits.
    """
    windows = _windows("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode, ndim=2)
    return MaxPool2d(rows=windows[0], columns=windows[1])(x)


@with_or_without_batch(1)
def max_pool1d(
    x: Tensor, kernel_size: int | tuple[int], stride: int | tuple[int] | None = None, padding: int | tuple[int] = 0,
    dilation: int | tuple[int] = 1, ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """`max_pool2d` for signals x (N,C,L) or (C,L)."""
    (window,) = _windows("max_pool1d", x, kernel_size, stride, padding, dilation, ceil_mode, ndim=1)
    return squeeze(MaxPool2d(rows=ALONE, columns=window)(unsqueeze(x, 2)), 2)


@with_or_without_batch(2)
def avg_pool2d(
    x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of x (N,C,H,W) or (C,H,W); PyTorch's meaning and order of arguments.

    Windows are those of `max_pool2d`. The zeros of the padding count as numbers unless
    count_include_pad is False; divisor_override replaces the count altogether.
    """
    windows = _windows("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode, ndim=2)
    if divisor_override == 0:
        raise BadInput("avg_pool2d: divisor_override must be a number other than 0, got 0")
    n = _count(x, windows, count_include_pad) if divisor_override is None else float(divisor_override)
    return in_float32(AvgPool2d(rows=windows[0], columns=windows[1], n=n), x)


@with_or_without_batch(1)
def avg_pool1d(
    x: Tensor, kernel_size: int | tuple[int], stride: int | tuple[int] | None = None, padding: int | tuple[int] = 0,
    ceil_mode: bool = False, count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """`avg_pool2d` for signals x (N,C,L) or (C,L)."""
    windows = _windows("avg_pool1d", x, kernel_size, stride, padding, 1, ceil_mode, ndim=1)
    n = _count(x, windows, count_include_pad)
    return squeeze(in_float32(AvgPool2d(rows=ALONE, columns=windows[0], n=n), unsqueeze(x, 2)), 2)


def _count(x: Tensor, windows: list[Window], include_padding: bool) -> Any:
    """How many numbers each window counts: one number if all count alike, else an array."""
    counts = np.ones(())
    for window, size in zip(windows, x.shape[2:], strict=True):
        around = window.padding if include_padding else 0
        begin = window.stride * np.arange(window.positions) - window.padding
        end = np.minimum(begin + window.kernel, size + around)
        counts = counts[..., None] * (end - np.maximum(begin, -around))
    alike = counts.size > 0 and (counts == counts.flat[0]).all()
    return float(counts.flat[0]) if alike else backend.asarray(counts, like=x.data, dtype=np.promote_types(x.dtype, np.float32))


@with_or_without_batch(2)
def adaptive_avg_pool2d(x: Tensor, output_size: int | None | tuple[int | None, int | None]) -> Tensor:
    """x (N,C,H,W) or (C,H,W) averaged down to output_size, by windows that cover the image as evenly as whole pixels can.

    Window i of H' reaches from pixel ⌊i H / H'⌋ to ⌈(i + 1) H / H'⌉. None leaves an axis as it is.
    Where the windows are not all alike, y = A x Bᵀ with A[i,k] = 1 / length of window i, for each pixel k in it,
    and one number that is not finite spoils the whole image: 0 · ∞ is none. In PyTorch it spoils its windows only.
    """
    name = "adaptive_avg_pool2d"
    _images(name, x, 2)
    wanted = tuple(output_size) if isinstance(output_size, tuple | list) else (output_size, output_size)
    if len(wanted) != 2:
        raise BadInput(f"{name}: output_size must be one size or two, got {output_size!r}")
    wanted = tuple(n if w is None else w for w, n in zip(wanted, x.shape[2:], strict=True))
    sizes = per_axis(name, "output_size", wanted, 1)
    if 0 in x.shape[2:]:
        raise BadInput(f"{name}: the images of x {x.shape} have no pixels")
    if all(n % m == 0 for n, m in zip(x.shape[2:], sizes, strict=True)):
        return avg_pool2d(x, tuple(n // m for n, m in zip(x.shape[2:], sizes, strict=True)))
    return in_float32(lambda x: _adapted(x, sizes), x)


def _adapted(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """A x Bᵀ"""
    rows, columns = (
        backend.asarray(_shares(n, m), like=x.data, dtype=x.dtype) for n, m in zip(x.shape[2:], sizes, strict=True)
    )
    return matmul(matmul(Tensor(rows), x), Tensor(columns).T)


def _shares(size: int, positions: int) -> np.ndarray:
    """A[i,k]: how much pixel k counts in the mean of window i."""
    i, k = np.arange(positions)[:, None], np.arange(size)
    inside = (k >= i * size // positions) & (k < -(-(i + 1) * size // positions))
    return inside / inside.sum(axis=1, keepdims=True)
