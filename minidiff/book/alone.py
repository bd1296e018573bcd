"""Each chapter as a reader runs it: a process of its own, in an empty folder that is not the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import works


def measure(chapters: Iterable[Path]) -> list[dict[str, Any]]:
    """For each chapter: seconds on the clock, seconds of processor, and whether it left the folder empty.

    The processor's seconds say what a chapter costs even where other programs keep the machine busy meanwhile.
    """
    rows = []
    for chapter in chapters:
        with tempfile.TemporaryDirectory(prefix="minidiff-alone-") as folder:
            before, start = os.times(), time.perf_counter()
            done = subprocess.run([sys.executable, str(chapter.resolve())], cwd=folder, env={**os.environ, "MPLBACKEND": "Agg"},
                                  capture_output=True, text=True)  # fmt: skip
            seconds, after = time.perf_counter() - start, os.times()
            if done.returncode:
                raise RuntimeError(f"{chapter.name} leaves with {done.returncode}: {(done.stderr.splitlines() or ['nothing said'])[-1]}")
            used = sum(getattr(after, name) - getattr(before, name) for name in ("children_user", "children_system"))
            rows.append({"chapter": chapter.stem, "title": works.title(chapter), "alone_seconds": round(seconds, 1),
                         "alone_cpu_seconds": round(used, 1), "leaves_nothing_behind": not os.listdir(folder)})  # fmt: skip
            print(f"{chapter.name:30} {seconds:6.1f} s, {used:6.1f} s of processor", flush=True)
    return rows
