"""Ctrl-C and SIGTERM ask a run to stop; it answers after the step at hand, when there is something to save."""
from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def collected(tell: bool = True) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second one has its usual effect at once. `tell` says so."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught                                  # only the main thread may set handlers
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, frame: Any) -> None:
        caught.append(number)
        for each, usual in before.items():
            signal.signal(each, usual)
        if tell:
            print("\nstopping after this step; once more to stop at once", file=sys.stderr, flush=True)

    try:
        for number in before:
            signal.signal(number, handler)
        yield caught
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
