"""The command line: what it does, what it says, and how it leaves."""
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidiff import cli, models
from minidiff.errors import BadInput
from minidiff.train import PRESETS, Config, Trainer, checkpoint
from minidiff.train.demo import Film, demo

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The glyphs are drawn once for all tests, and no data of the reader's is found."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MINIDIFF_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    patch.delenv("MINIDIFF_DATA", raising=False)
    patch.delenv("MINIDIFF_TRACEBACK", raising=False)
    yield
    patch.undo()


SMALL = Config(
    preset="tiny", data="glyphs", limit=40, steps=6, batch=4,
    model={"channels": [8, 8, 16], "condition": "film", "time_dim": 8}, schedule={"name": "cosine", "T": 10},
    ema=0.9, guidance=1.0, sheet_every=0, checkpoint_every=3, validate=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "small"
    Trainer(SMALL, out, progress=False).run()
    return out


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def say(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    status = cli.main([str(a) for a in argv])
    return (status, *capsys.readouterr())


# ------------------------------------------------------------------------------------------------ help

COMMANDS = ("demo", "train", "sample", "evaluate", "export", "import", "runs", "summary", "plot", "data", "bench", "exercises", "book")


def test_help_names_every_command_and_leaves_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = say(capsys, "--help")
    assert status == 0
    for command in COMMANDS:
        assert f"\n    {command} " in out or f"\n    {command}\n" in out    # the longest stand on a line of their own


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = say(capsys, command, "--help")
    assert status == 0
    assert f"\nexamples:\n  minidiff {command}" in out


def test_help_of_train_names_every_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert f"recipe: {', '.join(PRESETS)} (default: mnist)" in " ".join(say(capsys, "train", "--help")[1].split())


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    import minidiff

    assert say(capsys, "--version") == (0, f"minidiff {minidiff.__version__}\n", "")


def test_help_needs_neither_matplotlib_nor_scipy() -> None:
    """What makes help slow: it must answer within half a second, which a test can only watch from the side."""
    code = ("import sys; from minidiff.cli import main; main(['--help']); "
            "print(sorted({'matplotlib', 'scipy', 'PIL', 'torch', 'tqdm'} & set(sys.modules)), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300,
                          check=True)
    assert done.stderr == "[]\n"


# ------------------------------------------------------------------------------------------------ bad input

BAD = [
    ("", "the following arguments are required: COMMAND; see minidiff --help"),
    ("paint", "argument COMMAND: invalid choice: 'paint' (choose from "),
    ("train --preset huge", "unknown preset 'huge'; there are report, mnist, tiny, large"),
    ("train --data letters", "train: unknown data set 'letters'; there are mnist, fashion-mnist, cifar10, glyphs, or give the path of a folder of images"),
    ("train --lr nan", "train: lr must be a finite number above 0, got nan"),
    ("train --lr inf", "train: lr must be a finite number above 0, got inf"),
    ("train --lr 0", "train: lr must be a finite number above 0, got 0.0"),
    ("train --lr fast", "train: argument --lr: invalid float value: 'fast'; see minidiff train --help"),
    ("train --batch 0", "train: batch must be a whole number of at least 1, got 0"),
    ("train --steps 0", "train: steps must be a whole number of at least 1, got 0"),
    ("train --steps 5 --epochs 1", "train: argument --epochs: not allowed with argument --steps; see "),
    ("train --epochs -1", "train: epochs must be a finite number above 0, got -1.0"),
    ("train --minutes 0", "train: minutes must be a finite number above 0, got 0.0"),
    ("train --schedule square", "schedule 'square' is unknown; it is one of: linear, "),
    ("train -T 0", "schedule: T must be a whole number of steps, 1 or more; got 0"),
    ("train --device tpu", "device 'tpu' is unknown; it is one of: cpu, cuda"),
    ("train --out RUN", "RUN: holds a run already; go on with it by --resume, or give another --out"),
    ("train --out none --resume", "none: no checkpoint to resume from; start a run there without --resume"),
    ("train --out file/run --preset tiny --data glyphs", "file/run: cannot be written (Not a directory); give another"),
    ("train --set lr", "train: cannot read --set lr; write FIELD=VALUE, such as lr=0.001 or model.channels=32,64"),
    ("train --set lrr=1", "train: unknown field 'lrr'; did you mean lr?"),
    ("train --set lr=fast", "train: lr must be a number, got 'fast'"),
    ("train --set accumulate=7", "train: accumulate must divide the batch of 64, got 7"),
    ("train --config none.json", "none.json: cannot be read as JSON (No such file or directory)"),
    ("train --config RUN --preset tiny", "train: argument --preset: not allowed with argument --config; see minidiff train --help"),
    ("export RUN", "export: the following arguments are required: --out; see minidiff export --help"),
    ("export RUN --out a.pt", "--out a.pt: unknown ending '.pt'; it must be .npz"),
    ("export none.npz --out a.npz", "none.npz: no such file"),
    ("import none.npz --out a.npz", "import: none.npz: no such file"),
    ("import RUN/model.npz --data letters --out a.npz", "data: unknown data set 'letters'; the data sets are mnist, fashion-mnist, cifar10, glyphs; or give"),
    ("import file --out a.npz", "import: file: only .npz and .safetensors are read, since PyTorch's own files are pickles"),
    ("import RUN/model.npz --out a.npz", "import: RUN/model.npz: is minidiff's own already; sample, evaluate and export take it as it is"),
    ("runs none", "runs: none: no such folder; give one that holds runs"),
    ("sample RUN", "sample: the following arguments are required: --out; see minidiff sample --help"),
    ("sample RUN --out a.bmp", "--out a.bmp: unknown ending '.bmp'; it must be .png, .gif, .webp, .npz"),
    ("sample RUN --out file/a.png", "file: cannot be written (Not a directory); give another --out"),
    ("sample RUN --out folder.png", "--out folder.png: is a folder; give a file"),
    ("sample RUN --classes 12 --out a.png", "sample: class 12 is not in this model; it knows 0-9"),
    ("sample RUN --classes 8-12 --out a.png", "sample: class 12 is not in this model; it knows 0-9"),
    ("sample RUN --classes 3-1 --out a.png", "sample: class range '3-1' runs backwards; write 1-3"),
    ("sample RUN --classes a,1 --out a.png", "sample: class a is not in this model; it knows 0-9"),
    ("sample RUN --classes 1, --out a.png", 'sample: class "" is not in this model; it knows 0-9'),
    ("sample RUN --per-class 0 --out a.png", "sample: --per-class must be at least 1, got 0"),
    ("sample RUN --seed -1 --out a.png", "sample: --seed must be at least 0, got -1"),
    ("sample RUN --sampler magic --out a.png", "sample: unknown sampler 'magic'; there are ddpm, ddim, euler, midpoint, heun, dpm++"),
    ("sample RUN --steps 0 --out a.png", "sample: --steps must be 1 to 10 (the T of this model), got 0"),
    ("sample RUN --steps 11 --out a.png", "sample: --steps must be 1 to 10 (the T of this model), got 11"),
    ("sample RUN --guidance -0.5 --out a.png", "sample: --guidance must be a finite number of at least 0, got -0.5"),
    ("sample RUN --guidance nan --out a.png", "sample: --guidance must be a finite number of at least 0, got nan"),
    ("sample RUN --eta 2 --sampler ddim --out a.png", "sample: eta must lie between 0 and 1, got 2.0"),
    ("sample RUN --negative 10 --out a.png", "sample: class 10 is not in this model; it knows 0-9"),
    ("sample RUN --negative 1,2 --out a.png", "sample: --negative must be one class, got 1,2"),
    ("sample RUN --guidance-interval 0.5 0.2 --out a.png",
     "sample: the interval of guidance must be two parts of T, 0 <= low <= high <= 1; got (0.5, 0.2)"),
    ("sample RUN --guidance-rescale 2 --out a.png", "sample: rescale must lie between 0 and 1, got 2.0"),
    ("sample RUN --style slant=20 --out a.png", "sample: this model has learned no style; leave --style out, or train one with --style"),
    ("train --style mood --data glyphs", "glyphs: nothing is known of the style 'mood'; there is slant, weight, face"),
    ("sample RUN --judge-alone --out a.png", "sample: --judge-alone needs --judge, how strongly the judge is to lead"),
    ("sample RUN --judge nan --out a.png", "sample: the strength of a classifier must be finite, got nan"),
    ("sample RUN --variance learned --out a.png", "sample: this model has not learned a variance; use small or large"),
    ("sample RUN --no-clip --dynamic-clip --out a.png", "sample: argument --dynamic-clip: not allowed with argument --no-clip; see "),
    ("evaluate RUN --reference letters --n 2 --steps 1", "evaluate: unknown --reference 'letters'; it is none or one of mnist, glyphs, "),
    ("evaluate RUN --card a.png --n 2 --steps 1 --reference none", "evaluate: neither card nor pupil: without a --reference"),
    ("sample RUN --out a.png --steps 1 --eta 0.5", "sample: --eta does nothing without --sampler ddim"),
    ("sample RUN --out a.png --steps 1 --sampler ddim --churn 0.5", "sample: --churn does nothing without --sampler heun"),
    ("sample RUN --out a.png --steps 1 --sampler ddim --variance large", "sample: --variance does nothing without --sampler ddpm"),
    ("sample RUN --out a.png --steps 1 --guidance 0 --negative 3", "sample: --negative does nothing without --guidance above 0"),
    ("sample RUN --out a.png --steps 1 --guidance 0 --guidance-interval 0 0.5", "sample: --guidance-interval does nothing without --guidance above 0"),
    ("sample RUN --out a.png --steps 1 --eta 0.5 --churn 1", "sample: --eta does nothing without --sampler ddim; --churn does nothing without --sampler heun"),
    ("sample RUN --out a.png --classes none --guidance 1", "sample: --guidance 1 does nothing without a class; leave it out, or give --classes or --negative"),
    ("sample RUN --out a.png --precision bf16", "sample: --precision bf16 is the GPU's; the CPU computes in fp32; use --device cuda, or imitate it with"),
    ("evaluate RUN --precision tf32", "evaluate: --precision tf32 is the GPU's; the CPU computes in fp32; use --device cuda, or imitate it with"),
    ("gradcheck --mutants --order 1", "gradcheck: --mutants makes checks of its own; give it without --order and --dtype"),
    ("book --numbers --json a.json", "book: --numbers builds no book; give it without --alone and --json"),
    ("evaluate RUN --pupil --n 2 --steps 1 --reference none", "evaluate: neither card nor pupil: without a --reference"),
    ("evaluate RUN --card a.png --n 50 --steps 1 --reference glyphs", "evaluate: neither card nor pupil: 50 samples are too few to be held against glyphs; 100 to 2,000 would do"),
    ("train --data glyphs --preset tiny --out new --set model.num_classes=5", "train: model.num_classes is 5, and with glyphs and this recipe it is 10; leave it out"),
    ("train --data glyphs --preset tiny --out new --set model.style_dim=2", "train: model.style_dim is 2, and with glyphs and this recipe it is 0; leave it out"),
    ("train --data glyphs --preset tiny --out new --set sheet_sampler=magic", "train: unknown sheet_sampler 'magic'; there are ddpm, "),
    ("evaluate RUN --card a.bmp", "--card a.bmp: unknown ending '.bmp'; it must be .png, .pdf, .svg"),
    ("evaluate RUN --sampler magic", "evaluate: unknown sampler 'magic'; there are ddpm, ddim, euler, midpoint, heun, dpm++"),
    ("sample RUN --device tpu --out a.png", "device 'tpu' is unknown; it is one of: cpu, cuda"),
    ("sample mnits --out a.png", "mnits: no such file, and no bundled model of this name (bundled: "),
    ("sample none.npz --out a.png", "none.npz: no such file"),
    ("sample file --out a.png", "file: empty file, not a minidiff checkpoint"),
    ("summary --preset huge", "unknown preset 'huge'; there are "),
    ("summary RUN --preset tiny", "summary: give a model or --preset, not both"),
    ("plot none", "none: no such file; give a run's folder or its metrics.jsonl"),
    ("plot RUN --out a.bmp", "--out a.bmp: unknown ending '.bmp'; it must be .png, .pdf, .svg"),
    ("data", "data: the following arguments are required: fetch|verify|list; see minidiff data --help"),
    ("data fetch letters", "data: unknown data set 'letters'; the data sets are "),
    ("data verify letters", "data: unknown data set 'letters'; the data sets are "),
    ("demo --minutes 0", "demo: minutes must be a finite number above 0, got 0.0"),
    ("demo --minutes nan", "demo: minutes must be a finite number above 0, got nan"),
    ("demo --seed -1", "train: seed must be a whole number of at least 0, got -1"),
    ("demo --out file", "file: is a file; give a folder as --out"),
    ("demo --out folder.png", "folder.png: holds files that no demo made; give a new or an empty folder as --out"),
]


@pytest.mark.parametrize(("command", "message"), BAD, ids=[command or "nothing" for command, _ in BAD])
def test_bad_input_is_one_line_and_status_2_and_changes_nothing(
        here: Path, run: Path, capsys: pytest.CaptureFixture[str], command: str, message: str) -> None:
    (here / "file").touch()
    (here / "folder.png").mkdir()
    (here / "folder.png" / "letter").touch()

    def everything() -> dict[Path, bytes | None]:
        return {p: p.read_bytes() if p.is_file() else None for folder in (here, run) for p in folder.rglob("*")}

    before = everything()
    status, out, err = say(capsys, *command.replace("RUN", str(run)).split())
    assert (status, out) == (2, "")
    assert err.startswith(f"minidiff: {message.replace('RUN', str(run))}")
    assert err.count("\n") == 1
    assert everything() == before


def test_cuda_where_there_is_none_is_said(here: Path, run: Path, capsys: pytest.CaptureFixture[str],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)       # importing it fails, as where it is not installed
    for command in ("train --device cuda --preset tiny", f"sample {run} --device cuda --out a.png"):
        status, _, err = say(capsys, *command.split())
        assert (status, err.count("\n")) == (2, 1)
        assert err.startswith("minidiff: device cuda needs CuPy, which is not installed; ")
    assert not list(here.iterdir())


def test_a_traceback_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIDIFF_TRACEBACK", "1")
    with pytest.raises(BadInput, match="unknown preset"):
        cli.main(["train", "--preset", "huge"])


def test_a_failure_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: object) -> int:
        raise RuntimeError("the disk\nis gone")

    monkeypatch.setattr(cli, "_summary", fail)
    assert say(capsys, "summary") == (1, "", "minidiff: failed with RuntimeError: the disk is gone "
                                             "(MINIDIFF_TRACEBACK=1 shows where)\n")


def test_ctrl_c_outside_training_is_said_with_status_130(capsys: pytest.CaptureFixture[str],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_summary", stop)
    assert say(capsys, "summary") == (130, "", "minidiff: interrupted\n")


# ------------------------------------------------------------------------------------------------ train

TRAIN = "--preset tiny --data glyphs --limit 40 --batch 2 -T 10 --sheet-every 0 --threads 1".split()


def test_train_goes_on_where_ctrl_c_stopped_it(here: Path) -> None:
    """As a user does it: another process, a signal, the command that was printed."""
    def minidiff(*argv: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-m", "minidiff", *argv], cwd=here, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env={**os.environ, "PYTHONPATH": str(ROOT)})

    first = minidiff("train", *TRAIN, "--steps", "4000", "--checkpoint-every", "20", "--out", "a run")
    deadline = time.monotonic() + 300                    # for very busy machines; a second or two on others
    while not (here / "a run/checkpoints/step_00000020.npz").exists():
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=300)
    assert first.returncode == 130, err
    assert "stopping after this step; once more to stop at once\n" in err
    stopped = checkpoint.load(checkpoint.latest(here / "a run"))[1]["step"]
    assert f"stopped at step {stopped} of 4000, saved a run/checkpoints/step_{stopped:08d}.npz\n" in err
    assert err.endswith("to go on: python -m minidiff train --out 'a run' --resume\n")

    second = minidiff("train", "--out", "a run", "--resume", "--steps", str(stopped + 3))
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    assert f"going on after step {stopped}\n" in out
    assert f"\n{stopped + 3} steps in " in out
    record = json.loads((here / "a run/record.json").read_text())
    assert [launch["to_step"] for launch in record["launches"]] == [stopped, stopped + 3]
    assert record["command"] == (f"python -m minidiff train --out 'a run' --resume --steps {stopped + 3}")


def test_train_prints_its_recipe_and_what_it_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = say(capsys, "train", *TRAIN, "--steps", 3, "--ema", 0.5, "--drop", 0.25, "--lr", 0.004)
    assert status == 0
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if "  " in line)
    assert (facts["preset"], facts["data"], facts["steps"], facts["ema"], facts["drop"], facts["lr"]) == (
        "tiny", "glyphs", "3", "0.5", "0.25", "0.004")
    assert facts["out"] == "runs/glyphs-tiny"
    assert "wrote runs/glyphs-tiny/model.npz\n" in out
    assert "step 3/3  loss " in err
    meta = checkpoint.load(here / "runs/glyphs-tiny/model.npz")[1]
    assert (meta["step"], meta["schedule"]["T"], meta["config"]["seed"]) == (3, 10, 0)


def test_another_schedule_does_not_inherit_the_old_ones_numbers(here: Path) -> None:
    args = cli.build_parser().parse_args("train --schedule cosine -T 50".split())
    linear = PRESETS["report"].schedule
    assert cli._overrides(args, linear)["schedule"] == {"name": "cosine", "T": 50}
    args = cli.build_parser().parse_args("train -T 50".split())
    assert cli._overrides(args, linear)["schedule"] == {**linear, "T": 50}


def test_resuming_with_another_preset_names_what_differs(
        run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = say(capsys, "train", "--out", run, "--resume", "--preset", "mnist", "--data", "glyphs")
    assert (status, err.count("\n")) == (2, 1)
    assert "step_00000006.npz: this run has limit 40, None is asked for; leave that out to resume it, or give another --out" in err


def test_resuming_a_finished_run_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = say(capsys, "train", "--out", run, "--resume")
    assert status == 0
    assert "this run is finished: step 6 of 6; --steps or --epochs asks for more\n" in out


def test_any_field_can_be_set_and_a_recipe_taken_from_a_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = say(capsys, "train", *TRAIN, "--set", "steps=2", "model.channels=8,16", "--set", "schedule.name=flow", "model.target=flow", "--out", "a")
    assert status == 0, err
    first = Config.load(here / "a")
    assert (first.steps, first.model["channels"], first.model["target"], first.schedule) == (2, [8, 16], "flow", {"name": "flow", "T": 10})
    status, _, err = say(capsys, "train", "--config", "a/config.json", "--seed", 5, "--out", "b")
    assert status == 0, err
    assert Config.load(here / "b") == first.replace(seed=5)


def test_a_run_that_is_gone_on_with_may_not_be_set_otherwise(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = say(capsys, "train", "--out", run, "--resume", "--set", "lr=0.5")
    assert (status, err.count("\n")) == (2, 1)
    assert "this run has lr 0.001, 0.5 is asked for; leave that out to resume it, or give another --out" in err


# ------------------------------------------------------------------------------------------------ sample

def test_sample_archives_hold_images_and_labels(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = say(capsys, "sample", run, "--classes", "1,7,0-2", "--per-class", 2, "--steps", 3, "--out", "s.npz")
    assert (status, out) == (0, "wrote s.npz: 8 images (ddpm, 3 steps, guidance 1, seed 0)\n")
    with np.load("s.npz", allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    assert (images.dtype, images.shape) == (np.float32, (8, 1, 32, 32))
    assert labels.dtype == np.int64
    assert labels.tolist() == [1, 1, 7, 7, 0, 0, 2, 2]
    assert -1 <= images.min() < images.max() <= 1


def test_a_seed_makes_sampling_repeatable(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        say(capsys, "sample", run, "--classes", 5, "--per-class", 2, "--seed", seed, "--out", f"{name}.npz")
    a, b, c = (np.load(f"{name}.npz")["images"] for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_sample_writes_a_picture_into_a_new_folder(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    assert say(capsys, "sample", run, "--per-class", 1, "--steps", 1, "--sampler", "ddim", "--out", "new/a.png")[0] == 0
    with Image.open("new/a.png") as image:
        assert min(image.size) >= 32


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_sample_animates_the_way_from_noise(here: Path, run: Path, capsys: pytest.CaptureFixture[str],
                                            ending: str) -> None:
    from PIL import Image

    assert say(capsys, "sample", run, "--classes", 3, "--per-class", 2, "--out", f"a.{ending}")[0] == 0
    with Image.open(f"a.{ending}") as image:
        assert image.n_frames == 10                      # T = 10: a frame for every step


def _broken(error: BaseException) -> Any:
    def draw(*_: object, **__: object) -> None:
        raise error

    return draw


def _samples(path: str) -> np.ndarray:
    with np.load(path) as archive:
        assert archive["labels"].shape == archive["images"].shape[:1]
        return archive["images"]


@pytest.mark.parametrize("ending", [".png", ".gif"])
def test_samples_are_saved_before_they_are_drawn(here: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                                                 ending: str) -> None:
    from minidiff import viz

    command = ("sample", run, "--classes", "3", "--per-class", 2, "--steps", 1, "--out")
    assert say(capsys, *command, f"x{ending}")[0] == 0
    assert [path.name for path in here.iterdir()] == [f"x{ending}"]
    assert say(capsys, *command, "x.npz")[0] == 0
    for name in ("class_grid", "animation"):
        monkeypatch.setattr(viz, name, _broken(ValueError("no such glyph")))
    said = f"minidiff: x{ending}: cannot be drawn (ValueError: no such glyph); the samples are in x-1.npz\n"
    assert say(capsys, *command, f"x{ending}") == (1, "", said)                       # x.npz was there, and stays
    assert np.array_equal(_samples("x-1.npz"), _samples("x.npz"))
    for name in ("class_grid", "animation"):
        monkeypatch.setattr(viz, name, _broken(KeyboardInterrupt()))
    assert say(capsys, *command, f"x{ending}") == (130, "", "minidiff: interrupted; the samples are in x-2.npz\n")
    assert np.array_equal(_samples("x-2.npz"), _samples("x.npz"))


def test_samples_and_figures_are_saved_before_the_card_is_drawn(here: Path, run: Path, capsys: pytest.CaptureFixture[str],
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    from minidiff import data, viz

    load = data.load
    monkeypatch.setattr(data, "load", lambda name, split="train", limit=None: load(name, split, limit=600 if split == "train" else 200))
    monkeypatch.setattr(viz, "report_card", _broken(MemoryError()))
    command = ("evaluate", run, "--n", 100, "--steps", 1, "--reference", "glyphs", "--card", "card.png", "--json", "v.json")
    status, _, err = say(capsys, *command)
    assert (status, err) == (1, "minidiff: card.png: cannot be drawn (MemoryError); the samples are in card.npz\n")
    assert _samples("card.npz").shape == (100, 1, 32, 32) and json.loads(Path("v.json").read_text())["n"] == 100
    status, _, err = say(capsys, "evaluate", "card.npz", "--reference", "glyphs", "--card", "again.png")
    assert (status, err) == (1, "minidiff: not enough memory; ask for less, such as a smaller --batch, --n or --per-class\n")
    assert sorted(path.name for path in here.iterdir()) == ["card.npz", "v.json"]


def test_a_demos_samples_are_saved_before_they_are_drawn(here: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from minidiff import viz
    from minidiff.errors import Failed
    from minidiff.train.demo import SAMPLING, draw

    shutil.copytree(run, here / "run")
    monkeypatch.setitem(SAMPLING, "steps", 2)
    monkeypatch.setattr(viz, "class_grid", _broken(ValueError("no such glyph")))
    with pytest.raises(Failed, match=r"digits\.png: cannot be drawn \(ValueError: no such glyph\); the samples are in .*/digits\.npz$"):
        draw(here)
    assert _samples("digits.npz").shape == (100, 1, 32, 32)


@pytest.mark.parametrize("command", [
    "sample RUN --out a.png", "sample RUN --out a.npz", "sample RUN --out a.gif", "evaluate RUN --n 100 --json v.json --reference none"])
def test_samples_that_are_not_finite_are_one_line_and_status_1(here: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                                                               command: str) -> None:
    from minidiff import diffusion

    sample = diffusion.sample

    def broken(*args: Any, **options: Any) -> np.ndarray:
        images = np.array(sample(*args, **options))
        images[3, 0, 0, 0], images[7] = np.inf, np.nan
        return images

    monkeypatch.setattr(diffusion, "sample", broken)
    status, out, err = say(capsys, *command.replace("RUN", str(run)).split(), "--steps", 1)
    assert (status, out) == (1, "")
    assert err.startswith("minidiff: 2 of 100 samples are not finite (NaN or infinity); ") and err.count("\n") == 1
    assert not list(here.iterdir())


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_guidance_beyond_all_numbers_is_one_line(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = say(capsys, "sample", run, "--per-class", 1, "--guidance", 1e38, "--no-clip", "--out", "a.npz")
    assert (status, out) == (1, "") and " of 10 samples are not finite (NaN or infinity); " in err and err.count("\n") == 1
    assert not list(here.iterdir())


@pytest.mark.filterwarnings("ignore:viz. no font")
def test_a_class_may_have_any_name(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays, meta = checkpoint.load(run / "model.npz")
    checkpoint.save("$m_$.npz", arrays, {**meta, "classes": ["$x_$", "a$b$", "\\$", "_", "é", "\n", "\udce9", "%s", "{}", "'"]})
    for out in ("a.png", "a.gif"):
        status, said, _ = say(capsys, "sample", "$m_$.npz", "--per-class", 1, "--steps", 1, "--out", out)
        assert status == 0 and said.startswith(f"wrote {out}: 10 images")


def test_a_checkpoint_that_is_cut_is_refused(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (run / "model.npz").read_bytes()
    (here / "cut.npz").write_bytes(content[:-100])
    status, _, err = say(capsys, "sample", "cut.npz", "--out", "a.png")
    assert (status, err) == (2, "minidiff: cut.npz: truncated checkpoint (the archive's directory at its end is "
                                "missing); use another one\n")


@pytest.mark.parametrize(("text", "labels"), [(None, [0, 1, 2, 3, 4]), ("dress,none", [3, -1]), ("T-shirt,index:0", [4, 0])])
def test_classes_can_be_listed_in_any_way(text: str | None, labels: list[int]) -> None:
    assert cli.parse_classes(text, ("a", "b", "c", "dress", "T-shirt")) == labels


# ------------------------------------------------------------------------------------------------ the others

def test_summary_prints_the_reports_lines(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = say(capsys, "summary")
    assert status == 0
    assert "Created DownBlock: in_chs=32, out_chs=64, spatial_reduction=2x\n" in out
    assert "Created UpBlock: in_chs=128, skip_chs=64, out_chs=64, spatial_increase=2x\n" in out
    assert "Total trainable parameters: 957,513\n" in out
    assert "Approximate memory usage: 11.0 MB\n" in out


def test_summary_of_a_run_is_of_its_network(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = say(capsys, "summary", run)[1]
    assert f"{json.loads((run / 'record.json').read_text())['parameters']:,}" in out


@pytest.mark.parametrize("runs", [1, 2])
def test_plot_draws_one_run_or_compares_several(here: Path, run: Path, capsys: pytest.CaptureFixture[str],
                                                runs: int) -> None:
    assert say(capsys, "plot", *[run, run / "metrics.jsonl"][:runs], "--out", "loss.svg") == (0, "wrote loss.svg\n", "")
    assert (here / "loss.svg").read_text().startswith("<?xml")


def test_held_out_losses_of_one_run_are_drawn_alone(here: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from minidiff import viz

    drawn: list[dict] = []
    compare = viz.compare_curves
    monkeypatch.setattr(viz, "compare_curves", lambda curves, **options: drawn.append(curves) or compare(curves, **options))
    assert say(capsys, "plot", run, "--validation", "--out", "loss.png") == (0, "wrote loss.png\n", "")
    assert list(drawn[0]) == ["small"] and len(drawn[0]["small"][0]) == 1


def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minidiff.train.runs.main_runs", _broken(MemoryError("Unable to allocate 7 EiB")))
    assert say(capsys, "runs") == (1, "", "minidiff: not enough memory (Unable to allocate 7 EiB); ask for less, such as a smaller --batch, --n or --per-class\n")


@pytest.mark.parametrize(("option", "kind"), [((), np.float32), (("--half",), np.float16)])
def test_export_writes_the_weights_alone(here: Path, run: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, ...], kind: type) -> None:
    status, out, _ = say(capsys, "export", run / "best", *option, "--out", "w.npz")
    arrays, meta = checkpoint.load("w.npz")
    assert (status, out) == (0, f"wrote w.npz: {(here / 'w.npz').stat().st_size / 1e6:.1f} MB in {np.dtype(kind).name}\n")
    assert list(arrays) == ["model"] and {a.dtype for a in arrays["model"].values()} == {np.dtype(kind)}
    assert meta["held_out_loss"] == json.loads((run / "record.json").read_text())["best"]["loss"]
    assert say(capsys, "sample", "w.npz", "--per-class", 1, "--steps", 1, "--out", "a.png")[0] == 0


def test_import_makes_a_model_or_says_what_does_not_fit(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = checkpoint.load(run / "model.npz")[0]["model"]
    np.savez("w.npz", **weights)
    assert say(capsys, "import", "w.npz", "--config", run, "--out", "model.npz")[:2] == (0, f"fitting     {len(weights)} arrays\nwrote model.npz\n")
    assert say(capsys, "sample", "model.npz", "--per-class", 1, "--steps", 1, "--out", "a.png")[0] == 0
    status, out, err = say(capsys, "import", "w.npz", "--config", run, "--set", "model.channels=8,16,16", "--out", "other.npz")
    assert status == 2 and not (here / "other.npz").exists()
    assert "\ndifferent   downs.0.conv1.conv.weight is (8, 8, 3, 3) in the file, (16, 8, 3, 3) in the network\n" in out
    assert err == (f"minidiff: import: w.npz does not fit this network of preset tiny: {out.count('different   ')} of another "
                   "shape or type; nothing was written\n")


def _pets(folder: Path, classes: tuple[str, ...], mode: str = "RGB") -> Path:
    """A folder of two images of noise for each class."""
    from PIL import Image

    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(2):
            pixels = np.random.default_rng(10 * k + i).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_import_takes_channels_classes_and_their_names_from_a_folder(here: Path, capsys: pytest.CaptureFixture[str], mode: str, channels: int) -> None:
    _pets(here / "pets", ("bird", "cat", "dog"), mode)
    size = {"channels": [8, 16], "condition": "film", "time_dim": 8}
    np.savez("w.npz", **models.build({"in_channels": channels, "num_classes": 3, **size}).state_dict())
    network = ("--preset", "tiny", "--set", "model.channels=8,16", "model.time_dim=8", "model.patch=1")
    assert say(capsys, "import", "w.npz", "--data", "pets", *network, "--out", "model.npz")[0] == 0
    assert checkpoint.load_model("model.npz").classes == ("bird", "cat", "dog")
    assert say(capsys, "sample", "model.npz", "--classes", "dog", "--per-class", 1, "--steps", 1, "--out", "a.png")[0] == 0
    for field, value, has in (("num_classes", 5, "pets has 3 classes"), ("in_channels", 2, f"the images of pets have {channels}")):
        status, out, err = say(capsys, "import", "w.npz", "--data", "pets", *network, f"model.{field}={value}", "--out", "b.npz")
        assert (status, out, err) == (2, "", f"minidiff: import: model.{field} is {value}, and {has}; leave one of them out\n")
    assert say(capsys, "import", "w.npz", *network, "model.num_classes=3", f"model.in_channels={channels}", "--out", "n.npz")[0] == 0
    assert checkpoint.load_model("n.npz").classes == ("0", "1", "2")
    assert not Path("b.npz").exists()


def test_import_names_the_classes_of_a_data_set(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("w.npz", **checkpoint.load(run / "model.npz")[0]["model"])
    assert say(capsys, "import", "w.npz", "--config", run, "--data", "fashion-mnist", "--out", "model.npz")[0] == 0
    assert checkpoint.load_model("model.npz").classes[-1] == "Ankle boot"


def test_a_model_of_weights_that_are_not_finite_is_refused_by_every_command(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays, meta = checkpoint.load(run / "model.npz")
    arrays["model"]["init.conv.bias"][:] = np.nan
    checkpoint.save("bad.npz", arrays, meta)
    for command in ("sample bad.npz --out a.png", "evaluate bad.npz", "export bad.npz --out a.npz", "export bad.npz --half --out a.npz",
                    "train --data glyphs --preset tiny --out new --start bad.npz --set model.channels=8,8,16 model.time_dim=8 model.patch=1 model.target=eps"):
        status, out, err = say(capsys, *command.split())
        assert (status, out, err) == (2, "", "minidiff: bad.npz: init.conv.bias holds NaN or infinity (8 of 8 numbers); the model cannot be used\n")
    assert sorted(path.name for path in here.iterdir()) == ["bad.npz"]


def test_runs_are_listed_with_what_became_of_them(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = say(capsys, "runs", run.parent)
    head, line = out.splitlines()
    record = json.loads((run / "record.json").read_text())
    assert status == 0
    assert head.split() == ["run", "preset", "data", "steps", "loss", "held", "out", "time", "status", "when"]
    assert line.split() == ["small", "tiny", "glyphs", "6/6", f"{record['final_loss']:.4f}", f"{record['validation_losses'][-1][1]:.4f}",
                            line.split()[6], "finished", record["launches"][-1]["started"]]
    (here / "runs").mkdir()
    assert say(capsys, "runs") == (0, "no runs in runs; minidiff train makes one\n", "")


def test_runs_of_the_same_name_are_told_apart() -> None:
    assert cli._short_names(["a/first", "b/second/metrics.jsonl"]) == ["first", "second"]
    assert cli._short_names(["a/run", "b/run"]) == ["a/run", "b/run"]


def test_data_list_and_verify_say_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = say(capsys, "data", "list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["mnist", "fashion-mnist", "cifar10", "glyphs"]
    for name, files in (("mnist", 4), ("fashion-mnist", 4), ("cifar10", 6)):
        if f"{name:<14} ready" not in out:               # a system's package may hold Fashion-MNIST
            status, said, _ = say(capsys, "data", "verify", name)
            assert (status, said.count("FAILED"), said.count(": not found in ")) == (1, files, files)


@pytest.fixture
def shapes(here: Path) -> Path:
    """A folder of two classes, twelve coloured images of 40x48 each."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("bar", "dot"):
        (here / "pictures" / "shapes" / name).mkdir(parents=True)
        for k in range(12):
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(here / "pictures" / "shapes" / name / f"{k}.png")
    return here / "pictures" / "shapes"


@pytest.mark.parametrize("size", [0, 40])
def test_what_follows_a_download_begins_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    from minidiff import data

    def fetch(name: str, progress: Any) -> None:
        for done in (10, 40):
            progress("images.gz", done, size)

    monkeypatch.setattr(data, "fetch", fetch)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert say(capsys, "data", "fetch", "mnist")[2].endswith(("0.0 MB\n", "100 %\n"))


def test_a_folder_of_images_is_trained_on_and_gone_on_with(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--preset", "tiny", "--data", shapes, "--batch", "2", "-T", "10", "--sheet-every", "0", "--threads", "1")
    status, out, err = say(capsys, "train", *options, "--steps", "2")
    assert status == 0, err
    assert "wrote runs/shapes-tiny/model.npz" in out       # beside the other runs, wherever the folder lies
    meta = checkpoint.load(Path("runs/shapes-tiny/model.npz"))[1]
    assert (meta["model"]["in_channels"], meta["classes"]) == (3, ["bar", "dot"])
    status, out, err = say(capsys, "train", *options, "--steps", "3", "--resume")
    assert status == 0 and "going on after step 2" in out, err


QUICK = ("--preset", "tiny", "--batch", "2", "-T", "10", "--sheet-every", "0", "--threads", "1")


def test_classes_and_counts_are_printed_before_the_first_step_and_recorded(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes.rename(shapes.with_name("TRAINING"))
    for split in ("Test", "Validation"):
        shutil.copytree(shapes.with_name("TRAINING") / "dot", shapes.parent / split / "dot")
    status, out, err = say(capsys, "train", *QUICK, "--data", shapes.parent, "--steps", "1", "--out", "run")
    assert status == 0, err
    note = "Validation is not used: the held-out images are those in Test"
    assert f"\nclasses           2: bar (12), dot (12)\nheld out          12 images\nnote              {note}\n" in out
    assert json.loads(Path("run/record.json").read_text())["data"] == {"classes": {"bar": 12, "dot": 12}, "held_out": 12, "notes": [note]}


@pytest.mark.parametrize("change, said", [
    (lambda folder: (folder / "bar").rename(folder / "square"), "lacks bar and adds square"),
    (lambda folder: shutil.copytree(folder / "bar", folder / "cross"), "adds cross"),
    (lambda folder: shutil.rmtree(folder / "bar"), "lacks bar"),
], ids=["renamed", "added", "removed"])
def test_a_run_is_not_resumed_with_other_classes(shapes: Path, capsys: pytest.CaptureFixture[str], change: Any, said: str) -> None:
    assert say(capsys, "train", *QUICK, "--data", shapes, "--steps", "1", "--out", "run")[0] == 0
    change(shapes)
    status, _, err = say(capsys, "train", "--out", "run", "--resume", "--steps", "2")
    assert (status, err) == (2, f"minidiff: run/checkpoints/step_00000001.npz: this run's classes are bar, dot; {shapes} {said}; "
                                "restore the folder to resume the run, or give another --out\n")


def test_one_image_of_each_class_trains_without_held_out_images(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in shapes.glob("*/*.png"):
        if path.name != "0.png":
            path.unlink()
    status, _, err = say(capsys, "train", *QUICK, "--data", shapes, "--steps", "1", "--out", "run")
    assert status == 2 and err.endswith("if the class has two or more; to train without held-out images: --set validate=0\n") and not Path("run").exists()
    status, out, err = say(capsys, "train", *QUICK, "--data", shapes, "--steps", "1", "--out", "run", "--set", "validate=0")
    assert status == 0 and "classes           2: bar (1), dot (1)\nheld out          0 images\n" in out, err


def test_a_damaged_image_is_named_by_verify_and_by_train(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = say(capsys, "data", "verify", shapes)
    assert status == 0 and out.count("ok    ") == 2
    (shapes / "dot" / "3.png").write_bytes(b"no image")
    status, out, _ = say(capsys, "data", "verify", shapes)
    assert status == 1 and f"FAILED  {shapes / 'dot' / '3.png'}: cannot be decoded (" in out
    status, _, err = say(capsys, "train", "--preset", "tiny", "--data", shapes, "--steps", "1")
    assert status == 2 and err.startswith(f"minidiff: {shapes / 'dot' / '3.png'}: cannot be decoded (")


# ------------------------------------------------------------------------------------------------ demo

def test_demo_makes_what_it_lists_and_can_be_run_again(here: Path, monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    from minidiff.train import demo as module

    monkeypatch.setattr(module, "preset", lambda name: SMALL)
    monkeypatch.setattr(module, "SAMPLING", {"sampler": "ddim", "steps": 3})
    for _ in range(2):                                   # the second time over its own files
        status, out, _ = say(capsys, "demo", "--out", "show")
        assert status == 0
        listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and "minidiff" not in line]
        assert listed == ["digits.png", "denoising.gif", "film.png", "forward.png", "loss.png", "run/"]
        assert all((here / "show" / name).exists() for name in listed)
        assert "on glyphs, digits drawn from fonts (no MNIST files at hand" in out
    command = next(line for line in out.splitlines() if line.startswith("  minidiff sample "))
    assert say(capsys, *command.split()[1:])[0] == 0
    assert (here / "show/mine.png").exists()


def test_demo_never_writes_among_other_files(here: Path) -> None:
    (here / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds files that no demo made; give a new or an empty folder as --out$"):
        demo(here, say=io.StringIO().write)
    assert [p.name for p in here.iterdir()] == ["thesis.txt"]


def test_a_demo_at_work_is_not_written_over(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minidiff.train.lock import only_run

    (here / "run").mkdir()
    (here / ".minidiff-demo").touch()
    (here / "run/model.npz").write_text("of the other demo")
    with only_run(here / "run"), pytest.raises(BadInput, match=f"run: another run is at work here .process {os.getpid()} on "):
        demo(here, say=io.StringIO().write)
    assert (here / "run/model.npz").read_text() == "of the other demo"


def test_film_keeps_evenly_spread_moments_and_the_last() -> None:
    times = [10, 8, 6, 4, 2, 0]
    film = Film(3, times, moments=3)
    for indices in (np.array([0, 1]), np.array([2])):    # two batches
        for step, s in enumerate(times[1:], 1):
            xs = np.full((len(indices), 1, 2, 2), s, np.float32)
            film(step, s, xs, -xs, indices)
    assert film.steps.tolist() == [8, 4, 0]
    assert film.xt.shape == (3, 3, 1, 2, 2)
    np.testing.assert_array_equal(film.xt[:, :, 0, 0, 0], np.repeat([[8], [4], [0]], 3, 1))
    np.testing.assert_array_equal(film.x0_hat, -film.xt)


@pytest.mark.parametrize("options", [
    ("--sampler", "ddim", "--eta", 0.5), ("--sampler", "heun", "--churn", 2), ("--sampler", "dpm++", "--guidance", 2, "--negative", 3),
    ("--sampler", "midpoint", "--guidance", 2, "--guidance-interval", 0, 0.5), ("--guidance", 2, "--guidance-rescale", 0.7), ("--no-clip",),
    ("--dynamic-clip",), ("--variance", "large"), ("--judge", 5), ("--judge", 1, "--judge-alone"),
], ids=str)  # fmt: skip
def test_every_option_of_a_sampler_changes_what_is_drawn(here: Path, run: Path, options: tuple[object, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Against the same command without the option that stands last (and its value)."""
    keep = next(i for i in reversed(range(len(options))) if str(options[i]).startswith("--"))
    drawn = []
    for chosen in (options[:keep], options):
        status, _, err = say(capsys, "sample", run, "--classes", "1,7", "--per-class", 2, "--steps", 4, *chosen, "--out", f"{len(drawn)}.npz")
        assert status == 0, err
        with np.load(f"{len(drawn)}.npz") as archive:
            drawn.append(archive["images"])
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3


def test_style_can_be_trained_and_asked_for(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", SMALL)
    assert say(capsys, "train", "--preset", "small", "--style", "slant", "weight", "--out", "styled")[0] == 0
    for k, style in enumerate((["slant=-25"], ["slant=25"], ["slant=25", "weight=4"])):
        status, _, err = say(capsys, "sample", "styled", "--classes", "1,7", "--per-class", 2, "--steps", 4, "--style", *style, "--out", f"{k}.npz")
        assert status == 0, err
    drawn = [np.load(f"{k}.npz")["images"] for k in range(3)]
    assert abs(drawn[0] - drawn[1]).max() > 1e-4 and abs(drawn[1] - drawn[2]).max() > 1e-4
    for asked, message in (("mood=1", "style 'mood' is not in this model; it knows slant, weight"),
                           ("slant", "sample: cannot read --style slant; write slant=")):  # fmt: skip
        status, _, err = say(capsys, "sample", "styled", "--style", asked, "--out", "a.npz")
        assert status == 2 and message in err
    assert say(capsys, "evaluate", "styled", "--n", 10, "--steps", 2, "--style", "weight=4", "--json", "v.json")[0] == 0
    assert json.loads(Path("v.json").read_text())["style"] == ["weight=4"]


def test_where_no_style_is_asked_for_each_picture_is_told_one_of_its_class(here: Path, capsys: pytest.CaptureFixture[str],
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """One process or several, whole or in parts: picture i is told the same style; a model of an older checkpoint is told none."""
    from minidiff import diffusion
    from minidiff.train import load_model

    told, sample = [], diffusion.sample
    monkeypatch.setattr(diffusion, "sample", lambda *a, **k: (told.append(k["style"]), sample(*a, **k))[1])
    monkeypatch.setitem(PRESETS, "small", SMALL)
    assert say(capsys, "train", "--preset", "small", "--style", "slant", "weight", "--out", "styled", "--set", "sheet_every=3")[0] == 0
    scale, each = load_model("styled").style, np.repeat([1, 7], 3)
    assert all(np.array_equal(style, scale.drawn(np.tile(np.arange(10), len(style) // 10), SMALL.seed)) for style in told) and told      # the sheets
    for options, wanted in (((), None), (("--style", "slant=20"), scale.asked({"slant": 20.0}))):
        assert say(capsys, "sample", "styled", "--classes", "1,7", "--per-class", 3, "--steps", 2, "--seed", 5, *options, "--out", "a.npz")[0] == 0
        assert np.array_equal(told[-1], scale.drawn(each, 5, wanted)) and not np.isnan(told[-1]).any()
    assert say(capsys, "evaluate", "styled", "--n", 10, "--steps", 2, "--json", "v.json")[0] == 0
    assert json.loads(Path("v.json").read_text())["style"] == "drawn"
    assert say(capsys, "sample", "styled", "--per-class", 1, "--steps", 2, "--judge", 1, "--judge-alone", "--seed", 5, "--out", "a.npz")[0] == 0
    assert np.array_equal(told[-1], scale.drawn(np.full(10, -1), 5))                                 # which says nothing of the class
    older = dataclasses.replace(scale, quantiles=())
    monkeypatch.setattr("minidiff.train.checkpoint.Loaded.style", older)
    assert say(capsys, "sample", "styled", "--per-class", 1, "--steps", 2, "--out", "a.npz")[0] == 0 and told[-1] is None


def test_evaluate_holds_samples_against_a_data_set_and_draws_a_card(here: Path, run: Path, capsys: pytest.CaptureFixture[str],
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    from minidiff import data

    load = data.load

    def few_and_of_zeros_fewer(name: str, split: str = "train", limit: int | None = None) -> data.Dataset:
        whole = load(name, split, limit=600 if split == "train" else 200)
        kept = (whole.labels != 0) | (np.arange(len(whole)) % 20 == 0) | (split == "test")
        return data.Dataset(whole.name, whole.images[kept], whole.labels[kept], whole.classes)

    monkeypatch.setattr(data, "load", few_and_of_zeros_fewer)
    status, out, err = say(capsys, "evaluate", run, "--n", 100, "--steps", 2, "--reference", "glyphs", "--card", "card.png", "--json", "v.json")
    assert status == 0, err
    assert "100 samples beside as many images of glyphs" in out and out.endswith("wrote v.json\nwrote card.png\n")
    found = json.loads(Path("v.json").read_text())
    assert found["controls"]["noise"]["frechet"] > found["frechet_floor"] and found["network_evaluations"] == 100 * 2 * 2
    frequent = 100 * np.bincount(data.load("glyphs").labels) / len(data.load("glyphs"))
    assert frequent[0] < 7 and all(abs(found["by_class"][str(k)]["n"] - frequent[k]) < 1 for k in range(10))
    assert say(capsys, "sample", run, "--per-class", 10, "--steps", 1, "--out", "$x_$.npz")[0] == 0
    status, out, err = say(capsys, "evaluate", "$x_$.npz", "--reference", "glyphs", "--card", "$x_$.png")
    assert status == 0 and out.endswith("wrote $x_$.png\n"), err
    status, out, _ = say(capsys, "evaluate", run, "--n", 20, "--steps", 2, "--reference", "glyphs")
    assert status == 0 and "(the judge's verdict alone: 20 samples are too few to be held against glyphs; 100 to 2,000 would do)" in out


def test_samples_that_are_there_take_no_options_of_a_sampler(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, "sample", run, "--classes", "1", "--per-class", 2, "--steps", 1, "--out", "x.npz")[0] == 0
    assert say(capsys, "evaluate", "x.npz", "--reference", "none")[0] == 0
    for options, name in ((("--steps", 5), "steps"), (("--guidance", 0), "guidance"), (("--no-clip",), "no-clip"), (("--style", "slant=1"), "style"),
                          (("--n", 5), "n"), (("--seed", 1, "--precision", "tf32"), "precision, --seed"), (("--device", "cuda"), "device")):
        status, _, err = say(capsys, "evaluate", "x.npz", *options)
        assert (status, err) == (2, f"minidiff: evaluate: x.npz holds samples, which --{name} cannot change; they apply to models only\n")
