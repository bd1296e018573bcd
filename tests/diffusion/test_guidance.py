"""Classifier-free guidance in both conventions."""

import numpy as np
import pytest

from minidiff import is_grad_enabled
from minidiff.diffusion import guided_output

NOISE_OF = np.array([0.5, -2.0, 3.0, 0.25])  # of classes 0 … 2, and last of no class


@pytest.fixture
def model(oracle):
    return oracle(lambda x, t, labels: x + NOISE_OF[labels][:, None, None, None])


@pytest.fixture
def xt(rng):
    return rng.standard_normal((3, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("w", [0.0, 0.5, 2.0, 7.5])
def test_both_conventions_agree(model, xt, w):
    """(1 + w) ε_c − w ε_u = ε_u + s (ε_c − ε_u) with s = 1 + w."""
    labels = np.array([0, 2, 1])
    model.eval()
    eps_cond, eps_uncond = (xt + NOISE_OF[i][..., None, None, None] for i in (labels, [-1, -1, -1]))
    eps = guided_output(model, xt, 5, labels, w)
    assert eps.dtype == np.float32
    np.testing.assert_allclose(eps, (1 + w) * eps_cond - w * eps_uncond, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(eps, eps_uncond + (1 + w) * (eps_cond - eps_uncond), rtol=1e-5, atol=1e-5)


def test_the_network_is_asked_once_and_about_no_class_only_when_needed(model, xt):
    model.eval()
    guided_output(model, xt, 5, np.array([0, 2, 1]), 0.0)
    guided_output(model, xt, 5, np.array([0, 2, 1]), 1.0)
    assert [(n, t, list(labels)) for n, t, labels in model.asked] == [(3, 5, [0, 2, 1]), (6, 5, [0, 2, 1, -1, -1, -1])]


def test_no_class_is_not_pushed_anywhere(model, xt):
    model.eval()
    labels = np.full(3, -1)
    np.testing.assert_allclose(guided_output(model, xt, 5, labels, 4.0), guided_output(model, xt, 5, labels, 0.0), rtol=1e-4, atol=1e-5)


def test_nothing_is_recorded(network, xt):
    seen = []

    def watched(*args):
        seen.append(is_grad_enabled())
        return network(*args)

    assert isinstance(guided_output(watched, xt, 5, np.array([0, 1, 2]), 1.0), np.ndarray)
    assert seen == [False]
