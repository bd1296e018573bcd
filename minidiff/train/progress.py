"""Live progress: a bar on a terminal, a plain line now and then anywhere else."""
from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO


class Progress:
    """Shows how far a run is. ``update`` once a step; ``say`` prints a line without breaking the bar."""

    def __init__(self, label: str, total: int, step: int = 0, *, stream: TextIO | None = None,
                 every: float = 15.0) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.label, self.total, self.every = label, total, every
        self._started, self._first = time.monotonic(), step
        self._spoken = float("-inf")
        self._bar: Any = None
        if self.stream.isatty():
            from tqdm import tqdm

            # A terminal that does not know its width (in a container, say) would get a bar of none.
            width = {"ncols": 100, "nrows": 24} if _columns(self.stream) == 0 else {"dynamic_ncols": True}
            self._bar = tqdm(total=total, initial=step, desc=label, unit="step", file=self.stream,
                             smoothing=0.05, mininterval=0.2, **width,
                             bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}"
                                        " [{elapsed}<{remaining}{postfix}]")

    def update(self, step: int, total: int, shown: dict[str, str]) -> None:
        """Say that ``step`` of ``total`` steps are done and what is worth showing beside it."""
        self.total = total
        if self._bar is not None:
            self._bar.total = total
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(step - self._bar.n)
            return
        time_now = time.monotonic()
        if time_now - self._spoken < self.every and step != total:
            return
        self._spoken = time_now
        left = (total - step) * (time_now - self._started) / max(1, step - self._first)
        facts = "  ".join(f"{name} {value}" for name, value in shown.items())
        width = len(str(total))
        self._print(f"{self.label}  step {step:>{width}}/{total}  {facts}  {clock(left)} left")

    def say(self, line: str) -> None:
        """Print ``line`` above the bar."""
        if self._bar is not None:
            self._bar.write(line, file=self.stream)
        else:
            self._print(line)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _print(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


class Silent(Progress):
    """Shows nothing: for tests and for programs with an interface of their own."""

    def __init__(self) -> None:
        self._bar = None

    def update(self, step: int, total: int, shown: dict[str, str]) -> None:
        pass

    def say(self, line: str) -> None:
        pass


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0


def clock(seconds: float) -> str:
    """``h:mm:ss`` or ``m:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
