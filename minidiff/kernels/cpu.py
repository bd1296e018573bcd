"""CPU kernels: NumPy on several threads, a few samples at a time. README.md here tells what was tried.

Four habits make these fast, and are the same in every function:

* the batch is shared over threads (`backend.parallel`), and BLAS stays on the thread that calls it;
* a thread takes a few samples through all steps before the next ones, so that what one step wrote
  is still in the cache when the next step reads it;
* working memory is a thread's own and used again (`scratch.py`): new memory costs more than the work;
* every heavy step is one call, a matrix product or one pass of a NumPy function over a block: between
  calls, threads wait for Python's global lock.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ..backend import parallel
from . import winograd
from .scratch import scratch

Pair = tuple[int, int]
BLOCK = 131_072  # numbers per block of an elementwise pass: short enough for the cache, long enough for the threads
TRANSFORMED = 500_000  # numbers in the transforms of one block of a 3x3 convolution
FEW_CHANNELS = 8  # below, a 3x3 convolution is quicker by patches


# ------------------------------------------------------------------------------------ convolution


def output_size(image: Any, kernel: Any, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """(H',W') of a convolution; see `ops.conv`."""
    axes = zip(image, kernel, stride, padding, dilation, strict=True)
    height, width = ((h + 2 * p - d * (k - 1) - 1) // s + 1 for h, k, s, p, d in axes)
    return height, width


def transposed_size(
    positions: Any, kernel: Any, stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair
) -> Pair:
    """(H',W') of a transposed convolution; see `ops.conv`."""
    axes = zip(positions, kernel, stride, padding, dilation, output_padding, strict=True)
    height, width = ((h - 1) * s - 2 * p + d * (k - 1) + extra + 1 for h, k, s, p, d, extra in axes)
    return height, width


class Tap(NamedTuple):
    """Kernel element (u,v): at the output positions `at`, it meets the image pixels `pixels`."""

    u: int
    v: int
    at: tuple[slice, slice]
    pixels: tuple[slice, slice]


def _meet(u: int, image: int, positions: int, stride: int, padding: int, dilation: int) -> tuple[slice, slice]:
    """Along one axis: the positions at which kernel element u lies inside the image, and the pixels it meets.

    At position i it meets pixel s i + d u − p, which is inside for 0 ≤ s i + d u − p < image.
    """
    offset = dilation * u - padding
    first = max(0, -(offset // stride))  # ceil(−offset / s)
    last = min(positions - 1, (image - 1 - offset) // stride)
    count = max(0, last - first + 1)
    begin = stride * first + offset
    return slice(first, first + count), slice(begin, begin + stride * (count - 1) + 1, stride) if count else slice(0, 0)


@functools.lru_cache(maxsize=512)
def _taps(image: Pair, kernel: Pair, positions: Pair, stride: Pair, padding: Pair, dilation: Pair) -> tuple[Tap, ...]:
    """All kernel elements, each with where it meets the image."""
    axes = list(zip(image, positions, stride, padding, dilation, strict=True))
    rows = [_meet(u, *axes[0]) for u in range(kernel[0])]
    columns = [_meet(v, *axes[1]) for v in range(kernel[1])]
    return tuple(
        Tap(u, v, (row[0], column[0]), (row[1], column[1]))
        for u, row in enumerate(rows)
        for v, column in enumerate(columns)
    )


def _gather(image: np.ndarray, patches: np.ndarray, taps: tuple[Tap, ...]) -> None:
    """patches[c,u,v,i,j] = the pixel that element (u,v) meets at (i,j): "im2col".

    Positions outside the image are never written: the caller starts from zeros, once.
    """                                                          # (C,H,W) -> (C,KH,KW,H',W')
    for u, v, at, pixels in taps:
        patches[(slice(None), u, v, *at)] = image[(slice(None), *pixels)]


def _scatter(patches: np.ndarray, image: np.ndarray, taps: tuple[Tap, ...]) -> None:
    """Add every patches[c,u,v,i,j] to the pixel it was gathered from: the transpose of `_gather`."""
    for u, v, at, pixels in taps:
        image[(slice(None), *pixels)] += patches[(slice(None), u, v, *at)]


def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> np.ndarray:
    """y = conv2d(x, w) + b.            # (N,C,H,W) (O,C/G,KH,KW) -> (N,O,H',W')"""
    if winograd_pays(w, stride, padding, dilation, groups):
        return _conv2d_by_points(x, w, b, padding[0])
    return _conv2d_by_patches(x, w, b, stride, padding, dilation, groups)


def conv2d_backward(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...],
    stride: Pair, padding: Pair, dilation: Pair, groups: int,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:  # fmt: skip
    """gx, gw, gb of `conv2d`, each None where not needed."""
    if winograd_pays(w, stride, padding, dilation, groups):
        turned = w[:, :, ::-1, ::-1].swapaxes(0, 1)
        gx = _conv2d_by_points(gy, turned, None, 2 - padding[0]) if needs[0] else None
        gw = _filter_gradient_by_points(x, gy, padding[0]) if needs[1] else None
    else:
        gx, gw = _backward_by_patches(x, w, gy, needs, stride, padding, dilation, groups)
    return gx, gw, _bias_gradient(gy) if needs[2] else None


def _bias_gradient(gy: np.ndarray) -> np.ndarray:
    """gb = Σ gy over samples and pixels.            # (N,O,H',W') -> (O,)"""
    n, o = gy.shape[:2]
    per_sample = np.empty((n, o), gy.dtype)

    def work(lo: int, hi: int) -> None:
        per_sample[lo:hi] = gy[lo:hi].reshape(hi - lo, o, math.prod(gy.shape[2:])).sum(axis=2)

    parallel(n, work)
    return per_sample.sum(axis=0)


# ------------------------------------------------------------- 3x3 at stride 1: Winograd's filtering


def winograd_pays(w: np.ndarray, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> bool:
    """Whether `winograd.py` can be used, and pays: of few channels, the transforms cost more than the products they save."""
    possible = w.shape[2:] == (3, 3) and stride == dilation == (1, 1) and groups == 1 and padding[0] == padding[1] <= 2
    return possible and w.shape[1] >= FEW_CHANNELS


def samples_per_block(channels: int, image: Pair) -> int:
    """How many samples to transform at a time: their numbers should fit the cache, and not make products too narrow."""
    tiles = max(1, -(-image[0] // 4) * -(-image[1] // 4))
    return max(1, TRANSFORMED // (36 * channels) // tiles)


class _Tiles:
    """Images of m samples cut into tiles of `size` pixels square, one every 4 pixels.

    Tile number t is (sample, row, column); pixel (i,j) of all tiles of all channels lies together:

        tiles[size i + j, c, t]            # (size², C, m·th·tw)

    `shapes` says how much memory that takes; every block of samples is worked on in the same.
    """

    @staticmethod
    def shapes(m: int, c: int, positions: Pair, size: int) -> list[tuple[int, ...]]:
        """Of the padded images, of their tiles, of working memory, and of what comes out of `transform`."""
        th, tw = -(-positions[0] // 4), -(-positions[1] // 4)
        padded = (c, m, 4 * th + size - 4, 4 * tw + size - 4)
        return [padded, (size, size, c, m, th, tw), (6, size, c * m * th * tw), (36, c, m * th * tw)]

    def __init__(self, padded: np.ndarray, tiles: np.ndarray, half: np.ndarray, values: np.ndarray) -> None:
        self.padded, self.tiles, self.half, self.values = padded, tiles, half, values
        padded.fill(0)
        windows = np.lib.stride_tricks.sliding_window_view(padded, tiles.shape[:2], axis=(2, 3))[:, :, ::4, ::4]
        self.windows = windows.transpose(4, 5, 0, 1, 2, 3)       # as `tiles`, but nothing is copied yet

    def transform(self, x: np.ndarray, padding: int, by: np.ndarray) -> np.ndarray:
        """by tile byᵀ for the tiles of samples (m,C,H,W) with zeros around them.            # -> (36,C,m·th·tw)"""
        rows, columns = (min(n, m - padding) for n, m in zip(x.shape[2:], self.padded.shape[2:], strict=True))
        inside = self.padded[:, :, padding : padding + rows, padding : padding + columns]
        inside[...] = x[:, :, :rows, :columns].swapaxes(0, 1)
        np.copyto(self.tiles, self.windows)                      # in one call: between calls, threads wait for each other
        winograd.transform_tiles(by, self.tiles, self.half, self.values)
        return self.values


def _join(pixels: np.ndarray, y: np.ndarray) -> None:
    """Put tiles of 4x4 pixels where they belong.            # (16, C, m, th, tw) -> (m,C,H,W)"""
    _, c, m, th, tw = pixels.shape
    whole = y if y.shape[2:] == (4 * th, 4 * tw) else np.empty((m, c, 4 * th, 4 * tw), y.dtype)
    np.copyto(whole.reshape(m, c, th, 4, tw, 4), pixels.reshape(4, 4, c, m, th, tw).transpose(3, 2, 4, 0, 5, 1))
    if whole is not y:
        y[...] = whole[:, :, : y.shape[2], : y.shape[3]]


def _blocks(lo: int, hi: int, m: int) -> list[tuple[int, list[slice]]]:
    """Samples lo … hi in blocks of m: (samples in a block, the blocks), the last block apart if it is smaller."""
    m = min(m, max(hi - lo, 1))
    whole = [slice(i, i + m) for i in range(lo, hi - m + 1, m)]
    rest = lo + m * len(whole)
    return [(m, whole)] + ([(hi - rest, [slice(rest, hi)])] if rest < hi else [])


def _conv2d_by_points(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, padding: int) -> np.ndarray:
    """y = Aᵀ [(G w) ⊙ (Bᵀ x)] + b, tile by tile; ⊙ sums over channels, so it is one product of matrices for each of 36 points."""
    (n, c, *image), o = x.shape, len(w)
    size = tuple(h + 2 * padding - 2 for h in image)
    y = np.empty((n, o, *size), x.dtype)
    filters = winograd.transform_filters(w)                      # (36,O,C)
    at, bt = (np.ascontiguousarray(m.T, x.dtype) for m in (winograd.A, winograd.B))

    def work(lo: int, hi: int) -> None:
        for m, blocks in _blocks(lo, hi, samples_per_block(c + o, size)):
            shapes = _Tiles.shapes(m, c, size, 6)
            grid = shapes[1][3:]                                 # m, th, tw
            shapes += [(36, o, math.prod(grid)), (4, 6, o * math.prod(grid)), (16, o, *grid)]
            *memory, products, half, pixels = scratch(x.dtype, *shapes)
            tiles = _Tiles(*memory)
            for block in blocks:
                np.matmul(filters, tiles.transform(x[block], padding, bt), out=products)
                winograd.transform_tiles(at, products, half, pixels)
                if b is not None:
                    pixels += b[:, None, None, None]
                _join(pixels, y[block])

    parallel(n, work)
    return y


def _filter_gradient_by_points(x: np.ndarray, gy: np.ndarray, padding: int) -> np.ndarray:
    """gw = Gᵀ Σ [(A gy) ⊙ (Bᵀ x)] over samples and tiles."""
    n, c, o, size = len(x), x.shape[1], gy.shape[1], gy.shape[2:]
    a, bt = winograd.A.astype(x.dtype), np.ascontiguousarray(winograd.B.T, x.dtype)

    def work(lo: int, hi: int) -> np.ndarray:
        gu = np.zeros((36, o, c), x.dtype)
        for m, blocks in _blocks(lo, hi, samples_per_block(c + o, size)):
            shapes = [*_Tiles.shapes(m, c, size, 6), *_Tiles.shapes(m, o, size, 4)]
            *memory, part = scratch(x.dtype, *shapes, gu.shape)
            tiles, gy_tiles = _Tiles(*memory[:4]), _Tiles(*memory[4:])
            for block in blocks:
                d, e = tiles.transform(x[block], padding, bt), gy_tiles.transform(gy[block], 0, a)
                gu += np.matmul(e, d.swapaxes(1, 2), out=part)
        return winograd.filter_gradient(gu)

    return sum(parallel(n, work), start=np.zeros((o, c, 3, 3), x.dtype))


# ----------------------------------------------------------------- all other convolutions: by patches


def _conv2d_by_patches(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> np.ndarray:
    """y[n] = W · patches(x[n]) + b, one sample at a time."""
    n, c, *image = x.shape
    o, _, *kernel = w.shape
    size = output_size(image, kernel, stride, padding, dilation)
    y = np.empty((n, o, *size), x.dtype)
    weights = np.ascontiguousarray(w).reshape(groups, o // groups, -1)
    taps = _taps(tuple(image), tuple(kernel), size, stride, padding, dilation)

    def work(lo: int, hi: int) -> None:
        (patches,) = scratch(x.dtype, (c, *kernel, *size))
        patches.fill(0)
        columns = patches.reshape(groups, weights.shape[2], -1)
        for i in range(lo, hi):
            _gather(x[i], patches, taps)
            np.matmul(weights, columns, out=y[i].reshape(groups, o // groups, -1))
            if b is not None:
                y[i] += b[:, None, None]

    parallel(n, work)
    return y


def _backward_by_patches(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...],
    stride: Pair, padding: Pair, dilation: Pair, groups: int,
) -> tuple[np.ndarray | None, np.ndarray | None]:  # fmt: skip
    """Any stride: gw = Σₙ gy[n] · patches(x[n])ᵀ, and gx[n] = Wᵀ gy[n] scattered back over the image."""
    n, c, *image = x.shape
    o, _, *kernel = w.shape
    size = gy.shape[2:]
    taps = _taps(tuple(image), tuple(kernel), size, stride, padding, dilation)
    weights = np.ascontiguousarray(w).reshape(groups, o // groups, -1)
    gx = np.zeros(x.shape, x.dtype) if needs[0] else None

    def work(lo: int, hi: int) -> np.ndarray:
        patches, spread, part = scratch(x.dtype, *[(c, *kernel, *size)] * 2, weights.shape)
        patches.fill(0)
        columns, spread_columns = (a.reshape(groups, weights.shape[2], -1) for a in (patches, spread))
        gw = np.zeros(weights.shape, x.dtype)
        for i in range(lo, hi):
            g = gy[i].reshape(groups, o // groups, -1)
            if needs[1]:
                _gather(x[i], patches, taps)
                gw += np.matmul(g, columns.swapaxes(1, 2), out=part)
            if needs[0]:
                np.matmul(weights.swapaxes(1, 2), g, out=spread_columns)
                _scatter(spread, gx[i], taps)
        return gw

    gw = sum(parallel(n, work), start=np.zeros(weights.shape, x.dtype))
    return gx, gw.reshape(w.shape) if needs[1] else None


def conv_transpose2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None,
    stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair, groups: int,
) -> np.ndarray:  # fmt: skip
    """y[n] = Wᵀ x[n] scattered over the image, + b.            (N,C,H,W) (C,O/G,KH,KW) -> (N,O,H',W')"""
    n, c, *positions = x.shape
    _, og, *kernel = w.shape
    image = transposed_size(positions, kernel, stride, padding, output_padding, dilation)
    y = np.empty((n, og * groups, *image), x.dtype)
    if (stride, dilation) == (tuple(kernel), (1, 1)) and (padding, output_padding, groups) == ((0, 0), (0, 0), 1):
        _blow_up(x, w, b, y)
        return y
    taps = _taps(tuple(image), tuple(kernel), tuple(positions), stride, padding, dilation)
    weights = np.ascontiguousarray(w).reshape(groups, c // groups, -1).swapaxes(1, 2)

    def work(lo: int, hi: int) -> None:
        (spread,) = scratch(x.dtype, (og * groups, *kernel, *positions))
        columns = spread.reshape(groups, -1, positions[0] * positions[1])
        for i in range(lo, hi):
            np.matmul(weights, x[i].reshape(groups, c // groups, -1), out=columns)
            y[i] = 0 if b is None else b[:, None, None]
            _scatter(spread, y[i], taps)

    parallel(n, work)
    return y


def conv_transpose2d_backward(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...],
    stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair, groups: int,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:  # fmt: skip
    """gx[n] = W · patches(gy[n]),   gw = Σₙ x[n] · patches(gy[n])ᵀ,   gb = Σ gy: a convolution of gy, and its weights' gradient."""
    n, c, *positions = x.shape
    og, *kernel = w.shape[1:]
    if (stride, dilation) == (tuple(kernel), (1, 1)) and (padding, output_padding, groups) == ((0, 0), (0, 0), 1):
        return *_blow_up_backward(x, w, gy, needs), _bias_gradient(gy) if needs[2] else None
    taps = _taps(gy.shape[2:], tuple(kernel), tuple(positions), stride, padding, dilation)
    weights = np.ascontiguousarray(w).reshape(groups, c // groups, -1)
    gx = np.empty(x.shape, x.dtype) if needs[0] else None

    def work(lo: int, hi: int) -> np.ndarray:
        patches, part = scratch(x.dtype, (og * groups, *kernel, *positions), weights.shape)
        patches.fill(0)
        columns = patches.reshape(groups, -1, positions[0] * positions[1])
        gw = np.zeros(weights.shape, x.dtype)
        for i in range(lo, hi):
            _gather(gy[i], patches, taps)
            if needs[0]:
                np.matmul(weights, columns, out=gx[i].reshape(groups, c // groups, -1))
            if needs[1]:
                gw += np.matmul(x[i].reshape(groups, c // groups, -1), columns.swapaxes(1, 2), out=part)
        return gw

    gw = sum(parallel(n, work), start=np.zeros(weights.shape, x.dtype))
    return gx, gw.reshape(w.shape) if needs[1] else None, _bias_gradient(gy) if needs[2] else None


# Where the kernel is as wide as the stride, every pixel becomes a patch of its own: nothing overlaps, and
# "scattered over the image" is a rearrangement.            (N, O, KH, KW, H, W) <-> (N, O, H·KH, W·KW)


def _blow_up(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, y: np.ndarray) -> None:
    """y[n] = Wᵀ x[n], each pixel's patch in its place, + b."""
    (n, c, height, width), (o, kh, kw) = x.shape, w.shape[1:]
    weights = np.ascontiguousarray(w).reshape(c, -1).T
    m = samples_per_product(o * kh * kw, height * width)

    def work(lo: int, hi: int) -> None:
        for _, blocks in _blocks(lo, hi, m):
            for block in blocks:
                pixels = x[block].reshape(-1, c, height * width)
                (patches,) = scratch(x.dtype, (len(pixels), o, kh, kw, height, width))
                np.matmul(weights, pixels, out=patches.reshape(len(pixels), -1, height * width))
                if b is not None:
                    patches += b[:, None, None, None, None]
                target = y[block].reshape(-1, o, height, kh, width, kw)
                np.copyto(target, patches.transpose(0, 1, 4, 2, 5, 3))

    parallel(n, work)


def _blow_up_backward(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """gx[n] = W patches(gy[n]),   gw = Σₙ x[n] patches(gy[n])ᵀ."""
    (n, c, height, width), (o, kh, kw) = x.shape, w.shape[1:]
    weights = np.ascontiguousarray(w).reshape(c, -1)
    gx = np.empty((n, c, height * width), x.dtype)
    m = samples_per_product(o * kh * kw, height * width)

    def work(lo: int, hi: int) -> np.ndarray:
        gw = np.zeros(weights.shape, x.dtype)
        for _, blocks in _blocks(lo, hi, m):
            for block in blocks:
                pixels = x[block].reshape(-1, c, height * width)
                patches, parts = scratch(x.dtype, (len(pixels), o, kh, kw, height, width), (len(pixels), *weights.shape))
                np.copyto(patches, gy[block].reshape(-1, o, height, kh, width, kw).transpose(0, 1, 3, 5, 2, 4))
                columns = patches.reshape(len(pixels), -1, height * width)
                if needs[0]:
                    np.matmul(weights, columns, out=gx[block])
                if needs[1]:
                    gw += np.matmul(pixels, columns.swapaxes(1, 2), out=parts).sum(axis=0)
        return gw

    gw = sum(parallel(n, work), start=np.zeros(weights.shape, x.dtype))
    return gx.reshape(x.shape) if needs[0] else None, gw.reshape(w.shape) if needs[1] else None


def samples_per_product(rows: int, columns: int) -> int:
    """How many samples to take through a batch of products at a time, so that what comes out stays in the cache."""
    return max(1, TRANSFORMED // max(1, rows * columns))


# ------------------------------------------------------------------------------------------- GELU


def erf(x: np.ndarray) -> np.ndarray:
    """The error function to full precision."""
    from scipy.special import erf as exact

    return exact(x)


# erfc(z) ≈ (a₁t + … + a₅t⁵) e^{−z²}, t = 1/(1 + pz), to 1.5e-7: Abramowitz & Stegun 7.1.26.
# Here z = |u|/√2, and everything is halved because Φ(−|u|) = ½ erfc(|u|/√2).
ERFC_P = 0.3275911 / math.sqrt(2.0)
ERFC_A = [0.5 * a for a in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)]


def _tail_and_bell(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|u|, Φ(−|u|) and e^{−u²/2}. float32 takes the polynomial: its error is float32's own, and it shares e^{−u²/2}."""
    bell = u * u
    bell *= -0.5
    np.exp(bell, out=bell)
    size = np.abs(u)
    if u.dtype != np.float32:
        from scipy.special import ndtr

        return size, ndtr(-size), bell
    t = size * ERFC_P
    t += 1.0
    np.reciprocal(t, out=t)
    tail = ERFC_A[4] * t
    for a in ERFC_A[3::-1]:
        tail += a
        tail *= t
    tail *= bell
    return size, tail, bell


def _gelu(u: np.ndarray, approximate: str = "none") -> np.ndarray:
    """u Φ(u) = ½ u + |u| (½ − Φ(−|u|))"""
    if approximate == "tanh":
        return 0.5 * u * (1.0 + _tanh_argument(u))
    size, tail, bell = _tail_and_bell(u)
    y = np.subtract(0.5, tail, out=tail)
    y *= size
    y += np.multiply(u, 0.5, out=bell)
    return y


def _gelu_slope(u: np.ndarray, approximate: str = "none") -> np.ndarray:
    """d/du u Φ(u) = Φ(u) + u φ(u), with Φ(u) = ½ ± (½ − Φ(−|u|)), the sign being u's"""
    if approximate == "tanh":
        th = _tanh_argument(u)
        inner = math.sqrt(2.0 / math.pi) * (1.0 + 3 * 0.044715 * u * u)
        return 0.5 * (1.0 + th) + 0.5 * u * (1.0 - th * th) * inner
    _, tail, bell = _tail_and_bell(u)
    slope = _with_sign_of(u, np.subtract(0.5, tail, out=tail))
    slope += 0.5
    bell *= u
    bell *= 1.0 / math.sqrt(2.0 * math.pi)
    slope += bell
    return slope


def _with_sign_of(u: np.ndarray, size: np.ndarray) -> np.ndarray:
    """`size`, which is not negative, with the sign of u, in place. In float32 by the sign bit, which is quicker than np.copysign."""
    if u.dtype != np.float32:
        return np.copysign(size, u)
    bits = size.view(np.int32)
    bits |= u.view(np.int32) & np.int32(-(2**31))
    return size


def _tanh_argument(u: np.ndarray) -> np.ndarray:
    return np.tanh(math.sqrt(2.0 / math.pi) * (u + 0.044715 * u * u * u))


def silu(u: np.ndarray) -> np.ndarray:
    """u σ(u), with σ(u) = ½ (1 + tanh ½u), in which nothing overflows"""
    s = np.tanh(0.5 * u)
    s += 1.0
    s *= u
    s *= 0.5
    return s


def silu_slope(u: np.ndarray) -> np.ndarray:
    """d/du u σ(u) = σ (1 + u (1 − σ))"""
    s = np.tanh(0.5 * u)
    s += 1.0
    s *= 0.5
    return s * (1.0 + u * (1.0 - s))


_ACTIVATIONS: dict[str, Any] = {"gelu": _gelu, "silu": silu}
_SLOPES: dict[str, Any] = {"gelu": _gelu_slope, "silu": silu_slope}


def gelu(x: np.ndarray, approximate: str) -> np.ndarray:
    """x Φ(x), block by block."""
    y = np.empty(x.shape, x.dtype)
    source, target = x.reshape(-1), y.reshape(-1)

    def work(lo: int, hi: int) -> None:
        for i in range(lo * BLOCK, min(hi * BLOCK, x.size), BLOCK):
            target[i : i + BLOCK] = _gelu(source[i : i + BLOCK], approximate)

    parallel(-(-x.size // BLOCK), work)
    return y


def gelu_backward(x: np.ndarray, gy: np.ndarray, approximate: str) -> np.ndarray:
    """gy (Φ(x) + x φ(x)), block by block."""
    gx = np.empty(x.shape, x.dtype)
    source, upstream, target = x.reshape(-1), gy.reshape(-1), gx.reshape(-1)

    def work(lo: int, hi: int) -> None:
        for i in range(lo * BLOCK, min(hi * BLOCK, x.size), BLOCK):
            slope = _gelu_slope(source[i : i + BLOCK], approximate)
            np.multiply(slope, upstream[i : i + BLOCK], out=target[i : i + BLOCK])

    parallel(-(-x.size // BLOCK), work)
    return gx


# -------------------------------------------------------------------------------------- GroupNorm


# A group of one sample is a row of M numbers: x is seen as (N·G, C/G, M/(C/G)), and a block is a run of
# rows, from however many samples.


def rows_of(x: np.ndarray, groups: int) -> np.ndarray:
    """(N,C,…) -> (N·G, C/G, …): one row per group of each sample."""
    n, c = x.shape[:2]
    return np.ascontiguousarray(x).reshape(n * groups, c // groups, math.prod(x.shape[2:]))


def row_weights(p: np.ndarray, n: int, groups: int) -> np.ndarray:
    """γ or β, shared (C,) or one for each sample (N,C), as (N·G, C/G, 1) beside the rows."""
    return np.ascontiguousarray(np.broadcast_to(p, (n, p.shape[-1]))).reshape(n * groups, p.shape[-1] // groups, 1)


def _row_blocks(lo: int, hi: int, row_size: int) -> list[slice]:
    step = max(1, BLOCK // max(row_size, 1))
    return [slice(r, min(r + step, hi)) for r in range(lo, hi, step)]


def _row_sum(a: np.ndarray) -> np.ndarray:
    """Σ over a row, shaped to be taken from it.            # (R,C/G,P) -> (R,1,1)"""
    return a.reshape(len(a), math.prod(a.shape[1:])).sum(axis=1)[:, None, None]


def group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float, activation: str
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """y = γ x̂ + β, through the activation ("none", "gelu" or "silu"); and (μ, 1/σ) for backward, each (N·G,1,1)."""
    rows = rows_of(x, groups)
    m = math.prod(rows.shape[1:])
    gammas, betas = (row_weights(p, len(x), groups) for p in (gamma, beta))
    y = np.empty(rows.shape, x.dtype)
    mu, rstd = np.empty((2, len(rows), 1, 1), x.dtype)

    def work(lo: int, hi: int) -> None:
        for r in _row_blocks(lo, hi, m):
            mu[r] = _row_sum(rows[r]) / m
            h = rows[r] - mu[r]
            variance = np.einsum("rcp,rcp->r", h, h)[:, None, None] / m
            rstd[r] = 1.0 / np.sqrt(variance + eps)
            h *= gammas[r] * rstd[r]
            h += betas[r]
            y[r] = h if activation == "none" else _ACTIVATIONS[activation](h)

    parallel(len(rows), work)
    return y.reshape(x.shape), (mu, rstd)


def group_norm_backward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, cache: tuple[np.ndarray, np.ndarray], gy: np.ndarray,
    groups: int, activation: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """gx, gγ, gβ by the formulas in `ops.norm.GroupNorm`; x̂ and the activation's slope are computed again from x."""
    mu, rstd = cache
    rows, upstream = rows_of(x, groups), rows_of(gy, groups)
    m = math.prod(rows.shape[1:])
    gammas, betas = (row_weights(p, len(x), groups) for p in (gamma, beta))
    gx = np.empty(rows.shape, x.dtype)
    g_gamma, g_beta = np.empty((2, *gammas.shape), x.dtype)

    def work(lo: int, hi: int) -> None:
        for r in _row_blocks(lo, hi, m):
            x_hat = rows[r] - mu[r]
            x_hat *= rstd[r]
            if activation == "none":
                h = upstream[r].copy()
            else:
                h = _SLOPES[activation](gammas[r] * x_hat + betas[r])
                h *= upstream[r]
            g_beta[r] = h.sum(axis=2, keepdims=True)
            g_gamma[r] = np.einsum("rcp,rcp->rc", h, x_hat)[..., None]
            mean_h = _row_sum(gammas[r] * g_beta[r]) / m
            mean_hx = _row_sum(gammas[r] * g_gamma[r]) / m
            h *= gammas[r] * rstd[r]
            x_hat *= mean_hx * rstd[r]
            x_hat += mean_h * rstd[r]
            np.subtract(h, x_hat, out=gx[r])

    parallel(len(rows), work)
    return gx.reshape(x.shape), *sum_over_samples(g_gamma, g_beta, gamma, beta)


def sum_over_samples(
    g_gamma: np.ndarray, g_beta: np.ndarray, gamma: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of γ and β from those of each row: summed where one weight serves all samples."""
    pairs = ((g_gamma, gamma), (g_beta, beta))
    per_sample = [(g.reshape(-1, p.shape[-1]), p) for g, p in pairs]
    gs = [g if p.ndim == 2 else g.sum(axis=0) for g, p in per_sample]
    return gs[0], gs[1]
