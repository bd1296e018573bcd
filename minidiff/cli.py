"""The command line: ``minidiff COMMAND`` or ``python -m minidiff COMMAND``.

Exit status: 0 done; 1 failed; 2 what was given is wrong (one line on stderr says what, and what would be right);
130 and 143 stopped by Ctrl-C and SIGTERM. With MINIDIFF_TRACEBACK=1 errors show their traceback.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import backend
from .errors import BadInput, Failed

# Everything heavy is imported inside the command that needs it: `minidiff --help` answers at once.


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Inside, our own warnings (UserWarning) look as every other line of the command line, without a file and its line."""
    before = warnings.formatwarning

    def in_one_line(message: Warning | str, category: type[Warning], *where: Any) -> str:
        return f"minidiff: {' '.join(str(message).split())}\n" if issubclass(category, UserWarning) else before(message, category, *where)

    warnings.formatwarning = in_one_line
    try:
        yield
    finally:
        warnings.formatwarning = before


@_warnings_in_one_line()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        args = build_parser().parse_args(argv)
        backend.keep_freed_memory()                         # the process is ours: a step of training goes a tenth faster
        return args.run(args) or 0
    except SystemExit as leaving:                       # --help and --version leave by it
        return leaving.code if isinstance(leaving.code, int) else 2
    except BadInput as error:
        return _fail(error, str(error), 2)
    except Failed as error:
        return _fail(error, str(error), 1)
    except KeyboardInterrupt as stopped:
        print(f"minidiff: {stopped}" if stopped.args else "minidiff: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:                             # `minidiff ... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError as error:
        return _fail(error, f"not enough memory{f' ({error})' if str(error) else ''}; ask for less, such as a smaller --batch, --n or --per-class", 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(error, f"{where}{error.strerror or error}", 1)
    except Exception as error:
        return _fail(error, f"failed with {type(error).__name__}: {error} (MINIDIFF_TRACEBACK=1 shows where)", 1)


def _fail(error: BaseException, line: str, status: int) -> int:
    if os.environ.get("MINIDIFF_TRACEBACK") == "1":
        raise error
    if _speaks():
        print(f"minidiff: {' '.join(line.split())}", file=sys.stderr)
    return status


def _speaks() -> bool:
    """Whether this process is alone, or the first of several: all of them fail alike, and one says so."""
    from .train.distributed import is_first

    return is_first()


class _Parser(argparse.ArgumentParser):
    """argparse that reports a wrong option in one line, as every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{self.prog.removeprefix('minidiff ')}: {message}; see {self.prog} --help"
                       if self.prog != "minidiff" else f"{message}; see minidiff --help")


# ------------------------------------------------------------------------------------------------ the parser

def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    from . import __version__

    parser = _Parser(prog="minidiff", formatter_class=argparse.RawDescriptionHelpFormatter,
                     description="A diffusion model you can read from the first tensor to the last sample.",
                     epilog="to begin with:\n  minidiff demo\n  minidiff sample mnist --out digits.png\n\n"
                            "minidiff COMMAND --help explains one command.")
    parser.add_argument("--version", action="version", version=f"minidiff {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_demo, _add_train, _add_sample, _add_evaluate, _add_export, _add_import, _add_runs, _add_summary, _add_plot,
                _add_data, _add_bench, _add_gradcheck, _add_kernels, _add_exercises, _add_book):
        add(commands)
    return parser


def _command(commands: Any, name: str, run: Any, text: str, examples: str = "") -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".",
        epilog=f"examples:\n{examples}" if examples else None, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(run=run)
    return parser


def _add_demo(commands: Any) -> None:
    p = _command(commands, "demo", _demo, "train a small model for a few minutes and draw everything",
                 "  minidiff demo\n  minidiff demo --minutes 10 --out my-demo")
    p.add_argument("--out", default="minidiff-demo", metavar="DIR", help="folder to write into (default: %(default)s)")
    p.add_argument("--minutes", type=float, default=3.0, metavar="M", help="about how long (default: %(default)g)")
    p.add_argument("--seed", type=int, default=0, metavar="N")


def _add_train(commands: Any) -> None:
    p = _command(commands, "train", _train, "train a model by a recipe",
                 "  minidiff train --data mnist --preset tiny --steps 500\n"
                 "  minidiff train --data mnist --preset mnist --out runs/first\n"
                 "  minidiff train --out runs/first --resume\n"
                 "  minidiff train --set weight_decay=0.01 model.target=flow schedule.name=flow model.channels=32,64\n"
                 "  minidiff train --config runs/first --seed 1 --out runs/second     the same recipe, other chance\n"
                 "  minidiff train --start mnist --data my-digits --steps 2000 --lr 5e-4     the bundled model, taught further\n\n"
                 "Ctrl-C saves a checkpoint and says how to go on.")
    p.add_argument("--data", metavar="NAME", help="data set, one of `minidiff data list`, or a folder with a sub-folder of images for each class (default: the preset's)")
    _add_recipe(p)
    length = p.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, metavar="E", help="passes over the data")
    length.add_argument("--steps", type=int, metavar="N", help="optimiser steps")
    p.add_argument("--minutes", type=float, metavar="M", help="end, annealed, after about so many minutes of steps (sheets and held-out losses not counted)")
    p.add_argument("--batch", type=int, metavar="N", help="images a step")
    p.add_argument("--lr", type=float, help="learning rate (its peak)")
    p.add_argument("--ema", type=float, metavar="DECAY", help="decay of the averaged weights, 0 for none")
    p.add_argument("--drop", type=float, metavar="RATE", help="share of samples that lose their label")
    p.add_argument("--clip", type=float, metavar="NORM", help="largest gradient norm, 0 for any")
    p.add_argument("--augment", nargs="+", metavar="NAME", help="vary the pictures: shift, flip (default: not)")
    p.add_argument("--start", metavar="CHECKPOINT|NAME", help="begin with the weights of this model: a bundled one's name, a run's folder or a checkpoint (default: random weights)")
    p.add_argument("--style", nargs="+", metavar="NAME", help="tell the network these values too: slant, weight (default: none)")
    p.add_argument("--schedule", metavar="NAME", help="noise schedule: linear, rescaled-linear, cosine, sigmoid, flow, edm")
    p.add_argument("-T", type=int, metavar="T", help="diffusion steps")
    p.add_argument("--limit", type=int, metavar="N", help="train on the first N images only")
    p.add_argument("--seed", type=int, metavar="N")
    p.add_argument("--device", metavar="cpu|cuda")
    p.add_argument("--precision", metavar="P", help="how the GPU multiplies: fp32, tf32 or bf16 (default: fp32)")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    p.add_argument("--sheet-every", type=int, metavar="N", help="steps between sample sheets, 0 for none")
    p.add_argument("--checkpoint-every", type=int, metavar="N", help="steps between checkpoints, 0 for none")
    p.add_argument("--out", metavar="DIR", help="folder of the run (default: runs/DATA-PRESET)")
    p.add_argument("--resume", action="store_true", help="go on with the run in --out, by its own recipe")


def _add_recipe(p: argparse.ArgumentParser) -> None:
    which = p.add_mutually_exclusive_group()
    which.add_argument("--preset", metavar="NAME", help="recipe: report, mnist, tiny, large, attention (default: mnist)")
    which.add_argument("--config", metavar="FILE", help="recipe in a JSON file, or that of a run's folder")
    p.add_argument("--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE",
                   help="any field of the recipe by its name, such as warmup=100, model.channels=32,64 or schedule.s=0.01")


def _recipe(args: argparse.Namespace, before: Any = None) -> Any:
    """The recipe that --config or --preset names; where neither does, the one that was there before."""
    from .train.config import Config, preset

    if args.config:
        return Config.load(args.config)
    if before is None or (args.preset and args.preset != before.preset):
        return preset(args.preset or "mnist")
    return before


def _add_export(commands: Any) -> None:
    p = _command(commands, "export", _export, "write a model's weights alone into a file",
                 "  minidiff export runs/first --out digits.npz\n"
                 "  minidiff export runs/first/best --half --out small.npz      half the size, 11 bits of each weight")
    p.add_argument("model", metavar="CHECKPOINT|NAME", help="a checkpoint, a run's folder, RUN/best, or a bundled model's name")
    p.add_argument("--half", action="store_true", help="in half precision (default: float32)")
    p.add_argument("--out", required=True, metavar="FILE.npz")


def _add_import(commands: Any) -> None:
    p = _command(commands, "import", _import, "make a model of weights from PyTorch, and say what does not fit",
                 "  minidiff import weights.safetensors --preset report --out model.npz\n"
                 "  minidiff import weights.npz --preset report --set model.channels=16,32 --out model.npz\n\n"
                 "FILE holds arrays by the names of a state_dict(): .npz, or .safetensors where that package is installed.")
    p.add_argument("file", metavar="FILE", help=".npz or .safetensors")
    p.add_argument("--data", metavar="NAME|FOLDER", help="data set that the model was trained on: it has the channels and classes (default: the recipe's)")
    _add_recipe(p)
    p.add_argument("--out", required=True, metavar="FILE.npz")


def _add_runs(commands: Any) -> None:
    p = _command(commands, "runs", _runs, "list the runs in a folder",
                 "  minidiff runs\n  minidiff runs experiments")
    p.add_argument("folder", nargs="?", default="runs", metavar="DIR", help="default: %(default)s")


def _add_sample(commands: Any) -> None:
    p = _command(commands, "sample", _sample, "draw new images with a trained model",
                 "  minidiff sample mnist --out digits.png\n"
                 "  minidiff sample runs/first --classes 1,7,0-2 --per-class 8 --sampler ddim --steps 20 --out few.png\n"
                 "  minidiff sample mnist --classes 3 --out three.gif           the digit appearing out of noise\n"
                 "  minidiff sample mnist --per-class 100 --out samples.npz     images (N,C,H,W) in [-1,1], labels (N,)")
    p.add_argument("model", metavar="CHECKPOINT|NAME", help="a checkpoint, a run's folder, or a bundled model's name")
    p.add_argument("--classes", metavar="LIST", help="names and ranges of names, such as 0-9, 3 or 1,7,0-2; index:0-2 by index; none for no class (default: all)")
    p.add_argument("--per-class", type=int, default=10, metavar="N", help="images of each class (default: %(default)s)")
    _add_sampler(p)
    p.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    p.add_argument("--batch", type=int, default=64, metavar="N", help="images at a time; no effect on what they are")
    _add_place(p)
    p.add_argument("--out", required=True, metavar="FILE", help=".png a picture, .gif or .webp an animation, .npz arrays")


def _add_evaluate(commands: Any) -> None:
    p = _command(commands, "evaluate", _evaluate, "judge samples: is each the digit that was asked for?",
                 "  minidiff evaluate samples.npz\n"
                 "  minidiff evaluate mnist --n 1000 --card card.png --json verdict.json\n"
                 "  minidiff evaluate mnist --n 1000 --sampler ddpm --json verdict.json\n"
                 "  minidiff evaluate mnist --n 10000 --pupil --json verdict.json\n"
                 "  minidiff evaluate samples.npz --clip ViT-B-32 --clip-weights vit-b-32.safetensors")
    p.add_argument("model", metavar="CHECKPOINT|NAME|SAMPLES.npz", help="samples, or a model to draw them with")
    p.add_argument("--n", type=int, default=1000, metavar="N", help="samples to draw, the classes as frequent as in the data set "
                   "that they are held against (default: %(default)s)")
    _add_evaluated_sampler(p)
    p.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    _add_place(p)
    p.add_argument("--reference", default="mnist", metavar="NAME", help="data set to hold them against, or none (default: %(default)s)")
    p.add_argument("--card", metavar="FILE", help="draw a report card (.png .pdf .svg)")
    p.add_argument("--pupil", action="store_true", help="teach a classifier by the samples alone, and examine it on real digits (two minutes)")
    p.add_argument("--clip", metavar="MODEL", help="show them to CLIP too: a model of open_clip by name, or its configuration (.json)")
    p.add_argument("--clip-weights", metavar="FILE", help="its weights (.safetensors .pt), the tag of some that are on this machine, or random; OpenAI's as a file belong to MODEL-quickgelu")
    p.add_argument("--json", metavar="FILE", help="write the figures here too")


FEW_STEPS = 10  # that samplers but ddpm need to be judged: chapters/results/samplers.json


def _add_evaluated_sampler(p: argparse.ArgumentParser) -> None:
    """The options of `sample`, but with few steps of DDIM where nothing is said: thousands of samples are drawn."""
    _add_sampler(p, "ddim", f"{FEW_STEPS}, and all T of ddpm")


def _add_sampler(p: argparse.ArgumentParser, sampler: str = "ddpm", steps: str = "all T") -> None:
    p.add_argument("--sampler", default=sampler, metavar="S", help="ddpm, ddim, dpm++, heun, euler or midpoint (default: %(default)s)")
    p.add_argument("--steps", type=int, metavar="K", help=f"reverse steps (default: {steps})")
    p.add_argument("--eta", type=float, default=0.0, metavar="E", help="fresh noise of ddim, 0 to 1 (default: none)")
    p.add_argument("--churn", type=float, default=0.0, metavar="C", help="fresh noise of heun (default: none)")
    p.add_argument("--guidance", type=float, metavar="W", help="w of guidance, 0 for none; others call 1 + w the scale (default: the recipe's)")
    p.add_argument("--guidance-interval", type=float, nargs=2, default=(0.0, 1.0), metavar=("LOW", "HIGH"),
                   help="the steps on which it acts, as parts of T (default: all)")
    p.add_argument("--guidance-rescale", type=float, default=0.0, metavar="PHI", help="bring contrast back, 0 to 1 (default: none)")
    p.add_argument("--negative", metavar="CLASS", help="guide away from this class (default: from the unconditional prediction)")
    p.add_argument("--judge", type=float, metavar="S", help="lean on the judge's opinion of the picture too, so strongly (default: none)")
    p.add_argument("--judge-alone", action="store_true", help="and tell the network no class")
    p.add_argument("--style", nargs="+", metavar="NAME=VALUE", help="such as slant=20 weight=3, of a model trained with them (default: as varied as its training set)")
    clip = p.add_mutually_exclusive_group()
    clip.add_argument("--no-clip", action="store_true", help="let the guess of the picture leave [-1, 1]")
    clip.add_argument("--dynamic-clip", action="store_true", help="bring it back by dynamic thresholding")
    p.add_argument("--variance", metavar="V", help="of ddpm: small, large or learned (default: learned by models that have, else small)")


def _sampling(command: str, args: argparse.Namespace, loaded: Any) -> dict[str, Any]:
    """The options of `diffusion.sample` that these arguments mean. Raises BadInput."""
    from . import diffusion
    from .data import find_classes
    from .evaluate import check_judgeable, load_judge

    if args.sampler not in diffusion.SAMPLERS:
        raise BadInput(f"{command}: unknown sampler '{args.sampler}'; there are {', '.join(diffusion.SAMPLERS)}")
    w = args.guidance if args.guidance is not None else loaded.config.guidance if loaded.config else 0.0
    if not 0 <= w < float("inf"):
        raise BadInput(f"{command}: --guidance must be a finite number of at least 0, got {w:g}")
    T = loaded.schedule.T
    if args.steps is not None and not 1 <= args.steps <= T:
        raise BadInput(f"{command}: --steps must be 1 to {T} (the T of this model), got {args.steps}")
    negative = [-1] if args.negative is None else find_classes(command, args.negative, loaded.classes)
    if len(negative) > 1:
        raise BadInput(f"{command}: --negative must be one class, got {args.negative}")
    _check_heard(command, args, w)
    style = parse_style(command, args.style, loaded.style) if args.style else None
    if args.judge_alone and args.judge is None:
        raise BadInput(f"{command}: --judge-alone needs --judge, how strongly the judge is to lead")
    if args.judge is not None:
        check_judgeable(loaded)
    judge = {} if args.judge is None else {"classifier": load_judge(), "strength": args.judge, "alone": args.judge_alone}
    w = 0.0 if args.judge_alone else w
    guidance = diffusion.Guidance(w, tuple(args.guidance_interval), args.guidance_rescale, negative[0], **judge)
    return {"sampler": args.sampler, "steps": args.steps, "guidance": guidance, "eta": args.eta, "churn": args.churn,
            "seed": args.seed, "clip": "dynamic" if args.dynamic_clip else not args.no_clip, "variance": args.variance, "style": style}  # fmt: skip


def _check_heard(command: str, args: argparse.Namespace, w: float) -> None:
    """Raises BadInput for an option that would change nothing: who gives one believes that it does."""
    needs = (("--eta", args.eta != 0, args.sampler == "ddim", "--sampler ddim"), ("--churn", args.churn != 0, args.sampler == "heun", "--sampler heun"),
             ("--variance", args.variance is not None, args.sampler == "ddpm", "--sampler ddpm"),
             ("--negative", args.negative is not None, w > 0, "--guidance above 0"),
             ("--guidance-interval", tuple(args.guidance_interval) != (0.0, 1.0), w > 0, "--guidance above 0"),
             ("--guidance-rescale", args.guidance_rescale != 0, w > 0, "--guidance above 0"))  # fmt: skip
    if useless := [f"{option} does nothing without {needed}" for option, given, heard, needed in needs if given and not heard]:
        raise BadInput(f"{command}: {'; '.join(useless)}")


def _check_precision(command: str, args: argparse.Namespace) -> None:
    """Raises BadInput for a precision that the CPU does not have."""
    if args.precision != "fp32" and args.device == "cpu" and backend.get_kernels() not in ("rounded", "emulated"):
        raise BadInput(f"{command}: --precision {args.precision} is the GPU's; the CPU computes in fp32; use --device cuda, or imitate it with"
                       " MINIDIFF_KERNELS=rounded")  # fmt: skip


def _check_only_models(args: argparse.Namespace) -> None:
    """Raises BadInput for options that say how to draw samples, where the samples are there already."""
    p = argparse.ArgumentParser()
    _add_evaluated_sampler(p)
    p.set_defaults(n=1000, precision="fp32", **({} if args.pupil else {"seed": 0}), **({} if args.clip else {"device": "cpu"}))
    if given := [f"--{name.replace('_', '-')}" for name, default in vars(p.parse_args([])).items() if getattr(args, name) != default]:
        raise BadInput(f"evaluate: {Path(args.model).name} holds samples, which {', '.join(given)} cannot change; they apply to models only")


def parse_style(command: str, asked: Sequence[str], scale: Any) -> Any:
    """``["slant=20"]`` -> the row that the network is told. Raises BadInput."""
    if scale is None:
        raise BadInput(f"{command}: this model has learned no style; leave --style out, or train one with --style")
    wanted: dict[str, float] = {}
    for part in asked:
        name, _, value = part.partition("=")
        try:
            wanted[name] = float(value)
        except ValueError:
            raise BadInput(f"{command}: cannot read --style {part}; write {scale.names[0]}={scale.mean[0]:.0f}") from None
    return scale.asked(wanted)


def told_styles(scale: Any, labels: Any, seed: int, asked: Any = None, first: int = 0) -> Any:
    """What the network is told of each picture: what is asked for, the rest as varied as the training set, where that is known."""
    return scale.drawn(labels, seed, asked, first) if scale is not None and scale.quantiles else asked


def _add_place(p: argparse.ArgumentParser) -> None:
    p.add_argument("--device", default="cpu", metavar="cpu|cuda")
    p.add_argument("--precision", default="fp32", choices=backend.PRECISIONS,
                   help="how the GPU multiplies: fp32, tf32 or bf16 (default: %(default)s)")


def _add_summary(commands: Any) -> None:
    p = _command(commands, "summary", _summary, "print a network's parts and parameters",
                 "  minidiff summary                    the report's network\n"
                 "  minidiff summary --preset tiny\n  minidiff summary runs/first")
    p.add_argument("model", nargs="?", metavar="CHECKPOINT|NAME", help="of this model")
    p.add_argument("--preset", metavar="NAME", help="of this recipe (default: report)")


def _add_plot(commands: Any) -> None:
    p = _command(commands, "plot", _plot, "draw the loss curves of one or several runs",
                 "  minidiff plot runs/first --out loss.png\n  minidiff plot runs/first runs/second --out both.png")
    p.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder or its metrics.jsonl")
    p.add_argument("--validation", action="store_true", help="the held-out losses alone")
    p.add_argument("--out", default="loss.png", metavar="FILE", help=".png .pdf .svg (default: %(default)s)")


def _add_data(commands: Any) -> None:
    p = _command(commands, "data", None, "fetch, check and list data sets",
                 "  minidiff data list\n  minidiff data fetch mnist\n  minidiff data verify mnist\n"
                 "  minidiff data verify path/to/images            can each of them be decoded?")
    actions = p.add_subparsers(title="actions", metavar="fetch|verify|list", required=True)
    fetch = _command(actions, "fetch", _data_fetch, "download the files of a data set and check them")
    fetch.add_argument("name", metavar="NAME")
    verify = _command(actions, "verify", _data_verify, "check the files that are here")
    verify.add_argument("name", nargs="?", metavar="NAME|FOLDER", help="default: every data set that is here")
    _command(actions, "list", _data_list, "list the data sets and where they lie")


def _add_bench(commands: Any) -> None:
    p = _command(commands, "bench", _bench, "measure speed and memory on this machine",
                 "  minidiff bench\n  minidiff bench --against torch --json bench.json\n"
                 "  minidiff bench --batch 64 --no-ops --peers        beside other engines\n"
                 "  minidiff bench --loop --json loop.json            what the training loop costs, and less memory\n"
                 "  minidiff bench --device cuda --against torch --json bench-cuda.json")
    p.add_argument("--against", choices=("torch",), help="measure this beside minidiff, in turn")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    p.add_argument("--batch", type=int, nargs="+", metavar="N", help="images a step (default: 16 64 128; 128 512 on the GPU)")
    p.add_argument("--preset", nargs="+", metavar="NAME", help="on the GPU: networks of these recipes (default: report, attention)")
    p.add_argument("--precision", nargs="+", choices=backend.PRECISIONS, help="on the GPU (default: all three)")
    p.add_argument("--steps", type=int, metavar="N", help="on the GPU: steps of a round (default: 50)")
    p.add_argument("--kernels", nargs="+", choices=("numba", "numpy"), help="minidiff's CPU kernels (default: all installed)")
    p.add_argument("--no-ops", action="store_true", help="leave out the table of single operations")
    p.add_argument("--loop", action="store_true", help="the training loop: data and logging beside a step, ways to make it in less memory")
    p.add_argument("--peers", action="store_true", help="one block beside every other engine that is installed")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads of all (default: all cores)")
    p.add_argument("--rounds", type=int, default=10, metavar="N", help="measured rounds (default: %(default)s)")
    p.add_argument("--json", metavar="FILE", help="write the figures here too")


def _add_kernels(commands: Any) -> None:
    p = _command(commands, "kernels", _kernels, "compile the GPU's kernels, with no GPU, and tell what they take",
                 "  minidiff kernels --arch sm_90\n"
                 "  minidiff kernels --arch sm_80 sm_90 --preset mnist --precision bf16 --json kernels.json")
    p.add_argument("--arch", nargs="+", default=["sm_90"], metavar="ARCH", help="sm_80 (A100), sm_90 (H100) … (default: sm_90)")
    p.add_argument("--preset", nargs="+", metavar="NAME", help="the networks of these recipes (default: all, and every kernel beside them)")
    p.add_argument("--precision", nargs="+", choices=backend.PRECISIONS, help="default: all three")
    p.add_argument("--json", metavar="FILE", help="write the figures here too")


def _add_book(commands: Any) -> None:
    p = _command(commands, "book", _book, "build the book as a site that needs no network (extra `book`)",
                 "  minidiff book                         all chapters run, a few minutes on two cores\n"
                 "  minidiff book --chapters 3 5          run these, lay the others out without results\n"
                 "  minidiff book --no-run --out draft    lay out everything, run nothing")
    p.add_argument("--out", default="minidiff-book", metavar="DIR", help="folder of the site: new, empty or an earlier book (default: %(default)s)")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--chapters", type=int, nargs="+", metavar="N", help="run only these (default: all)")
    which.add_argument("--no-run", action="store_true", help="run none")
    which.add_argument("--numbers", action="store_true", help="build nothing; write README's numbers anew, from the records in chapters/results")
    p.add_argument("--alone", action="store_true", help="first run each chapter by itself, in an empty folder, and time it")
    p.add_argument("--json", metavar="FILE", help="write the seconds of the build and of each chapter here")


def _add_gradcheck(commands: Any) -> None:
    p = _command(commands, "gradcheck", _gradcheck, "check every operation's gradients against differences",
                 "  minidiff gradcheck\n  minidiff gradcheck conv2d group_norm --order 2\n"
                 "  minidiff gradcheck --figure u-curve.png             how the error depends on the step\n"
                 "  minidiff gradcheck --mutants                        are wrong gradients noticed?")
    p.add_argument("operations", nargs="*", metavar="OP", help="names, such as conv2d (default: all)")
    p.add_argument("--order", choices=("1", "2", "both"), default="both", help="of derivative (default: %(default)s)")
    p.add_argument("--dtype", action="append", choices=("float32", "float64"),
                   help="of values and gradients; may be given twice (default: both)")
    p.add_argument("--mutants", action="store_true", help="break each operation on purpose; every mistake must be caught")
    p.add_argument("--json", metavar="FILE", help="write the figures here too")
    p.add_argument("--figure", metavar="FILE", help="draw the error of a difference against its step (.png .pdf .svg)")


def _add_exercises(commands: Any) -> None:
    p = _command(commands, "exercises", _exercises, "write what the library is made of, and see whether it is right",
                 "  minidiff exercises start                          the exercises, in minidiff-exercises/\n"
                 "  minidiff exercises check sum_to                   is it right, and if not, why?\n"
                 "  minidiff exercises watch                          check each file when it is saved\n"
                 "  minidiff exercises hint sum_to                    the next of three\n"
                 "  minidiff exercises swap conv2d_backward           train with yours in the library's place\n"
                 "  minidiff exercises lab                            a training script with a fault to be found\n"
                 "  minidiff exercises setup class --names ada,emmy   a folder for each learner")
    p.set_defaults(action=None, dir=None, chapter=None)
    actions = p.add_subparsers(title="actions", metavar="ACTION", dest="action")

    def action(name: str, text: str, folder: bool = True) -> argparse.ArgumentParser:
        one = _command(actions, name, _exercises, text)
        if folder:
            one.add_argument("--dir", metavar="DIR", help="the folder of exercises (default: this one, or minidiff-exercises in it)")
        return one

    action("start", "write the exercises; no file is overwritten", False).add_argument(
        "folder", nargs="?", default="minidiff-exercises", metavar="DIR", help="default: %(default)s")
    listed = action("list", "all exercises, and how far they are")
    listed.add_argument("--chapter", type=int, metavar="N", help="those of this chapter alone")
    check = action("check", "are they right? without names, all that have been begun")
    check.add_argument("names", nargs="*", metavar="NAME", help="names or numbers of exercises, their files, or labs")
    check.add_argument("--seconds", type=float, metavar="S", help="how long each may take (default: 20, kernels 180, labs 300)")
    action("watch", "check each file when it is saved")
    action("hint", "the next of three hints").add_argument("name", metavar="NAME")
    solution = action("solution", "our solution, after yours has passed")
    solution.add_argument("name", metavar="NAME")
    solution.add_argument("--anyway", action="store_true", help="before that, too")
    reset = action("reset", "an exercise as it was given out; your file is kept as .bak")
    reset.add_argument("names", nargs="+", metavar="NAME")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    swap = action("swap", "train and draw with your function in the library's place")
    swap.add_argument("name", metavar="NAME")
    swap.add_argument("--train", type=int, default=20, metavar="N", help="steps (default: %(default)s)")
    swap.add_argument("--anyway", action="store_true", help="though it is wrong: see what the mistake does")
    action("lab", "a training script with one fault, to be named and repaired").add_argument(
        "name", nargs="?", metavar="LAB", help="lab_01 … lab_15, or a case of the clinic (default: the next one)")
    setup = action("setup", "for teachers: a folder of exercises for each learner", False)
    setup.add_argument("folder", metavar="DIR")
    setup.add_argument("--names", required=True, metavar="A,B,C", help="of the learners")
    setup.add_argument("--labs", type=int, default=3, metavar="N", help="for each, others for everybody (default: %(default)s)")
    export = action("export", "write your progress to a file for the teacher; it holds no code")
    export.add_argument("file", metavar="FILE.json")
    export.add_argument("--name", metavar="NAME", help="yours (default: as set up, or the folder's)")
    action("report", "for teachers: the class at a glance", False).add_argument("files", nargs="+", metavar="FILE.json", help="what learners have exported")
    action("prove", "for teachers: are the exercises themselves right?", False).add_argument("--json", metavar="FILE", help="write the figures here too")


# ------------------------------------------------------------------------------------------------ demo, train

def _demo(args: argparse.Namespace) -> int:
    from .train.demo import demo

    outcome = demo(args.out, args.minutes, seed=args.seed)
    if outcome.finished:
        return 0
    return _report(outcome, Path(args.out) / "run")


OVERRIDES = ("start", "data", "augment", "style", "epochs", "steps", "batch", "lr", "ema", "drop", "clip", "limit", "seed", "device", "precision", "threads",
             "sheet_every", "checkpoint_every")


def _train(args: argparse.Namespace) -> int:
    from .train import ranks, settings, trainer_of
    from .train.distributed import ending_all

    group = ranks()
    with ending_all(group):
        config = _recipe(args, _stored_config(args) if args.resume else None)
        config = settings.apply(config.replace(**_overrides(args, config.schedule)), args.set)
        out = Path(args.out or _default_out(config.data, config.preset))
        trainer = trainer_of(group, config, out, args.resume, minutes=args.minutes)
        if group.first:
            _announce(trainer, config, out, args.resume)
        outcome = trainer.run()
    return _report(outcome, out, args.minutes) if group.first else 0


MOST_CLASSES = 30          # that are printed with their counts


def _announce(trainer: Any, config: Any, out: Path, resumed: bool) -> None:
    print(f"{config}\n{'parameters':<16}  {trainer.model.num_parameters():,}\n{'out':<16}  {out}")
    facts = trainer.data_facts()
    counts = [f"{name} ({count:,})" for name, count in facts["classes"].items()]
    more = f" and {len(counts) - MOST_CLASSES:,} more" if len(counts) > MOST_CLASSES else ""
    print(f"{'classes':<16}  {len(counts)}: {', '.join(counts[:MOST_CLASSES])}{more}\n{'held out':<16}  {facts['held_out']:,} images")
    for note in facts["notes"]:
        print(f"{'note':<16}  {note}")
    if trainer.group.size > 1:
        print(f"{'processes':<16}  {trainer.group.size}, each with {trainer.loader.local_batch_size} of {config.batch} images a step")
    if trainer.step >= trainer.total:
        print(f"this run is finished: step {trainer.step} of {trainer.total}; --steps or --epochs asks for more")
    elif resumed:
        print(f"going on after step {trainer.step}")


def _default_out(data: str, preset: str) -> str:
    return str(Path("runs") / f"{Path(data).expanduser().resolve().name}-{preset}")             # of a folder of images, its name alone


def _stored_config(args: argparse.Namespace) -> Any:
    """The recipe of the run that is to be gone on with, so that its options need not be given again."""
    from .train.config import Config
    from .train.folder import newest_readable

    base = _recipe(args)
    args.out = Path(args.out or _default_out(args.data or base.data, base.preset))
    meta = newest_readable(args.out).meta
    return Config.from_json(meta["config"]) if meta.get("config") else None


def _overrides(args: argparse.Namespace, schedule: dict[str, Any]) -> dict[str, Any]:
    """What the options change in the recipe."""
    given = {name: getattr(args, name) for name in OVERRIDES if getattr(args, name) is not None}
    changes: dict[str, Any] = {}
    if args.schedule is not None:
        changes["name"] = args.schedule
    if args.T is not None:
        changes["T"] = args.T
    if changes:
        # The other fields belong to the schedule of this name alone (beta_start of the linear one, say).
        same = changes.get("name", schedule["name"]) == schedule["name"]
        given["schedule"] = {**(schedule if same else {"T": schedule["T"]}), **changes}
    return given


def _report(outcome: Any, out: Path, minutes: float | None = None) -> int:
    from .train.progress import clock
    from .train.records import typed

    if outcome.finished:
        print(f"{outcome.step} steps in {clock(outcome.seconds)}, loss {outcome.loss:.4f}; wrote {outcome.path}\n"
              f"next: {typed('sample', out, '--out', out / 'samples.png')}\n"
              f"      {typed('plot', out, '--out', out / 'loss.png')}")
        return 0
    print(f"stopped at step {outcome.step} of {outcome.total}, saved {outcome.path}\n"
          f"to go on: {typed('train', '--out', out, '--resume', *(() if minutes is None else ('--minutes', f'{minutes:g}')))}", file=sys.stderr)
    return 128 + int(outcome.signal or 0)


# ------------------------------------------------------------------------------------------------ sample

def _sample(args: argparse.Namespace) -> int:
    from .train import ranks
    from .train.distributed import ending_all

    group = ranks()
    with ending_all(group):
        return _sample_among(group, args)


def _sample_among(group: Any, args: argparse.Namespace) -> int:
    import numpy as np

    from . import backend, diffusion
    from .train import load_model
    from .train.demo import Film

    out = _writable_file(Path(args.out), (".png", ".gif", ".webp", ".npz"))
    for name in ("per_class", "batch"):
        if getattr(args, name) < 1:
            raise BadInput(f"sample: --{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    if args.seed < 0:
        raise BadInput(f"sample: --seed must be at least 0, got {args.seed}")
    _check_precision("sample", args)
    loaded = load_model(args.model, backend.resolve_device(args.device))
    labels = np.repeat(np.array(parse_classes(args.classes, loaded.classes), np.int64), args.per_class)
    options, T = _sampling("sample", args, loaded), loaded.schedule.T
    if args.guidance and options["guidance"].negative == -1 and (labels == -1).all():
        raise BadInput(f"sample: --guidance {args.guidance:g} does nothing without a class; leave it out, or give --classes or --negative")
    mine = labels[group.part(len(labels))]
    film = Film(len(mine), diffusion.time_steps(T, args.steps)) if out.suffix.lower() in (".gif", ".webp") else None
    with backend.precision(args.precision):
        images = _shared_out(group, loaded, labels, {**options, "batch_size": args.batch, "callback": film})
        if film is not None:
            film.xt = _joined(group.gather(film.xt), axis=1)
    if not group.first:
        return 0
    _write_samples(out, images, labels, loaded, args, film)
    print(f"wrote {out}: {_counted(len(images), 'image')} ({args.sampler}, {_counted(args.steps or T, 'step')}, guidance {options['guidance'].w:g}, "
          f"seed {args.seed})")
    return 0


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _shared_out(group: Any, loaded: Any, labels: Any, options: dict[str, Any]) -> Any:
    """Pictures of these labels, drawn by all processes of the group, each a stretch of them; whole for the first.

    Picture i is a function of the seed and i, so they are the pictures that one process would draw.
    """
    import numpy as np

    from . import diffusion
    from .train.distributed import share_machine

    share_machine(group, backend.device_of(next(iter(loaded.model.parameters())).data))
    part = group.part(len(labels))
    known = np.full_like(labels, -1) if options["guidance"].alone else labels      # a style would say something of a class that is not told
    style = told_styles(loaded.style, known[part], options["seed"], options["style"], part.start)
    with np.errstate(over="ignore", invalid="ignore"):            # whether the samples are finite is checked, and said in one line
        images = diffusion.sample(loaded.model, loaded.schedule, labels[part], **{**options, "style": style}, first=part.start,
                                  progress=group.first and sys.stderr.isatty())  # fmt: skip
    return _joined(group.gather(images))


class _Counted:
    """A context in which the pictures that a network is asked about are counted."""

    def __init__(self, model: Any) -> None:
        self.model, self.pictures = model, 0

    def __enter__(self) -> _Counted:
        forward = self.model.forward

        def counting(x: Any, *more: Any) -> Any:
            self.pictures += len(x)
            return forward(x, *more)

        self.model.forward = counting
        return self

    def __exit__(self, *_: object) -> None:
        del self.model.forward


def _joined(parts: Sequence[Any], axis: int = 0) -> Any:
    """Arrays behind each other; those that are empty, of processes that had nothing to do, left out."""
    import numpy as np

    return np.concatenate(some, axis) if (some := [part for part in parts if part.size]) else np.empty(0)


def parse_classes(text: str | None, classes: Sequence[str]) -> list[int]:
    """``"1,7,0-2"`` -> [1, 7, 0, 2]: labels in the order given, each once; None means all. See `data.find_classes`."""
    from .data import find_classes

    return list(range(len(classes))) if text is None else find_classes("sample", text, classes)


def _writable_file(path: Path, endings: Sequence[str], option: str = "--out") -> Path:
    """Refuse an ending we cannot write and a folder that we may not, before the long work rather than after it."""
    from .train.folder import check_writable

    if path.suffix.lower() not in endings:
        raise BadInput(f"{option} {path}: unknown ending '{path.suffix}'; it must be {', '.join(endings)}")
    if path.is_dir():
        raise BadInput(f"{option} {path}: is a folder; give a file")
    check_writable(path.parent)
    return path


def _write_samples(out: Path, images: Any, labels: Any, loaded: Any, args: argparse.Namespace, film: Any) -> None:
    from . import viz
    from .evaluate import check_finite, kept_until_drawn, write_samples

    check_finite(images)
    if out.suffix.lower() == ".npz":
        write_samples(out, labels, [images])
        return
    with kept_until_drawn(out, images, labels):
        if film is not None:
            viz.animation(film.xt, out, columns=args.per_class)
        else:
            viz.save(viz.class_grid(images, labels, loaded.classes), out)


# ------------------------------------------------------------------------------------------------ evaluate

def _evaluate(args: argparse.Namespace) -> int:
    from .train import ranks
    from .train.distributed import ending_all

    group = ranks()
    with ending_all(group):
        return _evaluate_among(group, args)


def _evaluate_among(group: Any, args: argparse.Namespace) -> int:
    import json
    import time

    from .evaluate import is_samples, kept_until_drawn, read_samples
    from .files import atomic_path
    from .train import records

    out = _writable_file(Path(args.json), (".json",), "--json") if args.json else None
    card = _writable_file(Path(args.card), (".png", ".pdf", ".svg"), "--card") if args.card else None
    if args.seed < 0:
        raise BadInput(f"evaluate: --seed must be at least 0, got {args.seed}")
    _check_reference(args.reference)
    clip = _clip(args) if group.first else None
    start = time.perf_counter()
    if is_samples(args.model):
        _check_only_models(args)
        images, labels = read_samples(args.model)
        if clip is not None and (labels.min() < 0 or labels.max() > 9):
            raise BadInput(f"evaluate: CLIP is asked for digits, 0 to 9; {Path(args.model).name} has labels from {labels.min()} to {labels.max()}")
        drawn: dict[str, Any] = {"samples": Path(args.model).name}
    else:
        images, labels, drawn = _draw(args, group)
    if not group.first:
        return 0
    # Samples that took long to draw are not lost where something fails that is asked for beside the figures.
    files = [path for path in (card, out) if path] if "model" in drawn else []
    with kept_until_drawn(files[0], images, labels) if files else contextlib.nullcontext():
        why_not = _why_no_report(args.reference, labels, card or args.pupil)
        verdict = _judged(images, labels, args.reference, why_not)
        taught = {"pupil": _taught(images, labels, args.reference, args.seed)} if args.pupil else {}
        seen = {} if clip is None else {"clip": _seen_by_clip(images, labels, clip, args.reference)}
        if out:
            record = {"command": records.command_line(), "commit": records.commit(), "time": records.now(), **drawn,
                      "seconds": round(time.perf_counter() - start, 1), "versions": records.versions(), **verdict.to_json(), **taught, **seen}
            with atomic_path(out) as temporary:
                temporary.write_text(json.dumps(record, indent=1) + "\n")
            print(f"wrote {out}")
        if card:
            _draw_card(verdict, args.reference, card, Path(args.model).name)
    return 0


def _clip(args: argparse.Namespace) -> Any:
    """The CLIP that is asked for, before the long work rather than after it; None if none is."""
    from .evaluate import load_clip

    if args.clip is None:
        if args.clip_weights is not None:
            raise BadInput("evaluate: --clip-weights needs --clip, the model that they belong to")
        return None
    return load_clip(args.clip, args.clip_weights, args.device)


def _taught(images: Any, labels: Any, reference: str, seed: int) -> dict[str, Any]:
    """What a classifier learns from the samples alone, printed, as JSON values."""
    from .evaluate import pupils

    found = pupils(images, labels, reference, seed=seed, progress=sys.stderr.isatty())
    print(found)
    return found.to_json()


def _seen_by_clip(images: Any, labels: Any, clip: Any, reference: str) -> dict[str, Any]:
    """CLIP's report, printed, as JSON values; the controls are drawn digits where the reference is not here, or has no digits."""
    from . import data
    from .evaluate import evaluate_clip

    ready = reference == "mnist" and data.find_mnist() is not None
    report = evaluate_clip(images, labels, clip, reference if ready else "glyphs", progress=sys.stderr.isatty())
    print(f"\n{report}")
    return report.to_json()


def _check_reference(reference: str) -> None:
    """Raises BadInput for what is no data set of digits."""
    if reference not in ("none", *DIGITS):
        raise BadInput(f"evaluate: unknown --reference '{reference}'; it is none or one of {', '.join(DIGITS)}, for the judge knows digits")


DIGITS = ("mnist", "glyphs")


def _why_no_report(reference: str, labels: Any, needed: Any) -> str:
    """Why samples of these labels cannot be held against a data set, or nothing. Raises BadInput where a card or a pupil needs it."""
    import numpy as np

    from . import data

    n, (least, most) = len(labels), (100, {"mnist": 10_000, "glyphs": 2000}.get(reference, 0))
    rare = [label for label, count in zip(*np.unique(labels, return_counts=True), strict=True) if count < 2 or label < 0]
    if reference == "none":
        why = "without a --reference"
    elif reference not in {entry.name for entry in data.available() if entry.ready}:
        why = f"{reference} is not on this machine; minidiff data fetch {reference}"
    elif not least <= n <= most:
        why = f"{n:,} samples are too {'few' if n < least else 'many'} to be held against {reference}; {least} to {most:,} would do"
    else:
        why = f"class {rare[0]} has too few samples, or is none" if rare else ""
    if why and needed:
        raise BadInput(f"evaluate: neither card nor pupil: {why}")
    return why


def _judged(images: Any, labels: Any, reference: str, why_not: str) -> Any:
    """The whole report on samples, printed; or the judge's verdict alone, where there is nothing to hold them against."""
    from .evaluate import evaluate_samples, judge_samples

    if why_not:
        verdict = judge_samples(images, labels)
        print(f"{verdict}\n(the judge's verdict alone: {why_not})")
        return verdict
    report = evaluate_samples(images, labels, reference)
    print(report)
    return report


def _draw_card(report: Any, reference: str, card: Path, title: str) -> None:
    from . import data, viz

    viz.save(viz.report_card(report, data.load(reference).images, title), card)
    print(f"wrote {card}")


def _draw(args: argparse.Namespace, group: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Samples of every class, their labels, and how they were drawn, by all processes of the group."""
    import numpy as np

    from . import data
    from .evaluate import check_finite, check_judgeable, in_proportion
    from .train import load_model

    if args.n < 1:
        raise BadInput(f"evaluate: --n must be at least 1, got {args.n}")
    _check_precision("evaluate", args)
    loaded = load_model(args.model, backend.resolve_device(args.device))
    labels = np.arange(args.n) % len(loaded.classes)
    if args.steps is None and args.sampler != "ddpm":
        args.steps = min(FEW_STEPS, loaded.schedule.T)
    options = _sampling("evaluate", args, loaded)
    check_judgeable(loaded)
    if not _why_no_report(args.reference, labels, args.card or args.pupil):
        labels = in_proportion(data.load(args.reference).labels, args.n)
    with backend.precision(args.precision), _Counted(loaded.model) as counted:
        images = _shared_out(group, loaded, labels, options)
    if group.first:
        check_finite(images)
    g, _ = options.pop("guidance"), options.pop("style")
    options["clip_x0"] = options.pop("clip")              # in the record "clip" is what CLIP says
    how = {**options, "network_evaluations": sum(group.all(counted.pictures)), **({} if loaded.style is None else {"style": args.style or ("drawn" if loaded.style.quantiles else None)}), "guidance": g.w, "guidance_interval": list(g.interval), "guidance_rescale": g.rescale, "negative": g.negative,
           **({} if g.classifier is None else {"judge": g.strength, "judge_alone": g.alone})}  # fmt: skip
    return images, labels, {"model": args.model, **how}


# ------------------------------------------------------------------------------------------------ the others

def _export(args: argparse.Namespace) -> int:
    from .train import export

    out = export(args.model, _writable_file(Path(args.out), (".npz",)), half=args.half)
    print(f"wrote {out}: {out.stat().st_size / 1e6:.1f} MB in {'float16' if args.half else 'float32'}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from .train import settings
    from .train.state_dicts import main_import

    config = _recipe(args)
    config = settings.apply(config.replace(data=args.data or config.data), args.set)
    return main_import(args.file, config, _writable_file(Path(args.out), (".npz",)), chosen=args.data is not None)


def _runs(args: argparse.Namespace) -> int:
    from .train.runs import main_runs

    return main_runs(args.folder)


def _summary(args: argparse.Namespace) -> int:
    from . import models
    from .train import load_model
    from .train.config import preset

    if args.model and args.preset:
        raise BadInput("summary: give a model or --preset, not both")
    if args.model:
        print(load_model(args.model).model.summary())
    else:
        print(models.build(preset(args.preset or "report").model).summary())
    return 0


def _plot(args: argparse.Namespace) -> int:
    from . import viz
    from .train.demo import loss_picture
    from .train.records import read_metrics, validation_losses

    out = _writable_file(Path(args.out), (".png", ".pdf", ".svg"))
    if len(args.runs) == 1 and not args.validation:
        viz.save(loss_picture(Path(args.runs[0])), out)
    else:
        curves = {}
        for name, run in zip(_short_names(args.runs), args.runs, strict=True):
            rows = read_metrics(run)
            pairs = validation_losses(rows) if args.validation else [(row["step"], row["loss"]) for row in rows]
            if not pairs:
                raise BadInput(f"{run}: no {'held-out ' if args.validation else ''}loss has been recorded yet")
            curves[name] = tuple(zip(*pairs, strict=True))
        kind = "held-out loss" if args.validation else "training loss"
        viz.save(viz.compare_curves(curves, ylabel=f"{kind} (mean squared error)", log=True), out)
    print(f"wrote {out}")
    return 0


def _short_names(runs: Sequence[str]) -> list[str]:
    """The runs' folder names, or their whole paths where two would be the same."""
    folders = [path.parent if (path := Path(run)).name == "metrics.jsonl" else path for run in runs]
    names = [folder.name or str(folder) for folder in folders]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _data_fetch(args: argparse.Namespace) -> int:
    from . import data

    open_line = False

    def progress(name: str, done: int, size: int) -> None:
        nonlocal open_line
        share = f"{100 * done / size:3.0f} %" if size else f"{done / 1e6:.1f} MB"
        open_line = not (size and done == size)
        print(f"\r{name}  {share}", end="" if open_line else "\n", file=sys.stderr, flush=True)

    try:
        folder = data.fetch(args.name, progress=progress if sys.stderr.isatty() else None)
    finally:
        if open_line:                                     # of a file whose size no one has said, or that was not fetched to its end
            print(file=sys.stderr)
    print(f"{args.name}: ready{f', in {folder}' if folder else ''}")
    return 0


def _data_verify(args: argparse.Namespace) -> int:
    from . import data

    names = [args.name] if args.name else [entry.name for entry in data.available() if entry.ready]
    checks = [check for name in names for check in data.verify(name)]
    for check in checks:
        print(check)
    return 0 if all(check.ok for check in checks) else 1


def _data_list(args: argparse.Namespace) -> int:
    from . import data

    for entry in data.available():
        print(entry)
    return 0


def _bench(args: argparse.Namespace) -> int:
    from .bench import main_bench

    return main_bench(args)


def _kernels(args: argparse.Namespace) -> int:
    from .bench.kernels import main_kernels

    if args.json:
        args.json = _writable_file(Path(args.json), (".json",), "--json")
    return main_kernels(args)


def _gradcheck(args: argparse.Namespace) -> int:
    from .checks.command import main_gradcheck

    if args.mutants and (args.order != "both" or args.dtype):
        raise BadInput("gradcheck: --mutants makes checks of its own; give it without --order and --dtype")
    record = _writable_file(Path(args.json), (".json",), "--json") if args.json else None
    figure = _writable_file(Path(args.figure), (".png", ".pdf", ".svg"), "--figure") if args.figure else None
    return main_gradcheck(args, record, figure)


def _exercises(args: argparse.Namespace) -> int:
    if getattr(args, "json", None):
        args.json = _writable_file(Path(args.json), (".json",), "--json")
    from .exercises.command import main_exercises

    return main_exercises(args)


def _book(args: argparse.Namespace) -> int:
    from .book.command import main_book, main_numbers

    if args.numbers:
        if args.alone or args.json:
            raise BadInput("book: --numbers builds no book; give it without --alone and --json")
        return main_numbers()
    return main_book(args, _writable_file(Path(args.json), (".json",), "--json") if args.json else None)
