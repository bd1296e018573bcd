"""Stand-ins for the network: functions whose noise is known exactly."""

import numpy as np
import pytest

from minidiff import backend, models
from minidiff.tensor import Tensor


class Oracle:
    """Looks like a U-Net; its guess of the noise is `noise(x, t, labels)`. Remembers what it was asked."""

    def __init__(self, noise, channels=1, size=8, classes=10):
        self.noise, self.training, self.asked = noise, True, []
        self.config = {"in_channels": channels, "image_size": size, "num_classes": classes}

    def train(self, mode=True):
        self.training = mode

    def eval(self):
        self.training = False

    def __call__(self, x, t, labels):
        assert not self.training or isinstance(t, np.ndarray)  # samplers pass one step, and ask in evaluation mode
        x = x.data if isinstance(x, Tensor) else x
        assert x.dtype == np.float32  # what a network takes
        self.asked.append((len(x), t, np.array(labels)))
        return Tensor(np.asarray(self.noise(x, t, labels), np.float32))


@pytest.fixture
def oracle():
    return Oracle


@pytest.fixture
def network():
    """A real U-Net, small and untrained, whose step and class are heard."""
    backend.manual_seed(3)
    return models.UNet(image_size=8, channels=(8, 16), num_classes=10)


@pytest.fixture
def knows_picture():
    """The noise in x_t when the one picture that exists is x*: ε = (x_t − √ᾱ x*) / √(1 − ᾱ)."""

    def make(schedule, picture):
        def noise(x, t, labels):
            a = schedule.alpha_bar[t].reshape(-1, 1, 1, 1)
            return (x - np.sqrt(a) * picture) / np.sqrt(1 - a)

        return Oracle(noise)

    return make


@pytest.fixture
def knows_gaussian():
    """The expected noise in x_t when all pixels are N(m, s²), from the score of N(√ᾱ m, ᾱ s² + 1 − ᾱ)."""

    def make(schedule, m, s):
        def noise(x, t, labels):
            a = schedule.alpha_bar[t]
            return np.sqrt(1 - a) * (x - np.sqrt(a) * m) / (a * s**2 + 1 - a)

        return Oracle(noise, size=16)

    return make
