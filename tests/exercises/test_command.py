"""`minidiff exercises`: what learners and teachers meet."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minidiff import cli
from minidiff.exercises.labs import FAULTS, LABS, healthy_text, lab_text
from minidiff.exercises.tasks import TASKS
from minidiff.exercises.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIDIFF_TRACEBACK", raising=False)
    return tmp_path


@pytest.fixture
def say(capsys):
    def run(*argv):
        """Exit status, stdout and stderr."""
        status = cli.main(["exercises", *map(str, argv)])
        return (status, *capsys.readouterr())

    return run


@pytest.fixture
def folder(here, say):
    assert say("start")[0] == 0
    return here / "minidiff-exercises"


def write(folder, name, text):
    """The learner's file of an exercise."""
    path = Workspace(folder).path(TASKS[name])
    path.write_text(text, encoding="utf-8")
    return path


def progress(folder):
    return json.loads((folder / "progress.json").read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------- begin, list


def test_start_writes_a_file_for_each_and_overwrites_none(folder, say):
    files = sorted(path.name for path in folder.iterdir())
    assert len(files) == len(TASKS) + 1 and files[:2] == ["01_strides.py", "02_sum_to.py"] and any(name.endswith("_noisy.cu") for name in files)
    mine = write(folder, "strides", "mine")
    (folder / "02_sum_to.py").unlink()
    status, out, _ = say("start")
    assert status == 0 and mine.read_text() == "mine" and (folder / "02_sum_to.py").exists()
    assert out.startswith(f"minidiff-exercises: 1 exercises written, {len(TASKS) - 1} were there and stay as they are\n")


def test_list_shows_all_with_or_without_a_folder(here, say):
    status, out, _ = say()
    assert status == 0 and out.splitlines()[1].split() == ["1", "strides", "Where", "an", "element", "lies", "1", "easy", "10"]
    assert f"\n{len(TASKS)} exercises, about " in out and not list(here.iterdir())
    say("start")
    out = say("list")[1]
    assert out.splitlines()[1].endswith("10  to do") and f"\n0 of {len(TASKS)} passed, and 0 labs, in minidiff-exercises\nnext: " in out


def test_list_of_one_chapter(here, say):
    assert [line.split()[1] for line in say("list", "--chapter", 2)[1].splitlines()[1:4]] == ["backward_order", "backprop", "matmul_backward"]


def test_files_of_an_older_version_that_nobody_has_touched_are_not_begun(folder, say):
    write(folder, "guided", TASKS["guided"].stub().replace("Guidance", "Guiding"))
    assert say("check")[1].startswith("nothing has been begun\n")


def test_the_folder_is_found_from_inside_and_by_its_name(folder, say, monkeypatch):
    assert say("check", "--dir", folder)[1].startswith("nothing has been begun\nnext: ")
    monkeypatch.chdir(folder)
    assert say("check")[1].startswith("nothing has been begun\nnext: 01_strides.py ")


# ------------------------------------------------------------------------------------- check

CASES = {
    "passed": (TASKS["sum_to"].solution_file(), 0, ["passed  sum_to, 7 cases; minidiff exercises solution sum_to shows ours", "next: minidiff-exercises/01_strides.py   then"]),
    "to do": (TASKS["sum_to"].stub(), 1, ["to do   sum_to: nothing is written yet in minidiff-exercises/02_sum_to.py"]),
    "wrong": (
        "def sum_to(gy, shape):\n    x = gy.sum(axis=tuple(range(gy.ndim - len(shape))))\n    return x\n", 1,
        ["wrong   sum_to\n        case           gy (4, 3), shape (4, 1)\n        expected       shape (4, 1)\n        got            shape (4, 3)\n",
         "        likely cause   axes of length 1 were repeated too, and must be summed as well\n        next           minidiff exercises hint sum_to\n"],
    ),
    "a number": (
        "def sum_to(gy, shape):\n    import numpy as np\n    y = gy.sum(axis=tuple(range(gy.ndim - len(shape))))\n    y = y.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)\n"
        "    return y * 1.5 if y.shape == (4, 1) else y\n", 1,
        ["        first wrong    result[0,0]\n        expected       ", "        largest error  ", "4 of 4 numbers wrong", "likely cause   it is 1.5 times what it should be\n"],
    ),
    "no cause": (
        "def sum_to(gy, shape):\n    import numpy as np\n    return np.arange(1.0, 1 + int(np.prod(shape))).reshape(shape) ** 2 / 7\n", 1,
        ["likely cause   none that is known: begin with the first wrong number\n"],
    ),
    "syntax": ("def sum_to(gy, shape):\n    return (gy\n\n\nx = 1\n", 1, ["failed  sum_to\n        where          line 2 of 02_sum_to.py: return (gy\n        likely cause   SyntaxError: '(' was never closed\n"]),
    "raises": ("def sum_to(gy, shape):\n    y = gy\n    return y.summ(0)\n", 1, ["where          line 3 of 02_sum_to.py: return y.summ(0)\n        likely cause   AttributeError: 'numpy.ndarray' object has no attribute 'summ'\n"]),
    "import": ("import numpi\n", 1, ["where          line 1 of 02_sum_to.py: import numpi\n        likely cause   ModuleNotFoundError: No module named 'numpi'\n"]),
    "no function": ("def sumto(gy, shape):\n    return gy\n", 1, ["failed  sum_to\n        likely cause   there is no function sum_to(gy, shape) in it\n"]),
    "too few arguments": ("def sum_to(gy):\n    return gy\n", 1, ["likely cause   TypeError: sum_to() takes 1 positional argument but 2 were given\n"]),
    "leaves": ("def sum_to(gy, shape):\n    raise SystemExit\n", 1, ["where          line 2 of 02_sum_to.py: raise SystemExit\n        likely cause   SystemExit\n"]),
    "dies": ("import os\n\n\ndef sum_to(gy, shape):\n    os._exit(7)\n", 1, ["failed  sum_to\n        likely cause   the program ended while it ran (exit status 7: it said nothing)\n"]),
    "no text": ("\x00", 1, ["failed  sum_to\n"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_check_says_what_it_found(kind, folder, say):
    text, status, lines = CASES[kind]
    write(folder, "sum_to", text)
    found, out, err = say("check", "sum_to")
    assert found == status and err == ""
    for line in lines:
        assert line in out


def test_a_loop_without_end_is_stopped_with_its_line_and_the_others_are_checked_all_the_same(folder, say):
    write(folder, "strides", "def strides(shape, itemsize):\n    n = 0\n    while True:\n        n += 1\n")
    write(folder, "sum_to", TASKS["sum_to"].solution_file())
    write(folder, "guided", TASKS["guided"].solution_file())
    started = time.perf_counter()
    status, out, _ = say("check", "--seconds", 2)
    assert status == 1 and time.perf_counter() - started < 25
    assert "stopped strides\n        where          line " in out and "no end after 2 s: a loop that never ends?" in out
    assert any(f"line {n} of 01_strides.py: " in out for n in (3, 4))
    assert "passed  sum_to" in out and "passed  guided" in out and "\n3 checked: 1 stopped, 2 passed\n" in out


def test_what_the_readme_shows_is_what_is_said(folder, say):
    (shown,) = re.findall(r"```\n(wrong   conv2d_backward\n.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    task = TASKS["conv2d_backward"]
    write(folder, "conv2d_backward", task.wrong_file(task.mistakes[0]))
    assert say("check", "conv2d_backward")[1] == shown


def test_what_a_learner_prints_is_seen(folder):
    write(folder, "guided", "def guided(cond, uncond, w):\n    print('w is', w)\n    return cond\n")
    done = subprocess.run([sys.executable, "-m", "minidiff", "exercises", "check", "guided"], cwd=folder.parent, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 1 and "w is 2.0\n" in done.stdout and "wrong   guided" in done.stdout


BAD = [
    ("check sum_too", "exercises: there is no exercise 'sum_too'; did you mean sum_to?"),
    ("check lab_99", "exercises: there is no lab 'lab_99'; there are lab_01 to lab_15"),
    ("check lab_03", "exercises: minidiff-exercises/lab_03.py is missing; minidiff exercises lab lab_03 writes it"),
    ("check strides --seconds 0", "exercises: --seconds must be above 0, got 0"),
    ("check strides --dir nowhere", "exercises: nowhere is no folder of exercises; minidiff exercises start nowhere makes one"),
    ("list --dir nowhere", "exercises: nowhere is no folder of exercises; minidiff exercises start nowhere makes one"),
    ("list --chapter 29", "exercises: --chapter must be 1 to 28, got 29"),
    ("start file", "exercises: file is a file; give a folder"),
    ("solution strides", "exercises: strides has not passed yet; minidiff exercises hint strides helps, and --anyway shows the solution all the same"),
    ("reset strides sum_to", "exercises: reset asks first; add --yes to put strides, sum_to back without being asked"),
    ("swap strides", "exercises: strides has no place in the network or the sampler; these have: conv2d, "),
    ("swap guided --train 0", "exercises: --train must be 1 or more steps, got 0"),
    ("setup class --names ,", "exercises: --names must be different names, separated by commas, such as ada,emmy,sofia"),
    ("setup class --names ada,ada", "exercises: --names must be different names, separated by commas, such as ada,emmy,sofia"),
    ("setup class --names ada --labs 99", "exercises: --labs must be 0 to 15, got 99"),
    ("export a.txt", "exercises: a.txt: the file must end in .json"),
    ("report none.json", "exercises: none.json cannot be read ("),
    ("report minidiff-exercises/progress.json", "exercises: minidiff-exercises/progress.json cannot be read (it is no export of exercises); minidiff exercises export writes such a file"),
    ("prove --json a.txt", "--json a.txt: unknown ending '.txt'; it must be .json"),
    ("hint", "exercises hint: the following arguments are required: NAME; see minidiff exercises hint --help"),
    ("teach", "exercises: argument ACTION: invalid choice: 'teach'"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "message"), BAD, ids=[command for command, _ in BAD])
def test_a_bad_input_gets_one_clear_line_and_status_2(command, message, folder, say, monkeypatch):
    (folder.parent / "file").write_text("")
    monkeypatch.setattr("sys.stdin", open(os.devnull))
    status, _, err = say(*command.split())
    assert status == 2 and err.startswith(f"minidiff: {message}") and err.count("\n") == 1, err


def test_a_missing_file_and_a_broken_progress_are_told(folder, say):
    (folder / "01_strides.py").unlink()
    assert say("check", "strides")[2] == "minidiff: exercises: minidiff-exercises/01_strides.py is missing; minidiff exercises start minidiff-exercises writes it anew\n"
    assert "file is missing" in say("list")[1].splitlines()[1]
    (folder / "progress.json").write_text('{"format": 1, "tas', encoding="utf-8")
    status, _, err = say("check")
    assert status == 2 and "progress.json cannot be read (" in err and "move it away, and minidiff exercises start begins a new one" in err
    (folder / "progress.json").write_text('{"format": 9, "tasks": {}, "labs": {}}', encoding="utf-8")
    assert "of format 9, and this version knows 1" in say("check")[2]


# ------------------------------------------------------------------------------------- progress, hints, solutions


def test_attempts_count_changed_files_and_the_first_pass_is_kept(folder, say):
    write(folder, "guided", "def guided(cond, uncond, w):\n    return cond\n")
    for _ in range(2):
        say("check", "guided")
    assert progress(folder)["tasks"]["guided"]["attempts"] == 1
    write(folder, "guided", TASKS["guided"].solution_file())
    say("check", "guided")
    first = progress(folder)["tasks"]["guided"]
    assert first["attempts"] == 2 and first["passed"] and first["state"] == "passed"
    write(folder, "guided", "def guided(cond, uncond, w):\n    return uncond\n")
    say("check", "guided")
    last = progress(folder)["tasks"]["guided"]
    assert (last["attempts"], last["passed"]) == (2, first["passed"])
    say("check", "film")
    assert progress(folder)["tasks"]["film"]["attempts"] == 0                      # nothing is written, so nothing was tried


def test_time_counts_as_work_up_to_ten_minutes_a_gap(folder, monkeypatch):
    now = [time.time()]
    monkeypatch.setattr("minidiff.exercises.workspace.time.time", lambda: now[0])
    workspace = Workspace(folder)
    for minutes in (2, 60, 3):
        now[0] += 60 * minutes
        workspace.note("film", hints=1)
    assert progress(folder)["tasks"]["film"]["seconds"] == pytest.approx(60 * (2 + 10 + 3), abs=2)


def test_progress_is_old_or_new_but_never_half_when_the_program_is_killed(folder):
    code = ("import sys; from pathlib import Path; from minidiff.exercises.workspace import Workspace\n"
            "w = Workspace(Path(sys.argv[1]))\nprint('go', flush=True)\nfor i in range(10**6): w.note('film', hints=i, note='x' * 50_000)")  # fmt: skip
    for moment in (0.05, 0.11, 0.2):
        process = subprocess.Popen([sys.executable, "-c", code, str(folder)], env=ENVIRONMENT, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(moment)
        process.kill()
        process.wait()
        assert len(progress(folder)["tasks"]["film"]["note"]) == 50_000


def test_hints_come_one_by_one_and_the_solution_after_a_pass_or_on_request(folder, say):
    for n in (1, 2, 3, 3):
        out = say("hint", "film")[1]
        assert out.startswith(f"hint {n} of 3 for film: {TASKS['film'].hints[n - 1]}\n")
    assert "--anyway shows the solution" in out and progress(folder)["tasks"]["film"]["hints"] == 3
    assert say("solution", "film", "--anyway")[1] == TASKS["film"].source().rstrip() + "\n"
    assert progress(folder)["tasks"]["film"]["solution"] is True and "solution seen" in say("list")[1]
    write(folder, "guided", TASKS["guided"].solution_file())
    say("check", "guided")
    assert say("solution", "guided")[0] == 0 and progress(folder)["tasks"]["guided"]["solution"] is False


def test_reset_keeps_every_file_that_was_there(folder, say):
    for k, name in enumerate(("02_sum_to.py.bak", "02_sum_to.py.bak2")):
        write(folder, "sum_to", f"mine {k}")
        status, out, _ = say("reset", "2", "--yes")
        assert status == 0 and out == f"minidiff-exercises/02_sum_to.py: as it was given out; yours is in {name}\n"
        assert (folder / name).read_text() == f"mine {k}" and (folder / "02_sum_to.py").read_text(encoding="utf-8") == TASKS["sum_to"].stub()


@pytest.mark.parametrize(("answer", "kept"), [("n", True), ("", True), ("y", False)])
def test_reset_asks_at_a_terminal(answer, kept, folder, say, monkeypatch):
    write(folder, "sum_to", "mine")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert say("reset", "sum_to")[0] == 0
    assert ((folder / "02_sum_to.py").read_text(encoding="utf-8") == "mine") == kept


def test_watch_checks_what_is_saved_and_leaves_by_ctrl_c(folder):
    process = subprocess.Popen([sys.executable, "-u", "-m", "minidiff", "exercises", "watch"], cwd=folder.parent, env=ENVIRONMENT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, encoding="utf-8",
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    # (A process that was started in the background may have inherited that Ctrl-C is not for it.)
    try:
        assert process.stdout.readline().startswith("watching minidiff-exercises; Ctrl-C ends it") and process.stdout.readline().startswith("next: ")
        write(folder, "guided", "def guided(cond, uncond, w):\n    return (1 - w) * cond + w * uncond\n")
        lines = [process.stdout.readline() for _ in range(8)]
        assert lines[0] == "wrong   guided\n" and any("the sign of w is the wrong one" in line for line in lines)
        write(folder, "guided", TASKS["guided"].solution_file())
        assert process.stdout.readline().startswith("passed  guided, 3 cases") and process.stdout.readline().startswith("next: ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out, err) == (0, f"\n1 of {len(TASKS)} passed\n", "")
    finally:
        process.kill()


# ------------------------------------------------------------------------------------- labs


def test_a_lab_is_given_out_without_its_answer_and_never_overwritten(folder, say):
    status, out, _ = say("lab")
    assert status == 0 and out.startswith("minidiff-exercises/lab_01.py: written; run it, name the fault in it, repair it, then ")
    text = (folder / "lab_01.py").read_text(encoding="utf-8")
    assert 'FAULT = ""' in text and all(f"    {name} " in text for name in FAULTS)
    (folder / "lab_01.py").write_text("mine")
    assert "was there and stays as it is" in say("lab", "1")[1] and (folder / "lab_01.py").read_text() == "mine"
    assert "lab_09.py: written" in say("lab", "short-linear")[1]


@pytest.mark.parametrize("lab", LABS)
def test_a_lab_differs_from_the_healthy_script_by_its_fault_alone(lab):
    right, wrong = FAULTS[LABS[lab]]
    text = lab_text(lab)
    assert wrong in text and text.replace(wrong, right).endswith(healthy_text())
    compile(text, lab, "exec")


def test_a_lab_passes_when_the_fault_is_named_and_gone(folder, say, monkeypatch):
    say("lab", "lab_01")
    path = folder / "lab_01.py"
    broken = path.read_text(encoding="utf-8")

    def check(text):
        path.write_text(text, encoding="utf-8")
        status, out, _ = say("check", "lab_01")
        return status, out

    assert check(broken) == (1, "to do   lab_01: nothing is written yet in minidiff-exercises/lab_01.py\n")
    status, out = check(broken.replace('FAULT = ""', 'FAULT = "no-clock"'))
    assert status == 1 and "likely cause   the clinic's check for it, hears_the_step, is content: answers at t = 5 and t = 90 differ by" in out
    assert "there is no such fault; did you mean stops-early?" in check(broken.replace('FAULT = ""', 'FAULT = "stop-early"'))[1]
    named = broken.replace('FAULT = ""', 'FAULT = "stops-early"')
    status, out = check(named)
    assert status == 1 and "the fault is named rightly, and is still there" in out and "arrives_at_the_picture" in out
    status, out = check(named.replace("(road.T, steps)[:-1]", "(road.T, steps)"))
    assert (status, out.splitlines()[0]) == (0, "passed  lab_01, 14 checks")
    assert progress(folder)["labs"]["lab_01"]["passed"] and "lab_02.py: written" in say("lab")[1]


def test_a_lab_has_hints_a_solution_and_a_way_back(folder, say):
    say("lab", "lab_01")
    hints = [say("hint", "lab_01")[1] for _ in range(3)]
    assert hints[0].startswith("hint 1 of 3 for lab_01: what it draws: ") and "the clinic's check arrives_at_the_picture complains: " in hints[1]
    assert hints[2].startswith("hint 3 of 3 for lab_01: the cure: down to t = 0\n")
    assert say("solution", "lab_01")[0] == 2
    assert say("solution", "lab_01", "--anyway")[1].startswith('FAULT = "stops-early"            the last denoising step is left out\n')
    (folder / "lab_01.py").write_text("mine")
    assert say("reset", "lab_01", "--yes")[1] == "minidiff-exercises/lab_01.py: as it was given out; yours is in lab_01.py.bak\n"
    assert (folder / "lab_01.py").read_text(encoding="utf-8") == lab_text("lab_01") and (folder / "lab_01.py.bak").read_text() == "mine"


def test_a_lab_that_breaks_something_else_is_told(tmp_path):
    from minidiff.exercises.labs import mark_lab

    path = tmp_path / "lab_01.py"
    path.write_text(lab_text("lab_01").replace('FAULT = ""', 'FAULT = "stops-early"').replace("[:-1]", "").replace("2 * pictures - 1", "pictures"), encoding="utf-8")
    assert mark_lab("lab_01", path).case.startswith("fills_the_range: ")
    path.write_text("FAULT = 'stops-early'\n", encoding="utf-8")
    assert "NETWORK" in mark_lab("lab_01", path).cause
    path.write_text("def\n", encoding="utf-8")
    assert mark_lab("lab_01", path).cause == "SyntaxError: invalid syntax"


@pytest.mark.slow
def test_the_labs_script_trains_and_draws(tmp_path):
    text = healthy_text().replace("STEPS, BATCH, LR = 300, 32, 5e-3", "STEPS, BATCH, LR = 2, 8, 5e-3").replace("limit=2000", "limit=50").replace("np.arange(10), 8", "np.arange(10), 1")
    (tmp_path / "lab.py").write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, "lab.py"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0 and "wrote lab.png" in done.stdout, done.stderr
    assert (tmp_path / "lab.png").stat().st_size > 1000


# ------------------------------------------------------------------------------------- teachers


def test_a_class_is_set_up_works_hands_in_and_is_reported(here, say):
    status, out, _ = say("setup", "class", "--names", "Ada, Emmy N.", "--labs", 2)
    assert status == 0 and out.startswith(f"class: 2 folders of {len(TASKS)} exercises and 2 labs: Ada, Emmy-N\n")
    labs = [sorted(path.name for path in (here / "class" / name).glob("lab_*.py")) for name in ("Ada", "Emmy-N")]
    assert labs == [["lab_01.py", "lab_02.py"], ["lab_03.py", "lab_04.py"]]
    write(here / "class" / "Ada", "guided", TASKS["guided"].solution_file())
    write(here / "class" / "Emmy-N", "guided", "def guided(cond, uncond, w):\n    return cond\n")
    for name in ("Ada", "Emmy-N"):
        say("check", "guided", "--dir", here / "class" / name)
    say("hint", "guided", "--dir", here / "class" / "Emmy-N")
    assert say("export", "ada.json", "--dir", "class/Ada")[1] == "wrote ada.json: Ada, 1 passed; it holds no code\n"
    assert say("export", "emmy.json", "--dir", "class/Emmy-N")[1] == "wrote emmy.json: Emmy N., 0 passed; it holds no code\n"
    assert "def " not in (here / "ada.json").read_text() + (here / "emmy.json").read_text()
    status, out, _ = say("report", "emmy.json", "ada.json")
    rows = [line.split() for line in out.splitlines()]
    assert status == 0 and rows[1] == ["guided", "1/2", "2", "1", "0", "5", "0.5", "0"]
    assert rows[-2] == ["Ada", "1", "1", "0", "0", "0"] and rows[-1] == ["Emmy", "N.", "0", "1", "0", "1", "0"]


def test_setting_up_again_adds_and_overwrites_nothing(here, say):
    say("setup", "class", "--names", "ada")
    mine = write(here / "class" / "ada", "film", "mine")
    assert say("setup", "class", "--names", "ada,emmy")[0] == 0
    assert mine.read_text() == "mine" and progress(here / "class" / "emmy")["learner"] == "emmy"


def test_importing_minidiff_or_asking_for_help_does_not_import_the_exercises():
    code = "import sys, minidiff; from minidiff.cli import main; main(['exercises', '--help']); assert not [m for m in sys.modules if m.startswith('minidiff.exercises')]"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "\nexamples:\n  minidiff exercises start" in done.stdout


def test_the_exercises_are_part_of_the_package():
    """Labs and stubs are read from source files, which must be among what setuptools takes along."""
    folder = ROOT / "minidiff" / "exercises"
    assert (folder / "__init__.py").exists() and (folder / "tasks" / "__init__.py").exists()
    assert {path.suffix for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts and path.name != "README.md"} == {".py"}
