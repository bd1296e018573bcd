"""The GPU's kernels, run by the emulator: what they need here, and each test with threads in both orders."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels.cuda import runtime


def pytest_collection_modifyitems(items):
    missing = [name for name in ("ml_dtypes",) if importlib.util.find_spec(name) is None]
    missing += [] if shutil.which("g++") else ["g++"]
    if missing:
        for item in items:
            if "kernels/cuda" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=f"emulating CUDA kernels needs {' and '.join(missing)}"))


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"])
def order(request, monkeypatch):
    """Threads and blocks in both orders: where a barrier is missing, the results differ."""
    monkeypatch.setattr(runtime, "backwards", request.param)
    return request.param


def _stand_in():
    path = Path(__file__).with_name("cupy_stand_in.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in for CuPy, in CuPy's place."""
    stand_in = _stand_in()
    yield stand_in.install(monkeypatch)
    for cached in (runtime.architecture, runtime._loaded, runtime._function):
        cached.cache_clear()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def emulated():
    """NumPy's arrays go where CuPy's would."""
    before = backend.get_kernels()
    backend.set_kernels("emulated")
    yield
    backend.set_kernels(before)
