"""``minidiff runs``: what runs there are, how far each has come, and what became of it."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BadInput
from . import records
from .lock import in_use
from .progress import clock

COLUMNS = ("run", "preset", "data", "steps", "loss", "held out", "time", "status", "when")
RECENT = 50                               # steps whose mean is the loss of a run that has not ended


def runs_in(folder: str | Path) -> list[dict[str, Any]]:
    """What there is to say of every run in a folder or below it, the one that began last at the end. Raises BadInput."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"runs: {folder}: no such folder; give one that holds runs")
    found = [run_in(path.parent, folder) for path in folder.rglob("record.json")]
    return sorted((run for run in found if run is not None), key=lambda run: (run["when"], run["run"]))


def run_in(out: Path, above: Path) -> dict[str, Any] | None:
    """One run's line; None where the record is of something else.

    A run that is killed has no time to write its record, so how far it came is read from its metrics, and that it is no
    longer at work from the lock that nobody holds.
    """
    try:
        record = records.read_json(out / "record.json")
        if "total_steps" not in record or "config" not in record:
            return None
        return _line(out, above, record, records.read_metrics(out))
    except (BadInput, KeyError, IndexError, TypeError):
        return {"run": str(out.relative_to(above)), "preset": "-", "data": "-", "steps": 0, "total": 0, "loss": None, "held_out": None,
                "seconds": 0.0, "status": "damaged", "when": ""}  # fmt: skip


def _line(out: Path, above: Path, record: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    status = record["status"]
    if status == "running":
        status = "running" if in_use(out) else "killed"
    ended = status in ("finished", "stopped", "diverged")
    recent = [row["loss"] for row in rows[-RECENT:]]
    held_out = records.validation_losses(rows)
    name = out.relative_to(above)
    return {
        "run": str(name if name.parts else out), "preset": record["config"]["preset"], "data": record["config"]["data"],
        "steps": record["steps"] if ended else rows[-1]["step"] if rows else 0, "total": record["total_steps"],
        "loss": record["final_loss"] if ended else sum(recent) / len(recent) if recent else None,
        "held_out": held_out[-1][1] if held_out else None,
        "seconds": max(0.0, rows[-1]["seconds"] if rows else 0.0), "status": status, "when": record["launches"][-1]["started"],
    }


def table(runs: list[dict[str, Any]]) -> str:
    """The runs, one a line, in columns."""
    rows = [COLUMNS, *(_cells(run) for run in runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _cells(run: dict[str, Any]) -> tuple[str, ...]:
    def loss(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    return (run["run"], run["preset"], run["data"], f"{run['steps']}/{run['total']}", loss(run["loss"]), loss(run["held_out"]),
            clock(run["seconds"]), run["status"], run["when"])


def main_runs(folder: str) -> int:
    """``minidiff runs [DIR]``"""
    runs = runs_in(folder)
    print(table(runs) if runs else f"no runs in {folder}; minidiff train makes one")
    return 0
