"""Sums, products and extremes on the GPU; see reduce.cu."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np

from ...backend import Array
from .elementwise import dense
from .layout import empty, memory_order
from .runtime import Kernel

THREADS = 256
BLOCKS = 528                                  # to spread the numbers over: four for each of an H100's multiprocessors
SHORT, LONG = 32, 1024                        # one thread takes so many numbers in any case; a warp, or one of many threads

# How two numbers are joined, and the number that changes none. Extremes of what is not a number are none.
REDUCTIONS = {
    "sum": ("a + b", "0.f"), "prod": ("a * b", "1.f"),
    "max": ("a > b || a != a ? a : b", "__uint_as_float(0xff800000)"),
    "min": ("a < b || a != a ? a : b", "__uint_as_float(0x7f800000)"),
}  # fmt: skip


def reduce(name: str, x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """A reduction of REDUCTIONS over some axes of a float32 array, or over all.

    In memory x is runs of axes that stay and of axes that go, by turns. Those that go are taken one run after the other,
    from that of neighbours on; what stays keeps its order.
    """
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    going, x = {a % x.ndim for a in axes}, dense(x)
    order = memory_order(x)
    long = [i for i in order if x.shape[i] > 1]
    runs = [(go, math.prod(x.shape[i] for i in run)) for go, run in itertools.groupby(long, going.__contains__)]
    y = _columns(name, x, 1, 1, x.size) if not any(go for go, _ in runs) else x
    while any(go for go, _ in runs):
        last = max(k for k, (go, _) in enumerate(runs) if go)
        outer, inner = (math.prod(n for _, n in part) for part in (runs[:last], runs[last + 1 :]))
        y = _columns(name, y, outer, runs.pop(last)[1], inner)
    stays = [i for i in order if i not in going]
    y = y.reshape(tuple(x.shape[i] for i in stays)).transpose([stays.index(i) for i in sorted(stays)])
    return y[tuple(None if i in going else slice(None) for i in range(x.ndim))] if keepdims else y


def _columns(name: str, x: Array, outer: int, length: int, inner: int) -> Array:
    """x in memory reduced along the middle one of three axes.            # outer · length · inner -> outer · inner"""
    results = outer * inner
    if length <= SHORT or (length <= LONG and inner >= 32 and results >= BLOCKS * THREADS // 4):
        y = empty((results,), np.float32, x)
        _kernel("by_threads", name)(-(-results // THREADS), THREADS, x, y, results, length, inner)
        return y
    threads = 32 if inner == 1 and length <= LONG else THREADS
    width = min(threads, 1 << (inner - 1).bit_length())
    tiles, rows = -(-inner // width), threads // width
    splits = max(1, min(BLOCKS // (outer * tiles), length // (4 * rows)))
    per_split = -(-length // splits)
    splits = -(-length // per_split)
    y = empty((splits * results,), np.float32, x)
    _kernel("by_blocks", name)((outer * tiles, splits), threads, x, y, length, inner, width, tiles, per_split, shared=4 * threads)
    return y if splits == 1 else _columns(name, y, 1, splits, results)


@functools.cache
def _kernel(kernel: str, name: str) -> Kernel:
    formula, start = REDUCTIONS[name]
    return Kernel("reduce.cu", kernel, F=formula, START=start)
