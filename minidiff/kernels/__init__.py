"""The fast forms of the few operations that dominate, one module per kind of machine.

`of(x)` gives the module whose kernels work where the array lies.
"""

from __future__ import annotations

from types import ModuleType

from ..backend import Array, array_module
from ..errors import BadInput
from . import cpu
from .cpu import erf

__all__ = ["array_module", "erf", "of"]


def of(x: Array) -> ModuleType:
    """The kernels for the device of `x`."""
    if array_module(x) is cpu.np:
        return cpu
    raise BadInput("convolution and normalisation have no kernels for this device yet; use cpu")
