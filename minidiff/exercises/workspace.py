"""A learner's folder: a file for each exercise, and progress.json, which says what has been done.

    {"format": 1, "learner": "", "last": seconds, "tasks": {name: {…}}, "labs": {name: {…}}}

    attempts   checks of a file that had changed since the last one
    passed     when it first passed, None if never
    hints      how many were shown, solution whether the solution was
    seconds    of work: the time between two events (a check, a hint), each counted up to IDLE seconds, for it may be a night
    digest     of the file at the last check
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..files import atomic_path
from .marking import PASSED, TODO, Verdict
from .task import Task
from .tasks import TASKS

FOLDER, PROGRESS, FORMAT = "minidiff-exercises", "progress.json", 1
IDLE = 600.0
NEW: dict[str, Any] = {"attempts": 0, "passed": None, "hints": 0, "solution": False, "seconds": 0.0, "digest": "", "state": TODO}


class Workspace:
    """One learner's folder. `open` finds it, `create` makes it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.progress = folder, _read(folder / PROGRESS)

    @classmethod
    def find(cls, folder: str | None) -> Path | None:
        """The folder meant: the one given, this one if it is a workspace, or the usual one in it; None if there is none."""
        for candidate in [Path(folder)] if folder else [Path("."), Path(FOLDER)]:
            if (candidate / PROGRESS).is_file():
                return candidate
        return None

    @classmethod
    def open(cls, folder: str | None) -> Workspace:
        """Raises BadInput where there is none."""
        found = cls.find(folder)
        if found is None:
            raise BadInput(f"exercises: {folder or FOLDER} is no folder of exercises; minidiff exercises start{f' {folder}' if folder else ''} makes one")
        return cls(found)

    @classmethod
    def create(cls, folder: Path, learner: str = "") -> tuple[Workspace, list[Path]]:
        """The folder with a stub for every exercise that has no file yet, and which they are. No file is overwritten."""
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"exercises: {folder} is a file; give a folder")
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / PROGRESS).exists():
            _write(folder / PROGRESS, {"format": FORMAT, "learner": learner, "last": time.time(), "tasks": {}, "labs": {}})
        workspace = cls(folder)
        written = [path for task in TASKS.values() if not (path := workspace.path(task)).exists()]
        for task in TASKS.values():
            if (path := workspace.path(task)) in written:
                path.write_text(task.stub(), encoding="utf-8")
        return workspace, written

    # ------------------------------------------------------------------------------ files

    def path(self, task: Task) -> Path:
        """The learner's file of a task."""
        return self.folder / f"{list(TASKS).index(task.name) + 1:02}_{task.name}{task.suffix}"

    def written(self, task: Task) -> Path:
        """The learner's file. Raises BadInput where it is missing."""
        path = self.path(task)
        if not path.is_file():
            raise BadInput(f"exercises: {path} is missing; minidiff exercises start {self.folder} writes it anew")
        return path

    def put_back(self, path: Path, text: str) -> Path | None:
        """A file as it was given out in the place of the learner's, which is kept beside it: where, None if there was none."""
        backup = None
        if path.exists():
            backup = next(b for i in range(1, 10_000) if not (b := path.with_name(f"{path.name}.bak{i if i > 1 else ''}")).exists())
            path.rename(backup)
        path.write_text(text, encoding="utf-8")
        return backup

    def begun(self) -> list[Task]:
        """The exercises in whose files something is written."""
        return [task for task in TASKS.values() if (path := self.path(task)).is_file() and task.unwritten not in path.read_text(encoding="utf-8", errors="replace")]

    # ------------------------------------------------------------------------------ progress

    def of(self, name: str) -> dict[str, Any]:
        """What has been done about an exercise, or a lab."""
        shelf = "tasks" if name in TASKS else "labs"
        return {**NEW, **self.progress[shelf].get(name, {})}

    def note(self, name: str, **changes: Any) -> dict[str, Any]:
        """Write down what has changed. Time that has gone by since the last event counts as work on this."""
        self.progress = _read(self.folder / PROGRESS)                              # another program may have written
        now = time.time()
        entry = {**self.of(name), **changes}
        if self.progress["last"]:
            entry["seconds"] = round(entry["seconds"] + min(max(0.0, now - self.progress["last"]), IDLE), 1)
        self.progress["tasks" if name in TASKS else "labs"][name] = entry
        self.progress["last"] = now
        _write(self.folder / PROGRESS, self.progress)
        return entry

    def take(self, verdict: Verdict, path: Path) -> None:
        """Note a verdict on a file."""
        entry, digest = self.of(verdict.task), hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        changes: dict[str, Any] = {"digest": digest, "state": verdict.status}
        if entry["passed"] is None and verdict.status != TODO and digest != entry["digest"]:
            changes["attempts"] = entry["attempts"] + 1
        if entry["passed"] is None and verdict.status == PASSED:
            changes["passed"] = time.strftime("%Y-%m-%dT%H:%M:%S")
        self.note(verdict.task, **changes)

    def passed(self) -> list[str]:
        """The names of the tasks that have been passed."""
        return [name for name in TASKS if self.of(name)["passed"]]

    def next(self) -> Task | None:
        """The first exercise that has not passed."""
        return next((task for name, task in TASKS.items() if not self.of(name)["passed"]), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        progress = json.loads(path.read_text(encoding="utf-8"))
        if progress["format"] != FORMAT or not isinstance(progress["tasks"], dict) or not isinstance(progress["labs"], dict):
            raise ValueError(f"of format {progress['format']}, and this version knows {FORMAT}")
        return progress
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"exercises: {path} cannot be read ({error}); move it away, and minidiff exercises start begins a new one") from None


def _write(path: Path, progress: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(progress, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
