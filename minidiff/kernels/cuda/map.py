"""Functions of the numbers at one place on the GPU; see map.cu."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend import Array, array_module, is_array
from .elementwise import THREADS, V, blocks
from .layout import address, beside, contiguous, empty
from .runtime import Kernel, Value

# Each function by NumPy's name, where NumPy has it, as CUDA computes it from the numbers a, b and the condition c.
# What is not a number stays so: the comparisons are written the way round that keeps it.
FORMULAS = {
    "negative": "-a", "abs": "fabsf(a)", "sign": "a > 0.f ? 1.f : a < 0.f ? -1.f : a",
    "square": "a * a", "reciprocal": "1.f / a", "sqrt": "sqrtf(a)", "rsqrt": "1.f / sqrtf(a)",
    "exp": "expf(a)", "expm1": "expm1f(a)", "log": "logf(a)", "log1p": "log1pf(a)",
    "sin": "sine(a)", "cos": "cosine(a)", "tan": "tangent(a)", "atan": "atanf(a)",
    "sinh": "sinhf(a)", "cosh": "coshf(a)", "tanh": "tanhf(a)", "erf": "erff(a)",
    "sigmoid": "(a < 0.f ? expf(a) : 1.f) / (1.f + expf(-fabsf(a)))",
    "softplus": "(a < 0.f ? 0.f : a) + log1pf(expf(-b * fabsf(a))) / b", "leaky_relu": "a > 0.f ? a : b * a",
    "add": "a + b", "subtract": "a - b", "multiply": "a * b", "divide": "a / b", "pow": "powf(a, b)",
    "maximum": "a > b || a != a ? a : b", "minimum": "a < b || a != a ? a : b",
    "equal": "a == b", "not_equal": "a != b", "less": "a < b", "less_equal": "a <= b", "greater": "a > b",
    "greater_equal": "a >= b", "isfinite": "fabsf(a) < __uint_as_float(0x7f800000)",
    "where": "c ? a : b",
}  # fmt: skip
TRUE_OR_FALSE = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isfinite"}

MOST = 6                                                         # axes of a walk, as in map.cu
WALK = np.dtype([("axes", np.int32), ("size", np.int32, MOST), ("step", np.int64, (3, MOST))], align=True)

Operand = Array | float | None                                   # None where the formula has no such letter


def apply(name: str, *operands: Array | float) -> Array:
    """A function of FORMULAS of float32 arrays and numbers, which broadcast against each other.

    The result lies in memory as the first operand does that has its shape.
    """
    if name == "where":
        c, a, b = operands
        return _launch(name, a, b, c)
    return _launch(name, *operands, *[None] * (3 - len(operands)))


def _launch(name: str, a: Operand, b: Operand, c: Operand) -> Array:
    arrays = [x if is_array(x) else None for x in (a, b, c)]
    y = _result([x for x in arrays if x is not None], bool if name in TRUE_OR_FALSE else np.float32)
    size, steps = _merged(y.shape, _steps(y, y), tuple(_steps(x, y) for x in arrays))
    if len(size) > MOST:                                         # too many lie each in its own way: let them lie alike
        return _launch(name, *(x if array is None else _whole(array, y.shape) for x, array in zip((a, b, c), arrays, strict=True)))
    numbers = [0.0 if x is None or is_array(x) else float(x) for x in (a, b)]
    if len(size) == 1 and _in_eights(arrays, steps):
        _kernel("dense", name)(blocks(y.size), THREADS, *arrays, y, y.size, *(step for (step,) in steps), *numbers)
    else:
        _kernel("strided", name)(-(-y.size // THREADS), THREADS, *arrays, y, y.size, _walk(size, steps), *numbers)
    return y


def _result(arrays: Sequence[Array], dtype: Any) -> Array:
    """Memory for the result, without gaps: its axes in the order of the first array that has its shape and repeats nothing."""
    shape = np.broadcast_shapes(*(x.shape for x in arrays))
    for x in arrays:
        if x.shape == shape and all(step or n == 1 for n, step in zip(shape, x.strides, strict=True)):
            return beside(x, dtype)
    return empty(shape, dtype, arrays[0])


def _whole(x: Array, shape: tuple[int, ...]) -> Array:
    return contiguous(array_module(x).broadcast_to(x, shape))


def _steps(x: Array | None, y: Array) -> tuple[int, ...]:
    """How far an operand moves, in numbers, where y moves one place along each of its axes."""
    if x is None:
        return (0,) * y.ndim
    own = [0 if n == 1 else step // x.itemsize for n, step in zip(x.shape, x.strides, strict=True)]
    return (*[0] * (y.ndim - x.ndim), *own)


@functools.lru_cache(maxsize=4096)
def _merged(
    shape: tuple[int, ...], own: tuple[int, ...], operands: tuple[tuple[int, ...], ...]
) -> tuple[list[int], list[list[int]]]:
    """The axes of a result as few as they can be: their sizes, and the steps of each operand along them.

    shape, own   of the result, and its own steps: the axes come in the order in which these shrink
    operands     their steps along the same axes

    Two axes that all operands walk like one are made one, and an axis of length 1 is none. At least one is left.
    """
    size, steps = [1], [[0] for _ in operands]
    for i in sorted((i for i, n in enumerate(shape) if n != 1), key=lambda i: -own[i]):
        n, here = shape[i], [step[i] for step in operands]
        if size != [1] and any(before[-1] != step * n for before, step in zip(steps, here, strict=True)):
            size.append(1)
            steps = [[*before, 0] for before in steps]
        size[-1] *= n
        steps = [[*before[:-1], step] for before, step in zip(steps, here, strict=True)]
    return size, steps


def _in_eights(arrays: Sequence[Array | None], steps: Sequence[Sequence[int]]) -> bool:
    """Whether each array along a single axis can be read 8 neighbours at a time, or is one number."""
    return all(x is None or step == [0] or (step == [1] and address(x) % min(16, V * x.itemsize) == 0)
               for x, step in zip(arrays, steps, strict=True))  # fmt: skip


def _walk(size: Sequence[int], steps: Sequence[Sequence[int]]) -> Value:
    walk = np.zeros((), WALK)
    walk["axes"], walk["size"][: len(size)] = len(size), size
    walk["step"][:, : len(size)] = steps
    return Value(walk)


@functools.cache
def _kernel(kernel: str, name: str) -> Kernel:
    return Kernel("map.cu", kernel, F=FORMULAS[name], Y="bool" if name in TRUE_OR_FALSE else "float")


atan, erf, leaky_relu, rsqrt, sigmoid, softplus = (
    functools.partial(apply, name) for name in ("atan", "erf", "leaky_relu", "rsqrt", "sigmoid", "softplus")
)
