"""`minidiff bench`: what to measure, the record, and the table."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import backend
from ..errors import BadInput
from ..train.folder import check_writable
from . import measure, peers, work

OPS_BATCH = 64
BATCHES = [16, 64, 128]


def main_bench(args: argparse.Namespace) -> int:
    """`minidiff bench [--against torch] [--batch N …] [--kernels K …] [--no-ops] [--peers] [--json FILE]`"""
    if args.json and Path(args.json).is_dir():
        raise BadInput(f"bench: cannot write {args.json}: it is a folder; give a file")
    if args.json:
        check_writable(Path(args.json).parent, "--json")
    for name in ("rounds", "threads", "steps"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise BadInput(f"bench: {name} must be a whole number of at least 1, got {value}")
    for batch in args.batch or ():
        if batch < 1:
            raise BadInput(f"bench: batch must be a whole number of at least 1, got {batch}")
    if args.against and importlib.util.find_spec("torch") is None:
        raise BadInput("bench: --against torch needs PyTorch, which is not installed; pip install torch, or leave it out")
    if args.steps is not None and (args.loop or args.device != "cuda"):
        raise BadInput("bench: --steps is for the GPU's table; give --device cuda without --loop, or leave --steps out")
    if args.loop:
        from .loop import main_loop

        return main_loop(args)
    if args.device == "cuda":
        from .gpu import main_gpu

        return main_gpu(args)
    if args.preset or args.precision:
        raise BadInput("bench: --preset and --precision are for the GPU; give --device cuda too, or leave them out")
    kernels = list(dict.fromkeys(args.kernels or _available()))
    before = backend.get_kernels()
    try:
        for name in kernels:
            backend.set_kernels(name)                            # refuses what is not installed, before any work
        record = run(kernels, args.against, args.batch or BATCHES, args.rounds, args.threads or backend.get_num_threads(),
                     with_operations=not args.no_ops, with_peers=args.peers)  # fmt: skip
    finally:
        backend.set_kernels(before)
    print(render(record))
    if args.json:
        from ..files import atomic_path

        with atomic_path(Path(args.json)) as temporary:
            Path(temporary).write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _available() -> list[str]:
    """The CPU kernels that can be used here, the quickest first."""
    return [name for name in ("numba", "numpy") if name == "numpy" or importlib.util.find_spec(name)]


def run(
    kernels: list[str], against: str | None, batches: list[int], rounds: int, threads: int, with_operations: bool = True,
    with_peers: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Measure speed and memory; the figures with all that is needed to repeat them."""
    from ..train import records

    libraries = [*kernels, *([against] if against else [])]
    measure.set_threads(libraries, threads)
    plan: list[tuple[str, str, Callable[[], work.Jobs]]] = []
    for n in batches:
        for name in ("training step", "forward pass"):
            plan.append(("unet", f"{name}, batch {n}", lambda n=n, name=name: {lib: work.unet(lib, n)[name] for lib in libraries}))
    if with_operations:
        for op in work.operations(OPS_BATCH):
            plan.append(("operations", op.name, lambda op=op: {lib: work.operation(lib, op) for lib in libraries}))
        plan.append(("operations", "AdamW, the U-Net's parameters", lambda: {lib: work.adamw(lib) for lib in libraries}))
    record: dict[str, Any] = {
        "command": records.command_line(), "commit": records.commit(), "time": records.now(),
        "machine": {**records.machine("cpu", threads), "blas": _blas(), "environment": _environment()},
        "versions": records.versions(), "model": "UNet()", "libraries": libraries, "against": against, "rounds": rounds,
        "operations_batch": OPS_BATCH, "unet": {}, "operations": {},
    }  # fmt: skip
    for package in (against, "numba" if "numba" in kernels else None):
        if package:
            record["versions"][package] = importlib.metadata.version(package)
    with tqdm(plan, desc="bench", disable=not sys.stderr.isatty(), leave=False) as progress:
        for kind, name, jobs in progress:
            progress.set_postfix_str(name)
            record[kind][name] = measure.in_turn(name, jobs(), rounds, against)
    if with_peers:
        jobs, absent = peers.present(kernels)
        found = measure.in_turn(peers.TITLE, jobs, rounds, "torch" if "torch" in jobs else None)
        record["peers"] = {"work": peers.TITLE, **found, "absent": absent}
    record["peak_memory_mb"] = {
        str(n): {library: measure.peak_memory(library, n, threads) for library in libraries} for n in batches
    }
    record["import_seconds"] = measure.import_seconds()
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


# -------------------------------------------------------------------------------------- the table


def render(record: dict[str, Any]) -> str:
    """The figures as a table: milliseconds, and in brackets the ratio to the library compared with."""
    machine, libraries, against = record["machine"], record["libraries"], record["against"]
    heads = [f"minidiff, {name}" if name != against else name for name in libraries]
    lines = [
        f"float32, {machine['threads']} threads, median of {record['rounds']} rounds in turn",
        f"{machine['cpu']}; BLAS {machine['blas']}",
    ]
    sections = [
        ("reference U-Net", record["unet"]),
        (f"forward and backward, batch {record['operations_batch']}", record["operations"]),
    ]
    for title, rows in sections:
        if rows:
            lines += ["", _row(title, heads), *(_row(name, _times(found, libraries)) for name, found in rows.items())]
    lines += ["", _row("memory of a training step", heads)]
    for batch, found in record["peak_memory_mb"].items():
        cells = []
        for library in libraries:
            ratio = f" ({found[library]['working'] / found[against]['working']:.2f}x)" if against not in (None, library) else ""
            cells.append(f"{found[library]['working']:.0f} MB{ratio}")
        lines.append(_row(f"batch {batch}", cells))
    if "peers" in record:
        lines += ["", record["peers"]["work"]]
        for library in record["peers"]["seconds"]:
            label = f"minidiff, {library}" if library in libraries and library != "torch" else library
            lines.append(_row(label, _times(record["peers"], [library])))
        lines += [_row(name, [reason]) for name, reason in record["peers"]["absent"].items()]
    lines += ["", f"import minidiff: {record['import_seconds']:.2f} s"]
    return "\n".join(lines)


def _row(label: str, cells: list[str]) -> str:
    return f"{label:<44}" + "".join(f"{cell:>20}" for cell in cells)


def _times(found: dict[str, Any], libraries: list[str]) -> list[str]:
    cells = []
    for library in libraries:
        ratio = found.get("ratio", {}).get(library)
        cells.append(f"{1000 * found['median_seconds'][library]:.1f} ms" + (f" ({ratio:.2f}x)" if ratio is not None else ""))
    return cells
