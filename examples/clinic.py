"""The clinic: known failures of diffusion code, reproduced on purpose, each with its symptom, its test and its cure.

    python examples/clinic.py                                     all cases, 1,000 steps each: about 12 minutes on two cores
    python examples/clinic.py --case short-linear wrong-sign      the healthy run and these
    python examples/clinic.py --data glyphs --steps 400 --json clinic.json --figure clinic.png
    python examples/clinic.py --list                              what there is

Every case is a few lines in minidiff/clinic/cases.py that break one part of an otherwise healthy small run. Before it is
trained, the check that finds it is tried on the healthy run and on the broken one. The loss does not compare across
schedules, targets and ranges of the data: that it looks fine is one of the symptoms. The record is
chapters/results/clinic.json, its pictures are chapters/results/clinic-sheet.png.
"""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np

import minidiff as md
from minidiff import viz
from minidiff.clinic import CASES, Clinic, Healthy, Result, table
from minidiff.clinic.measure import known
from minidiff.train import records
from minidiff.viz.style import house_look
from minidiff.viz.table import PictureTable


@lru_cache
def of_healthy(find):
    return find(Healthy())


def examine(name):
    """What the case's check says of the healthy run and of the broken one; None for a case that has no check."""
    find = CASES[name].find
    if find is None:
        return None
    said = {"healthy": of_healthy(find), "broken": find(CASES[name]())}
    return {side: {"passed": finding.healthy, "seen": finding.seen} for side, finding in said.items()}


@house_look
def figure(results: list[Result], title: str):
    """A row for each case, a column for each class, the healthy run above."""
    rows = np.stack([viz.to_uint8(r.images[:10]) for r in results])            # (R,10,32,32)
    labels = [f"{r.case.name}  {r.verdict.accuracy:.0%}" for r in results]
    return PictureTable(rows, row_labels=labels, header=[("", list("0123456789"))], title=title).draw()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", metavar="NAME", help="these cases, beside the healthy run (default: all)")
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps of each training (default: %(default)s)")
    parser.add_argument("--data", choices=("mnist", "glyphs"), help="default: mnist if it is at hand, else glyphs")
    parser.add_argument("--per-class", type=int, default=20, help="pictures of each class (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    parser.add_argument("--figure", metavar="FILE.png", help="draw a row of pictures for each case")
    parser.add_argument("--list", action="store_true", help="list the cases, and run none")
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{name:<16} {case.wrong}" for name, case in CASES.items()))
        return
    run(args)


def run(args: argparse.Namespace) -> None:
    names = list(dict.fromkeys(["healthy", *(args.case or CASES)]))
    for name in names:
        known(name)
    for option, file in (("--json", args.json), ("--figure", args.figure)):
        if file and not Path(file).resolve().parent.is_dir():
            raise md.BadInput(f"{option} {file}: there is no folder {Path(file).parent}")
    clinic = Clinic(args.data or ("mnist" if md.data.find_mnist() else "glyphs"), args.steps, args.per_class, args.seed)
    if not clinic.has_mnist:
        print("MNIST is not at hand (minidiff data fetch mnist gets it): no Fréchet distances")

    results, rows = [], []
    for name in names:
        examined = examine(name)
        result = clinic.run(name)
        results.append(result)
        rows.append({**result.to_json(), "check": examined})
        print(f"{name}: {result.seconds:.0f} s" + (f"; healthy: {examined['healthy']['seen']}; here: {examined['broken']['seen']}" if examined else ""), flush=True)

    print("\n" + table(results))
    last = results[-1].frechet
    if last is not None:
        print(f"\nFréchet distances are of {last.n} pictures to as many of MNIST: real ones have {last.floor:.1f}, pure noise {last.noise:.0f}")
    if args.json:
        records.write_json(args.json, {
            "command": records.command_line(), "commit": records.commit(), "time": records.now(),
            "machine": records.machine("cpu", md.get_num_threads()), "versions": records.versions(),
            "data": clinic.data_name, "steps": args.steps, "seed": args.seed, "network": {**Healthy.network, "channels": list(Healthy.network["channels"])},
            "frechet": None if last is None else {"n": last.n, "floor": last.floor, "noise": last.noise, "reference": last.reference, "features": last.features},
            "cases": {row.pop("name"): row for row in rows},
        })  # fmt: skip
    if args.figure:
        print(f"drawn {viz.save(figure(results, f'The clinic: {args.steps:,} steps on {clinic.data_name}'), args.figure)}")


if __name__ == "__main__":
    try:
        main()
    except md.BadInput as error:
        raise SystemExit(f"clinic: {str(error).removeprefix('clinic: ')}") from None
