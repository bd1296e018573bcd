"""A run goes on where it was stopped, bit for bit; refuses what would overwrite; and stops on a NaN."""
import dataclasses
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidiff import backend, data, diffusion, viz
from minidiff.errors import BadInput
from minidiff.train import Config, Diverged, Trainer, checkpoint, export, load_model, read_metrics


def _run(config: Config, out: Path, resume: bool = False) -> Any:
    return Trainer(config, out, resume, progress=False).run()


def _stop_after(trainer: Trainer, step: int, number: int = signal.SIGINT) -> None:
    """Send the process a signal in the middle of training, as Ctrl-C does."""
    update = trainer.update

    def update_then_signal(*batch: Any) -> Any:
        if trainer.step + 1 == step:
            os.kill(os.getpid(), number)
        return update(*batch)

    trainer.update = update_then_signal


def _spoil(trainer: Trainer, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the loss of one step NaN."""
    loss = diffusion.loss
    monkeypatch.setattr(diffusion, "loss", lambda *a, **k: loss(*a, **k) * (
        float("nan") if trainer.step + 1 == step else 1.0))


def assert_same(a: Path, b: Path) -> None:
    """Two checkpoints with the same bytes in every array and the same facts, the clock's apart."""
    (arrays_a, meta_a), (arrays_b, meta_b) = checkpoint.load(a), checkpoint.load(b)
    assert {g: set(m) for g, m in arrays_a.items()} == {g: set(m) for g, m in arrays_b.items()}
    for group, members in arrays_a.items():
        for name, array in members.items():
            assert array.tobytes() == arrays_b[group][name].tobytes(), f"{group}/{name}"
    for meta in (meta_a, meta_b):
        meta.pop("seconds", None)
    assert meta_a == meta_b


# ------------------------------------------------------------------------------------------------ going on

def test_seventeen_steps_and_a_resume_are_thirty_steps(small: Config, tmp_path: Path) -> None:
    whole = _run(small, tmp_path / "whole")
    assert whole.finished
    trainer = Trainer(small, tmp_path / "parts", progress=False)
    _stop_after(trainer, 17)
    stopped = trainer.run()
    assert (stopped.step, stopped.signal, stopped.path.name) == (17, signal.SIGINT, "step_00000017.npz")
    backend.manual_seed(99)                              # a new process would not have our generator's state either
    resumed = _run(small, tmp_path / "parts", resume=True)
    assert resumed.step == 30
    assert resumed.loss == whole.loss
    for name in ("model.npz", "checkpoints/step_00000030.npz"):
        assert_same(tmp_path / "whole" / name, tmp_path / "parts" / name)
    timeless = [[{k: row[k] for k in ("step", "epoch", "loss", "lr", "grad_norm")} for row in read_metrics(folder)]
                for folder in (tmp_path / "whole", tmp_path / "parts")]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("changes", [{"optimizer": "adam", "lr_schedule": "constant", "ema": 0.0, "clip": 0.0},
                                     {"optimizer": "sgd", "lr": 1e-2}])
def test_every_optimiser_and_schedule_resumes_exactly(small: Config, tmp_path: Path, changes: dict) -> None:
    config = small.replace(**changes, steps=8)
    _run(config, tmp_path / "whole")
    trainer = Trainer(config, tmp_path / "parts", progress=False)
    _stop_after(trainer, 3)
    trainer.run()
    _run(config, tmp_path / "parts", resume=True)
    assert_same(tmp_path / "whole/model.npz", tmp_path / "parts/model.npz")


def test_a_killed_run_goes_on_from_its_newest_checkpoint(small: Config, out: Path) -> None:
    """SIGKILL leaves metrics beyond the checkpoint: they are cut back and written anew."""
    _run(small.replace(steps=14), out)
    rows = read_metrics(out)
    for path in (out / "model.npz", out / "checkpoints/step_00000014.npz"):
        path.unlink()
    _run(small.replace(steps=14), out, resume=True)
    assert [row["step"] for row in read_metrics(out)] == list(range(1, 15))
    assert [row["loss"] for row in read_metrics(out)] == [row["loss"] for row in rows]


def test_looking_does_not_change_the_training(small: Config, tmp_path: Path) -> None:
    _run(small.replace(steps=6), tmp_path / "blind")
    _run(small.replace(steps=6, sheet_every=2, sheet_per_class=1, sheet_steps=2, checkpoint_every=3),
         tmp_path / "watched")
    assert len(list((tmp_path / "watched/sheets").glob("step_*.png"))) == 3
    a, b = (checkpoint.load(tmp_path / name / "model.npz")[0]["model"] for name in ("blind", "watched"))
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_a_sheet_that_cannot_be_drawn_is_said_and_survived(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(diffusion, "sample", fail)
    assert Trainer(small.replace(steps=3, sheet_every=2), out).run().finished
    assert "step 2: no sample sheet (OSError: disk full)\n" in capsys.readouterr().err


def test_the_samples_of_a_sheet_are_saved_before_it_is_drawn(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise ValueError("no such glyph")

    monkeypatch.setattr(viz, "sample_sheet", fail)
    assert Trainer(small.replace(steps=2, sheet_every=2), out).run().finished
    sheet = out / "sheets" / "step_00000002"
    assert f"step 2: no sample sheet ({sheet}.png: cannot be drawn (ValueError: no such glyph); the samples are in {sheet}.npz)\n" in capsys.readouterr().err
    with np.load(f"{sheet}.npz") as archive:
        assert len(archive["images"]) == len(archive["labels"]) > 0


def test_a_sheet_whose_samples_are_not_finite_is_said_and_survived(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    """The weights are finite, as every step's loss and gradient show: the training goes on."""
    monkeypatch.setattr(diffusion, "sample", lambda model, schedule, labels, **options: np.full((len(labels), 1, 32, 32), np.inf, np.float32))
    assert Trainer(small.replace(steps=2, sheet_every=2), out).run().finished
    err = capsys.readouterr().err
    assert re.search(r"step 2: no sample sheet \((\d+) of \1 samples are not finite \(NaN or infinity\); ", err)
    assert not list((out / "sheets").glob("*"))


def test_losses_of_other_held_out_images_are_not_compared(small: Config, out: Path) -> None:
    """The best so far was measured on eight images; on twelve another number may be the best."""
    _run(small.replace(steps=10), out)
    trainer = Trainer(small.replace(validate=12), out, resume=True, progress=False)
    assert trainer.best is None
    trainer.run()
    assert trainer.best is not None and trainer.best["step"] == 30
    assert Trainer(small.replace(validate=12, steps=40), out, resume=True, progress=False).best == trainer.best


def test_a_run_can_be_made_longer_but_not_otherwise(small: Config, out: Path) -> None:
    _run(small.replace(steps=4), out)
    assert _run(small.replace(steps=6), out, resume=True).step == 6
    with pytest.raises(BadInput, match=r"step_00000006.npz: this run has lr 0.002, 0.001 is asked for; leave that "
                                       r"out to resume it, or give another --out$"):
        Trainer(small.replace(lr=1e-3), out, resume=True)
    with pytest.raises(BadInput, match="this run is at step 6 already, 5 steps in all are asked for"):
        Trainer(small.replace(steps=5), out, resume=True)


def test_another_architecture_is_refused_by_the_option_that_differs(small: Config, out: Path) -> None:
    _run(small.replace(steps=1), out)
    other = small.replace(model={**small.model, "channels": [8, 16, 16]})
    with pytest.raises(BadInput, match=r"step_00000001.npz: this run has model.channels \[8, 8, 16\], \[8, 16, 16\] is asked for; "):
        Trainer(other, out, resume=True)


def test_a_fresh_run_never_touches_another(small: Config, out: Path) -> None:
    _run(small.replace(steps=1), out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(BadInput, match="run: holds a run already; go on with it by --resume, or give another --out$"):
        Trainer(small, out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_nothing_to_resume_is_said(small: Config, out: Path) -> None:
    with pytest.raises(BadInput, match="run: no checkpoint to resume from; start a run there without --resume$"):
        Trainer(small, out, resume=True)
    assert not out.exists()


def test_weights_alone_cannot_be_gone_on_with(small: Config, out: Path) -> None:
    _run(small.replace(steps=1), out)
    (out / "checkpoints/step_00000002.npz").write_bytes((out / "model.npz").read_bytes())
    with pytest.raises(BadInput, match="step_00000002.npz: holds weights alone; only a training checkpoint"):
        Trainer(small, out, resume=True)


@pytest.mark.parametrize(("changes", "message"), [
    ({"data": "letters"}, "train: unknown data set 'letters'; there are mnist, "),
    ({"device": "tpu"}, "tpu"),
    ({"schedule": {"name": "square", "T": 10}}, "square"),
])
def test_unknown_names_are_refused_before_anything_is_written(small: Config, out: Path, changes: dict,
                                                              message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Trainer(small.replace(**changes), out)
    assert not out.exists()


def test_an_unwritable_folder_is_refused_first(small: Config, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"file/run: cannot be written \(Not a directory\); give another --out$"):
        Trainer(small, tmp_path / "file" / "run")


# ------------------------------------------------------------------------------------------------ stopping

def test_sigterm_saves_and_the_handlers_are_put_back(small: Config, out: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    trainer = Trainer(small, out, progress=False)
    _stop_after(trainer, 3, signal.SIGTERM)
    outcome = trainer.run()
    assert (outcome.step, outcome.signal, outcome.finished) == (3, signal.SIGTERM, False)
    assert checkpoint.latest(out) == outcome.path
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert json.loads((out / "record.json").read_text())["status"] == "stopped"
    assert not (out / "model.npz").exists()


def test_a_nan_stops_and_names_the_last_good_state(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(small, out, progress=False)
    _spoil(trainer, 14, monkeypatch)
    with pytest.raises(Diverged, match=r"^train: step 14: the loss is nan \(lr .*\); first seen in Mul: input 1 of \(\) float32, "
                                       r"\(\) float32 held NaN before; stopped, nothing was overwritten; "
                                       r"the last good state is .*/step_00000010\.npz; try a lower --lr, or --clip 1$"):
        trainer.run()
    assert checkpoint.latest(out) == out / "checkpoints/step_00000010.npz"
    assert not (out / "model.npz").exists()
    record = json.loads((out / "record.json").read_text())
    assert record["status"] == "diverged" and "step 14: the loss is nan" in record["fault"]
    monkeypatch.undo()
    assert _run(small, out, resume=True).step == 30


def test_a_checkpoint_of_the_weights_that_failed_is_set_aside(small: Config, out: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint of step 20 was written before step 21 showed that its weights are bad."""
    trainer = Trainer(small.replace(keep=1), out, progress=False)
    _spoil(trainer, 21, monkeypatch)
    with pytest.raises(Diverged, match=r"step 21: .* the last good state is .*/step_00000010\.npz"):
        trainer.run()
    assert (out / "checkpoints/step_00000020.bad.npz").exists()
    assert checkpoint.latest(out) == out / "checkpoints/step_00000010.npz"


def test_a_nan_gradient_stops_before_it_reaches_the_weights(small: Config, out: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of √(0 b) is 0 · ∞, while the loss stays as it was."""
    trainer = Trainer(small, out, progress=False)
    first = trainer.model.state_dict()
    loss = diffusion.loss
    monkeypatch.setattr(diffusion, "loss", lambda *a, **k: loss(*a, **k) + (trainer.model.out.bias * 0.0).sqrt().sum())
    with np.errstate(all="ignore"), pytest.raises(Diverged, match="step 1: the gradient's norm is nan"):
        trainer.run()
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, first[name])


# ------------------------------------------------------------------------------------------------ what is left

def test_only_the_newest_checkpoints_are_kept(small: Config, out: Path) -> None:
    _run(small.replace(steps=12, checkpoint_every=2, keep=3), out)
    assert [p.name for p in checkpoint.all_of_run(out)] == [f"step_{k:08d}.npz" for k in (8, 10, 12)]


def test_one_too_many_goes_with_a_resume_though_no_step_is_left(small: Config, out: Path) -> None:
    """Killed between the last checkpoint and the removal of the oldest."""
    recipe = small.replace(steps=12, checkpoint_every=2, keep=3)
    _run(recipe, out)
    kept = checkpoint.all_of_run(out)
    (out / "checkpoints" / "step_00000006.npz").write_bytes(kept[0].read_bytes())
    (out / "model.npz").unlink()
    assert _run(recipe, out, resume=True).finished
    assert checkpoint.all_of_run(out) == kept


def test_the_record_says_how_the_model_was_made(small: Config, out: Path) -> None:
    outcome = _run(small.replace(steps=12), out)
    record = json.loads((out / "record.json").read_text())
    assert record["status"] == "finished"
    assert Config.from_json(record["config"]) == small.replace(steps=12)
    assert (record["steps"], record["seed"], record["machine"]["device"]) == (12, 0, "cpu")
    assert record["final_loss"] == round(outcome.loss, 6)
    assert len(record["epoch_losses"]) == 2              # 12 steps of 10 a epoch: one whole, one begun
    assert record["validation_losses"][-1][0] == 12
    assert record["launches"][0]["to_step"] == 12
    assert {"python", "numpy"} <= set(record["versions"])
    losses = [row["loss"] for row in read_metrics(out)]
    assert record["epoch_losses"] == pytest.approx([np.mean(losses[:10]), np.mean(losses[10:])], abs=1e-6)


def test_training_lowers_the_held_out_loss(small: Config, out: Path) -> None:
    trainer = Trainer(small.replace(steps=60, lr=5e-3), out, progress=False)
    first = trainer.validation_loss()
    trainer.run()
    assert read_metrics(out)[-1]["validation"] < 0.8 * first


def test_the_held_out_loss_is_the_same_every_time(small: Config, out: Path) -> None:
    trainer = Trainer(small, out, progress=False)
    assert trainer.validation_loss() == trainer.validation_loss()


def test_a_time_budget_ends_in_time_and_annealed(small: Config, out: Path) -> None:
    """A clock that says each step takes a second and a budget of one minute: about sixty steps, whatever was planned."""
    trainer = Trainer(small.replace(steps=100_000, checkpoint_every=0), out, minutes=1, progress=False)
    update = trainer.update

    def slow_update(*batch: Any) -> Any:
        trainer.seconds += 1.0
        return update(*batch)

    trainer.update = slow_update
    outcome = trainer.run()
    assert outcome.finished
    assert 50 <= outcome.step <= 60
    rows = read_metrics(out)
    assert rows[-1]["lr"] < 0.01 * max(row["lr"] for row in rows)


# ------------------------------------------------------------------------------------------------ models

def test_a_loaded_model_is_the_averaged_one(small: Config, out: Path) -> None:
    _run(small.replace(steps=5), out)
    final, newest = load_model(out), load_model(out / "checkpoints/step_00000005.npz")
    ema = checkpoint.load(out / "checkpoints/step_00000005.npz")[0]["ema"]
    for name, array in final.model.state_dict().items():
        np.testing.assert_array_equal(array, ema[name])
        np.testing.assert_array_equal(array, newest.model.state_dict()[name])
    assert not final.model.training
    assert final.classes == tuple("0123456789")
    assert (final.schedule.T, final.config) == (10, small.replace(steps=5))


def test_an_exported_model_is_small_and_nearly_the_same(small: Config, out: Path, tmp_path: Path) -> None:
    _run(small.replace(steps=5), out)
    path = export(out, tmp_path / "half.npz")
    assert path.stat().st_size < 0.7 * (out / "model.npz").stat().st_size
    whole, half = load_model(out).model.state_dict(), load_model(path).model.state_dict()
    for name, array in whole.items():
        assert half[name].dtype == np.float32
        np.testing.assert_allclose(half[name], array, rtol=2**-11, atol=1e-7)   # half precision rounds to 11 bits


def test_a_model_of_another_architecture_is_refused_by_parameter_names(small: Config, out: Path) -> None:
    _run(small.replace(steps=1), out)
    arrays, meta = checkpoint.load(out / "model.npz")
    name = next(iter(arrays["model"]))
    arrays["model"]["extra.weight"] = arrays["model"].pop(name)
    checkpoint.save(out / "other.npz", arrays, meta)
    with pytest.raises(BadInput, match=rf"/other\.npz: written by another architecture: missing {name} .*"
                                       r"unexpected extra\.weight"):
        load_model(out / "other.npz")


def test_too_large_a_batch_says_which_to_try(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy's error for a full GPU is a MemoryError; what was saved before stays."""
    trainer = Trainer(small.replace(batch=12), out, progress=False)

    def full(*_: Any, **__: Any) -> Any:
        raise MemoryError("out of memory allocating 1 GB")

    monkeypatch.setattr(diffusion, "loss", full)
    with pytest.raises(BadInput, match="^train: a batch of 12 does not fit into the memory of cpu; try --batch 4$"):
        trainer.run()
    assert checkpoint.latest(out) is not None


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_the_gpus_precisions_are_refused_on_the_cpu(small: Config, out: Path, precision: str) -> None:
    pytest.importorskip("ml_dtypes")
    with pytest.raises(BadInput, match=f"^train: precision {precision} is the GPU's; the CPU computes in fp32; use device cuda, or imitate it with MINIDIFF_KERNELS=rounded$"):
        Trainer(small.replace(precision=precision), out)
    with pytest.raises(BadInput, match="^train: unknown precision 'fp16'; there are fp32, tf32, bf16$"):
        small.replace(precision="fp16")


def test_each_step_has_noise_of_its_own(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """t and eps of step s are those of Rng(seed, s): repeatable one by one, and never those of another step."""
    trainer, seen, loss = Trainer(small, out, progress=False), [], diffusion.loss

    def watched(model: Any, schedule: Any, x0: Any, labels: Any, rng: Any, *options: Any) -> Any:
        seen.append((rng.seed, rng.step))
        return loss(model, schedule, x0, labels, rng, *options)

    monkeypatch.setattr(diffusion, "loss", watched)
    for _ in range(3):
        trainer.update(*next(trainer.loader))
    trainer.loader.close()
    assert seen == [(small.seed, step) for step in range(3)]


# ------------------------------------------------------------------------------------------------ style

def test_a_model_is_told_style_in_training_and_remembers_its_scale(small: Config, tmp_path: Path) -> None:
    config = small.replace(style=("slant", "weight"))
    trainer = Trainer(config, tmp_path / "whole", progress=False)
    told: list[np.ndarray] = []
    forward = trainer.model.forward
    trainer.model.forward = lambda x, t, labels, style: (told.append(style), forward(x, t, labels, style))[1]
    trainer.run()
    rows = np.concatenate([np.asarray(style) for style in told[:30]])
    assert rows.shape == (120, 2)
    known = ~np.isnan(rows[:, 0])
    assert 0.75 < known.mean() < 1.0 and (known == ~np.isnan(rows[:, 1])).all()          # a tenth loses its style
    assert abs(rows[known].mean()) < 0.3 and rows[known].std() == pytest.approx(1.0, abs=0.2)
    loaded = load_model(tmp_path / "whole")
    assert loaded.model.style_dim == 2 and loaded.style == trainer.style and loaded.style.names == ("slant", "weight")
    assert load_model(export(tmp_path / "whole", tmp_path / "half.npz")).style == loaded.style
    pictures = [diffusion.sample(loaded.model, loaded.schedule, [3], steps=4, style=loaded.style.asked({"slant": a})) for a in (-20.0, 20.0)]
    assert abs(pictures[0] - pictures[1]).max() > 1e-4


def test_a_run_with_style_goes_on_bit_for_bit_and_keeps_its_style(small: Config, tmp_path: Path) -> None:
    config = small.replace(style=["slant"])
    _run(config, tmp_path / "whole")
    trainer = Trainer(config, tmp_path / "parts", progress=False)
    _stop_after(trainer, 17)
    trainer.run()
    _run(config, tmp_path / "parts", resume=True)
    assert_same(checkpoint.latest(tmp_path / "whole"), checkpoint.latest(tmp_path / "parts"))
    with pytest.raises(BadInput, match=r"this run has style \['slant'\], \['weight'\] is asked for"):
        _run(small.replace(steps=40, style=["weight"]), tmp_path / "parts", resume=True)


def test_a_style_that_nobody_knows_is_refused(small: Config, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="glyphs: nothing is known of the style 'mood'; there is slant, weight, face"):
        Trainer(small.replace(style=["mood"]), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_what_is_to_be_noted_of_both_splits_is_told(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = data.load

    def noted(name: str, split: str = "train", **options: Any) -> data.Dataset:
        return dataclasses.replace(load(name, split, **options), notes=(f"of {split}", "of both"))

    monkeypatch.setattr(data, "load", noted)
    facts = Trainer(small, out).data_facts()
    assert facts["notes"] == ["of train", "of both", "of test"] and facts["held_out"] == 8 and sum(facts["classes"].values()) == 40


def test_a_batch_of_more_images_than_there_are_names_the_option(small: Config, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="^train: a batch of 8 is more than the 5 training images of glyphs; give --batch 5 or less$"):
        Trainer(small.replace(limit=5, batch=8), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
