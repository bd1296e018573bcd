"""Why a result is wrong, read from the result alone: the sign, a factor, an axis, a place.

`known` compares it with what a task's own known mistakes give; `guess` with what any function may get wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .task import Task


@dataclass(frozen=True)
class Raised:
    """What came instead of a result: an exception. `text` is the learner's line, where it was raised."""

    kind: str
    message: str
    text: str = ""

    def same(self, other: Any) -> bool:
        """Whether another is the same but for numbers, names and places."""
        if not isinstance(other, Raised) or self.kind != other.kind:
            return False
        return self.kind == "RecursionError" or _plain(self.message) == _plain(other.message)


def _plain(message: str) -> str:
    return re.sub(r"\d|\([^)]*\)|/\S+|\w+ of ", "", message.partition("\n")[0])[:60]


def attempt(function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """The result for copies of the arguments, or Raised."""
    try:
        with np.errstate(all="ignore"):
            return function(*(copied(a) for a in arguments))
    except Exception as error:
        return Raised(type(error).__name__, str(error))


def copied(value: Any) -> Any:
    """An argument of one's own: arrays and lists are copied."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return [copied(v) for v in value] if isinstance(value, list) else value


# ------------------------------------------------------------------------------------- equal or not


def parts(value: Any, names: Sequence[str] = ()) -> dict[str, Any]:
    """A result taken apart: each output under its name, a single one under ""."""
    if isinstance(value, dict):
        return {str(key): v for key, v in value.items()}
    if isinstance(value, tuple) and names:
        return {name: value[i] if i < len(value) else None for i, name in enumerate(names)}
    return {"": value}


def as_array(value: Any) -> np.ndarray | None:
    """A result as numbers, None where it is no such thing."""
    try:
        array = np.asarray(value)
    except ValueError:                                           # rows of different lengths
        return None
    return array if array.dtype.kind in "fiub" else None


def close(got: Any, expected: Any, tolerance: float) -> bool:
    """Whether two outputs are the same numbers in the same shape."""
    a, b = as_array(got), as_array(expected)
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and not wrong_places(a, b, tolerance).any()


def wrong_places(got: np.ndarray, expected: np.ndarray, tolerance: float) -> np.ndarray:
    """True where a number is not the expected one; NaN equals NaN, and infinities themselves."""
    a, b = got.astype(np.float64), expected.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    allowed = tolerance * (1.0 + (finite.max() if finite.size else 0.0))
    with np.errstate(invalid="ignore"):
        return ~((a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= allowed))


def same(a: Any, b: Any, task: Task) -> bool:
    """Whether two results, or two exceptions, are the same."""
    if isinstance(a, Raised) or isinstance(b, Raised):
        return isinstance(a, Raised) and a.same(b)
    a, b = parts(a, task.outputs), parts(b, task.outputs)
    return a.keys() == b.keys() and all(close(a[name], b[name], task.tolerance) for name in a)


# ------------------------------------------------------------------------------------- what went wrong


def known(task: Task, results: Sequence[Any], cases: Sequence[Sequence[Any]]) -> str | None:
    """The cause of the known mistake that gives these very results in every case."""
    if any(isinstance(result, Raised) and result.kind == "BadInput" for result in results):
        return None                                              # something is missing here, such as a compiler
    for slip in task.mistakes:
        try:
            function = task.wrong(slip)
        except Exception:
            continue
        if all(same(attempt(function, arguments), result, task) for arguments, result in zip(cases, results, strict=True)):
            return slip.cause
    return None


def guess(got: Any, expected: Any, arguments: dict[str, Any], tolerance: float) -> str | None:
    """What any function may get wrong."""
    if got is None:
        return "nothing is returned: a return is missing"
    if isinstance(got, tuple) and isinstance(expected, np.ndarray):
        return f"{len(got)} things are returned, and there should be one"
    a, b = as_array(got), as_array(expected)
    if a is None or b is None:
        return f"a {type(got).__name__} is returned that is no array of numbers"
    if a.shape != b.shape:
        return _shape(a, b, tolerance)
    if a.dtype.kind == "f" and np.isnan(a).any() and not np.isnan(b).any():
        return "there is NaN in it: 0/0, ∞ − ∞, the root of a negative number, or memory that was never written"
    for look in (_argument, _scale, _arrangement, _place):
        if cause := look(a, b, arguments, tolerance):
            return cause
    return None


def common(causes: Sequence[str]) -> str:
    """The first cause, if every wrong case says the same; its numbers may differ where a size is named beside them."""
    first = causes[0]
    alike = {re.sub(r"[\d.e+-]+", "", cause) for cause in causes}
    return first if len(set(causes)) == 1 or (len(alike) == 1 and "(" in first) else ""


def _shape(a: np.ndarray, b: np.ndarray, tolerance: float) -> str:
    """a has another shape than b."""
    for axis in (i for i, n in enumerate(a.shape) if n > 1):
        if a.ndim == b.ndim + 1 and close(a.sum(axis), b, tolerance):
            return f"the sum over axis {axis} is missing{' (the batch)' if axis == 0 else ''}"
        if a.ndim == b.ndim and b.shape[axis] == 1 and close(a.sum(axis, keepdims=True), b, tolerance):
            return f"the sum over axis {axis} is missing{' (the batch)' if axis == 0 else ''}"
    for axis in range(b.ndim):
        if a.ndim == b.ndim - 1 and close(a, b.sum(axis), tolerance):
            return f"there is a sum over axis {axis} too many{' (the batch)' if axis == 0 else ''}"
    if cause := _exchanged(a, b, tolerance):
        return cause
    if a.squeeze().shape == b.squeeze().shape and close(a.squeeze(), b.squeeze(), tolerance):
        return "the numbers are right, but axes of length 1 are too many or missing (keepdims, reshape)"
    if a.size == b.size and close(a.ravel(), b.ravel(), tolerance):
        return "the numbers are right, and in the right order, but in another shape (reshape)"
    return "axes are cut, repeated, summed, or out of place"


def _argument(a: np.ndarray, b: np.ndarray, arguments: dict[str, Any], tolerance: float) -> str | None:
    for name, value in arguments.items():
        if isinstance(value, np.ndarray) and close(a, value, tolerance):
            return f"it is {name} as it came"
    return "it is zero everywhere" if not a.any() and b.any() else None


def _scale(a: np.ndarray, b: np.ndarray, arguments: dict[str, Any], tolerance: float) -> str | None:
    """The sign, a constant factor, a constant difference."""
    if close(-a.astype(float), b, tolerance):
        return "the sign is the wrong one"
    if b.size > 1 and np.isfinite(a).all() and np.isfinite(b).all():
        factor = float((a * b).sum() / (b * b).sum()) if b.any() else 0.0
        if abs(factor) > 1e-12 and close(a / factor, b, tolerance):
            return f"it is {factor:.6g} times what it should be{_named(factor, arguments)}"
        difference = float((a.astype(float) - b).mean())
        if close(a - difference, b, tolerance):
            return f"every number is off by {difference:+.6g}"
    return None


def _named(factor: float, arguments: dict[str, Any]) -> str:
    """The size that a factor may come from."""
    for name, value in arguments.items():
        if not isinstance(value, np.ndarray):
            continue
        for what, n in [(f"{name}.shape[{axis}]", n) for axis, n in enumerate(value.shape)] + [(f"{name}.size", value.size)]:
            if n > 1 and abs(factor - n) < 1e-9 * n:
                return f" ({what} is {n}: a mean where there should be a sum, the other way round?)"
            if n > 1 and abs(factor * n - 1) < 1e-9:
                return f" (1/{what}, which is {n}: a mean in the place of a sum?)"
    return ""


def _arrangement(a: np.ndarray, b: np.ndarray, arguments: dict[str, Any], tolerance: float) -> str | None:
    """The right numbers in the wrong places."""
    for axis in range(a.ndim):
        if a.shape[axis] > 1 and close(np.flip(a, axis), b, tolerance):
            return f"it is the wrong way round along axis {axis}"
    if cause := _exchanged(a, b, tolerance):
        return cause
    if a.size > 2 and close(np.sort(a, axis=None), np.sort(b, axis=None), tolerance):
        return "the right numbers stand in the wrong places"
    return None


def _exchanged(a: np.ndarray, b: np.ndarray, tolerance: float) -> str | None:
    for i in range(a.ndim):
        for j in range(i + 1, a.ndim):
            if close(np.swapaxes(a, i, j), b, tolerance) and a.size > 1:
                return f"axes {i} and {j} are exchanged"
    return None


def _place(a: np.ndarray, b: np.ndarray, arguments: dict[str, Any], tolerance: float) -> str | None:
    """Where it is wrong: not in the first sample, only at the border; or how little."""
    wrong = wrong_places(a, b, tolerance)
    if a.ndim and len(a) > 1 and not wrong[0].any() and close(a, np.broadcast_to(a[:1], a.shape), tolerance):
        return "every sample gets what belongs to the first"
    if a.ndim >= 2 and min(a.shape[-2:]) > 2 and not wrong[..., 1:-1, 1:-1].any():
        return "it is wrong at the border only (padding?)"
    if a.ndim and len(a) > 1 and not wrong[:-1].any():
        return "only the last is wrong"
    if a.ndim and len(a) > 1 and not wrong[1:].any():
        return "only the first is wrong"
    apart = np.abs(a.astype(float) - b).max()
    if np.isfinite(apart) and apart < 1e-4 * (np.abs(b).max() + 1e-300):
        return "it is nearly right: a constant with too few digits, an eps in another place, or float32 on the way"
    return None
