"""Would the checks notice a wrong gradient? Every operation is broken on purpose, in every way that can be thought of.

A mutant is one operation with one mistake in its gradients, such as a factor that is missing or two
axes that are swapped. It is caught when a case of the table fails for it; one that no case notices
is a hole in the checks, not in the operation.

Some mistakes change nothing: a gradient of one number read backwards is the same gradient. Such a
mistake is no mutant. Which they are is decided before anything is checked, by looking at the
gradients themselves: `changes` runs the cases and asks whether any number becomes another.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .. import backend, ops
from ..autograd import FusedOp, Op
from ..gradcheck import gradcheck
from ..tensor import Tensor
from .case import CASES, Case
from .table import counted
from .testing import Subject

# --------------------------------------------------------------------------------- what can be wrong

Mistake = Callable[[np.ndarray], np.ndarray]


def _transposed(g: np.ndarray) -> np.ndarray:
    """Read along the columns where rows were meant: the right shape, the wrong order."""
    return g.T.reshape(g.shape)


# Mistakes in the gradient of one input. Each gives an array of the same shape, so that only numbers tell.
MISTAKES: dict[str, Mistake] = {
    "zero": lambda g: 0.0 * g,
    "scaled by 1.1": lambda g: 1.1 * g,
    "sign": lambda g: -g,
    "a constant added": lambda g: g + 0.1,
    "transposed": _transposed,
    "backwards": lambda g: g.reshape(-1)[::-1].reshape(g.shape),
    "shifted by one": lambda g: np.roll(g.reshape(-1), 1).reshape(g.shape),
    "one element lost": lambda g: g * (np.arange(g.size).reshape(g.shape) != g.size - 1),
}
DROPPED = "dropped"  # the gradient of one input of several is None
SWAPPED = "swapped with the next"  # the gradients of two inputs of one shape
UNWEIGHTED = "upstream gradient ignored"  # as if gy were 1
LOSSY_SUM = "broadcast sum missing"  # the first of the repeats instead of their sum
DETACHED = "history cut off"  # right, but not differentiable: seen by the second order alone
WRONG_REFERENCE = "reference scaled by 1.1"  # of a fused operation: its textbook definition is wrong


@dataclass(frozen=True)
class Mutant:
    """An operation with a mistake; `input` says in the gradient of which input."""

    op: type[Op]
    mistake: str
    input: int | None = None

    def __str__(self) -> str:
        return f"{self.op.__name__}: {self.mistake}" + (f", input {self.input}" if self.input is not None else "")

    @contextlib.contextmanager
    def living(self) -> Iterator[None]:
        """Inside, the operation makes the mistake."""
        if self.mistake == WRONG_REFERENCE:
            attribute, mutated = "reference", staticmethod(_scaled(self.op.reference))  # type: ignore[attr-defined]
        elif self.mistake == LOSSY_SUM:
            with _replaced(ops, "sum_to", _lossy(ops.sum_to, f"{self.op.__name__}.backward")):
                yield
            return
        else:
            attribute, mutated = "gradients", self._wrong_gradients()
        with _replaced(self.op, attribute, mutated):
            yield

    def _wrong_gradients(self) -> Callable[..., Any]:
        right = self.op.gradients

        def gradients(op: Op, gy: Tensor, create_graph: bool) -> Sequence[Tensor | None]:
            if self.mistake == UNWEIGHTED:
                return right(op, Tensor(backend.full(gy.shape, 1.0, like=gy.data)), create_graph)
            gxs = list(right(op, gy, create_graph))
            if self.mistake == SWAPPED:
                pair = gxs[self.input : self.input + 2]  # type: ignore[operator]
                alike = all(g is not None for g in pair) and len({g.shape for g in pair}) == 1
                return [*gxs[: self.input], *(pair[::-1] if alike else pair), *gxs[self.input + 2 :]]
            for i, gx in enumerate(gxs):
                if gx is not None and self.input in (None, i):
                    gxs[i] = self._wrong(gx)
            return gxs

        return gradients

    def _wrong(self, gx: Tensor) -> Tensor | None:
        if self.mistake == DROPPED:
            return None
        if self.mistake == DETACHED:
            return gx.detach()
        return Tensor(backend.asarray(MISTAKES[self.mistake](gx.numpy()), like=gx.data))


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """owner.name is `value` inside; what was inherited before is inherited again afterwards."""
    own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def _scaled(reference: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *inputs, **options: reference(*inputs, **options) * 1.1


def _lossy(sum_to: Callable[..., Tensor], op: str) -> Callable[..., Tensor]:
    """sum_to that, in this operation's backward, takes the first of the repeats: right in shape and dtype."""

    def lossy(gx: Tensor, shape: tuple[int, ...], where: str = "sum_to") -> Tensor:
        if not where.startswith(op):
            return sum_to(gx, shape, where=where)
        lead = gx.ndim - len(shape)
        first = tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)
        return Tensor(gx.data[(*(0,) * lead, *first)].reshape(shape))

    return lossy


# --------------------------------------------------------------------------- which mutants there are


def operations(parent: type[Op] = Op) -> list[type[Op]]:
    """Every operation of the package: the subclasses of Op, theirs, and so on."""
    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{module.name}")
    found, stack = set(), [parent]
    while stack:
        below = stack.pop().__subclasses__()
        found.update(op for op in below if op is not FusedOp and op.__module__.startswith("minidiff."))
        stack.extend(below)
    return sorted(found, key=lambda op: op.__name__)


@dataclass(frozen=True)
class Use:
    """One application of an operation in a case: the gradient it was given, those it gave, its inputs' shapes and needs."""

    op: type[Op]
    upstream: np.ndarray
    gradients: tuple[np.ndarray | None, ...]
    shapes: tuple[tuple[int, ...], ...]
    needs: tuple[bool, ...]


@cache
def uses(case: Case) -> tuple[Use, ...]:
    """Every operation that runs backward in a case, with the gradients that it gives."""
    found: list[Use] = []

    def watched(right: Callable[..., Any]) -> Callable[..., Any]:
        def gradients(op: Op, gy: Tensor, create_graph: bool) -> Sequence[Tensor | None]:
            gxs = right(op, gy, create_graph)
            arrays = tuple(None if gx is None else gx.numpy() for gx in gxs)
            found.append(Use(type(op), gy.numpy(), arrays, tuple(shape for shape, _ in op.input_types), op.needs))
            return gxs

        return gradients

    subject = Subject.of(case)
    with _replaced(Op, "gradients", watched(Op.gradients)), _replaced(FusedOp, "gradients", watched(FusedOp.gradients)):
        subject.run(subject.arrays)
    return tuple(found)


def changes(mistake: str, input: int, use: Use) -> bool:
    """Whether this mistake gives other numbers than the right ones, in the gradient of this input."""
    g = use.gradients[input] if input < len(use.gradients) and use.needs[input] else None
    if g is None:
        return False
    if mistake == DROPPED:
        return len(use.gradients) > 1 and bool(np.any(g))
    if mistake == LOSSY_SUM:
        return g.shape != use.shapes[input]
    if mistake == UNWEIGHTED:
        return bool(np.any(g)) and not np.allclose(use.upstream, 1.0)
    if mistake == SWAPPED:
        other = use.gradients[input + 1] if input + 1 < len(use.gradients) and use.needs[input + 1] else None
        return other is not None and other.shape == g.shape and not np.allclose(other, g)
    wrong = MISTAKES[mistake](g)
    return bool(np.any(np.abs(wrong - g) > 1e-3 * np.abs(g).max(initial=0.0)))


def mutants(cases: Sequence[Case] | None = None) -> list[Mutant]:
    """Every mistake that changes a number, for every input of every operation."""
    cases = CASES if cases is None else cases
    found: list[Mutant] = []
    for op in operations():
        used = [use for case in cases for use in uses(case) if use.op is op]
        inputs = range(max((len(use.gradients) for use in used), default=0))
        for mistake in (*MISTAKES, DROPPED, SWAPPED):
            found += [Mutant(op, mistake, i) for i in inputs if any(changes(mistake, i, use) for use in used)]
        for mistake in (LOSSY_SUM, UNWEIGHTED):
            found += [Mutant(op, mistake)] * any(changes(mistake, i, use) for use in used for i in inputs)
        if used:
            found.append(Mutant(op, DETACHED))
            found += [Mutant(op, WRONG_REFERENCE)] * issubclass(op, FusedOp)
    return found


# ---------------------------------------------------------------------------------- who catches them


@dataclass(frozen=True)
class Verdict:
    """By which check of which case a mutant was caught; None twice where none did."""

    mutant: Mutant
    check: str | None
    case: str | None

    @property
    def caught(self) -> bool:
        return self.check is not None

    def to_json(self) -> dict[str, Any]:
        return {"operation": self.mutant.op.__name__, "mistake": self.mutant.mistake, "input": self.mutant.input,
                "caught_by": self.check, "case": self.case}  # fmt: skip


def hunt(mutants: Iterable[Mutant], cases: Sequence[Case] | None = None) -> Iterator[Verdict]:
    """Run the checks on each mutant until one of them fails, the simplest case first."""
    counts = [(Counter(use.op for use in uses(case)), case) for case in (CASES if cases is None else cases)]
    for mutant in mutants:
        using = [(count[mutant.op], count.total(), i, case) for i, (count, case) in enumerate(counts) if count[mutant.op]]
        yield next(filter(None, (_caught(mutant, case) for *_, case in sorted(using))), Verdict(mutant, None, None))


def _caught(mutant: Mutant, case: Case) -> Verdict | None:
    """The check of this case that fails, if one does. Only a wrong number counts, never a crash."""
    for check, run in _checks_for(mutant, case):
        with mutant.living():
            try:
                run()
            except AssertionError:
                return Verdict(mutant, check, case.name)
    return None


def _checks_for(mutant: Mutant, case: Case) -> list[tuple[str, Callable[[], Any]]]:
    """The checks of a case that can see this kind of mistake."""
    if mutant.mistake == WRONG_REFERENCE:
        subject = Subject.of(case)
        return [("value", lambda: subject.check_values_and_gradients("float64", "contiguous")),
                ("create_graph", subject.check_create_graph)]  # fmt: skip
    order = 2 if mutant.mistake == DETACHED else 1
    return [(f"order {order}", lambda: gradcheck(case.ours, case.inputs(), order, h=case.h))]


def as_text(verdicts: Sequence[Verdict]) -> str:
    """How many mutants of each kind there are and how many were caught; those that were not, one line each."""
    kinds = list(dict.fromkeys(verdict.mutant.mistake for verdict in verdicts))
    width = max([len("mistake"), *map(len, kinds)])
    lines = [f"{'mistake':<{width}}  mutants   caught"]
    for kind in kinds:
        caught = [verdict.caught for verdict in verdicts if verdict.mutant.mistake == kind]
        lines.append(f"{kind:<{width}}  {len(caught):>7}  {sum(caught):>7}")
    missed = [verdict for verdict in verdicts if not verdict.caught]
    lines += ["", *(f"MISSED  {verdict.mutant}" for verdict in missed), *([""] if missed else [])]
    return "\n".join([*lines, summary(verdicts)])


def summary(verdicts: Sequence[Verdict]) -> str:
    """The last line: how many mutants, and whether all were caught."""
    missed = sum(not verdict.caught for verdict in verdicts)
    what = f"{counted(len(verdicts), 'mutant')} of {counted(len({v.mutant.op for v in verdicts}), 'operation')}"
    return f"{what}: {f'{missed} MISSED' if missed else 'all caught'}"
