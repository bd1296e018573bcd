"""The benchmark compares like with like, and its table says what the record holds."""

import json

import numpy as np
import pytest

from minidiff import cli
from minidiff.bench import cpu


@pytest.fixture(scope="module")
def record():
    return cpu.run(["minidiff"], batch=2, rounds=2)


def test_a_record_holds_what_is_needed_to_repeat_it(record):
    assert record["batch"] == 2 and record["machine"]["threads"] >= 1 and "numpy" in record["versions"]
    for work in cpu.WORK:
        assert len(record["seconds"]["minidiff"][work]) == 2
        assert record["median_seconds"]["minidiff"][work] == pytest.approx(np.median(record["seconds"]["minidiff"][work]))
    assert json.loads(json.dumps(record)) == record


def test_memory_counts_the_activations(record):
    small, large = record["peak_memory_mb"]["minidiff"], cpu.peak_memory("minidiff", 32, threads=1)
    assert large["working"] > small["working"]
    assert large["whole"] > large["working"] > 32 * 0.5  # a sample's activations alone take over a megabyte


def test_the_table_prints_every_figure(record):
    text = cpu.render(record)
    for work in cpu.WORK:
        assert f"{1000 * record['median_seconds']['minidiff'][work]:.0f} ms" in text
    assert "batch 2" in text and "ratio" not in text


def test_both_libraries_do_the_same_work(torch):
    ours, theirs = cpu.minidiff_jobs(4), cpu.torch_jobs(4)
    for work in cpu.WORK:
        assert ours[work]() == pytest.approx(theirs[work](), rel=1e-5)


def test_against_torch_gives_ratios(torch, tmp_path, capsys):
    assert cli.main(["bench", "--against", "torch", "--batch", "2", "--rounds", "1", "--json", str(tmp_path / "b.json")]) == 0
    record = json.loads((tmp_path / "b.json").read_text())
    a, b = (record["seconds"][name]["training step"][0] for name in ("minidiff", "torch"))
    assert record["ratio"]["training step"] == pytest.approx(a / b)
    assert f"{a / b:.2f}x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "bench: batch must be a whole number of at least 1, got 0"),
        (["--rounds", "-1"], "bench: rounds must be a whole number of at least 1, got -1"),
        (["--json", "/nowhere/b.json"], "bench: cannot write /nowhere/b.json: its folder is missing or not writable"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    assert cli.main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err
