"""``minidiff demo``: from nothing to drawn digits in a few minutes, and pictures of every part of the way."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, diffusion, viz
from ..errors import BadInput
from ..evaluate import check_finite, kept_until_drawn
from . import checkpoint, records
from .config import preset
from .folder import check_writable, clear
from .lock import in_use
from .trainer import Outcome, Trainer

MARKER = ".minidiff-demo"             # says that a folder is the demo's own to write into again
SAMPLING: dict[str, Any] = {"sampler": "ddpm", "steps": 50}


def demo(out: str | Path, minutes: float = 3.0, *, seed: int = 0, progress: bool = True,
         say: Callable[[str], None] = print) -> Outcome:
    """Train ``tiny`` for about ``minutes``, then draw the forward process, the loss, the reverse process and digits.

    Takes MNIST where its files are at hand and the embedded glyphs otherwise; never uses the network. ``out`` must
    be new, empty, or made by an earlier demo, whose files are then replaced.
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise BadInput(f"demo: minutes must be a finite number above 0, got {minutes}")
    out = Path(out)
    name = "mnist" if data.find_mnist() else "glyphs"
    # The pictures at the end show what sheets on the way would, so the time goes into training.
    config = replace(preset("tiny"), data=name, seed=seed, sheet_every=0)
    _claim(out)
    say(f"training a small diffusion model on {_described(name)}, about {minutes:g} minutes ...")
    trainer = Trainer(config, out / "run", minutes=minutes, progress=progress)
    outcome = trainer.run()
    if outcome.finished:
        say("drawing ...")
        made = draw(out, seed)
        _tell(out, name, outcome, made, say)
    return outcome


def _described(name: str) -> str:
    if name == "mnist":
        return "MNIST, handwritten digits"
    return "glyphs, digits drawn from fonts (no MNIST files at hand: see minidiff data fetch mnist)"


def _claim(out: Path) -> None:
    """Make the folder ours, or refuse one with something else in it."""
    marker = out / MARKER
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: is a file; give a folder as --out")
    if out.is_dir() and any(out.iterdir()) and not marker.exists():
        raise BadInput(f"{out}: holds files that no demo made; give a new or an empty folder as --out")
    if busy := in_use(out / "run"):
        raise BadInput(busy)
    check_writable(out)
    out.mkdir(parents=True, exist_ok=True)
    marker.write_text("This folder was made by `minidiff demo`, which may write into it again.\n", encoding="utf-8")
    clear(out / "run")


# ------------------------------------------------------------------------------------------------ drawing

def draw(out: Path, seed: int = 0) -> dict[str, str]:
    """All pictures of the finished run in ``out/run``; returns what each file shows."""
    loaded = checkpoint.load_model(out / "run")
    guidance = loaded.config.guidance if loaded.config else 0.0
    labels = np.repeat(np.arange(len(loaded.classes)), 10)
    film = Film(len(labels), diffusion.time_steps(loaded.schedule.T, SAMPLING["steps"]))
    with np.errstate(over="ignore", invalid="ignore"):
        images = diffusion.sample(loaded.model, loaded.schedule, labels, guidance=guidance, seed=seed, callback=film,
                                  **SAMPLING)
    check_finite(images)
    with kept_until_drawn(out / "digits.png", images, labels):
        return _drawn(out, loaded, images, labels, film, seed)


def _drawn(out: Path, loaded: checkpoint.Loaded, images: np.ndarray, labels: np.ndarray, film: Film, seed: int) -> dict[str, str]:
    first = np.arange(0, len(labels), 10)                    # one sample of each class
    made = {
        "digits.png": "100 new digits, ten of each class",
        "denoising.gif": "how forty of them came out of noise",
        "film.png": "five of them step by step: x_t, and the digit the model expected then",
        "forward.png": "how training images drown in noise",
        "loss.png": "the training loss",
    }
    viz.save(viz.class_grid(images, labels, loaded.classes), out / "digits.png")
    some = np.concatenate([first + k for k in range(4)])
    viz.animation(film.xt[:, some], out / "denoising.gif", columns=len(first))
    rows = first[::2]
    viz.save(viz.film_strip(film.xt[:, rows].swapaxes(0, 1), film.steps, x0_hat=film.x0_hat[:, rows].swapaxes(0, 1),
                            labels=labels[rows], class_names=loaded.classes), out / "film.png")
    viz.save(_forward(loaded, seed), out / "forward.png")
    viz.save(loss_picture(out / "run"), out / "loss.png")
    return made


class Film:
    """A callback for :func:`minidiff.diffusion.sample` that keeps x_s and x̂_0 at some moments of the way.

    times: the steps that the sampler takes, T … 0, as :func:`minidiff.diffusion.time_steps` gives them. Kept are at
    most ``moments`` of them, evenly spread, the last one (s = 0, the finished image) always. Afterwards ``xt`` and
    ``x0_hat`` are (K,N,C,H,W) and ``steps`` (K,), the values of s.
    """

    def __init__(self, samples: int, times: Sequence[int], moments: int = 40) -> None:
        count = len(times) - 1                                   # the first is where the noise starts from
        kept = np.unique(np.rint(np.linspace(1, count, min(count, moments))).astype(int))
        self.samples, self._place = samples, {int(step): k for k, step in enumerate(kept)}
        self.steps = np.array(times)[kept]
        self.xt: np.ndarray = np.empty(0)
        self.x0_hat: np.ndarray = np.empty(0)

    def __call__(self, step: int, s: int, xs: np.ndarray, x0_hat: np.ndarray, indices: np.ndarray) -> None:
        if not self.xt.size:
            shape = (len(self.steps), self.samples, *xs.shape[1:])
            self.xt, self.x0_hat = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        if step in self._place:
            self.xt[self._place[step], indices] = xs
            self.x0_hat[self._place[step], indices] = x0_hat


def _forward(loaded: checkpoint.Loaded, seed: int) -> Any:
    """Four held-out images at ten steps of the forward process, the same noise all the way."""
    assert loaded.config is not None
    held_out = data.load(loaded.config.data, "test", limit=200)
    chosen = [int(np.flatnonzero(held_out.labels == digit)[0]) for digit in (2, 5, 7, 9)]
    x0 = data.to_model(held_out.images[chosen], size=loaded.config.image_size)               # (4,C,H,W)
    eps = np.random.default_rng(seed).standard_normal(x0.shape, dtype=np.float32)
    steps = np.rint(np.linspace(0, loaded.schedule.T, 10)).astype(int)
    frames = [diffusion.q_sample(loaded.schedule, x0, np.full(len(x0), t), eps) for t in steps]
    return viz.forward_strip(np.stack(frames, 1), steps, loaded.schedule.alpha_bar)


def loss_picture(run: Path) -> Any:
    """The loss of a run against its steps, with the held-out loss where it was measured."""
    rows = records.read_metrics(run)
    if not rows:
        raise BadInput(f"{run}: no step has been recorded yet")
    held_out = records.validation_losses(rows)
    return viz.loss_curve([row["step"] for row in rows], [row["loss"] for row in rows],
                          validation=tuple(zip(*held_out, strict=True)) if held_out else None,
                          epochs=[row["epoch"] for row in rows])


def _tell(out: Path, name: str, outcome: Outcome, made: dict[str, str], say: Callable[[str], None]) -> None:
    """What there is now, and commands that go on from it."""
    say(f"\n{outcome.step} steps in {outcome.seconds / 60:.1f} minutes, loss {outcome.loss:.4f}. In {out}/:")
    for file, shows in made.items():
        say(f"  {file:<14} {shows}")
    say(f"  {'run/':<14} the model, its record, metrics, checkpoints and sample sheets")
    say("\nGo on:")
    sample = records.typed("sample", out / "run", "--classes", "3,7", "--per-class", 8, "--out", out / "mine.png")
    train = records.typed("train", "--data", name, "--preset", "mnist", "--out", f"runs/{name}")
    say(f"  {sample}\n  {train}      the full-size model, an hour or so")
