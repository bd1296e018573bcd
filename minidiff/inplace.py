"""Which arrays were written to in place, and when: backward must not meet other numbers than forward did.

The engine counts the time in operations. A write is noted with the array that owns the memory, so that
it is also seen by the operations that kept a view of it (the transpose of a weight, a slice); an
operation that is older than the last write to what it kept refuses to run backward.

All that this library writes to is noted: `x[index] = numbers`, an optimizer's step, `load_state_dict`, the
running statistics of a normalisation.
What nobody can see is a write straight into an array (`x.data[...] = 0`, or into the NumPy array that
`tensor` shares): there, forward and backward must be left alone by whoever does it, and
`detect_anomaly`, which compares the numbers themselves, finds who does not.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

from .backend import Array, is_array

clock = itertools.count(1)  # the time: operations and writes, in the order in which they happened
_writes: dict[int, tuple[weakref.ref[Any], int]] = {}  # id of an owner -> the owner, while it lives, and the time


def written(array: Array) -> None:
    """Note that `array` has just been given other numbers in place."""
    memory = owner(array)
    key = id(memory)
    alive = _writes[key][0] if key in _writes else weakref.ref(memory, lambda _: _writes.pop(key, None))
    _writes[key] = alive, next(clock)


def last_write(array: Array) -> int:
    """When the memory of `array` was last written to; 0 if it never was."""
    return _writes.get(id(owner(array)), (None, 0))[1] if _writes else 0


def owner(array: Array) -> Array:
    """The array that owns the memory which `array` is a view of."""
    while (base := getattr(array, "base", None)) is not None:
        base = base if is_array(base) else getattr(base, "base", None)  # as_strided puts an object in between
        if not is_array(base):
            break
        array = base
    return array
