"""The emulator itself: it runs what is right, and notices each kind of mistake."""

import weakref
from pathlib import Path

import numpy as np
import pytest

from minidiff.kernels.cuda import runtime
from minidiff.kernels.cuda.runtime import Kernel

SOURCE = str(Path(__file__).parent / "emulator_test.cu")
N = 64


def run(name, backwards=False):
    x, y = np.arange(N, dtype=np.float32), np.full(N, np.nan, np.float32)
    before, runtime.backwards = runtime.backwards, backwards
    try:
        Kernel(SOURCE, name)(1, N, x, y, shared=4 * N)
    finally:
        runtime.backwards = before
    return y


def test_threads_exchange_numbers_through_shared_memory(order):
    assert (run("fine") == np.arange(N)[::-1]).all()


def test_a_block_adds_up_its_numbers(order):
    assert (run("sums") == N * (N - 1) / 2).all()


def test_a_missing_barrier_is_a_wrong_result():
    assert np.isnan(run("no_barrier")).any() and np.isnan(run("no_barrier", backwards=True)).any()


def test_a_copy_that_nobody_waited_for_has_not_arrived():
    assert np.isnan(run("no_wait")).all()


@pytest.mark.parametrize(
    "name, message",
    [
        ("some_leave", "some threads of the block ended while others wait at __syncthreads"),
        ("lanes_part", "lanes of one warp meet at different instructions"),
        ("writes_beyond", "wrote outside of its arrays"),
        ("not_aligned", "a background copy is not aligned"),
        ("vector_not_aligned", "16 bytes are read or written at an address that is not a multiple of 16"),
    ],
)
def test_a_mistake_stops_the_run(name, message):
    with pytest.raises(RuntimeError, match=message):
        run(name)


def test_noted_launches_do_not_run_and_kept_ones_can_be_repeated():
    x, y = np.ones(N, np.float32), np.zeros(N, np.float32)
    fine = Kernel(SOURCE, "fine")
    with runtime.noted() as launches:
        fine(1, N, x, y, shared=4 * N)
    assert len(launches) == 1 and not y.any()
    with runtime.kept() as launches:
        fine(1, N, x, y, shared=4 * N)
    x[:] = np.arange(N)
    launches[0]()
    assert (y == np.arange(N)[::-1]).all()


def test_what_is_noted_of_a_launch_keeps_none_of_its_arrays():
    """A whole network is noted to learn which kernels it needs: 15 GB, where all its arrays stayed in memory."""
    y = np.zeros(N, np.float32)
    alive = weakref.ref(y)
    with runtime.noted(lambda launch: launch.kernel.name) as names:
        Kernel(SOURCE, "fine")(1, N, np.ones(N, np.float32), y, shared=4 * N)
        del y
    assert names == ["fine"] and alive() is None


def test_a_view_is_worked_on_in_place():
    memory = np.zeros(3 * N, np.float32)
    Kernel(SOURCE, "fine")(1, N, np.arange(N, dtype=np.float32), memory[N : 2 * N], shared=4 * N)
    assert (memory[N : 2 * N] == np.arange(N)[::-1]).all() and not memory[:N].any() and not memory[2 * N :].any()
