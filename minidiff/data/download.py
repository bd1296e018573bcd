"""Files from public mirrors: tried in order, checked by SHA-256, never half-written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from minidiff.errors import BadInput

Progress = Callable[[str, int, int], None]          # (file name, bytes so far, bytes in all or 0)

_CHUNK = 1 << 18          # bytes


class DownloadError(Exception):
    """No mirror gave the file; the message says why for each."""


def sha256(stream: BinaryIO) -> str:
    """The SHA-256 of what is left of a stream, in hexadecimal digits."""
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def download(mirrors: Sequence[str], name: str, digest: str, folder: Path, *, tries: int = 3,
             timeout: float = 10.0, pause: float = 1.0, progress: Progress | None = None) -> Path:
    """Fetch ``mirror + name`` from the first mirror that has the right bytes, into `folder`.

    A mirror that breaks off or is busy is asked again after `pause`, 2·`pause`, 4·`pause` … seconds; one that
    cannot be found, does not have the file, or has other bytes under that name is not. The file grows under
    a name that ends in ``.part`` and gets its own name when its SHA-256 is right, so that a file which is
    there is a whole one.

    Args:
        mirrors: addresses to which `name` is appended.
        digest: the SHA-256 the file must have.
        folder: made if it is missing.
        tries: how often each mirror is asked.
        timeout: seconds without an answer after which a try has failed.
        pause: seconds before the second try.
        progress: called after each piece.

    Raises:
        DownloadError: no mirror gave the right bytes.
        BadInput: `folder` cannot be written.
    """
    reasons = []
    for mirror in mirrors:
        for attempt in range(tries):
            if attempt:
                time.sleep(pause * 2 ** (attempt - 1))
            try:
                return _download_once(mirror + name, name, digest, folder, timeout, progress)
            except _Failed as failure:
                reason = str(failure)
                if not failure.worth_another_try:
                    break
        reasons.append(f"{mirror.split('/')[2]} {reason}")
    raise DownloadError(f"{name}: {'; '.join(reasons)}")


class _Failed(Exception):
    def __init__(self, reason: str, worth_another_try: bool) -> None:
        super().__init__(reason)
        self.worth_another_try = worth_another_try


def _download_once(url: str, name: str, digest: str, folder: Path, timeout: float,
                   progress: Progress | None) -> Path:
    # The process number keeps two processes that fetch the same file out of each other's way.
    part = folder / f"{name}.{os.getpid()}.part"
    try:
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as out:
                for chunk, total in _chunks(url, timeout):
                    out.write(chunk)
                    if progress:
                        progress(name, out.tell(), total)
        with open(part, "rb") as whole:
            found = sha256(whole)
        if found != digest:
            raise _Failed(f"has other bytes: SHA-256 {found}, expected {digest}", worth_another_try=False)
        with _writing(folder):
            os.replace(part, folder / name)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return folder / name


def _chunks(url: str, timeout: float) -> Iterator[tuple[bytes, int]]:
    """The body of the answer piece by piece, each with the length of the whole (0 if it was not told)."""
    # Imported here: they take as long as the rest of the package, and most runs never fetch anything.
    import http.client
    import socket
    import urllib.error
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "minidiff"})
    done = 0
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(_CHUNK):
                done += len(chunk)
                yield chunk, total
    except urllib.error.HTTPError as error:
        busy = error.code in (408, 429) or error.code >= 500
        raise _Failed(f"answers {error.code} ({error.reason})", worth_another_try=busy) from None
    except urllib.error.URLError as error:
        # No such host, or no sign of life from it: without a network, asking again only takes longer.
        hopeless = isinstance(error.reason, (socket.gaierror, TimeoutError))
        raise _Failed(f"cannot be reached ({error.reason})", worth_another_try=not hopeless) from None
    except (http.client.HTTPException, OSError) as error:
        raise _Failed(f"broke off ({str(error) or type(error).__name__})", worth_another_try=True) from None
    if done < total:
        raise _Failed(f"broke off after {done:,} of {total:,} bytes", worth_another_try=True)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror or error}); expected a writable folder "
                       "with room: set MINIDIFF_CACHE to one") from None
