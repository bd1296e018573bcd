"""The list of runs tells the truth of those that could not write it themselves."""
import json
from pathlib import Path

import pytest

from minidiff.train import Config, Trainer
from minidiff.train.lock import only_run
from minidiff.train.runs import runs_in, table


@pytest.fixture
def runs(small: Config, tmp_path: Path) -> Path:
    for k, name in enumerate(("b/second", "a")):
        Trainer(small.replace(steps=2 + k), tmp_path / "runs" / name, progress=False).run()
        path = tmp_path / "runs" / name / "record.json"
        record = json.loads(path.read_text())
        record["launches"][-1]["started"] = f"2026-01-0{2 - k}T00:00:00Z"
        path.write_text(json.dumps(record))
    return tmp_path / "runs"


def _say_running(folder: Path) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "running", "steps": 0, "final_loss": None}))


def test_runs_come_in_the_order_of_their_beginning_also_those_in_folders_below(runs: Path) -> None:
    assert [(run["run"], run["steps"], run["total"], run["status"]) for run in runs_in(runs)] == [("a", 3, 3, "finished"), ("b/second", 2, 2, "finished")]


def test_a_run_that_nobody_works_at_was_killed_and_its_metrics_say_how_far_it_came(runs: Path) -> None:
    _say_running(runs / "a")
    run = runs_in(runs)[0]
    rows = [json.loads(line) for line in (runs / "a/metrics.jsonl").read_text().splitlines()]
    assert (run["status"], run["steps"], run["loss"]) == ("killed", 3, pytest.approx(sum(row["loss"] for row in rows) / 3))
    with only_run(runs / "a"):
        assert runs_in(runs)[0]["status"] == "running"


def test_what_is_no_run_is_left_out_and_a_damaged_one_is_said(runs: Path) -> None:
    for name, text in (("damaged", "{"), ("other", '{"status": "fine"}')):
        (runs / name).mkdir()
        (runs / name / "record.json").write_text(text)
        (runs / name / "metrics.jsonl").touch()
    assert len(runs_in(runs)) == 3 and runs_in(runs)[0]["status"] == "damaged"
    (runs / "a" / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    assert [run["run"] for run in runs_in(runs) if run["status"] == "damaged"] == ["a", "damaged"]
    assert "damaged" in table(runs_in(runs))


def test_a_run_that_has_not_begun_has_no_losses(runs: Path) -> None:
    _say_running(runs / "a")
    (runs / "a/metrics.jsonl").write_text("")
    line = table(runs_in(runs)).splitlines()[1]
    assert line.split()[:8] == ["a", "small", "glyphs", "0/3", "-", "-", "0:00", "killed"]


def test_columns_stand_under_each_other(runs: Path) -> None:
    lines = table(runs_in(runs)).splitlines()
    assert len({line.index(word) for line, word in zip(lines, ("status", "finished", "finished"), strict=True)}) == 1
