"""Tensor: an array that remembers how it was computed.

All mathematics is in `minidiff.ops`; the methods and operators here only give it its usual names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend
from .backend import Array
from .errors import BadInput

if TYPE_CHECKING:
    from .autograd import Op

Axis = int | tuple[int, ...] | None


class Tensor:
    """An n-dimensional array with a gradient.

    data           the numbers: a NumPy array, or a CuPy array on the GPU
    requires_grad  whether gradients flow to it
    grad           the gradient that `backward` left here, a Tensor, or None
    creator        the operation it came out of; None for a leaf, which the user made
    """

    __slots__ = ("data", "requires_grad", "grad", "creator", "name", "__weakref__")
    __array_priority__ = 100  # array + Tensor is a Tensor: NumPy must leave it to us
    __array_ufunc__ = None

    def __init__(self, data: Array, requires_grad: bool = False, name: str | None = None) -> None:
        if requires_grad and backend.dtype_of(data).kind != "f":
            raise BadInput(f"requires_grad needs floating-point numbers; this tensor is {backend.dtype_of(data)}")
        self.data = data
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.creator: Op | None = None
        self.name = name

    # ------------------------------------------------------------------------------ looking at it

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> np.dtype:
        return backend.dtype_of(self.data)

    @property
    def device(self) -> str:
        return backend.device_of(self.data)

    @property
    def edge(self) -> Op | Tensor:
        """Where a gradient for this tensor goes: to the operation that made it, or to the leaf itself."""
        return self if self.creator is None else self.creator

    def numpy(self) -> np.ndarray:
        """The numbers as a NumPy array (shared with the tensor when it is on the CPU)."""
        return backend.to_numpy(self.data)

    def item(self) -> float | int | bool:
        """The one number of a tensor of size 1, as a Python number."""
        if self.size != 1:
            raise BadInput(f"item: this tensor has {self.size} elements (shape {self.shape}), not one")
        return self.data.item()

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a 0-dimensional tensor has no length")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __repr__(self) -> str:
        text = np.array2string(self.numpy(), precision=4, threshold=200, separator=", ", prefix="tensor(")
        origin = f", creator={self.creator.name}" if self.creator is not None else ""
        origin = ", requires_grad=True" if not origin and self.requires_grad else origin
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        return f"tensor({text}{dtype}{origin})"

    # ------------------------------------------------------------------------- gradients and moves

    def backward(self, gy: Any = None, create_graph: bool = False, retain_graph: bool = False) -> None:
        """Add d(self)/dx, weighted by `gy`, to the `.grad` of every leaf x; see `autograd.backward`."""
        autograd.backward(self, gy, create_graph, retain_graph)

    def detach(self) -> Tensor:
        """The same numbers with no history."""
        return Tensor(self.data)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def to(self, device: str) -> Tensor:
        """This tensor on "cpu" or "cuda"; itself if it is there already."""
        return self if backend.resolve_device(device) == self.device else ops.to_device(self, device)

    def astype(self, dtype: Any) -> Tensor:
        return ops.astype(self, dtype)

    # ------------------------------------------------------------------------------- the operators

    def __add__(self, other: Any) -> Tensor:
        return ops.add(self, other)

    def __sub__(self, other: Any) -> Tensor:
        return ops.sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.sub(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return ops.mul(self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return ops.div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.div(other, self)

    def __pow__(self, other: Any) -> Tensor:
        return ops.pow(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.pow(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __neg__(self) -> Tensor:
        return ops.neg(self)

    def __getitem__(self, index: Any) -> Tensor:
        return ops.getitem(self, index)

    __radd__ = __add__
    __rmul__ = __mul__

    # --------------------------------------------------------------------------------- the methods

    def exp(self) -> Tensor:
        return ops.exp(self)

    def log(self) -> Tensor:
        return ops.log(self)

    def sqrt(self) -> Tensor:
        return ops.sqrt(self)

    def tanh(self) -> Tensor:
        return ops.tanh(self)

    def sigmoid(self) -> Tensor:
        return ops.sigmoid(self)

    def abs(self) -> Tensor:
        return ops.abs(self)

    def clip(self, low: float, high: float) -> Tensor:
        return ops.clip(self, low, high)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis, keepdims)

    def var(self, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
        return ops.var(self, axis, keepdims, correction)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.min(self, axis, keepdims)

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        return ops.reshape(self, _flat(shape))

    def transpose(self, *axes: int | Sequence[int]) -> Tensor:
        """Axes in a new order; reversed when none are given (NumPy's meaning)."""
        return ops.transpose(self, _flat(axes) or None)

    @property
    def T(self) -> Tensor:
        return ops.transpose(self, None)

    def broadcast_to(self, *shape: int | Sequence[int]) -> Tensor:
        return ops.broadcast_to(self, _flat(shape))

    def squeeze(self, axis: int) -> Tensor:
        return ops.squeeze(self, axis)

    def unsqueeze(self, axis: int) -> Tensor:
        return ops.unsqueeze(self, axis)


def _flat(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    """x.reshape(2, 3) and x.reshape((2, 3)) mean the same."""
    return tuple(numbers[0]) if len(numbers) == 1 and not isinstance(numbers[0], int | np.integer) else numbers


def tensor(data: Any, requires_grad: bool = False, device: str = "cpu", dtype: Any = None) -> Tensor:
    """Make a tensor from numbers, lists or an array.

    Python numbers and lists of them become float32 (int64 for whole numbers); an array keeps its
    dtype. A NumPy array is shared, not copied.
    """
    if isinstance(data, Tensor):
        raise BadInput("tensor: this is a tensor already; use .detach() for one without history")
    array = data if backend.is_array(data) else np.asarray(data)
    if dtype is not None:
        array = backend.astype(array, dtype)
    elif array.dtype == np.float64 and not hasattr(data, "dtype"):
        array = array.astype(np.float32)
    if backend.dtype_of(array).kind not in "fiub":
        raise BadInput(f"tensor: {backend.dtype_of(array)} is no number type; give floats, integers or booleans")
    return Tensor(backend.to_device(array, backend.resolve_device(device)), requires_grad)


# The operations need Tensor and Tensor's methods need the operations. Both modules are whole when
# the first method is called, which is all that matters.
from . import autograd, ops  # noqa: E402
