"""How it is measured: libraries in turn, round after round, in one process on the same threads.

A machine grows slower and faster as it warms up and as others use it. Libraries that take turns
meet the same machine, so it is the ratio of each round that is reported, by its median.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend
from .work import Jobs, unet

PAUSE = 0.02  # seconds before each turn: threads of OpenMP that wait by spinning would take a core from whoever is next

def in_turn(name: str, jobs: Jobs, rounds: int, against: str | None = None) -> dict[str, Any]:
    """Seconds of every round of each library, their medians, and the ratios to `against`.

    Raises RuntimeError if the numbers that come out of the jobs differ: they do not do the same work then.
    """
    results = {library: job() for library, job in jobs.items()}                            # warm-up, and a check
    reference = next(iter(results.values()))
    if not np.allclose(list(results.values()), reference, rtol=1e-3, atol=1e-4):
        raise RuntimeError(f"bench: {name}: the libraries compute different numbers: {results}")
    seconds: dict[str, list[float]] = {library: [] for library in jobs}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for library, job in jobs.items():
                time.sleep(PAUSE)
                start = time.perf_counter()
                job()
                seconds[library].append(time.perf_counter() - start)
    finally:
        gc.enable()
    found: dict[str, Any] = {
        "median_seconds": {library: float(np.median(s)) for library, s in seconds.items()}, "seconds": seconds
    }
    if against is not None:
        ratios = {library: np.divide(s, seconds[against]) for library, s in seconds.items() if library != against}
        found["ratio"] = {library: float(np.median(r)) for library, r in ratios.items()}
        found["ratio_quartiles"] = {n: [float(q) for q in np.quantile(r, [0.25, 0.75])] for n, r in ratios.items()}
    return found


def peak_memory(library: str, batch: int, threads: int) -> dict[str, float]:
    """Largest resident memory of three training steps in a process of their own, in MB (10⁶ bytes).

    "whole" is the process, "working" what the steps added to it: activations, gradients, moments.
    One step of one image has been made before, so that code compiled meanwhile does not count.
    """
    code = (
        "import sys; from minidiff import backend; from minidiff.bench import measure;"
        "backend.set_num_threads(int(sys.argv[3])); measure.report_memory(sys.argv[1], int(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, library, str(batch), str(threads)]
    package = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"bench: measuring the memory of {library} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def report_memory(library: str, batch: int) -> None:
    """Print what `peak_memory` asks for, as JSON."""
    set_threads([library], backend.get_num_threads())
    backend.keep_freed_memory()
    unet(library, 1)["training step"]()
    step = unet(library, batch)["training step"]
    before = _resident("VmRSS")
    for _ in range(3):
        step()
    after = _resident("VmHWM")
    print(json.dumps({"whole": after / 1e6, "working": (after - before) / 1e6}))


def _resident(kind: str) -> float:
    """Memory of this process in bytes: "VmRSS" now, "VmHWM" at its highest."""
    try:
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith(kind))
        return 1024.0 * int(line.split()[1])
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024           # it counts bytes there, kilobytes elsewhere
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def set_threads(libraries: list[str], threads: int) -> None:
    """The same number of threads for all."""
    backend.set_num_threads(threads)
    if any(library.startswith("torch") for library in libraries):
        import torch

        torch.set_num_threads(threads)


def import_seconds() -> float:
    """The shortest of five times that a fresh Python takes to import minidiff, less what Python itself takes."""

    def fastest(code: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            times.append(time.perf_counter() - start)
        return min(times)

    package = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    return fastest("import minidiff") - fastest("pass")
