"""The example programs run as a teacher would run them: as their own process, in a folder of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minidiff as md
from minidiff.train import load_model

ROOT = Path(__file__).resolve().parent.parent
TINY = ("--data", "glyphs", "--steps", "3", "--batch", "4", "--channels", "8,16", "--guidance", "1")


def run(name: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which train_mnist has run, and what it printed."""
    folder = tmp_path_factory.mktemp("examples")
    done = run("train_mnist", *TINY, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_train_mnist_leaves_a_model_that_loads_and_a_sheet(trained: tuple[Path, str]) -> None:
    folder, printed = trained
    assert sorted(p.name for p in (folder / "trained").iterdir()) == ["digits.png", "model.npz"]
    loaded = load_model(folder / "trained" / "model.npz")
    assert loaded.model.config["channels"] == [8, 16]
    assert loaded.schedule.config == md.diffusion.make_schedule("cosine", T=100).config
    assert loaded.classes == tuple("0123456789")
    assert f"a U-Net of {loaded.model.num_parameters():,} parameters" in printed
    assert "step      3 of 3   loss" in printed
    with Image.open(folder / "trained" / "digits.png") as sheet:
        assert sheet.width > 600 and sheet.convert("L").getextrema()[0] < 50      # not a blank page


def test_train_mnist_refuses_to_write_over_a_model(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    before = (folder / "trained" / "model.npz").read_bytes()
    done = run("train_mnist", *TINY, folder=folder)
    assert done.returncode == 2
    assert "model.npz is there already; give another --out" in done.stderr
    assert (folder / "trained" / "model.npz").read_bytes() == before


def test_sample_grid_draws_a_sheet_and_a_film_by_seed(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    made = {}
    for out, seed in (("one", "5"), ("same", "5"), ("other", "6")):
        done = run("sample_grid", "trained/model.npz", "--classes", "3,7", "--per-class", "2", "--steps", "4",
                   "--seed", seed, "--out", out, folder=folder)
        assert done.returncode == 0, done.stderr
        assert "drawing 4 digits in 4 steps" in done.stdout
        made[out] = (folder / out / "digits.png").read_bytes()
    assert made["one"] == made["same"] != made["other"]
    with Image.open(folder / "one" / "digits.gif") as film:
        assert film.n_frames == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.npz",), "sample_grid: nowhere.npz: no such file"),
        (("trained/model.npz", "--classes", "12"), "sample_grid: sample: class 12 is not in this model; it knows 0-9"),
    ],
)
def test_sample_grid_says_what_is_wrong_in_one_line(
    trained: tuple[Path, str], arguments: tuple[str, ...], message: str
) -> None:
    folder, _ = trained
    done = run("sample_grid", *arguments, folder=folder)
    assert done.returncode == 1
    assert done.stderr.strip() == message


def test_edit_digits_draws_a_sheet_by_seed(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    made = {}
    for out, seed in (("edits", "5"), ("edits-same", "5"), ("edits-other", "6")):
        done = run("edit_digits", "trained/model.npz", "--data", "glyphs", "--steps", "2", "--resample", "1",
                   "--seed", seed, "--out", out, folder=folder)
        assert done.returncode == 0, done.stderr
        assert "editing ten digits of glyphs in 2 steps" in done.stdout
        assert re.search(r"upper half, completed: above +0\.000\n", done.stdout)
        made[out] = (folder / out / "edits.png").read_bytes()
    assert made["edits"] == made["edits-same"] != made["edits-other"]
    with Image.open(folder / "edits" / "edits.png") as sheet:
        assert sheet.width > 900 and sheet.height > 700


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.npz",), "edit_digits: nowhere.npz: no such file"),
        (("--steps", "0"), "edit_digits: sample: steps must be a whole number from 1 to 100, the model's T; got 0"),
        (("--strength", "2"), "edit_digits: image_to_image: strength must lie between 0 and 1, got 2.0"),
    ],
)
def test_edit_digits_says_what_is_wrong_in_one_line(trained: tuple[Path, str], arguments: tuple[str, ...], message: str) -> None:
    folder, _ = trained
    model = () if arguments[0].endswith(".npz") else ("trained/model.npz", "--steps", "1", "--resample", "0")
    done = run("edit_digits", *model, "--data", "glyphs", *arguments, folder=folder)
    assert (done.returncode, done.stderr.strip()) == (1, message)


def test_gpu_quickstart_draws_and_says_what_is_missing(tmp_path: Path) -> None:
    done = run("gpu_quickstart", "--steps", "2", "--train-steps", "2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ten digits on the CPU:")
    assert lines[1].startswith(("no GPU here: device cuda ", "ten digits on the GPU, fp32:"))


def test_precision_compares_runs_of_the_same_seeds(tmp_path: Path) -> None:
    pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    done = run("precision", "--steps", "3", "--seeds", "2", "--data", "glyphs", "--json", "p.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "p.json").read_text())
    losses = {(row["precision"], row["seed"]): row["held_out_loss"] for row in record["runs"]}
    assert len(losses) == 6 and record["kernels"] == "rounded"
    assert 0 < abs(losses["bf16", 0] - losses["fp32", 0]) < 0.1 * abs(losses["fp32", 1] - losses["fp32", 0])
    mean = (losses["bf16", 0] + losses["bf16", 1] - losses["fp32", 0] - losses["fp32", 1]) / 2
    assert record["precisions"]["bf16"]["minus_fp32"] == pytest.approx(mean)
    assert done.stdout.splitlines()[-1].startswith("bf16")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "1"), "precision: --seeds must be 2 or more, so that there is a spread; got 1"),
        (("--json", "no/p.json"), "precision: --json no/p.json: there is no folder no"),
        (("--preset", "huge"), "precision: unknown preset 'huge'; there are report, mnist, tiny, large, attention"),
    ],
)
def test_precision_says_what_is_wrong_in_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = run("precision", *arguments, folder=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (2, message)


def test_gpu_records_lists_what_only_a_gpu_can_tell(tmp_path: Path) -> None:
    done = run("gpu_records", "--list", "--out", "records", folder=tmp_path)
    assert done.returncode == 0 and not list(tmp_path.iterdir())
    for part in ("tests", "parity", "bench-report", "mnist", "mnist-evaluate", "precision", "bench-attention"):
        assert f"\n{part} " in "\n" + done.stdout
    done = run("gpu_records", "--only", "benches", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("gpu_records: there is no part 'benches'; there are tests, parity, bench-report, mnist,")


def test_the_commands_of_gpu_records_are_understood(tmp_path: Path) -> None:
    """Each is parsed to its end by the program that it is for, which then finds no GPU (or, here, no model)."""
    listed = run("gpu_records", "--list", "--out", str(tmp_path), folder=tmp_path).stdout
    commands = [shlex.split(line) for line in listed.splitlines() if line.startswith(" ")]
    if "no GPU" not in run("gpu_quickstart", "--steps", "1", "--train-steps", "1", folder=tmp_path).stdout:
        pytest.skip("there is a GPU: examples/gpu_records.py runs them")
    for command in commands:
        if "-m" in command and command[2] == "minidiff":
            done = subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300)
            assert done.returncode == 2 and re.search("device cuda|PyTorch|no such file", done.stderr), (command, done.stderr)


def test_recipes_trains_and_judges_one_choice_and_keeps_what_is_done(tmp_path: Path) -> None:
    """On glyphs, which the judge and the Fréchet distance then know from MNIST alone: they need its files."""
    if not os.environ.get("MINIDIFF_DATA"):
        pytest.skip("MINIDIFF_DATA does not name a folder with MNIST, which the Fréchet distance is taken to")
    arguments = ("--only", "base", "flow", "--data", "glyphs", "--steps", "2", "--n", "10", "--json", ".")
    done = run("recipes", "--part", "recipes", *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "recipes.json").read_text())
    assert [row["recipe"] for row in record["rows"]] == ["base", "flow"] and record["n"] == 10
    assert all(0 <= row["class_accuracy"] <= 1 and row["frechet"] > row["frechet_floor"] > 0 for row in record["rows"])
    assert all(0.2 < row["grey"] < 1 for row in record["rows"]) and 0.1 < record["real_grey"] < 0.6
    made = (tmp_path / "runs" / "recipes" / "flow" / "model.npz").stat().st_mtime_ns
    assert run("recipes", "--part", "recipes", *arguments, folder=tmp_path).returncode == 0
    assert (tmp_path / "runs" / "recipes" / "flow" / "model.npz").stat().st_mtime_ns == made


def test_orders_prints_its_table_and_records_it(tmp_path: Path) -> None:
    done = run("orders", "--roads", "flow", "--samplers", "ddim", "dpm++", "--json", "orders.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "orders.json").read_text())["rows"]
    assert [(row["sampler"], row["theory"], round(row["order"])) for row in rows] == [("ddim", 1, 1), ("dpm++", 2, 2)]
    assert f"{rows[1]['errors'][-1]:.1e}" in done.stdout
    done = run("orders", "--json", "nowhere/orders.json", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "orders: --json nowhere/orders.json: there is no such folder\n")


def test_recipes_says_what_there_is(tmp_path: Path) -> None:
    assert "no-skips           no skips\n" in run("recipes", "--list", folder=tmp_path).stdout
    for arguments, message in [(("--only", "ddim"), "recipes: there is no recipe 'ddim'; there are base, report, "),
                               (("--json", "nowhere"), "recipes: --json nowhere: there is no such folder")]:  # fmt: skip
        done = run("recipes", *arguments, folder=tmp_path)
        assert done.returncode == 2 and done.stderr.startswith(message)


def test_train_judge_tests_a_judge_without_training_it(tmp_path: Path) -> None:
    if md.data.find_mnist() is None:
        pytest.skip("MNIST is not at hand: set MINIDIFF_DATA to a folder that holds it")
    done = run("train_judge", "--test", "bundled", "--out", "judge.npz", "--record", "record.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "record.json").read_text())
    committed = json.loads((ROOT / "chapters" / "results" / "judge-test.json").read_text())
    for key in ("n", "test_accuracy", "confusion", "most_often_mistaken"):
        assert found[key] == committed[key]
    assert found["temperature"] == pytest.approx(committed["temperature"], rel=1e-3)
    assert found["calibration_error"] < found["calibration_error_before"] < 0.01
    before = (tmp_path / "judge.npz").read_bytes()
    assert run("train_judge", "--test", "bundled", folder=tmp_path).returncode == 0
    assert (tmp_path / "judge.npz").read_bytes() == before
    again = md.evaluate.load_judge(tmp_path / "judge.npz")
    assert again.temperature == found["temperature"] and again.accuracy == found["test_accuracy"]


def test_recognisability_tells_when_each_digit_is_read(tmp_path: Path) -> None:
    done = run("recognisability", "--per-class", "2", "--steps", "10", "--sampler", "ddim", "--json", "r.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert [row["class"] for row in rows] == [*range(10), None]
    assert rows[-1]["x0_hat_0.5"] < rows[-1]["xt_0.5"] < 1.0
    assert Image.open(tmp_path / "recognisability.png").size[0] > 1000
    for arguments, message in [(("--per-class", "0"), "--per-class must be at least 1, got 0"), (("--steps", "0"), "--steps must be at least 1, got 0"),
                               (("--out", "r.tif"), "r.tif: cannot draw a .tif file; the name must end in .png, .pdf or .svg")]:  # fmt: skip
        done = run("recognisability", *arguments, folder=tmp_path)
        assert (done.returncode, done.stderr) == (2, f"recognisability: {message}\n")


@pytest.mark.parametrize(("arguments", "message"), [
    (("--test", "nothere.npz"), "judge: nothere.npz does not exist; examples/train_judge.py makes one"),
    (("--epochs", "0"), "--epochs must be at least 1, got 0"),
    (("--data", "glyphs", "--limit", "50"), "--batch 128: there are 50 images to train on, which do not fill one"),
])  # fmt: skip
def test_train_judge_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run("train_judge", *arguments, folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"train_judge: {message}\n") and not list(tmp_path.iterdir())


def test_best_of_n_chooses_by_the_judge_and_tells_the_cost(tmp_path: Path) -> None:
    done = run("best_of_n", "--n", "3", "--per-class", "2", "--steps", "2", "--json", "best.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "without --clip nobody checks the judge" in done.stdout
    nobody, judge = json.loads((tmp_path / "best.json").read_text())["rows"]
    assert (nobody["chosen_by"], judge["chosen_by"], nobody["pictures"], judge["pictures"]) == ("nobody", "judge", 60, 20)
    assert (nobody["evaluations_per_picture"], judge["evaluations_per_picture"], nobody["diversity"]) == (2, 6, 1)
    assert judge["probability"]["judge"] >= nobody["probability"]["judge"] and f"({judge['probability']['judge']:.3f})" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "nowhere/b.json"), "best_of_n: --json nowhere/b.json: there is no such folder\n"),
        (("--per-class", "1"), "best_of_n: --per-class must be at least 2, for variety is measured between pictures of a class; got 1\n"),
        (("--keep", "5"), "best_of_n: best_of: keep must be 1 to 4, the number of candidates; got 5\n"),
    ],
)
def test_best_of_n_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run("best_of_n", *arguments, folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, message)


def test_epochs_judges_every_checkpoint_of_a_run(tmp_path: Path) -> None:
    command = ("train", "--data", "glyphs", "--preset", "tiny", "--steps", "4", "--out", "r", "--set", "keep=0", "checkpoint_every=2",
               "sheet_every=0", "batch=8", "model.channels=8,8", "validate=0")  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "minidiff", *command], cwd=tmp_path, env=environment, check=True, capture_output=True)
    done = run("epochs", "r", "--n", "10", "--steps", "2", "--sampler", "ddim", "--guidance", "0", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "r-epochs.json").read_text())["rows"]
    logged = [json.loads(line)["loss"] for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert [row["loss"] for row in rows] == pytest.approx([sum(logged[:2]) / 2, sum(logged[2:]) / 2])
    assert rows[0]["frechet"] != rows[1]["frechet"] and rows[1]["epoch"] == pytest.approx(0.00267, abs=0.001)
    assert Image.open(tmp_path / "r-epochs.png").size[0] > 700


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "epochs: nowhere is no run with checkpoints; minidiff train --out nowhere --set keep=0 makes one that keeps them all\n"),
        (("r", "--n", "9"), "epochs: --n must be at least 10, one of each digit; got 9\n"),
    ],
)
def test_epochs_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run("epochs", *arguments, folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, message)


def test_epochs_leaves_out_checkpoints_that_were_set_aside_and_models_of_no_digits(tmp_path: Path) -> None:
    config = md.train.preset("tiny").replace(data="glyphs", limit=200, steps=2, batch=4, sheet_every=0, checkpoint_every=1, keep=0, validate=0,
                                             model={"channels": [8, 16], "condition": "film", "target": "v"})  # fmt: skip
    md.train.Trainer(config, tmp_path / "r", progress=False).run()
    md.train.folder.set_aside(tmp_path / "r" / "checkpoints" / "step_00000002.npz")
    done = run("epochs", "r", "--n", "10", "--steps", "1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in json.loads((tmp_path / "r-epochs.json").read_text())["rows"]] == [1]
    for kind in ("a", "b"):
        (tmp_path / "letters" / kind).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.full((28, 28), 60 * i, np.uint8)).save(tmp_path / "letters" / kind / f"{i}.png")
    letters = config.replace(data=str(tmp_path / "letters"), limit=None, batch=2)
    md.train.Trainer(letters, tmp_path / "l", progress=False).run()
    for example in ("epochs", "recognisability", "best_of_n"):
        done = run(example, "l", folder=tmp_path)
        assert done.returncode == 2 and "the judge knows grey digits, 0 to 9; " in done.stderr and "draws a, b …" in done.stderr, done.stderr


CLAIMED = [  # a claim, the record that bears on it, what is changed there, and the verdict that it then must give
    ("memory", "bench-cpu", lambda r: r["peak_memory_mb"]["64"]["numpy"].update(working=0.5), "reproduced"),
    ("loss", "report-train", lambda r: r["epoch_losses"].__setitem__(14, 0.03), "reproduced"),
    ("loss", "report-train", lambda r: r["epoch_losses"].extend([0.03] * 5), "not reproduced"),
    ("loss", "report-train", lambda r: r["epoch_losses"].pop(), "open: 14 of 15 epochs"),
    ("epochs", "report-epochs", lambda r: [row.update(frechet=9.0 if row["epoch"] < 8.5 else 1.0, frechet_floor=1.0) for row in r["rows"]], "reproduced"),
    ("epochs", "report-epochs", lambda r: [row.update(frechet=1.0, frechet_floor=1.0) for row in r["rows"]], "in part"),
    ("epochs", "report-epochs", lambda r: r["rows"].pop(), "open"),
    ("classes", "report-epochs", lambda r: r["rows"][-1].update(interval_95=[0.6, 0.8]), "reproduced"),
    ("recognisable", "recognisability", lambda r: r["rows"][-1].update({"xt_0.5": 0.61, "xt_0.9": 0.69}), "reproduced"),
    ("recognisable", "recognisability", lambda r: r["rows"][-1].update({"xt_0.5": 0.2, "xt_0.9": None}), "not reproduced"),
    ("one-seven", "recognisability", lambda r: [r["rows"][c].update({"xt_0.5": v}) for c, v in ((1, 0.5), (7, 0.48), (-1, 0.6))], "reproduced"),
    ("one-seven", "recognisability", lambda r: r["rows"][1].update({"xt_0.5": None}), "not reproduced"),
    ("five-eight", "recognisability", lambda r: [r["rows"][c].update({"xt_0.5": v}) for c, v in ((5, 0.99), (8, None))], "reproduced"),
    ("skips", "recipes", lambda r: _row(r, "no-skips").update(grey=0.2, frechet=1.0), "not reproduced"),
    ("clock", "recipes", lambda r: _row(r, "no-clock").update(class_accuracy=0.1), "reproduced"),
    ("larger", "sizes", lambda r: r["rows"][2].update(seconds_a_step=2 * r["rows"][0]["seconds_a_step"], frechet=1.0), "reproduced"),
    ("clip", "mnist-clip", lambda r: r["clip"]["model"].update(name="ViT-B-32"), "not reproduced"),
    ("clip", "mnist-clip", lambda r: (r["clip"]["model"].update(name="ViT-B-32"), r["clip"]["course"]["by_class"].update({"0": 0.92, "1": 0.94, "7": 0.95, "5": 0.75, "8": 0.8})),
     "reproduced"),
    ("clip", "mnist-clip", lambda r: r.update(clip=True), "open"),
    ("filtering", "best-of-n", lambda r: r["rows"][2].update(class_accuracy=r["rows"][0]["class_accuracy"] + 0.001), "in part"),
    ("filtering", "best-of-n", lambda r: r["rows"][2].update(class_accuracy=0.5), "not reproduced"),
    ("styles", "styles", lambda r: r["rows"][-1]["follows"]["slant"].update(correlation=0.1), "in part"),
]  # fmt: skip


def _row(record: dict, recipe: str) -> dict:
    return next(row for row in record["rows"] if row["recipe"] == recipe)


@pytest.mark.parametrize(("claim", "name", "change", "verdict"), CLAIMED, ids=[f"{c}: {v}" for c, _, _, v in CLAIMED])
def test_another_record_gives_another_verdict(tmp_path: Path, claim: str, name: str, change, verdict: str) -> None:
    """Each rule can come out otherwise: a claim that no record could refute would not have been tested."""
    spec = importlib.util.spec_from_file_location("report_claims", ROOT / "examples" / "report_claims.py")
    claims = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(claims)
    shutil.copytree(ROOT / "chapters" / "results", tmp_path / "results", ignore=shutil.ignore_patterns("*.png", "*.webp"))
    before = claims.tested(claim, tmp_path / "results")["verdict"]
    path = tmp_path / "results" / f"{name}.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    assert claims.tested(claim, tmp_path / "results")["verdict"] == verdict
    assert verdict != before or claim in ("loss", "one-seven")


def test_every_claim_but_the_count_of_parameters_can_come_out_otherwise() -> None:
    spec = importlib.util.spec_from_file_location("report_claims", ROOT / "examples" / "report_claims.py")
    claims = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(claims)
    assert {claim for claim, *_ in CLAIMED} == set(claims.CLAIMS) - {"parameters"}       # which no record bears on


def test_report_claims_reads_the_records_and_says_what_is_open(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    row = {"class_accuracy": 0.6, "frechet": 4.0, "grey": 0.3, "recipe": "base"}
    fails = {**row, "recipe": "no-clock", "class_accuracy": 0.1}
    (results / "recipes.json").write_text(json.dumps({"command": "made by hand", "real_grey": 0.3, "rows": [row, fails]}))
    done = run("report_claims", "--results", "results", "--json", ".", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {row["claim"]: row for row in json.loads((tmp_path / "claims.json").read_text())["rows"]}
    assert rows["parameters"]["verdict"] == rows["clock"]["verdict"] == "reproduced"
    assert rows["clock"]["commands"] == ["made by hand"] and "without a time embedding the model fails  —  REPRODUCED" in done.stdout
    assert rows["skips"]["measured"] == "nothing yet: recipes.json has no recipe no-skips" and rows["skips"]["verdict"] == "open"
    assert rows["loss"]["measured"] == "nothing yet: there is no report-train.json" and "--preset report" in rows["loss"]["commands"][0]
    (results / "recipes.json").write_text(json.dumps({"command": "made by hand", "rows": [row, {**fails, "class_accuracy": 0.5}]}))
    done = run("report_claims", "--results", "results", "--only", "clock", folder=tmp_path)
    assert "NOT REPRODUCED" in done.stdout and "\n    $ made by hand\n" in done.stdout


def test_the_committed_claims_are_what_the_records_say(tmp_path: Path) -> None:
    done = run("report_claims", "--json", ".", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    committed = json.loads((ROOT / "chapters" / "results" / "claims.json").read_text())["rows"]
    assert json.loads((tmp_path / "claims.json").read_text())["rows"] == committed
    assert all(row["commands"] for row in committed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "weather"), "report_claims: there is no claim 'weather'; there are parameters, memory, "),
        (("--json", "nowhere"), "report_claims: --json nowhere: there is no such folder\n"),
    ],
)
def test_report_claims_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run("report_claims", *arguments, folder=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(message)


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of a few steps: one told slant and weight, one slant alone, one a typeface."""
    folder = tmp_path_factory.mktemp("styles")
    for name, style in (("both", ("slant", "weight")), ("one", ("slant",)), ("face", ("face",))):
        config = md.train.preset("tiny").replace(data="glyphs", limit=200, steps=3, batch=4, style=style, sheet_every=0, validate=0,
                                                 model={"channels": [8, 16], "condition": "film", "target": "v"})  # fmt: skip
        md.train.Trainer(config, folder / name, progress=False).run()
    return folder


def test_styles_measures_what_was_asked_for_and_writes_a_record_and_a_sheet(styled: Path, tmp_path: Path) -> None:
    done = run("styles", str(styled / "both"), "--n", "40", "--steps", "2", "--guidance", "0", "0.5", "--json", ".", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["styles-sheet.png", "styles.json"]
    record = json.loads((tmp_path / "styles.json").read_text())
    assert {"command", "commit", "machine", "seed", "time", "seconds", "versions"} <= record.keys() and record["data"] == "glyphs"
    slant = md.data.load("glyphs", limit=200).style["slant"]
    low, high = np.percentile(slant, [5, 95])
    assert record["ranges"]["slant"] == pytest.approx({"low": low, "middle": 0.0, "high": high, "mean": slant.mean(), "deviation": slant.std()}, rel=1e-4)
    assert record["training_set"]["slant"]["correlation"] > 0.93 and [row["guidance"] for row in record["rows"]] == [0.0, 0.5]
    for row in record["rows"]:
        assert set(row["across"]) == {"slant asked, weight drawn", "weight asked, slant drawn"}
        assert [part["class"] for part in row["by_class"]] == list(range(10)) and sum(part["n"] for part in row["by_class"]) == 40
        assert row["class_accuracy"] == pytest.approx(np.mean([part["class_accuracy"] for part in row["by_class"]]))
        for name in ("slant", "weight"):
            assert -1 <= row["follows"][name]["correlation"] <= 1 and row["untold"][name]["deviation"] > 0
            assert f"{row['follows'][name]['correlation']:.3f}" in done.stdout
            assert f"{row['untold'][name]['deviation']:.2f}{row['by_chance'][name]['deviation']:>20.2f}" in done.stdout
    (asked,) = [part["asked"] for part in record["beyond"]["slant"] if part["deviations"] == 4]
    assert asked == pytest.approx(slant.mean() + 4 * slant.std(), rel=1e-4)
    with Image.open(tmp_path / "styles-sheet.png") as sheet:
        assert sheet.width > 1500 and sheet.height > 1000


def test_styles_takes_a_model_that_was_told_one_value(styled: Path, tmp_path: Path) -> None:
    done = run("styles", str(styled / "one"), "--n", "40", "--steps", "1", "--guidance", "0", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["styles-sheet.png"] and "weight" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnist",), "styles: mnist was told no style; train one with: minidiff train --style slant weight\n"),
        (("face",), "styles: face was told the style 'face', which cannot be measured; what can is slant, weight\n"),
        (("nowhere.npz",), "styles: nowhere.npz: no such file\n"),
        (("both", "--n", "39"), "styles: --n must be at least 40, for a correlation is taken over the samples of each digit; got 39\n"),
        (("both", "--json", "nowhere"), "styles: --json nowhere: there is no such folder\n"),
        (("both", "--steps", "101"), "styles: sample: steps must be a whole number from 1 to 100, the model's T; got 101\n"),
    ],
)
def test_styles_says_what_is_wrong(styled: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run("styles", *arguments, folder=styled)
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.slow
def test_styles_finds_that_a_trained_model_follows(tmp_path: Path) -> None:
    """Half a minute of training: hardly digits yet, but they lean and swell as they are told, and by chance they would not."""
    config = md.train.preset("tiny").replace(data="glyphs", steps=500, style=("slant", "weight"), sheet_every=0, validate=0)
    md.train.Trainer(config, tmp_path / "run", progress=False).run()
    done = run("styles", "run", "--n", "200", "--steps", "10", "--json", ".", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "styles.json").read_text())["rows"][-1]
    for name in ("slant", "weight"):
        assert row["follows"][name]["correlation"] > 0.6 and abs(row["shuffled"][name]["correlation"]) < 0.3
        assert row["follows"][name]["mean_absolute_error"] < row["shuffled"][name]["mean_absolute_error"]
        assert row["by_chance"][name]["deviation"] > row["untold"][name]["deviation"]
    assert max(map(abs, row["across"].values())) < 0.4
