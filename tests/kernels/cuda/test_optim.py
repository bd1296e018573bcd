"""Adam, averages and norms over many arrays at a time, run by the emulator, against the library's array by array."""

import numpy as np
import pytest

from minidiff import backend, optim
from minidiff.nn import Module, Parameter
from minidiff.optim.clip import clip_grad_norm
from minidiff.tensor import Tensor

SHAPES = [(3, 4), (5000,), (1,), (2, 3, 4, 4), (4096,), *((7,),) * 60]      # more arrays than one table holds


class Weights(Module):
    def __init__(self, rng):
        for i, shape in enumerate(SHAPES):
            setattr(self, f"w{i}", Parameter(rng.standard_normal(shape).astype(np.float32)))


@pytest.fixture
def model(rng):
    return Weights(rng)


def trained(kernels, model, make, steps=3):
    """The weights and their averages after some steps with the same gradients."""
    rng, before = np.random.default_rng(1), backend.get_kernels()
    start = {name: p.data.copy() for name, p in model.named_parameters()}
    backend.set_kernels(kernels)
    try:
        optimizer, ema = make(model.parameters()), optim.EMA(model, 0.9)
        for _ in range(steps):
            for i, p in enumerate(model.parameters()):
                p.grad = None if i == 3 and optimizer.state[0].get("t", 0) == 0 else Tensor(rng.standard_normal(p.shape).astype(np.float32))
            norm = clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            ema.update()
        return [p.data.copy() for p in model.parameters()], list(ema.average.values()), norm
    finally:
        backend.set_kernels(before)
        for name, p in model.named_parameters():
            p.data = start[name]


@pytest.mark.parametrize(
    "make",
    [lambda p: optim.Adam(p, lr=0.01), lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
     lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1)],
    ids=["adam", "adamw", "adam with decay"],
)  # fmt: skip
def test_a_few_steps(make, model, order):
    """One array has no gradient at first, so it is younger than the others: its correction differs."""
    expected, found = trained("numpy", model, make), trained("emulated", model, make)
    for a, b in zip(found[0] + found[1], expected[0] + expected[1], strict=True):
        assert np.abs(a - b).max() < 1e-6
    assert abs(found[2] - expected[2]) < 1e-4 * expected[2]


def test_a_gradient_that_is_not_finite_shows_in_the_norm(model):
    for p in model.parameters():
        p.grad = Tensor(np.full(p.shape, np.inf, np.float32))
    backend.set_kernels("emulated")
    try:
        assert not np.isfinite(clip_grad_norm(model.parameters(), 1.0))
    finally:
        backend.set_kernels("numpy")
