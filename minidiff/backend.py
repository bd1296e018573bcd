"""Where arrays live and how many threads work on them.

This is the only file that tells NumPy from CuPy. Everything above it asks `array_module(x)` for
the module that owns an array and writes `xp.exp(x)`; everything that is worth splitting over CPU
threads goes through `parallel`.

Operations keep to what the array API standard (data-apis.org/array-api) offers, as functions of
that module, so they work on the arrays of any library that follows it. What the libraries spell
differently, or the standard lacks, is here under "spelling".
"""

from __future__ import annotations

import ctypes
import importlib.util
import inspect
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .contexts import reusable
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
    """The module whose functions work on `x`: numpy, cupy for an array on the GPU, or the array's own."""
    if isinstance(x, np.ndarray | np.generic):
        return np
    if "cupy" in sys.modules and isinstance(x, sys.modules["cupy"].ndarray):
        return sys.modules["cupy"]
    return x.__array_namespace__() if hasattr(x, "__array_namespace__") else np


def is_array(x: Any) -> bool:
    """Whether x is an array of any library that can be worked on."""
    return isinstance(x, np.ndarray) or hasattr(x, "__cuda_array_interface__") or hasattr(x, "__array_namespace__")


def plain(x: Any) -> Any:
    """A NumPy array as an ordinary one: this machine's byte order, no subclass; what is no NumPy array, as it is.

    A subclass brings its own meaning of * and ** (np.matrix) or of what counts, and numbers in the other byte order are of
    another dtype than all that is computed from them. The memory is shared unless the byte order differs. BadInput for an
    array with masked elements: no operation would leave them out.
    """
    if not isinstance(x, np.ndarray):
        return np.asarray(x) if isinstance(x, np.generic) else x
    if type(x) is not np.ndarray:
        if np.ma.is_masked(x):
            n = np.ma.count_masked(x)
            raise BadInput(f"{n} of {x.size} elements of a masked array {x.shape} are masked; choose numbers for them: .filled(0)")
        x = np.asarray(x)
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def array_of(data: Any, dtype: Any = None) -> Array:
    """An array of any library, made `plain`; numbers, lists and the tensors of other libraries as an array of NumPy's.

    BadInput where NumPy cannot make one of them: of lists of unequal lengths, or of a tensor with a gradient's history.
    """
    if is_array(data):
        return plain(data)
    try:
        return plain(np.asarray(data, dtype=dtype))
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"a {type(data).__name__} does not make an array: {str(error).splitlines()[0]}") from None


def is_writeable(x: Array) -> bool:
    """Whether numbers of the array may be written to."""
    return getattr(getattr(x, "flags", None), "writeable", True)


def indexes_like_numpy(x: Array) -> bool:
    """Whether `x[index]` takes all that NumPy's does, also in assignments; the standard has less."""
    return array_module(x).__name__ in ("numpy", "cupy")


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
    return "cuda" if array_module(x).__name__ == "cupy" else "cpu"


def to_device(x: Array, device: str) -> Array:
    """The array on `device`; itself if it is there already."""
    if device_of(x) == device:
        return x
    if resolve_device(device) == "cpu":
        return x.get()
    import cupy

    return cupy.asarray(x)


def can_look(x: Array) -> bool:
    """Whether the numbers of x can be looked at for free.

    Those on the GPU cannot: whoever asks waits until all work that was handed to it is done, and a CUDA graph
    cannot hold such a wait. Checks of numbers (labels, steps) are made where they are free.
    """
    return device_of(x) == "cpu"


def to_numpy(x: Array) -> np.ndarray:
    """The array as NumPy's; itself if it is that already."""
    x = to_device(x, "cpu")
    return x if isinstance(x, np.ndarray | np.generic) else np.from_dlpack(x)


def check_together(name: str, fn: Callable[..., Any], arrays: Sequence[Array]) -> None:
    """Raise BadInput for the arguments of `fn` unless their arrays are of one library, and so on one device."""
    places = [(device_of(x), array_module(x).__name__) for x in arrays]
    i = next((i for i, place in enumerate(places) if place != places[0]), None)
    if i is None:
        return
    letters: list[str] = []
    for letter, parameter in inspect.signature(fn).parameters.items():
        several = parameter.kind is parameter.VAR_POSITIONAL
        letters += [f"{letter}[{j}]" for j in range(len(arrays))] if several else [letter]
    (device, library), (other, other_library) = places[0], places[i]
    fix = f"move one with .to({device!r})" if device != other else f"make both arrays of {library}"
    raise BadInput(
        f"{name}: {letters[0]} is on {device} ({library}), {letters[i]} on {other} ({other_library}); {fix}"
    )


# --------------------------------------------------------------------------------------- spelling


def dtype_of(x: Array) -> np.dtype:
    """The dtype as NumPy's, whatever library the array is of."""
    return x.dtype if isinstance(x.dtype, np.dtype) else np.dtype(str(x.dtype).rpartition(".")[2])


def kind(dtype: np.dtype) -> str:
    """NumPy's letter for what a dtype holds ("f", "i", "u", "b" …), which for bfloat16 is "f" too."""
    return "f" if dtype.kind == "V" and dtype.name == "bfloat16" else dtype.kind


narrow = False  # whether bfloat16 has been asked for: until then, no array can hold it


def is_bfloat16(x: Array) -> bool:
    """Whether an array holds bfloat16 numbers."""
    return narrow and dtype_of(x).name == "bfloat16"


def named_dtype(dtype: Any) -> np.dtype:
    """A dtype, or the name of one, as NumPy's; also "bfloat16", which NumPy does not know by itself."""
    return bfloat16() if isinstance(dtype, str) and dtype == "bfloat16" else np.dtype(dtype).newbyteorder("=")


def astype(x: Array, dtype: Any) -> Array:
    """x in another dtype; itself if it has it already."""
    dtype = named_dtype(dtype)
    if dtype_of(x) == dtype:
        return x
    return x.astype(dtype) if hasattr(x, "astype") else array_module(x).astype(x, _own_dtype(x, dtype))


def asarray(data: Any, like: Array, dtype: Any = None) -> Array:
    """Numbers or an array as an array of the library that `like` is of, and on its device."""
    xp = array_module(like)
    if not can_look(like) and isinstance(data, bool | int | float):
        return full((), data, like, np.result_type(data) if dtype is None else dtype)  # made there: nothing is transferred
    if xp is np or array_module(data) is xp:
        return xp.asarray(plain(data), dtype=None if dtype is None else _own_dtype(like, dtype))
    data = np.asarray(data, dtype=dtype)
    return xp.asarray(data, dtype=_own_dtype(like, data.dtype))


def copy(x: Array) -> Array:
    """The same numbers in memory of their own."""
    return x.copy() if hasattr(x, "copy") else array_module(x).asarray(x, copy=True)


def from_dlpack(x: Any) -> Array:
    """An array in the memory of `x`, which speaks DLPack: NumPy's where that is on the CPU, else CuPy's."""
    if isinstance(x, np.ndarray) and not x.flags.writeable and x.dtype.isnative:
        return x.view(np.ndarray)  # NumPy 2.0 cannot lend a read-only array, and makes one of whatever it takes
    kind, _ = x.__dlpack_device__()
    if kind in (1, 3):  # kDLCPU, kDLCUDAHost
        return np.from_dlpack(x)
    resolve_device("cuda")
    import cupy

    return cupy.from_dlpack(x)


def lendable(x: Array) -> Array:
    """x, or a copy where x runs backwards along an axis: DLPack says nothing of strides below 0, and not all take them."""
    return copy(x) if any(step < 0 for step in getattr(x, "strides", None) or ()) else x


def full(shape: tuple[int, ...], value: float, like: Array, dtype: Any = None) -> Array:
    """An array of one number, of the library, dtype (unless another is given) and device of `like`."""
    return array_module(like).full(shape, value, dtype=_own_dtype(like, dtype_of(like) if dtype is None else dtype))


def permute(x: Array, axes: tuple[int, ...]) -> Array:
    """x with its axes in another order, without copying."""
    return x.transpose(axes) if hasattr(x, "transpose") else array_module(x).permute_dims(x, axes)


def concat(xs: Any, axis: int) -> Array:
    """Arrays joined along an axis."""
    xp = array_module(xs[0])
    return (xp.concatenate if hasattr(xp, "concatenate") else xp.concat)(xs, axis=axis)


def cumsum(x: Array, axis: int) -> Array:
    """Running sums along an axis."""
    xp = array_module(x)
    return xp.cumsum(x, axis=axis) if hasattr(xp, "cumsum") else xp.cumulative_sum(x, axis=axis)


def cumprod(x: Array, axis: int) -> Array:
    """Running products along an axis."""
    xp = array_module(x)
    return xp.cumprod(x, axis=axis) if hasattr(xp, "cumprod") else xp.cumulative_prod(x, axis=axis)


def atan(x: Array) -> Array:
    """The angle whose tangent is x."""
    xp = array_module(x)
    return xp.arctan(x) if hasattr(xp, "arctan") else xp.atan(x)


def add_at(y: Array, index: Any, x: Array) -> Array:
    """y with x added at `index`, where an element that is named twice receives both; y itself may be changed."""
    if hasattr(array_module(y), "add") and hasattr(array_module(y).add, "at"):
        array_module(y).add.at(y, index, x)
        return y
    z = np.array(to_numpy(y))                          # the standard has no such function: NumPy lends its own
    np.add.at(z, index, to_numpy(x))
    return asarray(z, like=y)


def _own_dtype(x: Array, dtype: Any) -> Any:
    """A dtype as the library of x spells it."""
    dtype = np.dtype(dtype)
    return dtype if isinstance(x.dtype, np.dtype) else getattr(array_module(x), dtype.name)


# ---------------------------------------------------------------------------------------- threads


def cores() -> frozenset[int]:
    """The numbers of the cores that this process may use, which can be fewer than the machine has."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


_threads = len(cores())
_pool: ThreadPoolExecutor | None = None
_blas: Any = None  # threadpoolctl's limit, set at first use


def get_num_threads() -> int:
    """How many CPU threads the kernels share their batch over."""
    return _threads


def set_num_threads(n: int) -> None:
    """Share batches over `n` CPU threads (default: the cores this process may use)."""
    global _threads
    if int(n) != n or n < 1:
        raise BadInput(f"set_num_threads: {n} is no number of threads; it must be a whole number, 1 or more")
    _threads = int(n)
    _drop_pool()


def _drop_pool() -> None:
    """Let the next `parallel` start a new pool. The threads of this one end when nobody uses it any more."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_pool)  # a forked process has the pool, but none of its threads


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


KEPT = 1 << 30  # bytes


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, up to 1 GiB, for the next arrays; for the whole process.

    By default it gives a large block back to the system at once, and asks for it again, page by page
    and filled with zeros, for the next array of that size: a tenth of a training step goes into that.
    Only glibc can be told; elsewhere nothing changes.
    """
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        for parameter in (trim_threshold, mmap_threshold):
            ctypes.CDLL(None).mallopt(parameter, KEPT)


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
    pool = _pool
    if pool is None:
        _pool = pool = ThreadPoolExecutor(_threads, thread_name_prefix="minidiff")
    edges = [n * i // shards for i in range(shards + 1)]
    futures = [pool.submit(work, lo, hi) for lo, hi in zip(edges[1:-1], edges[2:], strict=True)]
    first = work(edges[0], edges[1])
    return [first, *(future.result() for future in futures)]


# ---------------------------------------------------------------------------------------- kernels

KERNELS = ("numpy", "numba", "rounded", "emulated")
_kernels: str | None = None


def get_kernels() -> str:
    """Which CPU kernels are used: "numba" where it is installed (extra `fast`) unless told otherwise, else "numpy".

    The variable MINIDIFF_KERNELS chooses as `set_kernels` does.
    """
    global _kernels
    if _kernels is None:
        choice = os.environ.get("MINIDIFF_KERNELS")
        if choice:
            set_kernels(choice)
        else:
            _kernels = "numba" if importlib.util.find_spec("numba") else "numpy"
    return _kernels  # type: ignore[return-value]


def set_kernels(name: str) -> None:
    """Use the CPU kernels written with "numpy" or compiled by "numba". Raises BadInput.

    "rounded" are these with the roundings of the GPU's, to see what a precision does (`kernels/rounded.py`); "emulated"
    runs the GPU's kernels on the CPU, one thread after the other: thousands of times slower, for tests.
    """
    global _kernels
    if name not in KERNELS:
        raise BadInput(f"set_kernels: {name!r} is unknown; it is one of: {', '.join(KERNELS)}")
    if name == "numba" and importlib.util.find_spec("numba") is None:
        raise BadInput("set_kernels: numba is not installed; pip install minidiff[fast], or use numpy")
    _kernels = name


# ---------------------------------------------------------------------------------------- precision

PRECISIONS = ("fp32", "tf32", "bf16")


class _Precision(threading.local):
    name = "fp32"


_precision = _Precision()


def get_precision() -> str:
    """How the GPU's kernels multiply, in this thread; see `set_precision`."""
    return _precision.name


def set_precision(name: str) -> None:
    """Choose how the GPU's kernels multiply float32 numbers, in this thread. Raises BadInput.

    fp32   as they are
    tf32   on the tensor cores, which read 10 bits of each number's mantissa and add up in float32
    bf16   convolutions take and give bfloat16, 7 bits of mantissa: half the memory to move. Weights, statistics and
           sums stay float32

    The CPU's kernels compute in the dtype of their arrays, whatever the precision, but for those named "rounded".
    """
    if name not in PRECISIONS:
        raise BadInput(f"set_precision: {name!r} is unknown; it is one of: {', '.join(PRECISIONS)}")
    if name == "bf16":
        bfloat16()
    _precision.name = name


@reusable
def precision(name: str) -> Iterator[None]:
    """`with precision("tf32"):` sets the precision, and afterwards what it was. Raises BadInput."""
    before = get_precision()
    set_precision(name)
    try:
        yield
    finally:
        set_precision(before)


def bfloat16() -> np.dtype:
    """The dtype of 16-bit numbers with float32's range, which NumPy leaves to the package ml_dtypes. Raises BadInput."""
    global narrow
    try:
        import ml_dtypes
    except ImportError:
        raise BadInput("bfloat16 needs the package ml_dtypes, which is not installed; pip install ml_dtypes") from None
    narrow = True
    return np.dtype(ml_dtypes.bfloat16)


# ----------------------------------------------------------------------------------------- chance

_rng = np.random.default_rng(0)

if hasattr(os, "register_at_fork"):
    # Forked while another thread draws, a child would have the generator's lock closed, and no thread to open it.
    os.register_at_fork(before=_rng.bit_generator.lock.acquire, after_in_parent=_rng.bit_generator.lock.release,
                        after_in_child=_rng.bit_generator.lock.release)  # fmt: skip


def manual_seed(seed: int) -> None:
    """Start the generator behind weight initialisation and dropout anew from `seed`."""
    _rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state


def default_rng() -> np.random.Generator:
    """The generator that weight initialisation and dropout draw from."""
    return _rng
