"""The whole library on the GPU's kernels, run by the emulator: the same numbers as on the CPU."""

import numpy as np
import pytest

import minidiff as md
from minidiff import backend, models
from minidiff.kernels.cuda import runtime
from minidiff.nn import functional as F

ERROR = {"fp32": 1e-5, "tf32": 4e-3, "bf16": 4e-2}       # of gradients through two dozen layers


@pytest.fixture
def emulated():
    before = backend.get_kernels()
    backend.set_kernels("emulated")
    yield
    backend.set_kernels(before)


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
    from minidiff.train import Config, Trainer

    config = Config(data="glyphs", limit=16, batch=4, steps=2, image_size=32, lr=1e-3, clip=1.0, ema=0.9, validate=0,
                    model={"channels": [8, 16], "patch": 4, "condition": "film"}, sheet_every=0)  # fmt: skip
    losses = {}
    for kernels in ("numpy", "emulated"):
        backend.set_kernels(kernels)
        trainer = Trainer(config.replace(precision=precision if kernels == "emulated" else "fp32"), tmp_path / kernels, progress=False)
        losses[kernels] = [trainer.update(*next(trainer.loader))[0] for _ in range(2)]
        trainer.loader.close()
    assert np.allclose(losses["emulated"], losses["numpy"], rtol=close)
