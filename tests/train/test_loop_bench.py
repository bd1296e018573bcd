"""`minidiff bench --loop` measures the loop that trains, and the record says that its bookkeeping is not seen."""
import json
from pathlib import Path

import pytest

from minidiff import backend, cli
from minidiff.bench import loop

RECORD = json.loads((Path(__file__).resolve().parents[2] / "chapters/results/loop.json").read_text())


@pytest.fixture(scope="module")
def record() -> dict:
    threads = backend.get_num_threads()
    yield loop.run("tiny", 8, rounds=1, threads=threads)


def test_the_parts_of_a_step_add_up(record: dict) -> None:
    found = record["loop"]
    parts = found["seconds_of_update"] + found["seconds_of_waiting_for_data"] + found["seconds_of_logging"]
    assert parts == pytest.approx(found["seconds_a_step"])
    assert found["share_of_data_and_logging"] == pytest.approx(1 - found["seconds_of_update"] / found["seconds_a_step"])
    assert min(found["seconds_of_logging"], found["seconds_of_waiting_for_data"], found["seconds_of_a_checkpoint"]) > 0
    assert json.loads(json.dumps(record)) == record


def test_every_way_is_measured_and_printed(record: dict) -> None:
    text = loop.render(record)
    assert set(record["ways"]) == set(loop.WAYS) and record["ways"]["plain"]["time_ratio"] == 1.0
    for way, found in record["ways"].items():
        assert f"{1000 * found['median_seconds']:.0f} ms" in text and way in text
        assert found["peak_memory_mb"]["whole"] > found["peak_memory_mb"]["working"] > 0


def test_the_command_writes_the_record(record: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "run", lambda name, batch, rounds, threads: {**record, "preset": name, "batch": batch, "rounds": rounds})
    assert cli.main(["bench", "--loop", "--batch", "16", "--rounds", "2", "--json", str(tmp_path / "l.json")]) == 0
    written = json.loads((tmp_path / "l.json").read_text())
    assert (written["preset"], written["batch"], written["rounds"]) == ("mnist", 16, 2)
    assert "data and logging" in capsys.readouterr().out


def test_data_and_logging_take_less_than_two_percent_of_a_step() -> None:
    assert RECORD["preset"] == "mnist" and RECORD["batch"] == 64 and RECORD["loop"]["data_set"] == "mnist"
    assert RECORD["loop"]["share_of_data_and_logging"] < 0.02
    assert RECORD["loop"]["share_of_checkpoints"] < 0.02


def test_memory_was_bought_with_time() -> None:
    ways = RECORD["ways"]
    memory = {way: found["peak_memory_mb"]["working"] for way, found in ways.items()}
    assert memory["recompute"] < 0.8 * memory["plain"] and memory["accumulate 4"] < 0.4 * memory["plain"]
    assert memory["both"] < memory["accumulate 4"] and ways["recompute"]["time_ratio"] > 1.0
