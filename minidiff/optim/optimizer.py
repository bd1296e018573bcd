"""What all optimizers share: the list of parameters, the step, saving and loading."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from ..backend import Array, array_module, array_of, dtype_of, is_writeable, to_device, to_numpy
from ..errors import BadInput
from ..inplace import written
from ..tensor import Tensor


class Optimizer:
    """Base of the optimizers: `step()` moves every parameter that has a gradient.

    A subclass names the arrays that it remembers for each parameter (`moments`, zero to begin with)
    and writes its rule in `update`, which works in place. The parameter's array is written to; its
    gradient never is, as other tensors may share it. Parameters whose grad is None are skipped.

    state   for each parameter {"t": steps taken, moment: array, …}; {} until its first step
    lr      the learning rate, finite and not negative; BadInput otherwise
    """

    moments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.params = _checked(type(self).__name__, params)
        self.lr = lr
        self.state: list[dict[str, Any]] = [{} for _ in self.params]
        self._scratch = Scratch()

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = not_negative(f"{type(self).__name__}: lr", value)

    def step(self) -> None:
        """Move every parameter that has a gradient. BadInput, and none has moved, if a shape is wrong or an array read-only."""
        live = [(p, state) for p, state in zip(self.params, self.state, strict=True) if p.grad is not None]
        for p, _ in live:
            if p.grad.shape != p.shape:
                raise BadInput(f"{type(self).__name__}: the grad of a {p.shape} parameter is {p.grad.shape}")
            if not is_writeable(p.data):
                raise BadInput(f"{type(self).__name__}: the array of a {p.shape} parameter is read-only; make it of a copy")
        for p, state in live:
            if not state:
                state.update(t=0, **{name: _zeros_like(p.data) for name in self.moments})
            state["t"] += 1
            for name in self.moments:                            # the model may have moved since
                state[name] = to_device(state[name], p.device)
        self.update_all(live)
        for p, _ in live:
            written(p.data)

    def update_all(self, live: list[tuple[Tensor, dict[str, Any]]]) -> None:
        """Move parameters that have a gradient, each with its state, in place."""
        for p, state in live:
            moments = (state[name] for name in self.moments)
            self.update(p.data, p.grad.data, state["t"], *moments, self._scratch.like(p.data))

    def update(self, p: Array, g: Array, t: int, *moments_and_scratch: Array) -> None:
        """Move `p` by its t-th gradient `g`, in place; the last array, of p's shape, is free to use."""
        raise NotImplementedError(f"{type(self).__name__} does not define update")

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for p in self.params:
            p.grad = None

    # ------------------------------------------------------------------------------ saving, loading

    def state_dict(self) -> dict[str, Any]:
        """{"lr": …, "t.0": steps of parameter 0, "m.0": its moment, …}; arrays are copies on the CPU."""
        flat: dict[str, Any] = {"lr": self.lr}
        for i, state in enumerate(self.state):
            for name, value in state.items():
                flat[f"{name}.{i}"] = value if name == "t" else np.array(to_numpy(value))
        return flat

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state_dict. BadInput, and nothing has changed, if it is not of such an optimizer."""
        optimizer = type(self).__name__
        if "lr" not in state:
            raise BadInput(f"{optimizer}: the state has no lr")
        left = dict(state)
        lr = not_negative(f"{optimizer}: lr", left.pop("lr"))
        new = [self._parameter_state(i, p, left) for i, p in enumerate(self.params)]
        if left:
            raise BadInput(
                f"{optimizer}: the state has {min(left)!r}; this one keeps "
                f"{', '.join(('t', *self.moments))} for each of {len(self.params)} parameters"
            )
        self.lr, self.state = lr, new

    def _parameter_state(self, i: int, p: Tensor, left: dict[str, Any]) -> dict[str, Any]:
        """Take what belongs to parameter i out of a flat state: all of it, or nothing if it never moved."""
        names = [f"{name}.{i}" for name in ("t", *self.moments)]
        if not any(name in left for name in names):
            return {}
        found: dict[str, Any] = {}
        for name in names:
            if name not in left:
                raise BadInput(f"{type(self).__name__}: the state of parameter {i} has no {name}")
            value = left.pop(name)
            if name == f"t.{i}":
                found["t"] = int(value)
            elif np.shape(value) != p.shape:
                raise BadInput(f"{type(self).__name__}: {name} is {np.shape(value)}, its parameter {p.shape}")
            else:
                found[name.partition(".")[0]] = array_module(p.data).array(to_numpy(array_of(value)), dtype=p.dtype)
        return found


def _checked(optimizer: str, params: Iterable[Tensor]) -> list[Tensor]:
    if isinstance(params, Tensor):
        raise BadInput(f"{optimizer}: params must be a list of tensors, not a tensor")
    params = all_tensors(optimizer, params)
    if not params:
        raise BadInput(f"{optimizer}: there are no parameters to optimize")
    for p in params:
        if p.creator is not None:
            raise BadInput(f"{optimizer}: params must not be results; one came out of {p.creator.name}")
    if len({id(p) for p in params}) < len(params):
        raise BadInput(f"{optimizer}: a parameter is listed twice")
    return params


def all_tensors(name: str, params: Any) -> list[Tensor]:
    """The parameters as a list. BadInput where that is none, or where one of them is no tensor."""
    try:
        params = list(params)
    except TypeError:
        hint = "; give its .parameters()" if hasattr(params, "parameters") else ""
        raise BadInput(f"{name}: params must be a list of tensors, not a {type(params).__name__}{hint}") from None
    for p in params:
        if not isinstance(p, Tensor):
            raise BadInput(f"{name}: params must be tensors, got {type(p).__name__}")
    return params


class Scratch:
    """Memory for one intermediate array, lent to one parameter after the other."""

    def __init__(self) -> None:
        self._memory: dict[Any, Array] = {}

    def like(self, p: Array) -> Array:
        """An array of p's shape, dtype and device with anything in it, good until the next call."""
        key = array_module(p).__name__, p.dtype
        if key not in self._memory or self._memory[key].size < p.size:
            self._memory[key] = array_module(p).empty(p.size, p.dtype)
        return self._memory[key][: p.size].reshape(p.shape)


def is_plain(a: Array) -> bool:
    """Whether the numbers lie in C order, float32: what kernels over many arrays can walk along."""
    return dtype_of(a) == np.float32 and a.flags.c_contiguous


def _zeros_like(p: Array) -> Array:
    return array_module(p).zeros(p.shape, p.dtype)


def not_negative(what: str, value: Any) -> float:
    """`value` as a Python float, which never changes an array's dtype; BadInput if negative or not finite."""
    number = _float(value)
    if not (math.isfinite(number) and number >= 0):
        raise BadInput(f"{what} must be a finite number of at least 0, got {value}")
    return number


def fraction(what: str, value: Any) -> float:
    """`value` as a Python float; BadInput unless 0 <= value < 1."""
    number = _float(value)
    if not 0 <= number < 1:
        raise BadInput(f"{what} must be at least 0 and below 1, got {value}")
    return number


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
