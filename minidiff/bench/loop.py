"""`minidiff bench --loop`: what the training loop costs beside its steps, and what memory costs in time.

A loop fetches a batch, makes a step, and writes down how it went. Only the step is work; the rest should not be seen
(`measure_loop`). And a step can be made in less memory than it takes at first: in parts, or by computing twice
(`measure_ways`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .. import backend, data
from ..train import Trainer, preset, records
from ..train.progress import Progress
from . import measure

WAYS: dict[str, dict[str, Any]] = {
    "plain": {}, "recompute": {"recompute": True}, "accumulate 4": {"accumulate": 4}, "both": {"recompute": True, "accumulate": 4},
}  # fmt: skip
STEPS = 40                                    # of the loop that are measured …
WARM_UP = 4                                   # … after these


def main_loop(args: argparse.Namespace) -> int:
    """`minidiff bench --loop [--preset NAME] [--batch N] [--rounds N] [--json FILE]`"""
    record = run((args.preset or ["mnist"])[0], (args.batch or [64])[0], args.rounds, args.threads or backend.get_num_threads())
    print(render(record))
    if args.json:
        from ..files import atomic_path

        with atomic_path(Path(args.json)) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def run(name: str, batch: int, rounds: int, threads: int) -> dict[str, Any]:
    """All figures, with what is needed to repeat them."""
    backend.set_num_threads(threads)
    loop = measure_loop(name, batch)
    return {
        "command": records.command_line(), "commit": records.commit(), "time": records.now(), "machine": records.machine("cpu", threads),
        "versions": records.versions(), "kernels": backend.get_kernels(), "preset": name, "batch": batch, "rounds": rounds,
        "loop": loop, "ways": measure_ways(name, batch, rounds, threads),
    }  # fmt: skip


@contextlib.contextmanager
def trainer_of(name: str, batch: int, **changes: Any) -> Iterator[Trainer]:
    """A trainer of a preset that neither draws nor saves, on MNIST where its files are here and on glyphs where not."""
    usual = {"sheet_every": 0, "checkpoint_every": 0, "validate": 0, "batch": batch, "data": "mnist" if data.find_mnist() else "glyphs"}
    with TemporaryDirectory() as folder:
        trainer = Trainer(preset(name).replace(**usual, **changes), Path(folder) / "run", progress=False)
        try:
            yield trainer
        finally:
            trainer.loader.close()


# ---------------------------------------------------------------------------------------- the loop


class _Timed:
    """A loader whose `next` is timed."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.seconds = loader, []

    def __next__(self) -> Any:
        start = time.perf_counter()
        batch = next(self.loader)
        self.seconds.append(time.perf_counter() - start)
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def measure_loop(name: str, batch: int, steps: int = STEPS) -> dict[str, Any]:
    """Seconds of the step itself, of waiting for its batch, and of everything else between two steps; sums over `steps`.

    "making a batch" is what the thread behind the loader does meanwhile, on one of the same cores; "a checkpoint" and a
    held-out loss come now and then, and are no part of the share.
    """
    with trainer_of(name, batch, steps=steps + WARM_UP) as trainer:
        (trainer.out / "checkpoints").mkdir(parents=True)
        trainer.metrics = records.Metrics(trainer.out / "metrics.jsonl")
        trainer.progress = Progress("", trainer.total, stream=io.StringIO(), every=0.0)      # says a line every step: the worst case
        trainer.loader = _Timed(trainer.loader)
        update, updates, wholes = trainer.update, [], []

        def timed(*batch: Any) -> Any:
            start = time.perf_counter()
            result = update(*batch)
            updates.append(time.perf_counter() - start)
            return result

        trainer.update = timed
        for _ in range(steps + WARM_UP):
            start = time.perf_counter()
            trainer._one_step()
            wholes.append(time.perf_counter() - start)
        whole, step, waiting = (sum(s[WARM_UP:]) / steps for s in (wholes, updates, trainer.loader.seconds))
        start = time.perf_counter()
        trainer.save()
        saving = time.perf_counter() - start
        trainer.metrics.close()
        start = time.perf_counter()
        for k in range(steps):
            trainer.loader.loader._batches.make(k)
        making = (time.perf_counter() - start) / steps
        every = preset(name).checkpoint_every
    return {
        "data_set": trainer.config.data, "steps": steps, "seconds_a_step": whole, "seconds_of_update": step, "seconds_of_waiting_for_data": waiting,
        "seconds_of_logging": whole - step - waiting, "share_of_data_and_logging": (whole - step) / whole,
        "seconds_of_making_a_batch": making, "seconds_of_a_checkpoint": saving, "checkpoint_every": every,
        "share_of_checkpoints": saving / (every * whole + saving) if every else 0.0,
    }  # fmt: skip


# ---------------------------------------------------------------------------------------- less memory


def measure_ways(name: str, batch: int, rounds: int, threads: int) -> dict[str, Any]:
    """For each way of making the same step: seconds, in turn in one process, and peak memory, in a process of its own."""
    with contextlib.ExitStack() as stack:
        jobs = {}
        for way, changes in WAYS.items():
            trainer = stack.enter_context(trainer_of(name, batch, **changes))
            pictures, labels = next(trainer.loader)
            jobs[way] = lambda trainer=trainer, pictures=pictures, labels=labels: trainer.update(pictures, labels)[0]
        found = measure.in_turn("a training step", jobs, rounds, against="plain")      # refuses ways whose losses differ
    return {way: {"median_seconds": found["median_seconds"][way], "time_ratio": found["ratio"].get(way, 1.0), "seconds": found["seconds"][way],
                  "peak_memory_mb": peak_memory(name, way, batch, threads)} for way in WAYS}  # fmt: skip


def peak_memory(name: str, way: str, batch: int, threads: int) -> dict[str, float]:
    """As `measure.peak_memory`, of three steps made in one of the WAYS."""
    code = ("import sys; from minidiff import backend; from minidiff.bench import loop; backend.set_num_threads(int(sys.argv[4]));"
            "loop.report_memory(sys.argv[1], sys.argv[2], int(sys.argv[3]))")  # fmt: skip
    package = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code, name, way, str(batch), str(threads)], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"bench: measuring the memory of {way} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def report_memory(name: str, way: str, batch: int) -> None:
    """Print what `peak_memory` asks for, as JSON."""
    backend.keep_freed_memory()
    with trainer_of(name, batch, **WAYS[way]) as trainer:
        pictures, labels = next(trainer.loader)
        trainer.loader.close()
        few = trainer.config.accumulate
        trainer.update(pictures[:few], labels[:few])             # compiles and claims what any step needs
        before = measure._resident("VmRSS")
        for _ in range(3):
            trainer.update(pictures, labels)
        after = measure._resident("VmHWM")
    print(json.dumps({"whole": after / 1e6, "working": (after - before) / 1e6}))


# ---------------------------------------------------------------------------------------- the table


def render(record: dict[str, Any]) -> str:
    """The figures as a table."""
    loop, plain = record["loop"], record["ways"]["plain"]
    lines = [
        f"{record['machine']['cpu']}, {record['machine']['threads']} threads, {record['kernels']} kernels, preset {record['preset']}, batch {record['batch']}", "",
        *(f"{label:<32}{1000 * loop[key]:>10.2f} ms" for label, key in (
            ("a step of the loop", "seconds_a_step"), ("  the step itself", "seconds_of_update"), ("  waiting for data", "seconds_of_waiting_for_data"),
            ("  logging", "seconds_of_logging"), ("making a batch (other thread)", "seconds_of_making_a_batch"), ("a checkpoint", "seconds_of_a_checkpoint"))),
        f"{'data and logging':<32}{loop['share_of_data_and_logging']:>10.2%}",
        f"{'checkpoints, every ' + str(loop['checkpoint_every']):<32}{loop['share_of_checkpoints']:>10.2%}", "",
        f"{'the same step':<16}{'time':>12}{'':>9}{'memory':>14}",
    ]  # fmt: skip
    for way, found in record["ways"].items():
        ratio = found["peak_memory_mb"]["working"] / plain["peak_memory_mb"]["working"]
        lines.append(f"{way:<16}{1000 * found['median_seconds']:>9.0f} ms {found['time_ratio']:>7.2f}x{found['peak_memory_mb']['working']:>10.0f} MB {ratio:>7.2f}x")
    return "\n".join(lines)

