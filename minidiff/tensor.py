"""Tensor: an array that remembers how it was computed.

All mathematics is in `minidiff.ops`; `methods.py` gives it its usual names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend
from .backend import Array
from .errors import BadInput
from .methods import Methods

if TYPE_CHECKING:
    from .autograd import Op

class Tensor(Methods):
    """An n-dimensional array with a gradient.

    data           the numbers: a NumPy array, or a CuPy array on the GPU
    requires_grad  whether gradients flow to it
    grad           the gradient that `backward` left here, a Tensor, or None
    creator        the operation it came out of; None for a leaf, which the user made
    """

    __slots__ = ("data", "requires_grad", "grad", "creator", "name", "__weakref__")

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


# The operations need Tensor, and Tensor's methods need the operations. All of these modules are whole
# when the first method is called, which is all that matters.
from . import autograd, methods, ops  # noqa: E402

methods.ops = ops
