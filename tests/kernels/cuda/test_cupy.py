"""The library on CuPy's arrays, as far as a stand-in can tell: see cupy_stand_in.py."""

import json
import sys

import numpy as np
import pytest

import minidiff as md
from minidiff import backend
from minidiff.autograd import grad
from minidiff.bench import gpu
from minidiff.checks import CASES
from minidiff.checks.testing import Subject
from minidiff.cli import main
from minidiff.errors import BadInput
from minidiff.tensor import Tensor
from minidiff.train import Config, Trainer, checkpoint, load_model, read_metrics
from minidiff.train.config import PRESETS
from minidiff.train.graph import GraphStep

named = {"ids": lambda case: case.name}


def on_gpu(cupy, arrays):
    return [cupy.asarray(a) for a in arrays]


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 2e-5)])
@pytest.mark.parametrize("case", [case for case in CASES if case.operation != "to_device"], **named)
def test_every_case_on_the_gpus_arrays(case, dtype, tolerance, cupy):
    subject = Subject.of(case)
    arrays, upstream = subject.cast(dtype)
    ys, gs = subject.run(on_gpu(cupy, arrays), on_gpu(cupy, upstream))
    for t, expected in zip([*ys, *gs], [*subject.values, *subject.gradients], strict=True):
        if t is not None:
            assert backend.device_of(t.data) == "cuda" and t.dtype == dtype
            assert np.linalg.norm(t.numpy() - expected) <= tolerance * (1 + np.linalg.norm(expected))


@pytest.mark.parametrize("case", [case for case in CASES if case.operation != "to_device"], **named)
def test_second_derivatives_stay_on_the_gpu(case, cupy):
    """∂/∂x of Σ (∂(Σ u y)/∂x)², in float64, against NumPy's arrays."""
    subject, found = Subject.of(case), []
    arrays, upstream = subject.cast("float64")
    for bring in (list, lambda given: on_gpu(cupy, given)):
        xs, us = [Tensor(a, requires_grad=True) for a in bring(arrays)], [Tensor(u) for u in bring(upstream)]
        (y,) = subject.outputs(*xs)
        gs = [g for g in grad(y, xs, us[0], create_graph=True) if g is not None]
        total = sum([(g * g).sum() for g in gs], start=Tensor(backend.full((), 0.0, like=xs[0].data)))
        found.append([g for g in grad(total, xs) if g is not None] if total.requires_grad else [])
    for a, b in zip(*found, strict=True):
        assert backend.device_of(b.data) == "cuda"
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-7, atol=1e-9 * (1 + np.abs(a.numpy()).max()))


# --------------------------------------------------------------------------------------- whole programs

CONFIG = Config(data="glyphs", limit=16, batch=4, steps=8, image_size=32, lr=1e-3, clip=1.0, ema=0.9, validate=8, sheet_every=4,
                sheet_per_class=1, sheet_steps=2, checkpoint_every=4, model={"channels": [8, 16], "patch": 8, "condition": "film"})  # fmt: skip
ATTENTION = {"network": "attention-unet", "channels": [8, 8, 8, 16], "blocks": 1, "attention": [], "head_width": 8, "time_dim": 8}


def losses(folder):
    return np.array([(row["loss"], row["grad_norm"]) for row in read_metrics(folder)])


@pytest.mark.parametrize("options", [{}, {"precision": "tf32"}, {"precision": "bf16"}, {"model": {**CONFIG.model, "target": "v"}, "ema": 0.0},
                                     {"optimizer": "adam", "clip": 0.0},
                                     {"schedule": {"name": "flow", "T": 20}, "model": {**CONFIG.model, "target": "flow"}, "times": "logit-normal"},
                                     {"weighting": "min-snr", "model": {**CONFIG.model, "variance": "learned"}},
                                     {"model": ATTENTION, "sheet_every": 0, "batch": 2, "steps": 5}], ids=str)  # fmt: skip
def test_training_is_recorded_as_a_graph_and_gives_the_cpus_numbers(options, cupy, tmp_path):
    config = CONFIG.replace(**options)
    before = backend.get_kernels()
    backend.set_kernels("rounded")                # the CPU's numbers, rounded as the GPU rounds
    try:
        Trainer(config, tmp_path / "cpu", progress=False).run()
    finally:
        backend.set_kernels(before)
    trainer = Trainer(config.replace(device="cuda"), tmp_path / "cuda", progress=False)
    trainer.run()
    assert trainer.graph.reason is None and isinstance(trainer.graph.graph, cupy.cuda.Graph)
    np.testing.assert_allclose(losses(tmp_path / "cuda"), losses(tmp_path / "cpu"), rtol={"fp32": 2e-3, "tf32": 1e-2, "bf16": 2e-2}[config.precision])
    validation = [read_metrics(tmp_path / device)[-1].get("validation") for device in ("cpu", "cuda")]
    assert validation[1] == pytest.approx(validation[0], rel=1e-2)


def test_what_a_graph_cannot_hold_is_trained_launch_by_launch(cupy, tmp_path):
    """SGD has no kernel; a model with dropout draws on the CPU."""
    for name, options in {"sgd": {"optimizer": "sgd", "lr": 1e-2}, "dropout": {"sheet_every": 0, "validate": 0, "batch": 1,
                          "model": {**ATTENTION, "dropout": 0.1}}}.items():  # fmt: skip
        trainer = Trainer(CONFIG.replace(device="cuda", steps=2, **options), tmp_path / name, progress=False)
        trainer.run()
        assert trainer.graph is None and np.isfinite(losses(tmp_path / name)).all()


def test_a_step_that_cannot_be_recorded_says_why_and_goes_on(cupy, tmp_path, monkeypatch):
    made = GraphStep._step

    def looking(self):
        made(self)
        float(self._alive[0].data)

    monkeypatch.setattr(GraphStep, "_step", looking)
    trainer = Trainer(CONFIG.replace(device="cuda", sheet_every=0, validate=0), tmp_path, progress=False)
    trainer.run()
    assert "StreamCaptureUnsupported" in trainer.graph.reason and trainer.graph.graph is None
    assert len(losses(tmp_path)) == 8


def test_a_run_goes_on_from_its_checkpoint(cupy, tmp_path):
    config = CONFIG.replace(device="cuda", sheet_every=0, validate=0, lr_schedule="constant")
    whole = Trainer(config, tmp_path / "whole", progress=False).run()
    Trainer(config.replace(steps=4), tmp_path / "parts", progress=False).run()
    parts = Trainer(config, tmp_path / "parts", resume=True, progress=False).run()
    (a, _), (b, _) = checkpoint.load(whole.path), checkpoint.load(parts.path)
    assert all(np.array_equal(a["model"][name], b["model"][name]) for name in a["model"])


@pytest.fixture
def trained(cupy, tmp_path):
    """A checkpoint made on the GPU."""
    config = CONFIG.replace(device="cuda", steps=2, sheet_every=0, validate=0)
    return Trainer(config, tmp_path / "run", progress=False).run().path


@pytest.mark.parametrize("options", [
    {}, {"variance": "large", "clip": "dynamic"}, {"sampler": "ddim", "eta": 0.5, "guidance": 2.0}, {"sampler": "dpm++"},
    {"sampler": "heun", "churn": 5.0}, {"sampler": "midpoint", "guidance": md.diffusion.Guidance(2.0, (0.0, 0.9), 0.7, 1)},
], ids=str)  # fmt: skip
def test_samples_are_those_of_the_cpu(options, trained):
    drawn = {}
    for device in ("cpu", "cuda"):
        loaded = load_model(trained, device)
        seen = []
        drawn[device] = md.diffusion.sample(loaded.model, loaded.schedule, [0, 3, -1], steps=3, seed=1, batch_size=2,
                                            callback=lambda step, s, xt, x0_hat, indices, seen=seen: seen.append(xt), **options)  # fmt: skip
        assert len(seen) == 6 and all(isinstance(xt, np.ndarray) for xt in seen)
    # An untrained network divides small rates: rounding grows with each step, a thousandth at most.
    assert np.abs(drawn["cuda"] - drawn["cpu"]).max() < 2e-3


def test_every_command_takes_the_device(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "tiny", CONFIG.replace(preset="tiny", validate=0, sheet_every=0))
    assert main(["sample", str(trained), "--classes", "0-2", "--per-class", "1", "--steps", "2", "--device", "cuda", "--out", "a.npz"]) == 0
    assert main(["evaluate", str(trained), "--n", "10", "--steps", "2", "--device", "cuda", "--precision", "bf16", "--json", "e.json"]) == 0
    assert main(["train", "--data", "glyphs", "--preset", "tiny", "--steps", "2", "--batch", "2", "--limit", "8", "--device", "cuda",
                 "--precision", "tf32", "--out", "run2"]) == 0  # fmt: skip
    assert {"a.npz", "e.json", "run2"} <= {path.name for path in tmp_path.iterdir()}


def test_too_large_a_batch_says_which_to_try(trained, tmp_path, cupy, monkeypatch, capsys):
    stand_in = sys.modules["cupy"].ndarray.__init__.__globals__
    monkeypatch.setitem(stand_in, "room", 60_000)
    loaded = load_model(trained, "cuda")
    with pytest.raises(BadInput, match="^sample: 64 pictures at a time do not fit into memory; try batch_size 32$"):
        md.diffusion.sample(loaded.model, loaded.schedule, np.zeros(64, int), steps=2, batch_size=64)
    with pytest.raises(BadInput, match=r"batch.* 32"):
        Trainer(CONFIG.replace(device="cuda", batch=64, limit=64), tmp_path / "large", progress=False).run()


def test_the_stand_in_refuses_what_cupy_refuses(cupy):
    a, b = cupy.asarray(np.ones(3)), np.ones(3)
    for wrong in (lambda: a + b, lambda: b + a, lambda: np.sum(a), lambda: np.asarray(a), lambda: np.sin(a), lambda: cupy.exp(b)):
        with pytest.raises(TypeError):
            wrong()
    short = cupy.asarray(np.ones(3).astype(backend.bfloat16()))
    for wrong in (lambda: short + short, lambda: cupy.sum(short)):
        with pytest.raises(TypeError):
            wrong()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for wrong in (lambda: float(a[0]), lambda: a.get(), lambda: cupy.asarray(b), lambda: bool(a.any())):
            with pytest.raises(RuntimeError, match="StreamCaptureUnsupported"):
                wrong()
        a += 1.0
        c = a * 2.0
        graph = stream.end_capture()
    np.testing.assert_array_equal(a.get(), np.ones(3))            # nothing happens until the graph is launched
    for expected in (4.0, 6.0):
        graph.launch(stream)
        np.testing.assert_array_equal(c.get(), np.full(3, expected))


def test_the_benchmark_runs(cupy, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PRESETS, "tiny", CONFIG.replace(preset="tiny"))
    monkeypatch.setattr(gpu, "DATA", 8)
    monkeypatch.setattr(gpu, "ceilings", lambda device: {"copy_bytes_per_second": 1e9, "fp32_flop_per_second": 1e10})
    path = tmp_path / "bench.json"
    assert main(["bench", "--device", "cuda", "--preset", "tiny", "--batch", "2", "--precision", "fp32", "--rounds", "2", "--steps", "1",
                 "--json", str(path)]) == 0  # fmt: skip
    record = json.loads(path.read_text())
    found = record["networks"]["tiny"]["batches"]["2"]
    assert set(found["seconds"]) == {"minidiff fp32, graph", "minidiff fp32, launch by launch"} and found["failed"] == {}
    assert {row["held_by"] for row in found["kernels"]["fp32"]} == {"memory", "products"}
    assert "a stand-in, sm_90" in capsys.readouterr().out
