"""Stand-ins for the network: functions whose noise is known exactly."""

import numpy as np
import pytest

from minidiff import backend, models
from minidiff.diffusion import training_target
from minidiff.diffusion.targets import SIGMA_DATA
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


def target_for(schedule):
    """A target that can be asked for on this schedule: ε says nothing where nothing of the picture is left."""
    return "eps" if schedule.signal[-1] > 0 else "flow"


def answering(schedule, expected, target, **options):
    """A network that knows E[x0 | x_t], which is `expected(x, a, σ)`, and answers with what `target` asks for."""
    target = target or target_for(schedule)

    def answer(x, t, labels):
        a, sigma = (table[t].reshape(-1, 1, 1, 1) for table in (schedule.signal, schedule.noise))
        x = x.astype(np.float64)
        if target == "edm":
            x = x * np.sqrt((SIGMA_DATA * a) ** 2 + sigma**2)      # it sees c_in x
        x0 = expected(x, a, sigma)
        return training_target(schedule, x0, t, (x - a * x0) / sigma, target)

    model = Oracle(answer, **options)
    model.target = target
    return model


@pytest.fixture
def knows_picture():
    """The one picture that exists is x*."""
    return lambda schedule, picture, target=None: answering(schedule, lambda x, a, sigma: np.broadcast_to(picture, x.shape), target)


@pytest.fixture
def knows_gaussian():
    """All pixels are N(m, s²), so x_t is N(a m, a² s² + σ²), and x0 given x_t a straight line."""

    def make(schedule, m, s, target=None):
        return answering(schedule, lambda x, a, sigma: m + a * s**2 * (x - a * m) / ((a * s) ** 2 + sigma**2), target, size=16)

    return make
