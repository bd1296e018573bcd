"""Which choice makes what difference: one small network, one small budget, one thing changed at a time.

    python examples/recipes.py                              # all of it: an hour or two on two cores
    python examples/recipes.py --part recipes --only base eps-linear flow
    python examples/recipes.py --part samplers              # how many questions each sampler must ask
    python examples/recipes.py --list

Every recipe trains the network of the preset `tiny` (2x2 patches; no quarter of the report's size) for the same number of
steps on MNIST, with the same optimizer, and draws the same labels with the same seed. The judge says how many samples show
what was asked for; the Fréchet distance in the judge's features says how far they are from real digits as a whole. Finished
runs are kept in --out and not made again. The records are chapters/results/recipes.json, sizes.json and samplers.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import minidiff as md
from minidiff import diffusion, evaluate, train
from minidiff.errors import BadInput
from minidiff.train import records
from minidiff.train.folder import holds_run

BASE: dict[str, Any] = {"schedule": {"name": "cosine", "T": 100}, "model": {"target": "v", "condition": "film"}}

# name: (what is different, changes to BASE)
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("cosine schedule, target v, class in every block (FiLM)", {}),
    "report": ("the report's choices: linear schedule, target eps, class at the bottleneck",
               {"schedule": {"name": "linear", "T": 100}, "model": {"target": "eps", "condition": "before-mid"}}),
    "eps-linear": ("linear schedule, target eps", {"schedule": {"name": "linear", "T": 100}, "model": {"target": "eps"}}),
    "eps-rescaled": ("rescaled linear schedule, target eps", {"schedule": {"name": "rescaled-linear", "T": 100}, "model": {"target": "eps"}}),
    "eps": ("target eps", {"model": {"target": "eps"}}),
    "eps-min-snr": ("target eps, min-SNR weights", {"model": {"target": "eps"}, "weighting": "min-snr"}),
    "x0": ("target x0", {"model": {"target": "x0"}}),
    "linear-v": ("linear schedule", {"schedule": {"name": "linear", "T": 100}}),
    "sigmoid": ("sigmoid schedule", {"schedule": {"name": "sigmoid", "T": 100}}),
    "flow": ("the straight road, target flow", {"schedule": {"name": "flow", "T": 100}, "model": {"target": "flow"}}),
    "flow-logit-normal": ("the straight road, target flow, the middle drawn more often",
                          {"schedule": {"name": "flow", "T": 100}, "model": {"target": "flow"}, "times": "logit-normal"}),
    "edm": ("noise without end, EDM's target and times", {"schedule": {"name": "edm", "T": 100}, "model": {"target": "edm"}, "times": "edm"}),
    "before-mid": ("class at the bottleneck, before the middle blocks", {"model": {"condition": "before-mid"}}),
    "after-mid": ("class at the bottleneck, after the middle blocks", {"model": {"condition": "after-mid"}}),
    "no-skips": ("no skips", {"model": {"skips": False}}),
    "no-clock": ("nothing said of the step", {"model": {"clock": False}}),
}  # fmt: skip

# The report's experiment 1, wider channels; beside its own network, which hears the class at the bottleneck alone.
SIZES: dict[str, dict[str, Any]] = {
    "report": {"channels": [32, 64, 128], "condition": "before-mid", "time_dim": 8},
    "report-film": {"channels": [32, 64, 128], "time_dim": 8},
    "large": {"channels": [64, 128, 256], "condition": "before-mid", "time_dim": 8},
    "large-film": {"channels": [64, 128, 256], "time_dim": 8},
}
# Which sampler draws with which network: the bundled one, and one trained just as long on the straight road.
SAMPLERS = (("ddpm", "mnist"), ("ddim", "mnist"), ("dpm++", "mnist"), ("heun", "mnist"),
            ("euler", "mnist-flow"), ("midpoint", "mnist-flow"), ("heun", "mnist-flow"))  # fmt: skip
EVALUATIONS = (5, 10, 20, 50, 100)


def trained(name: str, config: train.Config, out: Path) -> tuple[Path, dict[str, Any]]:
    """The model of a recipe, trained unless it is there; and what its record says of the training."""
    folder = out / name
    model = folder / "model.npz"
    if not model.is_file():
        train.Trainer(config, folder, resume=holds_run(folder)).run()
    record = records.read_json(folder / "record.json")
    return model, {key: record[key] for key in ("parameters", "seconds", "validation_losses") if key in record}


def verdict(path: Path | str, args: argparse.Namespace, sampler: str = "ddpm", steps: int = 50) -> dict[str, Any]:
    """What the judge and the Fréchet distance say of samples, and the seconds that they took."""
    loaded = train.load_model(path)
    labels, start = np.arange(args.n) % 10, time.perf_counter()
    images = diffusion.sample(loaded.model, loaded.schedule, labels, sampler, min(steps, loaded.schedule.T), guidance=args.guidance,
                              seed=args.seed, batch_size=100, progress=sys.stderr.isatty())  # fmt: skip
    seconds, found, cloud = time.perf_counter() - start, evaluate.judge_samples(images, labels), evaluate.sample_frechet(images, labels=labels)
    return {"class_accuracy": found.accuracy, "interval_95": list(found.interval), "frechet": cloud.distance, "frechet_floor": cloud.floor,
            "frechet_noise": cloud.noise, "grey": grey(images), "sampler": sampler, "steps": steps, "seconds_of_sampling": round(seconds, 1)}  # fmt: skip


def grey(images: np.ndarray) -> float:
    """How blurry strokes are: of the pixels that are not black, x > −0.5, the share that is not white either, x < 0.5."""
    ink = images > -0.5
    return float((ink & (images < 0.5)).sum() / max(ink.sum(), 1))


def config_of(changes: dict[str, Any], args: argparse.Namespace, **others: Any) -> train.Config:
    """The preset tiny with the changes of a recipe; `others` go before these."""
    tiny = train.preset("tiny")
    model = {**tiny.model, **BASE["model"], **changes.get("model", {}), **others.pop("model", {})}
    return tiny.replace(data=args.data, seed=args.seed, sheet_every=0, validate=1024, steps=others.pop("steps", args.steps), model=model,
                        schedule=changes.get("schedule", BASE["schedule"]), weighting=changes.get("weighting", "uniform"),
                        times=changes.get("times", "uniform"), **others)  # fmt: skip


def run_recipes(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Each recipe trained and judged, with every seed; the mean over seeds, how far they lie apart, and the runs."""
    rows = []
    for name in args.only or RECIPES:
        what, changes = RECIPES[name]
        runs = [of_seed(name, changes, args, args.seed + k) for k in range(args.seeds)]
        row = {"recipe": name, "what": what, "parameters": runs[0]["parameters"], "frechet_floor": runs[0]["frechet_floor"],
               "frechet_noise": runs[0]["frechet_noise"]}  # fmt: skip
        for key in ("class_accuracy", "frechet", "grey"):
            values = np.array([run[key] for run in runs])
            row |= {key: float(values.mean()), f"{key}_deviation": float(values.std(ddof=1)) if len(runs) > 1 else None}
        rows.append({**row, "runs": runs})
        print(f"{name:<18} class accuracy {row['class_accuracy']:6.1%}  Fréchet {row['frechet']:7.1f}  {what}", flush=True)
    return rows


def of_seed(name: str, changes: dict[str, Any], args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One run of a recipe: its training, and what is said of its samples, which are drawn from the same noise for all seeds."""
    path, training = trained(name if seed == 0 else f"{name}-seed-{seed}", config_of(changes, args).replace(seed=seed), args.out)
    return {"seed": seed, **training, **verdict(path, args)}


def run_sizes(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The report's network beside one twice as wide: parameters, memory, time, and samples after as many steps."""
    rows = []
    for name, model in SIZES.items():
        config = config_of({}, args, model={**model, "patch": 1})
        path, training = trained(f"size-{name}", config, args.out)
        memory = peak_memory(name, args)
        rows.append({"network": name, **model, **training, "steps_of_training": config.steps, "batch": config.batch,
                     "megabytes_of_weights_and_moments": 12 * training["parameters"] / 2**20, "peak_memory_mb": memory,
                     "seconds_a_step": training["seconds"] / config.steps, **verdict(path, args)})  # fmt: skip
        print(f"{name:<12} {rows[-1]['parameters']:>9,} parameters  {rows[-1]['seconds_a_step']:.2f} s a step  {memory:.0f} MB  "
              f"class accuracy {rows[-1]['class_accuracy']:.1%}  Fréchet {rows[-1]['frechet']:.1f}", flush=True)  # fmt: skip
    return rows


def peak_memory(name: str, args: argparse.Namespace) -> float:
    """What three training steps add to the memory of a process of their own, in MB (10⁶ bytes)."""
    command = [sys.executable, __file__, "--memory", name, "--data", args.data]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def print_memory(name: str, args: argparse.Namespace) -> int:
    """What `peak_memory` asks for; a step on one picture is made before, so that compiled code does not count."""
    with tempfile.TemporaryDirectory() as folder:
        for batch, steps in ((1, 1), (train.preset("tiny").batch, 3)):
            before = resident("VmRSS")
            config = config_of({}, args, steps=steps, model={**SIZES[name], "patch": 1}, batch=batch, limit=64)
            train.Trainer(config.replace(validate=0), Path(folder) / str(batch), progress=False).run()
    print((resident("VmHWM") - before) / 1e6)
    return 0


def resident(kind: str) -> float:
    """Memory of this process in bytes: "VmRSS" now, "VmHWM" at its highest."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return 1024.0 * int(line.split()[1])


def flow_config(args: argparse.Namespace) -> train.Config:
    """The preset mnist as the bundled model was trained, but for the road."""
    mnist = train.preset("mnist")
    return mnist.replace(data=args.data, steps=args.flow_steps, sheet_every=0, seed=args.seed, schedule={"name": "flow", "T": 100},
                         model={**mnist.model, "target": "flow"})  # fmt: skip


def run_samplers(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Each sampler with as many questions to the network as it is allowed."""
    rows = []
    for sampler, recipe in SAMPLERS:
        path = trained(recipe, flow_config(args), args.out)[0] if recipe == "mnist-flow" else recipe
        for evaluations in EVALUATIONS:
            steps = -(-evaluations // diffusion.EVALUATIONS[sampler])            # Heun's last step asks once
            found = verdict(path, args, sampler, steps)
            rows.append({"recipe": recipe, "evaluations": evaluations, **found})
            print(f"{recipe:<10} {sampler:<8} {evaluations:>4} evaluations  class accuracy {found['class_accuracy']:6.1%}  Fréchet {found['frechet']:7.1f}", flush=True)
    return rows


def real(name: str) -> np.ndarray:
    """Held-out pictures, as a network would draw them."""
    return md.data.to_model(md.data.load(name, "test").images)


PARTS = {"recipes": run_recipes, "sizes": run_sizes, "samplers": run_samplers}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--only", nargs="+", metavar="RECIPE", help="of the recipes, these alone")
    parser.add_argument("--list", action="store_true", help="say which recipes there are, and run nothing")
    parser.add_argument("--data", default="mnist", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps of a recipe (default: %(default)s)")
    parser.add_argument("--flow-steps", type=int, default=2500, help="of the straight road's network, for samplers (default: %(default)s)")
    parser.add_argument("--n", type=int, default=500, help="samples to judge (default: %(default)s)")
    parser.add_argument("--guidance", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the samples, and the first of the trainings")
    parser.add_argument("--seeds", type=int, default=1, help="how often each recipe is trained (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="DIR", help="folder for the records")
    parser.add_argument("--memory", choices=SIZES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        return print_memory(args.memory, args)
    if args.list:
        print("\n".join(f"{name:<18} {what}" for name, (what, _) in RECIPES.items()))
        return 0
    try:
        if unknown := sorted(set(args.only or ()) - set(RECIPES)):
            raise BadInput(f"there is no recipe {unknown[0]!r}; there are {', '.join(RECIPES)}")
        if args.json is not None and not args.json.is_dir():
            raise BadInput(f"--json {args.json}: there is no such folder")
        for part in args.part:
            rows = PARTS[part](args)
            if args.json is not None:
                records.write_json(args.json / f"{part}.json", {
                    "command": records.command_line(), "commit": records.commit(), "time": records.now(), "versions": records.versions(),
                    "machine": records.machine("cpu", md.get_num_threads()), "n": args.n, "guidance": args.guidance, "seed": args.seed, "seeds": args.seeds,
                    "steps_of_training": args.flow_steps if part == "samplers" else args.steps, "real_grey": grey(real(args.data)[: args.n]), "judge_test_accuracy": evaluate.load_judge().accuracy, "rows": rows,
                })  # fmt: skip
    except BadInput as error:
        print(f"recipes: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
