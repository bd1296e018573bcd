"""How much faster several processes train than one, on this machine; and what their exchange takes.

    python examples/scaling.py                                   # 1 and 2 processes, one thread each; and one with two threads
    python examples/scaling.py --ranks 1 2 4 --threads 2 --json scaling.json

Trains the preset mnist on the same batches each time, by `mpiexec`, and takes the median of the steps. The exchange is timed
from the moment when the last process comes to it, so that waiting for a slower neighbour does not count. Needs mpi4py and an
MPI (`pip install mpi4py mpich`). The record is chapters/results/scaling.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import minidiff as md
from minidiff.errors import BadInput
from minidiff.train import preset, ranks, records
from minidiff.train.distributed import Exchange

WARM_UP = 3


def work(args: argparse.Namespace) -> None:
    """What each process does: steps of training, timed."""
    group = ranks()
    md.set_num_threads(args.threads)
    c, B = preset("mnist"), args.batch
    md.manual_seed(0)
    model = md.models.build(c.model)
    optimizer, schedule = md.optim.AdamW(model.parameters(), lr=1e-3), md.diffusion.make_schedule(**c.schedule)
    exchange, part = Exchange(optimizer.params, group), group.part(B)
    digits = md.data.load("glyphs", "train", limit=B)
    x0, labels = md.data.to_model(digits.images)[part], digits.labels[part]
    steps, exchanges = [], []
    for k in range(WARM_UP + args.steps):
        start = time.perf_counter()
        md.diffusion.loss(model, schedule, x0, labels, md.philox.Rng(0, step=k, first_row=part.start)).backward()
        before = time.perf_counter()
        group.all(None)                                                       # all are here
        together = time.perf_counter()
        if group.size > 1:
            exchange.mean()
        exchanges.append(time.perf_counter() - together)
        md.optim.clip_grad_norm(optimizer.params, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps.append(time.perf_counter() - start - (together - before) * (group.size == 1))
    if group.first:
        print(json.dumps({"ranks": group.size, "threads_each": args.threads, "seconds_a_step": float(np.median(steps[WARM_UP:])),
                          "seconds_of_exchange": float(np.median(exchanges[WARM_UP:])), "bytes": int(exchange.flat.nbytes)}))  # fmt: skip


def measured(n: int, threads: int, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of n processes with so many threads each."""
    launcher = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if launcher is None:
        raise BadInput("there is no mpiexec; pip install mpi4py mpich, or install an MPI")
    command = [launcher, "-n", str(n), sys.executable, __file__, "--work", "--threads", str(threads), "--batch", str(args.batch), "--steps", str(args.steps)]
    with tempfile.TemporaryFile("w+") as complaints:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=complaints, text=True)
        complaints.seek(0)
        if done.returncode:
            raise BadInput(f"{n} processes: {(complaints.read().strip().splitlines() or ['failed'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], metavar="R", help="how many processes (default: 1 2)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of each process (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images of a step, of all processes together (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=15, help="to measure (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured, in turn (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args)
        return 0
    kinds = [(R, args.threads) for R in args.ranks] + [(1, args.threads * R) for R in args.ranks if R > 1]
    try:
        if wrong := [R for R in args.ranks if R < 1 or args.batch % R]:
            raise BadInput(f"{wrong[0]} processes cannot share a batch of {args.batch} evenly")
        if args.json is not None and not args.json.parent.is_dir():
            raise BadInput(f"--json {args.json}: there is no such folder")
        rounds = [[measured(R, threads, args) for R, threads in kinds] for _ in range(args.rounds)]
    except BadInput as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    rows = []
    for k, (R, threads) in enumerate(kinds):
        found = {key: float(np.median([one[k][key] for one in rounds])) for key in ("seconds_a_step", "seconds_of_exchange")}
        speedup = float(np.median([one[0]["seconds_a_step"] / one[k]["seconds_a_step"] for one in rounds]))
        rows.append({"ranks": R, "threads_each": threads, **found, "speedup": speedup, "bytes": rounds[0][k]["bytes"]})
        print(f"{R} process{'es' if R > 1 else '  '} with {threads} thread{'s' if threads > 1 else ' '} each: {found['seconds_a_step']:.3f} s a step,"
              f" {speedup:.2f}x; exchange {1e3 * found['seconds_of_exchange']:.1f} ms")  # fmt: skip
    if args.json is not None:
        records.write_json(args.json, {
            "command": records.command_line(), "commit": records.commit(), "time": records.now(), "versions": records.versions(),
            "machine": records.machine("cpu", args.threads), "batch": args.batch, "rows": rows,
        })  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
