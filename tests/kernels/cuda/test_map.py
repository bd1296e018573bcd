"""Functions of the numbers at one place, of the GPU, run by the emulator, against NumPy's in float64.

The emulator's exp, log and so on are the C library's, not CUDA's: what is tested here is how arrays are walked through,
which formula is which, and what is our own, sin, cos and tan.
"""

import numpy as np
import pytest
from scipy import special

from minidiff import backend, kernels
from minidiff.kernels.cuda import map as maps
from minidiff.kernels.cuda.functions import functions

ERROR = 5e-7                                     # four roundings of float32; pow and sinh are made of several

DEFINITIONS = {"rsqrt": lambda x: 1 / np.sqrt(x), "sigmoid": special.expit, "erf": special.erf,
               "softplus": lambda x, beta: np.maximum(x, 0) + np.log1p(np.exp(-beta * np.abs(x))) / beta,
               "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x)}  # fmt: skip
BINARY = ["add", "subtract", "multiply", "divide", "pow", "maximum", "minimum", "softplus", "leaky_relu",
          "equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]  # fmt: skip
UNARY = [name for name in maps.FORMULAS if name not in (*BINARY, "where")]

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, 88.0, -104.0, 1e10, -3e38]


def exact(name, *operands):
    """The function in float64, of float32 numbers."""
    wide = [x.astype(np.float64) if getattr(x, "dtype", None) == np.float32 else x for x in operands]
    with np.errstate(all="ignore"):
        return DEFINITIONS.get(name, getattr(np, name, None))(*wide)


def numbers(rng, *shape):
    return np.asarray(rng.standard_normal(shape), np.float32)


def channels_last(a):
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def assert_agrees(y, expected):
    assert y.shape == expected.shape and y.dtype == (np.bool_ if expected.dtype == np.bool_ else np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(y, expected.astype(y.dtype), rtol=ERROR, atol=1e-37)


def check(name, *operands):
    y = maps.apply(name, *operands)
    assert_agrees(y, exact(name, *operands))
    return y


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_number(name, order, rng):
    check(name, np.concatenate([3 * numbers(rng, 2041), np.array(SPECIAL, np.float32)]))
    for shape in [(), (1,), (0,), (3, 0, 2)]:
        check(name, np.asarray(np.abs(numbers(rng, *shape)) + 0.5))


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_numbers_and_what_is_none(name, order):
    a, b = (x.reshape(-1).astype(np.float32) for x in np.meshgrid(SPECIAL, SPECIAL))
    if name == "softplus":
        a, b = a[b > 0], b[b > 0]                # what divides by β must be a positive number
        a, b = a[np.isfinite(b) & (b > 1e-30)], b[np.isfinite(b) & (b > 1e-30)]
    check(name, a, b)


def test_angles_are_exact_however_large(order, rng):
    """Also beside multiples of π/2, where the last digits decide; float32 knows no angle that is one."""
    near = np.arange(1, 4000) * np.float64(np.pi / 2)
    x = np.concatenate([near, -near, 10.0 ** rng.uniform(-38, 38.5, 1000), 2.0 ** np.arange(-149, 128)]).astype(np.float32)
    for name in ("sin", "cos", "tan"):
        check(name, x)


SHAPES = [((), ()), ((7, 1), (1, 5)), ((3, 0), (1,)), ((), (3, 1)), ((5,), (3, 1, 5)), ((2, 3, 4, 5), (3, 1, 1)),
          ((2, 1, 3, 1, 2, 1), (1, 2, 1, 3, 1, 2)), ((2, 1, 2, 1, 2, 1, 2, 1), (2, 2, 1, 2, 1, 2, 1, 2)), ((1, 1), (1,))]  # fmt: skip


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_operands_broadcast(shapes, order, rng):
    a, b = (numbers(rng, *shape) for shape in shapes)
    check("subtract", a, b)
    check("less", a, b)
    c = np.broadcast_shapes(*shapes)
    for condition in (np.asarray(rng.random(shape) < 0.5) for shape in (c, shapes[1])):
        assert np.array_equal(maps.apply("where", condition, a, b), np.where(condition, a, b))


@pytest.mark.parametrize("number", [0, 2.5, -1], ids=str)
def test_a_python_number_stands_on_either_side(number, order, rng):
    for a in (numbers(rng, 4, 5), numbers(rng, 6, 9)[:, ::2]):
        check("subtract", a, number)
        check("divide", number, a)
        assert np.array_equal(maps.apply("where", a > 0, number, a), np.where(a > 0, np.float32(number), a))


LAYOUTS = {
    "channels last": channels_last,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: x[::-1, ..., ::-1].copy()[::-1, ..., ::-1],
    "some channels": lambda x: channels_last(np.concatenate([x, x], axis=1))[:, x.shape[1] :],
    "one number on": lambda x: np.concatenate([x[:1].ravel()[:1], x.ravel()])[1:].reshape(x.shape),
    "repeated": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_lie_in_any_way(layout, order, rng):
    a, b = LAYOUTS[layout](numbers(rng, 2, 8, 3, 5)), numbers(rng, 2, 8, 3, 5)
    for other in (a, b, b[:1, :, :1, :1]):
        check("subtract", a, other)
        check("subtract", other, a)
        condition = LAYOUTS[layout](b > 0)
        assert np.array_equal(maps.apply("where", condition, a, other), np.where(condition, a, other))


def test_the_result_keeps_the_order_in_memory(order, rng):
    x, vector = channels_last(numbers(rng, 2, 8, 3, 5)), numbers(rng, 2, 8, 1, 1)
    for y in (maps.apply("exp", x), maps.apply("multiply", x, vector), maps.apply("multiply", vector, x),
              maps.apply("add", x, 1.0), maps.apply("where", x > 0, x, 0.0), maps.apply("exp", x[:, :5])):  # fmt: skip
        assert y.strides[1] == 4, "the channels of a pixel are neighbours"
    assert maps.apply("less", x, vector).strides[1] == 1


# --------------------------------------------------------------------------------- who goes where


@pytest.fixture
def launched(monkeypatch):
    """The functions that went to a kernel."""
    from minidiff.kernels.cuda import runtime

    found = []
    monkeypatch.setattr(runtime, "watchers", [found.append])
    return found


def test_float32_goes_to_the_kernels_and_all_else_to_the_library(emulated, launched, rng):
    x = numbers(rng, 2, 3)
    fn = kernels.functions(x)
    ys = [fn.exp(x), fn.subtract(x, x[:1]), fn.maximum(x, 0), fn.sum(x, axis=1), fn.where(x > 0, x, 0.0), fn.less(x, 1.0)]
    assert len(launched) == len(ys) and {y.shape[0] for y in ys} == {2}
    launched.clear()
    expected = [(fn.subtract(x, x.astype(np.float64)), np.float64), (fn.multiply(x, np.float32(2)), np.float32),
                (fn.sum(np.zeros((0, 3), np.float32), axis=0), np.float32), (fn.where(x > 0, 1.0, 2.0), np.float64),
                (fn.exp(x.astype(x.dtype.newbyteorder())), np.float32), (fn.clip(x, 0, 1), np.float32),
                (fn.sum(x, axis=0, dtype=np.float64), np.float64), (fn.exp(x, dtype=np.float64), np.float64)]  # fmt: skip
    assert [y.dtype for y, _ in expected] == [dtype for _, dtype in expected] and not launched
    packed = np.zeros(3, np.dtype([("flag", np.uint8), ("x", np.float32)]))["x"]
    assert fn.exp(packed).sum() == 3 and not launched, "steps of 5 bytes are none that a kernel can take"


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.bool_, np.float16])
def test_the_functions_for_other_numbers_are_the_librarys(dtype, emulated):
    assert kernels.functions(np.zeros(2, dtype)) is np


def test_without_emulation_they_are_numpys():
    assert backend.get_kernels() != "emulated"
    assert kernels.functions(np.zeros(2, np.float32)) is np and functions(np).cumsum is np.cumsum
