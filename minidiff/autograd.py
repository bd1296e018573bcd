"""Reverse-mode automatic differentiation: what an operation is, and the walk back through them.

A Tensor that came out of an operation points to it (`tensor.creator`); the operation points to
where its inputs came from (`op.edges`). `backward` walks these arrows from the last operation to
the first and hands each one the gradient of its output.

There are two kinds of operation. An `Op` (a primitive) writes its backward rule with Tensor
operators, so the rule is itself differentiable, as often as one likes. A `FusedOp` has a fast
kernel for forward and for the first backward, and a `reference` made of primitives, which explains
it, tests it, and is differentiated in its place when a derivative of the derivative is asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import backend, kernels
from .backend import Array
from .errors import BadInput
from .tensor import Tensor

_mode = threading.local()
_clock = itertools.count()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return getattr(_mode, "enabled", True)


@contextlib.contextmanager
def _recording(on: bool) -> Iterator[None]:
    before = is_grad_enabled()
    _mode.enabled = on
    try:
        yield
    finally:
        _mode.enabled = before


def no_grad() -> contextlib.AbstractContextManager[None]:
    """`with no_grad():` or `@no_grad()`: compute without recording, so nothing is kept for backward."""
    return _recording(False)


def enable_grad() -> contextlib.AbstractContextManager[None]:
    """`with enable_grad():` records again inside a `no_grad` block."""
    return _recording(True)


class Op:
    """One differentiable operation: arrays in, one array out.

    A subclass gives `forward(*arrays) -> array` and `backward(gy) -> one gradient per input`, and
    calls `self.save(...)` in forward for the inputs and the output that backward needs; what carries
    no gradient (a mask, a sign) goes to `self.cache`. Options go to the constructor: `Sum(axis=1)(x)`. Broadcasting is undone by the engine: a gradient may have
    the broadcast shape. `self.needs[i]` says whether the gradient of input i is wanted.
    """

    edges: tuple[Edge, ...] = ()  # where each input came from; None where no gradient is needed
    released = False
    cache: Any = None

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.__dict__.update(options)

    @property
    def name(self) -> str:
        return type(self).__name__

    def forward(self, *arrays: Array) -> Array:
        raise TypeError(f"{self.name} must define forward")

    def backward(self, gy: Any) -> Any:
        raise TypeError(f"{self.name} must define backward")

    def save(self, *arrays: Array) -> None:
        """Keep inputs or the output of forward for backward, where `self.saved` gives them as Tensors."""
        self._kept = arrays

    @property
    def saved(self) -> tuple[Tensor, ...]:
        return tuple(slot.tensor(self) for slot in self._slots)

    def __call__(self, *inputs: Tensor) -> Tensor:
        self._kept: tuple[Array, ...] = ()
        arrays = _distinct([x.data for x in inputs])
        y = self.forward(*arrays)
        out = Tensor(y)
        if is_grad_enabled() and out.dtype.kind == "f" and any(x.requires_grad for x in inputs):
            self._record(inputs, arrays, y)
            out.requires_grad, out.creator = True, self
        else:
            self.release()
        return out

    def _record(self, inputs: Sequence[Tensor], arrays: Sequence[Array], y: Array) -> None:
        self.order = next(_clock)
        self.needs = tuple(x.requires_grad for x in inputs)
        self.edges = tuple(x.edge if x.requires_grad else None for x in inputs)
        self.input_types = tuple((x.shape, x.dtype) for x in inputs)
        self.output_type = (y.shape, backend.dtype_of(y))
        self._slots = tuple(self._slot(kept, arrays, y) for kept in self._kept)
        self._kept = ()

    def _slot(self, kept: Array, arrays: Sequence[Array], y: Array) -> _Slot:
        """Find out which input, or the output, a saved array is, so that it keeps its own history."""
        for array, edge in zip(arrays, self.edges, strict=True):
            if kept is array:
                return _Slot(kept, edge)
        if kept is y:
            return _Slot(kept, OUTPUT)
        raise TypeError(
            f"{self.name} saves an array that is neither input nor output: derivatives of its gradient would miss it"
        )

    def release(self) -> None:
        """Let go of everything kept for backward."""
        self._kept = self._slots = ()
        self.cache = None

    def gradients(self, gy: Tensor, create_graph: bool) -> Sequence[Tensor | None]:
        """The gradient of every input, given the gradient of the output."""
        with _recording(create_graph):
            gxs = self.backward(gy)
        return gxs if isinstance(gxs, tuple) else (gxs,)


class FusedOp(Op):
    """An operation with a kernel: forward and backward work on arrays, `reference` on Tensors.

    All inputs are saved; what else backward needs (a mean, a deviation) goes to `self.cache`. For
    arrays that there are no kernels for (see `kernels.of`), the operation is its reference: as
    right, only slower. `portable` says that forward and backward need none.
    """

    portable = False

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self.portable or kernels.available(inputs[0].data):
            return super().__call__(*inputs)
        return type(self).reference(*inputs, **self.options)

    @staticmethod
    def reference(*inputs: Any, **options: Any) -> Tensor:
        """The textbook definition, composed of primitives."""
        raise TypeError("a fused operation must define its reference")

    def _record(self, inputs: Sequence[Tensor], arrays: Sequence[Array], y: Array) -> None:
        self._kept = tuple(arrays)
        super()._record(inputs, arrays, y)

    @property
    def saved(self) -> tuple[Array, ...]:  # type: ignore[override]
        return tuple(slot.array for slot in self._slots)

    def gradients(self, gy: Tensor, create_graph: bool) -> Sequence[Tensor | None]:
        if create_graph:
            inputs = [slot.tensor(self) for slot in self._slots]
            return partials(lambda *x: type(self).reference(*x, **self.options), inputs, gy)
        gxs = self.backward(gy.data)
        gxs = gxs if isinstance(gxs, tuple) else (gxs,)
        return tuple(None if gx is None else Tensor(gx) for gx in gxs)


Edge = Op | Tensor | None
OUTPUT = object()  # marks a saved output: pointing to the operation itself would be a reference cycle


class _Slot:
    """A saved array together with where it came from."""

    __slots__ = ("array", "edge")

    def __init__(self, array: Array, edge: Any) -> None:
        self.array, self.edge = array, edge

    def tensor(self, op: Op) -> Tensor:
        """The array as a Tensor with its history."""
        if isinstance(self.edge, Tensor) and self.edge.data is self.array:
            return self.edge
        x = Tensor(self.array)  # also for a leaf that was given new data since: its old numbers, its place
        if self.edge is not None:
            x.requires_grad, x.creator = True, op if self.edge is OUTPUT else self.edge
        return x


def _distinct(arrays: list[Array]) -> list[Array]:
    """Give two inputs that share one array object (x and x.detach()) objects of their own.

    Saved arrays are told apart by identity, and these two have different histories.
    """
    seen: set[int] = set()
    for i, array in enumerate(arrays):
        if id(array) in seen:
            arrays[i] = array[...]
        seen.add(id(arrays[i]))
    return arrays


class Alias(Op):
    """y = x, with a place of its own in the graph            gx = gy"""

    def forward(self, x: Array) -> Array:
        return x[...]

    def backward(self, gy: Tensor) -> Tensor:
        return gy


# ------------------------------------------------------------------------------- the backward pass


def backward(y: Tensor, gy: Any = None, create_graph: bool = False, retain_graph: bool = False) -> None:
    """Add dy/dx, weighted by `gy`, to `x.grad` of every leaf x that y was computed from.

    gy has y's shape; it may be left out when y is a single number. With `create_graph` the
    gradients can be differentiated again; `retain_graph` keeps what backward needs for another call.
    """
    gy = _upstream(y, gy)
    for leaf, gx in propagate([(y.edge, gy)], None, create_graph, retain_graph).items():
        leaf.grad = gx if leaf.grad is None else _add(leaf.grad, gx, create_graph)


def grad(
    y: Tensor, inputs: Sequence[Tensor], gy: Any = None, create_graph: bool = False, retain_graph: bool | None = None
) -> list[Tensor | None]:
    """dy/dx, weighted by `gy`, for each x in `inputs` (leaf or not); None where y does not depend on x.

    No `.grad` is touched.
    """
    gy = _upstream(y, gy)
    wanted = {x.edge for x in inputs}
    found = propagate([(y.edge, gy)], wanted, create_graph, create_graph if retain_graph is None else retain_graph)
    return [found.get(x.edge) for x in inputs]


def partials(fn: Callable[..., Tensor], inputs: Sequence[Tensor], gy: Tensor) -> list[Tensor | None]:
    """The gradients of fn(*inputs) with respect to each argument alone, themselves differentiable."""
    with enable_grad():
        arguments = [Alias()(x) for x in inputs]
        y = fn(*arguments)
        return grad(y, arguments, gy, create_graph=True, retain_graph=True)


def propagate(
    start: Sequence[tuple[Edge, Tensor]], wanted: set[Edge] | None, create_graph: bool, retain_graph: bool
) -> dict[Any, Tensor]:
    """Walk from the last operation to the first, handing each the gradient of its output.

    Gives {leaf: gradient}, or {edge: gradient} for the edges in `wanted`. An operation is always
    younger than those it depends on, so the youngest first is an order in which each operation has
    received all of its gradient before it hands it on.
    """
    grads: dict[Any, Tensor] = dict(start)
    found: dict[Any, Tensor] = {}
    for op in _youngest_first([edge for edge, _ in start], wanted):
        gy = grads.pop(op, None)
        if gy is None:
            continue
        if wanted is not None and op in wanted:
            found[op] = gy
            if isinstance(op, Alias):
                continue
        for i, (edge, gx) in enumerate(zip(op.edges, _checked_gradients(op, gy, create_graph), strict=True)):
            if edge is not None and gx is not None:
                gx = _fit(op, i, gx)
                grads[edge] = _add(grads[edge], gx, create_graph) if edge in grads else gx
        if not (retain_graph or create_graph):
            op.release()
            op.released = True
    leaves = {edge: gx for edge, gx in grads.items() if isinstance(edge, Tensor) and (wanted is None or edge in wanted)}
    return {**found, **leaves}


def _youngest_first(start: Sequence[Edge], wanted: set[Edge] | None) -> list[Op]:
    seen = {edge for edge in start if isinstance(edge, Op)}
    stack = list(seen)
    while stack:
        op = stack.pop()
        if wanted is not None and op in wanted and isinstance(op, Alias):
            continue
        for edge in op.edges:
            if isinstance(edge, Op) and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return sorted(seen, key=lambda op: -op.order)


def _checked_gradients(op: Op, gy: Tensor, create_graph: bool) -> Sequence[Tensor | None]:
    if op.released:
        raise RuntimeError(
            f"{op.name}: backward a second time, but what it kept was released; use backward(retain_graph=True) the first time"
        )
    gxs = op.gradients(gy, create_graph)
    if len(gxs) != len(op.edges):
        raise TypeError(f"{op.name}.backward gives {len(gxs)} gradients for {len(op.edges)} inputs")
    return gxs


def _fit(op: Op, i: int, gx: Tensor) -> Tensor:
    """Undo broadcasting and type promotion: bring the gradient to the shape and dtype of input i."""
    from .ops import astype, sum_to

    shape, dtype = op.input_types[i]
    if gx.shape != shape:
        gx = sum_to(gx, shape, where=f"{op.name}.backward, input {i}")
    if gx.dtype != dtype:
        if all(other == dtype for _, other in op.input_types if other.kind == "f"):
            raise TypeError(f"{op.name}.backward gives a gradient of {gx.dtype} for input {i} of {dtype}")
        gx = astype(gx, dtype)
    return gx


def _add(a: Tensor, b: Tensor, create_graph: bool) -> Tensor:
    """a + b in a new array: a gradient that has been handed on may be shared and is never written to."""
    with _recording(create_graph):
        return a + b


def _upstream(y: Tensor, gy: Any) -> Tensor:
    if not y.requires_grad:
        raise BadInput("backward: this tensor was not computed from any tensor with requires_grad=True")
    if gy is None:
        if y.size != 1:
            raise BadInput(f"backward: gy is needed for a tensor of shape {y.shape}; only a single number has a default")
        return Tensor(backend.full(y.shape, 1.0, like=y.data))
    gy = gy.astype(y.dtype) if isinstance(gy, Tensor) else Tensor(backend.asarray(gy, like=y.data, dtype=y.dtype))
    if gy.shape != y.shape:
        raise BadInput(f"backward: gy has shape {gy.shape}, the tensor has {y.shape}")
    return gy
