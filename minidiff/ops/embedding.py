"""Numbers that name things, as vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, kernels
from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor
from .elementwise import where
from .shape import GetItem, Put, own_index


class Embedding(GetItem):
    """y = the rows of w that the index names            gw = gy added to the rows it came from (see `AddRows`)

    # (K,D) -> (…,D)
    """

    def forward(self, w: Array) -> Array:
        kernel = kernels.special("rows", w)
        if kernel is None:
            return super().forward(w)
        self.shape = w.shape
        return kernel(w, self.index)

    def backward(self, gy: Tensor) -> Tensor:
        return AddRows(index=self.index, shape=self.shape)(gy)


class AddRows(Put):
    """y = a table of zeros, with the rows of x added where the index names them            gx = gy's rows (see `Embedding`)

    # (…,D) -> (K,D)
    """

    def forward(self, x: Array) -> Array:
        kernel = kernels.special("add_rows", x)
        return super().forward(x) if kernel is None else kernel(x, self.index, self.shape[0])

    def backward(self, gy: Tensor) -> Tensor:
        return Embedding(index=self.index)(gy)


def one_hot(labels: Any, num_classes: int, dtype: Any = np.float32) -> Tensor:
    """1 at the label, 0 elsewhere; label −1 is "no class" and gives zeros only.            # (…) -> (…,K)"""
    labels = _whole_numbers("one_hot", labels, -1, num_classes)
    xp = array_module(labels)
    classes = xp.arange(num_classes)
    return Tensor(backend.astype(xp.expand_dims(labels, axis=-1) == classes, dtype))


def embedding(indices: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of `weight` that `indices` name.            # (…) (K,D) -> (…,D)

    The row padding_idx (negative: from the end) stands for "nothing here" and is given no gradient.
    """
    if weight.ndim != 2:
        raise BadInput(f"embedding: weight must be (rows, dimensions), got shape {weight.shape}")
    k = weight.shape[0]
    indices = _whole_numbers("embedding", indices, 0, k)
    rows = Embedding(index=own_index(indices, weight.data, keep=weight.requires_grad))(weight)
    if padding_idx is None:
        return rows
    if not -k <= padding_idx < k:
        raise BadInput(f"embedding: padding_idx must lie in {-k} … {k - 1}, got {padding_idx}")
    nothing = array_module(indices).expand_dims(indices == padding_idx % k, axis=-1)
    return where(backend.asarray(nothing, like=weight.data), rows.detach(), rows)


def _whole_numbers(name: str, indices: Any, low: int, high: int) -> Array:
    """Indices as an array, of whichever library they are; all must be from low to high − 1."""
    given, indices = indices, indices.data if isinstance(indices, Tensor) else indices
    indices = backend.array_of(indices)
    if isinstance(given, list | tuple) and not indices.size:
        indices = indices.astype(np.int64)                       # NumPy makes float64 of an empty list
    xp, dtype = array_module(indices), backend.dtype_of(indices)
    if dtype.kind not in "iu":
        raise BadInput(f"{name}: indices must be integers, got {dtype}")
    if indices.size and backend.can_look(indices):
        least, most = int(xp.min(indices)), int(xp.max(indices))
        if least < low or most >= high:
            raise BadInput(f"{name}: indices must lie in {low} … {high - 1}; got {least} … {most}")
    return indices
