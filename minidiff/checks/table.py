"""`minidiff gradcheck`: every operation, how far it is off by dtype and by order, and how long the checks took."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import BadInput
from ..gradcheck import compare
from .case import CASES, Case
from .testing import TOLERANCE, Subject, error

RTOL = 1e-5  # gradcheck's


@dataclass
class Row:
    """What the cases of one operation gave: the largest error of each kind, and a line for each that failed.

    orders     {1: …, 2: …}: gradients in float64 against differences, relative to the largest gradient
    values     {dtype: …}: results against what the case expects, in float64
    gradients  {dtype: …}: gradients against the differentiable ones (a fused operation's textbook definition) in float64
    """

    operation: str
    cases: int = 0
    orders: dict[int, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        return {
            "operation": self.operation, "cases": self.cases, "passed": self.passed,
            "orders": {str(order): _digits(e) for order, e in self.orders.items()},
            "values": {dtype: _digits(e) for dtype, e in self.values.items()},
            "gradients": {dtype: _digits(e) for dtype, e in self.gradients.items()},
            "seconds": round(self.seconds, 3), "failures": self.failures,
        }  # fmt: skip


def _digits(e: float) -> float | None:
    """Three digits; None where there is no number, which JSON has no word for."""
    return float(f"{e:.3g}") if np.isfinite(e) else None


def measure(
    operations: Sequence[str] = (), orders: Sequence[int] = (1, 2), dtypes: Sequence[str] = tuple(TOLERANCE), *,
    each: Callable[[Iterable[Case]], Iterable[Case]] = iter, cases: Sequence[Case] | None = None,
) -> list[Row]:  # fmt: skip
    """Check every case of the operations named, or of all: one row for each operation, in alphabetical order.

    each: what the cases are passed through on the way, such as a progress bar. Raises BadInput for an
    unknown operation.
    """
    rows: dict[str, Row] = {}
    for case in each(select(operations, CASES if cases is None else cases)):
        row = rows.setdefault(case.operation, Row(case.operation))
        _measure_case(row, case, orders, dtypes)
    return sorted(rows.values(), key=lambda row: row.operation.lower())


def select(operations: Sequence[str], cases: Sequence[Case]) -> list[Case]:
    """The cases of these operations; all where none is named."""
    known = {case.operation for case in cases}
    for name in operations:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "without a name all are checked"
            raise BadInput(f"gradcheck: there is no operation '{name}'; {hint}")
    return [case for case in cases if not operations or case.operation in operations]


def _measure_case(row: Row, case: Case, orders: Sequence[int], dtypes: Sequence[str]) -> None:
    """Add one case to its operation's row. What raises is a failure of this case, not the end of the table."""
    start = time.perf_counter()
    row.cases += 1
    try:
        for order in orders:
            _measure_order(row, case, order)
        for dtype in dtypes:
            _measure_dtype(row, case, dtype)
    except Exception as wrong:
        row.failures.append(f"{case.name}: {type(wrong).__name__}: {wrong}")
    row.seconds += time.perf_counter() - start


def _measure_order(row: Row, case: Case, order: int) -> None:
    for c in compare(case.ours, case.inputs(), order, h=case.h):
        row.orders[order] = max(row.orders.get(order, 0.0), c.error)
        if not c.error <= RTOL:
            what = "gy" if c.input is None else f"input {c.input}"
            row.failures.append(
                f"{case.name}: order {order}, gradient of {what} at {c.index}: analytic {c.analytic:.8g}, "
                f"numeric {c.numeric:.8g}"
            )


def _measure_dtype(row: Row, case: Case, dtype: str) -> None:
    subject = Subject.of(case)
    arrays, upstream = subject.cast(dtype)
    ys, gs = subject.run(arrays, upstream)
    found = [("value", row.values, y, v) for y, v in zip(ys, subject.values, strict=True)]
    found += [("gradient", row.gradients, g, e) for g, e in zip(gs, subject.gradients, strict=True)]
    for what, column, actual, expected in found:
        off = error(0.0 if actual is None else actual.numpy(), expected)
        column[dtype] = max(column.get(dtype, 0.0), off)
        if not off <= TOLERANCE[dtype]:
            row.failures.append(f"{case.name}: {what} in {dtype}: error {off:.1e}, limit {TOLERANCE[dtype]:.0e}")


# ------------------------------------------------------------------------------------------ as text

GREEN, RED, FAINT, BOLD, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"


def as_text(rows: Sequence[Row], orders: Sequence[int], dtypes: Sequence[str], colour: bool = False) -> str:
    """The table, the failures one line each, and a line that sums up."""
    paint = (lambda text, *codes: "".join(codes) + text + PLAIN) if colour else (lambda text, *codes: text)
    width = max([len("operation"), *(len(row.operation) for row in rows)])
    groups = [("differences", [f"order {order}" for order in orders])] if orders else []
    groups += [(dtype, ["value", "gradient"]) for dtype in dtypes]
    # Each group of columns has its name above it; eight characters a column, two between groups.
    above = "".join(f"  {name:^{9 * len(names) - 1}}" for name, names in groups)
    names = "".join("  " + " ".join(f"{name:>8}" for name in names) for _, names in groups)
    lines = [paint(f"{'':<{width}}       {above}".rstrip(), FAINT),
             paint(f"{'operation':<{width}}  cases{names}     time", BOLD)]  # fmt: skip
    for row in rows:
        cells = ["  " + " ".join(_cell(row.orders.get(order), RTOL, paint) for order in orders)] if orders else []
        for dtype in dtypes:
            pair = (_cell(column.get(dtype), TOLERANCE[dtype], paint) for column in (row.values, row.gradients))
            cells.append("  " + " ".join(pair))
        verdict = paint("pass", GREEN) if row.passed else paint("FAIL", RED, BOLD)
        lines.append(f"{row.operation:<{width}}  {row.cases:>5}{''.join(cells)}  {_duration(row.seconds)}  {verdict}")
    failures = [line for row in rows for line in row.failures]
    lines += ["", *(paint("FAIL", RED, BOLD) + f"  {line}" for line in failures), *([""] if failures else [])]
    return "\n".join([*lines, *_limits(orders, dtypes, paint), summary(rows, orders, paint)])


def _cell(e: float | None, limit: float, paint: Callable[..., str]) -> str:
    if e is None:
        return f"{'–':>8}"
    text = f"{'0' if e == 0 else f'{e:.1e}':>8}"
    return text if e <= limit else paint(text, RED)


def _duration(seconds: float) -> str:
    return f"{seconds:4.1f} s " if seconds >= 1 else f"{1000 * seconds:4.0f} ms"


def _limits(orders: Sequence[int], dtypes: Sequence[str], paint: Callable[..., str]) -> list[str]:
    limits = [f"{RTOL:.0e} against differences"] if orders else []
    limits += [f"{TOLERANCE[dtype]:.0e} in {dtype}" for dtype in dtypes]
    return [paint("the largest error of each, relative to the largest number of its array", FAINT),
            paint(f"limits: {', '.join(limits)}", FAINT)][: 1 + bool(limits)]  # fmt: skip


def summary(rows: Sequence[Row], orders: Sequence[int], paint: Callable[..., str] = lambda text, *codes: text) -> str:
    """The last line: how many, and whether they pass."""
    cases, wrong = sum(row.cases for row in rows), [row for row in rows if not row.passed]
    which = f", order{'s' if len(orders) > 1 else ''} {' and '.join(map(str, orders))}" if orders else ""
    what = f"{counted(len(rows), 'operation')}, {counted(cases, 'case')}{which}"
    verdict = paint(f"{len(wrong)} FAIL", RED, BOLD) if wrong else paint("all pass", GREEN, BOLD)
    return f"{what}: {verdict} ({sum(row.seconds for row in rows):.1f} s)"


def counted(n: int, what: str) -> str:
    """1 case, 2 cases"""
    return f"{n} {what}{'' if n == 1 else 's'}"
