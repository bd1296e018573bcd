"""Ask for a slant and a weight, and measure what comes: how well a style is followed, by digit, as a sheet, a table and a record.

    python examples/styles.py mnist-styles                                      the tables, and styles-sheet.png in this folder
    python examples/styles.py mnist-styles --n 500 --steps 15 --json chapters/results
    minidiff train --preset mnist --style slant weight --out runs/styles        a model of one's own
    python examples/styles.py runs/styles

For each sample a slant and a weight are asked for, each by itself, evenly from the middle nine tenths of the training set. What
was drawn is measured by the same functions as the training set, minidiff/data/style.py. Beside it: the same noise with no style
asked for, which says what style costs in class accuracy, and with one by chance, as the digit has it in the training set, which
says whether that brings its variety back; the asked values shuffled, which says what chance makes of such a table; and values
further and further out, which nobody has seen. Some ten minutes on two cores with the preset `mnist`.
The record is chapters/results/styles.json.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import minidiff as md
from minidiff import data, diffusion, evaluate, train, viz
from minidiff.errors import BadInput
from minidiff.train import records

UNITS = {"slant": "°", "weight": " px"}
WORDS = {"slant": ("left", "upright", "right"), "weight": ("thin", "normal", "bold")}
RANGE = (5.0, 95.0)  # percentiles of the training set between which values are asked for
BEYOND = (-3, -2, -1, 0, 1, 2, 3, 4)  # deviations of the training set from its mean: hardly anybody has seen the outermost


def load(name: str) -> tuple[train.Loaded, data.Dataset]:
    """A model that has learned a style which can be measured, and the digits that it was trained on. Raises BadInput."""
    loaded = train.load_model(name)
    if loaded.style is None:
        raise BadInput(f"{name} was told no style; train one with: minidiff train --style slant weight")
    if unmeasured := [style for style in loaded.style.names if style not in data.MEASURES]:
        raise BadInput(f"{name} was told the style {unmeasured[0]!r}, which cannot be measured; what can is {', '.join(data.MEASURES)}")
    evaluate.check_judgeable(loaded)
    if loaded.config is None:
        raise BadInput(f"{name} does not say which data it was trained on")
    return loaded, data.load(loaded.config.data, limit=loaded.config.limit, size=loaded.config.image_size)


class Asking:
    """One model, one noise, and whatever style is asked for.

    told       what the network was told of each training picture            # (pictures,S)
    low, high  the range that is asked for                                   # (S,) each
    middle     of the range; of slant 0, upright, where that lies within
    """

    def __init__(self, loaded: train.Loaded, real: data.Dataset, sampler: str, steps: int, seed: int) -> None:
        self.loaded, self.names, self.judge = loaded, loaded.style.names, evaluate.load_judge()
        self.told = data.style_values(real, self.names)
        self.low, self.high = np.percentile(self.told, RANGE, axis=0)
        self.middle = np.median(self.told, axis=0)
        if "slant" in self.names and self.low[k := self.names.index("slant")] < 0 < self.high[k]:
            self.middle[k] = 0.0
        self.how = {"sampler": sampler, "steps": steps, "seed": seed, "batch_size": 100, "progress": sys.stderr.isatty()}

    def drawn(self, labels: np.ndarray, asked: np.ndarray | None, w: float) -> np.ndarray:
        """Pictures; `asked` are values as they are measured, not a number for one that is left open.            # (N,), (N,S) -> (N,1,H,W)"""
        return self.told_so(labels, None if asked is None else self.loaded.style.told(asked), w)

    def told_so(self, labels: np.ndarray, style: np.ndarray | None, w: float) -> np.ndarray:
        """Pictures; `style` as the network is told it.            # (N,), (N,S) -> (N,1,H,W)"""
        return diffusion.sample(self.loaded.model, self.loaded.schedule, labels, guidance=w, style=style, **self.how)

    def measured(self, pictures: np.ndarray) -> np.ndarray:
        """The values of what was drawn.            # (N,1,H,W) -> (N,S)"""
        return np.stack([data.MEASURES[name](pictures) for name in self.names], axis=1)

    def verdict(self, pictures: np.ndarray, labels: np.ndarray) -> evaluate.Verdict:
        """How many of them the judge takes for what was asked for."""
        return evaluate.judge_samples(pictures, labels, self.judge)

    def ranges(self) -> dict[str, Any]:
        """Of each value: what was asked for, and how the training set has it."""
        columns = zip(self.names, self.low, self.middle, self.high, self.told.mean(0), self.told.std(0), strict=True)
        return {name: dict(zip(("low", "middle", "high", "mean", "deviation"), map(float, rest), strict=True)) for name, *rest in columns}


def followed(asked: np.ndarray, drawn: np.ndarray) -> dict[str, float | None]:
    """How one value follows another: correlation, slope of the least squares line, mean absolute error.            # (N,), (N,)"""
    a, d = asked - asked.mean(), drawn - drawn.mean()
    return {"correlation": float(a @ d / np.sqrt((a @ a) * (d @ d))) if (d @ d) > 1e-12 else None,
            "slope": float(a @ d / (a @ a)), "mean_absolute_error": float(abs(drawn - asked).mean())}  # fmt: skip


def at_guidance(asking: Asking, labels: np.ndarray, asked: np.ndarray, w: float, rng: np.random.Generator) -> dict[str, Any]:
    """A row of the record: the same labels and noise with style and without."""
    pictures, plain = asking.drawn(labels, asked, w), asking.drawn(labels, None, w)
    drawn, scale = asking.measured(pictures), asking.loaded.style
    by_chance = {"by_chance": asking.told_so(labels, scale.drawn(labels, asking.how["seed"]), w)} if scale.quantiles else {}
    shuffled = asked[rng.permutation(len(asked))]
    found, names = asking.verdict(pictures, labels), list(enumerate(asking.names))
    return {
        "guidance": w, **summary(found),
        "follows": {name: followed(asked[:, k], drawn[:, k]) for k, name in names},
        "shuffled": {name: followed(shuffled[:, k], drawn[:, k]) for k, name in names},
        "across": {f"{a} asked, {b} drawn": followed(asked[:, j], drawn[:, k])["correlation"] for j, a in names for k, b in names if j != k},
        **{how: {**summary(asking.verdict(p, labels)), **spread(asking, p)} for how, p in {"untold": plain, **by_chance}.items()},
        "by_class": [{"class": c, "n": n, "class_accuracy": right / n,
                      **{name: followed(asked[labels == c, k], drawn[labels == c, k]) for k, name in names}} for c, (right, n) in found.by_class.items()],
    }  # fmt: skip


def summary(found: evaluate.Verdict) -> dict[str, Any]:
    return {"class_accuracy": found.accuracy, "interval_95": list(found.interval)}


def spread(asking: Asking, pictures: np.ndarray) -> dict[str, Any]:
    """Mean and deviation of each value, as it was drawn."""
    values = asking.measured(pictures)
    return {name: {"mean": float(values[:, k].mean()), "deviation": float(values[:, k].std())} for k, name in enumerate(asking.names)}


def beyond(asking: Asking, n: int, w: float) -> dict[str, list[dict[str, Any]]]:
    """Of each value: what is drawn when it is asked for further and further out, and the others are left open."""
    found: dict[str, list[dict[str, Any]]] = {}
    labels = np.arange(n) % 10
    for k, name in enumerate(asking.names):
        rows = found[name] = []
        for deviations in BEYOND:
            asked = np.full((n, len(asking.names)), np.nan)
            asked[:, k] = asking.told[:, k].mean() + deviations * asking.told[:, k].std()
            pictures = asking.drawn(labels, asked, w)
            drawn = asking.measured(pictures)[:, k]
            rows.append({"deviations": deviations, "asked": float(asked[0, k]), "drawn": float(drawn.mean()), "deviation_drawn": float(drawn.std()),
                         "class_accuracy": asking.verdict(pictures, labels).accuracy})  # fmt: skip
    return found


def sheet(asking: Asking, w: float, title: str) -> Any:
    """Each digit in each style, all styles of a digit from the same noise: only what is asked for differs."""
    values = np.stack([asking.low, asking.middle, asking.high])                      # (3,S)
    *groups, inner = sorted(range(len(asking.names)), key=lambda k: asking.names[k], reverse=True)       # slants within weights
    rows, names = [], []
    for choice in itertools.product(range(3), repeat=len(asking.names)):             # the last one changes fastest
        asked = np.empty(len(asking.names))
        asked[[*groups, inner]] = values[choice, [*groups, inner]]
        rows.append(asking.drawn(np.arange(10), np.tile(asked, (10, 1)), w))
        names.append(spoken(asking.names[inner], choice[-1], asked[inner]))
    outer = [spoken(asking.names[k], i, values[i, k]) for k in groups for i in range(3)]
    return viz.named_rows(np.stack(rows), names, outer, title, header=("digit", "0123456789"))


def spoken(name: str, which: int, value: float) -> str:
    """ "bold, 3.6 px" """
    return f"{WORDS[name][which]}, {value:.{0 if name == 'slant' else 1}f}{UNITS[name]}".replace("-", "−")


def tables(rows: list[dict[str, Any]], further: dict[str, list[dict[str, Any]]], ranges: dict[str, Any]) -> str:
    """The record as text; the table by digit, of the last row."""
    lines = [f"{'guidance':<10}{'value':<8}{'correlation':>11}{'slope':>7}{'error':>9}   {'shuffled':<17}{'judged right':>13}{'told no style':>15}"]
    for row in rows:
        for name, f in row["follows"].items():
            lines.append(f"{row['guidance']:<10g}{name:<8}{number(f['correlation']):>11}{f['slope']:>7.2f}{missed(name, f):>9}   {both(name, row['shuffled'][name]):<17}"
                         f"{row['class_accuracy']:>13.1%}{row['untold']['class_accuracy']:>15.1%}")  # fmt: skip
        lines += [f"{'':<10}{what}: {number(value)}" for what, value in row["across"].items()]
    lines += ["", f"{'guidance':<10}{'value':<8}{'deviation in training':>22}{'told no style':>15}{'told one by chance':>20}"]
    for row in rows:
        for name in row["follows"]:
            told = f"{row['by_chance'][name]['deviation']:.2f}" if "by_chance" in row else "-"
            lines.append(f"{row['guidance']:<10g}{name:<8}{ranges[name]['deviation']:>22.2f}{row['untold'][name]['deviation']:>15.2f}{told:>20}")
    lines += ["", f"{'digit':<10}" + "".join(f"{name + ' follows':<20}" for name in row["follows"]) + f"judged right, at guidance {row['guidance']:g}"]
    for part in row["by_class"]:
        lines.append(f"{part['class']:<10}" + "".join(f"{both(name, part[name]):<20}" for name in row["follows"])
                     + f"{part['class_accuracy']:.1%}")  # fmt: skip
    for name, parts in further.items():
        lines += ["", f"{name:<10}" + f"{'asked for, alone':<20}{'drawn':<20}judged right"]
        lines += [f"{'':<10}{p['asked']:<20.1f}{p['drawn']:<20.1f}{p['class_accuracy']:.0%}" for p in parts]
    return "\n".join(lines)


def both(name: str, found: dict[str, Any]) -> str:
    return f"{number(found['correlation'])}, {missed(name, found)}"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def missed(name: str, found: dict[str, Any]) -> str:
    return f"{found['mean_absolute_error']:.{1 if name == 'slant' else 2}f}{UNITS[name]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="RUN", help="a run's folder or a checkpoint, of a model that was told a style")
    parser.add_argument("--n", type=int, default=1000, help="samples of each row, the digits in turn (default: %(default)s)")
    parser.add_argument("--sampler", default="ddim", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=25, help="default: %(default)s")
    parser.add_argument("--guidance", type=float, nargs="+", default=[0.0, 1.0], help="w of each row; the sheet and the far values take the last (default: 0 1)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="DIR", help="write styles.json and the sheet into this folder (default: the sheet alone, here)")
    args = parser.parse_args()
    try:
        if args.n < 40:
            raise BadInput(f"--n must be at least 40, for a correlation is taken over the samples of each digit; got {args.n}")
        if args.json is not None and not args.json.is_dir():
            raise BadInput(f"--json {args.json}: there is no such folder")
        start, (loaded, real) = time.perf_counter(), load(args.model)
        asking, rng, labels = Asking(loaded, real, args.sampler, args.steps, args.seed), np.random.default_rng(args.seed), np.arange(args.n) % 10
        asked = rng.uniform(asking.low, asking.high, (args.n, len(asking.names)))
        rows = [at_guidance(asking, labels, asked, w, rng) for w in args.guidance]
        further = beyond(asking, max(10, args.n // 20), args.guidance[-1])
        figure = sheet(asking, args.guidance[-1], "The same noise, told nine styles" if len(asking.names) == 2 else "The same noise, told three styles")
        measured = asking.measured(real.images[:5000])
        known = {name: followed(asking.told[:5000, k].astype(float), measured[:, k]) for k, name in enumerate(asking.names)}
    except BadInput as error:
        print(f"styles: {error}", file=sys.stderr)
        return 2
    seconds = round(time.perf_counter() - start, 1)
    print(tables(rows, further, asking.ranges()))
    print("\nwhat the training set was told, and what is measured of it: " + ", ".join(f"{name} {both(name, f)}" for name, f in known.items()))
    print(f"wrote {viz.save(figure, (args.json or Path()) / 'styles-sheet.png', dpi=300)}")
    if args.json is not None:
        records.write_json(args.json / "styles.json", {
            "command": records.command_line(), "commit": records.commit(), "time": records.now(), "versions": records.versions(),
            "machine": records.machine("cpu", md.get_num_threads()), "model": args.model, "data": loaded.config.data,
            "steps_of_training": loaded.meta.get("step"), "parameters": loaded.model.num_parameters(), "n": args.n, "sampler": args.sampler,
            "steps": args.steps, "seed": args.seed, "seconds": seconds, "judge_test_accuracy": asking.judge.accuracy, "ranges": asking.ranges(),
            "training_set": known, "rows": rows, "beyond": {"guidance": args.guidance[-1], "n": max(10, args.n // 20), **further},
        })  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
