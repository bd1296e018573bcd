"""Every field of a recipe can be set by its name, as the type it has."""
import dataclasses

import pytest

from minidiff.errors import BadInput
from minidiff.train import Config, preset
from minidiff.train.settings import apply

EXAMPLES = {
    str: ("glyphs", "glyphs"), int: ("3", 3), float: ("0.5", 0.5), bool: ("yes", True), int | None: ("4", 4), float | None: ("2.5", 2.5),
    tuple[str, ...]: ("slant,weight", ("slant", "weight")), str | None: ("runs/first", "runs/first"),
}  # fmt: skip
VALID = {"optimizer": "sgd", "lr_schedule": "constant", "weighting": "min-snr", "times": "logit-normal", "precision": "bf16", "accumulate": "4", "sheet_sampler": "ddim"}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Config) if f.name not in ("model", "schedule")])
def test_every_field_can_be_set(field: str) -> None:
    from minidiff.train.settings import fields

    text, value = EXAMPLES[fields()[field]]
    if field in VALID:
        text, value = VALID[field], type(value)(VALID[field])
    changed = apply(preset("mnist"), [f"{field}={text}"])
    assert getattr(changed, field) == value
    others = {f.name for f in dataclasses.fields(Config)} - {field, "epochs", "steps"}
    assert {n: getattr(changed, n) for n in others} == {n: getattr(preset("mnist"), n) for n in others}


def test_options_of_network_and_schedule_are_set_one_by_one() -> None:
    c = apply(preset("mnist"), "weight_decay=0.01 model.target=flow schedule.name=flow model.channels=32,64".split())
    assert c.weight_decay == 0.01
    assert c.model == {"channels": [32, 64], "condition": "film", "time_dim": 32, "target": "flow"}
    assert c.schedule == {"name": "flow", "T": 100}


def test_another_network_or_schedule_does_not_inherit_the_old_ones_numbers() -> None:
    c = apply(preset("report"), ["schedule.name=cosine", "schedule.s=0.01", "model.network=attention-unet", "model.blocks=1"])
    assert c.schedule == {"name": "cosine", "T": 100, "s": 0.01}
    assert c.model == {"network": "attention-unet", "blocks": 1}
    assert apply(preset("report"), ["schedule.T=200"]).schedule == {**preset("report").schedule, "T": 200}


def test_none_true_and_lists_are_read() -> None:
    c = apply(preset("mnist"), ["limit=none", "threads=None", "recompute=off", "style=none", "epochs=2"])
    assert (c.limit, c.threads, c.recompute, c.style, c.epochs, c.steps) == (None, None, False, (), 2.0, None)


@pytest.mark.parametrize(("setting", "message"), [
    ("weight_deca=1", "unknown field 'weight_deca'; did you mean weight_decay?"),
    ("colour=red", "unknown field 'colour'; there are preset, data, limit, .*, validate, and those of model. and schedule."),
    ("model.chanels=8", "unknown field 'model.chanels'; a network unet has in_channels, image_size, channels, .*"),
    ("schedule.beta=1", "unknown field 'schedule.beta'; a schedule cosine has name, T, beta_start, .*"),
    ("model=8", "model has fields of its own; set them one by one, such as model.channels=32,64"),
    ("lr", "cannot read --set lr; write FIELD=VALUE, such as lr=0.001 or model.channels=32,64"),
    ("lr=fast", "lr must be a number, got 'fast'"),
    ("batch=1.5", "batch must be a whole number, got '1.5'"),
    ("model.channels=8,x", "model.channels must be a whole number, got 'x'"),
    ("recompute=maybe", "recompute must be true or false, got 'maybe'"),
    ("seed=none", "seed must be a whole number, got 'none'"),
    ("accumulate=3", "accumulate must divide the batch of 64, got 3"),
])
def test_what_cannot_be_set_is_one_line(setting: str, message: str) -> None:
    with pytest.raises(BadInput, match=f"^train: {message.replace('?', '[?]')}$"):
        apply(preset("mnist"), [setting])


def test_an_unknown_network_lists_those_there_are() -> None:
    with pytest.raises(BadInput, match="^model: network 'vgg' is unknown; it is one of unet, attention-unet, mlp$"):
        apply(preset("mnist"), ["model.network=vgg"])
