"""For teachers: a folder for each learner, and a report of what came back. Nothing leaves the machine."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..files import atomic_path
from .labs import LABS, lab_text
from .tasks import TASKS
from .workspace import NEW, Workspace

KIND = "minidiff exercises"


def set_up(folder: Path, names: Sequence[str], labs: int) -> list[Path]:
    """A folder of exercises for each learner, and so many labs in it, others for each. What is there already stays."""
    if not 0 <= labs <= len(LABS):
        raise BadInput(f"exercises: --labs must be 0 to {len(LABS)}, got {labs}")
    folders = [folder / re.sub(r"[^\w.-]+", "-", name.strip()).strip("-.") for name in names if name.strip()]
    if not folders or len(set(folders)) < len(folders) or folder in folders:
        raise BadInput("exercises: --names must be different names, separated by commas, such as ada,emmy,sofia")
    known = list(LABS)
    for i, (own, name) in enumerate(zip(folders, (n for n in names if n.strip()), strict=True)):
        workspace, _ = Workspace.create(own, name.strip())
        for k in range(labs):
            give_lab(workspace, known[(i * labs + k) % len(known)])
    return folders


def give_lab(workspace: Workspace, lab: str) -> tuple[Path, bool]:
    """The lab's file in the workspace, and whether it is new."""
    path = workspace.folder / f"{lab}.py"
    new = not path.exists()
    if new:
        path.write_text(lab_text(lab), encoding="utf-8")
    return path, new


def export(workspace: Workspace, out: Path, learner: str | None) -> dict[str, Any]:
    """Write what has been done, without any code, to a file for the teacher."""
    done = {name: entry for name in [*TASKS, *LABS] if (entry := workspace.of(name)) != NEW}
    entries = {name: {key: entry[key] for key in ("attempts", "passed", "hints", "solution", "seconds")} for name, entry in done.items()}
    content = {"kind": KIND, "format": 1, "learner": learner or workspace.progress["learner"] or workspace.folder.resolve().name, "done": entries}
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return content


def read_export(path: Path) -> dict[str, Any]:
    """What a learner handed in. Raises BadInput."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("kind") != KIND or content.get("format") != 1:
            raise ValueError("it is no export of exercises")
        content["done"] = {name: {**NEW, **entry} for name, entry in content["done"].items() if name in TASKS or name in LABS}
        return content
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"exercises: {path} cannot be read ({error}); minidiff exercises export writes such a file") from None


def report(paths: Sequence[Path]) -> str:
    """Two tables: exercise by exercise, and learner by learner."""
    class_ = [read_export(path) for path in paths]
    rows = [("exercise", "passed", "tried", "attempts", "minutes", "planned", "hints", "solution seen")]
    for name in [*TASKS, *LABS]:
        entries = [learner["done"][name] for learner in class_ if name in learner["done"]]
        passed = [entry for entry in entries if entry["passed"]]
        tried = [entry for entry in entries if entry["attempts"]]
        if entries:
            rows.append((name, f"{len(passed)}/{len(class_)}", str(len(tried)), _median(passed or tried, "attempts"), _median(passed or tried, "seconds", 60),
                         str(TASKS[name].minutes) if name in TASKS else "", _median(entries, "hints"),
                         str(sum(entry["solution"] for entry in entries)) ))  # fmt: skip
    learners = [("learner", "passed", "attempts", "minutes", "hints", "solutions seen")]
    for learner in sorted(class_, key=lambda one: one["learner"]):
        done = learner["done"].values()
        learners.append((learner["learner"], str(sum(bool(e["passed"]) for e in done)), str(sum(e["attempts"] for e in done)),
                         f"{sum(e['seconds'] for e in done) / 60:.0f}", str(sum(e["hints"] for e in done)), str(sum(e["solution"] for e in done))))  # fmt: skip
    note = "attempts, minutes and hints are medians, of those who passed if any did"
    return f"{columns(rows)}\n({note})\n\n{columns(learners)}"


def _median(entries: Sequence[dict[str, Any]], key: str, unit: float = 1.0) -> str:
    return f"{statistics.median(entry[key] / unit for entry in entries):g}" if entries and unit == 1 else f"{statistics.median(entry[key] / unit for entry in entries):.0f}" if entries else "-"


def columns(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table in plain text; the first columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(text.ljust(w) if i < left else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows)
