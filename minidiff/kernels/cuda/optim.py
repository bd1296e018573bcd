"""Adam, averages of weights and the norm of gradients on the GPU, for many arrays at a time; see optim.cu."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from ...backend import Array
from .layout import address, contiguous, empty
from .runtime import Kernel, Value

COUNT, PER, THREADS = 48, 4096, 256                              # as in optim.cu
TABLE = np.dtype([("array", np.uint64, (4, COUNT)), ("size", np.int32, COUNT), ("end", np.int32, COUNT)])


def adam(
    ps: Sequence[Array], gs: Sequence[Array], ms: Sequence[Array], vs: Sequence[Array], betas: tuple[float, float],
    step: float = 0.0, eps: float = 0.0, decay: float = 1.0, scale: Array | None = None, numbers: Array | None = None,
) -> None:  # fmt: skip
    """Move parameters, in place, by one step of Adam; `scale`, a float32 array of one number, multiplies the gradients.

    All arrays are float32. step and eps are α_t and ε_t of `optim.adam`, decay is 1 − α λ; or these three are `numbers`,
    a float32 array, and so may change from one replay of a CUDA graph to the next.
    """
    gs = [contiguous(g) for g in gs]
    for table, blocks in _tables(ps, gs, ms, vs):
        _kernel("adam")(blocks, THREADS, table, scale, numbers, *map(float, (*betas, step, eps, decay)))


def average(averages: Sequence[Array], ps: Sequence[Array], rate: float | Array) -> None:
    """a ← a + rate (θ − a), in place, for float32 arrays; the rate may be a float32 array of one number."""
    in_memory = hasattr(rate, "shape")
    for table, blocks in _tables(averages, ps):
        _kernel("average")(blocks, THREADS, table, rate if in_memory else None, 0.0 if in_memory else float(rate))


def gradient_norm(gs: Sequence[Array], most: float) -> Array:
    """√Σ g² of float32 arrays, and the factor that brings it down to `most`: a float32 array (2,)."""
    gs = [contiguous(g) for g in gs]
    tables = list(_tables(gs))
    partial, result = empty((sum(blocks for _, blocks in tables),), np.float64, gs[0]), empty((2,), np.float32, gs[0])
    first = 0
    for table, blocks in tables:
        _kernel("squares")(blocks, THREADS, table, partial, first, shared=4 * 33)
        first += blocks
    _kernel("gradient_norm")(1, 32, partial, result, first, float(min(most, 3e38)))
    return result


def _tables(*roles: Sequence[Array]) -> Iterator[tuple[Value, int]]:
    """The arrays of each role in tables of at most COUNT, each with its number of blocks."""
    for start in range(0, len(roles[0]), COUNT):
        chosen = [role[start : start + COUNT] for role in roles]
        table = np.zeros((), TABLE)
        for row, arrays in enumerate(chosen):
            table["array"][row, : len(arrays)] = [address(a) for a in arrays]
        sizes = np.array([a.size for a in chosen[0]])
        table["size"][: len(sizes)] = sizes
        table["end"][: len(sizes)] = ends = np.cumsum(-(-sizes // PER))
        yield Value(table, tuple(a for arrays in chosen for a in arrays)), int(ends[-1])


@functools.cache
def _kernel(name: str) -> Kernel:
    return Kernel("optim.cu", name)
