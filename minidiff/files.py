"""Where files are kept, and how they are written so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """A folder below the cache: `MINIDIFF_CACHE`, or `~/.cache/minidiff`. It may not exist yet."""
    root = os.environ.get("MINIDIFF_CACHE") or "~/.cache/minidiff"
    return Path(root).expanduser().joinpath(*parts)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving, flush it to the disk and rename it into place.

    A reader sees the old file or the new one, never a part. When the block raises, the old file stays and the
    temporary one is removed. The temporary name keeps the ending, which image writers go by.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename itself durable; systems that cannot open a folder (Windows) need no such call."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
