"""What a model draws after each epoch: every checkpoint of a run judged, in a table, a picture and a record.

    minidiff train --data mnist --preset report --out runs/report --set keep=0 checkpoint_every=937 sheet_every=0
    python examples/epochs.py runs/report --json chapters/results

`keep=0` keeps every checkpoint; MNIST has 937 batches of 64 an epoch. Each checkpoint draws the same labels from the same
noise, so that a column of the picture is one digit coming to be; the loss is the mean since the checkpoint before. The record
is NAME-epochs.json, NAME being the run's, and the picture lies beside it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

import minidiff as md
from minidiff import diffusion, evaluate, train, viz
from minidiff.errors import BadInput
from minidiff.train import records
from minidiff.viz.images import join_tiles
from minidiff.viz.style import MUTED, house_look, new_figure


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a run by step, first to last. Raises BadInput where there are none."""
    found = [(int(path.stem.split("_")[1]), path) for path in train.checkpoint.all_of_run(run)]
    found = [(step, path) for step, path in found if step > 0]
    if not found:
        raise BadInput(f"{run} is no run with checkpoints; minidiff train --out {run} --set keep=0 makes one that keeps them all")
    return found


def judged(path: Path, args: argparse.Namespace) -> tuple[np.ndarray, dict[str, Any]]:
    """Samples of one checkpoint, and what judge and Fréchet distance say of them."""
    loaded = train.load_model(path)
    evaluate.check_judgeable(loaded)
    labels = np.arange(args.n) % 10
    w = args.guidance if args.guidance is not None else loaded.config.guidance if loaded.config else 0.0
    images = diffusion.sample(loaded.model, loaded.schedule, labels, args.sampler, args.steps, guidance=w, seed=args.seed, batch_size=100,
                              progress=sys.stderr.isatty())  # fmt: skip
    reference = "glyphs" if loaded.config and loaded.config.data == "glyphs" else "mnist"
    verdict, cloud = evaluate.judge_samples(images, labels), evaluate.sample_frechet(images, reference, labels=labels)
    return images, {"class_accuracy": verdict.accuracy, "interval_95": list(verdict.interval), "frechet": cloud.distance,
                    "frechet_floor": cloud.floor, "frechet_noise": cloud.noise, "guidance": w, "sampler": args.sampler,
                    "sampling_steps": args.steps or loaded.schedule.T}  # fmt: skip


@house_look
def sheet(rows: list[dict[str, Any]], pictures: list[np.ndarray]) -> Any:
    """A row for each checkpoint, the same ten digits in each."""
    width, head, row_height = 6.9, 0.45, 0.4
    height = head + row_height * len(rows)
    fig = new_figure(width, height, layout=None)
    ax = fig.add_axes((0.13, 0.0, 10 * row_height / width, 1 - head / height))
    tiles = join_tiles(np.stack([viz.to_uint8(images) for images in pictures]), 2)
    ax.imshow(tiles, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    for y, row in enumerate(rows):
        middle = 1 - (y + 0.5) / len(rows)
        ax.text(-0.02, middle, f"{row['epoch']:.3g}", transform=ax.transAxes, ha="right", va="center", size=9)
        for x, text in ((1.13, f"{row['loss']:.3f}"), (1.26, f"{row['class_accuracy']:.0%}"), (1.42, f"{row['frechet']:.1f}")):
            ax.text(x, middle, text, transform=ax.transAxes, ha="right", va="center", size=9)
    for x, name in ((-0.02, "epoch"), (1.13, "loss"), (1.26, "judged\nright"), (1.42, "Fréchet")):
        ax.text(x, 1.01, name, transform=ax.transAxes, ha="right", va="bottom", size=8.5, color=MUTED)
    return fig


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--n", type=int, default=200, help="samples of each checkpoint (default: %(default)s)")
    parser.add_argument("--sampler", default="ddpm", help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="reverse steps (default: all)")
    parser.add_argument("--guidance", type=float, help="default: the recipe's")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--name", help="of record and picture (default: the run's)")
    parser.add_argument("--json", type=Path, default=Path("."), metavar="DIR", help="folder for record and picture (default: here)")
    args = parser.parse_args()
    try:
        if args.n < 10:
            raise BadInput(f"--n must be at least 10, one of each digit; got {args.n}")
        if not args.json.is_dir():
            raise BadInput(f"--json {args.json}: there is no such folder")
        found = checkpoints(args.run)
        record, logged = records.read_json(args.run / "record.json"), records.read_metrics(args.run)
        rows, pictures, before = [], [], 0
        for step, path in found:
            images, says = judged(path, args)
            since = [row for row in logged if before < row["step"] <= step]
            rows.append({"epoch": round(since[-1]["epoch"], 3), "step": step, "loss": float(np.mean([row["loss"] for row in since])), **says})
            pictures.append(images[:10])
            before = step
            print(f"epoch {rows[-1]['epoch']:5.2f}  loss {rows[-1]['loss']:.4f}  class accuracy {says['class_accuracy']:6.1%}"
                  f"  Fréchet {says['frechet']:6.1f} (floor {says['frechet_floor']:.1f}, noise {says['frechet_noise']:.0f})", flush=True)
    except BadInput as error:
        print(f"epochs: {error}", file=sys.stderr)
        return 2
    name = args.name or args.run.name
    records.write_json(args.json / f"{name}-epochs.json", {
        "command": records.command_line(), "commit": records.commit(), "time": records.now(), "versions": records.versions(),
        "machine": records.machine("cpu", md.get_num_threads()), "parameters": record["parameters"],
        "training": record.get("launches", [record])[0]["command"],
        "n": args.n, "seed": args.seed, "validation_losses": record.get("validation_losses", []), "rows": rows,
    })  # fmt: skip
    viz.save(sheet(rows, pictures), args.json / f"{name}-epochs.png")
    print(f"wrote {name}-epochs.json and {name}-epochs.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
