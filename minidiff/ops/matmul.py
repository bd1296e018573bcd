"""The product of matrices, and of anything else with indices."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..autograd import Op
from ..backend import Array, quiet_blas
from ..errors import BadInput
from ..tensor import Tensor
from .elementwise import as_tensor, mul, to_one_kind
from .reduce import sum
from .shape import getitem, reshape, squeeze, swapaxes, transpose


class MatMul(Op):
    """y = a b            ga = gy bᵀ,   gb = aᵀ gy            # (…,M,K) (…,K,N) -> (…,M,N)

    The shapes leave no other choice: gy is (M,N), and only gy bᵀ has the shape (M,K) of a.
    """

    takes_bfloat16 = "kernel"

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        quiet_blas()
        return kernels.matmul(a, b)

    def backward(self, gy: Tensor) -> Any:
        a, b = self.saved
        ga = MatMul()(gy, swapaxes(b, -1, -2)) if self.needs[0] else None
        gb = MatMul()(swapaxes(a, -1, -2), gy) if self.needs[1] else None
        return ga, gb


def matmul(a: Any, b: Any) -> Tensor:
    """a @ b with NumPy's meaning: vectors are rows on the left, columns on the right; leading dimensions broadcast."""
    a = as_tensor(a, b if isinstance(b, Tensor) else None)
    a, b = to_one_kind(a, as_tensor(b, a))
    if a.ndim == 0 or b.ndim == 0:
        raise BadInput(f"matmul: a single number has no rows or columns (shapes {a.shape} and {b.shape})")
    rows = a.unsqueeze(0) if a.ndim == 1 else a
    columns = b.unsqueeze(1) if b.ndim == 1 else b
    try:
        np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        fits = rows.shape[-1] == columns.shape[-2]
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"matmul: shapes {a.shape} and {b.shape} do not fit")
    *batch, m, k = rows.shape
    if batch and columns.ndim == 2:  # all rows of the batch are multiplied by one matrix: one large product
        y = reshape(MatMul()(reshape(rows, (math.prod(batch) * m, k)), columns), (*batch, m, columns.shape[1]))
    else:
        y = MatMul()(rows, columns)
    if b.ndim == 1:
        y = squeeze(y, -1)
    return squeeze(y, -1 if b.ndim == 1 else -2) if a.ndim == 1 else y


# ----------------------------------------------------------------------------------------- einsum

# An operand on the way: a tensor, and a label for each of its axes.
_Labelled = tuple[Tensor, tuple[str, ...]]


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Products of elements, summed over the indices that the output does not name (Einstein's convention).

        einsum("ij,jk->ik", a, b)       matrix product            einsum("ii->i", a)     diagonal
        einsum("bhqd,bhkd->bhqk", q, k)  scores of attention      einsum("...i->...", a)  sums of the last axis

    Without "->" the output has the letters that occur once, in alphabetical order, after the
    dimensions of "...", which broadcast. Spaces count for nothing.

    Each operand is brought to a tensor with one axis per letter; then two are multiplied at a time,
    in the order that `numpy.einsum_path` finds cheapest, by transposing them so that what they
    share and what is summed stand where `matmul` wants them. So the gradients, of any order, are
    those of matmul, transpose, reshape and sum.
    """
    tensors = to_one_kind(*(as_tensor(x) for x in operands))
    inputs, output = _parse(subscripts, tensors)
    sizes = _sizes(subscripts, tensors, inputs)
    for label in output:
        if label not in sizes:
            raise BadInput(f"einsum: {subscripts!r}: the output names {label!r}, which no operand has")
    terms = [_distinct_axes(x, labels, sizes) for x, labels in zip(tensors, inputs, strict=True)]
    for chosen in _order(terms, output, sizes):
        picked = [terms[i] for i in chosen]
        terms = [term for i, term in enumerate(terms) if i not in chosen]
        y = picked[0]
        for i, term in enumerate(picked[1:], 1):
            later = {label for _, labels in (*picked[i + 1 :], *terms) for label in labels}
            y = _multiply(y, term, later | set(output), sizes)
        terms.append(y)
    ((y, labels),) = terms
    y, labels = _sum_over(y, labels, set(output))
    return transpose(y, [labels.index(label) for label in output])


def _parse(subscripts: str, tensors: Sequence[Tensor]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The labels of each operand's axes, and of the output's. The dimensions of "..." are called "…1", "…2" from the right."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(tensors):
        raise BadInput(f"einsum: {subscripts!r} is for {len(parts)} operands, got {len(tensors)}")
    inputs = [_labels(subscripts, part, x.ndim, x) for part, x in zip(parts, tensors, strict=True)]
    dots = sorted({label for labels in inputs for label in labels if len(label) > 1}, key=lambda dot: -int(dot[1:]))
    if arrow:
        letters = right.replace("...", "")
        output = _labels(subscripts, right, len(letters) + ("..." in right) * len(dots), None)
        if len(set(output)) < len(output):
            raise BadInput(f"einsum: {subscripts!r}: the output names an index twice")
        return inputs, output
    used = [label for labels in inputs for label in labels if len(label) == 1]
    return inputs, (*dots, *sorted(label for label in set(used) if used.count(label) == 1))


def _labels(subscripts: str, part: str, ndim: int, x: Tensor | None) -> tuple[str, ...]:
    before, dots, after = part.partition("...")
    if not all(label in string.ascii_letters for label in before + after):
        raise BadInput(f"einsum: {subscripts!r}: {part!r} must be letters, with at most one '...'")
    hidden = ndim - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        found = "" if x is None else f", its operand {x.ndim} dimensions {x.shape}"
        raise BadInput(f"einsum: {subscripts!r}: {part!r} names {len(before) + len(after)} axes{found}")
    return (*before, *(f"…{i}" for i in range(hidden, 0, -1)), *after)


def _sizes(subscripts: str, tensors: Sequence[Tensor], inputs: Sequence[tuple[str, ...]]) -> dict[str, int]:
    """The length of every index; 1 broadcasts."""
    sizes: dict[str, int] = {}
    for x, labels in zip(tensors, inputs, strict=True):
        own: dict[str, int] = {}
        for label, n in zip(labels, x.shape, strict=True):
            before, known = own.setdefault(label, n), sizes.setdefault(label, n)
            if before != n or (known != n and 1 not in (known, n)):
                other = before if before != n else known
                raise BadInput(f"einsum: {subscripts!r}: index {label!r} has length {other} and {n}")
            sizes[label] = n if known == 1 else known
    return sizes


def _distinct_axes(x: Tensor, labels: tuple[str, ...], sizes: dict[str, int]) -> _Labelled:
    """x with one axis per label: diagonals taken, axes of length 1 that broadcast left out."""
    for i in reversed([i for i, label in enumerate(labels) if x.shape[i] == 1 != sizes[label]]):
        x, labels = squeeze(x, i), (*labels[:i], *labels[i + 1 :])
    distinct = tuple(dict.fromkeys(labels))
    if len(distinct) < len(labels):
        places = np.ix_(*(np.arange(sizes[label]) for label in distinct))
        x = getitem(x, tuple(places[distinct.index(label)] for label in labels))
    return x, distinct


def _order(terms: Sequence[_Labelled], output: tuple[str, ...], sizes: dict[str, int]) -> list[tuple[int, ...]]:
    """Which terms to multiply first; each product goes to the end of the list."""
    if len(terms) < 3:
        return [tuple(range(len(terms)))]
    letter = dict(zip(sizes, string.ascii_letters, strict=False))
    left = ",".join("".join(letter[label] for label in labels) for _, labels in terms)
    empty = [np.broadcast_to(np.empty(()), x.shape) for x, _ in terms]
    path, _ = np.einsum_path(f"{left}->{''.join(letter[label] for label in output)}", *empty, optimize="greedy")
    return path[1:]


def _sum_over(x: Tensor, labels: tuple[str, ...], keep: set[str]) -> _Labelled:
    """x summed over the axes whose labels nobody asks for any more."""
    gone = tuple(i for i, label in enumerate(labels) if label not in keep)
    return (sum(x, gone), tuple(label for label in labels if label in keep)) if gone else (x, labels)


def _multiply(a: _Labelled, b: _Labelled, keep: set[str], sizes: dict[str, int]) -> _Labelled:
    """The product of two terms, summed over what only they have and nobody else asks for.

    # (shared, rows, summed) (shared, summed, columns) -> (shared, rows, columns)
    """
    (x, left), (y, right) = _sum_over(*a, keep | set(b[1])), _sum_over(*b, keep | set(a[1]))
    shared = tuple(label for label in left if label in right and label in keep)
    summed = tuple(label for label in left if label in right and label not in keep)
    rows = tuple(label for label in left if label not in right)
    columns = tuple(label for label in right if label not in left)

    def arranged(x: Tensor, labels: tuple[str, ...], *groups: tuple[str, ...]) -> Tensor:
        x = transpose(x, [labels.index(label) for group in groups for label in group])
        shape = [sizes[label] for label in shared]
        return reshape(x, (*shape, *(math.prod(sizes[label] for label in group) for group in groups[1:])))

    product = mul if not summed else matmul
    z = product(arranged(x, left, shared, rows, summed), arranged(y, right, shared, summed, columns))
    labels = (*shared, *rows, *columns)
    return reshape(z, tuple(sizes[label] for label in labels)), labels
