"""Schedules: closed forms, the numbers to remember, and what every schedule promises."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.diffusion import SCHEDULES, make_schedule
from minidiff.errors import BadInput


@pytest.mark.parametrize(("T", "left"), [(100, 0.364), (150, 0.219), (200, 0.132), (1000, 4.0e-5)])
def test_a_short_linear_schedule_leaves_much_of_the_picture(T, left):
    assert make_schedule("linear", T).alpha_bar[-1] == pytest.approx(left, rel=0.02)


def test_the_reports_hundred_steps_leave_60_percent_of_the_signal():
    assert np.sqrt(make_schedule().alpha_bar[100]) == pytest.approx(0.603, abs=5e-4)


@pytest.mark.parametrize("T", [50, 100, 400])
@pytest.mark.parametrize("name", ["rescaled-linear", "cosine"])
def test_the_others_drown_the_picture_in_any_number_of_steps(name, T):
    assert np.sqrt(make_schedule(name, T).alpha_bar[-1]) < 0.01


def test_linear_is_a_straight_line_from_start_to_end():
    schedule = make_schedule("linear", 5, beta_start=0.1, beta_end=0.5)
    np.testing.assert_allclose(schedule.beta, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(schedule.alpha_bar, [1.0, 0.9, 0.72, 0.504, 0.3024, 0.1512])
    np.testing.assert_allclose(schedule.snr[1:], schedule.alpha_bar[1:] / (1 - schedule.alpha_bar[1:]))
    assert schedule.snr[0] == np.inf


def test_rescaled_linear_at_a_thousand_steps_is_linear():
    np.testing.assert_allclose(make_schedule("rescaled-linear", 1000).beta, make_schedule("linear", 1000).beta)
    hundred = make_schedule("rescaled-linear", 100).beta
    np.testing.assert_allclose(hundred[1:], np.linspace(1e-3, 0.2, 100))


def test_cosine_has_its_closed_form():
    schedule = make_schedule("cosine", 100)
    t = np.arange(100)  # at t = T the cosine is 0, and the bound on β takes over
    f = np.cos((t / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.alpha_bar[:-1], f / f[0], rtol=1e-12)
    assert schedule.beta[-1] == 0.999


@pytest.mark.parametrize("name", SCHEDULES[:4])
def test_a_schedule_can_be_brought_to_zero(name):
    """Lin et al. 2023: nothing left at T, as much as before at t = 1, the others in between in proportion."""
    before, after = make_schedule(name, 50), make_schedule(name, 50, zero_terminal_snr=True)
    assert after.signal[-1] == 0 and after.noise[-1] == 1 and after.log_snr[-1] == -np.inf
    assert after.signal[1] == pytest.approx(before.signal[1]) and after.is_variance_preserving
    ratio = np.diff(after.signal[1:]) / np.diff(before.signal[1:])
    np.testing.assert_allclose(ratio, ratio[0])
    assert make_schedule(**after.config).config == after.config


def test_the_flow_is_a_straight_line_and_edm_is_even_in_a_root_of_sigma():
    flow, edm = make_schedule("flow", 4), make_schedule("edm", 5)
    np.testing.assert_allclose(flow.signal, [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(flow.noise, [0, 0.25, 0.5, 0.75, 1])
    assert edm.noise[1] == pytest.approx(0.002) and edm.noise[-1] == pytest.approx(80) and (edm.signal == 1).all()
    np.testing.assert_allclose(np.diff(edm.noise[1:] ** (1 / 7)), (80 ** (1 / 7) - 0.002 ** (1 / 7)) / 4)


def test_sigmoid_has_its_closed_form_and_tau_moves_it():
    schedule, u = make_schedule("sigmoid", 100), np.linspace(-3, 3, 101)
    falling = 1 / (1 + np.exp(u))
    np.testing.assert_allclose(schedule.alpha_bar[:-1], ((falling - falling[-1]) / (falling[0] - falling[-1]))[:-1], rtol=1e-9)
    assert make_schedule("sigmoid", 100, tau=0.3).alpha_bar[20] > schedule.alpha_bar[20]


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_single_step_is_the_noisiest_one(name, zero):
    """One step begins where many begin: at the schedule's largest noise, and not at its smallest."""
    options = {"zero_terminal_snr": True} if zero and name in SCHEDULES[:4] else {}
    one, two, many = (make_schedule(name, T, **options) for T in (1, 2, 50))
    if name == "linear" and not zero:                                # its β do not depend on T
        assert [one.beta[1], two.beta[2], many.beta[50]] == pytest.approx([0.02] * 3) and two.beta[1] == pytest.approx(many.beta[1])
    else:
        assert one.log_snr[1] <= make_schedule("edm").log_snr[-1] + 2 and two.log_snr[2] <= one.log_snr[1]
    if name == "edm":
        assert one.noise[1] == many.noise[50] == pytest.approx(80) and two.noise[1] == many.noise[1] == pytest.approx(0.002)


def test_the_report_warns_of_a_picture_that_is_left():
    short = make_schedule("linear", 100).report()
    assert "signal at T: 60.3% of x_T" in short and "warning: x_T still has 60% of the picture" in short
    for fine in (make_schedule("linear", 1000), make_schedule("cosine", 100), make_schedule("flow"), make_schedule("edm"),
                 make_schedule("linear", 100, zero_terminal_snr=True)):  # fmt: skip
        assert "warning" not in fine.report()


@given(st.sampled_from(SCHEDULES), st.integers(1, 300))
def test_what_every_schedule_promises(name, T):
    schedule = make_schedule(name, T)
    assert schedule.name == name and schedule.T == T
    assert schedule.beta.shape == schedule.alpha_bar.shape == (T + 1,) and schedule.beta.dtype == np.float64
    assert schedule.beta[0] == 0 and schedule.alpha_bar[0] == 1
    left = schedule.signal > 0                               # a flow ends with nothing of the picture
    assert left[:-1].all() and left[-1] == (name != "flow")
    assert (schedule.beta[1:] > 0).all() and (schedule.beta[left] < 1).all()
    assert (np.diff(schedule.alpha_bar) < 0).all() and (np.diff(schedule.log_snr) < 0).all()
    np.testing.assert_allclose(schedule.alpha, 1 - schedule.beta)
    again = make_schedule(**schedule.config)
    np.testing.assert_array_equal(again.beta, schedule.beta)
    assert again.config == schedule.config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quadratic",), "schedule 'quadratic' is unknown; it is one of: linear, rescaled-linear, cosine, sigmoid, flow, edm"),
        (("linear", 0), "schedule: T must be a whole number of steps, 1 or more; got 0"),
        (("cosine", 1.5), "schedule: T must be a whole number of steps, 1 or more; got 1.5"),
        (("linear", 10, 0.0), "schedule linear: every beta must lie between 0 and 1; these run 0 … 0.02"),
        (("linear", 10, 0.1, 1.0), "schedule linear: every beta must lie between 0 and 1; these run 0.1 … 1"),
        (("linear", 10, 1e-17), "schedule linear: ln SNR must fall with every step; from t = 0 to 1 of 10 it stays inf in float64."
                                " Take fewer steps, or numbers that are less extreme"),
        (("linear", 100_000), "schedule linear: ln SNR must fall with every step; from t = 85546 to 85547 of 100000 it stays -741.073 in"
                              " float64. Take fewer steps, or numbers that are less extreme"),
        (("linear", 10, 0.1, float("nan")), "schedule linear: every beta must lie between 0 and 1; these run nan … nan"),
    ],
)
def test_bad_input_is_answered_in_one_line(arguments, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        make_schedule(*arguments)


def test_a_whole_number_of_steps_may_be_a_float():
    """As a number that came through JSON or a division is; it is a whole number, as the message asks."""
    for name in SCHEDULES:
        assert make_schedule(name, 10.0).T == 10
