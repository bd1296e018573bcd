"""Is it right? A learner's function against the expected results, case by case."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import diagnosis
from .diagnosis import Raised, as_array, parts, wrong_places
from .suspects import suspects
from .task import KernelTask, Task

PASSED, TODO, WRONG, FAILED, STOPPED = "passed", "to do", "wrong", "failed", "stopped"


@dataclass(frozen=True)
class Verdict:
    """What came of a check.

    status     passed, to do (not written yet), wrong, failed (an exception) or stopped (no end in sight)
    cases      how many there are
    case       the first that is wrong
    place      the first wrong number, such as gx[0,2,1]
    expected, got   there
    error      the largest error, and how many numbers are wrong
    line       of the learner's file, where something was raised
    cause      the likely one
    """

    task: str
    status: str
    cases: int = 0
    case: str = ""
    place: str = ""
    expected: str = ""
    got: str = ""
    error: str = ""
    line: str = ""
    cause: str = ""

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain JSON values."""
        return asdict(self)


def mark_file(task: Task, path: Path) -> Verdict:
    """The verdict on a learner's file."""
    try:
        function = task.load(path)
    except NotImplementedError:
        return Verdict(task.name, TODO)
    except SyntaxError as error:
        where = f"line {error.lineno} of {path.name}: {(error.text or '').strip()}"
        return Verdict(task.name, FAILED, line=where, cause=f"{type(error).__name__}: {error.msg}")
    except (Exception, SystemExit) as error:
        line = _line(error, path)
        return Verdict(task.name, FAILED, line=line, cause=f"{_kind(error)}{_first(str(error))}")
    return mark(task, function, path)


def _kind(error: BaseException) -> str:
    return "" if isinstance(error, AttributeError) and "there is no function" in str(error) else f"{type(error).__name__}: "


def mark(task: Task, function: Callable[..., Any], path: Path | None = None) -> Verdict:
    """The verdict on a function, the learner's file being `path`."""
    cases, results, wrong = task.arguments(), [], []
    for arguments in cases:
        expected = task.reference(*map(diagnosis.copied, arguments))
        mine = [diagnosis.copied(a) for a in arguments]
        result = _run(function, mine, path)
        if isinstance(result, Raised) and result.kind == "NotImplementedError":
            return Verdict(task.name, TODO)
        results.append(result)
        if verdict := _compare(task, arguments, mine, result, expected):
            wrong.append(verdict)
    if not wrong:
        return Verdict(task.name, PASSED, len(cases))
    first = replace(wrong[0], cases=len(cases))
    if cause := diagnosis.known(task, results, cases):
        raised = first.cause if first.status == FAILED else first.got                      # the exception, beside its cause
        return replace(first, got=raised, cause=cause)
    if first.status == WRONG:
        first = replace(first, cause=diagnosis.common([verdict.cause for verdict in wrong]))
        first = first if path is None else _localised(task, first, cases, path)
    return first


def _localised(task: Task, verdict: Verdict, cases: list[tuple[Any, ...]], path: Path) -> Verdict:
    """The verdict with the line that one change makes right, where there is one."""
    if isinstance(task, KernelTask):
        return verdict
    expected = [task.reference(*map(diagnosis.copied, arguments)) for arguments in cases]

    def right(function: Callable[..., Any]) -> bool:
        return all(diagnosis.same(diagnosis.attempt(function, a), b, task) for a, b in zip(cases, expected, strict=True))

    text = path.read_text(encoding="utf-8")
    lines = suspects(text, task.name, right)
    if not lines:
        return verdict
    where = f"line {' or '.join(map(str, lines))} of {path.name}: {text.splitlines()[lines[0] - 1].strip()}"
    return replace(verdict, line=where, cause=verdict.cause or "one sign, number or name there is not as it should be; all else is right")


def _run(function: Callable[..., Any], arguments: list[Any], path: Path | None) -> Any:
    try:
        with np.errstate(all="ignore"):
            return function(*arguments)
    except (Exception, SystemExit) as error:
        return Raised(type(error).__name__, str(error), text=_line(error, path))


def _line(error: BaseException, path: Path | None) -> str:
    """The last line of the learner's file on the way to the exception."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if path is not None and f.filename == str(path)]
    if not frames:
        return ""
    line = frames[-1].line
    with contextlib.suppress(OSError, IndexError, TypeError):
        line = line or path.read_text(encoding="utf-8").splitlines()[frames[-1].lineno - 1].strip()  # type: ignore
    return f"line {frames[-1].lineno} of {path.name}: {line}"  # type: ignore[union-attr]


def _first(message: str) -> str:
    """What an exception says first; of a compiler, its first error."""
    if found := re.search(r":(\d+):\d+: (?:fatal )?error: (.*)", message):
        return f"line {found[1]}: {found[2]}"
    return message.partition("\n")[0][:200]


def _compare(task: Task, arguments: tuple[Any, ...], mine: list[Any], result: Any, expected: Any) -> Verdict | None:
    """The verdict on one case, None where it is right."""
    case = task.describe(arguments)
    if isinstance(result, Raised):
        return Verdict(task.name, FAILED, case=case, line=result.text, cause=f"{result.kind}: {_first(result.message)}".removesuffix(": "))
    many = isinstance(expected, tuple) and bool(task.outputs)
    if many and not (isinstance(result, tuple | list) and len(result) == len(expected)):
        what = f"{len(result)} things" if isinstance(result, tuple | list) else "nothing" if result is None else f"one {type(result).__name__}"
        return Verdict(task.name, WRONG, case=case, cause=f"{', '.join(task.outputs)} must be returned, in this order; {what} came")
    got, wanted = parts(tuple(result) if many else result, task.outputs), parts(expected, task.outputs)
    if got.keys() != wanted.keys():
        odd = sorted(got.keys() ^ wanted.keys())[0]
        return Verdict(task.name, WRONG, case=case, cause=f"{odd!r} {'is missing' if odd in wanted else 'should not be'} in the result")
    names = dict(zip(task.parameters, arguments, strict=False))
    for name in wanted:
        if verdict := _difference(task, case, name, got[name], wanted[name], names):
            return replace(verdict, cause=_exchanged(task, name, got, wanted) or verdict.cause)
    return _untouched(task, case, names, mine)


def _exchanged(task: Task, name: str, got: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Whether an output is another one, out of its turn."""
    other = next((other for other in wanted if other != name and diagnosis.close(got[name], wanted[other], task.tolerance)), None)
    return None if other is None or isinstance(got[name], float) else f"it is {other}: the order is {', '.join(wanted)}"


def _untouched(task: Task, case: str, before: dict[str, Any], after: list[Any]) -> Verdict | None:
    """The verdict on a function that writes into its arguments, None for one that does not."""
    for (name, a), b in zip(before.items(), after, strict=False):
        if isinstance(a, np.ndarray) and not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            return Verdict(task.name, WRONG, case=case, cause=f"{name} itself was changed: somebody else may need it; work on a copy")
    return None


def _difference(task: Task, case: str, name: str, got: Any, expected: Any, arguments: dict[str, Any]) -> Verdict | None:
    """The verdict on one output, None where it is right."""
    a, b = as_array(got), as_array(expected)
    if a is None or b is None or a.shape != b.shape:
        shapes = ("", "") if a is None or b is None else (f"shape {b.shape}", f"shape {a.shape}")
        cause = diagnosis.guess(got, expected, arguments, task.tolerance) or ""
        return Verdict(task.name, WRONG, case=case, place=name, expected=shapes[0], got=shapes[1], cause=cause)
    wrong = wrong_places(a, b, task.tolerance)
    if not wrong.any():
        if isinstance(expected, np.ndarray) and a.dtype != b.dtype:
            return Verdict(task.name, WRONG, case=case, place=f"{name}.dtype".lstrip("."), expected=str(b.dtype), got=str(a.dtype),
                           cause=f"the numbers are right, but they are {a.dtype}")  # fmt: skip
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    apart = np.abs(a.astype(float) - b.astype(float))
    largest = float(np.nanmax(apart)) if np.isfinite(apart).any() else float("nan")
    place = f"{name or 'result'}[{','.join(map(str, index))}]" if index else name or "result"
    return Verdict(
        task.name, WRONG, case=case, place=place, expected=_number(b[index]), got=_number(a[index]),
        error=f"{largest:.3g}; {int(wrong.sum())} of {wrong.size} numbers wrong" if wrong.size > 1 else f"{largest:.3g}",
        cause=diagnosis.guess(got, expected, arguments, task.tolerance) or "",
    )  # fmt: skip


def _number(value: Any) -> str:
    return str(bool(value)) if value.dtype.kind == "b" else f"{value:.8g}" if value.dtype.kind == "f" else str(value)

