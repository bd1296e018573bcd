"""Everything that only a GPU can tell, one after the other, with a record of each.

    python examples/gpu_records.py --out records             # all of it: about half an hour on an H100
    python examples/gpu_records.py --out records --only parity bench-report
    python examples/gpu_records.py --list

Each part is a command that can be run by itself; one that fails is reported, and the others go on. A part that
has its record in the folder already is left out, so that the same line goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from minidiff import backend
from minidiff.errors import BadInput
from minidiff.train import records

ROOT = Path(__file__).resolve().parents[1]
MINIDIFF = ["python", "-m", "minidiff"]
BENCH = [*MINIDIFF, "bench", "--device", "cuda", "--against", "torch"]


def parts(out: Path) -> dict[str, tuple[str, list[str]]]:
    """{name: (what it is for, its command)}; each command writes {out}/{name}.json, or the log beside it is the record."""

    def record(name: str) -> str:
        return str(out / f"{name}.json")

    def ours(path: str) -> str:
        return os.path.relpath(ROOT / path)

    return {
        "tests": ("every operation on CuPy's arrays", ["python", "-m", "pytest", "-q", ours("tests/ops/test_backends.py"), "-k", "cupy"]),
        "parity": ("the same samples on both devices", ["python", ours("examples/gpu_quickstart.py"), "--json", record("parity")]),
        "bench-report": ("a training step of the report's network beside PyTorch",
                         [*BENCH, "--preset", "report", "--batch", "128", "512", "--rounds", "7", "--json", record("bench-report")]),
        "mnist": ("the preset mnist, trained to its end in bfloat16",
                  [*MINIDIFF, "train", "--preset", "mnist", "--device", "cuda", "--precision", "bf16", "--out", str(out / "mnist")]),
        "mnist-evaluate": ("how many of its samples show what was asked for",
                           [*MINIDIFF, "evaluate", str(out / "mnist" / "model.npz"), "--n", "1000", "--device", "cuda",
                            "--json", record("mnist-evaluate")]),
        "precision": ("the loss in float32, TF32 and bfloat16", ["python", ours("examples/precision.py"), "--device", "cuda",
                                                                 "--json", record("precision")]),
        "bench-attention": ("a training step of 37 million parameters beside PyTorch",
                            [*BENCH, "--preset", "attention", "--batch", "128", "512", "--rounds", "5", "--steps", "10",
                             "--json", record("bench-attention")]),
    }  # fmt: skip


def finished(name: str, out: Path) -> bool:
    """Whether a part has left its record."""
    return (out / f"{name}.done").is_file()


def make(name: str, command: list[str], out: Path) -> bool:
    """Run one part, its output on the terminal and in a log; whether it succeeded."""
    print(f"\n== {name}: {shlex.join(command)}", flush=True)
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "PYTHONUNBUFFERED": "1"}
    with (out / f"{name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen([sys.executable, *command[1:]], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in process.stdout:                              # type: ignore[union-attr]
            print(line, end="", flush=True)
            log.write(line)
        code = process.wait()
    seconds = time.perf_counter() - start
    print(f"== {name}: {'done' if code == 0 else f'failed with status {code}'} after {seconds:.0f} s", flush=True)
    if code == 0:
        records.write_json(out / f"{name}.done", {"seconds": round(seconds, 1), "time": records.now(), "commit": records.commit()})
    return code == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="gpu-records", metavar="DIR", help="folder for records and logs (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts alone")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    args = parser.parse_args()
    out = Path(args.out)
    everything = parts(out)
    try:
        if unknown := sorted(set(args.only or ()) - set(everything)):
            raise BadInput(f"there is no part {unknown[0]!r}; there are {', '.join(everything)}")
        if args.list:
            for name, (what, command) in everything.items():
                print(f"{name:<16} {what}\n{'':<16} {shlex.join(command)}")
            return 0
        backend.resolve_device("cuda")
    except BadInput as error:
        print(f"gpu_records: {error}", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in args.only or everything:
        if args.only or not finished(name, out):
            failed += [] if make(name, everything[name][1], out) else [name]
    print(f"\nrecords and logs: {out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
