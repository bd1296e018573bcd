"""The GPU's benchmark, on the emulator: what it compares runs, and what it counts is right."""

import importlib.util
import shutil
import time

import numpy as np
import pytest

from minidiff import backend
from minidiff.bench import gpu
from minidiff.cli import main
from minidiff.kernels.cuda import conv, conv_weight, matmul, runtime

pytestmark = pytest.mark.skipif(
    not (shutil.which("g++") and importlib.util.find_spec("ml_dtypes")), reason="emulating CUDA kernels needs g++ and ml_dtypes"
)
TINY = {"channels": [8, 16], "image_size": 32, "patch": 4}


class Nowhere(gpu.Device):
    """A device that is not there."""

    def wait(self):
        pass

    def mark(self, stream=None):
        return time.perf_counter()

    def between(self, start, end):
        return end - start

    def forget(self):
        pass

    def used(self):
        return 0

    def facts(self):
        return {"name": "none", "architecture": "sm_90", "driver": 0, "cupy": "none", "multiprocessors": 1, "runtime": 0}

    def asarray(self, numbers):
        return numbers


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    before = backend.get_kernels()
    backend.set_kernels("emulated")
    monkeypatch.setattr(gpu, "DATA", 8)
    yield
    backend.set_kernels(before)


def test_what_does_not_run_is_named_and_the_others_are_measured():
    chosen = [
        ("minidiff fp32, launch by launch", lambda: gpu.minidiff_step(TINY, 2, "fp32", False, "cpu")),
        ("minidiff fp32, graph", lambda: gpu.minidiff_step(TINY, 2, "fp32", True, "cpu")),
    ]
    seconds, memory, failed = gpu.measure_steps(Nowhere(), chosen, rounds=2, steps=1)
    assert list(seconds) == ["minidiff fp32, launch by launch"] and len(seconds["minidiff fp32, launch by launch"]) == 2
    assert failed == {"minidiff fp32, graph": "RuntimeError: bench: the step was not recorded: the arrays are on the CPU"}


def test_what_does_not_fit_beside_the_others_is_measured_alone():
    """A device with room for two jobs at a time."""
    alive = []

    class Job:
        def __init__(self, name):
            if len(alive) == 2:
                raise MemoryError("cupy.cuda.memory.OutOfMemoryError: too much")
            alive.append(name)
            self.name = name

        def __call__(self):
            pass

        def __del__(self):
            if getattr(self, "name", None):
                alive.remove(self.name)

    def make(name):
        try:
            return Job(name)
        except MemoryError:
            raise OutOfMemoryError("too much") from None

    class OutOfMemoryError(MemoryError):
        pass

    seconds, memory, failed = gpu.measure_steps(Nowhere(), [(name, lambda name=name: make(name)) for name in "abcd"], rounds=3, steps=1)
    assert {name: len(s) for name, s in seconds.items()} == dict.fromkeys("abcd", 3)
    assert failed == {} and set(memory) == set("abcd") and alive == []


def test_the_table_by_kernel_has_every_launch(capsys):
    step = gpu.minidiff_step(TINY, 2, "bf16", False, "cpu")
    rows = gpu.by_kernel(Nowhere(), step, {"copy_bytes_per_second": 1e9, "bf16_flop_per_second": 1e12}, timed=lambda _: 1e-6)
    kinds = {row["kernel"].split()[0] for row in rows}
    assert {"gather_batch", "draw", "gather", "weight_gradient", "group_norm", "adam", "average", "gradient_norm", "keep"} <= kinds
    assert sum(row["launches"] for row in rows) == round(sum(row["seconds"] for row in rows) * 1e6)
    assert all(row["floor_seconds"] > 0 for row in rows)


def test_operations_and_bytes_are_counted_as_on_paper(rng=None):
    x, w, gy = (np.ones(shape, np.float32) for shape in ((2, 8, 6, 6), (16, 8, 3, 3), (2, 16, 6, 6)))
    options = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    found = {launch.kernel.name: launch for launch in gpu.watched(lambda: conv.conv2d(x, w, None, **options))}
    assert gpu.flops(found["gather"]) == 2 * 2 * 36 * 8 * 16 * 9
    assert gpu.traffic(found["gather"]) == 4 * (x.size + w.size + gy.size)
    found = {launch.kernel.name: launch for launch in gpu.watched(lambda: conv_weight.weight_gradient(x, gy, (3, 3), **options))}
    assert gpu.flops(found["weight_gradient"]) == 2 * 2 * 36 * 8 * 16 * 9
    (launch,) = gpu.watched(lambda: matmul(np.ones((3, 5), np.float32), np.ones((5, 7), np.float32)))
    assert gpu.flops(launch) == 2 * 3 * 5 * 7 and gpu.traffic(launch) == 4 * (15 + 35 + 21)
    assert runtime.watchers == []


def test_transposed_convolutions_do_no_work_between_the_grid_points():
    x, w = np.ones((2, 8, 4, 4), np.float32), np.ones((8, 16, 2, 2), np.float32)
    (launch,) = [launch for launch in gpu.watched(lambda: conv.conv_transpose2d(x, w, None, (2, 2), (0, 0), (0, 0), (1, 1), 1))
                 if launch.kernel.name == "gather"]  # fmt: skip
    assert gpu.flops(launch) == 2 * 2 * 16 * 8 * 16 * 4


def test_without_a_gpu_the_command_says_so(capsys):
    assert main(["bench", "--device", "cuda"]) == 2
    assert capsys.readouterr().err.startswith("minidiff: ")
    assert main(["bench", "--precision", "bf16"]) == 2
    assert "--preset and --precision are for the GPU" in capsys.readouterr().err
