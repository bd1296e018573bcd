"""Modules: a network is a tree of objects that own parameters.

A module is nothing but its attributes. Parameters and sub-modules are not filed in lists of their
own: they are found by looking through the attributes, in the order in which they were defined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..backend import Array, array_module, array_of, astype, is_writeable, plain, to_device, to_numpy
from ..errors import BadInput
from ..inplace import written
from ..tensor import Tensor


class Parameter(Tensor):
    """A Tensor that is learned: a Module finds it among its attributes, an optimizer updates it.

    Updates are written in place, so a Parameter keeps a contiguous copy of `data` (an array, a
    Tensor or numbers) for itself: no other array changes with it. Plain numbers become float32.
    Raises BadInput for anything but floating point numbers.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(_owned(data), requires_grad=requires_grad)


class Module:
    """Base of every layer and network. A subclass sets its attributes and defines `forward`.

    Names, order and meaning are PyTorch's: a module's own parameters come before those of its
    sub-modules, each in the order of definition, and a parameter is called by its path,
    "mid.0.weight". There is no `super().__init__()` to call and none to forget.
    """

    training: bool = True
    # Buffer name -> is it saved. Always replaced, never written to: this empty one is every module's.
    _buffers: Mapping[str, bool] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, unless an array would quietly take a Parameter's place and never be learned."""
        before = vars(self).get(name)
        kind = next((kind for kind in (Parameter, Module) if isinstance(before, kind)), object)
        if value is not None and not isinstance(value, kind):
            raise BadInput(
                f"{type(self).__name__}.{name} is a {kind.__name__}; "
                f"it can become another {kind.__name__} or None, not {type(value).__name__}"
            )
        super().__setattr__(name, value)

    def register_buffer(self, name: str, array: Any, persistent: bool = True) -> None:
        """Set an attribute that is not learned but moves and (if persistent) is saved with the module.

        The attribute is an array: a contiguous copy of `array`, which may also be a Tensor or numbers.
        """
        setattr(self, name, _owned(array))
        self._buffers = {**self._buffers, name: persistent}

    # ------------------------------------------------------------------------------ looking around

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(path, module) for this module (path "") and all below it, parents first."""
        seen: set[int] = set()
        for path, module in self._walk(prefix):
            if not (remove_duplicate and id(module) in seen):
                seen.add(id(module))
                yield path, module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for the modules directly below, each once."""
        return _once(self._members(Module))

    def named_parameters(
        self, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) for all parameters; one that modules share comes once, by its first path."""
        found = (
            (_join(path, name), parameter)
            for path, module in self.named_modules(prefix, remove_duplicate)
            for name, parameter in module._members(Parameter)
        )
        return _once(found) if remove_duplicate else found

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """(path, array) for all buffers, saved or not."""
        for path, module in self.named_modules():
            for name in module._buffers:
                yield _join(path, name), getattr(module, name)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def children(self) -> Iterator[Module]:
        return (module for _, module in self.named_children())

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def num_parameters(self) -> int:
        """How many numbers the parameters hold; shared ones count once."""
        return sum(parameter.size for parameter in self.parameters())

    def _members(self, kind: type) -> Iterator[tuple[str, Any]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, kind))

    def _walk(self, path: str) -> Iterator[tuple[str, Module]]:
        yield path, self
        for name, child in self._members(Module):
            yield from child._walk(_join(path, name))

    # ------------------------------------------------------------------------------ saving, loading

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies, on the CPU, of all parameters and persistent buffers by their paths."""
        arrays = {path: _array(getattr(module, name)) for path, module, name in self._state()}
        return {path: np.array(to_numpy(array)) for path, array in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Copy arrays, found by their paths, into the parameters and buffers, which keep dtype and device.

        Gives the paths that were missing and those that were not expected. With `strict` there must
        be none: BadInput names them, and every array whose shape does not fit (strict or not).
        Nothing is changed unless everything fits.
        """
        places = {path: (module, name) for path, module, name in self._state()}
        current = {path: _array(getattr(module, name)) for path, (module, name) in places.items()}
        state = {path: _array(value) for path, value in state.items()}
        if difference := state_difference(current, state, strict):
            raise BadInput(f"written by another architecture: {difference}")
        for path, (module, name) in places.items():
            if name not in module._buffers and path in state and not is_writeable(current[path]):
                raise BadInput(f"load_state_dict: the array of {path} is read-only; give the parameter a copy of it first")
        new = {path: _like(state[path], current[path]) for path in places if path in state}
        for path, array in new.items():
            module, name = places[path]
            if name in module._buffers:
                setattr(module, name, array)
            else:
                current[path][...] = array
                written(current[path])
        return [path for path in places if path not in state], [path for path in state if path not in places]

    def _state(self) -> Iterator[tuple[str, Module, str]]:
        """(path, module, attribute) of all that is saved; what two modules share comes under both paths."""
        for path, module in self._walk(""):
            for name, _ in module._members(Parameter):
                yield _join(path, name), module, name
            for name, persistent in module._buffers.items():
                if persistent:
                    yield _join(path, name), module, name

    # --------------------------------------------------------------------------- changing all at once

    def train(self, mode: bool = True) -> Module:
        """Say that the module is being trained (dropout drops); gives the module back."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Say that the module is being used, not trained; gives the module back."""
        return self.train(False)

    def to(self, device: str) -> Module:
        """Move parameters, their gradients and buffers to "cpu" or "cuda"; gives the module back."""
        return self._convert(lambda array: to_device(array, device))

    def astype(self, dtype: Any) -> Module:
        """Convert floating point parameters, their gradients and buffers; gives the module back.

        In float64 a whole network can be checked by gradcheck.
        """
        return self._convert(lambda array: astype(array, dtype) if array.dtype.kind not in "biu" else array)

    def _convert(self, change: Any) -> Module:
        for parameter in self.parameters():
            parameter.data = change(parameter.data)
            if parameter.grad is not None:
                parameter.grad = Tensor(change(parameter.grad.data))
        for module in self.modules():
            for name in module._buffers:
                setattr(module, name, change(_array(getattr(module, name))))
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    # ------------------------------------------------------------------------------------- printing

    def extra_repr(self) -> str:
        """What a subclass wants to see between its brackets when printed."""
        return ""

    def __repr__(self) -> str:
        name, inside = type(self).__name__, self.extra_repr()
        children = [f"({name}): {module!r}" for name, module in self._members(Module)]
        if not children:
            return f"{name}({inside})"
        lines = "\n".join([inside] * bool(inside) + children)
        return f"{name}(\n  " + lines.replace("\n", "\n  ") + "\n)"


def state_difference(expected: Mapping[str, Array], given: Mapping[str, Array], strict: bool = True) -> str:
    """One line on how arrays differ in name, shape or kind of number from those expected; "" if they fit."""
    missing = [f"missing {path} {array.shape}" for path, array in expected.items() if path not in given]
    unexpected = [f"unexpected {path} {array.shape}" for path, array in given.items() if path not in expected]
    wrong = []
    for path in (path for path in expected if path in given):
        want, got = expected[path], given[path]
        if got.shape != want.shape:
            wrong.append(f"{path} has shape {got.shape}, needs {want.shape}")
        elif not np.can_cast(got.dtype, want.dtype, "same_kind"):
            wrong.append(f"{path} holds {got.dtype}, needs {want.dtype}")
    kinds = (missing, unexpected, wrong) if strict else (wrong,)
    return ", ".join(part for kind in kinds for part in _shortened(kind))


def _shortened(parts: list[str], limit: int = 6) -> list[str]:
    """The first parts, and how many more there are: for a network of 300 arrays a line must stay a line."""
    more = len(parts) - limit
    return parts if more <= 0 else [*parts[:limit], f"and {more} more"]


def _once(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _array(value: Any) -> Array:
    """The array in a Tensor; arrays as they are; numbers and PyTorch's tensors as an array."""
    if isinstance(value, Tensor):
        return value.data
    return plain(value) if isinstance(getattr(value, "dtype", None), np.dtype) else array_of(value)


def _owned(value: Any) -> Array:
    """A contiguous copy of an array or Tensor; plain numbers become float32."""
    typed = isinstance(value, Tensor) or hasattr(value, "dtype")
    array = _array(value) if typed else array_of(value, np.float32)
    return array_module(array).array(array, order="C")


def _like(array: Array, target: Array) -> Array:
    """A copy of `array` with the dtype and on the device of `target`."""
    return array_module(target).array(to_numpy(array), dtype=target.dtype)
