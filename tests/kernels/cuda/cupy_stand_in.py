"""A stand-in for CuPy on a machine without a GPU: its arrays lie in NumPy's memory, but NumPy may not touch them.

What a first run on a GPU would stumble over stops here: an array of NumPy's among arrays of the GPU, an implicit way back
to NumPy, arithmetic with bfloat16 (which CuPy's own functions do not have), a flag or a function that CuPy lacks, a
look at a number or a copy from the CPU while a CUDA graph is recorded. Kernels are launched as on a GPU, with addresses
and numbers by value, and run by the emulator. A recorded graph is replayed: on the same addresses, nothing new computed
by Python.

It is stricter than CuPy, and knows no more of it than this library asks for.
"""

import contextlib
import ctypes
import functools
import operator
import pickle
import sys
import time
import types

import numpy as np

from minidiff.kernels.cuda import runtime
from minidiff.kernels.cuda.compile import Compiled

METHODS = {
    "all", "any", "argmax", "argmin", "astype", "clip", "copy", "cumprod", "cumsum", "fill", "max", "mean", "min", "prod",
    "ravel", "repeat", "reshape", "squeeze", "sum", "swapaxes", "take", "transpose", "view",
}  # fmt: skip
PLAIN = {"broadcast_shapes", "dtype", "finfo", "iinfo", "result_type", "can_cast"}     # compute with no array
TRANSFERS = {"array", "asarray"}                                                        # bring numbers from the CPU


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


# ------------------------------------------------------------------------------------------- the graph

capturing = None                              # the Stream that is recording, if one is
current = []                                  # the streams entered by `with`
room = None                                   # bytes that an array may have at most; None for any


def recording():
    """The list that operations are recorded to, where the present stream is recording; else None."""
    return capturing.recorded if capturing is not None and current and current[-1] is capturing else None


def look(what):
    """Something that waits for the device: not while a graph is recorded."""
    if recording() is not None:
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while a graph is recorded")


def done(fn):
    """Do it, or while a graph is recorded, note it down: its result may not be looked at before the graph runs."""
    if (record := recording()) is not None:
        record.append(fn)
    else:
        fn()


class Stream:
    recorded, kept = None, None                   # what a graph will do, and the memory that it does it in

    def __init__(self, non_blocking=False):
        pass

    def __enter__(self):
        current.append(self)
        return self

    def __exit__(self, *_):
        current.pop()

    def synchronize(self):
        look("Stream.synchronize")

    def begin_capture(self, mode=None):
        global capturing
        assert capturing is None, "another stream is recording"
        self.recorded, self.kept, capturing = [], [], self

    def end_capture(self):
        global capturing
        capturing = None
        return Graph(self.recorded, self.kept)


class Graph:
    def __init__(self, recorded, kept):
        self.recorded, self.kept = recorded, kept

    def launch(self, stream=None):
        for fn in self.recorded:
            fn()


# ------------------------------------------------------------------------------------------ the arrays


class Pointer:
    def __init__(self, a):
        self.ptr = a.ctypes.data


class Flags:
    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, flags.owndata


class ndarray:
    """Memory of the GPU."""

    __array_priority__ = 100
    __hash__ = None

    def __init__(self, a):
        assert type(a) is np.ndarray
        if room is not None and a.nbytes > room:
            raise OutOfMemoryError(f"Out of memory allocating {a.nbytes} bytes")
        self._a = a
        if recording() is not None:
            capturing.kept.append(a)                  # a graph's memory stays its own, as its pool sees to on a GPU

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if len(inputs) == 1 or any(isinstance(x, np.ndarray) for x in inputs) or method != "__call__":
            raise TypeError(f"Unsupported type numpy.ndarray in {ufunc.__name__}")
        return call(getattr(np, ufunc.__name__), *inputs, **options)     # NumPy's scalar and an array of the GPU

    def __array_function__(self, fn, *_):
        raise TypeError(f"numpy.{fn.__name__} was given an array of the GPU")

    shape = property(lambda self: self._a.shape)
    strides = property(lambda self: self._a.strides)
    dtype = property(lambda self: self._a.dtype)
    size = property(lambda self: self._a.size)
    ndim = property(lambda self: self._a.ndim)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    T = property(lambda self: ndarray(self._a.T))
    data = property(lambda self: Pointer(self._a))
    flags = property(lambda self: Flags(self._a.flags))
    __cuda_array_interface__ = property(lambda self: {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False)})

    def __len__(self):
        return len(self._a)

    def __getattr__(self, name):
        if name not in METHODS:
            raise AttributeError(f"cupy.ndarray, as this library knows it, has no {name}")
        return lambda *args, **options: call(getattr(np.ndarray, name), self, *args, **options)

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        arrays = [part for part in parts if isinstance(part, ndarray | np.ndarray | list)]
        if len(arrays) > 1 and any(part.dtype == bool for part in arrays if not isinstance(part, list)):
            raise ValueError("currently, CuPy only supports slices that consist of one boolean array.")
        return call(operator.getitem, self, index, index=True)

    def __setitem__(self, index, value):
        value, index = bare(value), bare(index, index=True)
        done(lambda: self._a.__setitem__(index, value))

    def get(self):
        look("ndarray.get")
        return self._a.copy()

    def set(self, numbers):
        look("ndarray.set")
        assert isinstance(numbers, np.ndarray) and numbers.shape == self.shape and numbers.dtype == self.dtype
        self._a[...] = numbers

    def item(self):
        look("ndarray.item")
        return self._a.item()

    def __bool__(self):
        look("bool of an array")
        return bool(self._a)

    __float__ = __int__ = __index__ = lambda self: self.item()


def _operator(fn, reflected):
    return lambda self, other: call(fn, other, self) if reflected else call(fn, self, other)


def _in_place(fn):
    def method(self, other):
        other = bare(other)
        plain(self._a, other)
        done(lambda: fn(self._a, other))
        return self

    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"):
    _fn = getattr(operator, f"__{_name}__")
    setattr(ndarray, f"__{_name}__", _operator(_fn, False))
    setattr(ndarray, f"__r{_name}__", _operator(_fn, True))
    setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"__i{_name}__")))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _operator(getattr(operator, f"__{_name}__"), False))
for _name in ("neg", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", functools.partialmethod(lambda self, fn: call(fn, self), getattr(operator, f"__{_name}__")))


def bare(x, index=False):
    """What NumPy computes with in the place of an argument; NumPy's own arrays are refused, but as an index."""
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, np.ndarray):
        if not index:
            raise TypeError(f"Unsupported type {type(x)}")
        look("an index from the CPU")
    if isinstance(x, tuple | list):
        return type(x)(bare(part, index) for part in x)
    return x


def plain(*xs):
    """Refuse bfloat16, which CuPy's functions do not compute with."""
    for x in xs:
        if isinstance(x, np.ndarray) and x.dtype.name == "bfloat16":
            raise TypeError("CuPy has no such function for bfloat16")


MOVES = {
    "astype", "copy", "reshape", "transpose", "view", "getitem", "ascontiguousarray", "broadcast_to", "swapaxes", "ravel",
    "squeeze", "expand_dims", "flip", "concatenate", "stack", "moveaxis", "asarray", "array", "take", "full", "full_like",
    "zeros_like", "ones_like", "empty_like", "roll", "repeat", "tile",
}  # fmt: skip                                   what moves numbers and does not compute with them


def call(fn, *args, index=False, **options):
    """fn of NumPy's on the memory below, and on it again whenever a graph that holds this is launched."""
    given = [bare(x, index) for x in args]
    out, options = options.get("out"), {name: bare(value) for name, value in options.items()}
    if fn.__name__ not in MOVES:
        plain(*given)
    if out is not None:
        done(lambda: fn(*given, **options))
        return out
    with np.errstate(all="ignore"):               # a GPU says nothing either
        result = fn(*given, **options)
    if isinstance(result, tuple | list):
        return type(result)(wrapped(part) for part in result)
    result = wrapped(result)
    record = recording()
    arrays = [x for x in given if isinstance(x, np.ndarray)]
    if record is not None and isinstance(result, ndarray) and not any(np.may_share_memory(result._a, a) for a in arrays):
        record.append(lambda: result._a.__setitem__(..., fn(*given, **options)))
    return result


def wrapped(result):
    if isinstance(result, np.ndarray):
        return ndarray(result)
    return ndarray(np.asarray(result)) if isinstance(result, np.generic) else result


class Add:
    """cupy.add, which is a function and has `at`."""

    __name__ = "add"

    def __call__(self, *args, **options):
        return call(np.add, *args, **options)

    def at(self, y, index, x):
        index, x = bare(index, index=True), bare(x)
        plain(y._a, x)
        done(lambda: np.add.at(y._a, index, x))


class Cupy(types.ModuleType):
    """The module."""

    ndarray = ndarray
    __version__ = "stand-in"
    add = Add()

    def __getattr__(self, name):
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found) or name in PLAIN:
            return found
        if name in TRANSFERS:
            return self._transfer(found)
        return lambda *args, **options: call(found, *args, **options)

    @staticmethod
    def _transfer(fn):
        def bring(a, *args, **options):
            if isinstance(a, ndarray):
                return call(fn, a, *args, **options)
            look("a copy from the CPU")
            return ndarray(np.array(fn(a, *args, **options)))

        return bring

    def nonzero(self, a):
        look("nonzero, whose size depends on the numbers")
        return call(np.nonzero, a)

    def empty(self, shape, dtype=float):
        a = np.empty(shape, dtype)
        a.reshape(-1).view(np.uint8)[...] = 0xFF      # NaN until somebody writes
        return ndarray(a)


# -------------------------------------------------------------------------------------- what launches


class Module:
    """Machine code, which here says what it was compiled from."""

    def load(self, cubin):
        self.build = pickle.loads(cubin)

    def get_function(self, name):
        return Function(self.build, name)


class Function:
    ptr = 0

    def __init__(self, build, name):
        self.build, self.name = build, name

    def __call__(self, grid, block, args, shared_mem=0):
        assert len(grid) == 3 and block[1:] == (1, 1) and all(isinstance(a, np.generic | np.ndarray) for a in args)
        assert shared_mem <= 232_448 and all(n >= 1 for n in grid) and max(grid[1:]) <= 65_535 and grid[0] < 1 << 31
        holders = [np.atleast_1d(np.array(a)) for a in args]     # numbers are passed by value, as they are now
        addresses = (ctypes.c_void_p * len(args))(*(h.ctypes.data for h in holders))

        def run(holders=holders):
            trouble = runtime._library(self.build)(self.name.encode(), *grid, block[0], False, addresses)
            assert not trouble, trouble

        done(run)


class Event:
    def record(self, stream=None):
        self.at = time.perf_counter()

    def synchronize(self):
        look("Event.synchronize")


class Device:
    id = 0
    compute_capability = "90"

    def synchronize(self):
        look("Device.synchronize")


class MemoryPool:
    def malloc(self, size):
        raise AssertionError("arrays of the stand-in do not come from here")

    def free_all_blocks(self):
        pass


def module(name, **content):
    found = types.ModuleType(name)
    found.__dict__.update(content)
    return found


def install(monkeypatch):
    """Let `import cupy` find the stand-in, and the kernels be launched through it."""
    cupy = Cupy("cupy")
    api = module("cupy.cuda.runtime", CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1, getDevice=lambda: 0,
                 memGetInfo=lambda: (1 << 30, 2 << 30), driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000,
                 getDeviceProperties=lambda device: {"name": b"a stand-in", "multiProcessorCount": 132})  # fmt: skip
    cupy.cuda = module("cupy.cuda", runtime=api, Device=Device, Stream=Stream, Graph=Graph, Event=Event, MemoryPool=MemoryPool,
                       function=module("cupy.cuda.function", Module=Module, Function=Function),
                       memory=module("cupy.cuda.memory", OutOfMemoryError=OutOfMemoryError),
                       using_allocator=lambda allocator: contextlib.nullcontext(),
                       get_elapsed_time=lambda start, end: 1000 * (end.at - start.at))  # fmt: skip
    cupy.get_default_memory_pool = MemoryPool
    driver = module("driver", funcSetAttribute=lambda *_: None, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8)
    from minidiff.kernels import cpu

    special = module("special", erf=lambda x: wrapped(cpu.erf(bare(x))))
    for name, content in {
        "cupy": cupy, "cupy.cuda": cupy.cuda, "cupyx": module("cupyx"), "cupyx.scipy": module("cupyx.scipy"),
        "cupyx.scipy.special": special, "cupy_backends": module("cupy_backends"), "cupy_backends.cuda": module("cuda"),
        "cupy_backends.cuda.api": module("api", driver=driver), "cupy_backends.cuda.api.driver": driver,
    }.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, content)
    monkeypatch.setattr(runtime, "for_gpu", lambda build, architecture: Compiled(pickle.dumps(build), {}))
    for cached in (runtime.architecture, runtime._loaded, runtime._function):
        cached.cache_clear()
    return cupy
