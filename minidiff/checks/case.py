"""What a case is: an operation at work on inputs where it is smooth, and what must come out.

Inputs are drawn so that every case is well-conditioned where it is: kinks, ties, poles and the end
of a function's domain are at least 0.1 away, far beyond any step of a difference.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..tensor import Tensor

# ----------------------------------------------------------------------------------------- inputs


Draw = Callable[[np.random.Generator], Any]


def normal(*shape: int) -> Draw:
    """Standard normal: for what is smooth everywhere."""
    return lambda rng: rng.standard_normal(shape)


def positive(*shape: int) -> Draw:
    """For log, sqrt, powers and divisors."""
    return lambda rng: rng.uniform(0.5, 2.0, shape)


def apart(*shape: int, offset: float = 0.1) -> Draw:
    """No two numbers closer than 0.25, none closer to 0 than 0.1: for max, abs, relu, clip."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        n = int(np.prod(shape))
        return (0.25 * rng.permutation(np.arange(n) - n // 2) + offset).reshape(shape)

    return draw


def between(*shape: int) -> Draw:
    """0.1 or more away from every number of `apart`: for choosing between two."""
    return apart(*shape, offset=0.225)


def exact(*shape: int) -> Draw:
    """Multiples of 1/32 that float32 holds exactly, also when moved by the step h = 1/1024."""
    return lambda rng: rng.integers(-32, 33, shape) / 32


# ------------------------------------------------------------------------------------------ cases


@dataclass(frozen=True)
class Case:
    """`ours(*tensors)` must equal `expected(*arrays)`, and `theirs(torch, *tensors)`.

    The name begins with the public name of the operation. h is gradcheck's step.
    """

    name: str
    ours: Callable[..., Tensor]
    draws: tuple[Draw, ...]
    expected: Callable[..., Any]
    theirs: Callable[..., Any] | None = None
    h: float = 1e-5

    @property
    def operation(self) -> str:
        return self.name.split(",")[0]

    def inputs(self, dtype: Any = np.float64) -> list[np.ndarray]:
        """The same arrays at every call: the draws are seeded by the name."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [np.array(draw(rng), dtype) for draw in self.draws]


CASES: list[Case] = []


def case(
    name: str, ours: Callable[..., Tensor], draws: Sequence[Draw], expected: Callable[..., Any],
    theirs: Callable[..., Any] | None = None, **options: Any,
) -> None:  # fmt: skip
    """Add a case to the table."""
    CASES.append(Case(name, ours, tuple(draws), expected, theirs, **options))


def textbook(op: Any, *constants: Any, **options: Any) -> Callable[..., Any]:
    """The expected value from an operation's own reference, which is made of primitives."""
    return lambda *arrays: op.reference(*map(Tensor, arrays), *constants, **options).data
