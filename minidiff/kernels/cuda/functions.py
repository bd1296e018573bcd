"""The functions of an array library, with kernels in place of those that there is one for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ...backend import is_array
from .map import FORMULAS, apply
from .reduce import REDUCTIONS, reduce

MOST = 2**31 - 2**12                                             # numbers that a kernel counts through, and a block more


class Functions:
    """`Functions(cupy).exp(x)` is our kernel where x is an array of float32 numbers, and CuPy's own function elsewhere."""

    def __init__(self, library: Any) -> None:
        self.library = library

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.library, name)
        if name in FORMULAS:
            function = self._map(name, function)
        elif name in REDUCTIONS:
            function = self._reduction(name, function)
        setattr(self, name, function)                            # the next time it is found at once
        return function

    def _map(self, name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        """A function of float32 arrays and numbers; the first argument of `where` is an array of booleans."""
        conditions = 1 if name == "where" else 0

        @functools.wraps(own)
        def function(*args: Any, **options: Any) -> Any:
            numbers = args[conditions:]
            fits = all(self._is(np.float32, x) or type(x) in (int, float) for x in numbers) and any(map(is_array, numbers))
            if fits and not options and all(self._is(np.bool_, x) for x in args[:conditions]):
                return apply(name, *args)
            return own(*args, **options)

        return function

    def _reduction(self, name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        """A reduction of a float32 array with something in it."""

        @functools.wraps(own)
        def function(x: Any, **options: Any) -> Any:
            fits = self._is(np.float32, x) and x.size and options.keys() <= {"axis", "keepdims"}
            return (functools.partial(reduce, name) if fits else own)(x, **options)

        return function

    def _is(self, dtype: Any, x: Any) -> bool:
        """Whether x is an array of the library that a kernel can walk through."""
        if not isinstance(x, self.library.ndarray) or x.dtype != dtype or x.size >= MOST:
            return False
        return not any(step % x.itemsize for step in x.strides)


@functools.cache
def functions(library: Any) -> Functions:
    """The functions for arrays of this library, NumPy or CuPy."""
    return Functions(library)
