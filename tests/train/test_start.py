"""A training that begins with another model's weights takes these and nothing else, and says where they came from."""
import hashlib
from pathlib import Path

import numpy as np
import pytest

from minidiff import cli
from minidiff.errors import BadInput
from minidiff.train import Config, Trainer, checkpoint, export, load_model
from minidiff.train.records import read_json


def _run(config: Config, out: Path, resume: bool = False) -> None:
    Trainer(config, out, resume, progress=False).run()


@pytest.fixture
def source(small: Config, tmp_path: Path) -> Path:
    """A finished run: its model is the average of its weights, not its last weights."""
    _run(small.replace(steps=12), tmp_path / "source")
    return tmp_path / "source"


def test_it_begins_with_the_averaged_weights_and_with_nothing_else(small: Config, source: Path, out: Path) -> None:
    trainer = Trainer(small.replace(start=str(source)), out, progress=False)
    averaged = load_model(source).model.state_dict()
    for state in (trainer.model.state_dict(), {k: v for k, v in trainer.ema.state_dict().items() if k != "ema.updates"}):
        assert set(state) == set(averaged)
        assert all(np.array_equal(state[name], averaged[name]) for name in averaged)
    fresh = Trainer(small, out, progress=False)
    assert trainer.step == trainer.ema.updates == 0
    assert trainer.optimizer.state_dict().keys() == fresh.optimizer.state_dict().keys()          # no moments
    assert trainer.lr_schedule.state_dict() == fresh.lr_schedule.state_dict()
    assert any(not np.array_equal(a, b) for a, b in zip(averaged.values(), fresh.model.state_dict().values()))


def test_classes_of_other_names_are_noted_and_recorded(small: Config, source: Path, out: Path, tmp_path: Path) -> None:
    arrays, meta = checkpoint.load(source / "model.npz")
    names = [f"digit {k}" for k in range(10)]
    renamed = checkpoint.save(tmp_path / "renamed.npz", arrays, {**meta, "classes": names})
    trainer = Trainer(small.replace(start=str(renamed)), out, progress=False)
    assert trainer.origin["classes"] == names
    assert trainer.data_facts()["notes"] == [f"the classes of {renamed} were {', '.join(names)}: what the model learned for class k is kept under the class's new name"]
    assert Trainer(small.replace(start=str(source)), out, progress=False).data_facts()["notes"] == []


def test_a_checkpoint_with_half_the_bits_will_do(small: Config, source: Path, out: Path, tmp_path: Path) -> None:
    half = export(source, tmp_path / "half.npz")
    trainer = Trainer(small.replace(start=str(half)), out, progress=False)
    wide = load_model(source).model.state_dict()
    for name, array in trainer.model.state_dict().items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, wide[name], rtol=1e-3, atol=1e-7)


def test_the_record_and_every_file_say_where_the_weights_came_from(small: Config, source: Path, out: Path, tmp_path: Path) -> None:
    config = small.replace(start=str(source), steps=6)
    _run(config, out)
    digest = hashlib.sha256((source / "model.npz").read_bytes()).hexdigest()
    origin = {"model": str(source), "sha256": digest, "step": 12}
    assert read_json(out / "record.json")["start"] == origin
    assert read_json(out / "config.json")["start"] == str(source)
    for path in (out / "model.npz", checkpoint.latest(out), export(out, tmp_path / "alone.npz")):
        assert checkpoint.load(path)[1]["start"] == origin
    _run(small.replace(start=str(out), steps=3), tmp_path / "third")                             # and what that one began with
    assert read_json(tmp_path / "third" / "record.json")["start"]["start"] == origin
    assert [load_model(path).steps for path in (source, out, tmp_path / "third")] == [12, 18, 21]
    _run(small.replace(steps=1), tmp_path / "none")
    assert "start" not in read_json(tmp_path / "none" / "record.json")


def test_it_is_resumed_bit_for_bit_though_the_first_model_is_gone(small: Config, source: Path, out: Path, tmp_path: Path) -> None:
    config = small.replace(start=str(source), steps=20)
    _run(config, tmp_path / "whole")
    _run(config, out)
    for late in (out / "checkpoints" / "step_00000020.npz", out / "model.npz", out / "best.npz"):
        late.unlink()
    source.rename(tmp_path / "elsewhere")
    _run(config, out, resume=True)
    assert read_json(out / "record.json")["launches"][-1]["from_step"] == 10
    assert (out / "model.npz").read_bytes() == (tmp_path / "whole" / "model.npz").read_bytes()
    with pytest.raises(BadInput, match=r"this run has start .*, None is asked for"):
        Trainer(config.replace(start=None, steps=30), out, resume=True, progress=False)


@pytest.mark.parametrize(("changes", "differs"), [
    ({"model": {"channels": [8, 8, 16], "condition": "film", "time_dim": 8, "target": "v"}}, "target eps, not v"),
    ({"model": {"channels": [8, 16], "condition": "film", "time_dim": 8}}, r"channels \[8, 8, 16\], not \[8, 16\]"),
    ({"model": {"network": "attention-unet", "channels": [32, 32], "blocks": 1, "attention": [], "head_width": 32}}, "network unet, not attention-unet"),
])
def test_another_network_is_refused_by_the_options_that_differ(small: Config, source: Path, out: Path, changes: dict, differs: str) -> None:
    with pytest.raises(BadInput, match=rf"start: {source} has another network than this recipe: .*{differs}.*; it was trained by --preset small"):
        Trainer(small.replace(start=str(source), **changes), out, progress=False)
    assert not out.exists()


def test_other_style_values_are_refused(small: Config, out: Path, tmp_path: Path) -> None:
    """The networks are the same; what their inputs mean is not."""
    styled = small.replace(limit=80, steps=2, validate=0, style=("slant", "weight"))
    _run(styled, tmp_path / "source")
    Trainer(styled.replace(start=str(tmp_path / "source")), out, progress=False)
    with pytest.raises(BadInput, match="another network than this recipe: style slant weight, not weight slant"):
        Trainer(styled.replace(style=("weight", "slant"), start=str(tmp_path / "source")), out, progress=False)


def test_a_model_of_classes_learns_styles_and_begins_as_what_it_was(small: Config, source: Path, out: Path) -> None:
    styled = small.replace(steps=4, validate=0, style=("slant", "weight"), start=str(source))
    trainer = Trainer(styled, out, progress=False)
    before, classes = trainer.model.eval(), load_model(source).model
    x, labels = np.random.default_rng(0).standard_normal((3, 1, *[small.image_size] * 2), dtype=np.float32), np.array([0, 1, -1])
    for style in (None, np.array([[2.0, -1.0], [np.nan, 3.0], [0.0, np.nan]])):
        assert np.array_equal(before(x, 5, labels, style).numpy(), classes(x, 5, labels).numpy())
    trainer.run()
    after = load_model(out)
    assert after.style.names == ("slant", "weight") and after.steps == 12 + 4
    told, other = (after.model(x, 5, labels, np.full((3, 2), s)).numpy() for s in (1.0, -1.0))
    assert not np.allclose(told, other, atol=1e-5)                                               # it listens
    with pytest.raises(BadInput, match="another network than this recipe: style slant weight, not none"):
        Trainer(small.replace(start=str(out)), out.with_name("back"), progress=False)


def test_no_such_model_is_refused_before_anything_is_written(small: Config, out: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no bundled model of this name"):
        Trainer(small.replace(start="nobody"), out, progress=False)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(BadInput, match="broken.npz: truncated"):
        Trainer(small.replace(start=str(tmp_path / "broken.npz")), out, progress=False)
    assert not out.exists()


def test_the_bundled_model_can_be_taught_further(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One step of a thousandth of the rate leaves it as good as it was: far below a fresh network's 1.0."""
    arguments = ["--data", "glyphs", "--preset", "tiny", "--steps", "1", "--lr", "1e-6", "--limit", "64", "--sheet-every", "0", "--out", str(out)]
    assert cli.main(["train", "--start", "tiny", *arguments]) == 0
    assert read_json(out / "record.json")["validation_losses"][0][1] < 0.5
    assert "start             tiny" in capsys.readouterr().out
