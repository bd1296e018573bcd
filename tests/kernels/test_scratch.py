"""Working memory: a thread's own, used again, and never lying over itself."""

import threading

import numpy as np

from minidiff.kernels.scratch import ALIGNMENT, scratch


def test_arrays_have_their_shapes_and_do_not_overlap():
    arrays = scratch(np.float32, (3, 5), (), (7,), (2, 0, 4))
    assert [a.shape for a in arrays] == [(3, 5), (), (7,), (2, 0, 4)]
    for i, a in enumerate(arrays):
        a[...] = i
    for i, a in enumerate(arrays):
        assert (a == i).all()


def test_the_same_memory_is_given_again_and_grows():
    (small,) = scratch(np.float64, (10,))
    (again,) = scratch(np.float32, (20,))
    assert np.shares_memory(small, again)
    (large,) = scratch(np.float32, (1_000_000,))
    assert large.size == 1_000_000 and np.shares_memory(large, *scratch(np.float32, (5,)))


def test_arrays_begin_where_vectors_like_to():
    arrays = scratch(np.float32, (3,), (5,), (7,))
    starts = [a.ctypes.data - arrays[0].ctypes.data for a in arrays]
    assert all(start % ALIGNMENT == 0 for start in starts)


def test_every_thread_has_its_own():
    (mine,) = scratch(np.float32, (100,))
    theirs = []
    thread = threading.Thread(target=lambda: theirs.extend(scratch(np.float32, (100,))))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, theirs[0])
