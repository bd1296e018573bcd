"""Best of N: draw several candidates for each digit, keep what a judge or CLIP likes best, and ask the other one for the gain.

    python examples/best_of_n.py                                                       the judge chooses, and nobody checks
    python examples/best_of_n.py --clip ViT-B-32 --clip-weights FILE                   each chooses, and the other checks
    python examples/best_of_n.py --clip mini-mnist.json --clip-weights mini-mnist.pt --n 8 --keep 2 --json best-of-n.json

Who has chosen sees its own taste: the column to read is the other's. Choosing costs N times as many questions to the network,
and variety. The record, chapters/results/best-of-n.json, is made with a small CLIP that was trained on MNIST and knows digits
alone: it is no public CLIP, and no independent witness, for the judge has seen the same digits. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import minidiff as md
from minidiff import evaluate
from minidiff.errors import BadInput
from minidiff.evaluate import Selection, best_of, clip_score, diversity, judge_score, load_clip, load_judge
from minidiff.train import load_model, records


def seen(kept: Selection, scores: dict[str, Any], judge: Any) -> dict[str, Any]:
    """What each says of what was kept: mean probability of the label; and the variety within a class, in the judge's features."""
    said = {name: float(score(kept.images, kept.labels).mean()) for name, score in scores.items()}
    return {"probability": said, "class_accuracy": float((judge.classify(kept.images) == kept.labels).mean()),
            "diversity": float(np.mean(list(diversity(judge.features(kept.images), kept.labels).values())))}  # fmt: skip


def compare(args: argparse.Namespace, scores: dict[str, Any], judge: Any) -> list[dict[str, Any]]:
    """A row for nobody's choice, which is all candidates, and for each chooser's."""
    loaded, labels = load_model(args.model), np.repeat(np.arange(10), args.per_class)
    evaluate.check_judgeable(loaded)
    how = dict(seed=args.seed, sampler=args.sampler, steps=args.steps, guidance=args.guidance, progress=sys.stderr.isatty())
    rows = []
    for chooser in (None, *scores):
        start = time.perf_counter()
        score, keep = (scores["judge"], args.n) if chooser is None else (scores[chooser], args.keep)
        kept = best_of(loaded.model, loaded.schedule, labels, args.n, keep, score=score, **how)
        row = {"chosen_by": chooser or "nobody", "pictures": len(kept.images), **seen(kept, scores, judge)}
        row["evaluations_per_picture"] = kept.evaluations / len(kept.images)
        rows.append({**row, "seconds": round(time.perf_counter() - start, 1)})
    of_all = rows[0]["diversity"]
    return [{**row, "diversity": row["diversity"] / of_all} for row in rows]


def table(rows: list[dict[str, Any]], scores: dict[str, Any]) -> str:
    """The rows as text; what a chooser says of its own choice stands in brackets."""
    lines = [f"{'chosen by':<10}{'pictures':>9}" + "".join(f"{f'p by {name}':>14}" for name in scores) + f"{'judged right':>14}{'diversity':>11}{'questions':>11}"]
    for row in rows:
        said = "".join(f"{f'({p:.3f})' if name == row['chosen_by'] else f'{p:.3f} ':>14}" for name, p in row["probability"].items())
        lines.append(f"{row['chosen_by']:<10}{row['pictures']:>9}{said}{row['class_accuracy']:>14.1%}{row['diversity']:>11.2f}{row['evaluations_per_picture']:>11.0f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="mnist", help="a checkpoint, a run's folder, or the name of a bundled model")
    parser.add_argument("--n", type=int, default=4, help="candidates for each picture (default: %(default)s)")
    parser.add_argument("--keep", type=int, default=1, help="of which so many are kept (default: %(default)s)")
    parser.add_argument("--per-class", type=int, default=20, help="pictures of each class that are asked for (default: %(default)s)")
    parser.add_argument("--sampler", default="ddim")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=0.0, help="w (default: none, which leaves most to choose)")
    parser.add_argument("--clip", metavar="MODEL", help="a model of open_clip by name, or its configuration (.json)")
    parser.add_argument("--clip-weights", metavar="FILE", help="its weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    if args.json and not Path(args.json).resolve().parent.is_dir():
        raise BadInput(f"--json {args.json}: there is no such folder")
    if args.per_class < 2:
        raise BadInput(f"--per-class must be at least 2, for variety is measured between pictures of a class; got {args.per_class}")
    clip = load_clip(args.clip, args.clip_weights) if args.clip else None
    judge = load_judge()
    scores = {"judge": judge_score(judge), **({} if clip is None else {"clip": clip_score(clip)})}
    rows = compare(args, scores, judge)
    print(table(rows, scores))
    print("in brackets: the chooser's own opinion of its choice; questions: to the network, for each picture that is kept")
    print("without --clip nobody checks the judge" if clip is None else f"clip is {clip.name}, {clip.weights}")
    if args.json:
        records.write_json(args.json, {
            "command": records.command_line(), "commit": records.commit(), "time": records.now(), "machine": records.machine("cpu", md.get_num_threads()),
            "versions": records.versions(), "model": args.model, "n": args.n, "keep": args.keep, "per_class": args.per_class, "sampler": args.sampler,
            "steps": args.steps, "guidance": args.guidance, "seed": args.seed, "clip": clip and clip.describe(), "rows": rows,
        })  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        print(f"best_of_n: {error}", file=sys.stderr)
        raise SystemExit(2) from None
