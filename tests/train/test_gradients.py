"""A batch in parts and a network that computes twice give the step of the plain way."""
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidiff import backend, diffusion, models
from minidiff.errors import BadInput
from minidiff.train import Config, Trainer, checkpoint
from minidiff.train.gradients import gradients, recompute_blocks

FILM = {"channels": [8, 16, 24], "condition": "film", "time_dim": 8}
NETWORKS = {
    "film": FILM, "before-mid": {**FILM, "condition": "before-mid"}, "learned variance": {**FILM, "variance": "learned"},
    "attention": {"network": "attention-unet", "channels": [32, 64], "blocks": 1, "attention": [16], "head_width": 32, "in_channels": 1},
}  # fmt: skip


def _gradients(options: dict[str, Any], c: Config, recompute: bool = False) -> tuple[float, dict[str, np.ndarray]]:
    backend.manual_seed(0)
    model = models.build(options)
    for p in model.parameters():                                  # nothing may stay silent behind a zero
        p.data += 0.05 * backend.default_rng().standard_normal(p.shape, dtype=np.float32)
    if recompute:
        recompute_blocks(model)
    rng = np.random.default_rng(1)
    x0, labels = rng.uniform(-1, 1, (8, 1, 32, 32)).astype(np.float32), rng.integers(0, 10, 8)
    loss = gradients(model, diffusion.make_schedule("cosine", T=20), c, 7, x0, labels)
    return loss, {name: p.grad.numpy() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("choices", [{}, {"weighting": "min-snr", "times": "logit-normal"}], ids=["plain", "weighted"])
@pytest.mark.parametrize("parts", [2, 8])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(name: str, choices: dict, parts: int) -> None:
    """The same noise for every sample; only the order of additions differs, so the rest is float32's rounding."""
    c = Config(steps=1, batch=8, drop=0.5, **choices)
    whole, expected = _gradients(NETWORKS[name], c)
    loss, found = _gradients(NETWORKS[name], c.replace(accumulate=parts))
    assert loss == pytest.approx(whole, rel=1e-6)
    for path, g in expected.items():
        np.testing.assert_allclose(found[path], g, rtol=0, atol=2e-5 * max(np.abs(g).max(), 1e-2), err_msg=path)


def test_parts_with_noise_of_their_own_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above sees a part that begins at row 0 again."""
    from minidiff.train import gradients as module

    c = Config(steps=1, batch=8)
    _, expected = _gradients(FILM, c)
    rng = module.Rng
    monkeypatch.setattr(module, "Rng", lambda seed, step, first_row, like: rng(seed, step=step, like=like))
    _, found = _gradients(FILM, c.replace(accumulate=2))
    assert any(np.abs(found[path] - g).max() > 1e-2 * np.abs(g).max() for path, g in expected.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_computing_twice_changes_no_bit_of_the_gradient(name: str) -> None:
    c = Config(steps=1, batch=8)
    whole, expected = _gradients(NETWORKS[name], c)
    loss, found = _gradients(NETWORKS[name], c, recompute=True)
    assert loss == whole
    assert {path: g.tobytes() for path, g in found.items()} == {path: g.tobytes() for path, g in expected.items()}


def test_computing_twice_keeps_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the graph holds on to between forward and backward, in bytes."""
    import tracemalloc

    held = []
    for recompute in (False, True):
        backend.manual_seed(0)
        model = models.build(FILM)
        if recompute:
            recompute_blocks(model)
        x = np.zeros((8, 1, 32, 32), np.float32)
        tracemalloc.start()
        loss = model(x, np.ones(8, int), np.zeros(8, int)).mean()
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del loss
    assert held[1] < 0.6 * held[0]


def test_a_run_that_computes_twice_ends_in_the_same_weights_and_can_be_resumed_without(small: Config, tmp_path: Path) -> None:
    Trainer(small.replace(steps=4), tmp_path / "plain", progress=False).run()
    Trainer(small.replace(steps=4, recompute=True), tmp_path / "twice", progress=False).run()
    plain, twice = (checkpoint.load(tmp_path / name / "model.npz")[0]["model"] for name in ("plain", "twice"))
    assert {k: v.tobytes() for k, v in plain.items()} == {k: v.tobytes() for k, v in twice.items()}
    assert Trainer(small.replace(steps=6), tmp_path / "twice", resume=True, progress=False).run().step == 6


def test_a_run_in_parts_ends_near_the_whole_and_is_another_recipe(small: Config, tmp_path: Path) -> None:
    ends = []
    for parts in (1, 4):
        config = small.replace(steps=5, accumulate=parts, optimizer="sgd", lr=1e-2)
        Trainer(config, tmp_path / str(parts), progress=False).run()
        ends.append(checkpoint.load(tmp_path / str(parts) / "model.npz")[0]["model"])
    for name, w in ends[0].items():
        np.testing.assert_allclose(ends[1][name], w, atol=1e-5)
    with pytest.raises(BadInput, match="this run has accumulate 4, 1 is asked for"):
        Trainer(config.replace(accumulate=1), tmp_path / "4", resume=True)


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(BadInput, match="^train: recompute works block by block, and MLP has no downs, mid or ups$"):
        recompute_blocks(models.build({"network": "mlp"}))


def test_the_gpus_own_step_is_left_to_the_plain_way(small: Config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever GraphStep could do with the model: it has neither parts nor a second computation."""
    from minidiff.train import trainer as module

    monkeypatch.setattr(module, "obstacle", lambda *_: None)
    monkeypatch.setattr(module, "GraphStep", lambda *_: "on the GPU")
    made = [Trainer(small.replace(**c), out, progress=False)._graph_step() for c in ({}, {"accumulate": 2}, {"recompute": True})]
    assert made == ["on the GPU", None, None]
