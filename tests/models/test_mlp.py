"""The denoiser of points: shapes, what it hears, and that it learns a figure in seconds."""

import re

import numpy as np
import pytest
from scipy import stats

import minidiff as md
from minidiff import backend, models
from minidiff.data import eight_gaussians, points
from minidiff.diffusion import Exact, loss, make_schedule, sample
from minidiff.errors import BadInput


def test_shapes_and_what_is_heard(rng):
    backend.manual_seed(0)
    model = models.MLP(num_classes=3, width=16)
    x, t, labels = rng.standard_normal((4, 2)).astype(np.float32), np.array([1, 50, 50, 99]), np.array([0, 2, -1, 1])
    y = model(x, t, labels)
    assert y.shape == (4, 2) and y.dtype == np.float32
    (y * y).sum().backward()
    assert all(np.abs(p.grad.data).max() > 0 for p in model.parameters())
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(model(x[order], t[order], labels[order]).data, y.data[order], rtol=1e-5, atol=1e-6)
    assert np.abs(model(x, t, 0).data - y.data)[1:].max(axis=1).min() > 1e-4 and np.abs(model(x, 7, labels).data - y.data).min() > 0


def test_a_checkpoint_knows_it():
    model = models.build(models.MLP(num_classes=3, width=16, target="v").config)
    assert isinstance(model, models.MLP) and model.target == "v" and model.sample_shape == (2,)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "target"), [("cosine", "eps"), ("flow", "flow")])
def test_a_figure_is_learned_in_seconds(name, target):
    """The moons: samples lie on them, half on each; noise, and an untrained network, are far away."""
    backend.manual_seed(0)
    (x, part), schedule = points("moons", 4000), make_schedule(name, 100)
    model, rng = models.MLP(num_classes=2, target=target), np.random.default_rng(0)
    optimizer = md.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(600):
        chosen = rng.integers(0, len(x), 256)
        optimizer.zero_grad()
        loss(model, schedule, x[chosen], part[chosen], rng).backward()
        optimizer.step()
    labels = np.repeat([0, 1], 300)
    # At T, ε says nearly nothing of the points, and what is left of them is small to divide by: such guesses must be clipped.
    drawn = sample(model, schedule, labels, "ddim" if target == "eps" else "euler", 50, clip=target == "eps", batch_size=600)
    own = [np.linalg.norm(drawn[labels == k][:, None] - x[part == k][None], axis=2).min(axis=1) for k in (0, 1)]
    assert np.quantile(np.concatenate(own), 0.9) < 0.08
    assert stats.ks_2samp(drawn[labels == 0, 0], x[part == 0, 0]).statistic < 0.2


def test_the_exact_network_speaks_every_target(rng):
    """Whatever it is asked, the answer leads to the same expected picture."""
    mixture, schedule = eight_gaussians(), make_schedule("cosine", 50)
    xt, t = rng.standard_normal((5, 2)), 30
    expected = mixture.expected(xt, schedule.signal[t], schedule.noise[t])
    for target in ("eps", "x0", "v", "flow", "edm"):
        model = Exact(mixture, schedule, target)
        shown = md.diffusion.targets.network_input(schedule, xt, t, target)
        np.testing.assert_allclose(md.diffusion.predict_x0(schedule, xt, t, model(shown, t, -1).data, target), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.MLP(depth=0), "MLP: depth must be a whole number, 1 or more; got 0"),
        (lambda: models.MLP(target="y"), "MLP: target 'y' is unknown; it is one of eps, x0, v, flow, edm"),
        (lambda: models.MLP()(np.zeros((3, 5), np.float32), 1, 0), "MLP: x must be (N, 2), got (3, 5)"),
    ],
)
def test_bad_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()
