"""Devices, threads and chance; and what importing the package brings with it."""

import importlib.util
import os
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

import minidiff as md
from minidiff import backend
from minidiff.errors import BadInput

CUPY_MISSING = "device cuda needs CuPy, which is not installed; pip install minidiff[cuda12] or [cuda13], or use cpu"


@pytest.fixture
def threads():
    """Sets the number of threads for one test."""
    before = backend.get_num_threads()
    yield backend.set_num_threads
    backend.set_num_threads(before)


# ---------------------------------------------------------------------------------------- devices


def test_numpy_arrays_belong_to_numpy_and_lie_on_the_cpu():
    x = np.ones(3)
    assert backend.array_module(x) is np and backend.array_module(np.float32(1)) is np
    assert backend.device_of(x) == "cpu" and backend.resolve_device("cpu") == "cpu"
    assert backend.to_numpy(x) is x and backend.to_device(x, "cpu") is x


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:1", "", None])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(BadInput, match=f"^device {re.escape(repr(name))} is unknown; it is one of: cpu, cuda$"):
        backend.resolve_device(name)


def test_cuda_without_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails, installed or not
    with pytest.raises(BadInput, match=f"^{re.escape(CUPY_MISSING)}$"):
        md.tensor([1.0], device="cuda")


def test_cuda_without_a_gpu_says_so(monkeypatch):
    class Runtime:
        CUDARuntimeError = RuntimeError

        @staticmethod
        def getDeviceCount():
            return 0

    cupy = type(sys)("cupy")
    cupy.cuda = type("cuda", (), {"runtime": Runtime})
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(BadInput, match="^device cuda asked for, but no CUDA device is visible; use cpu$"):
        backend.resolve_device("cuda")


# ---------------------------------------------------------------------------------------- threads


@given(st.integers(0, 50))
def test_parallel_covers_every_index_once_and_in_order(n):
    slices = backend.parallel(n, lambda lo, hi: range(lo, hi))
    assert [i for part in slices for i in part] == list(range(n))
    assert len(slices) == min(n, backend.get_num_threads())


@pytest.mark.parametrize("n", [1, 2, 3])
def test_parallel_uses_that_many_threads_at_once(threads, n):
    threads(n)
    assert md.get_num_threads() == n
    together = threading.Barrier(n, timeout=20)  # passes only when n threads wait at the same time
    backend.parallel(10, lambda lo, hi: together.wait())


def test_parallel_passes_an_error_on(threads):
    threads(2)

    def work(lo, hi):
        if hi == 4:
            raise ValueError(f"from {lo} to {hi}")

    with pytest.raises(ValueError, match="^from 2 to 4$"):
        backend.parallel(4, work)


def test_another_number_of_threads_does_not_disturb_who_is_at_work(threads):
    def change():
        for i in range(1000):
            threads(2 + i % 2)

    changing = threading.Thread(target=change, daemon=True)
    changing.start()
    for _ in range(1000):
        assert sum(backend.parallel(8, lambda lo, hi: hi - lo)) == 8
    changing.join()


FORKED = """
import os, signal
from minidiff import backend
backend.set_num_threads(2)
backend.parallel(2, lambda lo, hi: None)
child = os.fork()
if child == 0:
    signal.alarm(20)  # ends it where it waits for ever
    backend.parallel(2, lambda lo, hi: None)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own():
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED], check=True)


@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_a_wrong_number_of_threads_is_refused(n):
    message = f"set_num_threads: {n} is no number of threads; it must be a whole number, 1 or more"
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        md.set_num_threads(n)


def test_blas_keeps_to_the_thread_that_calls_it():
    _ = md.tensor(np.ones((4, 4))) @ md.tensor(np.ones((4, 4)))
    assert {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"} == {1}


# ----------------------------------------------------------------------------------------- chance


def test_manual_seed_starts_the_same_numbers_again():
    def draw(seed):
        backend.manual_seed(seed)
        return md.nn.Linear(3, 2).weight.data, md.nn.functional.dropout(md.tensor(np.ones(50)), 0.5).data

    for a, b in zip(draw(1), draw(1), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all((a != b).any() for a, b in zip(draw(1), draw(2), strict=True))


# ----------------------------------------------------------------------------------------- import


def test_importing_the_package_brings_only_what_it_computes_with():
    heavy = ["torch", "cupy", "numba", "matplotlib", "scipy", "PIL", "tqdm", "open_clip", "hypothesis"]
    program = f"import minidiff, sys; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_kernels_are_chosen_by_name(monkeypatch):
    monkeypatch.setattr(backend, "_kernels", None)
    monkeypatch.setenv("MINIDIFF_KERNELS", "numpy")
    assert backend.get_kernels() == "numpy"
    with pytest.raises(BadInput, match="^set_kernels: 'cupy' is unknown; it is one of: numpy, numba, rounded, emulated$"):
        backend.set_kernels("cupy")


@pytest.mark.parametrize("installed", [True, False])
def test_compiled_kernels_are_used_where_numba_is_installed(monkeypatch, installed):
    monkeypatch.setattr(backend, "_kernels", None)
    monkeypatch.delenv("MINIDIFF_KERNELS", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    assert backend.get_kernels() == ("numba" if installed else "numpy")
    if not installed:
        with pytest.raises(BadInput, match=r"^set_kernels: numba is not installed; pip install minidiff\[fast\], or use numpy$"):
            backend.set_kernels("numba")


def test_freed_memory_can_be_kept():
    """It may not exist here; where it does, it must be accepted."""
    backend.keep_freed_memory()
