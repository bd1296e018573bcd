"""What can go wrong around a run, and that nothing is lost by it."""
import errno
import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidiff import cli, diffusion
from minidiff.errors import BadInput
from minidiff.train import CannotSave, Config, Diverged, Trainer, checkpoint, load_model, read_metrics, records
from minidiff.train.folder import newest_readable

ROOT = Path(__file__).resolve().parents[2]


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _run(config: Config, out: Path, resume: bool = False) -> Any:
    return Trainer(config, out, resume, progress=False).run()


def assert_as_if_unbroken(config: Config, out: Path, tmp_path: Path) -> None:
    """Every file that no clock has a say in is that of a run of which nothing went wrong."""
    _run(config, tmp_path / "unbroken")
    found, expected = _files(out), _files(tmp_path / "unbroken")
    aside = {name for name in found if name.endswith(".bad.npz")}
    assert set(found) - aside == set(expected)
    assert [name for name in expected if name.endswith(".npz") and found[name] != expected[name]] == []
    timeless = [[{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in read_metrics(folder)]
                for folder in (out, tmp_path / "unbroken")]
    assert timeless[0] == timeless[1]


# ------------------------------------------------------------------------------------------------ a full disk

def _full_after(n: int, monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOSPC) -> None:
    """The disk takes n checkpoints; of the next it takes some arrays."""
    write_npz, written = checkpoint.write_npz, []

    class Cut(dict):
        def items(self) -> Any:
            yield from list(super().items())[:5]
            raise OSError(code, os.strerror(code))

    def write_part(path: Path, arrays: dict[str, Any]) -> None:
        written.append(path)
        write_npz(path, arrays if len(written) <= n else Cut(arrays))

    monkeypatch.setattr(checkpoint, "write_npz", write_part)


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(small: Config, out: Path, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    _full_after(2, monkeypatch)
    trainer = Trainer(small, out, progress=False)
    with pytest.raises(CannotSave) as caught:
        trainer.run()
    good = out / "checkpoints/step_00000010.npz"
    assert caught.value.strerror == (
        f"train: step 20 cannot be saved in {out} (No space left on device); stopped; the last good checkpoint is {good}; make room, "
        f"then: minidiff train --out {out} --resume")
    assert checkpoint.latest(out) == good
    assert not [name for name in _files(out) if ".part" in name]
    assert json.loads((out / "record.json").read_text())["status"] == "stopped"
    monkeypatch.undo()
    _run(small, out, resume=True)
    assert_as_if_unbroken(small, out, tmp_path)


def test_a_run_that_was_to_end_in_time_is_gone_on_with_by_the_clock(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _full_after(1, monkeypatch)
    with pytest.raises(CannotSave) as caught:
        Trainer(small, out, minutes=2.5, progress=False).run()
    assert caught.value.strerror.endswith(f"then: minidiff train --out {out} --resume --minutes 2.5")


def test_a_disk_that_is_full_from_the_start_is_said(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _full_after(0, monkeypatch)
    with pytest.raises(CannotSave, match=r"step 0 cannot be saved in .* \(No space left on device\); stopped; nothing has been saved yet; make room"):
        _run(small, out)
    assert _files(out) == {}
    monkeypatch.undo()
    assert _run(small.replace(steps=1), out).finished


def test_a_folder_that_turns_read_only_is_said(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _full_after(1, monkeypatch, errno.EROFS)
    with pytest.raises(CannotSave, match=r"\(Read-only file system\); .*step_00000000\.npz; make it writable again, then: "):
        _run(small, out)


def test_the_command_line_says_a_full_disk_in_one_line_with_status_1(tmp_path: Path) -> None:
    """No pretence: the system itself refuses files beyond 30 kB, less than a checkpoint has."""
    command = [sys.executable, "-m", "minidiff", "train", "--preset", "tiny", "--data", "glyphs", "--limit", "40", "--steps", "3", "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)))
    assert done.returncode == 1
    assert done.stderr == ("minidiff: train: step 0 cannot be saved in run (File too large); stopped; nothing has been saved yet; "
                           "make it writable again\n")
    assert _files(tmp_path) == {}


def test_another_error_of_the_system_is_not_called_a_full_disk(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ECHILD, os.strerror(errno.ECHILD))

    trainer = Trainer(small, out, progress=False)
    monkeypatch.setattr(diffusion, "loss", fail)
    with pytest.raises(OSError, match="No child processes") as caught:
        trainer.run()
    assert not isinstance(caught.value, CannotSave)


def test_a_read_only_folder_is_refused_before_the_work(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system would say it to anybody but root."""
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(BadInput, match=r"run: cannot be written \(Read-only file system\); give another --out$"):
        Trainer(small, out)
    assert not out.exists()


# ------------------------------------------------------------------------------------------------ bad checkpoints

def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(("harm", "said"), [
    (_cut, "truncated checkpoint (the archive's directory at its end is missing); use another one"),
    (_zeroed, "not a minidiff checkpoint (no .npz archive)"),
    (lambda path: path.write_bytes(b""), "empty file, not a minidiff checkpoint"),
    (_changed, "damaged checkpoint (Bad CRC-32 for file "),
], ids=["cut", "zeroed", "empty", "changed"])
def test_an_unreadable_checkpoint_is_passed_over_and_said(small: Config, out: Path, tmp_path: Path, harm: Any, said: str,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    config = small.replace(sheet_every=15, sheet_per_class=1, sheet_steps=2)
    _run(config, out)
    for name in ("model.npz", "checkpoints/step_00000030.npz"):
        (out / name).unlink()
    newest = out / "checkpoints/step_00000020.npz"
    harm(newest)
    trainer = Trainer(config, out, resume=True)
    assert trainer.step == 10
    trainer.run()
    err = capsys.readouterr().err
    assert f"{newest}: {said}" in err and "; going on after step 10\n" in err
    assert newest.with_suffix(".bad.npz").exists()
    assert [row["step"] for row in read_metrics(out)] == list(range(1, 31))
    assert_as_if_unbroken(config, out, tmp_path)


def test_a_run_without_a_readable_checkpoint_says_so_and_keeps_everything(small: Config, out: Path) -> None:
    _run(small.replace(steps=10), out)
    for path in checkpoint.all_of_run(out):
        _cut(path)
    before = _files(out)
    with pytest.raises(BadInput, match=r"run: none of its 2 checkpoints can be read; the newest: .*step_00000010.npz: truncated checkpoint"):
        Trainer(small, out, resume=True)
    assert _files(out) == before


def test_a_newer_format_is_no_damage(small: Config, out: Path) -> None:
    """It is not passed over: going on from an older checkpoint would throw away what the newer minidiff has done."""
    _run(small.replace(steps=10), out)
    np.savez(out / "checkpoints/step_00000020.npz", meta=np.array(json.dumps({"format": "minidiff-checkpoint", "version": 2})))
    with pytest.raises(BadInput, match="written by a newer minidiff"):
        newest_readable(out)


@pytest.mark.parametrize("seed", range(4))
def test_any_changed_byte_is_one_line_or_changes_nothing(small: Config, out: Path, tmp_path: Path, seed: int) -> None:
    """A zip has fields that nobody reads; any other change must be a BadInput, never another error or other numbers."""
    _run(small.replace(steps=1), out)
    whole = (out / "model.npz").read_bytes()
    expected, chance = checkpoint.load(out / "model.npz")[0]["model"], random.Random(seed)
    for _ in range(60):
        content = bytearray(whole)
        if chance.random() < 0.3:
            content = content[: chance.randrange(len(whole))]
        else:
            content[chance.choice([chance.randrange(len(whole)), chance.randrange(400), -chance.randrange(1, 4000)])] ^= 1 << chance.randrange(8)
        path = tmp_path / "x.npz"
        path.write_bytes(content)
        try:
            arrays = checkpoint.load(path)[0]["model"]
        except BadInput as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            assert all(arrays[k].tobytes() == expected[k].tobytes() for k in arrays)


def test_damaged_metrics_and_records_stop_no_run(small: Config, out: Path) -> None:
    _run(small.replace(steps=10), out)
    with open(out / "metrics.jsonl", "ab") as file:
        file.write(b"\x00" * 50 + b'\n{"step": 11, "lo')
    (out / "record.json").write_text("{")
    assert _run(small.replace(steps=12), out, resume=True).step == 12
    assert [row["step"] for row in read_metrics(out)] == list(range(1, 13))


# ------------------------------------------------------------------------------------------------ not a number

def test_the_layer_that_made_the_first_infinity_is_named(small: Config, out: Path) -> None:
    trainer = Trainer(small, out, progress=False)
    update = trainer.update

    def overflowing(*batch: Any) -> Any:
        if trainer.step == 12:
            trainer.model.downs[1].conv1.conv.weight.data[0] = 3e38
        return update(*batch)

    trainer.update = overflowing
    with np.errstate(all="ignore"), pytest.raises(Diverged, match=(
            r"^train: step 13: the loss is (nan|inf) \(lr .*\); first seen in Conv2d of downs\.1\.conv1\.conv: made (inf|NaN) "
            r"\(\d+ of \d+ numbers\) from inputs without, \(4, 8, 16, 16\) float32, .*; stopped, nothing was overwritten; "
            r"the last good state is .*/step_00000010\.npz; try a lower --lr, or --clip 1$")):
        trainer.run()
    assert _run(small, out, resume=True).finished


def test_a_weight_that_is_no_number_is_named(small: Config, out: Path) -> None:
    trainer = Trainer(small, out, progress=False)
    trainer.model.mid[0].conv.bias.data[2] = np.nan
    with pytest.raises(Diverged, match=r"step 1: the loss is nan \(lr .*\); the weight mid\.0\.conv\.bias \(16,\) is no longer finite; "):
        trainer.run()


def test_an_operation_whose_gradient_overflows_is_named(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, loss = Trainer(small, out, progress=False), diffusion.loss
    monkeypatch.setattr(diffusion, "loss", lambda *a, **k: loss(*a, **k) + (trainer.model.out.bias * 0.0).sqrt().sum())
    with np.errstate(all="ignore"), pytest.raises(Diverged, match=r"the gradient's norm is nan \(lr .*\); first seen in Sqrt: backward made inf"):
        trainer.run()


def test_looking_for_the_fault_leaves_the_model_as_it_was(small: Config, out: Path) -> None:
    from minidiff.train.faults import first_fault

    trainer = Trainer(small.replace(recompute=True), out, progress=False)
    before = [vars(layer).get("forward") for layer in trainer.model.modules()]
    assert first_fault(trainer.model, lambda: None) == "computed again, the same step stays finite"
    assert [vars(layer).get("forward") for layer in trainer.model.modules()] == before


# ------------------------------------------------------------------------------------------------ the clock

def test_a_clock_that_goes_backwards_changes_no_name_and_no_duration(small: Config, out: Path, tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    hours = iter(range(10_000, 0, -1))
    monkeypatch.setattr(time, "time", lambda: 3600.0 * next(hours))
    monkeypatch.setattr(records, "now", lambda: f"2026-01-01T{next(hours) % 24:02d}:00:00Z")
    _run(small.replace(steps=10), out)
    _run(small.replace(steps=12), out, resume=True)
    seconds = [row["seconds"] for row in read_metrics(out)]
    assert seconds == sorted(seconds) and seconds[0] >= 0
    assert json.loads((out / "record.json").read_text())["seconds"] >= 0
    monkeypatch.undo()
    _run(small.replace(steps=10), tmp_path / "usual")
    _run(small.replace(steps=12), tmp_path / "usual", resume=True)
    assert set(_files(out)) == set(_files(tmp_path / "usual"))


def test_a_clock_that_stands_still_divides_nothing_by_zero(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 5.0)
    Trainer(small.replace(steps=20), out, minutes=1).run()
    assert {row["seconds"] for row in read_metrics(out)} == {0.0}


# ------------------------------------------------------------------------------------------------ the best

def test_the_best_weights_stay_whatever_comes_after(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([0.5, 0.3, 0.4, float("nan"), 0.6])
    monkeypatch.setattr(Trainer, "validation_loss", lambda self: next(losses))
    config = small.replace(steps=10, sheet_every=2, sheet_per_class=1, sheet_steps=1, checkpoint_every=1, keep=2)
    _run(config, out)
    best = load_model(out / "best")
    assert (best.meta["step"], best.meta["held_out_loss"]) == (4, 0.3)
    assert json.loads((out / "record.json").read_text())["best"] == {"step": 4, "loss": 0.3}
    assert [p.name for p in checkpoint.all_of_run(out)] == ["step_00000009.npz", "step_00000010.npz"]


def test_the_best_are_the_averaged_weights_of_their_step(small: Config, out: Path) -> None:
    _run(small.replace(steps=6, sheet_every=3, sheet_per_class=1, sheet_steps=1, checkpoint_every=3), out)
    meta = checkpoint.load(out / "best.npz")[1]
    arrays = checkpoint.load(out / f"checkpoints/step_{meta['step']:08d}.npz")[0]
    best = load_model(out / "best.npz").model.state_dict()
    assert all(best[name].tobytes() == arrays["ema"][name].tobytes() for name in best)


def test_a_resumed_run_remembers_its_best(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([0.3, 0.4])
    monkeypatch.setattr(Trainer, "validation_loss", lambda self: next(losses))
    _run(small.replace(steps=5), out)
    _run(small.replace(steps=8), out, resume=True)
    assert checkpoint.load(out / "best.npz")[1]["step"] == 5


# ------------------------------------------------------------------------------------------------ the folder

def test_the_folder_says_how_to_do_it_again(small: Config, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIDIFF_KERNELS", "numpy")
    config = small.replace(steps=2)
    _run(config, out)
    assert Config.load(out) == Config.load(out / "config.json") == config
    environment = json.loads((out / "environment.json").read_text())
    assert environment["variables"]["MINIDIFF_KERNELS"] == "numpy"
    assert {"command", "commit", "machine", "versions", "started"} <= set(environment)
    assert "numpy" in environment["versions"] and environment["machine"]["threads"] >= 1


def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    for text, message in (("{", "c.json: cannot be read as JSON"), ('{"steps": 1, "colour": 1}', "c.json: train: unknown field colour"),
                          ('{"steps": 1, "model": 3}', "c.json: train: model must hold options by name, got 3"),
                          ('{"steps": 0}', "c.json: train: steps must be a whole number of at least 1, got 0")):
        path.write_text(text)
        with pytest.raises(BadInput, match=message):
            Config.load(path)
    with pytest.raises(BadInput, match="none.json: cannot be read as JSON .No such file or directory"):
        Config.load(tmp_path / "none.json")


def test_missing_data_is_missed_before_the_first_step(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out images are needed at the first look, perhaps hours from now."""
    from minidiff import data

    load = data.load
    monkeypatch.setattr(data, "load", lambda name, split, **k: load(name, split, **k) if split == "train" else (_ for _ in ()).throw(BadInput("no test files")))
    with pytest.raises(BadInput, match="^no test files$"):
        Trainer(small, out, progress=False)
    assert _files(out) == {}


def test_what_a_killed_run_left_half_written_is_removed(small: Config, out: Path) -> None:
    for name in ("checkpoints/.step_00000001.123.part.npz", ".model.123.part.npz", "sheets/.step_00000001.9.part.png"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"half")
    (out / ".mine.part.txt").touch()                              # of somebody else
    _run(small.replace(steps=1), out)
    assert [name for name in _files(out) if ".part" in name] == [".mine.part.txt"]


def test_sigterm_on_the_command_line_is_status_143(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's own number for it, so that a scheduler sees what happened."""
    from minidiff.train import PRESETS

    monkeypatch.setitem(PRESETS, "small", small)
    update = Trainer.update

    def terminated(self: Trainer, *batch: Any) -> Any:
        if self.step == 4:
            os.kill(os.getpid(), 15)
        return update(self, *batch)

    monkeypatch.setattr(Trainer, "update", terminated)
    assert cli.main(["train", "--preset", "small", "--out", str(out)]) == 143
    assert checkpoint.latest(out).name == "step_00000005.npz"
