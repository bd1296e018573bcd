"""Products of matrices of the GPU, run by the emulator, against NumPy's in float64."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels.cuda.matmul import matmul

ERROR = {"fp32": 2e-6, "tf32": 1e-3, "bf16": 5e-3}      # see test_conv.py
SHAPES = [
    ((5, 8), (8, 128)), ((33, 7), (7, 65)), ((3, 1), (1, 4)), ((2, 5, 16), (2, 16, 3)), ((2, 3, 4, 24), (2, 3, 24, 5)),
    ((4, 6, 5), (5, 7)), ((6, 5), (4, 5, 7)), ((2, 1, 3, 4), (5, 4, 2)), ((9,), (9, 4)), ((3, 9), (9,)), ((6,), (6,)),
    ((2, 600), (600, 3)),
]  # fmt: skip


def numbers(rng, precision, shape):
    a = rng.standard_normal(shape).astype(np.float32)
    return a.astype(backend.bfloat16()) if precision == "bf16" else a


def assert_close(actual, expected, precision):
    assert actual.shape == expected.shape
    assert np.linalg.norm(actual.astype(np.float64) - expected) <= ERROR[precision] * np.linalg.norm(expected)


@pytest.mark.parametrize("precision", ERROR)
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_products(shapes, turned, precision, order, rng):
    """Of matrices as they lie and of transposed views, which are read in place."""
    def lying(name, shape):
        if name in turned and len(shape) > 1:
            return numbers(rng, precision, (*shape[:-2], shape[-1], shape[-2])).swapaxes(-1, -2)
        return numbers(rng, precision, shape)

    a, b = lying("a", shapes[0]), lying("b", shapes[1])
    with backend.precision(precision):
        y = matmul(a, b)
    assert y.dtype == a.dtype
    exact = a.astype(np.float64) @ b.astype(np.float64)
    if not exact.shape:                                  # one sum may come out near 0: its terms give the scale
        assert abs(float(y) - exact) <= ERROR[precision] * (np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64)))
    else:
        assert_close(y, exact, precision)


def test_bfloat16_beside_float32_gives_float32(rng):
    a, b = numbers(rng, "bf16", (4, 8)), numbers(rng, "fp32", (8, 4))
    y = matmul(a, b)
    assert y.dtype == np.float32
    assert_close(y, a.astype(np.float64) @ b.astype(np.float64), "fp32")


@pytest.mark.parametrize("shapes", [((0, 3), (3, 4)), ((2, 0), (0, 4)), ((0, 2, 3), (3, 4))], ids=str)
def test_nothing_to_add_up_gives_zeros(shapes):
    a, b = (np.ones(shape, np.float32) for shape in shapes)
    assert np.array_equal(matmul(a, b), a @ b)


def test_every_second_row_and_column_of_a_matrix(rng):
    """Strides that no tile can follow: a copy is made."""
    a, b = numbers(rng, "fp32", (12, 20))[::2, ::2], numbers(rng, "fp32", (20, 8))[::-2, ::2]
    assert_close(matmul(a, b), a.astype(np.float64) @ b.astype(np.float64), "fp32")
