"""Learning-rate schedules against their closed forms, and resumed runs against whole ones."""

import math

import numpy as np
import pytest

from minidiff import optim
from minidiff.errors import BadInput
from minidiff.tensor import Tensor


def optimizer(lr=0.8):
    return optim.SGD([Tensor(np.zeros(1), requires_grad=True)], lr=lr)


def rates(schedule, steps):
    """The learning rate of steps 0, 1, …"""
    found = [schedule.optimizer.lr]
    for _ in range(steps):
        schedule.step()
        found.append(schedule.optimizer.lr)
    return found


def test_constant_is_constant():
    assert rates(optim.ConstantLR(optimizer()), 5) == [0.8] * 6


def test_constant_warms_up_in_a_straight_line():
    np.testing.assert_allclose(rates(optim.ConstantLR(optimizer(), 3), 5), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


@pytest.mark.parametrize(("total", "warmup", "floor"), [(10, 0, 0.0), (20, 5, 0.1), (7, 6, 0.0), (1, 0, 0.2)])
def test_cosine_follows_its_formula(total, warmup, floor):
    found = rates(optim.CosineLR(optimizer(), total, warmup, floor), total + 3)
    for k, lr in enumerate(found):
        if k < warmup:
            expected = 0.8 * (k + 1) / (warmup + 1)
        else:
            angle = math.pi * min(k - warmup, total - warmup) / (total - warmup)
            expected = floor + (0.8 - floor) * math.cos(angle / 2) ** 2  # ½(1 + cos x) = cos²(x/2)
        assert lr == pytest.approx(expected, abs=1e-12)
    assert found[warmup] == pytest.approx(0.8) and max(found) <= 0.8 and min(found) > -1e-15
    assert found[total:] == pytest.approx([floor] * 4, abs=1e-15)


def test_cosine_rises_strictly_then_falls_strictly():
    changes = np.diff(rates(optim.CosineLR(optimizer(), 30, 10), 30))
    assert (changes[:10] > 0).all() and (changes[10:] < 0).all()


def test_cosine_without_warmup_is_pytorchs():
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 25, eta_min=0.05)
    expected = []
    for _ in range(26):
        expected.append(theirs.param_groups[0]["lr"])
        theirs.step()
        schedule.step()
    np.testing.assert_allclose(rates(optim.CosineLR(optimizer(), 25, floor=0.05), 25), expected, rtol=1e-12)


METRICS = [
    5,
    4,
    4.5,
    4.4,
    4.3,
    4.2,
    3.99999,
    4,
    4,
    4,
    3,
    math.nan,
    3,
    3,
    3,
    2.5,
    2.6,
    2.6,
    2.6,
    2.6,
    2.6,
    2.6,
]


@pytest.mark.parametrize(
    "options", [{}, {"threshold": 0.1}, {"cooldown": 2}, {"floor": 0.3}, {"patience": 0}]
)
def test_plateau_is_pytorchs(options):
    torch = pytest.importorskip("torch")
    options = {"factor": 0.5, "patience": 2} | options
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    renamed = {"min_lr" if name == "floor" else name: value for name, value in options.items()}
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **renamed)
    ours = optim.ReduceLROnPlateau(optimizer(), **options)
    for metric in METRICS:
        ours.step(metric)
        reference.step(metric)
        assert ours.optimizer.lr == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
    assert ours.optimizer.lr < 0.8


def test_plateau_waits_for_more_than_patience_bad_steps():
    schedule, found = optim.ReduceLROnPlateau(optimizer(), factor=0.5, patience=2), []
    for metric in [1, 1, 1, 1, 1, 1, 1, 0.5]:
        schedule.step(metric)
        found.append(schedule.optimizer.lr)
    assert found == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2]


def test_plateau_never_raises_the_rate_to_its_floor():
    schedule = optim.ReduceLROnPlateau(optimizer(1e-3), patience=0, floor=0.1)
    schedule.step(1)
    schedule.step(1)
    assert schedule.optimizer.lr == 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda o: optim.ConstantLR(o, 6),
        lambda o: optim.CosineLR(o, 20, 6, 0.01),
        lambda o: optim.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1),
    ],
    ids=["constant", "cosine", "plateau"],
)
@pytest.mark.parametrize("cut", [0, 3, 11])
def test_a_resumed_schedule_goes_on_exactly(make, cut, tmp_path):
    """As a checkpoint does it: the optimizer with its configured rate, the schedule, then both states."""
    whole, found = make(optimizer()), []
    for k, metric in enumerate(METRICS):
        if k == cut:
            np.savez(tmp_path / "s.npz", **whole.state_dict())
        whole.step(metric)
        found.append(whole.optimizer.lr)
    resumed = make(optimizer())
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        resumed.load_state_dict(dict(file))
    rest = []
    for metric in METRICS[cut:]:
        resumed.step(metric)
        rest.append(resumed.optimizer.lr)
    assert rest == found[cut:] and resumed.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: optim.CosineLR(o, 0), "CosineLR: total_steps must be a whole number of at least 1, got 0"),
        (
            lambda o: optim.CosineLR(o, 9.5),
            "CosineLR: total_steps must be a whole number of at least 1, got 9.5",
        ),
        (lambda o: optim.CosineLR(o, 9, 9), "CosineLR: warmup_steps must be below total_steps, got 9 of 9"),
        (
            lambda o: optim.CosineLR(o, 9, floor=1.0),
            "CosineLR: floor must be at most the optimizer's lr 0.8, got 1.0",
        ),
        (
            lambda o: optim.ConstantLR(o, -1),
            "ConstantLR: warmup_steps must be a whole number of at least 0, got -1",
        ),
        (
            lambda o: optim.ReduceLROnPlateau(o, factor=1.0),
            "ReduceLROnPlateau: factor must be at least 0 and below 1, got 1.0",
        ),
        (
            lambda o: optim.CosineLR(o, 9).load_state_dict({"k": 1}),
            "CosineLR: the state has ['k'], needs ['k', 'peak']",
        ),
    ],
)
def test_bad_arguments_get_one_clear_line(make, message):
    o = optimizer()
    with pytest.raises(BadInput) as error:
        make(o)
    assert str(error.value) == message
