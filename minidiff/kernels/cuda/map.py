"""Functions of the numbers at one place on the GPU; see map.cu."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend import Array, array_module, is_array
from .elementwise import THREADS, V, blocks
from .layout import address, beside, contiguous, empty, memory_order
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

Operand = Array | float | None


def apply(name: str, *operands: Array | float) -> Array:
    """A function of FORMULAS of float32 arrays and numbers, which broadcast against each other.

    The result lies in memory as the first operand of its shape does.
    """
    a, b, c = (*operands[1:], operands[0]) if name == "where" else (*operands, None, None)[:3]
    arrays = [x for x in (a, b, c) if is_array(x)]
    y = _result(np.broadcast_shapes(*(x.shape for x in arrays)), bool if name in TRUE_OR_FALSE else np.float32, arrays)
    size, steps = _merged(y, (a, b, c))
    if len(size) > MOST:                                         # no operand is left that lies as another: make them so
        whole = [contiguous(array_module(x).broadcast_to(x, y.shape)) if is_array(x) else x for x in (a, b, c)]
        return apply(name, *([whole[2], *whole[:2]] if name == "where" else whole[: len(operands)]))
    addresses = [x if is_array(x) else None for x in (a, b, c)]
    numbers = [0.0 if x is None or is_array(x) else float(x) for x in (a, b)]
    if len(size) == 1 and _in_eights(addresses, steps):
        first_steps = [step[0] for step in steps]
        _kernel("dense", name)(blocks(y.size), THREADS, *addresses, y, y.size, *first_steps, *numbers)
    else:
        _kernel("strided", name)(-(-y.size // THREADS), THREADS, *addresses, y, y.size, _walk(size, steps), *numbers)
    return y


def _result(shape: tuple[int, ...], dtype: Any, arrays: Sequence[Array]) -> Array:
    """Memory for the result, without gaps: its axes in the order of the first array that has its shape and repeats nothing."""
    for x in arrays:
        if x.shape == shape and all(step or n == 1 for n, step in zip(shape, x.strides, strict=True)):
            return beside(x, dtype)
    return empty(shape, dtype, arrays[0])


def _merged(y: Array, operands: Sequence[Operand]) -> tuple[list[int], list[list[int]]]:
    """Sizes of the axes of y, in the order in which they lie in memory, and the steps of each operand along them.

    Two axes that all operands walk like one are made one, and an axis of length 1 is none. At least one is left.
    """
    all_steps = [_steps(x, y) for x in operands]
    size, steps = [1], [[0] for _ in operands]
    for i in (i for i in memory_order(y) if y.shape[i] != 1):
        n, here = y.shape[i], [step[i] for step in all_steps]
        if all(before[-1] == step * n for before, step in zip(steps, here, strict=True)) or size == [1]:
            size[-1] *= n
            for before, step in zip(steps, here, strict=True):
                before[-1] = step
        else:
            size.append(n)
            for before, step in zip(steps, here, strict=True):
                before.append(step)
    return size, steps


def _steps(x: Operand, y: Array) -> list[int]:
    """How far an operand moves, in numbers, where y moves one place along each of its axes."""
    if not is_array(x):
        return [0] * y.ndim
    own = [0 if n == 1 else step // x.itemsize for n, step in zip(x.shape, x.strides, strict=True)]
    return [0] * (y.ndim - x.ndim) + own


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
