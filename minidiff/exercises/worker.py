"""Marks learners' files in a process of its own, which may hang or die: `python -m minidiff.exercises.worker`.

Its standard input is a JSON list of {task, file, seconds}, of exercises and labs. Each verdict is a line of JSON in the file that is its first
argument. A watchdog ends it where a task takes too long, and leaves in the second file where it was. What learners print
goes where print always goes.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .marking import Verdict


def main() -> None:
    """Mark all that is asked for."""
    from . import find
    from .marking import mark_file
    from .tasks import TASKS

    assert TASKS                                                 # imported before the first task's time begins

    def mark(name: str, path: Path) -> Verdict:
        if name.startswith("lab_"):
            from .labs import mark_lab

            return mark_lab(name, path)
        return mark_file(find(name), path)

    with open(sys.argv[1], "a", encoding="utf-8") as verdicts, open(sys.argv[2], "w", encoding="utf-8") as where:
        for asked in json.load(sys.stdin):
            faulthandler.dump_traceback_later(asked["seconds"], exit=True, file=where)
            verdict = mark(asked["task"], Path(asked["file"]))
            faulthandler.cancel_dump_traceback_later()
            sys.stdout.flush()
            verdicts.write(json.dumps(verdict.to_json()) + "\n")
            verdicts.flush()


if __name__ == "__main__":
    main()
