"""A recipe is checked when it is made, survives JSON, and says what it holds."""
import json
import math

import pytest

from minidiff.errors import BadInput
from minidiff.train import PRESETS, Config, preset


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_json(name: str) -> None:
    config = preset(name)
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.preset == name


def test_report_is_the_reports_recipe() -> None:
    c = preset("report")
    assert (c.epochs, c.batch, c.lr, c.optimizer, c.lr_schedule, c.ema, c.guidance) == (15, 64, 1e-3, "adam",
                                                                                     "constant", 0, 0)
    assert c.schedule == {"name": "linear", "T": 100, "beta_start": 1e-4, "beta_end": 0.02}
    assert c.model == {"channels": [32, 64, 128], "condition": "before-mid", "time_dim": 8}


def test_unknown_preset_lists_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"^unknown preset 'huge'; there are report, mnist, tiny, large, attention$"):
        preset("huge")


@pytest.mark.parametrize(("changes", "message"), [
    ({"lr": math.nan}, "lr must be a finite number above 0, got nan"),
    ({"lr": math.inf}, "lr must be a finite number above 0, got inf"),
    ({"lr": 0}, "lr must be a finite number above 0, got 0"),
    ({"lr": -1e-3}, "lr must be a finite number above 0, got -0.001"),
    ({"epochs": -1.0}, "epochs must be a finite number above 0, got -1.0"),
    ({"epochs": math.nan}, "epochs must be a finite number above 0, got nan"),
    ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
    ({"steps": 1.5}, "steps must be a whole number of at least 1, got 1.5"),
    ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
    ({"batch": True}, "batch must be a whole number of at least 1, got True"),
    ({"threads": 0}, "threads must be a whole number of at least 1, got 0"),
    ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ({"clip": math.inf}, "clip must be a finite number of at least 0, got inf"),
    ({"ema": 1.0}, r"ema must lie in \[0, 1\), 0 for none, got 1.0"),
    ({"drop": 1.1}, r"drop must lie in \[0, 1\], got 1.1"),
    ({"guidance": -1}, "guidance must be a finite number of at least 0, got -1"),
    ({"optimizer": "lion"}, "unknown optimizer 'lion'; there are adam, adamw, sgd"),
    ({"lr_schedule": "step"}, "unknown lr_schedule 'step'; there are constant, cosine"),
])
def test_a_value_no_run_could_use_is_named(changes: dict, message: str) -> None:
    with pytest.raises(BadInput, match=f"^train: {message}$"):
        preset("tiny").replace(**changes)


def test_neither_epochs_nor_steps_is_refused() -> None:
    with pytest.raises(BadInput, match="give epochs or steps, neither is set"):
        Config()


def test_unknown_field_is_named() -> None:
    with pytest.raises(BadInput, match="unknown field colour"):
        Config.from_json({**preset("tiny").to_json(), "colour": "red"})


def test_steps_and_epochs_replace_each_other() -> None:
    assert preset("mnist").replace(steps=7).total_steps(937) == 7
    assert preset("tiny").replace(epochs=2).total_steps(937) == 1874
    assert preset("tiny").replace(epochs=0.5).total_steps(937) == 468
    assert preset("tiny").replace(epochs=1e-9).total_steps(937) == 1


def test_printed_config_names_every_field_that_is_set() -> None:
    text = str(preset("tiny"))
    lines = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert lines["preset"] == "tiny"
    assert lines["lr"] == f"{preset('tiny').lr:g}"
    assert "epochs" not in lines
    assert "name=cosine" in lines["schedule"]
