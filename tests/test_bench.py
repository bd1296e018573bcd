"""The benchmark compares like with like, and its table says what the record holds."""

import importlib.util
import json

import numpy as np
import pytest

from minidiff import backend, cli
from minidiff.bench import command, measure, peers, work


@pytest.fixture(autouse=True)
def same_kernels_afterwards():
    before = backend.get_kernels()
    yield
    backend.set_kernels(before)


@pytest.fixture(scope="module")
def record():
    return command.run(["numpy"], None, [2], rounds=2, threads=2, with_operations=False)


def test_a_record_holds_what_is_needed_to_repeat_it(record):
    assert record["rounds"] == 2 and record["machine"]["threads"] == 2 and "numpy" in record["versions"]
    for name in ("training step, batch 2", "forward pass, batch 2"):
        found = record["unet"][name]
        assert len(found["seconds"]["numpy"]) == 2
        assert found["median_seconds"]["numpy"] == pytest.approx(np.median(found["seconds"]["numpy"]))
    assert json.loads(json.dumps(record)) == record


def test_memory_counts_the_activations(record):
    small, large = record["peak_memory_mb"]["2"]["numpy"], measure.peak_memory("numpy", 32, threads=1)
    assert large["working"] > small["working"]
    assert large["whole"] > large["working"] > 32 * 0.5  # a sample's activations alone take over a megabyte


def test_the_table_prints_every_figure(record):
    text = command.render(record)
    for name, found in record["unet"].items():
        assert f"{1000 * found['median_seconds']['numpy']:.1f} ms" in text and name in text
    assert f"{record['import_seconds']:.2f} s" in text and "x)" not in text


def test_importing_minidiff_takes_less_than_half_a_second(record):
    assert record["import_seconds"] < 0.5


def test_libraries_take_turns_and_ratios_are_taken_within_a_round(monkeypatch):
    monkeypatch.setattr(measure, "PAUSE", 0)
    calls = []
    jobs = {name: lambda name=name: calls.append(name) or 1.0 for name in ("a", "b")}
    found = measure.in_turn("nothing", jobs, 3, against="b")
    assert calls == ["a", "b"] * 4  # one round warms up
    assert found["ratio"]["a"] == pytest.approx(np.median(np.divide(found["seconds"]["a"], found["seconds"]["b"])))


def test_libraries_that_compute_different_numbers_are_not_compared():
    with pytest.raises(RuntimeError, match=r"bench: it: the libraries compute different numbers: \{'a': 1.0, 'b': 1.1\}"):
        measure.in_turn("it", {"a": lambda: 1.0, "b": lambda: 1.1}, 1)


@pytest.mark.parametrize("name", ["training step", "forward pass"])
def test_both_libraries_do_the_same_work(torch, name):
    assert work.unet("numpy", 4)[name]() == pytest.approx(work.unet("torch", 4)[name](), rel=1e-5)


@pytest.mark.parametrize("operation", work.operations(2), ids=lambda operation: operation.name)
def test_every_operation_is_the_same_in_both(torch, operation):
    assert work.operation("numpy", operation)() == pytest.approx(work.operation("torch", operation)(), rel=1e-3, abs=1e-4)


def test_adamw_is_the_same_in_both(torch):
    assert work.adamw("numpy")() == pytest.approx(work.adamw("torch")(), rel=1e-5)


def test_against_torch_gives_ratios(torch, tmp_path, capsys):
    arguments = ["--against", "torch", "--batch", "2", "--rounds", "1", "--kernels", "numpy", "--no-ops"]
    assert cli.main(["bench", *arguments, "--json", str(tmp_path / "b.json")]) == 0
    found = json.loads((tmp_path / "b.json").read_text())["unet"]["training step, batch 2"]
    ratio = found["seconds"]["numpy"][0] / found["seconds"]["torch"][0]
    assert found["ratio"]["numpy"] == pytest.approx(ratio)
    assert f"({ratio:.2f}x)" in capsys.readouterr().out


def test_a_peer_that_is_not_there_is_named_with_the_reason(monkeypatch):
    def missing():
        raise ImportError("No module named 'peer'")

    def broken():
        raise ValueError("no compiler\nand more")

    monkeypatch.setattr(peers, "PEERS", {"missing": missing, "broken": broken})
    jobs, absent = peers.present(["numpy"])
    assert list(jobs) == ["numpy"]
    assert absent == {"missing": "not installed (No module named 'peer')", "broken": "ValueError: no compiler"}


@pytest.mark.parametrize("peer", ["torch", "autograd"])
def test_peers_compute_the_same_gradient(peer):
    pytest.importorskip(peer, reason=f"{peer} is not installed")
    assert peers.PEERS[peer]()() == pytest.approx(peers.minidiff()(), rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "16", "0"], "bench: batch must be a whole number of at least 1, got 0"),
        (["--rounds", "-1"], "bench: rounds must be a whole number of at least 1, got -1"),
        (["--json", "/"], "bench: cannot write /: it is a folder; give a file"),
        (["--json", "/proc/nowhere/b.json"], "/proc/nowhere: cannot be written"),
        (["--loop", "--steps", "3"], "bench: --steps is for the GPU's table"),
        (["--steps", "0"], "bench: steps must be a whole number of at least 1, got 0"),
        (["--steps", "3"], "bench: --steps is for the GPU's table; give --device cuda without --loop, or leave --steps out"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    assert cli.main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_kernels_that_are_not_installed_are_refused_in_one_line(monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "numba" else real(name))
    assert cli.main(["bench", "--kernels", "numba"]) == 2
    assert "set_kernels: numba is not installed; pip install minidiff[fast], or use numpy" in capsys.readouterr().err
