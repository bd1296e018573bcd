"""Where files are kept, and how they are written so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BadInput

# What reading an archive of arrays can end in when a byte of it has changed, depending on which.
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, struct.error, NotImplementedError, OverflowError,
              RuntimeError, MemoryError, SyntaxError, TypeError)


def cache_folder(*parts: str) -> Path:
    """A folder below the cache: `MINIDIFF_CACHE`, or `~/.cache/minidiff`. It may not exist yet."""
    root = os.environ.get("MINIDIFF_CACHE") or "~/.cache/minidiff"
    return Path(root).expanduser().joinpath(*parts)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving, flush it to the disk and rename it into place.

    Its folder is made if it is missing. A reader sees the old file or the new one, never a part. When the block raises, the old file stays and the
    temporary one is removed. The temporary name keeps the ending, which image writers go by, and is another in each process and thread.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{threading.get_ident()}.part{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
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


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray], compress: bool = False) -> None:
    """Write an archive of arrays as `np.savez` or `np.savez_compressed` does, byte for byte, but atomically.

    Raises OSError where the disk is full. NumPy leaves its archive open then, and when Python before 3.11 collects it, it tries to
    write once more and prints the error a second time.
    """
    compression = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", compression) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def write_json(path: str | Path, values: dict[str, Any]) -> None:
    """Write ``values`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file; anything else raises BadInput."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error.strerror or error})") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(values, dict):
        raise BadInput(f"{path}: holds no JSON object")
    return values
