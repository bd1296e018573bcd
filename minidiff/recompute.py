"""Memory for time: forget what a piece of the graph kept, and compute it again when backward comes to it.

Of a network of K blocks, backward needs what every operation in every block kept. With each block in
a `checkpoint`, only the K inputs of the blocks are kept, and the inside of one block at a time, for
one more forward pass in all (Chen et al. 2016, "Training deep nets with sublinear memory cost").
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from . import backend
from .autograd import Op, enable_grad, is_grad_enabled, mode
from .backend import Array
from .inplace import clock, last_write
from .tensor import Tensor

T = TypeVar("T")


def checkpoint(fn: Callable[..., T], *inputs: Any) -> T:
    """fn(*inputs), whose operations keep nothing for backward: fn runs again when backward comes to them.

    Gradients are what they would be without, of any order, for inputs and for parameters that fn finds
    elsewhere. fn may give anything and may use `checkpoint` itself. Dropout, which draws from
    `backend.default_rng()`, drops the same numbers the second time. fn must do the same both times,
    so chance of other kinds must not enter it; what it changes elsewhere, such as the running statistics
    of a batch norm, it changes twice.

    Raises RuntimeError, in backward, where fn took another path the second time, or where a tensor that
    it reads has been written to since, or one of `inputs` or of those with gradients given another array.
    """
    return _Block(fn, inputs).run() if is_grad_enabled() else fn(*inputs)


class _Block:
    """The operations of one checkpoint, and what it takes to compute them again.

    The operations hold the block, so it holds them only weakly, and those that are gone need nothing.
    """

    def __init__(self, fn: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
        self.fn, self.inputs = fn, inputs
        self.chance = backend.default_rng().bit_generator.state
        self.time = next(clock)

    def run(self) -> Any:
        """fn(*inputs), recorded, with nothing kept but the numbers it began from."""
        with _recorded(_Recorder()) as ops:
            result = self.fn(*self.inputs)
        self.done = next(clock)
        read = [x for x in self.inputs if isinstance(x, Tensor)]
        read += [edge for op in ops for edge in op.edges if isinstance(edge, Tensor)]
        self.read: list[tuple[Tensor, Array]] = [(x, x.data) for x in {id(x): x for x in read}.values()]
        self.ops = [weakref.ref(op) for op in ops]
        for op in ops:
            op.cache, op.block = None, self
            for slot in op.slots:
                if not isinstance(slot.edge, Tensor):  # a leaf keeps its numbers anyway
                    slot.array = None
        return result

    def restore(self) -> None:
        """Compute what the operations had kept, and give it back to them."""
        for x, array in self.read:
            if x.data is not array or last_write(array) > self.time:
                raise self.changed(x, "written to" if x.data is array else "given another array")
        with _chance(self.chance), enable_grad(), _recorded(_Again(self)) as again:
            self.fn(*self.inputs)
        paths = [[_signature(op) for op in ops] for ops in ([ref() for ref in self.ops], again)]
        self._compare(*paths)
        for ref, new in zip(self.ops, again, strict=True):
            old = ref()
            if old is not None and not old.released:
                old.cache, old.block = new.cache, new.block
                for slot, fresh in zip(old.slots, new.slots, strict=True):
                    slot.array = fresh.array
        twins = dict(zip(again, self.ops, strict=True))
        for inner in {new.block for new in again} - {None}:  # checkpoints inside: theirs are our operations now
            inner.ops = [twins[ref()] for ref in inner.ops]

    def changed(self, x: Any, how: str) -> RuntimeError:
        """What to raise where x, which fn reads, is no longer what it was."""
        return RuntimeError(
            f"checkpoint: a tensor of shape {x.shape} that {_name(self.fn)} reads was {how} since forward;"
            f" change it after backward"
        )

    def _compare(self, before: list[Any], now: list[Any]) -> None:
        for i, (one, other) in enumerate(zip(before, now, strict=False)):
            if one is not None and one != other:
                raise RuntimeError(
                    f"checkpoint: {_name(self.fn)} took another path the second time: operation {i} was {one}, is {other}"
                )
        if len(before) != len(now):
            raise RuntimeError(
                f"checkpoint: {_name(self.fn)} took another path the second time: {len(before)} operations, then {len(now)}"
            )


class _Recorder:
    """Collects the operations that are recorded."""

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def called(self, op: Op, arrays: Any, y: Any) -> None:
        if op.edges:
            self.ops.append(op)


class _Again(_Recorder):
    """The same when fn runs again, for which it must find the numbers it found the first time.

    What was written to between the two runs was written by others; what fn writes itself, it writes again.
    """

    def __init__(self, block: _Block) -> None:
        super().__init__()
        self.block, self.began = block, next(clock)

    def called(self, op: Op, arrays: Any, y: Any) -> None:
        for x in arrays:
            if self.block.done < last_write(x) < self.began:
                raise self.block.changed(x, "written to")
        super().called(op, arrays, y)


@contextlib.contextmanager
def _recorded(recorder: _Recorder) -> Iterator[list[Op]]:
    before = mode.watchers
    mode.watchers = (*before, recorder)
    try:
        yield recorder.ops
    finally:
        mode.watchers = before


@contextlib.contextmanager
def _chance(state: Any) -> Iterator[None]:
    """The generator of dropout as it was in `state`, and afterwards as it is now."""
    generator = backend.default_rng().bit_generator
    before, generator.state = generator.state, state
    try:
        yield
    finally:
        generator.state = before


def _signature(op: Op | None) -> str | None:
    return op and f"{op.name} {', '.join(str(shape) for shape, _ in op.input_types)} -> {op.output_type[0]}"


def _name(fn: Any) -> str:
    return getattr(fn, "__qualname__", type(fn).__name__)
