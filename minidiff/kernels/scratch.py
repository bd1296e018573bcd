"""Working memory that a thread uses again and again.

An array of some megabytes is given back to the system when it is freed, and the next one comes page
by page, each filled with zeros first. For the working arrays of a convolution that took longer than
the convolution. So each thread keeps one piece of memory, as large as the largest need so far, and
every kernel carves its working arrays from it.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
_mine = threading.local()


def scratch(dtype: Any, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Arrays of these shapes, with whatever numbers the last user left in them.

    They are the caller's until the same thread asks again.
    """
    itemsize = np.dtype(dtype).itemsize
    sizes = [-(-math.prod(shape) * itemsize // ALIGNMENT) * ALIGNMENT for shape in shapes]
    memory = getattr(_mine, "memory", None)
    if memory is None or memory.size < sum(sizes):
        _mine.memory = memory = np.empty(sum(sizes), np.uint8)
    arrays, at = [], 0
    for shape, size in zip(shapes, sizes, strict=True):
        arrays.append(memory[at : at + math.prod(shape) * itemsize].view(dtype).reshape(shape))
        at += size
    return arrays
