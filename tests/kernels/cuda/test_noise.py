"""Random numbers of the GPU, run by the emulator, and their twins."""

import numpy as np
import pytest

from minidiff import backend, philox
from minidiff.kernels.cuda import noise

LIKE = np.empty(0, np.float32)
SEED = 2**40 + 12345


@pytest.mark.parametrize("size", [1, 4, 7, 30])
def test_the_numbers_of_both_devices_are_the_same(size, order):
    used = SEED, 5, 6, size, 11, 3, LIKE
    rows = range(5, 11)
    assert np.array_equal(noise.philox_uniform(*used), philox.uniform(SEED, rows, size, 11, 3))
    # the twin rounds θ < 2π to float32, 2.4e-7 off at most, and r is below 6
    assert np.abs(noise.philox_normal(*used) - philox.normal(SEED, rows, size, 11, 3)).max() < 4e-6
    assert np.array_equal(noise.philox_integers(*used[:3], 1, *used[4:], 1, 101), philox.integers(SEED, rows, 1, 101, 11, 3))


def test_the_step_may_lie_in_memory():
    step = np.array([11], np.int32)
    assert np.array_equal(noise.philox_uniform(SEED, 0, 3, 5, step, 0, LIKE), philox.uniform(SEED, range(3), 5, 11))


def test_rng_draws_by_the_kernels_where_they_are_used():
    def draws():
        rng = philox.Rng(3, step=2)
        return rng.integers(1, 101, 5), rng.standard_normal((5, 1, 4, 4)), rng.random(5)

    expected, before = draws(), backend.get_kernels()
    backend.set_kernels("emulated")
    try:
        found = draws()
    finally:
        backend.set_kernels(before)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and np.abs(a - b).max() < 2e-6
