"""A warp's product of two tiles: all three ways to multiply, all layouts in shared memory."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from minidiff.kernels.cuda.runtime import Kernel

SOURCE = str(Path(__file__).parent / "tile_test.cu")

# Inputs rounded to 10 bits are wrong by up to 2⁻¹¹ each, 3e-4 in the mean square of a sum of many products;
# bfloat16 inputs are taken as they are, so there only the sums round, in float32.
ERROR = {"FP32": 1e-6, "TF32": 6e-4, "BF16": 1e-6}


@pytest.mark.parametrize("math", ERROR)
@pytest.mark.parametrize("orders", [*itertools.product(("ALONG_K", "ACROSS_K"), repeat=2)], ids=lambda pair: "-".join(pair))
@pytest.mark.parametrize("size", [(32, 32, 32), (16, 64, 64), (64, 16, 16)], ids=str)
def test_a_warp_multiplies_two_tiles(math, orders, size, rng, order):
    from ml_dtypes import bfloat16

    (m, n, k), dtype = size, bfloat16 if math == "BF16" else np.float32
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    along = [o == "ALONG_K" for o in orders]
    y = np.full((m, n), np.nan, np.float32)
    kernel = Kernel(SOURCE, "tile", MATH=math, WM=m, WN=n, BK=k, A_ORDER=orders[0], B_ORDER=orders[1],
                    A_COLUMNS=k if along[0] else m, B_COLUMNS=k if along[1] else n)  # fmt: skip
    laid_out = np.ascontiguousarray(a if along[0] else a.T), np.ascontiguousarray(b.T if along[1] else b)
    kernel(1, 32, *laid_out, y, shared=(m + n) * k * a.itemsize)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    assert np.linalg.norm(y - expected) <= ERROR[math] * np.linalg.norm(expected)
