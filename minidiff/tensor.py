"""Tensor: an array that remembers how it was computed.

All mathematics is in `minidiff.ops`; `methods.py` gives it its usual names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend, hooks, inplace
from .backend import Array
from .errors import BadInput
from .interop import Interop
from .methods import Methods

if TYPE_CHECKING:
    from .autograd import Op


class Tensor(Methods, Interop):
    """An n-dimensional array with a gradient.

    data           the numbers: a NumPy array, a CuPy array on the GPU, or one of another library.
                   `x[index] = numbers` writes to them so that backward notices; see `inplace.py`
    requires_grad  whether gradients flow to it
    grad           the gradient that `backward` left here, a Tensor, or None
    creator        the operation it came out of; None for a leaf, which the user made
    """

    __slots__ = ("data", "requires_grad", "grad", "creator", "name", "hooks", "__weakref__")

    def __init__(self, data: Array, requires_grad: bool = False, name: str | None = None) -> None:
        # NumPy's 0-d results cannot be written to, and its subclasses and other byte orders go no further than here.
        self.data = data if type(data) is np.ndarray and data.dtype.isnative else backend.plain(data)
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.creator: Op | None = None
        self.name = name
        self.hooks: hooks.Hooks | None = None
        if requires_grad:
            check_differentiable(self)

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

    def item(self) -> float | int | bool:
        """The one number of a tensor of size 1, as a Python number."""
        if self.size != 1:
            raise BadInput(f"item: this tensor has {self.size} elements (shape {self.shape}), not one")
        return self.numpy().item()

    def tolist(self) -> Any:
        """The numbers as nested lists of Python numbers; a single number for a 0-dimensional tensor."""
        return self.numpy().tolist()

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a 0-dimensional tensor has no length")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        """f"{loss:.3f}": a format is for a single number."""
        if spec and self.size != 1:
            raise BadInput(f"format: {spec!r} is for a single number; this tensor has shape {self.shape}")
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        numbers = np.array2string(self.numpy(), precision=4, threshold=200, separator=", ", prefix="tensor(")
        facts = [numbers]
        if self.size > 200 or self.size == 0:  # where the numbers do not show it
            facts.append(f"shape={self.shape}")
        if self.dtype != np.float32:
            facts.append(f"dtype={self.dtype}")
        if self.device != "cpu":
            facts.append(f"device={self.device!r}")
        if self.creator is not None:
            facts.append(f"creator={self.creator.name}")
        elif self.requires_grad:
            facts.append("requires_grad=True")
        return f"tensor({', '.join(facts)})"

    # ----------------------------------------------------------------------------------- gradients

    def backward(self, gy: Any = None, create_graph: bool = False, retain_graph: bool = False) -> None:
        """Add d(self)/dx, weighted by `gy`, to the `.grad` of every leaf x; see `autograd.backward`."""
        autograd.backward(self, gy, create_graph, retain_graph)

    def detach(self) -> Tensor:
        """The same numbers with no history."""
        return Tensor(self.data)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> hooks.Handle:
        """Call `hook(gradient)` in every backward pass, once, when the gradient of this tensor is complete.

        What it gives, unless None, takes the gradient's place; it must not write to what it is given.
        `.remove()` of the handle takes the hook off again. BadInput where no gradient flows.
        """
        return hooks.register(self, hook)

    def retain_grad(self) -> None:
        """Let `backward` leave the gradient in `.grad` though this is no leaf. BadInput where none flows."""
        hooks.retain(self)

    # -------------------------------------------------------------------------- the numbers, elsewhere

    def numpy(self) -> np.ndarray:
        """The numbers as a NumPy array (shared with the tensor when it is on the CPU)."""
        return backend.to_numpy(self.data)

    def to(self, device: str) -> Tensor:
        """This tensor on "cpu" or "cuda"; itself if it is there already."""
        return self if backend.resolve_device(device) == self.device else ops.to_device(self, device)

    def __setitem__(self, index: Any, numbers: Any) -> None:
        """Write into a leaf, in place. Backward through what was computed from it before is refused from then on.

        Raises BadInput where gradients would go wrong: for results, and for a leaf with requires_grad while recording.
        """
        if self.creator is not None:
            raise BadInput(f"a result of {self.creator.name} cannot be written to; ops.where and ops.put make a new tensor")
        if autograd.is_grad_enabled() and (self.requires_grad or getattr(numbers, "requires_grad", False)):
            raise BadInput("writing to a tensor has no gradient; do it under no_grad(), or make a new one with ops.where")
        if not backend.is_writeable(self.data):
            raise BadInput(f"this tensor {self.shape} has a read-only array, which cannot be written to; make one of a copy of it")
        index = ops.shape.own_index(index, self.data)
        self.data[index] = numbers.data if isinstance(numbers, Tensor) else backend.plain(numbers)
        inplace.written(self.data)


def check_differentiable(x: Tensor) -> None:
    """Raise BadInput for a tensor that asks for gradients and cannot have any."""
    if backend.kind(x.dtype) != "f":
        raise BadInput(f"requires_grad needs floating-point numbers; this tensor is {x.dtype}; use .astype(numpy.float32)")


def tensor(data: Any, requires_grad: bool = False, device: str = "cpu", dtype: Any = None) -> Tensor:
    """Make a tensor from numbers, lists or an array.

    Python numbers and lists of them become float32 (int64 for whole numbers); an array keeps its
    dtype. A NumPy array is shared, not copied, unless it is read-only and requires_grad says that it will be written to,
    or of another byte order. BadInput for what is no array of numbers: other kinds, lists of unequal lengths, masked
    elements, a tensor of another library that requires a gradient (whose history would be lost).
    """
    if isinstance(data, Tensor):
        raise BadInput("tensor: this is a tensor already; use .detach() for one without history")
    if isinstance(data, list | tuple) and any(isinstance(x, Tensor) for x in data):
        raise BadInput("tensor: a list of tensors would lose their history; use ops.stack")
    array = backend.array_of(data)
    if dtype is not None:
        array = backend.astype(array, dtype)
    elif array.dtype == np.float64 and not hasattr(data, "dtype"):
        array = array.astype(np.float32)
    if backend.kind(backend.dtype_of(array)) not in "fiub":
        raise BadInput(f"tensor: {backend.dtype_of(array)} is no number type; give floats, integers or booleans")
    if requires_grad and not backend.is_writeable(array):
        array = backend.copy(array)
    return Tensor(backend.to_device(array, backend.resolve_device(device)), requires_grad)


# The operations need Tensor, and Tensor's methods need the operations. All of these modules are whole
# when the first method is called, which is all that matters.
from . import autograd, methods, ops  # noqa: E402

methods.ops = ops
