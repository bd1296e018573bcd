"""What all tests share: two threads, seeded chance, PyTorch where it is installed."""

import os

# BLAS and OpenMP read these when NumPy and PyTorch are first imported, which is after this file.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "2")

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from minidiff import backend  # noqa: E402

# No deadline, because a busy machine is not an error; the same examples on every run.
hypothesis.settings.register_profile("minidiff", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.load_profile("minidiff")
backend.set_num_threads(2)


def pytest_configure(config):
    config.addinivalue_line("markers", "torch: compares with PyTorch, and is skipped where it is not installed")


def pytest_collection_modifyitems(config, items):
    """Every test that asks for PyTorch carries the mark, so that `pytest -m torch` runs just these.

    Exhaustive tests run only where they are asked for by their mark.
    """
    for item in items:
        if "torch" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.torch)
    if "exhaustive" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    torch.set_num_threads(1)  # quickest on inputs this small
    return torch
