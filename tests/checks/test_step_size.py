"""The U-curve: the error of a difference falls with h² and rises with 1/h, and gradcheck's step lies between."""

import functools
import inspect

import numpy as np
import pytest

from minidiff import viz
from minidiff.checks.step_size import CHOSEN, FUNCTIONS, STEPS, step_size_curves
from minidiff.errors import BadInput
from minidiff.gradcheck import gradcheck

curves = functools.cache(step_size_curves)
at = lambda h: int(np.argmin(np.abs(np.log(STEPS / h))))  # noqa: E731


@pytest.mark.parametrize("name", FUNCTIONS)
def test_large_steps_err_with_h_squared_and_small_ones_with_1_over_h(name):
    errors = curves()[name]["float64"]
    assert errors[at(1e-2)] / errors[at(1e-3)] == pytest.approx(100, rel=0.1)
    left = np.log10(errors[at(1e-12)]) - np.log10(errors[at(1e-8)])
    assert left == pytest.approx(4, abs=0.7)  # rounding is random: a little more or less than four decades


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_chosen_step_is_near_the_best_one(name):
    errors = curves()[name]["float64"]
    assert errors[at(CHOSEN)] < 5 * errors.min() < 1e-9


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_has_no_step_that_would_do(name):
    errors = curves()[name]["float32"]
    assert errors.min() > 1e-6 and errors[at(CHOSEN)] > 1e-4
    assert 1e-3 <= STEPS[errors.argmin()] <= 3e-2  # ∛ε
    assert errors[at(1e-12)] == pytest.approx(1.0)  # x + h is x: the slope is 0


def test_the_chosen_step_is_gradchecks():
    assert inspect.signature(gradcheck).parameters["h"].default == CHOSEN


def test_the_figure_shows_every_function_in_both_dtypes_and_marks_the_step():
    fig = viz.step_size_plot(STEPS, curves(), CHOSEN, "title")
    (ax,) = fig.axes
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(FUNCTIONS)
    assert len([line for line in ax.lines if len(line.get_xdata()) == len(STEPS)]) == 2 * len(FUNCTIONS)
    assert any(list(line.get_xdata()) == [CHOSEN, CHOSEN] for line in ax.lines)
    words = " ".join(text.get_text() for text in ax.texts)
    assert all(word in words for word in ("float64", "float32", "rounding", "gradcheck's step", "$10^{-5}$"))
    assert ax.get_title(loc="left") == "title"


def test_errors_of_zero_leave_a_gap_on_the_logarithmic_axis():
    fig = viz.step_size_plot(STEPS, {"f": {"float64": np.where(STEPS < 1e-6, 0.0, 1e-3)}}, CHOSEN)
    assert np.isnan(fig.axes[0].lines[0].get_ydata()[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "viz.step_size_plot: there are no curves to draw"),
        ({"f": {"float64": [1.0]}}, r"viz.step_size_plot: f, float64: x and y must be sequences of the same length, at least 1, "),
    ],
)
def test_what_cannot_be_drawn_is_answered_in_one_line(given, message):
    with pytest.raises(BadInput, match=f"^{message}"):
        viz.step_size_plot(STEPS, given, CHOSEN)
