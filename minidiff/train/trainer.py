"""The training loop, and everything around it that a long run needs: it can be watched, stopped and gone on with."""
from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend, data, diffusion, models, optim
from ..autograd import no_grad
from ..errors import BadInput, Failed
from ..philox import Rng
from . import checkpoint, folder, records, signals
from .config import FREE_ON_RESUME, Config
from .distributed import Exchange, Ranks, share_machine
from .faults import Diverged, cannot_save, first_fault, is_of_files
from .gradients import gradients, recompute_blocks
from .graph import GraphStep, obstacle
from .lock import in_use, only_run
from .progress import Progress, Silent
from .rates import lr_schedule_of, optimizer_of, plan
from .start import take_weights

SMOOTHING = 0.98                      # of the loss shown and recorded as final: a mean over about 50 steps
REPLAN = 20                           # steps between two looks at the clock when a time budget is set
LOOK = 25                             # steps on the GPU between two looks at their losses, for which it must be waited for
VALIDATION_SEED = 20_000              # fixes t and eps of the held-out loss, the same for every run


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

    ``out`` receives what :mod:`minidiff.train.folder` lists; while the run is at work, nobody else may train there. A
    folder that already holds a run is refused unless ``resume`` is true; then everything, random generators and position
    in the data included, is taken from the newest checkpoint that can be read, and on the CPU with the same number of
    threads all files that follow but the clock's figures are byte for byte those of an uninterrupted run.

    ``minutes`` bounds the training time: the number of steps, and with it the cosine, is planned anew every
    few steps from the measured speed, so that the run ends annealed on any machine.

    ``group`` are the processes that train together, each with a trainer of its own: see :mod:`minidiff.train.distributed`.
    This class is the first one's; the others have :class:`minidiff.train.follower.Follower`.
    """

    def __init__(self, config: Config, out: str | Path, resume: bool = False, *, minutes: float | None = None,
                 progress: bool = True, group: Ranks | None = None) -> None:
        if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
            raise BadInput(f"train: minutes must be a finite number above 0, got {minutes}")
        self.config, self.out, self.minutes = config, Path(out), minutes
        self._show_progress, self.group = progress, group or Ranks()
        backend.resolve_device(config.device)
        if config.precision != "fp32" and config.device == "cpu" and backend.get_kernels() not in ("rounded", "emulated"):
            raise BadInput(f"train: precision {config.precision} is the GPU's; the CPU computes in fp32; use device cuda, or imitate"
                           " it with MINIDIFF_KERNELS=rounded")  # fmt: skip
        if not data.known(config.data):
            raise BadInput(f"train: unknown data set '{config.data}'; there are {', '.join(data.NAMES)}, or give the path of a folder of images")
        try:
            self.schedule = diffusion.make_schedule(**config.schedule)
        except TypeError as error:                        # an option that no schedule has, or of another kind
            raise BadInput(f"train: schedule: {error}") from None
        saved = self._find_saved(resume)
        if config.threads is not None:
            backend.set_num_threads(config.threads)
        share_machine(self.group, config.device)
        self._build(fresh=saved is None)
        self._hold_out()                                  # what is missing should be missed now, not after hours
        self.launches: list[dict[str, Any]] = []
        self._damaged: dict[Path, str] = {}
        if saved is not None:
            self._restore(saved)

    # -------------------------------------------------------------------------------------------- building

    def _find_saved(self, resume: bool) -> folder.Saved | None:
        """What to go on from, after refusing folders that fit neither a fresh run nor a resumed one."""
        if busy := in_use(self.out):
            raise BadInput(busy)
        if not resume and folder.holds_run(self.out):
            raise BadInput(f"{self.out}: holds a run already; go on with it by --resume, or give another --out")
        saved = folder.newest_readable(self.out) if resume else None
        folder.check_writable(self.out)
        self._found = checkpoint.all_of_run(self.out)
        return saved

    def _build(self, fresh: bool) -> None:
        c = self.config
        backend.manual_seed(c.seed)
        train = data.load(c.data, "train", limit=c.limit, size=c.image_size)
        self.classes = tuple(train.classes)
        values = data.style_values(train, c.style)
        self.style = data.StyleScale.of(values, c.style, train.labels) if c.style else None
        if c.batch > len(train):
            raise BadInput(f"train: a batch of {c.batch} is more than the {len(train):,} training images of {c.data}; give --batch {len(train)} or less")
        self.loader = data.DataLoader(train, c.batch, seed=c.seed, size=c.image_size, augment=c.augment,
                                      style=None if self.style is None else self.style.told(values),
                                      rank=self.group.rank, ranks=self.group.size)
        if self.loader.local_batch_size % c.accumulate:
            raise BadInput(f"train: each of {self.group.size} processes has {self.loader.local_batch_size} of {c.batch} images, which do not"
                           f" divide into {c.accumulate} parts")  # fmt: skip
        channels = 1 if train.images.ndim == 3 else train.images.shape[1]
        self.model = self._network({"in_channels": channels, "image_size": c.image_size, "num_classes": len(self.classes),
                                    "style_dim": len(c.style)}).to(c.device)
        self.origin = take_weights(self.model, c.start, c.style, self.classes) if c.start and fresh else None
        if c.recompute:
            recompute_blocks(self.model)
        self.optimizer = optimizer_of(c, self.model)
        self.exchange = Exchange(self.optimizer.params, self.group, numbers=2) if self.group.size > 1 else None
        self.total = c.total_steps(self.loader.batches_per_epoch)
        self.lr_schedule = lr_schedule_of(c, self.optimizer, self.total)
        self.ema = optim.EMA(self.model, decay=c.ema) if c.ema else None
        self.graph: GraphStep | None = None
        self.step, self.seconds = 0, 0.0
        self.best: dict[str, float] | None = None         # step and held-out loss of the weights in best.npz
        self._loss_sum = self._loss_weight = 0.0
        self._caught: list[int] = []                      # SIGINT or SIGTERM, when one has come
        self._stopping = False                            # and all processes know of it

    def _network(self, given: dict[str, Any]) -> Any:
        """The recipe's network for what is given by the data and the recipe's other fields. Raises BadInput."""
        asked = self.config.model
        for name, value in given.items():
            if asked.get(name, value) != value:
                raise BadInput(f"train: model.{name} is {asked[name]}, and with {self.config.data} and this recipe it is {value}; leave it out")
        try:
            return models.build({**{name: value for name, value in given.items() if value}, **asked})
        except TypeError as error:                        # an option that this network does not have
            raise BadInput(f"train: model: {error}") from None

    def data_facts(self) -> dict[str, Any]:
        """What the run trains on: the images of each class, how many are held out for the loss, and what is to be noted of them."""
        train, notes = self.loader.dataset, []
        if self.origin is not None and "classes" in self.origin:
            notes.append(f"the classes of {self.config.start} were {', '.join(self.origin['classes'])}: what the model learned for class k is kept under the class's new name")
        notes += dict.fromkeys((*train.notes, *self._notes_of_held_out))
        return {"classes": train.counts, "held_out": len(self._held_out[1]), "notes": notes}

    # -------------------------------------------------------------------------------------------- the loop

    def run(self) -> Outcome:
        """Train to the end, or until SIGINT or SIGTERM asks to stop.

        Raises :class:`Diverged` on a NaN, :class:`CannotSave` where the folder takes no more.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with only_run(self.out):
                if checkpoint.all_of_run(self.out) != self._found:
                    raise BadInput(f"{self.out}: another run has written here meanwhile; go on with it by --resume, or give another --out")
                return self._run()
        except OSError as error:
            self._record_if_possible("stopped")
            if not is_of_files(error, self.out):
                raise
            raise cannot_save(error, self.step, self.out, self.minutes) from None

    def _run(self) -> Outcome:
        self._begin()
        self.progress = Progress(self._title(), self.total, self.step) if self._show_progress else Silent()
        for said in self._damaged.values():
            self.progress.say(f"{said}; going on after step {self.step}")
        try:
            self.graph = self._graph_step()
            with signals.collected(tell=self.group.first) as self._caught:
                while self.step < self.total and not self._asked_to_stop():
                    self._one_step() if self.graph is None else self._burst()
            outcome = self._stopped() if self.step < self.total else self._finish()
        except Diverged as error:
            self._record("diverged", fault=str(error))
            raise
        except MemoryError:                               # CuPy's is one too
            self._record("stopped")
            raise BadInput(self._too_large()) from None
        finally:
            with contextlib.suppress(OSError):            # a full disk has been told of already
                self.metrics.close()
            self.progress.close()
            self.loader.close()
            self._found = checkpoint.all_of_run(self.out)
        return outcome

    def _asked_to_stop(self) -> bool:
        """Whether this process has been, or, where there are several, one of them, as all learned in their last exchange."""
        return bool(self._caught) if self.exchange is None else self._stopping

    def _begin(self) -> None:
        """Bring the folder in order: nothing half written in it, nothing from after the step to go on from."""
        self.launches.append({"command": records.command_line(), "started": records.now(), "from_step": self.step})
        folder.remove_leftovers(self.out)
        for path in self._damaged:
            folder.set_aside(path)
        self._drop_old()                                  # a run that was killed just after its last checkpoint has one too many
        (self.out / "checkpoints").mkdir(exist_ok=True)
        if self.step == 0 and not self._checkpoint(0).exists():
            self._save_state()                            # the state to fall back on, and the mark of a run
        self.metrics = records.Metrics(self.out / "metrics.jsonl", self.step)
        records.write_json(self.out / "config.json", self.config.to_json())
        records.write_json(self.out / "environment.json", records.environment(self.config.device, backend.get_num_threads()))
        self._record("running")

    def _graph_step(self) -> GraphStep | None:
        """The step that stays on the GPU, where the model is there and can be trained by it."""
        c = self.config
        if self.style is not None or c.augment or c.accumulate > 1 or c.recompute or self.exchange is not None:
            return None                                   # what the CPU's loader brings, what `gradients` does, what others must know
        if obstacle(self.model, self.optimizer) is not None:
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
        speed = round(len(results) * self.config.batch / max(taken, 1e-9), 2)            # some clocks stand still for a while
        rows = []
        for step, (loss, norm, lr) in enumerate(results, self.step - len(results) + 1):
            self._smooth(loss)
            rows.append({"step": step, "epoch": round(step / self.loader.batches_per_epoch, 5), "loss": loss, "lr": lr,
                         "grad_norm": norm, "images_per_s": speed, "seconds": round(self.seconds, 3)})  # fmt: skip
        self._replan()
        if self._due(self.config.sheet_every) or self.step == self.total:
            rows[-1].update(self._look())
        for row in rows:
            self.metrics.write(row)
        if self._due(self.config.checkpoint_every):
            if self.exchange is not None:
                self.group.agree("the weights", [p.data for p in self.optimizer.params])
            self.save()                                   # last: what a run goes on from has nothing left to be done
        self.progress.update(self.step, self.total, {
            "loss": f"{self.smooth_loss:.4f}", "images/s": f"{self.step * self.config.batch / max(self.seconds, 1e-9):.0f}",
            "lr": f"{results[-1][2]:.1e}"})

    def update(self, x0: np.ndarray, labels: np.ndarray, style: np.ndarray | None = None) -> tuple[float, float]:
        """One gradient step on a batch: the loss before it, and the gradient's norm before clipping."""
        with backend.precision(self.config.precision):
            return self._update(x0, labels, style)

    def _update(self, x0: np.ndarray, labels: np.ndarray, style: np.ndarray | None) -> tuple[float, float]:
        c = self.config
        x0 = backend.to_device(x0, c.device)
        chance = backend.default_rng().bit_generator.state         # of dropout alone: t, eps and dropped labels need none
        if self.exchange is not None:                     # masks of its own for each process, and nothing that each must keep
            chance = np.random.default_rng((c.seed, self.step, self.loader.first_row)).bit_generator.state

        def compute() -> float:
            backend.default_rng().bit_generator.state = chance
            return gradients(self.model, self.schedule, c, self.step, x0, labels, style, self.loader.first_row)

        value = mine = compute()
        if self.exchange is not None:                     # all gradients are at hand, and no weight has moved
            value, asked = self.exchange.mean(value, float(bool(self._caught)))
            self._stopping = asked > 0
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}", compute, not math.isfinite(mine))
        norm = optim.clip_grad_norm(self.model.parameters(), c.clip or math.inf)
        if not math.isfinite(norm):
            raise self._diverged(f"the gradient's norm is {norm}", compute)
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
        fits = self.step + max(0, int(left * self.step / max(self.seconds, 1e-9)))
        self.total = self.group.share(min(fits, self.config.total_steps(self.loader.batches_per_epoch)))   # by the first one's clock
        plan(self.lr_schedule, self.config, self.total)

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
                    said = str(error) if isinstance(error, (BadInput, Failed)) else f"{type(error).__name__}: {error}"
                    self.progress.say(f"step {self.step}: no sample sheet ({said})")
            if not self.config.validate:
                return {}
            loss = round(self.validation_loss(), 6)
        self.progress.say(f"step {self.step}: held-out loss {loss:.4f}")
        self._keep_if_best(loss)
        return {"validation": loss}

    def _keep_if_best(self, loss: float) -> None:
        """Put the weights that one would sample with into best.npz if none before them had a lower held-out loss.

        A file of its own: however many checkpoints come after it, it stays.
        """
        if math.isfinite(loss) and (self.best is None or loss < self.best["loss"]):
            self.best = {"step": self.step, "loss": loss}
            self._save_weights("best.npz", held_out_loss=loss)

    def _hold_out(self) -> None:
        """Fetch the images of the held-out loss."""
        c = self.config
        self._held_out, self._notes_of_held_out = (np.empty((0,)), np.empty((0,), np.int64), None), ()
        if c.validate:
            held_out = data.load(c.data, "test", limit=c.validate, size=c.image_size)
            style = None if self.style is None else self.style.told(data.style_values(held_out, c.style))
            self._held_out = data.to_model(held_out.images, size=c.image_size), held_out.labels, style
            self._notes_of_held_out = held_out.notes

    def validation_loss(self) -> float:
        """Mean loss over ``config.validate`` held-out images, always with the same t and eps."""
        c = self.config
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
        from ..evaluate import check_finite, kept_until_drawn

        c, path = self.config, self.out / "sheets" / f"step_{self.step:08d}.png"
        labels = np.tile(np.arange(len(self.classes)), c.sheet_per_class)
        with np.errstate(over="ignore", invalid="ignore"):                    # whether they are finite is checked, and said in one line
            images = diffusion.sample(self.model, self.schedule, labels, sampler=c.sheet_sampler,
                                      steps=min(c.sheet_steps, self.schedule.T), guidance=c.guidance, seed=c.seed,
                                      style=None if self.style is None else self.style.drawn(labels, c.seed))
        check_finite(images)
        path.with_suffix(".npz").unlink(missing_ok=True)                      # of a run that was killed while it drew this sheet
        with kept_until_drawn(path, images, labels):
            viz.save(viz.sample_sheet(images, labels, columns=len(self.classes), class_names=self.classes, step=self.step,
                                      loss=self.smooth_loss, title=self._title()), path)  # fmt: skip

    def _title(self) -> str:
        return f"{self.config.preset} on {self.config.data}"

    # -------------------------------------------------------------------------------------------- saving

    def _meta(self) -> dict[str, Any]:
        """What describes the model, in every kind of checkpoint."""
        return {"config": self.config.to_json(), "model": self.model.config, "schedule": self.schedule.config,
                "classes": list(self.classes), **({} if self.style is None else {"style": self.style.to_json()}),
                **({} if self.origin is None else {"start": self.origin}), "step": self.step,
                "epoch": round(self.step / self.loader.batches_per_epoch, 5)}

    def save(self) -> Path:
        """Write a checkpoint of everything the next step depends on; drop the oldest ones beyond ``keep``.

        The rows of the steps so far are on the disk before it, so that whoever goes on from it misses none.
        """
        if hasattr(self, "metrics"):
            self.metrics.flush()
        path = self._save_state()
        self._drop_old()
        return path

    def _save_state(self) -> Path:
        """No figure of a clock is in it, so that the same steps give the same file, byte for byte."""
        arrays = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.ema is not None:
            arrays["ema"] = self.ema.state_dict()
        meta = {"kind": "training", **self._meta(), "total_steps": self.total,
                "lr_schedule": self.lr_schedule.state_dict(), "loader": self.loader.state_dict(),
                "rng": {"default": backend.default_rng().bit_generator.state}, "best": self.best,
                "smoothing": [self._loss_sum, self._loss_weight], "threads": backend.get_num_threads()}
        return checkpoint.save(self._checkpoint(self.step), arrays, meta)

    def _save_weights(self, name: str, **facts: Any) -> Path:
        """Write the weights that one samples with, the averaged ones where there are any."""
        weights = self.ema.state_dict() if self.ema is not None else self.model.state_dict()
        weights = {k: v for k, v in weights.items() if not k.startswith("ema.")}
        return checkpoint.save(self.out / name, {"model": weights}, {"kind": "weights", **self._meta(), **facts})

    def _checkpoint(self, step: int) -> Path:
        return self.out / "checkpoints" / f"step_{step:08d}.npz"

    def _drop_old(self) -> None:
        """Keep the newest ones; never fewer than two, since the newest is proved good only by the step after it."""
        if self.config.keep:
            for path in checkpoint.all_of_run(self.out)[:-max(2, self.config.keep)]:
                path.unlink(missing_ok=True)

    def _restore(self, saved: folder.Saved) -> None:
        """Take over the state that :meth:`save` wrote."""
        path, arrays, meta = saved.path, saved.arrays, saved.meta
        if meta.get("kind") != "training":
            raise BadInput(f"{path}: holds weights alone; only a training checkpoint can be gone on with")
        self._check_same_recipe(path, Config.from_json(meta["config"]))
        self._check_same_classes(path, meta.get("classes"))
        checkpoint.load_weights(self.model, arrays["model"], path)
        if self.minutes is not None:
            self.total = min(self.total, max(meta["step"], meta["total_steps"]))
        if meta["step"] > self.total:
            raise BadInput(f"{path}: this run is at step {meta['step']} already, {self.total} steps in all are "
                           "asked for; ask for more, or give another --out")
        self.optimizer.load_state_dict({k: v.item() if v.ndim == 0 else v for k, v in arrays["optimizer"].items()})
        if self.ema is not None:
            self.ema.load_state_dict({k: v.item() if v.ndim == 0 else v for k, v in arrays["ema"].items()})
        plan(self.lr_schedule, self.config, self.total)
        self.lr_schedule.load_state_dict(meta["lr_schedule"])
        self.loader.load_state_dict(meta["loader"])
        backend.default_rng().bit_generator.state = meta["rng"]["default"]
        self.step, self.best, self._damaged = meta["step"], meta.get("best"), saved.damaged
        self.origin = meta.get("start")
        if meta["config"].get("validate") != self.config.validate:
            self.best = None                              # a loss of other images: no measure for those to come
        self._loss_sum, self._loss_weight = meta["smoothing"]
        self.seconds = records.seconds_at(self.out, self.step)
        with contextlib.suppress(BadInput):               # launches are for people: a damaged list stops no run
            self.launches = records.read_json(self.out / "record.json").get("launches", [])

    def _check_same_recipe(self, path: Path, old: Config) -> None:
        before, now = (_flat(config.to_json()) for config in (old, self.config))
        for name in {**now, **before}:
            if name not in FREE_ON_RESUME and before.get(name) != now.get(name):
                raise BadInput(f"{path}: this run has {name} {before.get(name)}, {now.get(name)} is asked for; "
                               "leave that out to resume it, or give another --out")

    def _check_same_classes(self, path: Path, old: list[str] | None) -> None:
        """Label k must mean what it meant: a class's folder that was added, removed or renamed moves those behind it."""
        if old is None or tuple(old) == self.classes:
            return
        gone, new = ([name for name in these if name not in others] for these, others in ((old, self.classes), (self.classes, old)))
        said = " and ".join(f"{what} {', '.join(names)}" for what, names in (("lacks", gone), ("adds", new)) if names)
        raise BadInput(f"{path}: this run's classes are {', '.join(old)}; {self.config.data} {said or 'has them in another order'}; "
                       "restore the folder to resume the run, or give another --out")

    # -------------------------------------------------------------------------------------------- endings

    def _finish(self) -> Outcome:
        """Write the final model: the weights to sample with."""
        if not self._checkpoint(self.step).exists():
            self.save()
        path = self._save_weights("model.npz")
        self._record("finished")
        return self._outcome(path)

    def _stopped(self) -> Outcome:
        signum = max(number for caught in self.group.all(self._caught) for number in caught)
        path = self.save()
        self._record("stopped")
        return replace(self._outcome(path), signal=signum)

    def _outcome(self, path: Path) -> Outcome:
        return Outcome(self.step, self.total, self.smooth_loss, self.seconds, path)

    def _diverged(self, what: str, again: Callable[[], object] | None = None, here: bool = True) -> Diverged:
        """Set the unproved newest checkpoint aside, so that --resume finds one from before the trouble.

        The weights after k updates are proved good by a finite loss and gradient in update k + 1. The update that
        failed is number ``step`` + 1, so a checkpoint of ``step`` holds the very weights that failed. ``again`` computes
        the failed gradient once more, to be watched; a burst on the GPU has moved the weights since and cannot. `here`
        says whether it was this process's.
        """
        self.optimizer.zero_grad()
        faults = self.group.all(None if again is None or not here else first_fault(self.model, again))
        rank = next((rank for rank, said in enumerate(faults) if said), 0)
        fault = f"; {faults[rank]}{f', in process {rank} of {len(faults)}' if len(faults) > 1 else ''}" if faults[rank] else ""
        failed = self._checkpoint(self.step)
        if self.step > 0 and failed.exists() and self.group.first:
            folder.set_aside(failed)
        good = checkpoint.latest(self.out)
        return Diverged(f"train: step {self.step + 1}: {what} (lr {self.optimizer.lr:.3g}){fault}; stopped, nothing was "
                        f"overwritten; the last good state is {good}; try a lower --lr, or --clip 1")

    def _too_large(self) -> str:
        batch = self.config.batch
        smaller = f"try --batch {1 << (batch.bit_length() - 2)}" if batch > 1 else "try a smaller network"
        return f"train: a batch of {batch} does not fit into the memory of {self.config.device}; {smaller}"

    def _record_if_possible(self, status: str) -> None:
        with contextlib.suppress(OSError):
            if self.launches and checkpoint.latest(self.out):      # without one the folder holds no run, and can be begun in
                self._record(status)

    def _record(self, status: str, **facts: Any) -> None:
        """Write ``record.json`` as of now."""
        launch = self.launches[-1]
        launch.update(ended=records.now(), to_step=self.step)
        metrics = self.out / "metrics.jsonl"
        if hasattr(self, "metrics") and not self.metrics.closed:
            self.metrics.flush()
        rows = records.read_metrics(metrics) if metrics.exists() else []
        records.write_json(self.out / "record.json", {
            "status": status, **facts, "command": launch["command"], "commit": records.commit(),
            "config": self.config.to_json(), **({} if self.origin is None else {"start": self.origin}),
            "parameters": self.model.num_parameters(), "data": self.data_facts(),
            "machine": records.machine(self.config.device, backend.get_num_threads()),
            "versions": records.versions(), "seed": self.config.seed,
            "started": self.launches[0]["started"], "ended": launch["ended"], "seconds": round(self.seconds, 1),
            "steps": self.step, "total_steps": self.total,
            "final_loss": None if math.isnan(self.smooth_loss) else round(self.smooth_loss, 6),
            "epoch_losses": records.epoch_losses(rows), "validation_losses": records.validation_losses(rows),
            "best": self.best,
            "loss_curve": records.loss_curve(rows), "launches": self.launches,
        })


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """The options of the network and the schedule beside the others, each by its full name."""
    flat = {}
    for name, value in values.items():
        flat.update({f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value})
    return flat
