"""`minidiff kernels`: every GPU kernel that the library launches, compiled without a GPU, and what it takes.

The networks run through forward, backward and update on arrays whose numbers nobody computes: each launch is noted
down instead (`kernels.cuda.runtime.noted`). So the table shows exactly what a GPU would be given. Functions, reductions
and what else no preset may happen to launch are called once each, in the same way.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import backend, diffusion, models, optim, train
from ..errors import BadInput
from ..files import atomic_path
from ..kernels import cuda
from ..kernels.cuda import compile, map, reduce, runtime
from ..train.graph import GraphStep

BATCH = 128                                   # sizes of tiles depend on the image and the channels, hardly on this
REGISTERS = 65536                             # of a multiprocessor


class Limits(NamedTuple):
    """What a multiprocessor has at most at a time."""

    threads: int
    blocks: int
    shared: int                               # KiB of memory; a block costs 1 KiB more than it asks for, so can have one less


# CUDA C++ guide, technical specifications by compute capability; 8.8 as the toolkit's cuda_occupancy.h has it.
LIMITS = {
    "sm_80": Limits(2048, 32, 164), "sm_86": Limits(1536, 16, 100), "sm_87": Limits(1536, 16, 164), "sm_88": Limits(1536, 16, 100),
    "sm_89": Limits(1536, 24, 100), "sm_90": Limits(2048, 32, 228), "sm_100": Limits(2048, 32, 228), "sm_103": Limits(2048, 32, 228),
    "sm_110": Limits(1536, 24, 228), "sm_120": Limits(1536, 24, 100), "sm_121": Limits(1536, 24, 100),
}  # fmt: skip


class Need(NamedTuple):
    """One kernel as it is launched somewhere."""

    build: compile.Build
    name: str
    threads: int
    shared: int


class Row(NamedTuple):
    """A need, compiled for one architecture: a line of the table."""

    need: Need
    architecture: str
    resources: compile.Resources
    blocks: int                               # that fit on a multiprocessor at a time
    trouble: str                              # what is wrong with it, or nothing


# ----------------------------------------------------------------------------------- what is needed


def needs(presets: Iterable[str], precisions: Iterable[str] = backend.PRECISIONS, batch: int = BATCH) -> list[Need]:
    """Everything that one training step and one forward pass of these presets launch, each kernel once."""
    with _noted() as found:
        for name in presets:
            for precision in precisions:
                with backend.precision(precision):
                    _train(train.preset(name), batch)
    return _distinct(found)


def families() -> list[Need]:
    """Every function, reduction, softmax and look-up of rows that there is a kernel for, in each of its forms."""
    with _noted() as found:
        _call_each()
    return _distinct(found)


@contextlib.contextmanager
def _noted() -> Iterator[list[Need]]:
    """Note what the launches need that would be made if the CPU's arrays were the GPU's."""
    before = backend.get_kernels()
    backend.set_kernels("emulated")
    try:
        with runtime.noted(_need) as found, np.errstate(all="ignore"):
            yield found
    finally:
        backend.set_kernels(before)


def _need(launch: runtime.Launch) -> Need:
    return Need(launch.kernel.build, launch.kernel.name, launch.threads, launch.shared)


def _distinct(needed: Iterable[Need]) -> list[Need]:
    return sorted(set(needed), key=lambda need: (need.build.file, need.name, need))


def _call_each() -> None:
    """Functions on arrays that lie side by side and on one that does not; the rest on short rows and on long ones."""
    x, condition, index = np.zeros((40, 2000), np.float32), np.zeros((40, 2000), bool), np.zeros(40, np.int64)
    for name in map.FORMULAS:
        for a in (x, x[:, ::2]):
            map.apply(name, *([condition[:, : a.shape[1]], a, a] if name == "where" else [a, 1.0]))
    for name in reduce.REDUCTIONS:
        for axis in (0, 1, None):
            reduce.reduce(name, x, axis)
            reduce.reduce(name, x[:20, :50], axis)
    for axis in (0, 1):
        for forward in (cuda.softmax, cuda.log_softmax):
            forward(x, axis)
        for backward in (cuda.softmax_backward, cuda.log_softmax_backward):
            backward(x, x, axis)
    for table in (x, x.astype(backend.bfloat16())):
        cuda.rows(table, index)
    cuda.add_rows(x, index, 10)


def _train(config: Any, batch: int) -> None:
    """One step of a preset on numbers that do not matter, and one look at its samples."""
    model = models.build({"image_size": config.image_size, **config.model})
    schedule = diffusion.make_schedule(**config.schedule)
    images, labels = np.zeros((batch, model.config["in_channels"], 28, 28), np.uint8), np.zeros(batch, np.int64)
    step = GraphStep(model, schedule, optim.AdamW(model.parameters()), optim.EMA(model), images, labels, batch,
                     config.image_size, seed=0, drop=config.drop, clip=config.clip)  # fmt: skip
    step.run(0, np.arange(batch), 0)
    diffusion.sample(model, schedule, np.zeros(2, int), "ddim", steps=1, guidance=1.0)


# ---------------------------------------------------------------------------------------- compiling


def compiled(needed: list[Need], architectures: list[str], processes: int = 2) -> Iterator[Row]:
    """The needs compiled for each architecture, in order, by several processes."""
    work = [(need.build, architecture) for architecture in architectures for need in needed]
    distinct = list(dict.fromkeys(work))
    with ProcessPoolExecutor(processes) as pool:
        results = dict(zip(distinct, pool.map(_resources, distinct, chunksize=4), strict=True))
    for architecture in architectures:
        for need in needed:
            yield _row(need, architecture, results[need.build, architecture][need.name])


def _resources(work: tuple[compile.Build, str]) -> dict[str, compile.Resources]:
    return compile.for_gpu(*work).resources


def _row(need: Need, architecture: str, taken: compile.Resources) -> Row:
    limits = LIMITS[architecture]
    shared, most = need.shared + taken.shared, (limits.shared - 1) * 1024
    per_warp = -(-taken.registers * 32 // 256) * 256             # registers are given out by 256 to a warp
    fits = [limits.threads // need.threads, REGISTERS // max(1, per_warp * (need.threads // 32)), limits.shared * 1024 // (shared + 1024),
            limits.blocks]  # fmt: skip
    troubles = [
        f"{taken.spilled} bytes spilled" if taken.spilled else "",
        f"{taken.stack} bytes of stack" if taken.stack else "",
        f"{shared:,} bytes of shared memory, a block has at most {most:,}" if shared > most else "",
        f"{taken.registers} registers for {need.threads} threads are more than there are" if not fits[1] else "",
    ]
    return Row(need, architecture, taken, min(fits), "; ".join(filter(None, troubles)))


# ---------------------------------------------------------------------------------------- the command


def main_kernels(args: argparse.Namespace) -> int:
    """`minidiff kernels [--arch sm_90 …] [--preset NAME …] [--precision P …] [--json FILE]`"""
    for architecture in args.arch:
        if architecture not in LIMITS:
            older = re.fullmatch(r"(sm_)?[1-7]\d", architecture)
            problem = "is older than what the kernels need, Ampere or newer" if older else "is unknown"
            raise BadInput(f"kernels: architecture {architecture!r} {problem}; it is one of: {', '.join(LIMITS)}")
    for architecture in args.arch:                               # refuses here what NVRTC lacks, or that it is missing, before any work
        compile.check_known(architecture)
    presets = args.preset or list(train.PRESETS)
    needed = needs(presets, args.precision or backend.PRECISIONS)
    if not args.preset:
        needed = sorted({*needed, *families()}, key=lambda need: (need.build.file, need.name, need))
    rows = list(compiled(needed, args.arch))
    print(render(rows))
    if args.json:
        with atomic_path(Path(args.json)) as temporary:
            temporary.write_text(json.dumps([_plain(row) for row in rows], indent=1) + "\n")
    return 1 if any(row.trouble for row in rows) else 0


def render(rows: list[Row]) -> str:
    """The table, and under it what is wrong or how near the limits the worst is."""
    lines = [f"{'kernel':<22}{'for':<62}{'registers':>10}{'shared':>9}{'threads':>9}{'blocks':>8}  architecture"]
    for need, architecture, taken, blocks, trouble in rows:
        shared = (need.shared + taken.shared) / 1024
        lines.append(f"{need.name:<22}{short_name(need.build):<62}{taken.registers:>10}{shared:>6.1f} KB{need.threads:>9}{blocks:>8}"
                     f"  {architecture}{'  ' + trouble if trouble else ''}")  # fmt: skip
    bad = [row for row in rows if row.trouble]
    kernels = len({(row.need.build, row.need.name) for row in rows})
    most = max(rows, key=lambda row: row.resources.registers)
    lines.append("")
    lines.append(f"{kernels} kernels; spilled to memory: {sum(row.resources.spilled for row in rows)} bytes;"
                 f" most registers: {most.resources.registers} ({most.need.name})")  # fmt: skip
    lines += [f"{row.need.name} of {row.need.build} on {row.architecture}: {row.trouble}" for row in bad]
    return "\n".join(lines)


def short_name(build: compile.Build) -> str:
    """The definitions that tell kernels of one file apart, for people."""
    d = dict(build.defines)
    if "KH" in d:
        words = [d["MATH"].lower(), f"{d['C']}→{d['O']}", f"{d['KH']}x{d['KW']}"]
        words += [f"stride {d['SH']}"] if d["SH"] != "1" else []
        words += ["transposed"] if d.get("TRANSPOSED") == "1" else []
        return " ".join([*words, f"tile {d['BM']}x{d['BN']}x{d['BK']}"])
    if "A_ORDER" in d:
        turned = [f"{x} turned" for x, along in (("a", "ALONG_K"), ("b", "ACROSS_K")) if d[f"{x.upper()}_ORDER"] != along]
        return " ".join([d["MATH"].lower(), *turned, f"tile {d['BM']}x{d['BN']}x{d['BK']}"])
    return " ".join(value.lower() if name in ("MATH", "ACT") else f"{name}={value}" for name, value in build.defines)


def _plain(row: Row) -> dict[str, Any]:
    return {
        "file": row.need.build.file, "kernel": row.need.name, "definitions": dict(row.need.build.defines),
        "threads": row.need.threads, "shared": row.need.shared, "architecture": row.architecture,
        **row.resources._asdict(), "blocks_per_multiprocessor": row.blocks, "trouble": row.trouble,
    }  # fmt: skip
