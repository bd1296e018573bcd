"""The same lines on the CPU and on the GPU: draw the same digits on both, compare them, and train for a moment.

    python examples/gpu_quickstart.py
    python examples/gpu_quickstart.py --json devices.json         # and keep the figures

Needs CuPy and a CUDA device for its second half: pip install -e ".[cuda13]" ([cuda12] for an older driver).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import numpy as np

import minidiff as md
from minidiff import train
from minidiff.errors import BadInput
from minidiff.train import records


def draw(device: str, precision: str, steps: int) -> tuple[np.ndarray, float]:
    """Ten digits of the bundled model, and the seconds that they took the second time (the first loads kernels)."""
    loaded = train.load_model("mnist", device)
    for _ in range(2):
        start = time.perf_counter()
        with md.precision(precision):
            pictures = md.diffusion.sample(loaded.model, loaded.schedule, np.arange(10), steps=steps, guidance=1.0, seed=0)
    return pictures, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="reverse steps of a sample (default: %(default)s)")
    parser.add_argument("--train-steps", type=int, default=200, help="training steps on the GPU (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()

    on_cpu, seconds = draw("cpu", "fp32", args.steps)
    print(f"ten digits on the CPU:       {seconds:.2f} s")
    try:
        md.backend.resolve_device("cuda")
    except BadInput as reason:
        print(f"no GPU here: {reason}")
        return

    figures: dict[str, Any] = {"cpu_seconds": seconds}
    # The noise is a function of seed, sample and step alone, so both devices are asked for the same pictures.
    for precision in ("fp32", "tf32", "bf16"):
        on_gpu, seconds = draw("cuda", precision, args.steps)
        apart = np.abs(on_gpu - on_cpu)
        figures[precision] = {"seconds": seconds, "largest_difference": float(apart.max()), "mean_difference": float(apart.mean())}
        print(f"ten digits on the GPU, {precision}: {seconds:.2f} s; a pixel differs by at most {apart.max():.1e},"
              f" on average by {apart.mean():.1e}")  # fmt: skip

    config = train.preset("tiny").replace(data="glyphs", device="cuda", precision="bf16", steps=args.train_steps, sheet_every=0)
    with tempfile.TemporaryDirectory() as folder:
        outcome = train.Trainer(config, folder).run()
    print(f"{outcome.step} steps of {config.batch} in {outcome.seconds:.1f} s, loss {outcome.loss:.3f}")
    if args.json:
        records.write_json(args.json, {
            "command": records.command_line(), "commit": records.commit(), "time": records.now(), "versions": records.versions(),
            "machine": records.machine("cuda", md.get_num_threads()), "steps": args.steps, "samples": figures,
            "training": {"config": config.to_json(), "seconds": outcome.seconds, "loss": outcome.loss},
        })  # fmt: skip


if __name__ == "__main__":
    main()
