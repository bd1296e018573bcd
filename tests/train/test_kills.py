"""Fifty kills, each at another moment of a small run: every run goes on to the very bytes of the unbroken one.

A kill is SIGKILL, which no handler sees. Half of them come from outside, at a random time. The other half the run deals
itself at a chosen moment, which time would hardly ever hit: at the n-th call that opens, renames or removes a file (so
between a checkpoint's last byte and its new name, too), before a sheet of samples gets its name, or in the middle of
writing an archive.
"""
import hashlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidiff.train import read_metrics
from minidiff.train.folder import holds_run

ROOT = Path(__file__).resolve().parents[2]
STEPS = 20

# One process that has imported everything and started no thread forks a child for each launch: a run costs a fifth of a
# second so, and not the second that Python takes to come up.
SERVER = '''
import json, os, signal, sys
import numpy as np
from minidiff import backend, data, viz
from minidiff.train import Config, Trainer, checkpoint, records
from minidiff.train.folder import holds_run

backend.set_num_threads(1)
records.commit()
viz.sample_sheet(np.zeros((1, 1, 32, 32)), [0], columns=1, class_names="0", step=0, loss=0.0, title="")    # fonts
for split in ("train", "test"):
    data.load("glyphs", split, limit=24)
CONFIG = Config(preset="small", data="glyphs", limit=24, steps=%d, batch=4, model={"channels": [8, 8], "condition": "film", "time_dim": 8, "patch": 4},
                schedule={"name": "cosine", "T": 10}, lr=2e-3, warmup=3, clip=1.0, ema=0.9, sheet_every=7, sheet_per_class=1, sheet_sampler="ddim",
                sheet_steps=2, checkpoint_every=4, keep=2, validate=8, threads=1)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_call(n, events=("open", "os.rename", "os.remove", "os.mkdir"), where="run-"):
    """At the n-th call that opens, renames or removes something in the run's folder."""
    left = [n]

    def hook(event, arguments):
        if event in events and where in str(arguments[0]):
            left[0] -= 1
            if left[0] == 0:
                die()
    sys.addaudithook(hook)


def die_at_sheet(n):
    """When the n-th sheet is drawn and has not got its name."""
    die_at_call(n, ("os.rename",), "sheets")


def die_in_write(n):
    """In the middle of the n-th archive: some of its arrays are in the file, the directory at its end is not."""
    write_npz, left = checkpoint.write_npz, [n]

    class Cut(dict):
        def items(self):
            yield from list(super().items())[:7]
            die()

    def write_part(path, arrays):
        left[0] -= 1
        write_npz(path, arrays if left[0] else Cut(arrays))
    checkpoint.write_npz = write_part


for line in sys.stdin:
    out, how, n = json.loads(line)
    pid = os.fork()
    if pid == 0:
        try:
            {"call": die_at_call, "sheet": die_at_sheet, "write": die_in_write, "never": lambda n: None}[how](n)
            Trainer(CONFIG, out, resume=holds_run(out), progress=False).run()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
'''


class Server:
    """Launches runs, one after the other, each in a process of its own."""

    def __init__(self, log: Path) -> None:
        one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.log = log
        self.process = subprocess.Popen([sys.executable, "-c", SERVER % STEPS], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"),
                                        env={**os.environ, **one_thread, "PYTHONPATH": path, "MINIDIFF_KERNELS": "numpy", "MPLBACKEND": "Agg"})

    def launch(self, out: Path, how: str = "never", n: int = 0, kill_after: float | None = None) -> int:
        """Start or go on with a run; its exit status, −9 when it was killed."""
        print(json.dumps([str(out), how, n]), file=self.process.stdin, flush=True)
        pid = int(self._line())
        if kill_after is not None and not select.select([self.process.stdout], [], [], kill_after)[0]:
            os.kill(pid, signal.SIGKILL)
        return int(self._line())

    def _line(self) -> str:
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return line

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    patch = pytest.MonkeyPatch()
    patch.setenv("MINIDIFF_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    server = Server(tmp_path_factory.mktemp("server") / "log")
    yield server
    server.close()
    patch.undo()


def _state(out: Path) -> dict[str, str]:
    """SHA-256 of every archive and picture: all checkpoints, the best, the final model, the sheets."""
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.rglob("*")) if p.suffix in (".npz", ".png")}


def _metrics(out: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in read_metrics(out)]


@pytest.fixture(scope="module")
def unbroken(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The run that nothing happens to, and how long the second one of its kind takes."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert server.launch(folder / "run-0") == 0, server.log.read_text()
    start = time.perf_counter()
    assert server.launch(folder / "run-1") == 0
    seconds = time.perf_counter() - start
    assert _state(folder / "run-0") == _state(folder / "run-1")
    assert [row["step"] for row in _metrics(folder / "run-0")] == list(range(1, STEPS + 1))
    return folder / "run-0", seconds


def _moments() -> list[tuple[str, int | float]]:
    """Fifty moments, the same on every run of the tests: times in parts of a run, calls, and writes."""
    chance = random.Random(2024)
    times = [("time", chance.random()) for _ in range(25)]
    calls = [("call", n) for n in sorted(chance.sample(range(1, 70), 16))]
    return times + calls + [("sheet", 1), ("sheet", 2)] + [("write", n) for n in range(1, 8)]


assert len(_moments()) == 50


@pytest.mark.parametrize(("how", "moment"), _moments(), ids=lambda value: f"{value:.2f}" if isinstance(value, float) else str(value))
def test_a_killed_run_goes_on_to_the_bytes_of_the_unbroken_one(how: str, moment: float, server: Server, unbroken: tuple[Path, float],
                                                               tmp_path: Path) -> None:
    whole, seconds = unbroken
    out = tmp_path / "run-k"
    status = server.launch(out, "never", 0, moment * seconds) if how == "time" else server.launch(out, how, int(moment))
    assert status == -signal.SIGKILL or how == "time", server.log.read_text()      # on a busy machine a run may be done in time
    before = read_metrics(out) if (out / "metrics.jsonl").exists() else []
    assert server.launch(out) == 0, server.log.read_text()
    assert _state(out) == _state(whole)
    assert _metrics(out) == _metrics(whole)
    assert [row["loss"] for row in before] == [row["loss"] for row in read_metrics(out)][: len(before)]
    assert json.loads((out / "record.json").read_text())["status"] == "finished"
    assert not [p for p in out.rglob("*") if ".part" in p.name or p.name == ".lock"]


def test_a_run_killed_again_and_again_still_arrives(server: Server, unbroken: tuple[Path, float], tmp_path: Path) -> None:
    """Each launch is killed some calls later than the last one, or in its second archive; the one that nobody kills ends it."""
    out, kills = tmp_path / "run-k", 0
    for n in range(3, 60, 4):
        kills += server.launch(out, *(("write", 2) if n % 3 == 0 else ("call", n))) == -signal.SIGKILL
    assert server.launch(out) == 0, server.log.read_text()
    assert kills >= 8
    assert _state(out) == _state(unbroken[0])
    assert _metrics(out) == _metrics(unbroken[0])


def test_a_run_killed_in_a_checkpoint_has_a_half_file_only_under_another_name(server: Server, unbroken: tuple[Path, float], tmp_path: Path) -> None:
    """What the kill leaves, before anything has tidied up."""
    out = tmp_path / "run-k"
    assert server.launch(out, "write", 4) == -signal.SIGKILL                       # of steps 0 and 4, the best of step 7, step 8
    parts = [p for p in (out / "checkpoints").iterdir() if ".part" in p.name]
    assert len(parts) == 1 and parts[0].stat().st_size > 1000
    assert holds_run(out)
    names = [p.name for p in (out / "checkpoints").glob("step_*.npz")]
    assert names and all((out / "checkpoints" / name).read_bytes()[-22:-18] == b"PK\x05\x06" for name in names)    # whole archives
