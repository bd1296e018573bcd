"""Has files marked by a worker, and goes on after one that hangs or dies."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .marking import FAILED, STOPPED, Verdict

SLACK = 30.0  # seconds that a worker may take beside its tasks


def check_files(files: Sequence[tuple[str, Path, float]]) -> Iterator[Verdict]:
    """A verdict on each exercise or lab, given as its name, its file, and how many seconds it may take."""
    asked: list[dict[str, object]] = [{"task": name, "file": str(path), "seconds": seconds} for name, path, seconds in files]
    while asked:
        verdicts, end = _work(asked)
        yield from verdicts
        done = len(verdicts)
        if done < len(asked):
            yield _broken(asked[done], end)
            done += 1
        asked = asked[done:]


def _work(asked: list[dict[str, object]]) -> tuple[list[Verdict], str]:
    """The verdicts of one worker, and how it ended."""
    limit = sum(float(one["seconds"]) for one in asked) + SLACK                        # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        out, where = Path(folder, "verdicts.jsonl"), Path(folder, "where.txt")
        out.touch()
        command = [sys.executable, "-m", "minidiff.exercises.worker", str(out), str(where)]
        here = str(Path(__file__).resolve().parents[2])                            # where this very minidiff lies
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")])), "PYTHONIOENCODING": "utf-8"}
        worker = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
        try:
            _, said = worker.communicate(json.dumps(asked), timeout=limit)
        except subprocess.TimeoutExpired:
            said = ""
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        verdicts = [Verdict(**json.loads(line)) for line in out.read_text(encoding="utf-8").splitlines()]
        hung = where.read_text(encoding="utf-8", errors="replace") if where.exists() else ""
    return verdicts, hung or f"exit status {worker.returncode}: {said.strip().splitlines()[-1] if said.strip() else 'it said nothing'}"


def _broken(asked: dict[str, object], end: str) -> Verdict:
    """The verdict on the file at which a worker ended."""
    path = Path(str(asked["file"]))
    if "Timeout" not in end:
        return Verdict(str(asked["task"]), FAILED, cause=f"the program ended while it ran ({end})")
    lines = re.findall(rf'File "{re.escape(str(path))}", line (\d+)', end)
    where = f"line {lines[0]} of {path.name}: {_text(path, int(lines[0]))}" if lines else ""
    return Verdict(str(asked["task"]), STOPPED, line=where, cause=f"no end after {float(str(asked['seconds'])):g} s: a loop that never ends?")


def _text(path: Path, line: int) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines[line - 1].strip() if line <= len(lines) else ""
