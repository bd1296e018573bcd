"""What to say when a run cannot go on: which operation made the first NaN, and what a full disk has left whole."""
from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..anomaly import detect_anomaly
from ..backend import to_numpy
from ..errors import BadInput
from . import checkpoint, records


class Diverged(BadInput):
    """The loss or its gradient is no longer a number; the message names the last good checkpoint."""


class CannotSave(OSError):
    """The run's files cannot be written any more; the message names the last good checkpoint."""


# ------------------------------------------------------------------------------------------------ numbers

def first_fault(model: Any, again: Callable[[], object]) -> str:
    """Where the first NaN or infinity comes from when ``again()`` computes a loss and its gradient, in words.

    Names a weight that holds one already, else the operation that made it and the layer that called the operation.
    """
    for name, parameter in model.named_parameters():
        if not np.isfinite(to_numpy(parameter.data)).all():
            return f"the weight {name} {parameter.shape} is no longer finite"
    try:
        with np.errstate(all="ignore"), _paths_told(model) as inside, detect_anomaly():
            again()
    except FloatingPointError as error:
        operation, _, rest = str(error).partition("; called at")[0].partition(": ")
        return f"first seen in {operation}{f' of {inside[0]}' if inside else ''}: {rest}"
    return "computed again, the same step stays finite"


@contextlib.contextmanager
def _paths_told(model: Any) -> Iterator[list[str]]:
    """A list that gets the paths of the layers through which a FloatingPointError leaves, the innermost first."""
    paths: list[str] = []
    layers = [(path or "the network", layer) for path, layer in model.named_modules()]
    before = {layer: vars(layer).get("forward") for _, layer in layers}
    for path, layer in layers:
        layer.forward = _telling(path, layer.forward, paths)
    try:
        yield paths
    finally:
        for layer, forward in before.items():
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


def _telling(path: str, forward: Callable[..., Any], paths: list[str]) -> Callable[..., Any]:
    def told(*inputs: Any, **options: Any) -> Any:
        try:
            return forward(*inputs, **options)
        except FloatingPointError:
            paths.append(path)
            raise

    return told


# ------------------------------------------------------------------------------------------------ files

FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (*FULL, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)


def is_of_files(error: OSError, out: Path) -> bool:
    """Whether an error is about writing a run's files, and not about something else that the system refused."""
    return error.errno in NOT_WRITABLE or str(error.filename or "").startswith(str(out))


def cannot_save(error: OSError, step: int, out: Path, minutes: float | None = None) -> CannotSave:
    """What to raise when a file of the run in ``out`` could not be written after ``step`` steps.

    The run stops rather than going on unsaved: a later kill would then lose all of it, while a stop loses nothing, since
    --resume makes the same steps again.
    """
    good = checkpoint.latest(out)
    kept = f"the last good checkpoint is {good}" if good else "nothing has been saved yet"
    advice = "make room" if error.errno in FULL else "make it writable again"
    bound = () if minutes is None else ("--minutes", f"{minutes:g}")
    go_on = f", then: {records.typed('train', '--out', out, '--resume', *bound)}" if good else ""
    return CannotSave(error.errno, f"train: step {step} cannot be saved in {out} ({error.strerror or error}); stopped; {kept}; {advice}{go_on}")
