"""The table of cases: each operation is in it, and each case is smooth where it is."""

import numpy as np
import pytest

from minidiff.checks import CASES, Case
from minidiff.checks.case import apart, between, exact, normal, positive
from minidiff.gradcheck import compare
from minidiff.ops import abs as magnitude
from minidiff.ops import relu

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# The step in units of the case's own (1e-5), and how far off the slope may be. Rounding grows with 1/h to
# the left, curvature with h² to the right. A kink, tie or pole nearer than the longest step, 0.01, would
# show there as an error of the order of the gradient itself. (The step itself in order 2: tests/ops.)
STEPS = {(1, 1 / 16): 1e-6, (1, 1): 1e-7, (1, 16): 5e-6, (1, 1000): 0.02, (2, 1000): 0.05}


@EACH
def test_slopes_over_short_and_long_steps_agree(case):
    for (order, factor), limit in STEPS.items():
        worst = max(compare(case.ours, case.inputs(), order, h=case.h * factor), key=lambda c: c.error)
        assert worst.error < limit, f"order {order}, {factor:g} times the step: {worst}"


@pytest.mark.parametrize(("fn", "x"), [(relu, [1.0, 0.005]), (magnitude, [-0.009, 2.0])])
def test_a_kink_within_the_longest_step_would_be_seen(fn, x):
    assert max(c.error for c in compare(fn, [np.array(x)], h=1e-2)) > 0.02 > 1e-7 > max(c.error for c in compare(fn, [np.array(x)]))


@EACH
def test_inputs_are_the_same_at_every_call_and_finite(case):
    for a, b in zip(case.inputs(), case.inputs(), strict=True):
        assert a is not b
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


def test_names_are_unique_and_begin_with_the_operation():
    assert len({case.name for case in CASES}) == len(CASES)
    assert Case("conv2d, stride 2", None, (), None).operation == "conv2d"


# ------------------------------------------------------------------------------------ the draws


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 0, 3)])
def test_draws_keep_their_distance(rng, shape):
    for draw in (normal, positive, apart, between, exact):
        assert draw(*shape)(rng).shape == shape if shape else np.ndim(draw()(rng)) == 0
    far, middle = np.ravel(apart(*shape)(rng)), np.ravel(between(*shape)(rng))
    gaps = np.abs(far[:, None] - far[None, :]) + np.eye(far.size)
    assert np.min(gaps, initial=1.0) >= 0.249 and np.min(np.abs(far), initial=1.0) >= 0.099
    assert np.min(np.abs(far[:, None] - middle[None, :]), initial=1.0) >= 0.099
    assert np.min(positive(*shape)(rng), initial=1.0) >= 0.5


def test_exact_numbers_survive_float32_also_when_moved(rng):
    x = exact(50)(rng)
    for moved in (x, x + 2**-10, x - 2**-10, x + 2**-6):
        np.testing.assert_array_equal(moved.astype(np.float32).astype(np.float64), moved)
