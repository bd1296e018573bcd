"""What a run leaves behind for people: ``record.json`` (how it was made) and ``metrics.jsonl`` (how it went)."""
from __future__ import annotations

import functools
import json
import os
import platform
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from ..errors import BadInput
from ..files import atomic_path, read_json, write_json

__all__ = ["Metrics", "command_line", "commit", "cpu_name", "environment", "epoch_losses", "loss_curve", "machine", "now", "read_json",
           "read_metrics", "seconds_at", "typed", "validation_losses", "versions", "write_json"]

PACKAGES = ("minidiff", "numpy", "scipy", "matplotlib", "pillow", "tqdm", "threadpoolctl", "numba", "cupy")


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of those packages that are installed and can change a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def commit() -> str | None:
    """Git commit of the running source when it was first asked for, with ``+changes`` where files differ from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(("git", "-C", str(folder), *arguments), check=False, capture_output=True,
                                  text=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed copy may lie inside some other repository: only one that tracks this very file counts.
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    head = git("rev-parse", "HEAD")
    if head is None:
        return None
    return head + ("+changes" if git("status", "--porcelain", "--untracked-files=no", "--", "..") else "")


def machine(device: str, threads: int) -> dict[str, Any]:
    """The hardware a figure of speed means something on."""
    return {"device": device, "cpu": cpu_name(), "cores": os.cpu_count(), "threads": threads,
            "system": f"{platform.system()} {platform.machine()}"}


VARIABLES = ("MINIDIFF_", "OPENBLAS_", "OMP_", "MKL_", "NUMBA_", "CUDA_", "CUPY_")


def environment(device: str, threads: int) -> dict[str, Any]:
    """What surrounds a run and can change its numbers or its speed: program, machine, versions, variables."""
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}
    return {"started": now(), "command": command_line(), "commit": commit(), "machine": machine(device, threads),
            "versions": versions(), "variables": variables}


def command_line() -> str:
    """How this process was started, as one would type it in the project's folder; of other folders only the script's name."""
    script, project = Path(sys.argv[0]).resolve(), Path(__file__).resolve().parents[2]
    if script.name == "__main__.py":
        program = f"python -m {script.parent.name}"
    elif script.suffix == ".py":
        program = f"python {script.relative_to(project) if script.is_relative_to(project) else script.name}"
    else:
        program = script.name
    return " ".join([program, *map(shlex.quote, sys.argv[1:])])


def typed(*arguments: object) -> str:
    """A minidiff command as one would type it here: ``python -m minidiff ...`` where this process was started so."""
    script = Path(sys.argv[0])
    program = "python -m minidiff" if (script.parent.name, script.name) == ("minidiff", "__main__.py") else "minidiff"
    return " ".join([program, *(shlex.quote(str(argument)) for argument in arguments)])


# ------------------------------------------------------------------------------------------------ metrics

class Metrics:
    """Appends one JSON object a step to a file; opening it for a resumed run drops the lines after ``step``.

    Whatever a crash has left behind the line of ``step`` goes: half a line, or steps that will be made again.
    """

    def __init__(self, path: str | Path, step: int = 0) -> None:
        self.path = Path(path)
        if self.path.exists():
            kept = [row for row in _rows(self.path, until_broken=True) if row["step"] <= step]
            with atomic_path(self.path) as temporary:
                temporary.write_text("".join(_line(row) for row in kept), encoding="utf-8")
        self._file: TextIO = self.path.open("a", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        self._file.write(_line(row))

    def flush(self) -> None:
        """Bring all rows to the disk: what a checkpoint stands on must be there before it."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed


class Nowhere:
    """Metrics that nobody keeps."""

    closed = True

    def write(self, row: dict[str, Any]) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """All rows of a ``metrics.jsonl``, or of the one in a run's folder.

    A last line cut short by a crash is left out; any other line that is no JSON object raises BadInput.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "metrics.jsonl"
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a run's folder or its metrics.jsonl")
    return _rows(path)


def _rows(path: Path, until_broken: bool = False) -> list[dict[str, Any]]:
    """The rows of a file; with ``until_broken`` those before the first line that is none, without an error."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
        elif until_broken:
            break
        elif number < len(lines):
            raise BadInput(f"{path}: line {number} is no metrics line (a JSON object with a step)")
    return rows


def seconds_at(folder: str | Path, step: int) -> float:
    """Seconds of training up to a step, as a run's metrics have it; 0 where they do not."""
    path = Path(folder) / "metrics.jsonl"
    rows = _rows(path, until_broken=True) if path.is_file() else []
    return next((float(row.get("seconds", 0.0)) for row in reversed(rows) if row["step"] == step), 0.0)


def epoch_losses(rows: Iterable[dict[str, Any]]) -> list[float]:
    """Mean training loss of each epoch begun, in order."""
    losses: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        # The step that completes epoch 1 is logged at epoch = 1.0 and belongs to the first.
        losses[max(0, -(-row["epoch"] // 1) - 1)].append(row["loss"])
    return [round(sum(losses[e]) / len(losses[e]), 6) for e in sorted(losses)]


def validation_losses(rows: Iterable[dict[str, Any]]) -> list[list[float]]:
    """``[step, loss]`` wherever the held-out loss was measured."""
    return [[row["step"], row["validation"]] for row in rows if "validation" in row]


def loss_curve(rows: Iterable[dict[str, Any]], points: int = 100) -> list[list[float]]:
    """``[step, loss]`` at about ``points`` steps, each the mean since the one before: the curve in few numbers."""
    rows = list(rows)
    ends = sorted({round(len(rows) * k / points) for k in range(1, points + 1)} - {0})
    starts = [0, *ends[:-1]]
    return [[rows[b - 1]["step"], round(sum(r["loss"] for r in rows[a:b]) / (b - a), 6)] for a, b in zip(starts, ends)]
