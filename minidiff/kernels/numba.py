"""CPU kernels compiled by Numba (extra `fast`), float32; the same functions as in `cpu.py`.

What compiling buys: loops over pixels that NumPy has no function for, at the speed of C, and whole
shards of a batch without Python's global lock. Convolutions of 3x3 at stride 1 use `winograd.py`;
all others lay out patches and multiply, as `cpu.py` does. Matrix products are BLAS's here too.

Numba compiles a function when it is first called and keeps the result on disk, beside this file
where that can be written.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import get_cython_function_address, intrinsic

from ..backend import parallel
from . import cpu, winograd
from .scratch import scratch

Pair = tuple[int, int]
COLUMNS = 256  # positions that one matrix product of `_direct` should cover at least

_on_disk = True  # until Numba finds no folder that it may write to


def compiled(function: Callable[..., Any]) -> Any:
    """A function compiled by Numba, kept on disk where that is possible, else compiled anew in each process.

    No "fast" mathematics but what cannot surprise: a·b + c in one instruction, sums in any order.
    """
    global _on_disk
    jit = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})(function)
    if _on_disk:
        try:
            jit.enable_caching()
        except RuntimeError:                                     # "no locator available for file …"
            _on_disk = False
            print("minidiff: compiled kernels cannot be kept on disk, neither beside the package nor in the user's cache, and are compiled"
                  " in each process anew, which takes seconds; set NUMBA_CACHE_DIR to a folder that can be written to",
                  file=sys.stderr, flush=True)  # fmt: skip
    return jit


if hasattr(os, "register_at_fork"):
    # Forked while another thread compiles, a child would have Numba's lock closed, and no thread to open it.
    os.register_at_fork(before=global_compiler_lock.acquire, after_in_parent=global_compiler_lock.release,
                        after_in_child=global_compiler_lock.release)  # fmt: skip

# ---------------------------------------------------------------------------------- matrix products

# SciPy publishes the address of its BLAS's sgemm; named here, compiled code can call it (and be kept on disk).
llvmlite.binding.add_symbol("minidiff_sgemm", get_cython_function_address("scipy.linalg.cython_blas", "sgemm"))
_sgemm = types.ExternalFunction("minidiff_sgemm", types.void(*[types.intp] * 13))


@compiled
def _multiply(a, b, out, a_turned, b_turned, add):  # type: ignore[no-untyped-def]
    """out = a b, or out += a b with `add`; a and b as they are or transposed.            # (M,K) (K,N) -> (M,N)

    All three are contiguous. BLAS counts by columns, so it is asked for outᵀ = bᵀ aᵀ.
    """
    n, m = out.shape[1], out.shape[0]
    k = a.shape[0] if a_turned else a.shape[1]
    sizes = np.array([n, m, k, b.shape[1], a.shape[1], n], np.int32)
    factors = np.array([1.0, 1.0 if add else 0.0], np.float32)
    letters = np.array([84 if b_turned else 78, 84 if a_turned else 78], np.uint8)     # "T" or "N"
    size, factor, letter = sizes.ctypes.data, factors.ctypes.data, letters.ctypes.data
    _sgemm(letter, letter + 1, size, size + 4, size + 8, factor, b.ctypes.data, size + 12, a.ctypes.data, size + 16,
           factor + 4, out.ctypes.data, size + 20)  # fmt: skip


# ------------------------------------------------------------------- Winograd's filtering, see winograd.py

# A block is M samples cut into th x tw tiles of 4x4 pixels. Tiles are numbered (row of tiles, sample, column), and
# what is done to tiles is done to whole planes: a plane holds one of the numbers of every tile. So all the loops
# are long, read and write in order, and become vector instructions. (A loop may read from six arrays and write to
# one: with more, the compiler gives up proving that they do not overlap.)

_A, _AT, _BT = (np.ascontiguousarray(m, np.float32) for m in (winograd.A, winograd.A.T, winograd.B.T))


@compiled
def _mix4(k, a, b, c, d, out):  # type: ignore[no-untyped-def]
    """out = k₀ a + k₁ b + k₂ c + k₃ d"""
    k0, k1, k2, k3 = k[0], k[1], k[2], k[3]
    for t in range(out.size):
        out[t] = k0 * a[t] + k1 * b[t] + k2 * c[t] + k3 * d[t]


@compiled
def _mix6(k, a, b, c, d, e, f, out):  # type: ignore[no-untyped-def]
    """out = k₀ a + k₁ b + k₂ c + k₃ d + k₄ e + k₅ f"""
    k0, k1, k2, k3, k4, k5 = k[0], k[1], k[2], k[3], k[4], k[5]
    for t in range(out.size):
        out[t] = k0 * a[t] + k1 * b[t] + k2 * c[t] + k3 * d[t] + k4 * e[t] + k5 * f[t]


@compiled
def _split(x, lo, c, padding, m, th, tw, plane, columns):  # type: ignore[no-untyped-def]
    """columns[v][u, ti, s, tj] = the pixel (4 ti + u, 4 tj + v) of channel c of sample lo + s, padded by zeros.

    plane, of the size of columns[:4], is working memory.
    """
    height, width = x.shape[2:]
    k, pitch = 0, 4 * tw
    n = min(width, pitch - padding)
    for u in range(4):
        for ti in range(th):
            i = 4 * ti + u - padding
            for s in range(m):
                if 0 <= i < height:
                    for j in range(padding):
                        plane[k + j] = 0
                    for j in range(n):
                        plane[k + padding + j] = x[lo + s, c, i, j]
                    for j in range(padding + n, pitch):
                        plane[k + j] = 0
                else:
                    for j in range(pitch):
                        plane[k + j] = 0
                k += pitch
    c0, c1, c2, c3 = columns[0], columns[1], columns[2], columns[3]
    for t in range(c0.size):
        c0[t], c1[t], c2[t], c3[t] = plane[4 * t], plane[4 * t + 1], plane[4 * t + 2], plane[4 * t + 3]


@compiled
def _overlap(x, lo, c, padding, m, th, tw, columns):  # type: ignore[no-untyped-def]
    """columns[4] and [5]: a tile's last two columns, the first two of the tile on its right or, at the edge, of x."""
    height, width = x.shape[2:]
    for v in range(2):
        source, out = columns[v], columns[4 + v]
        for t in range(out.size - 1):
            out[t] = source[t + 1]
        k, j = tw - 1, 4 * tw + v - padding
        for u in range(4):
            for ti in range(th):
                i = 4 * ti + u - padding
                inside = 0 <= i < height and j < width
                for s in range(m):
                    out[k] = x[lo + s, c, i, j] if inside else np.float32(0)
                    k += tw


@compiled
def _load(x, lo, c, padding, m, th, tw, plane, columns, mixed, d):  # type: ignore[no-untyped-def]
    """d[:,c] = Bᵀ tile B for all 6x6 tiles of a channel, which overlap by two.            # (N,C,H,W) -> (36,C,tiles)"""
    _split(x, lo, c, padding, m, th + 1, tw, plane, columns)
    _overlap(x, lo, c, padding, m, th + 1, tw, columns)
    row, tiles = m * tw, th * m * tw
    n = tiles + row  # one more row of tiles holds the last two lines of those above
    c0, c1, c2, c3, c4, c5 = columns[0], columns[1], columns[2], columns[3], columns[4], columns[5]
    for v in range(6):
        r = mixed[v]
        _mix6(_BT[v], c0, c1, c2, c3, c4, c5, r)
        r0, r1, r2, r3 = r[:tiles], r[n : n + tiles], r[2 * n : 2 * n + tiles], r[3 * n : 3 * n + tiles]
        r4, r5 = r[row : row + tiles], r[n + row : n + row + tiles]
        for u in range(6):
            _mix6(_BT[u], r0, r1, r2, r3, r4, r5, d[6 * u + v, c])


@compiled
def _load_gradient(gy, lo, o, m, th, tw, plane, columns, mixed, e):  # type: ignore[no-untyped-def]
    """e[:,o] = A tile Aᵀ for all 4x4 tiles of a channel of gy.            # (N,O,H',W') -> (36,O,tiles)"""
    _split(gy, lo, o, 0, m, th, tw, plane, columns)
    tiles = th * m * tw
    c0, c1, c2, c3 = columns[0], columns[1], columns[2], columns[3]
    for v in range(6):
        r = mixed[v]
        _mix4(_A[v], c0, c1, c2, c3, r)
        r0, r1, r2, r3 = r[:tiles], r[tiles : 2 * tiles], r[2 * tiles : 3 * tiles], r[3 * tiles : 4 * tiles]
        for u in range(6):
            _mix4(_A[u], r0, r1, r2, r3, e[6 * u + v, o])


@compiled
def _store(products, o, b, lo, m, tw, work, plane, y):  # type: ignore[no-untyped-def]
    """y[lo:lo+m,o] = Aᵀ tile A + b, each tile where it belongs.            # (36,O,tiles) -> (N,O,H',W')"""
    p = products
    for v in range(6):
        p0, p1, p2, p3, p4, p5 = p[v, o], p[6 + v, o], p[12 + v, o], p[18 + v, o], p[24 + v, o], p[30 + v, o]
        for u in range(4):
            _mix6(_AT[u], p0, p1, p2, p3, p4, p5, work[u, v])
    c0, c1, c2, c3 = work[4, 0], work[4, 1], work[4, 2], work[4, 3]
    for u in range(4):
        r0, r1, r2, r3, r4, r5 = work[u, 0], work[u, 1], work[u, 2], work[u, 3], work[u, 4], work[u, 5]
        for v in range(4):
            _mix6(_AT[v], r0, r1, r2, r3, r4, r5, work[4, v])
        for t in range(c0.size):
            plane[4 * t], plane[4 * t + 1], plane[4 * t + 2], plane[4 * t + 3] = c0[t] + b, c1[t] + b, c2[t] + b, c3[t] + b
        k = 0
        for i in range(u, y.shape[2], 4):
            for s in range(m):
                for j in range(y.shape[3]):
                    y[lo + s, o, i, j] = plane[k + j]
                k += 4 * tw


@compiled
def _carve(memory, tiles, row):  # type: ignore[no-untyped-def]
    """plane, columns, mixed and work of the functions above, and the memory that is left."""
    n = 4 * (tiles + row)
    ends = 4 * n, 10 * n, 16 * n, 16 * n + 30 * tiles
    plane, columns = memory[: ends[0]], memory[ends[0] : ends[1]].reshape(6, n)
    mixed, work = memory[ends[1] : ends[2]].reshape(6, n), memory[ends[2] : ends[3]].reshape(5, 6, tiles)
    return plane, columns, mixed, work, memory[ends[3] :]


@compiled
def _winograd(x, filters, b, padding, m, memory, y):  # type: ignore[no-untyped-def]
    """y = conv2d(x, w) + b with filters = `transform_filters(w)`, m samples at a time."""
    n, c = x.shape[:2]
    o, height, width = y.shape[1:]
    th, tw = (height + 3) // 4, (width + 3) // 4
    for lo in range(0, n, m):
        m = min(m, n - lo)
        tiles = th * m * tw
        plane, columns, mixed, work, rest = _carve(memory, tiles, m * tw)
        d = rest[: 36 * c * tiles].reshape(36, c, tiles)
        products = rest[36 * c * tiles : 36 * (c + o) * tiles].reshape(36, o, tiles)
        for i in range(c):
            _load(x, lo, i, padding, m, th, tw, plane, columns, mixed, d)
        for k in range(36):
            _multiply(filters[k], d[k], products[k], False, False, False)
        for i in range(o):
            _store(products, i, b[i], lo, m, tw, work, plane, y)


@compiled
def _winograd_filters(x, gy, padding, m, memory, gu):  # type: ignore[no-untyped-def]
    """gu += the gradient of the transformed filters.            # (36,O,C)"""
    n, c = x.shape[:2]
    o, height, width = gy.shape[1:]
    th, tw = (height + 3) // 4, (width + 3) // 4
    for lo in range(0, n, m):
        m = min(m, n - lo)
        tiles = th * m * tw
        plane, columns, mixed, work, rest = _carve(memory, tiles, m * tw)
        d = rest[: 36 * c * tiles].reshape(36, c, tiles)
        e = rest[36 * c * tiles : 36 * (c + o) * tiles].reshape(36, o, tiles)
        for i in range(c):
            _load(x, lo, i, padding, m, th, tw, plane, columns, mixed, d)
        flat = columns.reshape(columns.size)
        gy_columns, gy_mixed = flat[: 16 * tiles].reshape(4, 4 * tiles), mixed.reshape(mixed.size)[: 24 * tiles].reshape(6, 4 * tiles)
        for i in range(o):
            _load_gradient(gy, lo, i, m, th, tw, plane, gy_columns, gy_mixed, e)
        for k in range(36):
            _multiply(e[k], d[k], gu[k], False, True, True)


def _memory(channels: int, m: int, image: Pair) -> np.ndarray:
    """Working memory for the two functions above."""
    th, tw = -(-image[0] // 4), -(-image[1] // 4)
    return scratch(np.float32, ((36 * channels + 30) * th * m * tw + 64 * (th + 1) * m * tw,))[0]


# ------------------------------------------------------------------------------ convolution by patches

# Where kernel element (u,v) lies over the image: geometry = (stride, padding, dilation), each a pair.


@compiled
def _inside(offset, stride, positions, size):  # type: ignore[no-untyped-def]
    """The positions i, first and behind the last, for which 0 ≤ stride·i + offset < size.

    Where the element lies outside at every position, as a dilated one can, both are equal and ≤ positions.
    """
    first = min(positions, max(0, -(offset // stride)))
    return first, max(first, min(positions, (size - 1 - offset) // stride + 1))


@compiled
def _patches(x, kernel, size, geometry, at, patches):  # type: ignore[no-untyped-def]
    """patches[(c,u,v), at + (i,j)] = x[c, s i + d u − p, s j + d v − p], 0 outside.            # (C,H,W) -> (C·KH·KW, …)

    Indices without a sign spare a test for negative ones in the innermost loop.
    """
    (sy, sx), (py, px), (dy, dx) = geometry
    channels, height, width = x.shape
    step = np.uintp(sx)
    row = np.uintp(0)
    for c in range(np.uintp(channels)):
        for u in range(kernel[0]):
            for v in range(kernel[1]):
                first, last = _inside(dx * v - px, sx, size[1], width)
                n, pixel = np.uintp(last - first), np.uintp(sx * first + dx * v - px)
                for i in range(size[0]):
                    r, start = sy * i + dy * u - py, at + i * size[1]
                    if r < 0 or r >= height:
                        patches[row, start : start + size[1]] = 0
                        continue
                    for j in range(start, start + first):
                        patches[row, j] = 0
                    line, begin = np.uintp(r), np.uintp(start + first)
                    for j in range(n):
                        patches[row, begin + j] = x[c, line, pixel + step * j]
                    for j in range(start + last, start + size[1]):
                        patches[row, j] = 0
                row += np.uintp(1)


@compiled
def _fold(patches, kernel, size, geometry, at, x):  # type: ignore[no-untyped-def]
    """Add every patch to the pixels it lies over: the transpose of `_patches`.            # (C·KH·KW, …) -> (C,H,W)"""
    (sy, sx), (py, px), (dy, dx) = geometry
    channels, height, width = x.shape
    step = np.uintp(sx)
    row = np.uintp(0)
    for c in range(np.uintp(channels)):
        for u in range(kernel[0]):
            for v in range(kernel[1]):
                first, last = _inside(dx * v - px, sx, size[1], width)
                n, pixel = np.uintp(last - first), np.uintp(sx * first + dx * v - px)
                for i in range(size[0]):
                    r = sy * i + dy * u - py
                    if 0 <= r < height:
                        line, begin = np.uintp(r), np.uintp(at + i * size[1] + first)
                        for j in range(n):
                            x[c, line, pixel + step * j] += patches[row, begin + j]
                row += np.uintp(1)


@compiled
def _side_by_side(x, out):  # type: ignore[no-untyped-def]
    """(M,C,H,W) -> (C, M·H·W)"""
    samples, channels, height, width = x.shape
    k = 0
    for s in range(samples):
        for i in range(height):
            for j in range(width):
                for c in range(channels):
                    out[c, k + j] = x[s, c, i, j]
            k += width


@compiled
def _apart(rows, b, y):  # type: ignore[no-untyped-def]
    """(O, M·H·W) + b -> (M,O,H,W)"""
    samples, channels, height, width = y.shape
    for s in range(samples):
        for o in range(channels):
            k = s * height * width
            for i in range(height):
                for j in range(width):
                    y[s, o, i, j] = rows[o, k + j] + b[o]
                k += width


@compiled
def _products(w, rows, out, turned):  # type: ignore[no-untyped-def]
    """out = w rows, or wᵀ rows, group by group.            # (G,A,B) (G·B,n) -> (G·A,n)"""
    groups, a, b = w.shape
    if turned:
        a, b = b, a
    for g in range(groups):
        _multiply(w[g], rows[g * b : (g + 1) * b], out[g * a : (g + 1) * a], turned, False, False)


@compiled
def _add_products(a, b, gw):  # type: ignore[no-untyped-def]
    """gw += a bᵀ, group by group.            # (G·A,n) (G·B,n) -> (G,A,B)"""
    groups, m, n = gw.shape
    for g in range(groups):
        _multiply(a[g * m : (g + 1) * m], b[g * n : (g + 1) * n], gw[g], False, True, True)


@compiled
def _add_sums(gy, gb):  # type: ignore[no-untyped-def]
    """gb += Σ gy over samples and pixels."""
    samples, channels, height, width = gy.shape
    for s in range(samples):
        for o in range(channels):
            total = np.float32(0)
            for i in range(height):
                for j in range(width):
                    total += gy[s, o, i, j]
            gb[o] += total


# A block is m samples, side by side: one sample's positions alone can make a product too narrow to be quick.


@compiled
def _carve_rows(memory, a, b, n):  # type: ignore[no-untyped-def]
    """Working memory as (a,n) and (b,n)."""
    return memory[: a * n].reshape(a, n), memory[a * n : (a + b) * n].reshape(b, n)


@compiled
def _direct(x, w, b, kernel, geometry, m, memory, y):  # type: ignore[no-untyped-def]
    """y = W patches(x) + b.            # w (G, O/G, C/G·KH·KW)"""
    size = y.shape[2:]
    pixels = size[0] * size[1]
    for lo in range(0, len(x), m):
        m = min(m, len(x) - lo)
        patches, rows = _carve_rows(memory, w.shape[0] * w.shape[2], len(b), m * pixels)
        for s in range(m):
            _patches(x[lo + s], kernel, size, geometry, s * pixels, patches)
        _products(w, patches, rows, False)
        _apart(rows, b, y[lo : lo + m])


@compiled
def _direct_backward(x, w, gy, kernel, geometry, m, memory, gx, gw):  # type: ignore[no-untyped-def]
    """gx = fold(Wᵀ gy);   gw += gy patches(x)ᵀ. What is not needed has size 0."""
    size = gy.shape[2:]
    pixels = size[0] * size[1]
    for lo in range(0, len(x), m):
        m = min(m, len(x) - lo)
        patches, rows = _carve_rows(memory, w.shape[0] * w.shape[2], gy.shape[1], m * pixels)
        _side_by_side(gy[lo : lo + m], rows)
        if gw.size:
            for s in range(m):
                _patches(x[lo + s], kernel, size, geometry, s * pixels, patches)
            _add_products(rows, patches, gw)
        if gx.size:
            _products(w, rows, patches, True)
            for s in range(m):
                gx[lo + s] = 0
                _fold(patches, kernel, size, geometry, s * pixels, gx[lo + s])


@compiled
def _direct_transpose(x, w, b, kernel, geometry, m, memory, y):  # type: ignore[no-untyped-def]
    """y = fold(Wᵀ x) + b.            # w (G, C/G, O/G·KH·KW)"""
    size = x.shape[2:]
    pixels = size[0] * size[1]
    for lo in range(0, len(x), m):
        m = min(m, len(x) - lo)
        patches, rows = _carve_rows(memory, w.shape[0] * w.shape[2], x.shape[1], m * pixels)
        _side_by_side(x[lo : lo + m], rows)
        _products(w, rows, patches, True)
        for s in range(m):
            for o in range(len(b)):
                y[lo + s, o] = b[o]
            _fold(patches, kernel, size, geometry, s * pixels, y[lo + s])


@compiled
def _direct_transpose_backward(x, w, gy, kernel, geometry, m, memory, gx, gw):  # type: ignore[no-untyped-def]
    """gx = W patches(gy);   gw += x patches(gy)ᵀ. What is not needed has size 0."""
    size = x.shape[2:]
    pixels = size[0] * size[1]
    zeros = np.zeros(x.shape[1], np.float32)
    for lo in range(0, len(x), m):
        m = min(m, len(x) - lo)
        patches, rows = _carve_rows(memory, w.shape[0] * w.shape[2], x.shape[1], m * pixels)
        for s in range(m):
            _patches(gy[lo + s], kernel, size, geometry, s * pixels, patches)
        if gw.size:
            _side_by_side(x[lo : lo + m], rows)
            _add_products(rows, patches, gw)
        if gx.size:
            _products(w, patches, rows, False)
            _apart(rows, zeros, gx[lo : lo + m])


# --------------------------------------------------------------------------------- the convolutions


def _side_samples(positions: Pair) -> int:
    """How many samples lie side by side in a product of `_direct`."""
    return max(1, COLUMNS // max(1, positions[0] * positions[1]))


def _sharded(n: int, work: Any) -> list[Any]:
    """`parallel`, but an empty batch is worked on too: its sums are zero."""
    return parallel(n, work) or [work(0, 0)]


def _ready(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays as the compiled functions want them: numbers one after the other."""
    return [np.ascontiguousarray(a) for a in arrays]


def _bias(b: np.ndarray | None, o: int) -> np.ndarray:
    return np.zeros(o, np.float32) if b is None else np.ascontiguousarray(b)


def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> np.ndarray:
    """y = conv2d(x, w) + b.            # (N,C,H,W) (O,C/G,KH,KW) -> (N,O,H',W')"""
    if x.dtype != np.float32:
        return cpu.conv2d(x, w, b, stride, padding, dilation, groups)
    (x, w), o, kernel = _ready(x, w), w.shape[0], w.shape[2:]
    b = _bias(b, o)
    y = np.empty((len(x), o, *cpu.output_size(x.shape[2:], kernel, stride, padding, dilation)), np.float32)
    if cpu.winograd_pays(w, stride, padding, dilation, groups):
        filters, m = winograd.transform_filters(w), cpu.samples_per_block(sum(w.shape[:2]), x.shape[2:])

        def work(lo: int, hi: int) -> None:
            _winograd(x[lo:hi], filters, b, padding[0], m, _memory(sum(w.shape[:2]), m, y.shape[2:]), y[lo:hi])
    else:
        rows, m = w.reshape(groups, o // groups, -1), _side_samples(y.shape[2:])
        geometry, lines = (stride, padding, dilation), groups * rows.shape[2] + o

        def work(lo: int, hi: int) -> None:
            (memory,) = scratch(np.float32, (lines * m * math.prod(y.shape[2:]),))
            _direct(x[lo:hi], rows, b, kernel, geometry, m, memory, y[lo:hi])

    parallel(len(x), work)
    return y


def conv2d_backward(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...],
    stride: Pair, padding: Pair, dilation: Pair, groups: int,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:  # fmt: skip
    """gx, gw, gb of `conv2d`, each None where not needed."""
    if x.dtype != np.float32:
        return cpu.conv2d_backward(x, w, gy, needs, stride, padding, dilation, groups)
    (x, w, gy), gx = _ready(x, w, gy), np.empty(x.shape if needs[0] else (0, 0, 0, 0), np.float32)
    if cpu.winograd_pays(w, stride, padding, dilation, groups):
        by_shard = _backward_by_points(x, w, gy, needs, padding[0], gx)
    else:
        by_shard = _backward_by_patches(x, w, gy, needs, (stride, padding, dilation), groups, gx)

    def work(lo: int, hi: int) -> tuple[np.ndarray, np.ndarray]:
        gb = np.zeros(gy.shape[1] if needs[2] else 0, np.float32)
        if needs[2]:
            _add_sums(gy[lo:hi], gb)
        return by_shard(slice(lo, hi)), gb

    gw, gb = (sum(shards) for shards in zip(*_sharded(len(x), work), strict=True))
    return gx if needs[0] else None, gw if needs[1] else None, gb if needs[2] else None


def _backward_by_points(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...], padding: int, gx: np.ndarray
) -> Callable[[slice], Any]:
    """A function that writes gx of a shard of the batch, and gives its gw: gx is gy filtered by w turned by 180°."""
    (o, c), image, positions = w.shape[:2], x.shape[2:], gy.shape[2:]
    turned, zeros = winograd.transform_filters(w[:, :, ::-1, ::-1].swapaxes(0, 1)), np.zeros(c, np.float32)
    m = cpu.samples_per_block(o + c, image)

    def shard(s: slice) -> Any:
        if needs[0]:
            _winograd(gy[s], turned, zeros, 2 - padding, m, _memory(o + c, m, image), gx[s])
        if not needs[1]:
            return 0.0
        gu = np.zeros((36, o, c), np.float32)
        _winograd_filters(x[s], gy[s], padding, m, _memory(o + c, m, positions), gu)
        return winograd.filter_gradient(gu)

    return shard


def _backward_by_patches(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...], geometry: tuple[Pair, Pair, Pair], groups: int,
    gx: np.ndarray,
) -> Callable[[slice], Any]:  # fmt: skip
    """A function that writes gx of a shard of the batch, and gives its gw."""
    rows, positions = w.reshape(groups, len(w) // groups, -1), gy.shape[2:]
    m = _side_samples(positions)

    def shard(s: slice) -> Any:
        gw = np.zeros(rows.shape if needs[1] else (0, 0, 0), np.float32)
        (memory,) = scratch(np.float32, ((groups * rows.shape[2] + len(w)) * m * math.prod(positions),))
        _direct_backward(x[s], rows, gy[s], w.shape[2:], geometry, m, memory, gx[s], gw)
        return gw.reshape(w.shape) if needs[1] else 0.0

    return shard


def conv_transpose2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None,
    stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair, groups: int,
) -> np.ndarray:  # fmt: skip
    """y[n] = Wᵀ x[n] folded over the image, + b.            # (N,C,H,W) (C,O/G,KH,KW) -> (N,O,H',W')"""
    if x.dtype != np.float32:
        return cpu.conv_transpose2d(x, w, b, stride, padding, output_padding, dilation, groups)
    (x, w), o, kernel = _ready(x, w), w.shape[1] * groups, w.shape[2:]
    b, rows = _bias(b, o), w.reshape(groups, len(w) // groups, -1)
    image = cpu.transposed_size(x.shape[2:], kernel, stride, padding, output_padding, dilation)
    y = np.empty((len(x), o, *image), np.float32)
    geometry, m = (stride, padding, dilation), _side_samples(x.shape[2:])
    lines = groups * rows.shape[2] + x.shape[1]

    def work(lo: int, hi: int) -> None:
        (memory,) = scratch(np.float32, (lines * m * math.prod(x.shape[2:]),))
        _direct_transpose(x[lo:hi], rows, b, kernel, geometry, m, memory, y[lo:hi])

    parallel(len(x), work)
    return y


def conv_transpose2d_backward(
    x: np.ndarray, w: np.ndarray, gy: np.ndarray, needs: tuple[bool, ...],
    stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair, groups: int,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:  # fmt: skip
    """gx, gw, gb of `conv_transpose2d`, each None where not needed."""
    if x.dtype != np.float32:
        return cpu.conv_transpose2d_backward(x, w, gy, needs, stride, padding, output_padding, dilation, groups)
    (x, w, gy), kernel = _ready(x, w, gy), w.shape[2:]
    rows, geometry, m = w.reshape(groups, len(w) // groups, -1), (stride, padding, dilation), _side_samples(x.shape[2:])
    gx = np.empty(x.shape if needs[0] else (0, 0, 0, 0), np.float32)

    def work(lo: int, hi: int) -> tuple[np.ndarray, np.ndarray]:
        gw = np.zeros(rows.shape if needs[1] else (0, 0, 0), np.float32)
        gb = np.zeros(gy.shape[1] if needs[2] else 0, np.float32)
        (memory,) = scratch(np.float32, ((groups * rows.shape[2] + x.shape[1]) * m * math.prod(x.shape[2:]),))
        _direct_transpose_backward(x[lo:hi], rows, gy[lo:hi], kernel, geometry, m, memory, gx[lo:hi], gw)
        if needs[2]:
            _add_sums(gy[lo:hi], gb)
        return gw, gb

    gw, gb = (sum(shards) for shards in zip(*_sharded(len(x), work), strict=True))
    return gx if needs[0] else None, gw.reshape(w.shape) if needs[1] else None, gb if needs[2] else None


# --------------------------------------------------------------------------------------------- GELU


@intrinsic
def _float_of_bits(context, bits):  # type: ignore[no-untyped-def]
    """The float32 whose 32 bits are those of an int32."""
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


_LOG2_E, _LN2_HIGH, _LN2_LOW = np.float32(1 / math.log(2)), np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)
_TAYLOR = tuple(np.float32(1 / math.factorial(k)) for k in range(7, -1, -1))
_LOWEST, _ONE, _HALF, _PEAK = np.float32(-87.0), np.float32(1), np.float32(0.5), np.float32(1 / math.sqrt(2 * math.pi))
_BIAS, _MANTISSA = np.int32(127), np.int32(23)
_P = np.float32(cpu.ERFC_P)
_A5, _A4, _A3, _A2, _A1 = (np.float32(a) for a in reversed(cpu.ERFC_A))


@compiled
def _exp(x):  # type: ignore[no-untyped-def]
    """eˣ for x ≤ 0: 2ⁿ eʳ with n whole and |r| ≤ ½ ln 2, where Taylor's polynomial is exact to float32.

    ln 2 is taken off in two parts because n times a rounded one would be off by n roundings. 2ⁿ is
    made by writing n into the exponent's bits.
    """
    x = max(x, _LOWEST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    t7, t6, t5, t4, t3, t2, t1, t0 = _TAYLOR
    y = ((((((t7 * r + t6) * r + t5) * r + t4) * r + t3) * r + t2) * r + t1) * r + t0
    return y * _float_of_bits((np.int32(n) + _BIAS) << _MANTISSA) if x > _LOWEST else np.float32(0)


@compiled
def _normal(u):  # type: ignore[no-untyped-def]
    """Φ(u) and e^{−u²/2}; see `cpu.py` for Φ."""
    bell = _exp(-_HALF * u * u)
    t = _ONE / (_ONE + _P * abs(u))
    tail = ((((_A5 * t + _A4) * t + _A3) * t + _A2) * t + _A1) * t * bell
    return (tail if u < 0 else _ONE - tail), bell


@compiled
def _gelu_of(u):  # type: ignore[no-untyped-def]
    """u Φ(u)"""
    probability, _ = _normal(u)
    return u * probability


@compiled
def _gelu_slope(u):  # type: ignore[no-untyped-def]
    """Φ(u) + u φ(u)"""
    probability, bell = _normal(u)
    return probability + u * bell * _PEAK


@compiled
def _sigmoid(u):  # type: ignore[no-untyped-def]
    """1 / (1 + e⁻ᵘ), from e^{−|u|}"""
    e = _exp(-abs(u))
    return (_ONE if u > 0 else e) / (_ONE + e)


@compiled
def _silu_of(u):  # type: ignore[no-untyped-def]
    """u σ(u)"""
    return u * _sigmoid(u)


@compiled
def _silu_slope(u):  # type: ignore[no-untyped-def]
    """σ (1 + u (1 − σ))"""
    s = _sigmoid(u)
    return s * (_ONE + u * (_ONE - s))


@compiled
def _gelu(x, y):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        y[i] = _gelu_of(x[i])


@compiled
def _gelu_backward(x, gy, gx):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        gx[i] = gy[i] * _gelu_slope(x[i])


def gelu(x: np.ndarray, approximate: str) -> np.ndarray:
    """x Φ(x)"""
    if x.dtype != np.float32 or approximate != "none":
        return cpu.gelu(x, approximate)
    y, source = np.empty(x.shape, np.float32), np.ascontiguousarray(x).reshape(-1)
    target = y.reshape(-1)
    parallel(x.size, lambda lo, hi: _gelu(source[lo:hi], target[lo:hi]))
    return y


def gelu_backward(x: np.ndarray, gy: np.ndarray, approximate: str) -> np.ndarray:
    """gy (Φ(x) + x φ(x))"""
    if x.dtype != np.float32 or approximate != "none":
        return cpu.gelu_backward(x, gy, approximate)
    gx = np.empty(x.shape, np.float32)
    source, upstream, target = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(gy).reshape(-1), gx.reshape(-1)
    parallel(x.size, lambda lo, hi: _gelu_backward(source[lo:hi], upstream[lo:hi], target[lo:hi]))
    return gx


# ---------------------------------------------------------------------------------------- GroupNorm


_GELU, _SILU = np.int32(1), np.int32(2)                      # what follows GroupNorm
_KINDS = {"none": np.int32(0), "gelu": _GELU, "silu": _SILU}


@compiled
def _group_norm(x, gamma, beta, eps, kind, y, mu, rstd):  # type: ignore[no-untyped-def]
    """One row (C/G, P) after the other."""
    rows, channels, pixels = x.shape
    size = np.float32(channels * pixels)
    for r in range(rows):
        numbers = x[r].ravel()
        total = np.float32(0)
        for i in range(numbers.size):
            total += numbers[i]
        mean = total / size
        total = np.float32(0)
        for i in range(numbers.size):
            total += (numbers[i] - mean) * (numbers[i] - mean)
        scale = _ONE / np.sqrt(total / size + eps)
        mu[r, 0, 0], rstd[r, 0, 0] = mean, scale
        for c in range(channels):
            source, target = x[r, c], y[r, c]
            a = scale * gamma[r, c, 0]
            b = beta[r, c, 0]
            if kind == _GELU:
                for i in range(pixels):
                    target[i] = _gelu_of((source[i] - mean) * a + b)
            elif kind == _SILU:
                for i in range(pixels):
                    target[i] = _silu_of((source[i] - mean) * a + b)
            else:
                for i in range(pixels):
                    target[i] = (source[i] - mean) * a + b


@compiled
def _group_norm_backward(x, gamma, beta, mu, rstd, gy, kind, gx, g_gamma, g_beta):  # type: ignore[no-untyped-def]
    rows, channels, pixels = x.shape
    size = np.float32(channels * pixels)
    for r in range(rows):
        mean, scale = mu[r, 0, 0], rstd[r, 0, 0]
        mean_h, mean_hx = np.float32(0), np.float32(0)
        for c in range(channels):
            source, upstream, target = x[r, c], gy[r, c], gx[r, c]
            a, b = scale * gamma[r, c, 0], beta[r, c, 0]
            total, total_x = np.float32(0), np.float32(0)
            if kind == _GELU:
                for i in range(pixels):
                    target[i] = upstream[i] * _gelu_slope((source[i] - mean) * a + b)
            elif kind == _SILU:
                for i in range(pixels):
                    target[i] = upstream[i] * _silu_slope((source[i] - mean) * a + b)
            else:
                target[:] = upstream
            for i in range(pixels):
                total += target[i]
                total_x += target[i] * (source[i] - mean)
            g_beta[r, c, 0], g_gamma[r, c, 0] = total, total_x * scale
            mean_h += total * gamma[r, c, 0]
            mean_hx += total_x * scale * gamma[r, c, 0]
        mean_h, mean_hx = mean_h / size, mean_hx / size
        for c in range(channels):
            source, target = x[r, c], gx[r, c]
            a, k, m = scale * gamma[r, c, 0], scale * scale * mean_hx, scale * mean_h
            for i in range(pixels):
                target[i] = target[i] * a - (source[i] - mean) * k - m


def group_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float, activation: str
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """y = γ x̂ + β, through the activation ("none", "gelu" or "silu"); and (μ, 1/σ) for backward, each (N·G,1,1)."""
    if x.dtype != np.float32:
        return cpu.group_norm(x, gamma, beta, groups, eps, activation)
    rows = cpu.rows_of(x, groups)
    gammas, betas = (cpu.row_weights(p, len(x), groups) for p in (gamma, beta))
    y = np.empty(rows.shape, np.float32)
    mu, rstd = np.empty((2, len(rows), 1, 1), np.float32)
    kind = _KINDS[activation]

    def work(lo: int, hi: int) -> None:
        s = slice(lo, hi)
        _group_norm(rows[s], gammas[s], betas[s], np.float32(eps), kind, y[s], mu[s], rstd[s])

    parallel(len(rows), work)
    return y.reshape(x.shape), (mu, rstd)


def group_norm_backward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, cache: tuple[np.ndarray, np.ndarray], gy: np.ndarray,
    groups: int, activation: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """gx, gγ, gβ by the formulas in `ops.norm.GroupNorm`; x̂ and the activation's slope are computed again from x."""
    if x.dtype != np.float32:
        return cpu.group_norm_backward(x, gamma, beta, cache, gy, groups, activation)
    rows, upstream, (mu, rstd) = cpu.rows_of(x, groups), cpu.rows_of(gy, groups), cache
    gammas, betas = (cpu.row_weights(p, len(x), groups) for p in (gamma, beta))
    gx = np.empty(rows.shape, np.float32)
    g_gamma, g_beta = np.empty((2, *gammas.shape), np.float32)
    kind = _KINDS[activation]

    def work(lo: int, hi: int) -> None:
        s = slice(lo, hi)
        _group_norm_backward(rows[s], gammas[s], betas[s], mu[s], rstd[s], upstream[s], kind, gx[s], g_gamma[s], g_beta[s])

    parallel(len(rows), work)
    return gx.reshape(x.shape), *cpu.sum_over_samples(g_gamma, g_beta, gamma, beta)
