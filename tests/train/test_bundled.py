"""The models that come with the library: small files that draw what they are asked for."""
import numpy as np
import pytest

import minidiff as md
from minidiff import diffusion, evaluate, train


def test_there_are_three_and_all_are_small() -> None:
    assert train.bundled() == ("mnist", "mnist-styles", "tiny")
    for name, parameters, megabytes in (("mnist", 1_000_000, 2.0), ("mnist-styles", 1_000_000, 2.1), ("tiny", 300_000, 0.6)):
        loaded = train.load_model(name)
        assert loaded.model.num_parameters() <= parameters and loaded.path.stat().st_size < 1e6 * megabytes
        assert loaded.config.data == "mnist" and loaded.classes == tuple("0123456789")


@pytest.mark.parametrize("name", ["mnist", "mnist-styles", "tiny"])
def test_the_judge_recognises_what_they_draw(name: str) -> None:
    loaded, labels = train.load_model(name), np.repeat(np.arange(10), 3)
    style = loaded.style.drawn(labels) if loaded.style else None
    drawn = diffusion.sample(loaded.model, loaded.schedule, labels, "ddim", 8, guidance=0.5, style=style)
    assert evaluate.judge_samples(drawn, labels).accuracy >= 0.9


def test_the_one_of_styles_leans_and_swells_as_it_is_asked_to() -> None:
    loaded, labels = train.load_model("mnist-styles"), np.arange(10)
    assert loaded.style.names == ("slant", "weight") and loaded.meta["start"]["model"] == "mnist"
    drawn = {}
    for name, low, high in (("slant", -10.0, 20.0), ("weight", 1.8, 3.4)):
        for wanted in (low, high):
            style = loaded.style.drawn(labels, asked=loaded.style.asked({name: wanted}))
            drawn[wanted] = md.data.MEASURES[name](diffusion.sample(loaded.model, loaded.schedule, labels, "ddim", 6, guidance=0.2, style=style)).mean()
        assert drawn[high] - drawn[low] > 0.7 * (high - low)
