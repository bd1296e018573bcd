"""At which step of the way from noise does a digit become a digit? By digit, as a table, a figure and a record.

    python examples/recognisability.py                          # the bundled model, DDPM with all its steps
    python examples/recognisability.py runs/report --per-class 20 --guidance 0 --json report.json

The judge looks at every step, at x_t with its noise and at x̂0, what the network takes it for. A digit is recognised from the
first look on after which the judge is right and stays right. The report says 60 to 70 % of the steps, half of them for 1 and 7,
5 and 8 last. The record is chapters/results/recognisability.json.
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
from minidiff.evaluate import Recognition
from minidiff.train import records
from minidiff.viz.style import COLOURS, FAINT, MUTED, house_look, new_figure


def written(moment: float | None) -> str:
    return "never" if moment is None else f"{moment:.0%}"


def table(seen: Recognition) -> list[dict[str, Any]]:
    """The rows of the table, printed."""
    rows = seen.table()
    print(f"{'digit':<6}{'x_t: half of them':>18}{'nine in ten':>13}{'x̂0: half of them':>19}{'nine in ten':>13}")
    for row in rows:
        name = "all" if row["class"] is None else str(row["class"])
        print(f"{name:<6}{written(row['xt_0.5']):>18}{written(row['xt_0.9']):>13}{written(row['x0_hat_0.5']):>19}{written(row['x0_hat_0.9']):>13}")
    return rows


@house_look
def figure(seen: Recognition, title: str) -> Any:
    """How many of each digit the judge reads, by the part of the way."""
    fig = new_figure(8.0, 3.6)
    left, right = fig.subplots(1, 2, sharey=True)
    way = np.arange(1, seen.steps + 1) / seen.steps
    for ax, view, name in ((left, "xt", "in $x_t$, with its noise"), (right, "x0_hat", r"in $\hat x_0$, the network's guess")):
        for label in np.unique(seen.labels):
            ax.plot(way, seen.accuracy(view, int(label)), color=FAINT, lw=1)
        for label, colour in zip((1, 7, 5, 8), COLOURS, strict=False):
            if label in seen.labels:
                ax.plot(way, seen.accuracy(view, label), color=colour, lw=1.6, label=str(label))
        ax.axvspan(0.6, 0.7, color=FAINT, alpha=0.5, lw=0)
        ax.set(xlabel="part of the steps", xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.25, 0.5, 0.75, 1))
        ax.set_title(name, size=10.5)
    left.set_ylabel("read rightly")
    left.legend(loc="upper left", title="digit")
    left.text(0.65, 0.03, "the report's\n60 to 70 %", ha="center", size=8.5, color=MUTED)
    fig.suptitle(title, x=0.02, ha="left", size=12.5, weight="bold")
    return fig


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="mnist", help="a checkpoint, a run's folder, or the name of a bundled model")
    parser.add_argument("--per-class", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--sampler", default="ddpm", help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="default: all")
    parser.add_argument("--guidance", type=float, help="default: the model's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("recognisability.png"), help="the figure (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table here too")
    args = parser.parse_args()
    try:
        if args.per_class < 1:
            raise BadInput(f"--per-class must be at least 1, got {args.per_class}")
        if args.steps is not None and args.steps < 1:
            raise BadInput(f"--steps must be at least 1, got {args.steps}")
        viz.files.ending(args.out, (".png", ".pdf", ".svg"))
        for path in filter(None, (args.out, args.json)):
            train.folder.check_writable(path.parent)
        loaded = train.load_model(args.model)
        evaluate.check_judgeable(loaded)
        w = args.guidance if args.guidance is not None else loaded.config.guidance if loaded.config else 0.0
        labels = np.arange(len(loaded.classes)).repeat(args.per_class)
        steps = args.steps or loaded.schedule.T
        seen = Recognition(labels, steps)
        diffusion.sample(loaded.model, loaded.schedule, labels, args.sampler, steps, guidance=w, seed=args.seed, callback=seen,
                         progress=sys.stderr.isatty())  # fmt: skip
    except BadInput as error:
        print(f"recognisability: {error}", file=sys.stderr)
        return 2
    rows = table(seen)
    if args.json is not None:
        records.write_json(args.json, {
            "command": records.command_line(), "commit": records.commit(), "time": records.now(), "versions": records.versions(),
            "machine": records.machine("cpu", md.get_num_threads()), "model": args.model, "schedule": loaded.schedule.config["name"], "sampler": args.sampler, "steps": steps,
            "guidance": w, "per_class": args.per_class, "seed": args.seed, "rows": rows,
        })  # fmt: skip
    viz.save(figure(seen, f"{args.model}: when the judge reads what was asked for"), args.out)
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
