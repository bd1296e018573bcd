"""Exercises over the chapters: write what the library is made of, and see at once whether it is right, and if not, why.

    task.py        what an exercise is; its known mistakes are changes of its solution
    tasks/         the exercises, a file for each chapter
    marking.py     is it right?
    diagnosis.py   why is it wrong?
    worker.py      marks in a process of its own, which may hang or die
    workspace.py   the learner's folder: files, progress
    swap.py        the learner's function in the library's place
    labs.py        training scripts with one fault each, from the clinic
    classroom.py   folders for a class, and a report of what came back

`minidiff exercises --help` is the way in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .task import Task

__all__ = ["find"]


def find(given: str) -> Task:
    """The task of this name, number or file. Raises BadInput, which names those that are spelled alike."""
    import difflib
    from pathlib import Path

    from ..errors import BadInput
    from .tasks import TASKS

    text = Path(given).stem
    number, _, name = text.partition("_")
    if number.isdecimal() and not name and 1 <= int(number) <= len(TASKS):
        return list(TASKS.values())[int(number) - 1]
    text = name if number.isdecimal() and name else text
    if text in TASKS:
        return TASKS[text]
    near = difflib.get_close_matches(text, TASKS, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are 1 to {len(TASKS)}; minidiff exercises list names them"
    raise BadInput(f"exercises: there is no exercise {given!r}; {hint}")
