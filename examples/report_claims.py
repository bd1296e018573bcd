"""The report's claims beside what was measured: claim, finding, verdict, and the command that made the figures.

    python examples/report_claims.py                             # the table
    python examples/report_claims.py --only loss skips           # these alone
    python examples/report_claims.py --json chapters/results     # and its record, claims.json

minidiff began with a student's report on class-conditioned diffusion of MNIST. Each of its claims is a function below: it
reads the records that bear on it, says what they say, and gives a verdict by a rule that can be read, so that other records
give other verdicts; CLIP's scores alone stay open, whatever a record says, until one is made with the public CLIP. "Not
reproduced" means that this reconstruction does not show it: the report's code is not known, its network is the most natural
one with just its number of parameters, and what it leaves open was chosen here.
"""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minidiff as md
from minidiff import evaluate, train
from minidiff.errors import BadInput
from minidiff.train import records

RESULTS = Path(__file__).resolve().parent.parent / "chapters" / "results"
YES, PART, NO, OPEN = "reproduced", "in part", "not reproduced", "cannot be tested here"
EPOCHS, EPOCH = 15, 60_000                                       # of the report; pictures in one
PUBLIC = ("ViT-B-32", "ViT-B-16", "ViT-L-14")                     # names of open_clip for what OpenAI has published

MADE_BY = {                                                      # what makes a record that is not there yet
    "bench-cpu": "minidiff bench --against torch --json chapters/results/bench-cpu.json",
    "report-train": "minidiff train --data mnist --preset report --out runs/report --set keep=0 checkpoint_every=937",
    "report-epochs": "python examples/epochs.py runs/report --json chapters/results",
    "recognisability": "python examples/recognisability.py --json chapters/results/recognisability.json",
    "recipes": "python examples/recipes.py --part recipes --seeds 2 --json chapters/results",
    "sizes": "python examples/recipes.py --part sizes --json chapters/results",
    "mnist-clip": "minidiff evaluate samples.npz --clip ViT-B-32 --clip-weights openai --json chapters/results/mnist-clip.json",
    "best-of-n": "python examples/best_of_n.py --clip ViT-B-32 --clip-weights openai --json chapters/results/best-of-n.json",
    "styles": "python examples/styles.py mnist-styles --json chapters/results",
}

Finding = tuple[str, str]                                        # what was measured, and the verdict
CLAIMS: dict[str, tuple[str, tuple[str, ...], Callable[..., Finding]]] = {}


def claim(name: str, says: str, *needs: str) -> Callable[[Callable[..., Finding]], Callable[..., Finding]]:
    """Register a claim: what the report says, and the records that its function is given."""

    def register(function: Callable[..., Finding]) -> Callable[..., Finding]:
        CLAIMS[name] = (says, needs, function)
        return function

    return register


# ------------------------------------------------------------------------------------------------ the network

@claim("parameters", "957,513 parameters")
def parameters() -> Finding:
    n = md.models.UNet().num_parameters()
    return f"{n:,}, of the most natural network with the blocks that the report names; it lists no layers", YES if n == 957_513 else NO


@claim("memory", "approximately 11.0 MB of memory", "bench-cpu")
def memory(bench: dict[str, Any]) -> Finding:
    held = 12 * md.models.UNet().num_parameters() / 2**20
    working = bench["peak_memory_mb"]["64"]["numpy"]["working"]
    hits = [abs(mib / 11.0 - 1) < 0.1 for mib in (held, held + 1e6 * working / 2**20)]
    return f"{held:.1f} MiB for weights and Adam's two moments; a training step of batch 64 takes {working:.0f} MB more", YES if all(hits) else PART if any(hits) else NO


# ------------------------------------------------------------------------------------------------ training

@claim("loss", f"the loss falls from 0.15 to 0.03 in {EPOCHS} epochs", "report-train")
def loss(run: dict[str, Any]) -> Finding:
    losses = run["epoch_losses"][:EPOCHS]
    verdict = (YES if losses[-1] <= 0.035 else NO) if len(losses) >= EPOCHS else f"open: {len(losses)} of {EPOCHS} epochs"
    start = run["loss_curve"][0][1]
    return f"{start:.2f} in the first steps, {losses[0]:.3f} in epoch 1, {losses[-1]:.3f} in epoch {len(losses)}", verdict


@claim("epochs", "epochs 1 to 3 draw noise, 4 to 8 shapes, 9 to 15 clear digits", "report-epochs")
def epochs(found: dict[str, Any]) -> Finding:
    rows = found["rows"]
    spans = [[row for row in rows if first <= round(row["epoch"]) <= last] for first, last in ((1, 3), (4, 8), (9, 15))]
    said = "; ".join(f"epoch {round(span[0]['epoch'])} to {round(span[-1]['epoch'])}: Fréchet {mean(span, 'frechet'):.0f}, "
                     f"{mean(span, 'class_accuracy'):.0%} the digit asked for" for span in spans if span)  # fmt: skip
    said += f" (real digits {rows[-1]['frechet_floor']:.1f}, noise {rows[-1]['frechet_noise']:.0f})"
    if round(rows[-1]["epoch"]) < EPOCHS or not all(spans):
        return said, "open"
    clear = [mean(span, "frechet") < 3 * mean(span, "frechet_floor") for span in spans]        # of noise, shapes and digits the last alone
    return said, YES if clear == [False, False, True] else PART if clear[-1] else NO


@claim("classes", "it draws the digit that is asked for", "report-epochs", "recipes")
def classes(found: dict[str, Any], recipes: dict[str, Any]) -> Finding:
    row = found["rows"][-1]
    low, high = row["interval_95"]
    film, before = (of(recipes, name)["class_accuracy"] for name in ("base", "before-mid"))
    said = f"{row['class_accuracy']:.0%} of {found['n']} ({low:.0%} to {high:.0%}) where chance is 10 %"
    return f"{said}; in a small network {before:.0%} with the class at the bottleneck, {film:.0%} with the class in every block", YES if low > 0.5 else NO


# ------------------------------------------------------------------------------------------------ recognisability

@claim("recognisable", "digits can be recognised after 60 to 70 % of the reverse steps", "recognisability")
def recognisable(found: dict[str, Any]) -> Finding:
    half, most, guess = (moment(found, None, view) for view in ("xt_0.5", "xt_0.9", "x0_hat_0.5"))
    hits = [0.6 <= round(value, 2) <= 0.7 for value in (half, most)]
    return f"{drawer(found)}: half of them in x_t {after(half)}, nine in ten {after(most)}; half of them in the guess x̂0 {after(guess)}", \
           YES if all(hits) else PART if any(hits) else NO  # fmt: skip


def drawer(found: dict[str, Any]) -> str:
    """Who drew: the percentage belongs to the schedule as much as to the network."""
    return f"{'the bundled model' if found['model'] in train.bundled() else found['model']} on the {found['schedule']} schedule"


def moment(found: dict[str, Any], label: int | None, view: str = "xt_0.5") -> float:
    """When such a share of a class, or of all, is recognised, as a part of the reverse steps; infinite for never."""
    part = by_class(found)[label][view]
    return math.inf if part is None else part


def after(part: float) -> str:
    """In words."""
    return "never" if part == math.inf else f"after {part:.0%}"


@claim("one-seven", "1 and 7 already at about 50 %", "recognisability")
def one_seven(found: dict[str, Any]) -> Finding:
    one, seven, everyone = (moment(found, c) for c in (1, 7, None))
    verdict = YES if all(abs(value - 0.5) <= 0.05 and value < everyone for value in (one, seven)) else NO
    return f"{drawer(found)}: half of the 1s {after(one)}, of the 7s {after(seven)}, of all digits {after(everyone)}", verdict


@claim("five-eight", "5 and 8 last", "recognisability")
def five_eight(found: dict[str, Any]) -> Finding:
    order = sorted((c for c in by_class(found) if c is not None), key=lambda c: moment(found, c))
    hits = len({5, 8} & set(order[-2:]))
    return f"{drawer(found)}, first to last: {' '.join(map(str, order))}", (NO, PART, YES)[hits]


# ------------------------------------------------------------------------------------------------ parts taken away

@claim("skips", "without skip connections the digits are blurry", "recipes")
def skips(found: dict[str, Any]) -> Finding:
    base, without = of(found, "base"), of(found, "no-skips")
    blurry = without["grey"] > base["grey"] + 0.05
    said = f"{without['grey']:.0%} of the strokes' pixels are grey instead of {base['grey']:.0%} (real digits {found['real_grey']:.0%}); "
    return said + f"Fréchet {without['frechet']:.0f} instead of {base['frechet']:.1f}, {without['class_accuracy']:.0%} the digit asked for instead of " \
                  f"{base['class_accuracy']:.0%}", YES if blurry else PART if without["frechet"] > 2 * base["frechet"] else NO  # fmt: skip


@claim("clock", "without a time embedding the model fails", "recipes")
def clock(found: dict[str, Any]) -> Finding:
    base, without = of(found, "base"), of(found, "no-clock")
    said = f"{without['class_accuracy']:.0%} the digit asked for instead of {base['class_accuracy']:.0%}, Fréchet {without['frechet']:.1f} instead of " \
           f"{base['frechet']:.1f}"  # fmt: skip
    fails = without["class_accuracy"] < 0.5 * base["class_accuracy"]
    return said + ("" if fails else ": the noise itself says how late it is"), YES if fails else NO


@claim("larger", "a larger U-Net draws more detail, at twice the memory and time", "sizes")
def larger(found: dict[str, Any]) -> Finding:
    small, large = (of(found, name, "network") for name in ("report", "large"))
    times = {key: large[key] / small[key] for key in ("parameters", "peak_memory_mb", "seconds_a_step")}
    said = f"channels twice as wide: {times['parameters']:.1f} times the parameters, {times['peak_memory_mb']:.1f} the memory of a step, " \
           f"{times['seconds_a_step']:.1f} the time; Fréchet {small['frechet']:.1f} and {large['frechet']:.1f} after {small['steps_of_training']} steps"  # fmt: skip
    if small["steps_of_training"] * small["batch"] < EPOCH:
        said += ", less than an epoch: too few to show detail"
    cost = all(1.5 <= times[key] <= 2.75 for key in ("peak_memory_mb", "seconds_a_step"))
    better = large["frechet"] < 0.8 * small["frechet"]
    return said, YES if cost and better else PART if cost or better else NO


# ------------------------------------------------------------------------------------------------ CLIP, choice, styles

@claim("clip", "CLIP gives 0, 1, 7 scores of 0.92 to 0.95, and 5, 8 of 0.75 to 0.80", "mnist-clip")
def clip(found: dict[str, Any]) -> Finding:
    seen = found["clip"]
    if not isinstance(seen, dict):
        raise BadInput("no CLIP")
    course, noise = seen["course"]["by_class"], seen["controls"]["noise"]["course"]
    said = "gives " + ", ".join(f"{label}: {course[label]:.2f}" for label in "01758") + f", and calls {noise['good']:.0%} of pure noise good"
    if seen["model"]["name"] not in PUBLIC:
        return f"the public CLIP is not at hand; a small one of digits alone, by the report's procedure, {said}: scores without controls say little", OPEN
    hits = [abs(course[label] - middle) <= reach + 0.005 for digits, middle, reach in (("017", 0.935, 0.015), ("58", 0.775, 0.025)) for label in digits]
    return f"{seen['model']['name']}, by the report's procedure, {said}", YES if all(hits) else PART if any(hits) else NO


@claim("filtering", "choosing the best of N by CLIP gives better digits", "best-of-n")
def filtering(found: dict[str, Any]) -> Finding:
    nobody, chosen = of(found, "nobody", "chosen_by"), of(found, "clip", "chosen_by")
    name = found["clip"]["name"]
    said = f"best of {found['n']} by {name if name in PUBLIC else 'a CLIP of digits'}: the judge is right on {chosen['class_accuracy']:.1%} instead of {nobody['class_accuracy']:.1%}, " \
           f"within a class {chosen['diversity']:.0%} of the variety are left, at {chosen['evaluations_per_picture'] / nobody['evaluations_per_picture']:.0f} times the cost"  # fmt: skip
    (_, before), (low, _) = (evaluate.wilson(round(row["class_accuracy"] * row["pictures"]), row["pictures"]) for row in (nobody, chosen))
    return said, YES if low > before else PART if chosen["class_accuracy"] > nobody["class_accuracy"] else NO


@claim("styles", "styles (slanted, bold, thin) can be asked for", "styles")
def styles(found: dict[str, Any]) -> Finding:
    row = found["rows"][-1]
    values = {name: row["follows"][name]["correlation"] for name in ("slant", "weight")}
    said = "asked and drawn correlate by " + " and ".join(f"{r:.2f} ({name})" for name, r in values.items())
    said += f" at w = {row['guidance']:g}, in a model that was told both; {row['class_accuracy']:.1%} are the digit asked for"
    return said, YES if min(values.values()) >= 0.8 else PART if max(values.values()) >= 0.8 else NO


# ------------------------------------------------------------------------------------------------ reading records

def mean(rows: list[dict[str, Any]], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def of(record: dict[str, Any], name: str, key: str = "recipe") -> dict[str, Any]:
    """The row of one recipe, or of whatever `key` names rows by."""
    for row in record["rows"]:
        if row[key] == name:
            return row
    raise BadInput(f"no {key} {name}")


def by_class(record: dict[str, Any]) -> dict[int | None, dict[str, Any]]:
    """The rows by digit; None is all of them."""
    return {row["class"]: row for row in record["rows"]}


def tested(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """One row of the table; a record that is not there makes it open."""
    says, needs, function = CLAIMS[name]
    row: dict[str, Any] = {"claim": name, "says": says, "records": [f"{need}.json" for need in needs], "commands": [MADE_BY[need] for need in needs]}
    if absent := [file for file in row["records"] if not (folder / file).is_file()]:
        return {**row, "measured": f"nothing yet: there is no {absent[0]}", "verdict": "open"}
    found = [records.read_json(folder / file) for file in row["records"]]
    try:
        measured, verdict = function(*found)
    except (BadInput, KeyError) as missing:
        return {**row, "measured": f"nothing yet: {' or '.join(row['records'])} has {missing if isinstance(missing, BadInput) else f'no {missing}'}", "verdict": "open"}
    ran = [command for record in found for command in commands(record)] or ["minidiff summary --preset report"]
    return {**row, "measured": measured, "verdict": verdict, "commands": list(dict.fromkeys(ran))}


def commands(record: dict[str, Any]) -> list[str]:
    """What made a record: the training first, where there was one, and what was asked of it."""
    launches = record.get("launches", [])
    return [launches[0]["command"]] if launches else [record[key] for key in ("training", "command") if key in record]


def card(row: dict[str, Any]) -> str:
    """A row for the terminal."""
    lines = [f"{row['says']}  —  {row['verdict'].upper()}"]
    lines += textwrap.wrap(row["measured"], 100, initial_indent="    ", subsequent_indent="    ")
    return "\n".join([*lines, *(f"    $ {command}" for command in row["commands"])])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="CLAIM", help=f"of {', '.join(CLAIMS)}")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="folder of the records (default: the project's)")
    parser.add_argument("--json", type=Path, metavar="DIR", help="folder for claims.json")
    args = parser.parse_args()
    try:
        if unknown := sorted(set(args.only or ()) - set(CLAIMS)):
            raise BadInput(f"there is no claim {unknown[0]!r}; there are {', '.join(CLAIMS)}")
        for option, folder in (("--results", args.results), ("--json", args.json)):
            if folder is not None and not folder.is_dir():
                raise BadInput(f"{option} {folder}: there is no such folder")
        rows = [tested(name, args.results) for name in args.only or CLAIMS]
    except BadInput as error:
        print(f"report_claims: {error}", file=sys.stderr)
        return 2
    print("\n\n".join(map(card, rows)))
    if args.json is not None:
        records.write_json(args.json / "claims.json", {"command": records.command_line(), "commit": records.commit(), "time": records.now(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
