"""Random numbers that are a function of where they are used, the same on every device.

A generator with a state gives the next number to whoever asks next: what a sample gets then depends on how many others
asked before. Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") has no state: it is a
block cipher that turns a counter into four random words under a key,

    words = philox(key, counter)

so the number for row i of step s is there for the asking, in any order, on any device, in any batch. Here:

    key       (seed mod 2³², seed div 2³²)
    counter   (block j, row i, step, stream)      four words of 32 bits

Element e of row i comes from word e mod 4 of block e div 4. `stream` numbers the things that are drawn in one step.
From a word w, with as many of its bits as a float32 holds:

    uniform   u = (w >> 8) 2⁻²⁴                                        in [0,1)
    integer   low + (w (high − low)) >> 32                             each as likely as the others, to (high − low) 2⁻³²
    normal    r = √(−2 ln u₁),  θ = 2π u₂:   r cos θ and r sin θ       from two words (Box & Muller 1958), u₁ in (0,1]

The GPU's twin is `kernels/cuda/noise.cu`. Words, uniforms and integers are equal bit by bit; normals to rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import backend, kernels
from .backend import Array
from .errors import BadInput

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57          # the cipher's constants, from the paper's section 3.1
WEYL = 0x9E3779B9, 0xBB67AE85                 # what is added to the key in each round: the golden ratio, and √3 − 1
ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """The four words for counters (arrays of uint32 that broadcast) under a key of two words.

    In each round the counter's words 0 and 2 are multiplied by constants; the products' upper halves are mixed with
    the other words and the key, the lower halves become the other words.
    """
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = np.uint64(MULTIPLIERS[0]) * c0, np.uint64(MULTIPLIERS[1]) * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ np.uint64(k0), p1 & _LOW, (p0 >> 32) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def key_of(seed: int) -> tuple[int, int]:
    """The cipher's key for a seed of up to 64 bits. Raises BadInput for another."""
    if int(seed) != seed or not 0 <= seed < 1 << 64:
        raise BadInput(f"the seed must be a whole number from 0 to 2**64 - 1, got {seed}")
    return int(seed) & 0xFFFFFFFF, int(seed) >> 32


def words(seed: int, rows: Any, size: int, step: int = 0, stream: int = 0) -> np.ndarray:
    """The random words of some rows.            # (R,) -> (R,size) uint32"""
    blocks = -(-size // 4)
    j, i = np.arange(blocks, dtype=np.uint64), np.asarray(rows, np.uint64)[:, None]
    four = philox((j, i, np.uint64(step), np.uint64(stream)), key_of(seed))
    return np.stack([np.broadcast_to(w, (len(i), blocks)) for w in four], axis=-1).reshape(len(i), 4 * blocks)[:, :size].astype(np.uint32)


def uniform(seed: int, rows: Any, size: int, step: int = 0, stream: int = 0) -> np.ndarray:
    """Numbers from [0,1).            # (R,) -> (R,size) float32"""
    return _unit(words(seed, rows, size, step, stream))


def integers(seed: int, rows: Any, low: int, high: int, step: int = 0, stream: int = 0) -> np.ndarray:
    """A whole number from low … high − 1 for each row.            # (R,) -> (R,) int64"""
    w = words(seed, rows, 1, step, stream)[:, 0].astype(np.uint64)
    return low + ((w * np.uint64(high - low)) >> np.uint64(32)).astype(np.int64)


def normal(seed: int, rows: Any, size: int, step: int = 0, stream: int = 0) -> np.ndarray:
    """Standard normal numbers.            # (R,) -> (R,size) float32"""
    even = words(seed, rows, size + size % 2, step, stream)
    u1 = ((even[:, 0::2] >> 8) + np.uint32(1)).astype(np.float32) * np.float32(2.0**-24)
    r = np.sqrt(np.float32(-2.0) * np.log(u1))
    theta = _unit(even[:, 1::2]) * np.float32(2.0 * math.pi)
    z = np.empty(even.shape, np.float32)
    np.multiply(r, np.cos(theta), out=z[:, 0::2])
    np.multiply(r, np.sin(theta), out=z[:, 1::2])
    return z[:, :size]


def _unit(w: np.ndarray) -> np.ndarray:
    return (w >> 8).astype(np.float32) * np.float32(2.0**-24)


class Rng:
    """The random numbers of one step, with the methods of numpy.random.Generator that this library's training uses.

    seed, step   what they are a function of; and the number of the call: each draws from the next stream
    first_row    the row of the first sample: a process that trains on samples 32 … 63 of a batch begins at 32
    like         an array: numbers come as arrays of its library, on its device
    stream       that of the first call
    """

    def __init__(self, seed: int, step: int = 0, first_row: int = 0, like: Array | None = None, stream: int = 0) -> None:
        key_of(seed)                                             # refuses here what cannot be a seed
        self.seed, self.step, self.first_row = seed, step, first_row
        self.like = np.empty(0) if like is None else like
        self.stream = stream

    def integers(self, low: int, high: int, n: int) -> Array:
        """n whole numbers from low … high − 1, int64."""
        return self._draw("integers", n, 1, low, high)

    def random(self, n: int) -> Array:
        """n numbers from [0,1), float32."""
        return self._draw("uniform", n, 1)[:, 0]

    def standard_normal(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
        """Standard normal numbers (N,…): row i of them is the same for any N."""
        z = self._draw("normal", shape[0], math.prod(shape[1:]))
        return backend.astype(z.reshape(shape), dtype)

    def _draw(self, what: str, n: int, size: int, *bounds: int) -> Array:
        stream, self.stream = self.stream, self.stream + 1
        if kernel := kernels.special(f"philox_{what}", backend.full((1,), 0.0, like=self.like, dtype=np.float32)):
            return kernel(self.seed, self.first_row, n, size, self.step, stream, self.like, *bounds)
        rows = self.first_row + np.arange(n)
        if what == "integers":
            return backend.asarray(integers(self.seed, rows, *bounds, self.step, stream), like=self.like)
        draw = {"uniform": uniform, "normal": normal}[what]
        return backend.asarray(draw(self.seed, rows, size, self.step, stream), like=self.like)
