"""Launching kernels: on the GPU through CuPy; for NumPy arrays in emulation, or only noted down.

    kernel = Kernel("elementwise.cu", "add", T="float")
    kernel(blocks, threads, a, b, y, n)

The arrays decide where it runs. CuPy's go to the GPU. NumPy's go to the emulator, so that the whole library can
run its GPU path, function by function, on a machine without one. Inside `with noted() as launches` nothing runs
on NumPy arrays: what would have been launched is collected, which is how `minidiff kernels` knows everything
that a model needs. Inside `with kept() as launches` it runs and is collected too, to be run again.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ...backend import Array, array_module, is_array
from ...errors import BadInput
from .compile import Build, for_cpu, for_gpu

Grid = tuple[int, int, int]
MOST_SHARED = 48 * 1024                     # bytes of shared memory that a block has without asking for more
_TYPES = {int: np.int32, float: np.float32, bool: np.int32}

watchers: list[Callable[[Launch], Any]] = []  # told of each launch
backwards = False                           # emulate threads and blocks in the opposite order: see emulate.h
_collected: tuple[list[Any], Callable[[Any], Any]] | None = None      # what was noted so far, and what to note of each launch
_running = True


class Value(NamedTuple):
    """A structure that a kernel is given by value: a NumPy array of no dimensions, and the arrays whose addresses it holds."""

    structure: np.ndarray
    arrays: tuple[Array, ...] = ()


class Kernel:
    """One kernel of a .cu file, compiled with definitions; call it to launch it."""

    def __init__(self, file: str, name: str, **defines: Any) -> None:
        self.build, self.name = Build.of(file, defines), name

    def __call__(self, grid: int | tuple[int, ...], threads: int, *args: Any, shared: int = 0) -> None:
        """Launch `grid` blocks of `threads` threads with `shared` bytes of shared memory each.

        args   arrays (passed as addresses; the kernel knows their layout), None for the address 0, structures (Value),
               and numbers: Python's whole numbers become int, its other numbers float, NumPy's stay as they are
        """
        size = (grid,) if isinstance(grid, int) else tuple(grid)
        Launch(self, (*size, *(1,) * (3 - len(size))), threads, shared, args)()  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.name} of {self.build}"


class Launch(NamedTuple):
    """A kernel and all that it is called with."""

    kernel: Kernel
    grid: Grid
    threads: int
    shared: int
    args: tuple[Any, ...]

    def __call__(self) -> None:
        if 0 in self.grid:
            return
        for watcher in watchers:
            watcher(self)
        arrays = [a for a in self.args if is_array(a) and not isinstance(a, np.generic)]
        named = [a for value in self.args if isinstance(value, Value) for a in value.arrays]
        if array_module((arrays or named)[0]) is not np:
            _on_gpu(self)
            return
        if _collected is not None:
            found, note = _collected
            found.append(note(self))
        if _running:
            _emulated(self, arrays)


@contextlib.contextmanager
def noted(note: Callable[[Launch], Any] = lambda launch: launch) -> Iterator[list[Any]]:
    """Collect the launches on NumPy arrays instead of running them: what they would write stays unwritten.

    `note` gives what to keep of each. The launch itself keeps its arrays, and so all the memory of a training step.
    """
    with _collecting(False, note) as launches:
        yield launches


@contextlib.contextmanager
def kept() -> Iterator[list[Launch]]:
    """Run the launches on NumPy arrays and collect them: the emulator's stand-in for a CUDA graph."""
    with _collecting(True, lambda launch: launch) as launches:
        yield launches


@contextlib.contextmanager
def _collecting(run: bool, note: Callable[[Launch], Any]) -> Iterator[list[Any]]:
    global _collected, _running
    found: list[Any] = []
    before, _collected, _running = (_collected, _running), (found, note), run
    try:
        yield found
    finally:
        _collected, _running = before


# ------------------------------------------------------------------------------------- on the GPU


@functools.cache
def architecture() -> str:
    """The present device's, as in "sm_90". Raises BadInput for one without tensor cores for bfloat16."""
    import cupy

    capability = cupy.cuda.Device().compute_capability
    if int(capability) < 80:
        raise BadInput(f"device cuda: this GPU has compute capability {capability[:-1]}.{capability[-1]}; the kernels need 8.0"
                       " (Ampere) or newer; use cpu")  # fmt: skip
    return f"sm_{capability}"


@functools.cache
def _loaded(build: Build, device: int) -> Any:
    import cupy

    module = cupy.cuda.function.Module()
    module.load(for_gpu(build, architecture()).cubin)
    return module


@functools.cache
def _function(build: Build, name: str, shared: int, device: int) -> Any:
    """The function to launch, allowed `shared` bytes of shared memory."""
    from cupy_backends.cuda.api import driver

    function = _loaded(build, device).get_function(name)
    if shared > MOST_SHARED:
        driver.funcSetAttribute(function.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared)
    return function


def _on_gpu(launch: Launch) -> None:
    import cupy

    kernel, (grid, threads, shared) = launch.kernel, launch[1:4]
    function = _function(kernel.build, kernel.name, shared, cupy.cuda.runtime.getDevice())
    args = [np.uintp(a.data.ptr) if isinstance(a, cupy.ndarray) else _scalar(a) for a in launch.args]
    function(grid, (threads, 1, 1), args, shared_mem=shared)


def _scalar(a: Any) -> np.generic | np.ndarray:
    if isinstance(a, Value):
        return a.structure
    return np.uintp(0) if a is None else a if isinstance(a, np.generic) else _TYPES[type(a)](a)


# ----------------------------------------------------------------------------------- in emulation

def memory(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Memory that a kernel is to write to: NaN until it does, so that what it forgets shows; 0 where none will run."""
    if not _running:
        return np.zeros(shape, dtype)
    a = np.empty(shape, dtype)
    a.reshape(-1).view(np.uint8)[...] = 0xFF
    return a


GUARD = 256                                 # bytes before and after each array, watched for writes that miss it


@functools.cache
def _library(build: Build) -> Any:
    emulate = ctypes.CDLL(str(for_cpu(build))).emulate
    emulate.restype = ctypes.c_char_p
    emulate.argtypes = [ctypes.c_char_p, *[ctypes.c_uint] * 3, ctypes.c_int, ctypes.c_bool, ctypes.c_void_p]
    return emulate


def _emulated(launch: Launch, arrays: list[Array]) -> None:
    """Run the launch on guarded copies of the arrays, and copy back what came of it."""
    kernel = launch.kernel
    if launch.shared > 232_448:
        raise BadInput(f"{kernel}: {launch.shared:,} bytes of shared memory; a block has at most 232,448")
    spans = _spans(arrays)
    args, holders = [], []
    for a in launch.args:
        if any(a is array for array in arrays):
            address, span = a.__array_interface__["data"][0], next(s for s in spans if s.holds(a))
            value: Any = np.uintp(span.memory.ctypes.data + GUARD + address - span.start)
        else:
            value = _scalar(a)
        holder = np.atleast_1d(np.array(value))
        holders.append(holder)
        args.append(holder.ctypes.data)
    addresses = (ctypes.c_void_p * len(args))(*args)
    trouble = _library(kernel.build)(kernel.name.encode(), *launch.grid, launch.threads, backwards, addresses)
    if trouble:
        raise RuntimeError(f"{kernel}: {trouble.decode()}")
    for span in spans:
        span.give_back(kernel)


class _Span:
    """A stretch of memory that arrays lie in, and its guarded copy."""

    def __init__(self, start: int, end: int, writeable: bool) -> None:
        self.start, self.end, self.writeable = start, end, writeable
        self.memory = np.full(end - start + 2 * GUARD + 256, 0xFF, np.uint8)
        self.memory = self.memory[(start - self.memory.ctypes.data - GUARD) % 256 :]   # as aligned as the original
        self.inside = slice(GUARD, GUARD + end - start)
        self.memory[self.inside] = self._original()

    def _original(self) -> np.ndarray:
        return np.frombuffer((ctypes.c_char * (self.end - self.start)).from_address(self.start), np.uint8)

    def holds(self, a: Array) -> bool:
        start, end = _extent(a)
        return self.start <= start and end <= self.end

    def give_back(self, kernel: Kernel) -> None:
        around = np.concatenate([self.memory[: GUARD], self.memory[self.inside.stop : self.inside.stop + GUARD]])
        if (around != 0xFF).any():
            raise RuntimeError(f"{kernel}: wrote outside of its arrays")
        new, old = self.memory[self.inside], self._original()
        changed = new != old
        if changed.any():
            if not self.writeable:
                raise RuntimeError(f"{kernel}: wrote to an array that is read-only")
            old[...] = new


def _extent(a: Array) -> tuple[int, int]:
    """The first byte of an array in memory, and the one after its last."""
    if not a.size:                                               # there is none, and NumPy counts backwards from the first
        return (start := a.__array_interface__["data"][0]), start
    return np.lib.array_utils.byte_bounds(a)


def _spans(arrays: list[Array]) -> list[_Span]:
    """The stretches of memory of the arrays, those that overlap joined."""
    extents = sorted((*_extent(a), a.flags.writeable) for a in arrays)
    joined: list[list[Any]] = []
    for start, end, writeable in extents:
        if joined and start < joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
            joined[-1][2] |= writeable
        else:
            joined.append([start, end, writeable])
    return [_Span(*span) for span in joined]
