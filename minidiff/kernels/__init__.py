"""The fast forms of the few operations that dominate, one module per kind of machine.

`of(x)` gives the module whose kernels work where the array lies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, array_module, asarray, astype, concat, is_bfloat16, to_numpy
from ..errors import BadInput
from . import cpu

__all__ = ["add", "array_module", "available", "cast", "erf", "functions", "join", "matmul", "of", "power", "special"]

_NUMPY = (np.ndarray, np.generic)


def available(x: Array) -> bool:
    """Whether there are kernels for arrays like x: on the GPU of float32 and bfloat16, on the CPU of all but bfloat16
    (unless its rounding is wanted there)."""
    if _for_gpu(x):
        return _short(x)
    return array_module(x) is np and (not is_bfloat16(x) or _for_rounding(x))


def _short(x: Array) -> bool:
    """Whether x holds what the GPU's kernels compute with."""
    return backend.dtype_of(x) == np.float32 or is_bfloat16(x)


def _for_gpu(x: Array) -> bool:
    """Whether arrays like x go to the GPU's kernels: CuPy's, and NumPy's while these are emulated."""
    if isinstance(x, _NUMPY):                                    # first: it is asked before every operation
        return backend.get_kernels() == "emulated"
    return array_module(x).__name__ == "cupy"


def _for_rounding(x: Array) -> bool:
    """Whether x goes to the CPU's kernels that round as the GPU's do."""
    return array_module(x) is np and backend.get_kernels() == "rounded" and _short(x)


def of(x: Array) -> ModuleType:
    """The kernels for the device of `x`. Raises BadInput where there are none."""
    if not available(x):
        raise BadInput(f"there are no kernels for arrays of {backend.dtype_of(x)} of {array_module(x).__name__}")
    if _for_gpu(x):
        return _cuda()
    if _for_rounding(x):
        return _rounded()
    return _compiled() if backend.get_kernels() == "numba" else cpu


def taken(op: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """The tensors that an operation is given: float32 in place of bfloat16 where it does not take that.

    Array libraries know bfloat16 in part only (CuPy cannot add it), and sums in 8 bits of mantissa would be wrong
    anyway. So what is no matter of moving numbers, and has no kernel, computes in float32, and gives float32.
    """
    takes = op.takes_bfloat16
    if takes == "kernel":
        takes = available(inputs[0].data)
    elif callable(takes):
        takes = takes(*(x.data for x in inputs))
    return inputs if takes else [x.astype(np.float32) if is_bfloat16(x.data) else x for x in inputs]


def special(name: str, *arrays: Array) -> Callable[..., Any] | None:
    """The kernel of that name where only some devices have one and it takes all of these arrays, else None."""
    if _for_gpu(arrays[0]):
        module = _cuda()
    elif _for_rounding(arrays[0]):
        module = _rounded()
    else:
        return None                                              # the CPU's have what every operation has, and no more
    return getattr(module, name, None) if all(map(_short, arrays)) else None


def functions(x: Array) -> Any:
    """The functions for arrays like x, by their names in the array API standard: `functions(x).exp(x)`.

    The array library's, or for float32 numbers on the GPU ours, where there is a kernel and it takes the arguments.
    """
    if not _for_gpu(x):
        return np if isinstance(x, _NUMPY) else array_module(x)
    return _cuda().functions(array_module(x)) if backend.dtype_of(x) == np.float32 else array_module(x)


@functools.cache
def _cuda() -> ModuleType:
    """The kernels written in CUDA, imported when first used."""
    from . import cuda

    return cuda


@functools.cache
def _rounded() -> ModuleType:
    """The CPU's kernels with the GPU's roundings, imported when first used."""
    from . import rounded

    return rounded


@functools.cache
def _compiled() -> ModuleType:
    """The kernels compiled by Numba, imported when first used because that takes half a second."""
    from . import numba

    return numba


def erf(x: Array) -> Array:
    """The error function, which array libraries leave to others: SciPy's, or CuPy's copy of it."""
    if kernel := special("erf", x):
        return kernel(x)
    if array_module(x).__name__ == "cupy":
        from cupyx.scipy.special import erf as on_gpu

        return on_gpu(x)
    return cpu.erf(x) if available(x) else asarray(cpu.erf(to_numpy(x)), like=x)


# What follows are operations that every array library has; a kernel takes their place where the library's own does not
# know bfloat16, would bring the numbers into another order in memory, or calls what a CUDA graph cannot hold.


def matmul(a: Array, b: Array) -> Array:
    """a @ b"""
    kernel = special("matmul", a, b)
    return a @ b if kernel is None else kernel(a, b)


def add(a: Array, b: Array) -> Array:
    """a + b; of bfloat16 numbers bfloat16, of those and float32 float32."""
    kernel = special("add", a, b) if a.shape == b.shape else None
    if kernel is not None:
        return kernel(a, b)
    if not (is_bfloat16(a) or is_bfloat16(b)):
        return functions(a).add(a, b)
    y = cast(a, np.float32) + cast(b, np.float32)
    return cast(y, a.dtype) if a.dtype == b.dtype else y


def power(x: Array, p: Array | float) -> Array:
    """xᵖ; the libraries' operator knows shorter ways for some numbers p (x · x for 2) that their function does not."""
    fn = functions(x)
    return x**p if fn is array_module(x) else fn.pow(x, p)


def cast(x: Array, dtype: Any) -> Array:
    """x in another dtype; itself if it has it already."""
    kernel, dtype = special("cast", x), backend.named_dtype(dtype)
    between = dtype == np.float32 or dtype.name == "bfloat16"
    return astype(x, dtype) if kernel is None or not between else kernel(x, dtype)


def join(xs: Sequence[Array], axis: int) -> Array:
    """Arrays joined along an axis; images that lie channels last, along their channels, by a kernel."""
    kernel = special("join", *xs) if axis == 1 and xs[0].ndim == 4 and len({x.dtype for x in xs}) == 1 else None
    return concat(xs, axis) if kernel is None else kernel(xs)
