"""Marks learners' files in a process of its own, which may hang or die: `python -m minidiff.exercises.worker`.

Its standard input is a JSON list of {task, file, seconds}. Each verdict is a line of JSON in the file that is its first
argument. A watchdog ends it where a task takes too long, and leaves in the second file where it was. What learners print
goes where print always goes.
"""

from __future__ import annotations

import faulthandler
import json
import sys
from pathlib import Path


def main() -> None:
    """Mark all that is asked for."""
    from . import find
    from .marking import mark_file

    with open(sys.argv[1], "a", encoding="utf-8") as verdicts, open(sys.argv[2], "w", encoding="utf-8") as where:
        for asked in json.load(sys.stdin):
            faulthandler.dump_traceback_later(asked["seconds"], exit=True, file=where)
            verdict = mark_file(find(asked["task"]), Path(asked["file"]))
            faulthandler.cancel_dump_traceback_later()
            sys.stdout.flush()
            verdicts.write(json.dumps(verdict.to_json()) + "\n")
            verdicts.flush()


if __name__ == "__main__":
    main()
