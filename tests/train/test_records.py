"""What a run leaves behind can be read again, also after a crash, and is true."""
import json
from pathlib import Path

import pytest

from minidiff.errors import BadInput
from minidiff.train import records
from minidiff.train.records import Metrics, epoch_losses, read_metrics, validation_losses

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _write(path: Path, rows: list[dict]) -> None:
    metrics = Metrics(path)
    for row in rows:
        metrics.write(row)
    metrics.close()


def test_metrics_come_back(tmp_path: Path) -> None:
    rows = [{"step": k, "loss": 1 / k} for k in (1, 2, 3)]
    _write(tmp_path / "metrics.jsonl", rows)
    assert read_metrics(tmp_path) == read_metrics(tmp_path / "metrics.jsonl") == rows


def test_going_on_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    _write(path, [{"step": k} for k in range(1, 10)])
    metrics = Metrics(path, step=4)
    metrics.write({"step": 5, "again": True})
    metrics.close()
    assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3}, {"step": 4}, {"step": 5, "again": True}]


def test_a_line_cut_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("bad", ["{", "[1]", '{"loss": 1}', "hello"])
def test_any_other_broken_line_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{bad}\n{{"step": 3}}\n')
    with pytest.raises(BadInput, match=r"metrics.jsonl: line 2 is no metrics line \(a JSON object with a step\)$"):
        read_metrics(path)


def test_missing_metrics_are_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file; give a run's folder or its metrics.jsonl"):
        read_metrics(tmp_path)


def test_epoch_losses_are_means_over_whole_epochs() -> None:
    rows = [{"epoch": k / 3, "loss": loss} for k, loss in enumerate([3.0, 2.0, 1.0, 0.5, 0.5, 0.2, 9.0], 1)]
    assert epoch_losses(rows) == [2.0, 0.4, 9.0]


def test_validation_losses_are_those_measured() -> None:
    assert validation_losses([{"step": 1}, {"step": 2, "validation": 0.5}]) == [[2, 0.5]]


def test_versions_name_python_and_numpy() -> None:
    import numpy

    assert records.versions()["numpy"] == numpy.__version__
    assert records.versions()["python"].startswith("3.")


def test_json_is_written_whole(tmp_path: Path) -> None:
    records.write_json(tmp_path / "r.json", {"name": "ᾱ"})
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == {"name": "ᾱ"}
    assert records.read_json(tmp_path / "r.json") == {"name": "ᾱ"}
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(BadInput, match="holds no JSON object"):
        records.read_json(tmp_path / "r.json")


@pytest.mark.parametrize(("argv", "line", "typed"), [
    (["/usr/bin/minidiff", "train", "--out", "my runs/a"], "minidiff train --out 'my runs/a'", "minidiff plot 'a b' 3"),
    (["/lib/minidiff/__main__.py", "demo"], "python -m minidiff demo", "python -m minidiff plot 'a b' 3"),
    ([str(EXAMPLES / "train_mnist.py"), "5"], "python examples/train_mnist.py 5", "minidiff plot 'a b' 3"),
    (["/elsewhere/train.py", "5"], "python train.py 5", "minidiff plot 'a b' 3"),
])
def test_commands_can_be_typed_again(monkeypatch: pytest.MonkeyPatch, argv: list[str], line: str, typed: str) -> None:
    monkeypatch.setattr("sys.argv", argv)
    assert records.command_line() == line
    assert records.typed("plot", Path("a b"), 3) == typed


def test_the_loss_curve_in_few_numbers_keeps_the_mean_and_the_end():
    rows = [{"step": k + 1, "loss": float(k)} for k in range(10)]
    assert records.loss_curve(rows, points=5) == [[2, 0.5], [4, 2.5], [6, 4.5], [8, 6.5], [10, 8.5]]
    assert records.loss_curve(rows[:2], points=5) == [[1, 0.0], [2, 1.0]]
    assert records.loss_curve([]) == []
