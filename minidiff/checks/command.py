"""`minidiff gradcheck`: the table on the terminal, its record as JSON, the figure, the mutants."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from ..errors import BadInput
from . import mutations, table
from .case import CASES, Case
from .testing import TOLERANCE

T = TypeVar("T")
ORDERS = {"1": (1,), "2": (2,), "both": (1, 2)}


def main_gradcheck(args: Any, record: Path | None, figure: Path | None) -> int:
    """Run the command; `record` and `figure` are the files to write. The exit status: 0 where all passes, else 1.

    Raises BadInput for an unknown operation, and for options that do not go together.
    """
    chosen = table.select(args.operations, CASES)
    if args.mutants and figure:
        raise BadInput("gradcheck: --figure draws the errors of differences; give it without --mutants")
    orders, dtypes = ORDERS[args.order], tuple(dict.fromkeys(args.dtype or TOLERANCE))
    colour = sys.stdout.isatty()
    if args.mutants:
        return _mutants(args, chosen, record)
    rows = table.measure(args.operations, orders, dtypes, each=lambda cases: _bar(cases, len(chosen), "case"))
    print(table.as_text(rows, orders, dtypes, colour))
    if record:
        _write(record, {"orders": list(orders), "dtypes": list(dtypes), "passed": all(row.passed for row in rows),
                        "cases": sum(row.cases for row in rows), "rows": [row.to_json() for row in rows]})  # fmt: skip
    if figure:
        _draw(figure)
    return 0 if all(row.passed for row in rows) else 1


def _mutants(args: Any, chosen: list[Case], record: Path | None) -> int:
    """Break the operations that the chosen cases use."""
    used = {use.op for case in chosen for use in mutations.uses(case)}
    suspects = [mutant for mutant in mutations.mutants() if not args.operations or mutant.op in used]
    verdicts = list(_bar(mutations.hunt(suspects), len(suspects), "mutant"))
    print(mutations.as_text(verdicts))
    if record:
        _write(record, {"mutants": len(verdicts), "caught": sum(v.caught for v in verdicts),
                        "verdicts": [v.to_json() for v in verdicts]})  # fmt: skip
    return 0 if all(verdict.caught for verdict in verdicts) else 1


def _bar(things: Iterable[T], total: int, unit: str) -> Iterator[T]:
    """A progress bar on stderr, where that is a terminal."""
    from tqdm import tqdm

    return iter(tqdm(things, total=total, unit=unit, leave=False, file=sys.stderr, disable=not sys.stderr.isatty()))


def _write(path: Path, figures: dict[str, Any]) -> None:
    from ..files import atomic_path
    from ..train import records

    about = {"command": records.command_line(), "commit": records.commit(), "time": records.now(),
             "versions": records.versions()}  # fmt: skip
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps({**about, **figures}, indent=1) + "\n")
    print(f"wrote {path}")


def _draw(path: Path) -> None:
    from .. import viz
    from .step_size import CHOSEN, STEPS, step_size_curves

    title = "A central difference keeps ten digits in float64, five in float32"
    viz.save(viz.step_size_plot(STEPS, step_size_curves(), CHOSEN, title), path)
    print(f"wrote {path}")
