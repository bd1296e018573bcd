"""Who made the first NaN? `detect_anomaly` looks at every number, so it costs time while it is on, and nothing while off."""

from __future__ import annotations

import contextlib
import linecache
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .autograd import Op, mode
from .backend import Array, dtype_of, kind, to_numpy
from .contexts import reusable
from .tensor import Tensor

OURS = (str(Path(__file__).parent), contextlib.__file__, "<frozen")  # where no line of the user's is


@reusable
def detect_anomaly() -> Iterator[None]:
    """`with detect_anomaly():` every operation is watched, forward and backward, in this thread.

    Raises FloatingPointError, naming the operation, the shapes of its inputs and the line that called it,
    where an operation makes a NaN or an infinity that was in none of its inputs, where a NaN comes in from
    outside, and where a backward rule makes one out of a gradient without. Infinities that are put in on
    purpose, as a mask of −inf is, may pass. Raises RuntimeError where an operation's backward meets other
    numbers than its forward kept, however they were written.
    """
    if mode.anomaly is not None:  # one inside another has nothing to add
        yield
        return
    anomaly, watchers = _Anomaly(), mode.watchers
    mode.watchers, mode.anomaly = (*watchers, anomaly), anomaly
    try:
        yield
    finally:
        mode.watchers, mode.anomaly = watchers, None


class _Anomaly:
    """Watches operations: `called` after each forward, `around` each backward."""

    within: _Guard | None = None  # the backward rule at work, which answers for the operations it is made of

    def called(self, op: Op, arrays: Sequence[Array], y: Array) -> None:
        op.called_at = _caller() if self.within is None else self.within.called_at  # type: ignore[attr-defined]
        if self.within is None:
            for what, test in KINDS.items():
                count = _count(test, y)
                holding = [i for i, x in enumerate(arrays) if _count(test, x)]
                meant = any(isinstance(option, float) and test(option) for option in op.options.values())
                given = ", ".join(_describe(x) for x in arrays)
                if count and not holding and not meant:
                    raise FloatingPointError(
                        f"{op.name}: made {what} ({count} of {y.size} numbers) from inputs without, {given}{op.called_at}"
                    )
                if count and holding and what == "NaN":
                    raise FloatingPointError(f"{op.name}: input {holding[0]} of {given} held NaN before{op.called_at}")
        if op.edges:
            op.fingerprints = [_fingerprint(slot.array) for slot in op.slots]  # type: ignore[attr-defined]

    def around(self, op: Op) -> _Guard:
        return _Guard(self, op)


class _Guard:
    """An operation's backward rule, watched."""

    def __init__(self, anomaly: _Anomaly, op: Op) -> None:
        self.anomaly, self.op = anomaly, op
        self.called_at = getattr(op, "called_at", "; record it under detect_anomaly to see where it was called")

    def gradients(self, gy: Tensor, create_graph: bool) -> Sequence[Tensor | None]:
        name = self.op.name
        prints = [_fingerprint(slot.array) for slot in self.op.slots]
        if prints != getattr(self.op, "fingerprints", prints):
            raise RuntimeError(f"{name}: backward meets other numbers than forward kept: they were written to{self.called_at}")
        before, self.anomaly.within = self.anomaly.within, self
        try:
            gxs = self.op.gradients(gy, create_graph)
        finally:
            self.anomaly.within = before
        for what, test in KINDS.items():
            for i, gx in enumerate(gxs):
                if gx is None or not _count(test, gx.data):
                    continue
                if not _count(test, gy.data):
                    raise FloatingPointError(
                        f"{name}: backward made {what} ({_count(test, gx.data)} of {gx.size} numbers) in the gradient of"
                        f" input {i} {gx.shape} from a gradient without{self.called_at}"
                    )
                if what == "NaN":
                    raise FloatingPointError(f"{name}: backward was given a gradient {gy.shape} that held NaN{self.called_at}")
        return gxs


KINDS = {"NaN": np.isnan, "inf": np.isinf}


def _count(test: Any, x: Array) -> int:
    return int(test(to_numpy(x)).sum()) if kind(dtype_of(x)) == "f" else 0


def _describe(x: Array) -> str:
    return f"{tuple(x.shape)} {dtype_of(x)}"


def _fingerprint(x: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(to_numpy(x)))


def _caller() -> str:
    """"; called at FILE:LINE: CODE", for the innermost line outside of this package."""
    frame: Any = sys._getframe()
    while frame is not None:
        file, line = frame.f_code.co_filename, frame.f_lineno
        if not file.startswith(OURS):
            return f"; called at {file}:{line}: {linecache.getline(file, line).strip()}"
        frame = frame.f_back
    return ""
