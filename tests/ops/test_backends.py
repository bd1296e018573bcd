"""One suite over every kind of array and kernel: NumPy's kernels, numba's, array-api-strict, CuPy where it is.

array-api-strict is a NumPy that allows exactly what the array API standard does. An operation that
passes on its arrays uses nothing but the standard, and so works on the arrays of any library that follows it.
"""

import contextlib
import importlib.util
from collections import Counter

import numpy as np
import pytest

from minidiff import backend, kernels, ops
from minidiff.autograd import FusedOp, grad
from minidiff.backend import array_module
from minidiff.checks import CASES
from minidiff.checks.mutations import uses
from minidiff.checks.testing import LAYOUTS, TOLERANCE, Subject, error, laid_out
from minidiff.nn import functional as F
from minidiff.tensor import Tensor

# ------------------------------------------------------------------------------------ what runs


class Library:
    """A kind of array, and the kernels that work on it."""

    def __init__(self, name, module="numpy", kernels=None):
        self.name, self.module, self.kernels = name, module, kernels

    def missing(self):
        """Why it cannot be tested here; None where it can."""
        if importlib.util.find_spec(self.module) is None:
            return f"{self.module} is not installed"
        if self.kernels == "numba" and importlib.util.find_spec("numba") is None:
            return "numba is not installed"
        if self.module == "cupy":
            try:
                backend.resolve_device("cuda")
            except backend.BadInput as reason:
                return str(reason)
        return None

    def array(self, a):
        """A NumPy array as one of this library, in the same memory layout where that is possible."""
        return a if self.module == "numpy" else importlib.import_module(self.module).asarray(a)

    def owns(self, array):
        return array_module(array).__name__ == self.module

    @contextlib.contextmanager
    def chosen(self):
        if self.kernels is None:
            yield
            return
        before = backend.get_kernels()
        backend.set_kernels(self.kernels)
        try:
            yield
        finally:
            backend.set_kernels(before)


NUMPY, NUMBA = Library("numpy", kernels="numpy"), Library("numba", kernels="numba")
STRICT, CUPY = Library("array-api-strict", "array_api_strict"), Library("cupy", "cupy")


LIBRARIES = (NUMPY, NUMBA, STRICT, CUPY)
STAYING = [case for case in CASES if case.operation != "to_device"]  # whose arrays stay where they are


def over(*libraries):
    """One test for each of the libraries that are here (the test below says of each that is not why)."""
    here = [library for library in libraries if library.missing() is None]
    return pytest.mark.parametrize("library", here, ids=[library.name for library in here], indirect=True)


@pytest.fixture
def library(request):
    """The library of the parameter, with its kernels chosen."""
    with request.param.chosen():
        yield request.param


@pytest.mark.parametrize("candidate", LIBRARIES, ids=lambda library: library.name)
def test_the_library_is_here(candidate):
    if reason := candidate.missing():
        pytest.skip(f"nothing below ran with {candidate.name}: {reason}")
    with candidate.chosen():
        assert candidate.owns(candidate.array(np.zeros(2)))


DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
FUSED = [case for case in CASES if any(issubclass(use.op, FusedOp) for use in uses(case))]
named = {"ids": lambda case: case.name}


def assert_agrees(library, what, actual, expected, dtype):
    assert library.owns(actual), f"{what} is an array of {array_module(actual).__name__}"
    numbers = backend.to_numpy(actual)
    assert numbers.dtype == np.dtype(dtype) and numbers.shape == expected.shape, what
    assert error(numbers, expected) <= TOLERANCE[dtype], what


def run(library, subject, dtype, layout="contiguous", **options):
    """Outputs and gradients of a subject on arrays of this library."""
    arrays, upstream = subject.cast(dtype, layout)
    return subject.run([library.array(a) for a in arrays], [library.array(u) for u in upstream], **options)


# -------------------------------------------------------------------------------- every case


def check_case(library, case, dtype, layout):
    subject = Subject.of(case)
    expected = [*subject.values, *subject.gradients]
    for create_graph in (False, True):
        ys, gs = run(library, subject, dtype, layout, create_graph=create_graph)
        for i, (t, e) in enumerate(zip([*ys, *gs], expected, strict=True)):
            what = "value" if i == 0 else f"gradient of input {i - 1}"
            assert_agrees(library, what, library.array(np.zeros(e.shape, dtype)) if t is None else t.data, e, dtype)


@over(STRICT, CUPY)
@pytest.mark.parametrize("case", STAYING, **named)
@DTYPES
def test_every_case_on_arrays_of_other_libraries(library, case, dtype):
    check_case(library, case, dtype, "contiguous")


@over(NUMPY, NUMBA)
@pytest.mark.parametrize("case", FUSED, **named)
@DTYPES
def test_every_fused_case_with_either_kernels(library, case, dtype):
    """The other cases use no kernels; tests/ops/test_ops.py runs them on NumPy's arrays in every layout."""
    for layout in LAYOUTS:
        check_case(library, case, dtype, layout)


def second_order(subject, arrays, upstream):
    """The gradients of Σ v · ∂(Σ u y)/∂x, v all different numbers, with respect to x and u."""
    xs, us = ([Tensor(a, requires_grad=True) for a in given] for given in (arrays, upstream))
    (y,) = subject.outputs(*xs)
    gs = grad(y, xs, us[0], create_graph=True)
    vs = [backend.asarray(np.cos(np.arange(x.size)).reshape(x.shape).astype(x.dtype), like=x.data) for x in xs]
    terms = [(g * Tensor(v)).sum() for g, v in zip(gs, vs, strict=True) if g is not None]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return grad(total, [*xs, *us]) if total.requires_grad else [None] * (len(xs) + len(us))


@over(STRICT, CUPY)
@pytest.mark.parametrize("case", STAYING, **named)
def test_second_derivatives_are_those_of_numpy(library, case):
    subject = Subject.of(case)
    arrays, upstream = subject.cast("float64")
    expected = second_order(subject, arrays, upstream)
    actual = second_order(subject, [library.array(a) for a in arrays], [library.array(u) for u in upstream])
    for i, (g, e) in enumerate(zip(actual, expected, strict=True)):
        assert (g is None) == (e is None)
        if e is not None:
            assert_agrees(library, f"second derivative {i}", g.data, e.numpy(), "float64")


# ------------------------------------------------------------------ odd and empty shapes, 0-d, layouts

# Operations on any shape: those that the table has on a single number, and that keep the shape of others.
ANY_SHAPE = {
    case.operation: case for case in CASES
    if len(case.draws) == 1 and case.inputs()[0].shape == ()
    and case.ours(Tensor(np.full((2, 3), 0.75))).shape == (2, 3)
}  # fmt: skip
ODD = [(), (1,), (0,), (7, 1, 5), (3, 0, 2), (13,), (1, 1, 1, 1)]
IMAGES = [(1, 2, 1, 1), (3, 2, 5, 7), (0, 2, 4, 4), (1, 2, 9, 3)]

OPERATIONS = [
    *[(name, case.ours, [[shape] for shape in ODD]) for name, case in ANY_SHAPE.items()],
    *[(name, getattr(ops, name), [[(), ()], [(7, 1), (1, 5)], [(3, 0), (1,)], [(), (3, 1)], [(0,), ()], [(5,), (3, 1, 5)]])
      for name in ("add", "sub", "mul", "div")],
    ("sum", lambda x: ops.sum(x, -1), [[(0,)], [(3, 0)], [(0, 3)], [(7, 5)], [(1,)]]),
    ("mean", lambda x: ops.mean(x, 0, keepdims=True), [[(5, 0)], [(7, 5)], [(1,)]]),
    ("max", lambda x: ops.max(x, -1), [[(7, 5)], [(1,)], [(0, 3)]]),
    ("softmax", lambda x: ops.softmax(x, -1), [[(1,)], [(7, 5)], [(0, 3)]]),
    ("log_softmax", lambda x: ops.log_softmax(x, -1), [[(1,)], [(7, 5)], [(0, 3)]]),
    ("reshape", lambda x: ops.reshape(x, (-1, 1)), [[()], [(7, 5)], [(1, 0)]]),
    ("transpose", ops.transpose, [[()], [(1,)], [(7, 5)], [(3, 0, 2)]]),
    ("getitem", lambda x: x[..., ::2], [[(1,)], [(7, 5)], [(0, 3)]]),
    ("concatenate", lambda a, b: ops.concatenate([a, b]), [[(0, 3), (2, 3)], [(7,), (1,)], [(0,), (0,)]]),
    ("broadcast_to", lambda x: ops.broadcast_to(x, (3, *x.shape)), [[()], [(1,)], [(7, 5)], [(0,)]]),
    ("matmul", ops.matmul, [[(1,), (1,)], [(7, 5), (5, 3)], [(0, 3), (3, 2)], [(2, 0), (0, 3)], [(3, 0, 2, 5), (5, 1)]]),
    ("mse_loss", ops.mse_loss, [[(), ()], [(7, 5), (7, 5)]]),
    ("conv2d", lambda x, w: ops.conv2d(x, w, padding=1), [[s, (3, 2, 3, 3)] for s in IMAGES]),
    ("conv_transpose2d", lambda x, w: ops.conv_transpose2d(x, w, stride=2), [[s, (2, 3, 2, 2)] for s in IMAGES]),
    ("group_norm", lambda x, g, b: ops.group_norm(x, 1, g, b, eps=0.1), [[s, (2,), (2,)] for s in IMAGES]),
    ("group_norm_gelu", lambda x, g, b: ops.group_norm_gelu(x, 2, g, b, eps=0.1), [[s, (2,), (2,)] for s in IMAGES]),
    ("group_norm_silu", lambda x, g, b: ops.group_norm_silu(x, 2, g, b, eps=0.1), [[s, (2,), (2,)] for s in IMAGES]),
    ("interpolate", lambda x: F.interpolate(x, 2), [[s] for s in IMAGES]),
]  # fmt: skip


@over(*LIBRARIES)
@pytest.mark.parametrize(("name", "fn", "shapes"), OPERATIONS, ids=[name for name, *_ in OPERATIONS])
def test_odd_and_empty_shapes_in_every_layout(library, name, fn, shapes, rng):
    """0-d, empty, prime sizes; non-contiguous and read-only. Expected: one element at a time by NumPy in float64."""
    for given in shapes:
        # Numbers between 0.5 and 1, where every function is smooth, in steps that float32 holds.
        inputs = [rng.integers(64, 128, shape) / 128 for shape in given]
        subject = Subject(fn, inputs, None, name)
        expected = [*subject.values, *subject.gradients]
        for dtype in TOLERANCE:
            for layout in LAYOUTS:
                ys, gs = run(library, subject, dtype, layout)
                for t, e in zip([*ys, *gs], expected, strict=True):
                    assert_agrees(library, f"{given}, {layout}", t.data, e, dtype)


@over(STRICT, CUPY)
def test_arrays_of_another_library_may_be_read_only_and_strided(library):
    a = laid_out(np.arange(6.0).reshape(2, 3), "every second")
    x = Tensor(library.array(a), requires_grad=True)
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * a)
    np.testing.assert_array_equal(a, np.arange(6.0).reshape(2, 3))


# ------------------------------------------------------------------------- no way through NumPy

# What the standard has no function for, and NumPy (or SciPy) therefore lends its own.
LENT = {"add_at": (backend, "add_at"), "erf": (kernels, "erf")}


class Trips:
    """Counts how often a strict array of floating-point numbers is handed to NumPy, and by which lent function, or ""."""

    def __init__(self, monkeypatch):
        self.inside, self.seen = "", Counter()
        strict = type(STRICT.array(np.zeros(1)))
        for way in ("__array__", "__buffer__", "__dlpack__"):
            monkeypatch.setattr(strict, way, self.counting(getattr(strict, way)))
        for name, (module, attribute) in LENT.items():
            monkeypatch.setattr(module, attribute, self.lent(name, getattr(module, attribute)))

    def counting(self, way):
        def counted(array, *args, **options):
            # Labels, places and a single number, such as how many there are, may be looked at.
            self.seen[self.inside] += backend.dtype_of(array).kind == "f" and array.ndim > 0
            return way(array, *args, **options)

        return counted

    def lent(self, name, function):
        def lending(*args, **options):
            before, self.inside = self.inside, name
            try:
                return function(*args, **options)
            finally:
                self.inside = before

        return lending


@over(STRICT)
@pytest.mark.parametrize("case", CASES, **named)
def test_no_number_goes_through_numpy_but_in_two_functions(library, case, monkeypatch):
    """A copy to NumPy and back would give the right numbers and prove nothing; on a GPU it would cost the transfer."""
    subject = Subject.of(case)
    arrays, upstream = subject.cast("float64")
    xs, us = [library.array(a) for a in arrays], [library.array(u) for u in upstream]
    trips = Trips(monkeypatch)
    second_order(subject, xs, us)
    assert trips.seen[""] == 0


@over(STRICT)
@pytest.mark.parametrize("name", LENT)
def test_the_two_functions_do_need_numpy(library, name, monkeypatch):
    x = Tensor(library.array(np.array([0.5, 1.0])), requires_grad=True)
    trips = Trips(monkeypatch)
    y = {"add_at": lambda: x[np.array([0, 0, 1])], "erf": lambda: ops.erf(x)}[name]()
    y.backward(np.ones(y.shape))
    assert trips.seen[name] > 0 and not trips.seen[""]
