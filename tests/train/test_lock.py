"""Two runs in one folder are refused, and a dead run's lock blocks nobody."""
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minidiff.errors import BadInput
from minidiff.train import Config, Trainer, lock

ROOT = Path(__file__).resolve().parents[2]
HOLDER = "import sys, time; from minidiff.train.lock import only_run\nwith only_run(sys.argv[1]): print('held', flush=True); time.sleep(600)"


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen:
    """Another process that holds the lock of a folder."""
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])})
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    yield other
    other.kill()
    other.wait()


def test_a_folder_in_use_is_refused_and_the_process_named(small: Config, tmp_path: Path, holder: subprocess.Popen) -> None:
    message = (rf"^{tmp_path}: another run is at work here \(process {holder.pid} on {platform.node()}\); wait for it or stop it, "
               "or give another --out$")
    with pytest.raises(BadInput, match=message):
        Trainer(small, tmp_path)
    with pytest.raises(BadInput, match=message), lock.only_run(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_a_process_killed_with_the_lock_blocks_nobody(small: Config, tmp_path: Path, holder: subprocess.Popen) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".lock").read_text() == f"{holder.pid} {platform.node()}\n"       # it could not tidy up
    assert lock.in_use(tmp_path) is None
    assert Trainer(small.replace(steps=1), tmp_path, progress=False).run().finished
    assert not (tmp_path / ".lock").exists()


def test_the_lock_is_held_as_long_as_the_run_and_no_longer(small: Config, out: Path) -> None:
    trainer = Trainer(small.replace(steps=2), out, progress=False)
    update, seen = trainer.update, []
    trainer.update = lambda *batch: (seen.append(lock.in_use(out)), update(*batch))[1]
    assert lock.in_use(out) is None
    trainer.run()
    assert len(seen) == 2 and all(f"(process {os.getpid()} on " in said for said in seen)
    assert lock.in_use(out) is None


def test_two_that_began_at_once_do_not_both_write(small: Config, out: Path) -> None:
    """Both saw an empty folder; the second to run finds the first one's checkpoints."""
    first, second = (Trainer(small.replace(steps=2), out, progress=False) for _ in range(2))
    first.run()
    with pytest.raises(BadInput, match="run: another run has written here meanwhile; go on with it by --resume, or give another --out$"):
        second.run()


def test_a_lock_removed_before_it_was_ours_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder unlinks the file between our opening and our locking: a lock on a file without a name keeps nobody out."""
    usual, tried = lock._lock, []

    def removed_once(file: object) -> bool:
        if not tried:
            (tmp_path / ".lock").unlink()
        tried.append(file)
        return usual(file)

    monkeypatch.setattr(lock, "_lock", removed_once)
    with lock.only_run(tmp_path):
        assert len(tried) == 2 and (tmp_path / ".lock").exists()


def test_a_file_system_without_locks_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with lock.only_run(tmp_path):
        time.sleep(0)


def test_two_may_look_at_once_and_neither_takes_the_other_for_a_run(tmp_path):
    """A probe that locked for itself would be seen by the other one as a run at work."""
    import fcntl

    path = tmp_path / lock.NAME
    path.write_text("12345 elsewhere\n")                              # what a killed run left
    with open(path) as other:
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert lock.in_use(tmp_path) is None
        fcntl.flock(other, fcntl.LOCK_UN)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert "process 12345 on elsewhere" in lock.in_use(tmp_path)
