"""One run a folder: a lock that the system itself takes off a process that dies, however it dies."""
from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ..errors import BadInput

try:
    import fcntl
except ImportError:                       # Windows: two runs in one folder are not kept apart there
    fcntl: Any = None                     # type: ignore[no-redef]

NAME = ".lock"


@contextlib.contextmanager
def only_run(folder: str | Path) -> Iterator[None]:
    """``with only_run(folder):`` nobody else trains in it. Raises BadInput, naming the process, where somebody does.

    A file with a process number in it would outlive a ``kill -9`` and block the folder for ever. ``flock`` belongs to
    the open file, which the system closes with the process; the file's text only says who to ask.
    """
    file = _taken(Path(folder) / NAME)
    if file is None:
        raise BadInput(in_use(folder) or f"{folder}: another run has just begun here; give another --out")
    try:
        file.truncate(0)
        file.write(f"{os.getpid()} {platform.node()}\n")
        file.flush()
        yield
    finally:
        (Path(folder) / NAME).unlink(missing_ok=True)             # before the lock goes, so that nobody else's is removed
        file.close()


def in_use(folder: str | Path) -> str | None:
    """What to say of a folder in which a run is at work; None where there is none. Writes nothing."""
    try:
        with open(Path(folder) / NAME, encoding="utf-8") as file:
            if _lock(file, shared=True):                  # many may look at once, and none of them is at work
                return None
            pid, _, host = file.read().strip().partition(" ")
    except OSError:
        return None
    who = f"process {pid} on {host}" if pid else "a process"
    return f"{folder}: another run is at work here ({who}); wait for it or stop it, or give another --out"


def _taken(path: Path) -> TextIO | None:
    """The lock's file, open and locked; None where another process has it."""
    while True:
        file = open(path, "a+", encoding="utf-8")
        if not _lock(file):
            file.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()                      # its last holder removed it between our opening and our locking it


def _lock(file: TextIO, shared: bool = False) -> bool:
    """Whether the lock was free, and is ours now. File systems that know no locks are as free as any."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
