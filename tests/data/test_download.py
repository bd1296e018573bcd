import hashlib
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minidiff.data.download import DownloadError, download
from minidiff.errors import BadInput

CONTENT = bytes(range(256)) * 4096          # 1 MiB: several pieces
LOGIN_PAGE = b"<html>log in first</html>"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Mirror(BaseHTTPRequestHandler):
    """Behaves as the first part of the path says: /good/…, /missing/…, /cut/…, /busy-twice/… and so on."""

    def do_GET(self):
        kind = self.path.split("/")[1]
        asked = self.server.asked
        asked.append(kind)
        if kind == "missing":
            return self.send_error(404, "Not Found")
        if kind == "busy" or (kind == "busy-twice" and asked.count(kind) <= 2):
            return self.send_error(503, "Service Unavailable")
        body = LOGIN_PAGE if kind == "other" else CONTENT
        cut = kind == "cut" or (kind == "cut-once" and asked.count(kind) == 1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:300_000] if cut else body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(server, tmp_path):
    """fetch("cut", "good") asks these two mirrors, in this order, without waiting between tries."""
    server.asked = []

    def fetch(*kinds, **options):
        mirrors = [f"http://127.0.0.1:{server.server_port}/{kind}/" for kind in kinds]
        return download(mirrors, "digits.gz", DIGEST, tmp_path / "new", pause=0.0, timeout=5.0, **options)
    return fetch


@pytest.mark.parametrize("mirrors, asked", [
    (["good"], ["good"]),
    (["missing", "good"], ["missing", "good"]),          # a file that is not there will not come by asking
    (["other", "good"], ["other", "good"]),          # nor will the right bytes
    (["cut", "good"], ["cut", "cut", "cut", "good"]),          # a broken line may hold the next time
    (["cut-once"], ["cut-once", "cut-once"]),
    (["busy-twice"], ["busy-twice"] * 3),
    (["busy", "missing", "other", "cut-once"], ["busy"] * 3 + ["missing", "other", "cut-once", "cut-once"]),
])
def test_the_first_mirror_with_the_right_bytes_is_used(fetch, server, tmp_path, mirrors, asked):
    path = fetch(*mirrors)
    assert path == tmp_path / "new" / "digits.gz" and path.read_bytes() == CONTENT
    assert server.asked == asked
    assert os.listdir(path.parent) == ["digits.gz"]          # no .part is left


@pytest.mark.parametrize("kind, reason", [
    ("missing", "answers 404 (Not Found)"),
    ("busy", "answers 503 (Service Unavailable)"),
    ("other", f"has other bytes: SHA-256 {hashlib.sha256(LOGIN_PAGE).hexdigest()}, expected {DIGEST}"),
    ("cut", "broke off after 300,000 of 1,048,576 bytes"),
])
def test_a_failure_says_why_and_leaves_nothing_behind(fetch, server, tmp_path, kind, reason):
    with pytest.raises(DownloadError) as failure:
        fetch(kind)
    assert str(failure.value) == f"digits.gz: 127.0.0.1:{server.server_port} {reason}"
    assert os.listdir(tmp_path / "new") == []


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
