"""The functions of an array library, with kernels in place of those that there is one for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ...backend import is_array
from .map import FORMULAS, apply
from .reduce import REDUCTIONS, reduce

MOST = 2**31                                                     # numbers that a kernel counts through


class Functions:
    """`Functions(cupy).exp(x)` is our kernel where x is an array of float32 numbers, and CuPy's own function elsewhere."""

    def __init__(self, library: Any) -> None:
        self.library = library

    def __getattr__(self, name: str) -> Any:
        own = getattr(self.library, name)
        if name in FORMULAS:
            function = self._choosing(functools.partial(apply, name), own, condition=name == "where")
        elif name in REDUCTIONS:
            function = self._choosing(functools.partial(reduce, name), own)
        else:
            return own
        setattr(self, name, function)                            # the next time it is found at once
        return function

    def _choosing(self, kernel: Callable[..., Any], own: Callable[..., Any], condition: bool = False) -> Callable[..., Any]:
        """A function that goes to the kernel where that takes the arguments; with `condition`, its first are booleans."""

        @functools.wraps(own)
        def function(*args: Any, **options: Any) -> Any:
            numbers = args[1:] if condition else args
            fits = all(map(self._takes, numbers)) and (not condition or self._takes(args[0], np.bool_))
            return kernel(*args, **options) if fits else own(*args, **options)

        return function

    def _takes(self, x: Any, dtype: Any = np.float32) -> bool:
        """Whether a kernel takes this argument: an array of the library, or a number."""
        if not is_array(x):
            return isinstance(x, int | float)
        whole_steps = not any(step % x.itemsize for step in x.strides)
        return isinstance(x, self.library.ndarray) and x.dtype == dtype and x.size < MOST and whole_steps


@functools.cache
def functions(library: Any) -> Functions:
    """The functions for arrays of this library, NumPy or CuPy."""
    return Functions(library)
