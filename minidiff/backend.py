"""Where arrays live and how many threads work on them.

This is the only file that tells NumPy from CuPy. Everything above it asks `array_module(x)` for
the module that owns an array and writes `xp.exp(x)`; everything that is worth splitting over CPU
threads goes through `parallel`.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .errors import BadInput


def _prefer_avx512_blas() -> None:
    """Let OpenBLAS use AVX-512 on processors that are newer than its own list of names.

    OpenBLAS picks its kernels by CPU model and falls back to the AVX2 ones for a model it does not
    know, which halves the speed of every matrix product. It reads this variable when NumPy is first
    imported, so it has no effect on a program that imported NumPy before minidiff.
    """
    if "OPENBLAS_CORETYPE" in os.environ or "numpy" in sys.modules or platform.machine() != "x86_64":
        return
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:
        return
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= set(flags):
        os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"


_prefer_avx512_blas()

import numpy as np  # noqa: E402  (after the line above, which must come first)

Array = Any  # numpy.ndarray or cupy.ndarray


# ---------------------------------------------------------------------------------------- devices


def array_module(x: Array) -> Any:
    """The module whose functions work on `x`: numpy, or cupy for an array on the GPU."""
    if isinstance(x, np.ndarray | np.generic) or "cupy" not in sys.modules:
        return np
    return sys.modules["cupy"].get_array_module(x)


def resolve_device(name: str) -> str:
    """Check a device name and that it is there: "cpu" or "cuda". Raises BadInput."""
    if name == "cpu":
        return name
    if name != "cuda":
        raise BadInput(f"device {name!r} is unknown; it is one of: cpu, cuda")
    try:
        import cupy
    except ImportError:
        raise BadInput(
            "device cuda needs CuPy, which is not installed; pip install minidiff[cuda12] or [cuda13], or use cpu"
        ) from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        count = 0
    if count == 0:
        raise BadInput("device cuda asked for, but no CUDA device is visible; use cpu")
    return name


def device_of(x: Array) -> str:
    """"cpu" or "cuda": where the array lies."""
    return "cpu" if array_module(x) is np else "cuda"


def to_device(x: Array, device: str) -> Array:
    """The array on `device`; itself if it is there already."""
    if device_of(x) == device:
        return x
    if resolve_device(device) == "cpu":
        return x.get()
    import cupy

    return cupy.asarray(x)


def to_numpy(x: Array) -> np.ndarray:
    """The array on the CPU; itself if it is there already."""
    return to_device(x, "cpu")


# ---------------------------------------------------------------------------------------- threads


def _cores() -> int:
    """The cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_threads = _cores()
_pool: ThreadPoolExecutor | None = None
_blas: Any = None  # threadpoolctl's limit, set at first use


def get_num_threads() -> int:
    """How many CPU threads the kernels share their batch over."""
    return _threads


def set_num_threads(n: int) -> None:
    """Share batches over `n` CPU threads (default: the cores this process may use)."""
    global _threads, _pool
    if int(n) != n or n < 1:
        raise BadInput(f"set_num_threads: {n} is no number of threads; it must be a whole number, 1 or more")
    _threads = int(n)
    if _pool is not None:
        _pool.shutdown()
        _pool = None


def quiet_blas() -> None:
    """Keep BLAS to the thread that calls it, from the first operation on and for the whole process.

    A BLAS with threads of its own does double harm here: they fight with ours for the same cores,
    and between products they wait by spinning, which takes a core from everything else.
    """
    global _blas
    if _blas is None:
        import scipy.linalg.cython_blas  # noqa: F401  (SciPy brings a second BLAS: it must be there to be told)
        from threadpoolctl import threadpool_limits

        _blas = threadpool_limits(limits=1, user_api="blas")


def parallel(n: int, work: Callable[[int, int], Any]) -> list[Any]:
    """Call `work(lo, hi)` on one slice of range(n) per thread; the results, in order.

    NumPy lets go of Python's global lock while it computes, so plain threads do run side by side.
    The split depends on n and the number of threads alone, so results are repeatable bit by bit.
    """
    global _pool
    quiet_blas()
    shards = min(_threads, n)
    if shards <= 1:
        return [work(0, n)] if n else []
    if _pool is None:
        _pool = ThreadPoolExecutor(_threads, thread_name_prefix="minidiff")
    edges = [n * i // shards for i in range(shards + 1)]
    futures = [_pool.submit(work, lo, hi) for lo, hi in zip(edges[1:-1], edges[2:], strict=True)]
    first = work(edges[0], edges[1])
    return [first, *(future.result() for future in futures)]


# ----------------------------------------------------------------------------------------- chance

_rng = np.random.default_rng(0)


def manual_seed(seed: int) -> None:
    """Start the generator behind weight initialisation and dropout anew from `seed`."""
    global _rng
    _rng = np.random.default_rng(seed)


def default_rng() -> np.random.Generator:
    """The generator that weight initialisation and dropout draw from."""
    return _rng
