"""Are the exercises right? Every solution must pass, every stub be to do, every known mistake be told by name, every lab be found."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..clinic import CASES
from . import labs
from .marking import FAILED, PASSED, TODO, WRONG, mark_file
from .task import KernelTask, Task
from .tasks import TASKS


@dataclass
class Proof:
    """What was tried and what held; `against` says what did not."""

    tasks: int = 0
    solutions: int = 0
    stubs: int = 0
    mistakes: int = 0
    caught: int = 0
    labs: int = 0
    found: int = 0
    skipped: list[str] = field(default_factory=list)
    against: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.against

    def to_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return dict(vars(self))

    def __str__(self) -> str:
        lines = [f"{self.solutions} of {self.tasks} solutions pass, {self.stubs} stubs are to do",
                 f"{self.caught} of {self.mistakes} planted wrong answers are caught, each with its own cause",
                 f"{self.found} of {self.labs} labs are found by the check of their fault"]  # fmt: skip
        lines += [f"left out, since g++ is missing: {', '.join(self.skipped)}"] if self.skipped else []
        return "\n".join([*lines, *self.against])


def prove(tasks: Sequence[Task] | None = None, with_labs: bool = True) -> Proof:
    """Try all of it, through files, as a learner's are."""
    proof = Proof()
    with tempfile.TemporaryDirectory() as folder:
        for task in TASKS.values() if tasks is None else tasks:
            if isinstance(task, KernelTask) and not shutil.which("g++"):
                proof.skipped.append(task.name)
                continue
            prove_task(task, Path(folder), proof)
    for lab, fault in labs.LABS.items() if with_labs else ():
        proof.labs += 1
        check = CASES[fault].find
        broken = check(labs.case_of(labs.lab_text(lab), lab))                      # type: ignore[misc]
        proof.found += not broken.healthy
        if broken.healthy:
            proof.against.append(f"{lab}: {fault} is not found: {broken.seen}")
    return proof


def prove_task(task: Task, folder: Path, proof: Proof) -> None:
    """One exercise: its solution, its stub and its known mistakes."""
    path = folder / f"{task.name}{task.suffix}"

    def verdict(text: str) -> Any:
        path.write_text(text, encoding="utf-8")
        return mark_file(task, path)

    solution, stub = verdict(task.solution_file()), verdict(task.stub())
    proof.tasks, proof.solutions, proof.stubs = proof.tasks + 1, proof.solutions + (solution.status == PASSED), proof.stubs + (stub.status == TODO)
    if solution.status != PASSED:
        proof.against.append(f"{task.name}: the solution is {solution.status}: {solution.cause}")
    if stub.status != TODO:
        proof.against.append(f"{task.name}: the stub is {stub.status}: {stub.cause}")
    for slip in task.mistakes:
        found = verdict(task.wrong_file(slip))
        proof.mistakes += 1
        if found.status in (WRONG, FAILED) and found.cause == slip.cause:
            proof.caught += 1
        else:
            proof.against.append(f"{task.name}: {slip.wrong.strip()!r} is {found.status}, and said to be: {found.cause or '-'}")
