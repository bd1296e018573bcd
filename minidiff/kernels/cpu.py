"""CPU kernels: NumPy on several threads, one sample at a time.

Three habits make these fast, and are the same in every function:

* the batch is shared over threads (`backend.parallel`), and BLAS stays on the thread that calls it;
* a thread takes one sample through all steps before the next, so that what one step wrote is still
  in the cache when the next one reads it;
* every heavy step is one matrix product or one pass of a NumPy function over a small block.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ..backend import parallel
from .blas import multiply_add

Pair = tuple[int, int]
BLOCK = 131_072  # numbers per block of an elementwise pass: short enough for the cache, long enough for the threads
COLUMNS = 512  # positions that one matrix product should cover at least, of as many samples as that takes


# ------------------------------------------------------------------------------------ convolution


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


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray, fresh: bool = True) -> None:
    """out = a b, or out += a b, group by group."""
    for group in zip(a, b, out, strict=True):
        multiply_add(*group, fresh=fresh)


class _Bands:
    """The patches of a convolution of stride 1, without copying each pixel KH·KW times.

    Only the KW sideways shifts of the image are laid out, with the rows of padding above and below:

        bands[c,v,r,i,j] = x[i, c, r − p, j + d v − p]           # (C, KW, H' + d (KH − 1), M, W')

    Kernel row u then meets rows d u … d u + H' − 1 of every shift, and because rows follow each
    other in memory, that is one matrix, read in place: no copy is made of it. The same rows of M
    samples lie side by side: with small images, one sample alone would make a product too small to
    be quick.
    """

    def __init__(
        self, channels: int, samples: int, image: Pair, kernel: Pair, padding: Pair, dilation: Pair, dtype: Any
    ) -> None:
        height, width = (h + 2 * p - d * (k - 1) for h, p, d, k in zip(image, padding, dilation, kernel, strict=True))
        rows = height + dilation[0] * (kernel[0] - 1)
        self.bands = np.zeros((channels, kernel[1], rows, samples, width), dtype)
        self.rows = slice(padding[0], padding[0] + image[0])
        self.columns = [_meet(v, image[1], width, 1, padding[1], dilation[1]) for v in range(kernel[1])]
        self.starts = [dilation[0] * u * samples * width for u in range(kernel[0])]
        self.size = height * samples * width

    def load(self, x: np.ndarray) -> None:
        """Lay out samples (M,C,H,W)."""
        for v, (at, pixels) in enumerate(self.columns):
            self.bands[:, v, self.rows, :, at] = x.transpose(1, 2, 0, 3)[..., pixels]

    def matrices(self, groups: int) -> list[np.ndarray]:
        """For each kernel row, its patches.            # KH of (G, C/G·KW, H'·M·W')"""
        flat = self.bands.reshape(groups, self.bands.shape[0] // groups * self.bands.shape[1], -1)
        return [flat[:, :, start : start + self.size] for start in self.starts]


def _sample_blocks(lo: int, hi: int, positions: int) -> list[tuple[int, list[slice]]]:
    """Samples lo … hi in blocks for `_Bands`: (samples a block, the blocks), the last block apart if it is smaller."""
    m = min(max(1, COLUMNS // max(positions, 1)), max(hi - lo, 1))
    whole = [slice(i, i + m) for i in range(lo, hi - m + 1, m)]
    rest = lo + m * len(whole)
    return [(m, whole)] + ([(hi - rest, [slice(rest, hi)])] if rest < hi else [])


def _side_by_side(x: np.ndarray) -> np.ndarray:
    """(M,C,H,W) -> (C,H,M,W) in the order of memory: a view for one sample, a copy for several."""
    return np.ascontiguousarray(x.transpose(1, 2, 0, 3))


def _by_kernel_row(w: np.ndarray, groups: int) -> np.ndarray:
    """Weights beside the matrices of `_Bands`.            # (O,C/G,KH,KW) -> (KH, G, O/G, C/G·KW)"""
    o, cg, kh, kw = w.shape
    return np.ascontiguousarray(w.transpose(2, 0, 1, 3)).reshape(kh, groups, o // groups, cg * kw)


def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> np.ndarray:
    """y[n] = W · patches(x[n]) + b: one sample at a time, as products of matrices.

    (N,C,H,W) (O,C/G,KH,KW) -> (N,O,H',W')
    """
    n, c, *image = x.shape
    o, _, *kernel = w.shape
    axes = zip(image, kernel, stride, padding, dilation, strict=True)
    size = tuple((h + 2 * p - d * (k - 1) - 1) // s + 1 for h, k, s, p, d in axes)
    y = np.empty((n, o, *size), x.dtype)
    if stride == (1, 1):
        weights = _by_kernel_row(w, groups)
    else:
        weights = np.ascontiguousarray(w).reshape(groups, o // groups, -1)
        taps = _taps(tuple(image), tuple(kernel), size, stride, padding, dilation)

    def by_bands(lo: int, hi: int) -> None:
        for m, blocks in _sample_blocks(lo, hi, size[0] * size[1]):
            bands = _Bands(c, m, tuple(image), tuple(kernel), padding, dilation, x.dtype)
            matrices = bands.matrices(groups)
            for block in blocks:
                bands.load(x[block])
                target = _side_by_side(y[block])
                for u, matrix in enumerate(matrices):
                    _product(weights[u], matrix, target.reshape(groups, o // groups, -1), fresh=u == 0)
                if b is not None:
                    target += b[:, None, None, None]
                if m > 1:
                    y[block] = target.transpose(2, 0, 1, 3)

    def by_patches(lo: int, hi: int) -> None:
        patches = np.zeros((c, *kernel, *size), x.dtype)
        columns = patches.reshape(groups, weights.shape[2], -1)
        for i in range(lo, hi):
            _gather(x[i], patches, taps)
            _product(weights, columns, y[i].reshape(groups, o // groups, -1))
            if b is not None:
                y[i] += b[:, None, None]

    parallel(n, by_bands if stride == (1, 1) else by_patches)
    return y


def conv2d_backward(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...],
    stride: Pair, padding: Pair, dilation: Pair, groups: int,
) -> tuple[np.ndarray | None, np.ndarray | None]:  # fmt: skip
    """gx, gw of `conv2d`, each None where not needed."""
    mirrored = tuple(d * (k - 1) - p for d, k, p in zip(dilation, w.shape[2:], padding, strict=True))
    if needs[0] and stride == (1, 1) and min(mirrored) >= 0:
        return _backward_by_mirror(x, w, gy, needs, mirrored, dilation, groups)
    return _backward_by_scatter(x, w, gy, needs, stride, padding, dilation, groups)


def _backward_by_mirror(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...], padding: Pair, dilation: Pair, groups: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """At stride 1, gx is the convolution of gy with the kernel turned by 180°.

    With w' the turned kernel and the patches of gy laid out once, both gradients are products:

        gx[n] = w' · patches(gy[n]),        gw' = Σₙ x[n] · patches(gy[n])ᵀ

    The second holds because gw needs each x beside each gy that the kernel connects it to, and
    the patches of gy list just those pairs. So nothing has to be scattered.
    """
    n, c, *image = x.shape
    o, cg, kh, kw = w.shape
    turned = w.reshape(groups, o // groups, cg, kh, kw).swapaxes(1, 2)[..., ::-1, ::-1].reshape(c, o // groups, kh, kw)
    weights = _by_kernel_row(turned, groups)                     # (KH, G, C/G, O/G·KW)
    gx = np.empty(x.shape, x.dtype)

    def work(lo: int, hi: int) -> np.ndarray:
        gw = np.zeros(weights.shape, x.dtype)
        for m, blocks in _sample_blocks(lo, hi, image[0] * image[1]):
            bands = _Bands(o, m, gy.shape[2:], (kh, kw), padding, dilation, x.dtype)
            matrices = bands.matrices(groups)
            for block in blocks:
                bands.load(gy[block])
                source, target = _side_by_side(x[block]), _side_by_side(gx[block])
                for u, matrix in enumerate(matrices):
                    _product(weights[u], matrix, target.reshape(groups, cg, -1), fresh=u == 0)
                    if needs[1]:
                        _product(source.reshape(groups, cg, -1), matrix.swapaxes(1, 2), gw[u], fresh=False)
                if m > 1:
                    gx[block] = target.transpose(2, 0, 1, 3)
        return gw

    shards = parallel(n, work)
    if not needs[1]:
        return gx, None
    gw = sum(shards, start=np.zeros(weights.shape, x.dtype)).reshape(kh, groups, cg, o // groups, kw)
    return gx, gw.transpose(1, 3, 2, 0, 4)[..., ::-1, ::-1].reshape(w.shape)


def _backward_by_scatter(
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
        patches, spread = np.zeros((2, c, *kernel, *size), x.dtype)
        columns, spread_columns = (a.reshape(groups, weights.shape[2], -1) for a in (patches, spread))
        gw = np.zeros(weights.shape, x.dtype)
        for i in range(lo, hi):
            g = gy[i].reshape(groups, o // groups, -1)
            if needs[1]:
                _gather(x[i], patches, taps)
                _product(g, columns.swapaxes(1, 2), gw, fresh=False)
            if needs[0]:
                _product(weights.swapaxes(1, 2), g, spread_columns)
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
    axes = zip(positions, kernel, stride, padding, dilation, output_padding, strict=True)
    image = [(h - 1) * s - 2 * p + d * (k - 1) + extra + 1 for h, k, s, p, d, extra in axes]
    taps = _taps(tuple(image), tuple(kernel), tuple(positions), stride, padding, dilation)
    weights = np.ascontiguousarray(w).reshape(groups, c // groups, -1).swapaxes(1, 2)
    y = np.empty((n, og * groups, *image), x.dtype)

    def work(lo: int, hi: int) -> None:
        spread = np.empty((og * groups, *kernel, *positions), x.dtype)
        columns = spread.reshape(groups, -1, positions[0] * positions[1])
        for i in range(lo, hi):
            _product(weights, x[i].reshape(groups, c // groups, -1), columns)
            y[i] = 0 if b is None else b[:, None, None]
            _scatter(spread, y[i], taps)

    parallel(n, work)
    return y


def conv_transpose2d_backward(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...],
    stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair, groups: int,
) -> tuple[np.ndarray | None, np.ndarray | None]:  # fmt: skip
    """gx[n] = W · patches(gy[n]),   gw = Σₙ x[n] · patches(gy[n])ᵀ: a convolution of gy, and its weights' gradient."""
    n, c, *positions = x.shape
    og, *kernel = w.shape[1:]
    taps = _taps(gy.shape[2:], tuple(kernel), tuple(positions), stride, padding, dilation)
    weights = np.ascontiguousarray(w).reshape(groups, c // groups, -1)
    gx = np.empty(x.shape, x.dtype) if needs[0] else None

    def work(lo: int, hi: int) -> np.ndarray:
        patches = np.zeros((og * groups, *kernel, *positions), x.dtype)
        columns = patches.reshape(groups, -1, positions[0] * positions[1])
        gw = np.zeros(weights.shape, x.dtype)
        for i in range(lo, hi):
            _gather(gy[i], patches, taps)
            if needs[0]:
                _product(weights, columns, gx[i].reshape(groups, c // groups, -1))
            if needs[1]:
                _product(x[i].reshape(groups, c // groups, -1), columns.swapaxes(1, 2), gw, fresh=False)
        return gw

    gw = sum(parallel(n, work), start=np.zeros(weights.shape, x.dtype))
    return gx, gw.reshape(w.shape) if needs[1] else None


# ------------------------------------------------------------------------------------------- GELU


def erf(x: np.ndarray) -> np.ndarray:
    """The error function to full precision."""
    from scipy.special import erf as exact

    return exact(x)


# erfc(z) ≈ (a₁t + … + a₅t⁵) e^{−z²}, t = 1/(1 + pz), to 1.5e-7: Abramowitz & Stegun 7.1.26.
# Here z = |u|/√2, and everything is halved because Φ(−|u|) = ½ erfc(|u|/√2).
_P = 0.3275911 / math.sqrt(2.0)
_A = [0.5 * a for a in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)]


def _tail_and_bell(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|u|, Φ(−|u|) and e^{−u²/2}. float32 takes the polynomial: its error is float32's own, and it shares e^{−u²/2}."""
    bell = u * u
    bell *= -0.5
    np.exp(bell, out=bell)
    size = np.abs(u)
    if u.dtype != np.float32:
        from scipy.special import ndtr

        return size, ndtr(-size), bell
    t = size * _P
    t += 1.0
    np.reciprocal(t, out=t)
    tail = _A[4] * t
    for a in _A[3::-1]:
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


def _rows(x: np.ndarray, groups: int) -> np.ndarray:
    """(N,C,…) -> (N·G, C/G, …): one row per group of each sample."""
    n, c = x.shape[:2]
    return np.ascontiguousarray(x).reshape(n * groups, c // groups, math.prod(x.shape[2:]))


def _row_weights(p: np.ndarray, n: int, groups: int) -> np.ndarray:
    """γ or β, shared (C,) or one for each sample (N,C), as (N·G, C/G, 1) beside the rows."""
    return np.ascontiguousarray(np.broadcast_to(p, (n, p.shape[-1]))).reshape(n * groups, p.shape[-1] // groups, 1)


def _row_blocks(lo: int, hi: int, row_size: int) -> list[slice]:
    step = max(1, BLOCK // max(row_size, 1))
    return [slice(r, min(r + step, hi)) for r in range(lo, hi, step)]


def _row_sum(a: np.ndarray) -> np.ndarray:
    """Σ over a row, shaped to be taken from it.            # (R,C/G,P) -> (R,1,1)"""
    return a.reshape(len(a), math.prod(a.shape[1:])).sum(axis=1)[:, None, None]


def group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float, activate: bool
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """y = γ x̂ + β, through GELU if `activate`; and (μ, 1/σ) for backward, each (N·G,1,1)."""
    rows = _rows(x, groups)
    m = math.prod(rows.shape[1:])
    gammas, betas = (_row_weights(p, len(x), groups) for p in (gamma, beta))
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
            y[r] = _gelu(h) if activate else h

    parallel(len(rows), work)
    return y.reshape(x.shape), (mu, rstd)


def group_norm_backward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, cache: tuple[np.ndarray, np.ndarray], gy: np.ndarray,
    groups: int, activate: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """gx, gγ, gβ by the formulas in `ops.norm.GroupNorm`; x̂ and GELU′ are computed again from x."""
    mu, rstd = cache
    rows, upstream = _rows(x, groups), _rows(gy, groups)
    m = math.prod(rows.shape[1:])
    gammas, betas = (_row_weights(p, len(x), groups) for p in (gamma, beta))
    gx = np.empty(rows.shape, x.dtype)
    g_gamma, g_beta = np.empty((2, *gammas.shape), x.dtype)

    def work(lo: int, hi: int) -> None:
        for r in _row_blocks(lo, hi, m):
            x_hat = rows[r] - mu[r]
            x_hat *= rstd[r]
            if activate:
                h = _gelu_slope(gammas[r] * x_hat + betas[r])
                h *= upstream[r]
            else:
                h = upstream[r].copy()
            g_beta[r] = h.sum(axis=2, keepdims=True)
            g_gamma[r] = np.einsum("rcp,rcp->rc", h, x_hat)[..., None]
            mean_h = _row_sum(gammas[r] * g_beta[r]) / m
            mean_hx = _row_sum(gammas[r] * g_gamma[r]) / m
            h *= gammas[r] * rstd[r]
            x_hat *= mean_hx * rstd[r]
            x_hat += mean_h * rstd[r]
            np.subtract(h, x_hat, out=gx[r])

    parallel(len(rows), work)
    per_sample = [g.reshape(x.shape[:2]) for g in (g_gamma, g_beta)]
    gs = [g if p.ndim == 2 else g.sum(axis=0) for g, p in zip(per_sample, (gamma, beta), strict=True)]
    return gx.reshape(x.shape), gs[0], gs[1]
