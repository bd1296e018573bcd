"""The whole library on the GPU's kernels, run by the emulator: the same numbers as on the CPU."""

import numpy as np
import pytest

import minidiff as md
from minidiff import backend, models
from minidiff.kernels.cuda import runtime
from minidiff.nn import functional as F

ERROR = {"fp32": 1e-5, "tf32": 4e-3, "bf16": 4e-2}       # of gradients through two dozen layers


def small(**options):
    backend.manual_seed(0)
    return models.UNet(image_size=8, channels=(8, 16), num_classes=3, **options)


def step(model, rng_seed=0):
    """The loss, and the gradient of every parameter."""
    rng = np.random.default_rng(rng_seed)
    x, target = rng.standard_normal((2, 2, 1, 8, 8), dtype=np.float32)
    for p in model.parameters():
        p.grad = None
    loss = F.mse_loss(model(x, np.array([3, 50]), np.array([1, -1])), target)
    loss.backward()
    return loss.item(), {name: p.grad.numpy().astype(np.float64) for name, p in model.named_parameters()}


@pytest.mark.parametrize("precision", ERROR)
@pytest.mark.parametrize("options", [{}, {"condition": "film", "target": "v"}, {"pool": "rearrange", "patch": 2}], ids=str)
def test_a_training_step_gives_the_same_gradients(options, precision, emulated):
    model = small(**options)
    backend.set_kernels("numpy")
    loss, gradients = step(model)
    backend.set_kernels("emulated")
    with backend.precision(precision), runtime.kept() as launches:
        found, gs = step(model)
    assert {"gather", "weight_gradient", "group_norm", "matmul", "squares"} <= {launch.kernel.name for launch in launches}
    assert abs(found - loss) <= ERROR[precision] * loss
    whole = np.sqrt(sum(np.square(g).sum() for g in gradients.values()))
    wrong = np.sqrt(sum(np.square(gs[name] - g).sum() for name, g in gradients.items()))
    assert wrong <= ERROR[precision] * whole


def test_activations_are_bfloat16_and_gradients_float32(emulated):
    model = small()
    seen = []
    with backend.precision("bf16"):
        y = model(np.zeros((1, 1, 8, 8), np.float32), 3, 1)
        assert y.dtype == backend.bfloat16()
        op = y.creator
        while op is not None:
            seen.append(op.output_type[1].name)
            op = op.edges[0] if op.edges and not isinstance(op.edges[0], md.Tensor) else None
        y.sum().backward()
    assert seen.count("bfloat16") > len(seen) // 2
    assert {p.grad.dtype.name for p in model.parameters()} == {"float32"}


def test_no_grad_sampling_agrees(emulated):
    model = small()
    schedule = md.diffusion.make_schedule("cosine", T=20)
    pictures = {}
    for kernels in ("numpy", "emulated"):
        backend.set_kernels(kernels)
        pictures[kernels] = md.diffusion.sample(model, schedule, [0, 1], steps=3, guidance=1.0, seed=1)
    assert np.abs(pictures["numpy"] - pictures["emulated"]).max() < 1e-4


@pytest.mark.parametrize("precision, close", [("fp32", 1e-5), ("bf16", 2e-2)])
def test_the_trainer_runs_on_the_kernels(precision, close, emulated, tmp_path):
    """Two steps of the whole loop: batch, noise, gradients, clipping, AdamW, average."""
    from minidiff.train import Config, Trainer, read_metrics

    config = Config(data="glyphs", limit=16, batch=4, steps=2, image_size=32, lr=1e-3, clip=1.0, ema=0.9, validate=0,
                    model={"channels": [8, 16], "patch": 4, "condition": "film"}, sheet_every=0)  # fmt: skip
    losses, averages = {}, []
    for kernels in ("numpy", "emulated"):
        backend.set_kernels(kernels)
        trainer = Trainer(config.replace(precision=precision if kernels == "emulated" else "fp32"), tmp_path / kernels, progress=False)
        trainer.run()
        assert (trainer.graph is not None) == (kernels == "emulated"), "on the GPU the whole step stays there"
        losses[kernels] = [(row["loss"], row["grad_norm"], row["lr"]) for row in read_metrics(tmp_path / kernels / "metrics.jsonl")]
        averages.append(np.concatenate([a.ravel() for a in trainer.ema.average.values()]))
    # Adam's first steps are as long for a gradient of rounding errors as for any other: a few numbers go elsewhere.
    assert np.abs(averages[1] - averages[0]).mean() < 1e-4 * close / 1e-5
    assert np.allclose(losses["emulated"], losses["numpy"], rtol=close)


def test_a_run_on_the_kernels_resumes_exactly(emulated, tmp_path):
    from minidiff.train import Config, Trainer, checkpoint

    config = Config(data="glyphs", limit=16, batch=4, steps=4, lr=1e-3, clip=1.0, ema=0.9, validate=0, sheet_every=0,
                    model={"channels": [8, 16], "patch": 8}, checkpoint_every=2, lr_schedule="constant")  # fmt: skip
    whole = Trainer(config, tmp_path / "whole", progress=False).run()
    Trainer(config.replace(steps=2), tmp_path / "parts", progress=False).run()
    parts = Trainer(config, tmp_path / "parts", resume=True, progress=False).run()
    (a, _), (b, _) = checkpoint.load(whole.path), checkpoint.load(parts.path)
    assert all(np.array_equal(a["model"][name], b["model"][name]) for name in a["model"])


def test_the_recorded_step_looks_at_no_number(emulated, tmp_path, monkeypatch):
    """What a CUDA graph would hold must not wait for the GPU, nor copy from the CPU."""
    from minidiff.train import Config, Trainer

    config = Config(data="glyphs", limit=16, batch=4, steps=4, lr=1e-3, clip=1.0, ema=0.9, validate=0, sheet_every=0,
                    model={"channels": [8, 16], "patch": 8, "condition": "film"})  # fmt: skip
    trainer = Trainer(config, tmp_path / "run", progress=False)
    graph = trainer._graph_step()
    graph.run(0, *trainer.loader.place())
    monkeypatch.setattr(backend, "can_look", lambda x: False)
    for name in ("to_numpy", "to_device"):
        monkeypatch.setattr(backend, name, lambda *_, name=name: pytest.fail(f"the step calls {name}"))
    made = backend.asarray
    monkeypatch.setattr(backend, "asarray", lambda data, like, dtype=None: made(data, like, dtype) if isinstance(data, np.ndarray) and (
        data.shape != () and type(data) is type(like)) or np.isscalar(data) else pytest.fail(f"the step brings {data!r} to the GPU"))
    graph._upload(1, *trainer.loader.place())
    graph._step()
    trainer.loader.close()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_uses_the_kernels_where_they_do_all_of_it(precision, causal, emulated):
    """With a mask it is the portable way, in float32; both give the CPU's numbers."""
    rng, dtype = np.random.default_rng(0), backend.bfloat16() if precision == "bf16" else np.float32
    arrays = [rng.standard_normal((2, 3, 20, 16)).astype(dtype) for _ in range(3)]
    u = rng.standard_normal((2, 3, 20, 16)).astype(np.float32)
    results = {}
    for kernels in ("numpy", "emulated"):
        backend.set_kernels(kernels)
        xs = [md.Tensor(a if kernels == "emulated" else a.astype(np.float32), requires_grad=True) for a in arrays]
        with runtime.kept() as launches:
            y = F.scaled_dot_product_attention(*xs, is_causal=causal)
            (y * u).sum().backward()
        results[kernels] = [t.astype(np.float32).numpy() for t in (y, *(x.grad for x in xs))]
        used = {launch.kernel.name for launch in launches}
    assert ("attention" in used and "attention_backward_kv" in used) != causal
    for a, b in zip(results["emulated"], results["numpy"], strict=True):
        assert np.linalg.norm(a - b) <= (1e-5 if precision == "fp32" else 2e-2) * np.linalg.norm(b)
