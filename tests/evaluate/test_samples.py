"""Which labels samples are asked for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minidiff.evaluate import in_proportion


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(1, 300))
def test_classes_are_as_frequent_as_in_the_data_to_within_one(labels, n):
    asked = in_proportion(np.array(labels), n)
    share = n * np.bincount(labels) / len(labels)
    assert len(asked) == n
    assert (abs(np.bincount(asked, minlength=len(share)) - share) < 1).all()


def test_as_many_as_there_are_are_the_same_and_the_classes_are_evenly_mixed():
    labels = np.repeat(np.arange(3), (100, 50, 50))
    asked = in_proportion(labels, 200)
    assert np.bincount(asked).tolist() == [100, 50, 50]
    for start in range(0, 200, 20):
        assert (abs(np.bincount(asked[start : start + 20], minlength=3) - [10, 5, 5]) <= 1).all()


def test_equal_classes_come_in_turn():
    assert in_proportion(np.arange(30) % 3, 7)[:6].tolist() == [0, 1, 2] * 2
