"""Functions that see a gradient on its way, and may replace it.

A hook belongs to a place in the graph: to the operation that made the tensor, or to the leaf itself.
It runs once in each backward pass, when everything that flows to this place has been added up, and
before the gradient is handed on.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import BadInput

if TYPE_CHECKING:
    from .tensor import Tensor

Hook = Callable[["Tensor"], "Tensor | None"]


class Hooks:
    """The hooks of one place, in the order of their registration, and the tensor that wants to keep the gradient."""

    def __init__(self) -> None:
        self.functions: dict[int, Hook] = {}
        self.registered = 0
        self.keeper: weakref.ref[Tensor] | None = None  # weak: the tensor holds this place, not the other way

    def run(self, gx: Tensor) -> Tensor:
        """The gradient after all hooks."""
        for hook in list(self.functions.values()):
            replaced = hook(gx)
            gx = gx if replaced is None else _checked(replaced, gx)
        return gx

    @property
    def keeping(self) -> Tensor | None:
        """The tensor that wants to keep the gradient in its `.grad`, while it lives."""
        return None if self.keeper is None else self.keeper()


class Handle:
    """What `register_hook` gives: `.remove()` takes the hook off again."""

    def __init__(self, functions: dict[int, Hook], number: int) -> None:
        self._functions, self._number = functions, number

    def remove(self) -> None:
        """Take the hook off; once is enough, twice does no harm."""
        self._functions.pop(self._number, None)


def register(tensor: Tensor, hook: Hook) -> Handle:
    """Add a hook to the place of `tensor`."""
    if not callable(hook):
        raise BadInput(f"register_hook: a hook is a function of the gradient, not {type(hook).__name__}")
    hooks = _of(tensor, "register_hook")
    hooks.registered += 1
    hooks.functions[hooks.registered] = hook
    return Handle(hooks.functions, hooks.registered)


def retain(tensor: Tensor) -> None:
    """Let backward leave the gradient of `tensor`, a result, in its `.grad`."""
    hooks = _of(tensor, "retain_grad")
    if tensor.creator is not None:
        hooks.keeper = weakref.ref(tensor)


def _of(tensor: Tensor, name: str) -> Hooks:
    if not tensor.requires_grad:
        raise BadInput(f"{name}: no gradient flows to this tensor; it was made without requires_grad=True")
    place: Any = tensor.edge
    if place.hooks is None:
        place.hooks = Hooks()
    return place.hooks


def _checked(replaced: Any, gx: Tensor) -> Tensor:
    from .tensor import Tensor

    if not isinstance(replaced, Tensor):
        raise BadInput(f"register_hook: a hook gives a Tensor or None, not {type(replaced).__name__}")
    if (replaced.shape, replaced.dtype) != (gx.shape, gx.dtype):
        raise BadInput(
            f"register_hook: a hook made a gradient of {replaced.shape} {replaced.dtype} out of one of {gx.shape} {gx.dtype};"
            f" shape and dtype must stay"
        )
    return replaced
