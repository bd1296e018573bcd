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

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import backend, kernels
from .backend import Array
from .contexts import Context, reusable
from .errors import BadInput
from .hooks import Hooks
from .inplace import clock, last_write, owner
from .tensor import Tensor, check_differentiable


class _Mode(threading.local):
    """What operations do beside computing, in each thread for itself."""

    recording = True
    watchers: tuple[Any, ...] = ()  # told of every operation: see `checkpoint` and `detect_anomaly`
    anomaly: Any = None  # stands between the engine and every backward rule while anomalies are looked for


mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return mode.recording


@reusable
def _recording(on: bool) -> Iterator[None]:
    before, mode.recording = mode.recording, on
    try:
        yield
    finally:
        mode.recording = before


def no_grad() -> Context[None]:
    """`with no_grad():` or `@no_grad()`: compute without recording, so nothing is kept for backward."""
    return _recording(False)


def enable_grad() -> Context[None]:
    """`with enable_grad():` records again inside a `no_grad` block."""
    return _recording(True)


class Op:
    """One differentiable operation: arrays in, one array out.

    A subclass gives `forward(*arrays) -> array` and `backward(gy) -> one gradient per input`, and
    calls `self.save(...)` in forward for the inputs and the output that backward needs; what carries
    no gradient (a mask, a sign) goes to `self.cache`. Options go to the constructor: `Sum(axis=1)(x)`.
    Broadcasting is undone by the engine: a gradient may have the broadcast shape. `self.needs[i]` says
    whether the gradient of input i is wanted.
    """

    edges: tuple[Edge, ...] = ()  # where each input came from; None where no gradient is needed
    released = False
    takes_bfloat16: Any = False  # True; "kernel": where one does, or a method that says so; else it is given float32, and gives it
    cache: Any = None
    hooks: Hooks | None = None
    block: Any = None  # the checkpointed block that must be computed again before backward

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
        return tuple(slot.tensor(self) for slot in self.slots)

    def __call__(self, *inputs: Tensor) -> Tensor:
        self._kept: tuple[Array, ...] = ()
        _check_tensors(self, inputs)
        if backend.narrow:
            inputs = kernels.taken(self, inputs)
        arrays = [x.data for x in inputs]
        if len(arrays) > 1:
            _tell_apart(self, arrays)
        y = self.forward(*arrays)
        out = Tensor(y)
        if mode.recording and backend.kind(out.dtype) == "f" and any([x.requires_grad for x in inputs]):
            self._record(inputs, arrays, y)
            out.requires_grad, out.creator = True, self
        else:
            self.release()
        for watcher in mode.watchers:
            watcher.called(self, arrays, y)
        return out

    def _record(self, inputs: Sequence[Tensor], arrays: Sequence[Array], y: Array) -> None:
        self.order = next(clock)
        self.needs = tuple([x.requires_grad for x in inputs])
        self.edges = tuple([x.edge if x.requires_grad else None for x in inputs])
        self.input_types = tuple([(x.shape, x.dtype) for x in inputs])
        self.output_type = (y.shape, backend.dtype_of(y))
        self.slots = tuple([self._slot(kept, arrays, y) for kept in self._kept])
        self._kept = ()

    def _slot(self, kept: Array, arrays: Sequence[Array], y: Array) -> Slot:
        """Find out which input, or the output, a saved array is, so that it keeps its own history."""
        for array, edge in zip(arrays, self.edges, strict=True):
            if kept is array:
                return Slot(kept, edge)
        if kept is y:
            return Slot(kept, OUTPUT)
        raise TypeError(
            f"{self.name} saves an array that is neither input nor output: derivatives of its gradient would miss it"
        )

    def release(self) -> None:
        """Let go of everything kept for backward."""
        self._kept = self.slots = ()
        self.cache = None

    def gradients(self, gy: Tensor, create_graph: bool) -> Sequence[Tensor | None]:
        """The gradient of every input, given the gradient of the output."""
        gxs = self.backward(gy)
        return gxs if isinstance(gxs, tuple) else (gxs,)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={_short(value)}" for name, value in self.options.items())
        if not self.edges:
            return f"{self.name}({options})"
        return f"{self.name}({options}): {', '.join(str(shape) for shape, _ in self.input_types)} -> {self.output_type[0]}"


class FusedOp(Op):
    """An operation with a kernel: forward and backward work on arrays, `reference` on Tensors.

    All inputs are saved, and after them what forward saves: the output. What else backward needs (a
    mean, a deviation) goes to `self.cache`. For arrays that there are no kernels for (see `kernels.of`), the operation is its reference: as
    right, only slower. `portable` says that forward and backward need none.
    """

    portable = False

    def __call__(self, *inputs: Tensor) -> Tensor:
        _check_tensors(self, inputs)
        if self.portable or kernels.available(inputs[0].data):
            return super().__call__(*inputs)
        return type(self).reference(*inputs, **self.options)

    @staticmethod
    def reference(*inputs: Any, **options: Any) -> Tensor:
        """The textbook definition, composed of primitives."""
        raise TypeError("a fused operation must define its reference")

    def _record(self, inputs: Sequence[Tensor], arrays: Sequence[Array], y: Array) -> None:
        self._kept = (*arrays, *self._kept)
        super()._record(inputs, arrays, y)

    @property
    def saved(self) -> tuple[Array, ...]:  # type: ignore[override]
        return tuple(slot.array for slot in self.slots)

    def gradients(self, gy: Tensor, create_graph: bool) -> Sequence[Tensor | None]:
        if create_graph:
            inputs = [slot.tensor(self) for slot in self.slots[: len(self.edges)]]
            return partials(lambda *x: type(self).reference(*x, **self.options), inputs, gy, self.needs)
        gxs = self.backward(gy.data)
        gxs = gxs if isinstance(gxs, tuple) else (gxs,)
        return tuple(None if gx is None else Tensor(gx) for gx in gxs)


Edge = Op | Tensor | None
OUTPUT = object()  # marks a saved output: pointing to the operation itself would be a reference cycle


class Slot:
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


def _check_tensors(op: Op, inputs: Sequence[Any]) -> None:
    for x in inputs:
        if not isinstance(x, Tensor):
            raise TypeError(f"{op.name}: a Tensor is needed, not {type(x).__name__}; make one with minidiff.tensor(…)")


def _tell_apart(op: Op, arrays: list[Array]) -> None:
    """Give two inputs that share one array object (x and x.detach()) objects of their own.

    Saved arrays are told apart by identity, and these two have different histories. Raises BadInput
    where the arrays are of different libraries, and so on different devices.
    """
    kind, seen = type(arrays[0]), set()
    for i, array in enumerate(arrays):
        if type(array) is not kind:
            backend.check_together(op.name.lower(), op.forward, arrays)
        if id(array) in seen:
            arrays[i] = array[...]
        seen.add(id(arrays[i]))


def _short(value: Any) -> str:
    """An option as text; an array, such as an index, by its shape."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))}{',' * (len(value) == 1)})"
    return f"array{tuple(value.shape)}" if backend.is_array(value) else repr(value)


class Alias(Op):
    """y = x, with a place of its own in the graph            gx = gy"""

    def forward(self, x: Array) -> Array:
        return x[...]

    def backward(self, gy: Tensor) -> Tensor:
        return gy


class Copy(Op):
    """y = x, in memory of its own            gx = gy"""

    takes_bfloat16 = True

    def forward(self, x: Array) -> Array:
        return backend.copy(x)

    def backward(self, gy: Tensor) -> Tensor:
        return gy


# ------------------------------------------------------------------------------- the backward pass


def backward(y: Tensor, gy: Any = None, create_graph: bool = False, retain_graph: bool = False) -> None:
    """Add dy/dx, weighted by `gy`, to `x.grad` of every leaf x that y was computed from.

    gy has y's shape; it may be left out when y is a single number. With `create_graph` the
    gradients can be differentiated again; `retain_graph` keeps what backward needs for another call.
    Raises BadInput where y has no history or gy does not fit it, RuntimeError where what forward kept
    is gone or has been written to.

    What it leaves in `.grad` is in memory of its own, which may be written to. Several threads may call it
    at once, each for a graph of its own; in a leaf that they share, their gradients add up.
    """
    gy = _upstream("backward", y, gy)
    found = propagate([(y.edge, gy)], None, create_graph, retain_graph)
    with _recording(create_graph):
        for leaf, gx in found.items():
            _accumulate(leaf, gx)


_accumulating = threading.Lock()


def _accumulate(x: Tensor, gx: Tensor) -> None:
    """x.grad ← x.grad + gx, in one piece: another thread may be adding to the same tensor."""
    with _accumulating:
        x.grad = gx if x.grad is None else x.grad + gx


def _new_lock() -> None:
    global _accumulating
    _accumulating = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)  # the thread that held it is not there


def grad(
    outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], gy: Any = None, create_graph: bool = False,
    retain_graph: bool = False, allow_unused: bool = True,
) -> Any:  # fmt: skip
    """Σ dy/dx over all y in `outputs`, weighted by `gy`, for each x in `inputs`, leaf or not.

    outputs  a tensor, or several
    inputs   a tensor: gives its gradient. Several: gives a list of gradients
    gy       the gradient of the output, as in `backward`; for several outputs, one for each
    allow_unused   gives None for an input that no output depends on; if False, raises BadInput

    Only the part of the graph between inputs and outputs is walked, and no `.grad` is touched.
    What backward needs is released there unless `retain_graph` or `create_graph`.
    """
    single = isinstance(inputs, Tensor)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    ys, gys = ([outputs], [gy]) if isinstance(outputs, Tensor) else (list(outputs), gy)
    for x in (*ys, *inputs):
        if not isinstance(x, Tensor):
            raise BadInput(f"grad: outputs and inputs must be tensors, one is a {type(x).__name__}")
    if gys is None:
        gys = [None] * len(ys)
    if len(gys) != len(ys):
        raise BadInput(f"grad: there are {len(ys)} outputs and {len(gys)} gradients gy; each output needs one, or None")
    start = [(y.edge, _upstream("grad", y, g)) for y, g in zip(ys, gys, strict=True)]
    wanted = {x.edge for x in inputs}
    found = propagate(start, wanted, create_graph, retain_graph)
    gxs = [found.get(x.edge) for x in inputs]
    with _recording(create_graph):
        for i, x in enumerate(inputs):
            if gxs[i] is not None and any(x.edge is other.edge for other in inputs[:i]):
                gxs[i] = Copy()(gxs[i])  # asked for twice: each result is in memory of its own
    unused = [i for i, gx in enumerate(gxs) if gx is None]
    if unused and not allow_unused:
        i = unused[0]
        raise BadInput(f"grad: no output depends on input {i} {inputs[i].shape}; allow_unused=True gives None for it")
    return gxs[0] if single else gxs


def partials(
    fn: Callable[..., Tensor], inputs: Sequence[Tensor], gy: Tensor, needs: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of fn(*inputs) with respect to each needed argument alone, themselves differentiable."""
    with enable_grad():
        arguments = [Alias()(x) for x in inputs]
        y = fn(*arguments)
        wanted = [x for x, need in zip(arguments, needs, strict=True) if need]
        gxs = iter(grad(y, wanted, gy, create_graph=True))
        return [next(gxs) if need else None for need in needs]


def propagate(
    start: Sequence[tuple[Edge, Tensor]], wanted: set[Edge] | None, create_graph: bool, retain_graph: bool
) -> dict[Any, Tensor]:
    """Walk from the last operation to the first, handing each the gradient of its output.

    Gives {leaf: gradient}, or {edge: gradient} for the edges in `wanted`. An operation is always
    younger than those it depends on, so the youngest first is an order in which each operation has
    received all of its gradient before it hands it on.
    """
    grads: dict[Any, Tensor] = {}
    found: dict[Any, Tensor] = {}

    def given_out(edge: Edge) -> bool:
        return isinstance(edge, Tensor) if wanted is None else edge in wanted

    with _recording(create_graph):
        for edge, gy in start:
            grads[edge] = grads[edge] + gy if edge in grads else Copy()(gy) if given_out(edge) else gy
        for op, needs in _youngest_first([edge for edge, _ in start], wanted):
            gy = grads.pop(op, None)
            if gy is None:
                continue
            if op.hooks is not None:
                gy = op.hooks.run(gy)
                if wanted is None and op.hooks.keeping is not None:
                    _accumulate(op.hooks.keeping, Copy()(gy))
            if wanted is not None and op in wanted:
                found[op] = gy if op.hooks is None else Copy()(gy)
            if True not in needs:
                continue
            gxs = _gradients(op, gy, needs, create_graph)
            for i, (edge, gx) in enumerate(zip(op.edges, gxs, strict=True)):
                if not needs[i] or gx is None:
                    continue
                gx = _fit(op, i, gx)
                if edge in grads:
                    gx = grads[edge] + gx  # a new array: a gradient that has been handed on may be shared and is never written to
                elif given_out(edge):
                    gx = _own(gx, [gy, *gxs[:i], *gxs[i + 1 :]], op)
                grads[edge] = gx
            del gxs  # they are large, and the next operation's are about to be made
            if not (retain_graph or create_graph):
                op.release()
                op.released = True
        for edge, gx in grads.items():
            if isinstance(edge, Tensor) and (wanted is None or edge in wanted):
                check_differentiable(edge)
                found[edge] = gx if edge.hooks is None else Copy()(edge.hooks.run(gx))  # a hook may keep what it is given
    return found


def _youngest_first(start: Sequence[Edge], wanted: set[Edge] | None) -> list[tuple[Op, tuple[bool, ...]]]:
    """The operations that lead from `start` to what is wanted, and which of their inputs do."""
    only_ops = wanted is not None and all(isinstance(edge, Op) for edge in wanted)
    oldest = min((edge.order for edge in wanted), default=0) if only_ops else 0  # nothing older leads to any of these
    seen = {edge for edge in start if isinstance(edge, Op)}
    stack = list(seen)
    while stack:
        for edge in stack.pop().edges:
            if isinstance(edge, Op) and edge not in seen and edge.order >= oldest:
                seen.add(edge)
                stack.append(edge)
    ops = sorted(seen, key=lambda op: op.order)
    if wanted is None:
        return [(op, op.needs) for op in reversed(ops)]
    leads, steps = set(wanted), []
    for op in ops:
        needs = tuple([edge in leads for edge in op.edges])
        if True in needs or op in wanted:
            leads.add(op)
            steps.append((op, needs))
    return steps[::-1]


def _gradients(op: Op, gy: Tensor, needs: tuple[bool, ...], create_graph: bool) -> Sequence[Tensor | None]:
    if op.released:
        raise RuntimeError(
            f"{op.name}: backward a second time, but what it kept was released; use backward(retain_graph=True) the first time"
        )
    while op.block is not None:  # one checkpoint may lie inside another
        op.block.restore()
    for slot in op.slots:
        if last_write(slot.array) > op.order:
            raise RuntimeError(
                f"{op.name}: backward needs numbers of shape {slot.array.shape} that were written to since forward;"
                f" write to them after backward, or to a copy"
            )
    all_needs, op.needs = op.needs, needs
    try:
        gxs = (op if mode.anomaly is None else mode.anomaly.around(op)).gradients(gy, create_graph)
    finally:
        op.needs = all_needs
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
        if all(other == dtype for _, other in op.input_types if backend.kind(other) == "f"):
            raise TypeError(f"{op.name}.backward gives a gradient of {gx.dtype} for input {i} of {dtype}")
        gx = astype(gx, dtype)
    return gx


def _own(gx: Tensor, others: Sequence[Tensor | None], op: Op) -> Tensor:
    """gx, which `op` has just made, or a copy of it where its memory is not its alone.

    An operation may hand on the gradient that it was given (`Add`), a view of it (`Reshape`), one array for
    several inputs, or what it had kept. Of arrays of other libraries than NumPy and CuPy nobody can tell.
    """
    array, memory = gx.data, owner(gx.data)
    held = [*[other.data for other in others if other is not None], *[slot.array for slot in op.slots]]
    alone = (
        backend.indexes_like_numpy(array)
        and getattr(array.flags, "writeable", True)  # what NumPy broadcasts is not, and CuPy repeats by steps of 0
        and not any(step == 0 and n > 1 for step, n in zip(array.strides, array.shape, strict=True))
        and all(owner(other) is not memory for other in held)
    )
    return gx if alone else Copy()(gx)


def _upstream(name: str, y: Tensor, gy: Any) -> Tensor:
    if not y.requires_grad:
        raise BadInput(f"{name}: this tensor was not computed from any tensor with requires_grad=True")
    if gy is None:
        if y.size != 1:
            raise BadInput(f"{name}: gy is needed for a tensor of shape {y.shape}; only a single number has a default")
        return Tensor(backend.full(y.shape, 1.0, like=y.data))
    gy = gy if isinstance(gy, Tensor) else Tensor(backend.asarray(gy, like=y.data))
    if backend.kind(gy.dtype) not in "fiub":
        raise BadInput(f"{name}: gy must hold real numbers, got {gy.dtype}")
    if gy.shape != y.shape:
        raise BadInput(f"{name}: gy has shape {gy.shape}, the tensor has {y.shape}")
    if gy.device != y.device:
        raise BadInput(f"{name}: gy is on {gy.device}, the tensor on {y.device}; move gy with .to({y.device!r})")
    return gy.astype(y.dtype)
