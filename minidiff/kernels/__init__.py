"""The fast forms of the few operations that dominate, one module per kind of machine.

`of(x)` gives the module whose kernels work where the array lies.
"""

from __future__ import annotations

import functools
from types import ModuleType

from .. import backend
from ..backend import Array, array_module, asarray, to_numpy
from ..errors import BadInput
from . import cpu

__all__ = ["array_module", "available", "erf", "of"]


def available(x: Array) -> bool:
    """Whether there are kernels for arrays like x."""
    return array_module(x) is cpu.np


def of(x: Array) -> ModuleType:
    """The kernels for the device of `x`. Raises BadInput where there are none."""
    if available(x):
        return _compiled() if backend.get_kernels() == "numba" else cpu
    raise BadInput(f"there are no kernels for arrays of {array_module(x).__name__}")


@functools.cache
def _compiled() -> ModuleType:
    """The kernels compiled by Numba, imported when first used because that takes half a second."""
    from . import numba

    return numba


def erf(x: Array) -> Array:
    """The error function, which array libraries leave to others: SciPy's, or CuPy's copy of it."""
    if array_module(x).__name__ == "cupy":
        from cupyx.scipy.special import erf as on_gpu

        return on_gpu(x)
    return cpu.erf(x) if available(x) else asarray(cpu.erf(to_numpy(x)), like=x)
