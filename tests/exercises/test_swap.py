"""A learner's function trains and draws in the library's place."""

import math

import numpy as np
import pytest

from minidiff import cli, optim
from minidiff.diffusion import samplers, solvers
from minidiff.errors import BadInput
from minidiff.exercises import swap
from minidiff.exercises.swap import SAMPLERS, SWAPS, compare, swapped
from minidiff.exercises.tasks import TASKS
from minidiff.exercises.workspace import Workspace
from minidiff.ops.activation import GELU
from minidiff.ops.conv import Conv2d
from minidiff.ops.norm import GroupNorm

PLACES = [(Conv2d, "backward"), (GroupNorm, "forward"), (GELU, "backward"), (solvers, "ddim_step"), (samplers, "guided_output"), (optim.Adam, "_adapt")]
PASSES = 6 + 16  # of the network: six steps of training; eight of drawing, each asked twice


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(swap, "PICTURES", 32)
    monkeypatch.setattr(swap, "BATCH", 4)


def ours(name):
    return TASKS[name]._function(TASKS[name].solution_file(), name)


@pytest.mark.parametrize("name", SWAPS)
def test_our_solution_does_what_the_library_does(name):
    before = [vars(owner)[attribute] for owner, attribute in PLACES]
    outcome = compare(name, ours(name), steps=0 if name in SAMPLERS else 6)
    assert outcome.calls > 0 and outcome.apart < 1e-4 and outcome.equal
    assert [vars(owner)[attribute] for owner, attribute in PLACES] == before


@pytest.mark.parametrize(("name", "mistake"), [("conv2d_backward", 0), ("ddim_step", 1), ("group_norm_backward", 0), ("guided", 0), ("adam_step", 0)])
def test_a_mistake_shows_in_the_losses_or_in_the_pictures(name, mistake):
    wrong = TASKS[name].wrong(TASKS[name].mistakes[mistake])
    outcome = compare(name, wrong, steps=2 if name in SAMPLERS else 6)
    assert outcome.calls and not outcome.equal
    assert outcome.apart == 0 if name in SAMPLERS else outcome.apart > 1e-3


def test_a_loss_that_is_no_number_is_not_equal():
    outcome = compare("gelu_backward", lambda x, gy: np.full_like(x, np.nan), steps=3)
    assert not outcome.equal and math.isnan(outcome.apart)


def test_the_library_is_put_back_after_an_error():
    before = Conv2d.backward
    with pytest.raises(RuntimeError), swapped("conv2d_backward", ours("conv2d_backward")):
        assert Conv2d.backward is not before
        raise RuntimeError
    assert Conv2d.backward is before


def test_what_has_no_place_in_the_network_cannot_be_swapped():
    with pytest.raises(BadInput, match="exercises: strides has no place in the network or the sampler; these have: conv2d, "), swapped("strides", len):
        pass


def test_swap_on_the_command_line_wants_a_pass_or_anyway(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    workspace, _ = Workspace.create(tmp_path / "minidiff-exercises")
    path, task = workspace.path(TASKS["conv2d_backward"]), TASKS["conv2d_backward"]

    def say(*argv):
        status = cli.main(["exercises", "swap", "conv2d_backward", "--train", "6", *argv])
        return status, capsys.readouterr().out

    assert say()[0] == 1
    path.write_text(task.wrong_file(task.mistakes[0]), encoding="utf-8")
    status, out = say()
    assert status == 1 and "patches overlap" in out and "--anyway shows what the mistake does to the training" in out
    status, out = say("--anyway")
    assert status == 1 and out.endswith("not equal\n") and "called 54 times" in out
    path.write_text(task.solution_file(), encoding="utf-8")
    status, out = say()
    assert status == 0 and "      step     library       yours  difference\n" in out and out.endswith("equal, to rounding: the network is yours\n")
