"""The training loop, and everything around it that a long run needs: it can be watched, stopped and gone on with."""
from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend, data, diffusion, models, optim
from ..autograd import no_grad
from ..errors import BadInput
from ..philox import Rng
from . import checkpoint, records
from .config import FREE_ON_RESUME, Config
from .graph import GraphStep, obstacle
from .progress import Progress, Silent

SMOOTHING = 0.98                      # of the loss shown and recorded as final: a mean over about 50 steps
REPLAN = 20                           # steps between two looks at the clock when a time budget is set
LOOK = 25                             # steps on the GPU between two looks at their losses, for which it must be waited for
VALIDATION_SEED = 20_000              # fixes t and eps of the held-out loss, the same for every run


class Diverged(BadInput):
    """The loss or its gradient is no longer a number; the message names the last good checkpoint."""


@dataclass(frozen=True)
class Outcome:
    """How :meth:`Trainer.run` ended."""

    step: int
    total: int
    loss: float                       # smoothed training loss
    seconds: float                    # of training, over all launches
    path: Path                        # the final model, or the checkpoint to go on from
    signal: int | None = None         # SIGINT or SIGTERM when one stopped the run

    @property
    def finished(self) -> bool:
        return self.signal is None


class Trainer:
    """Trains one model by one :class:`Config` in one folder.

    ``out`` receives ``record.json``, ``metrics.jsonl`` (one JSON object a step), ``sheets/``,
    ``checkpoints/step_XXXXXXXX.npz`` and at the end ``model.npz``. A folder that already holds a run is refused
    unless ``resume`` is true; then everything, random generators and position in the data included, is taken from the
    newest checkpoint, and on the CPU with the same number of threads the weights that follow are bit for bit those of
    an uninterrupted run.

    ``minutes`` bounds the training time: the number of steps, and with it the cosine, is planned anew every
    few steps from the measured speed, so that the run ends annealed on any machine.
    """

    def __init__(self, config: Config, out: str | Path, resume: bool = False, *, minutes: float | None = None,
                 progress: bool = True) -> None:
        if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
            raise BadInput(f"train: minutes must be a finite number above 0, got {minutes}")
        self.config, self.out, self.minutes = config, Path(out), minutes
        self._show_progress = progress
        backend.resolve_device(config.device)
        if config.precision != "fp32" and config.device == "cpu" and backend.get_kernels() not in ("rounded", "emulated"):
            raise BadInput(f"train: precision {config.precision} is the GPU's; the CPU computes in fp32; use device cuda, or imitate"
                           " it with MINIDIFF_KERNELS=rounded")  # fmt: skip
        if not data.known(config.data):
            raise BadInput(f"train: unknown data set '{config.data}'; there are {', '.join(data.NAMES)}, or give the path of a folder of images")
        self.schedule = diffusion.make_schedule(**config.schedule)
        saved = self._find_saved(resume)
        if config.threads is not None:
            backend.set_num_threads(config.threads)
        self._build()
        self.launches: list[dict[str, Any]] = []
        if saved is not None:
            self._restore(saved)

    # -------------------------------------------------------------------------------------------- building

    def _find_saved(self, resume: bool) -> Path | None:
        """The checkpoint to go on from, after refusing folders that fit neither a fresh run nor a resumed one."""
        path = checkpoint.latest(self.out)
        if resume and path is None:
            raise BadInput(f"{self.out}: no checkpoint to resume from; start a run there without --resume")
        if not resume and holds_run(self.out):
            raise BadInput(f"{self.out}: holds a run already; go on with it by --resume, or give another --out")
        check_writable(self.out)
        return path

    def _build(self) -> None:
        c = self.config
        backend.manual_seed(c.seed)
        train = data.load(c.data, "train", limit=c.limit, size=c.image_size)
        self.classes = tuple(train.classes)
        values = data.style_values(train, c.style)
        self.style = data.StyleScale.of(values, c.style) if c.style else None
        self.loader = data.DataLoader(train, c.batch, seed=c.seed, size=c.image_size,
                                      style=None if self.style is None else self.style.told(values))
        channels = 1 if train.images.ndim == 3 else train.images.shape[1]
        style_dim = {"style_dim": len(c.style)} if c.style else {}
        self.model = models.build({"in_channels": channels, "image_size": c.image_size,
                                    "num_classes": len(self.classes), **style_dim, **c.model}).to(c.device)
        self.optimizer = _optimizer(c, self.model)
        self.total = c.total_steps(self.loader.batches_per_epoch)
        self.lr_schedule = _lr_schedule(c, self.optimizer, self.total)
        self.ema = optim.EMA(self.model, decay=c.ema) if c.ema else None
        self.graph: GraphStep | None = None
        self.step, self.seconds = 0, 0.0
        self._loss_sum = self._loss_weight = 0.0

    # -------------------------------------------------------------------------------------------- the loop

    def run(self) -> Outcome:
        """Train to the end, or until SIGINT or SIGTERM asks to stop. Raises :class:`Diverged` on a NaN."""
        started, first = records.now(), self.step
        self.launches.append({"command": records.command_line(), "started": started, "from_step": first})
        (self.out / "checkpoints").mkdir(parents=True, exist_ok=True)
        if self.step == 0:
            self.save()                                   # the state to fall back on, and the mark of a run
        self._record("running")
        self.metrics = records.Metrics(self.out / "metrics.jsonl", self.step)
        self.progress = Progress(self._title(), self.total, self.step) if self._show_progress else Silent()
        try:
            self.graph = self._graph_step()
            with _signals() as caught:
                while self.step < self.total and not caught:
                    self._one_step() if self.graph is None else self._burst()
            outcome = self._stopped(caught[0]) if caught and self.step < self.total else self._finish()
        except Diverged:
            self._record("diverged")
            raise
        except MemoryError:                               # CuPy's is one too
            self._record("stopped")
            raise BadInput(self._too_large()) from None
        finally:
            self.metrics.close()
            self.progress.close()
            self.loader.close()
        return outcome

    def _graph_step(self) -> GraphStep | None:
        """The step that stays on the GPU, where the model is there and can be trained by it."""
        c = self.config
        if self.style is not None or obstacle(self.model, self.optimizer) is not None:    # style lies with the CPU's loader
            return None
        dataset = self.loader.dataset
        images = dataset.images[:, None] if dataset.images.ndim == 3 else dataset.images
        return GraphStep(self.model, self.schedule, self.optimizer, self.ema, images, dataset.labels.astype(np.int64),
                         c.batch, c.image_size, c.seed, c.drop, c.clip, c.weighting, c.times)  # fmt: skip

    def _one_step(self) -> None:
        """One optimiser step and what is due after it."""
        clock, lr = time.perf_counter(), self.optimizer.lr
        results = [(*self.update(*next(self.loader)), lr)]
        self._after(results, time.perf_counter() - clock)

    def _burst(self) -> None:
        """Steps on the GPU up to the next one after which something is due, or LOOK of them, and what is due then."""
        due = [every - self.step % every for every in (self.config.checkpoint_every, self.config.sheet_every, REPLAN) if every]
        first, clock, lrs = self.step, time.perf_counter(), []
        self.graph.begin()
        with backend.precision(self.config.precision):
            for _ in range(min(LOOK, self.total - self.step, *due)):
                lrs.append(self.optimizer.lr)
                self.graph.run(self.step, *self.loader.place())
                self.lr_schedule.step()
                self.step += 1
        results = self.graph.losses(range(first, self.step))
        for k, (loss, norm) in enumerate(results):
            if not math.isfinite(loss) or not math.isfinite(norm):
                self.step = first + k
                raise self._diverged(f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}")
        self._after([(*pair, lr) for pair, lr in zip(results, lrs, strict=True)], time.perf_counter() - clock)

    def _after(self, results: list[tuple[float, float, float]], taken: float) -> None:
        """Record steps, given the loss, gradient norm and learning rate of each, and do what is due after the last."""
        self.seconds += taken
        speed = round(len(results) * self.config.batch / taken, 2)
        rows = []
        for step, (loss, norm, lr) in enumerate(results, self.step - len(results) + 1):
            self._smooth(loss)
            rows.append({"step": step, "epoch": round(step / self.loader.batches_per_epoch, 5), "loss": loss, "lr": lr,
                         "grad_norm": norm, "images_per_s": speed, "seconds": round(self.seconds, 3)})  # fmt: skip
        self._replan()
        if self._due(self.config.checkpoint_every):
            self.save()                                   # first, so that nothing in a drawing can lose the step
        if self._due(self.config.sheet_every) or self.step == self.total:
            rows[-1].update(self._look())
        for row in rows:
            self.metrics.write(row)
        self.progress.update(self.step, self.total, {
            "loss": f"{self.smooth_loss:.4f}", "images/s": f"{self.step * self.config.batch / self.seconds:.0f}",
            "lr": f"{results[-1][2]:.1e}"})

    def update(self, x0: np.ndarray, labels: np.ndarray, style: np.ndarray | None = None) -> tuple[float, float]:
        """One gradient step on a batch: the loss before it, and the gradient's norm before clipping."""
        with backend.precision(self.config.precision):
            return self._update(x0, labels, style)

    def _update(self, x0: np.ndarray, labels: np.ndarray, style: np.ndarray | None) -> tuple[float, float]:
        c = self.config
        x0 = backend.to_device(x0, c.device)
        # t, eps and the label dropout are a function of the seed and the step: the same on every device, and nothing
        # that a checkpoint must keep.
        rng = Rng(c.seed, step=self.step, like=x0)
        loss = diffusion.loss(self.model, self.schedule, x0, labels, rng, c.drop, c.weighting, c.times, style)
        value = float(loss.item())
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}")
        loss.backward()
        norm = optim.clip_grad_norm(self.model.parameters(), c.clip or math.inf)
        if not math.isfinite(norm):
            raise self._diverged(f"the gradient's norm is {norm}")
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.lr_schedule.step()
        if self.ema is not None:
            self.ema.update()
        self.step += 1
        return value, float(norm)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _smooth(self, loss: float) -> None:
        self._loss_sum = SMOOTHING * self._loss_sum + (1 - SMOOTHING) * loss
        self._loss_weight = SMOOTHING * self._loss_weight + (1 - SMOOTHING)

    @property
    def smooth_loss(self) -> float:
        """Running mean of the training loss, unbiased from the first step on; NaN before it."""
        return self._loss_sum / self._loss_weight if self._loss_weight else math.nan

    def _replan(self) -> None:
        """With a time budget: as many steps in all as the speed so far lets fit in."""
        if self.minutes is None or self.step % REPLAN:
            return
        left = 60 * self.minutes - self.seconds
        fits = self.step + max(0, int(left * self.step / self.seconds))
        self.total = min(fits, self.config.total_steps(self.loader.batches_per_epoch))
        _plan(self.lr_schedule, self.config, self.total)

    # -------------------------------------------------------------------------------------------- looking at it

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model as one would use it: averaged weights where there are any, eval mode, nothing recorded."""
        self.model.eval()
        try:
            with no_grad(), backend.precision(self.config.precision), self.ema.applied() if self.ema is not None else contextlib.nullcontext():
                yield
        finally:
            self.model.train()

    def _look(self) -> dict[str, float]:
        """Draw a sheet and measure the held-out loss; neither touches the generators of the training."""
        with self._averaged():
            if self.config.sheet_every:
                try:
                    self._sheet()
                except Exception as error:                # hours of training are worth more than a picture of them
                    self.progress.say(f"step {self.step}: no sample sheet ({type(error).__name__}: {error})")
            if not self.config.validate:
                return {}
            loss = self.validation_loss()
        self.progress.say(f"step {self.step}: held-out loss {loss:.4f}")
        return {"validation": round(loss, 6)}

    def validation_loss(self) -> float:
        """Mean loss over ``config.validate`` held-out images, always with the same t and eps."""
        c = self.config
        if not hasattr(self, "_held_out"):
            held_out = data.load(c.data, "test", limit=c.validate, size=c.image_size)
            style = None if self.style is None else self.style.told(data.style_values(held_out, c.style))
            self._held_out = data.to_model(held_out.images, size=c.image_size), held_out.labels, style
        images, labels, style = self._held_out
        total = 0.0
        for start in range(0, len(images), c.batch):
            part = slice(start, start + c.batch)
            x0 = backend.to_device(images[part], c.device)
            rng = Rng(VALIDATION_SEED, first_row=start, like=x0)
            loss = diffusion.loss(self.model, self.schedule, x0, labels[part], rng, drop=0.0, style=None if style is None else style[part])
            total += float(loss.item()) * len(images[part])
        return total / len(images)

    def _sheet(self) -> None:
        """Samples of every class into ``sheets/step_XXXXXXXX.png``."""
        from .. import viz

        c = self.config
        labels = np.tile(np.arange(len(self.classes)), c.sheet_per_class)
        images = diffusion.sample(self.model, self.schedule, labels, sampler=c.sheet_sampler,
                                  steps=min(c.sheet_steps, self.schedule.T), guidance=c.guidance, seed=c.seed)
        sheet = viz.sample_sheet(images, labels, columns=len(self.classes), class_names=self.classes,
                                 step=self.step, loss=self.smooth_loss, title=self._title())
        viz.save(sheet, self.out / "sheets" / f"step_{self.step:08d}.png")

    def _title(self) -> str:
        return f"{self.config.preset} on {self.config.data}"

    # -------------------------------------------------------------------------------------------- saving

    def _meta(self) -> dict[str, Any]:
        """What describes the model, in every kind of checkpoint."""
        return {"config": self.config.to_json(), "model": self.model.config, "schedule": self.schedule.config,
                "classes": list(self.classes), **({} if self.style is None else {"style": self.style.to_json()}), "step": self.step,
                "epoch": round(self.step / self.loader.batches_per_epoch, 5)}

    def save(self) -> Path:
        """Write a checkpoint of everything the next step depends on; drop the oldest ones beyond ``keep``."""
        arrays = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.ema is not None:
            arrays["ema"] = self.ema.state_dict()
        meta = {"kind": "training", **self._meta(), "total_steps": self.total, "seconds": self.seconds,
                "lr_schedule": self.lr_schedule.state_dict(), "loader": self.loader.state_dict(),
                "rng": {"default": backend.default_rng().bit_generator.state},
                "smoothing": [self._loss_sum, self._loss_weight], "threads": backend.get_num_threads()}
        path = checkpoint.save(self._checkpoint(self.step), arrays, meta)
        if hasattr(self, "metrics"):
            self.metrics.flush()
        self._drop_old()
        return path

    def _checkpoint(self, step: int) -> Path:
        return self.out / "checkpoints" / f"step_{step:08d}.npz"

    def _drop_old(self) -> None:
        """Keep the newest ones; never fewer than two, since the newest is proved good only by the step after it."""
        if self.config.keep:
            for path in checkpoint.all_of_run(self.out)[:-max(2, self.config.keep)]:
                path.unlink(missing_ok=True)

    def _restore(self, path: Path) -> None:
        """Take over the state that :meth:`save` wrote."""
        arrays, meta = checkpoint.load(path)
        if meta.get("kind") != "training":
            raise BadInput(f"{path}: holds weights alone; only a training checkpoint can be gone on with")
        checkpoint.load_weights(self.model, arrays["model"], path)
        self._check_same_recipe(path, Config.from_json(meta["config"]))
        if self.minutes is not None:
            self.total = min(self.total, max(meta["step"], meta["total_steps"]))
        if meta["step"] > self.total:
            raise BadInput(f"{path}: this run is at step {meta['step']} already, {self.total} steps in all are "
                           "asked for; ask for more, or give another --out")
        self.optimizer.load_state_dict({k: v.item() if v.ndim == 0 else v for k, v in arrays["optimizer"].items()})
        if self.ema is not None:
            self.ema.load_state_dict({k: v.item() if v.ndim == 0 else v for k, v in arrays["ema"].items()})
        _plan(self.lr_schedule, self.config, self.total)
        self.lr_schedule.load_state_dict(meta["lr_schedule"])
        self.loader.load_state_dict(meta["loader"])
        backend.default_rng().bit_generator.state = meta["rng"]["default"]
        self.step, self.seconds = meta["step"], meta["seconds"]
        self._loss_sum, self._loss_weight = meta["smoothing"]
        record = self.out / "record.json"
        if record.is_file():
            self.launches = records.read_json(record).get("launches", [])

    def _check_same_recipe(self, path: Path, old: Config) -> None:
        before, now = old.to_json(), self.config.to_json()
        for name in now:
            if name not in FREE_ON_RESUME and before[name] != now[name]:
                raise BadInput(f"{path}: this run has {name} {before[name]}, {now[name]} is asked for; "
                               "leave that out to resume it, or give another --out")

    # -------------------------------------------------------------------------------------------- endings

    def _finish(self) -> Outcome:
        """Write the final model: the weights to sample with."""
        weights = self.ema.state_dict() if self.ema is not None else self.model.state_dict()
        weights = {k: v for k, v in weights.items() if not k.startswith("ema.")}
        if not self._checkpoint(self.step).exists():
            self.save()
        path = checkpoint.save(self.out / "model.npz", {"model": weights}, {"kind": "weights", **self._meta()})
        self._record("finished")
        return self._outcome(path)

    def _stopped(self, signum: int) -> Outcome:
        path = self.save()
        self._record("stopped")
        return replace(self._outcome(path), signal=signum)

    def _outcome(self, path: Path) -> Outcome:
        return Outcome(self.step, self.total, self.smooth_loss, self.seconds, path)

    def _diverged(self, what: str) -> Diverged:
        """Set the unproved newest checkpoint aside, so that --resume finds one from before the trouble.

        The weights after k updates are proved good by a finite loss and gradient in update k + 1. The update that
        failed is number ``step`` + 1, so a checkpoint of ``step`` holds the very weights that failed.
        """
        failed = self._checkpoint(self.step)
        if self.step > 0 and failed.exists():
            failed.rename(failed.with_suffix(".bad.npz"))
        good = checkpoint.latest(self.out)
        return Diverged(f"train: step {self.step + 1}: {what} (lr {self.optimizer.lr:.3g}); stopped, nothing was "
                        f"overwritten; the last good state is {good}; try a lower --lr, or --clip 1")

    def _too_large(self) -> str:
        batch = self.config.batch
        smaller = f"try --batch {1 << (batch.bit_length() - 2)}" if batch > 1 else "try a smaller network"
        return f"train: a batch of {batch} does not fit into the memory of {self.config.device}; {smaller}"

    def _record(self, status: str) -> None:
        """Write ``record.json`` as of now."""
        launch = self.launches[-1]
        launch.update(ended=records.now(), to_step=self.step)
        metrics = self.out / "metrics.jsonl"
        if hasattr(self, "metrics") and not self.metrics.closed:
            self.metrics.flush()
        rows = records.read_metrics(metrics) if metrics.exists() else []
        records.write_json(self.out / "record.json", {
            "status": status, "command": launch["command"], "commit": records.commit(),
            "config": self.config.to_json(), "parameters": self.model.num_parameters(),
            "machine": records.machine(self.config.device, backend.get_num_threads()),
            "versions": records.versions(), "seed": self.config.seed,
            "started": self.launches[0]["started"], "ended": launch["ended"], "seconds": round(self.seconds, 1),
            "steps": self.step, "total_steps": self.total,
            "final_loss": None if math.isnan(self.smooth_loss) else round(self.smooth_loss, 6),
            "epoch_losses": records.epoch_losses(rows), "validation_losses": records.validation_losses(rows),
            "loss_curve": records.loss_curve(rows), "launches": self.launches,
        })


# ------------------------------------------------------------------------------------------------ parts

def _optimizer(c: Config, model: Any) -> Any:
    parameters = model.parameters()
    if c.optimizer == "sgd":
        return optim.SGD(parameters, lr=c.lr, momentum=0.9, weight_decay=c.weight_decay)
    kind = {"adam": optim.Adam, "adamw": optim.AdamW}[c.optimizer]
    return kind(parameters, lr=c.lr, weight_decay=c.weight_decay)


def _lr_schedule(c: Config, optimizer: Any, total: int) -> Any:
    if c.lr_schedule == "constant":
        return optim.ConstantLR(optimizer, warmup_steps=c.warmup)
    return optim.CosineLR(optimizer, total, warmup_steps=_warmup(c, total), floor=min(c.lr_floor, c.lr))


def _warmup(c: Config, total: int) -> int:
    """Steps of warm-up: at most a fifth of a short run, so that there is a run after it."""
    return min(c.warmup, total // 5)


def _plan(schedule: Any, c: Config, total: int) -> None:
    """Let a cosine end at step ``total``."""
    if c.lr_schedule == "cosine":
        schedule.total_steps, schedule.warmup_steps = total, _warmup(c, total)


def holds_run(folder: str | Path) -> bool:
    """Whether a training run has written into this folder."""
    folder = Path(folder)
    return bool(checkpoint.latest(folder)) or any(
        (folder / name).exists() for name in ("record.json", "metrics.jsonl", "model.npz"))


def check_writable(folder: str | Path) -> None:
    """Refuse a folder that cannot be written to, or made, before the work rather than after it.

    Tries a file in it, or in the nearest folder above that exists; makes nothing that stays.
    """
    folder = Path(folder)
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    probe = nearest / f".minidiff-{os.getpid()}.part"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror or error}); give another --out") from None


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second one has its usual effect at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught                                  # only the main thread may set handlers
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, frame: Any) -> None:
        caught.append(number)
        for each, usual in before.items():
            signal.signal(each, usual)
        print("\nstopping after this step; once more to stop at once", file=sys.stderr, flush=True)

    try:
        for number in before:
            signal.signal(number, handler)
        yield caught
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
