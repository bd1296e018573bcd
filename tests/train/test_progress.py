"""Progress is a bar on a terminal and a few plain lines anywhere else."""
import io

import pytest

from minidiff.train.progress import Progress, Silent, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_at_the_start_at_the_end_and_seldom_between() -> None:
    stream = io.StringIO()
    progress = Progress("tiny", 100, stream=stream, every=3600)
    for step in range(1, 101):
        progress.update(step, 100, {"loss": "0.5"})
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("tiny  step   1/100  loss 0.5  ")
    assert lines[1] == "tiny  step 100/100  loss 0.5  0:00 left"
    assert "\r" not in stream.getvalue()


def test_a_terminal_gets_a_bar_with_the_loss_and_the_time_left() -> None:
    stream = Terminal()
    progress = Progress("tiny", 10, stream=stream)
    for step in range(1, 11):
        progress.update(step, 10, {"loss": "0.5", "images/s": "90"})
    progress.say("a line of its own")
    progress.close()
    shown = stream.getvalue()
    assert "100%" in shown
    assert "10/10" in shown
    assert "loss=0.5, images/s=90" in shown
    assert "a line of its own\n" in shown


def test_the_bar_follows_a_total_that_changes() -> None:
    stream = Terminal()
    progress = Progress("tiny", 1000, stream=stream)
    progress.update(5, 10, {})
    progress.close()
    assert "5/10" in stream.getvalue()


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Silent()
    progress.update(1, 2, {"loss": "1"})
    progress.say("nothing")
    progress.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"),
                                               (3661, "1:01:01")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
