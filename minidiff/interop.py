"""Tensors and the rest of the world: NumPy, DLPack, copying, and why there is no pickling."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend
from .errors import BadInput

if TYPE_CHECKING:
    from .tensor import Tensor


class Interop:
    """What other libraries and Python itself ask of a `Tensor`.

    Who asks for the numbers gets the numbers, shared where they can be, without their history: as with
    `x.numpy()`, gradients do not flow through other libraries.
    """

    __slots__ = ()

    def __array__(self: Any, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """np.asarray(x) is x.numpy(); copy=False raises ValueError where that or `dtype` takes a copy."""
        if copy is False and self.device != "cpu":
            raise ValueError(f"this tensor is on {self.device}: as a NumPy array it must be copied")
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self: Any, **options: Any) -> Any:
        """Lend the numbers to any library that speaks DLPack, without copying unless they run backwards along an axis.

        Raises BufferError where that takes a copy and the other asks for none.
        """
        array = backend.asarray(self.data, like=self.data)
        lent = backend.lendable(array)
        if lent is not array and options.get("copy") is False:
            raise BufferError(f"this tensor has negative strides, {array.strides}: to be lent, it must be copied")
        return lent.__dlpack__(**options)

    def __dlpack_device__(self: Any) -> tuple[int, int]:
        return backend.asarray(self.data, like=self.data).__dlpack_device__()

    def __copy__(self: Any) -> Tensor:
        """Another tensor with the same numbers at the same place in the graph."""
        twin = type(self).__new__(type(self))  # not by __init__: a Parameter's copies the numbers
        for name in ("data", "requires_grad", "grad", "creator", "name", "hooks"):
            setattr(twin, name, getattr(self, name))
        if self.creator is None:  # a leaf is a place of its own
            twin.hooks = None
        return twin

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Tensor:
        """A leaf of its own, with a copy of the numbers and of the gradient, and no hooks. TypeError for a result."""
        if self.creator is not None:
            raise TypeError(f"a result of {self.creator.name} cannot be deep-copied, its history is shared; .detach() it first")
        twin = copy.copy(self)
        twin.data = backend.copy(self.data)
        twin.grad = None if self.grad is None else copy.deepcopy(self.grad.detach(), memo)
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"a {type(self).__name__} is not pickled: unpickling runs whatever code the file names; save x.numpy(), or a"
            f" model's state_dict(), with numpy.savez"
        )


def from_dlpack(x: Any) -> Tensor:
    """A tensor in the memory of `x`, an array or tensor of any library that speaks DLPack.

    On the CPU it holds a NumPy array, on the GPU a CuPy array. Raises BadInput where `x` does not speak
    DLPack, or refuses, as PyTorch does for a tensor that requires a gradient, or is complex.
    """
    from .tensor import Tensor

    if not hasattr(x, "__dlpack_device__"):
        raise BadInput(f"from_dlpack: a {type(x).__name__} has no __dlpack__; use tensor(…)")
    try:
        array = backend.from_dlpack(x)
    except (BufferError, RuntimeError) as error:
        raise BadInput(f"from_dlpack: {error}") from None
    if backend.kind(array.dtype) not in "fiub":
        raise BadInput(f"from_dlpack: {array.dtype} is no number type; give floats, integers or booleans")
    return Tensor(array)
