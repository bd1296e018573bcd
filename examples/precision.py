"""What fewer bits do to training: the same run in float32, TF32 and bfloat16, for several seeds.

    python examples/precision.py                             # on the CPU, the GPU's roundings imitated
    python examples/precision.py --device cuda               # on the GPU's tensor cores
    python examples/precision.py --steps 300 --seeds 2       # quicker

Runs of one seed begin with the same weights and see the same pictures, steps and noise, so that only the roundings differ.
Between two seeds everything differs: that spread is the noise that a difference between precisions must be held against.
The record is chapters/results/precision.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import minidiff as md
from minidiff import train
from minidiff.errors import BadInput
from minidiff.train import records

PRECISIONS = ("fp32", "tf32", "bf16")
HELD_OUT = 2048                               # images of the loss that is compared


def held_out_loss(config: train.Config) -> tuple[float, float]:
    """Train, and the loss on held-out images with averaged weights at the end; and the seconds that training took."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = train.Trainer(config, folder).run()
        return records.read_metrics(folder)[-1]["validation"], outcome.seconds


def compare(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For each precision: the mean loss, its spread over seeds, and how far it is from float32's of the same seed."""
    losses = {p: np.array([row["held_out_loss"] for row in rows if row["precision"] == p]) for p in PRECISIONS}
    found = {}
    for precision, loss in losses.items():
        apart = loss - losses["fp32"]
        error = apart.std(ddof=1) / np.sqrt(len(apart))
        found[precision] = {"mean": loss.mean(), "spread_over_seeds": loss.std(ddof=1), "minus_fp32": apart.mean(), "standard_error": error}
    return {precision: {name: float(value) for name, value in row.items()} for precision, row in found.items()}


def table(found: dict[str, dict[str, float]]) -> str:
    lines = [f"{'precision':<12}{'held-out loss':>15}{'over seeds':>14}{'minus fp32':>22}"]
    for precision, row in found.items():
        apart = "" if precision == "fp32" else f"{row['minus_fp32']:+.5f} ± {row['standard_error']:.5f}"
        lines.append(f"{precision:<12}{row['mean']:>15.5f}{'± ' + format(row['spread_over_seeds'], '.5f'):>14}{apart:>22}".rstrip())
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny", help="recipe (default: %(default)s)")
    parser.add_argument("--data", help="data set (default: the recipe's)")
    parser.add_argument("--steps", type=int, default=1200, help="optimiser steps of each run (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="seeds 0 … N − 1 (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    try:
        print(run(args))
    except BadInput as error:
        print(f"precision: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def run(args: argparse.Namespace) -> str:
    """All runs, the record where asked for, and the table."""
    if args.seeds < 2:
        raise BadInput(f"--seeds must be 2 or more, so that there is a spread; got {args.seeds}")
    if args.json and not Path(args.json).resolve().parent.is_dir():
        raise BadInput(f"--json {args.json}: there is no folder {Path(args.json).parent}")
    if args.device == "cpu":
        md.set_kernels("rounded")
    base = train.preset(args.preset)
    base = base.replace(steps=args.steps, device=args.device, data=args.data or base.data, sheet_every=0, validate=HELD_OUT)
    rows = []
    for seed in range(args.seeds):
        for precision in PRECISIONS:
            loss, seconds = held_out_loss(base.replace(precision=precision, seed=seed))
            rows.append({"precision": precision, "seed": seed, "held_out_loss": loss, "seconds": round(seconds, 1)})
            print(f"seed {seed}, {precision}: held-out loss {loss:.5f}, {seconds:.0f} s", flush=True)
    found = compare(rows)
    if args.json:
        records.write_json(args.json, {
            "command": records.command_line(), "commit": records.commit(), "time": records.now(),
            "machine": records.machine(args.device, md.get_num_threads()), "versions": records.versions(),
            "kernels": md.get_kernels() if args.device == "cpu" else "cuda", "config": base.to_json(), "runs": rows, "precisions": found,
        })  # fmt: skip
    return table(found)


if __name__ == "__main__":
    main()
