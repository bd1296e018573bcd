"""Files from public mirrors: tried in order, continued where they broke off, checked by SHA-256, never half-written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from minidiff.errors import BadInput

Progress = Callable[[str, int, int], None]          # (file name, bytes so far, bytes in all or 0)

_CHUNK = 1 << 18          # bytes
_SLOWEST = 100          # bytes a second; a mirror that trickles more slowly has failed
_LOOK = 0.2          # seconds between two looks at a file that another process is fetching
_STALE = 3600          # seconds after which nobody writes to an unlocked .part any more


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

    A mirror that breaks off, stalls or is busy is asked again after `pause`, 2·`pause`, 4·`pause` … seconds; one
    that cannot be found, does not have the file, or has other bytes under that name is not. Redirections are
    followed to http and https alone.

    The file grows under the name ``NAME.part`` and gets its own name when its SHA-256 is right, so that a file
    which is there is a whole one. A part that was broken off is kept: the next try, at this mirror or another, by
    this process or a later one, asks only for the rest (HTTP's Range) and begins anew where a mirror cannot do
    that. Wrong bytes are thrown away, and so is the part when the disk is full.

    The part is locked while it grows. A second process that wants the same file waits, and finds it whole or takes
    the part over. The lock ends with its process; where a system has no locks each process has a part of its own.

    Args:
        mirrors: addresses, http or https, to which `name` is appended.
        digest: the SHA-256 the file must have.
        folder: made if it is missing.
        tries: how often each mirror is asked.
        timeout: seconds without an answer, or with less than 100 bytes in each, after which a try has failed.
        pause: seconds before the second try.
        progress: called after each piece.

    Returns:
        The file's path.

    Raises:
        DownloadError: no mirror gave the right bytes.
        BadInput: `folder` cannot be written, or is full.
    """
    target = folder / name
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _part_of(target, progress) as part:
        if _has(target, digest):          # another process has brought it while this one waited
            return target
        reasons = []
        for mirror in mirrors:
            for attempt in range(tries):
                if attempt:
                    time.sleep(pause * 2 ** (attempt - 1))
                try:
                    _complete(part, mirror + name, name, digest, folder, timeout, progress)
                except _Failed as failure:
                    reason = str(failure)
                    if not failure.worth_another_try:
                        break
                else:
                    _give_name(part, target)
                    return target
            reasons.append(f"{mirror.split('/')[2]} {reason}")
        kept = part.seek(0, os.SEEK_END)
        raise DownloadError(f"{name}: {'; '.join(reasons)}" + (f"; {kept:,} bytes are kept for the next try" if kept else ""))


class _Failed(Exception):
    def __init__(self, reason: str, worth_another_try: bool) -> None:
        super().__init__(" ".join(reason.split()))
        self.worth_another_try = worth_another_try


def _complete(part: BinaryIO, url: str, name: str, digest: str, folder: Path, timeout: float,
              progress: Progress | None) -> None:
    """Append what the part lacks, until it has the right SHA-256."""
    had = part.seek(0, os.SEEK_END)
    if had and _digest(part) == digest:          # ended after its last byte and before it got its name
        return
    done = had
    for piece, at, total in _pieces(url, had, timeout):
        with _writing(folder, part):
            if at < done:          # the mirror begins anew
                part.truncate(0)
            rest = memoryview(piece)
            while rest:          # a raw file may take less than it is given
                rest = rest[part.write(rest):]
        done = at + len(piece)
        if progress:
            progress(name, done, total)
    with _writing(folder, part):
        os.fsync(part.fileno())
    if (found := _digest(part)) != digest:
        part.truncate(0)
        if had:          # the first bytes came from elsewhere, so this mirror may be right all the same
            return _complete(part, url, name, digest, folder, timeout, progress)
        raise _Failed(f"has other bytes: SHA-256 {found}, expected {digest}", worth_another_try=False)


def _pieces(url: str, done: int, timeout: float) -> Iterator[tuple[bytes, int, int]]:
    """What comes after the first `done` bytes, piece by piece: each with its place and the length of the whole or 0.

    A mirror that cannot continue begins at place 0.
    """
    # Imported here: they take as long as the rest of the package, and most runs never fetch anything.
    import http.client
    import socket
    import urllib.error

    at = total = 0
    try:
        with _open(url, done, timeout) as answer:
            at = done if answer.status == 206 else 0
            length = answer.headers.get("Content-Length") or ""
            total = at + int(length) if length.isdecimal() else 0
            since, came = time.monotonic(), 0
            while piece := answer.read1(_CHUNK):
                yield piece, at, total
                at, came = at + len(piece), came + len(piece)
                if (spent := time.monotonic() - since) > timeout:
                    if came < _SLOWEST * spent:
                        raise _Failed(f"is too slow: {came:,} bytes in {spent:.2g} s", worth_another_try=True)
                    since, came = time.monotonic(), 0
    except urllib.error.HTTPError as error:
        busy = error.code in (408, 429) or error.code >= 500
        raise _Failed(f"answers {error.code} ({error.reason})", worth_another_try=busy) from None
    except urllib.error.URLError as error:
        # No such host, or no sign of life from it: without a network, asking again only takes longer.
        hopeless = isinstance(error.reason, (socket.gaierror, TimeoutError))
        raise _Failed(f"cannot be reached ({error.reason})", worth_another_try=not hopeless) from None
    except (http.client.HTTPException, OSError) as error:
        raise _Failed(f"broke off ({str(error) or type(error).__name__})", worth_another_try=True) from None
    if at < total:
        raise _Failed(f"broke off after {at:,} of {total:,} bytes", worth_another_try=True)


def _open(url: str, done: int, timeout: float) -> Any:
    """The answer to a request for all but the first `done` bytes; for everything where that cannot be had."""
    import urllib.error
    import urllib.request

    class OnTheWeb(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            if not newurl.lower().startswith(("http://", "https://")):          # urllib would also go to ftp
                raise urllib.error.HTTPError(req.full_url, code, f"{msg}: to {newurl}, which is not followed", headers, fp)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    headers = {"User-Agent": "minidiff", **({"Range": f"bytes={done}-"} if done else {})}
    try:
        answer = urllib.request.build_opener(OnTheWeb).open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if not (done and error.code == 416):          # 416: there is nothing after that byte
            raise
        error.close()
        return _open(url, 0, timeout)
    if answer.status == 206 and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {done}-"):
        answer.close()
        return _open(url, 0, timeout)
    return answer


# ------------------------------------------------------------------------------------------------ the part

@contextlib.contextmanager
def _part_of(target: Path, progress: Progress | None) -> Iterator[BinaryIO]:
    """The unfinished file, open to append, and ours alone inside the block; afterwards it is kept unless it is empty."""
    path = target.with_name(f"{target.name}.part")
    with _writing(target.parent):
        while (part := open(path, "ab+", buffering=0)) and (locked := _lock(part)) is not True:
            part.close()
            if locked is None:
                _remove_stale(target)
                path = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}.part")
                part = open(path, "ab+", buffering=0)
                break
            if progress and path.exists():
                progress(target.name, path.stat().st_size, 0)
            time.sleep(_LOOK)
    try:
        yield part
    finally:
        with contextlib.suppress(OSError, ValueError):
            if _is(path, part) and part.seek(0, os.SEEK_END) == 0:
                path.unlink()
        part.close()


def _lock(part: BinaryIO) -> bool | None:
    """True: it is ours now. False: another process has it, or has just renamed or removed it. None: there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:          # some network disks
        return None
    return _is(Path(part.name), part)


def _is(path: Path, part: BinaryIO) -> bool:
    """Whether the path still leads to this open file."""
    try:
        there, here = os.stat(path), os.fstat(part.fileno())
    except (OSError, ValueError):
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _remove_stale(target: Path) -> None:
    for path in target.parent.glob(f"{target.name}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE:
                path.unlink()


def _give_name(part: BinaryIO, target: Path) -> None:
    with _writing(target.parent):
        if os.name == "nt":          # where a file that is open cannot be renamed
            part.close()
        os.replace(part.name, target)


def _digest(part: BinaryIO) -> str:
    part.seek(0)
    return sha256(part)


def _has(path: Path, digest: str) -> bool:
    try:
        with open(path, "rb") as stream:
            return sha256(stream) == digest
    except OSError:
        return False


@contextlib.contextmanager
def _writing(folder: Path, part: BinaryIO | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if part is not None:          # half a file on a full disk is in everybody's way
            with contextlib.suppress(OSError):
                part.truncate(0)
        raise BadInput(f"{folder}: cannot be written ({error.strerror or error}); expected a writable folder "
                       "with room: set MINIDIFF_CACHE to one") from None
