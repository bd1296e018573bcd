import errno
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidiff.data import download as module
from minidiff.data.download import DownloadError, download
from minidiff.errors import BadInput

CONTENT = bytes(range(256)) * 4096          # 1 MiB: several pieces
LOGIN_PAGE = b"<html>log in first</html>"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
CODES = {"missing": (404, "Not Found"), "forbidden": (403, "Forbidden"), "broken": (500, "Internal Server Error"), "busy": (503, "Service Unavailable")}


class Mirror(BaseHTTPRequestHandler):
    """Behaves as the first part of the path says: /good/…, /missing/…, /cut/…, /busy-twice/… and so on.

    A kind that ends in "+" can continue; the others send everything whatever Range asks for.
    """

    def do_GET(self):
        kind = self.path.split("/")[1]
        asked = self.server.asked
        asked.append(kind)
        kind, can_continue = kind.rstrip("+"), kind.endswith("+")
        if kind in CODES or (kind == "busy-twice" and len(asked) <= 2):
            return self.send_error(*CODES[kind.split("-")[0]])
        if kind in ("moved", "loop", "ftp", "file", "nowhere"):
            return self.redirect(kind)
        self.send(kind, LOGIN_PAGE if kind == "other" else CONTENT, can_continue)

    def redirect(self, kind):
        here = f"http://127.0.0.1:{self.server.server_port}"
        to = {"moved": f"{here}/good+/digits.gz", "loop": f"{here}/loop/digits.gz", "ftp": "ftp://127.0.0.1/digits.gz",
              "file": "file:///etc/passwd", "nowhere": "/missing/digits.gz"}[kind]
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def send(self, kind, body, can_continue):
        begin = 0
        if can_continue and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")):
            begin = int(asked[1])
            self.server.continued.append(begin)
            if begin >= len(body):
                return self.send_error(416, "Range Not Satisfiable")
            begin = 7 if kind == "wrong-range" else begin
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        rest = body[begin:]
        length = {"too-long": len(rest) + 99, "too-short": len(rest) - 99, "no-number": "many", "negative": -5}.get(kind, len(rest))
        if kind != "untold":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if kind.startswith("cut") and (kind == "cut" or len(self.server.asked) == 1):
            rest = rest[:300_000]
        if kind in ("stalls", "trickles"):
            self.wfile.write(rest[:1000])
            rest = rest[1000:] if kind == "stalls" else b""
            for _ in range(40):          # ends by itself, so that no test waits for it
                if self.server.stopped.wait(0.05):
                    return
                if kind == "trickles":
                    self.wfile.write(b"x")
        self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.stopped = threading.Event()
    server.handle_error = lambda *_: None          # a client that has had enough is no news
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.stopped.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(server, tmp_path):
    """fetch("cut", "good") asks these two mirrors, in this order, without waiting between tries."""
    server.asked, server.continued = [], []

    def fetch(*kinds, timeout=5.0, **options):
        mirrors = [f"http://127.0.0.1:{server.server_port}/{kind}/" for kind in kinds]
        return download(mirrors, "digits.gz", DIGEST, tmp_path / "new", pause=0.0, timeout=timeout, **options)
    return fetch


@pytest.mark.parametrize("mirrors, asked", [
    (["good"], ["good"]),
    (["missing", "good"], ["missing", "good"]),          # a file that is not there will not come by asking
    (["forbidden", "good"], ["forbidden", "good"]),
    (["other", "good"], ["other", "good"]),          # nor will the right bytes
    (["cut", "good"], ["cut", "cut", "cut", "good"]),          # a broken line may hold the next time
    (["broken", "good"], ["broken", "broken", "broken", "good"]),
    (["cut-once"], ["cut-once", "cut-once"]),
    (["busy-twice"], ["busy-twice"] * 3),
    (["busy", "missing", "other", "good"], ["busy"] * 3 + ["missing", "other", "good"]),
    (["moved"], ["moved", "good+"]),
    (["too-long"], ["too-long"]),          # at the second try all bytes are there already, whatever its header says
    (["too-short", "good"], ["too-short", "good"]),
    (["no-number"], ["no-number"]),
    (["negative"], ["negative"]),
    (["untold"], ["untold"]),
])
def test_the_first_mirror_with_the_right_bytes_is_used(fetch, server, tmp_path, mirrors, asked):
    path = fetch(*mirrors)
    assert path == tmp_path / "new" / "digits.gz" and path.read_bytes() == CONTENT
    assert server.asked == asked
    assert os.listdir(path.parent) == ["digits.gz"]          # no .part is left


@pytest.mark.parametrize("kind, reason", [
    ("missing", "answers 404 (Not Found)"),
    ("forbidden", "answers 403 (Forbidden)"),
    ("broken", "answers 500 (Internal Server Error)"),
    ("busy", "answers 503 (Service Unavailable)"),
    ("other", f"has other bytes: SHA-256 {hashlib.sha256(LOGIN_PAGE).hexdigest()}, expected {DIGEST}"),
    ("too-short", f"has other bytes: SHA-256 {hashlib.sha256(CONTENT[:-99]).hexdigest()}, expected {DIGEST}"),
    ("nowhere", "answers 404 (Not Found)"),
    ("ftp", "answers 302 (Found: to ftp://127.0.0.1/digits.gz, which is not followed)"),
    ("file", "answers 302 (Found - Redirection to url 'file:///etc/passwd' is not allowed)"),
    ("loop", "answers 302 (The HTTP server returned a redirect error that would lead to an infinite loop. "
             "The last 30x error message was: Found)"),
])
def test_a_failure_says_why_and_leaves_nothing_behind(fetch, server, tmp_path, kind, reason):
    with pytest.raises(DownloadError) as failure:
        fetch(kind)
    assert str(failure.value) == f"digits.gz: 127.0.0.1:{server.server_port} {reason}"
    assert os.listdir(tmp_path / "new") == []


@pytest.mark.parametrize("kind, kept, reason", [
    ("cut", 300_000, "broke off after 300,000 of 1,048,576 bytes"),
    ("stalls", 1000, "broke off (timed out)"),
])
def test_what_came_before_a_line_broke_is_kept_for_the_next_try(fetch, server, tmp_path, kind, kept, reason):
    with pytest.raises(DownloadError) as failure:
        fetch(kind, timeout=0.3, tries=2)
    assert str(failure.value) == f"digits.gz: 127.0.0.1:{server.server_port} {reason}; {kept:,} bytes are kept for the next try"
    assert os.listdir(tmp_path / "new") == ["digits.gz.part"]
    server.continued.clear()
    assert fetch("good+").read_bytes() == CONTENT
    assert server.continued == [kept] and os.listdir(tmp_path / "new") == ["digits.gz"]


def test_a_mirror_that_trickles_is_given_up(fetch, server):
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:\d+ is too slow: \d+ bytes in 0\.\d+ s; 1,0\d\d bytes are kept for the next try$"):
        fetch("trickles", timeout=0.3, tries=1)


def test_the_next_mirror_goes_on_where_the_last_one_broke_off(fetch, server):
    assert fetch("cut+", "good+").read_bytes() == CONTENT
    assert server.continued == [300_000, 600_000, 900_000]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(done=st.integers(0, len(CONTENT) + 10), right=st.booleans(), kind=st.sampled_from(["good", "good+", "wrong-range+"]))
def test_whatever_part_is_found_the_file_comes_out_right(fetch, tmp_path, done, right, kind):
    """Any length, right bytes or wrong ones, a mirror that continues, one that cannot, and one that gives another range."""
    folder = tmp_path / "new"
    folder.mkdir(exist_ok=True)
    (folder / "digits.gz").unlink(missing_ok=True)
    (folder / "digits.gz.part").write_bytes((CONTENT + bytes(10))[:done] if right else b"\xff" * done)
    assert fetch(kind).read_bytes() == CONTENT
    assert os.listdir(folder) == ["digits.gz"]


def test_a_part_that_lacks_only_its_name_is_not_fetched_again(fetch, server, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "digits.gz.part").write_bytes(CONTENT)
    assert fetch("good+").read_bytes() == CONTENT and server.asked == []


def test_a_file_that_was_there_survives_a_failed_download(fetch, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "digits.gz").write_bytes(b"before")
    with pytest.raises(DownloadError):
        fetch("cut")
    assert (tmp_path / "new" / "digits.gz").read_bytes() == b"before"


def test_the_pauses_between_tries_double(server, tmp_path, monkeypatch):
    server.asked, pauses = [], []
    monkeypatch.setattr("time.sleep", pauses.append)
    with pytest.raises(DownloadError):
        download([f"http://127.0.0.1:{server.server_port}/busy/"], "x", DIGEST, tmp_path, tries=4, pause=0.5)
    assert pauses == [0.5, 1.0, 2.0]


def test_progress_is_told_up_to_the_last_byte(fetch):
    told = []
    fetch("good", progress=lambda *values: told.append(values))
    done = [bytes_so_far for _, bytes_so_far, _ in told]
    assert done == sorted(done) and told[-1] == ("digits.gz", len(CONTENT), len(CONTENT))


def test_a_continued_download_tells_the_length_of_the_whole(fetch, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "digits.gz.part").write_bytes(CONTENT[:1000])
    told = []
    fetch("good+", progress=lambda *values: told.append(values))
    assert told[0][1] > 1000 and told[-1] == ("digits.gz", len(CONTENT), len(CONTENT))


def test_a_host_that_does_not_exist_is_asked_once(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited for another try"))
    with pytest.raises(DownloadError, match=r"^x: nowhere\.invalid cannot be reached \(.*\)$"):
        download(["http://nowhere.invalid/"], "x", DIGEST, tmp_path, pause=60.0)


def test_a_folder_that_cannot_be_made_is_named(fetch, tmp_path):
    (tmp_path / "new").write_bytes(b"a file, not a folder")
    message = f"{tmp_path / 'new'}: cannot be written (File exists); expected a writable folder with room: " \
              "set MINIDIFF_CACHE to one"
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        fetch("good")


class FullDisk:
    """An open file on a disk with room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if self.file.seek(0, os.SEEK_END) >= self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data[:max(1, self.room - self.file.tell())])          # a disk takes what it can first

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_is_one_line_and_half_a_file_is_not_left_on_it(fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open", lambda *args, **options: FullDisk(open(*args, **options), 400_000), raising=False)
    message = f"{tmp_path / 'new'}: cannot be written (No space left on device); expected a writable folder with room: " \
              "set MINIDIFF_CACHE to one"
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        fetch("good", "good")
    assert os.listdir(tmp_path / "new") == []


class Sipping(FullDisk):
    """An open file that takes at most so many bytes at once, as the system allows any file to do."""

    def write(self, data):
        return self.file.write(data[:self.room])


def test_a_file_that_takes_less_than_it_is_given_is_given_the_rest(fetch, monkeypatch):
    monkeypatch.setattr(module, "open", lambda *args, **options: Sipping(open(*args, **options), 5000), raising=False)
    assert fetch("good").read_bytes() == CONTENT


def test_an_answer_that_begins_elsewhere_is_not_taken_for_the_rest(fetch, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "digits.gz.part").write_bytes(CONTENT[:1000])
    told = []
    fetch("wrong-range+", progress=lambda *values: told.append(values[1]))
    assert told == sorted(told) and told[-1] == len(CONTENT)          # at once from the first byte, not after a wrong digest


def test_an_interruption_keeps_the_part(fetch, server, tmp_path):
    def interrupt(name, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("good+", progress=interrupt)
    had = (tmp_path / "new" / "digits.gz.part").stat().st_size
    assert fetch("good+").read_bytes() == CONTENT and server.continued == [had]


# ------------------------------------------------------------------------------------------------ two at once

FETCHER = """
import sys
from pathlib import Path
from minidiff.data.download import download
print(download([sys.argv[1]], "digits.gz", sys.argv[2], Path(sys.argv[3]), pause=0.0, timeout=20.0).stat().st_size)
"""


def start(server, kind, folder):
    address = f"http://127.0.0.1:{server.server_port}/{kind}/"
    return subprocess.Popen([sys.executable, "-c", FETCHER, address, DIGEST, str(folder)], stdout=subprocess.PIPE, text=True,
                            cwd=Path(__file__).resolve().parents[2])


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "nothing happened for a minute"
        time.sleep(0.01)


def test_of_two_processes_one_fetches_and_the_other_finds_it_whole(fetch, server, tmp_path):
    both = [start(server, "stalls", tmp_path / "new") for _ in range(2)]          # two seconds each, alone
    assert [process.communicate(timeout=300)[0] for process in both] == [f"{len(CONTENT)}\n"] * 2
    assert server.asked == ["stalls"]
    assert (tmp_path / "new" / "digits.gz").read_bytes() == CONTENT and os.listdir(tmp_path / "new") == ["digits.gz"]


def test_the_part_of_a_process_that_was_killed_is_taken_over(fetch, server, tmp_path):
    part = tmp_path / "new" / "digits.gz.part"
    killed = start(server, "stalls", tmp_path / "new")
    wait_for(lambda: part.exists() and part.stat().st_size == 1000)
    killed.kill()
    killed.communicate()
    assert fetch("good+").read_bytes() == CONTENT and server.continued == [1000]


def test_many_threads_make_one_whole_file(fetch, server, tmp_path):
    done = []
    threads = [threading.Thread(target=lambda: done.append(fetch("cut-once+", "good+").read_bytes() == CONTENT)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 6 and os.listdir(tmp_path / "new") == ["digits.gz"]


@pytest.mark.parametrize("ending", ["named", "removed"])
def test_a_part_that_ends_while_it_is_being_locked_is_not_written_to(fetch, server, tmp_path, monkeypatch, ending):
    """Between opening the part and locking it another process may finish or remove it: then the lock is on no part any more."""
    fcntl = pytest.importorskip("fcntl")
    part, flock, ended = tmp_path / "new" / "digits.gz.part", fcntl.flock, []

    def ended_by_another(file, how):
        if not ended:
            ended.append(True)
            part.write_bytes(CONTENT)
            os.replace(part, tmp_path / "new" / "digits.gz") if ending == "named" else part.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", ended_by_another)
    assert fetch("good").read_bytes() == CONTENT and server.asked == ([] if ending == "named" else ["good"])
    assert os.listdir(tmp_path / "new") == ["digits.gz"]


def test_without_locks_each_process_has_its_own_part_and_old_ones_go(fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_lock", lambda part: None)
    (tmp_path / "new").mkdir()
    old, new = tmp_path / "new" / "digits.gz.4711-1.part", tmp_path / "new" / "digits.gz.4712-1.part"
    for path in (old, new):
        path.write_bytes(b"begun")
    os.utime(old, (0, 0))
    seen = []
    fetch("good", progress=lambda *_: seen.append(sorted(os.listdir(tmp_path / "new"))))
    assert f"digits.gz.{os.getpid()}-{threading.get_ident()}.part" in seen[0]
    assert new.exists() and not old.exists()
