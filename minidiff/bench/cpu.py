"""The measurement on the CPU, behind `minidiff bench`."""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend, diffusion, models, optim
from ..autograd import no_grad
from ..errors import BadInput
from ..nn import functional as F

WORK = ("training step", "forward pass")
Jobs = dict[str, Callable[[], float]]


def _batch(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_t, ε, t, labels: what one step of the report's recipe is given, the same for both libraries."""
    rng = np.random.default_rng(0)
    x0, eps = rng.standard_normal((2, n, 1, 32, 32), dtype=np.float32)
    t = rng.integers(1, 101, n)
    schedule = diffusion.make_schedule("linear", T=100)
    return diffusion.q_sample(schedule, x0, t, eps), eps, t, rng.integers(0, 10, n)


def minidiff_jobs(n: int) -> Jobs:
    """The reference U-Net's training step and forward pass on a batch of n; each gives its loss."""
    backend.manual_seed(0)
    model = models.UNet()
    optimizer = optim.Adam(model.parameters(), lr=0.0)           # the work of a step, the weights of step 0
    xt, eps, t, labels = _batch(n)

    def step() -> float:
        loss = F.mse_loss(model(xt, t, labels), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def forward() -> float:
        with no_grad():
            return F.mse_loss(model(xt, t, labels), eps).item()

    return dict(zip(WORK, (step, forward)))


def torch_jobs(n: int) -> Jobs:
    """The same two in PyTorch (eager), with the same weights and numbers."""
    import torch

    from .twin import torch_unet

    torch.set_num_threads(backend.get_num_threads())
    backend.manual_seed(0)
    model = torch_unet(models.UNet())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    xt, eps, t, labels = (torch.from_numpy(np.ascontiguousarray(a)) for a in _batch(n))

    def step() -> float:
        loss = torch.nn.functional.mse_loss(model(xt, t, labels), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def forward() -> float:
        with torch.no_grad():
            return torch.nn.functional.mse_loss(model(xt, t, labels), eps).item()

    return dict(zip(WORK, (step, forward)))


LIBRARIES: dict[str, Callable[[int], Jobs]] = {"minidiff": minidiff_jobs, "torch": torch_jobs}


def measure(libraries: list[str], batch: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every round: {library: {work: [seconds]}}. Raises RuntimeError if the libraries disagree."""
    jobs = {name: LIBRARIES[name](batch) for name in libraries}
    losses = {name: [job() for job in work.values()] for name, work in jobs.items()}       # warm-up, and a check
    for name, values in losses.items():
        if not np.allclose(values, losses[libraries[0]], rtol=1e-4):
            raise RuntimeError(f"bench: {name} computes losses {values}, {libraries[0]} {losses[libraries[0]]}")
    seconds: dict[str, dict[str, list[float]]] = {name: {work: [] for work in WORK} for name in libraries}
    gc.disable()
    try:
        for _ in range(rounds):
            for work in WORK:
                for name in libraries:
                    start = time.perf_counter()
                    jobs[name][work]()
                    seconds[name][work].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return seconds


def peak_memory(library: str, batch: int, threads: int) -> dict[str, float]:
    """Largest resident memory of three training steps in a process of their own, in MB (10⁶ bytes).

    "whole" is the process, "working" what the steps added to it: activations, gradients, moments.
    """
    code = (
        "import sys; from minidiff import backend; from minidiff.bench import cpu;"
        "backend.set_num_threads(int(sys.argv[3])); cpu._report_memory(sys.argv[1], int(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, library, str(batch), str(threads)]
    package = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"bench: measuring the memory of {library} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def _report_memory(library: str, batch: int) -> None:
    step = LIBRARIES[library](batch)["training step"]
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


# ------------------------------------------------------------------------------------ the command


def main_bench(args: argparse.Namespace) -> int:
    backend.keep_freed_memory()
    """`minidiff bench [--against torch] [--batch N] [--threads N] [--rounds N] [--json FILE]`"""
    for name in ("batch", "rounds", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise BadInput(f"bench: {name} must be a whole number of at least 1, got {value}")
    if args.against and importlib.util.find_spec("torch") is None:
        raise BadInput("bench: --against torch needs PyTorch, which is not installed; pip install torch, or leave it out")
    if args.json and not os.access(Path(args.json).resolve().parent, os.W_OK):
        raise BadInput(f"bench: cannot write {args.json}: its folder is missing or not writable")
    if args.threads:
        backend.set_num_threads(args.threads)
    libraries = ["minidiff", *([args.against] if args.against else [])]
    record = run(libraries, args.batch, args.rounds)
    print(render(record))
    if args.json:
        from ..train.checkpoint import atomic_path

        with atomic_path(Path(args.json)) as temporary:
            Path(temporary).write_text(json.dumps(record, indent=1) + "\n")
    return 0


def run(libraries: list[str], batch: int, rounds: int) -> dict[str, Any]:
    """Measure speed and memory; the figures with all that is needed to repeat them."""
    from ..train import records

    threads = backend.get_num_threads()
    seconds = measure(libraries, batch, rounds)
    record: dict[str, Any] = {
        "command": records.command_line(), "commit": records.commit(), "time": records.now(),
        "machine": {**records.machine("cpu", threads), "blas": _blas(), "environment": _environment()},
        "versions": records.versions(), "model": "UNet()", "batch": batch, "rounds": rounds,
        "median_seconds": {n: {w: float(np.median(s)) for w, s in work.items()} for n, work in seconds.items()},
        "seconds": seconds,
        "peak_memory_mb": {name: peak_memory(name, batch, threads) for name in libraries},
    }  # fmt: skip
    if len(libraries) == 2:
        a, b = (seconds[name] for name in libraries)
        ratios = {work: np.divide(a[work], b[work]) for work in WORK}
        record["ratio"] = {work: float(np.median(r)) for work, r in ratios.items()}
        record["ratio_quartiles"] = {w: [float(q) for q in np.quantile(r, [0.25, 0.75])] for w, r in ratios.items()}
        record["versions"][libraries[1]] = importlib.metadata.version(libraries[1])
    return record


def _blas() -> str:
    """Which kernels NumPy's BLAS has chosen: they decide its speed."""
    from threadpoolctl import threadpool_info

    found = [f"{lib['internal_api']} {lib['version']} {lib.get('architecture', '')}".strip()
             for lib in threadpool_info() if lib["user_api"] == "blas"]  # fmt: skip
    return ", ".join(dict.fromkeys(found))


def _environment() -> dict[str, str]:
    names = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")
    return {name: os.environ[name] for name in names if name in os.environ}


def render(record: dict[str, Any]) -> str:
    """The figures as a table."""
    machine, libraries = record["machine"], list(record["seconds"])
    lines = [
        f"reference U-Net, batch {record['batch']}, float32, {machine['threads']} threads, {record['rounds']} rounds",
        f"{machine['cpu']}; BLAS {machine['blas']}",
        "",
        "".join(f"{head:>16}" for head in ["", *libraries, "ratio" if "ratio" in record else ""]),
    ]
    for work in WORK:
        cells = [f"{1000 * record['median_seconds'][name][work]:.0f} ms" for name in libraries]
        cells += [f"{record['ratio'][work]:.2f}x"] if "ratio" in record else []
        lines.append("".join(f"{cell:>16}" for cell in [work, *cells]))
    for kind, label in (("working", "memory of a step"), ("whole", "whole process")):
        values = [record["peak_memory_mb"][name][kind] for name in libraries]
        cells = [f"{value:.0f} MB" for value in values]
        cells += [f"{values[0] / values[1]:.2f}x"] if len(values) == 2 else []
        lines.append("".join(f"{cell:>16}" for cell in [label, *cells]))
    return "\n".join(lines)
