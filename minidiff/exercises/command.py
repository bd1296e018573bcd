"""`minidiff exercises`: what its actions do and print."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import BadInput
from . import find
from .checking import check_files
from .marking import PASSED, TODO, Verdict
from .task import Task
from .tasks import TASKS
from .workspace import FOLDER, Workspace

ME = "minidiff exercises"
LAB_SECONDS = 300.0
POLL = 0.3  # seconds between two looks at the files


# ------------------------------------------------------------------------------------- begin, list


def start(args: argparse.Namespace) -> int:
    """A folder with a stub for every exercise."""
    folder = Path(args.folder)
    workspace, written = Workspace.create(folder)
    there = len(TASKS) - len(written)
    print(f"{folder}: {len(written)} exercises written{f', {there} were there and stay as they are' if there else ''}")
    print(_next(workspace))
    return 0


def show(args: argparse.Namespace) -> int:
    """All exercises and how far they are."""
    found = Workspace.find(args.dir)
    workspace = Workspace(found) if found else None
    if args.dir and not found:
        Workspace.open(args.dir)
    rows = [("no", "exercise", "what it is about", "chapter", "level", "minutes", "state")]
    if args.chapter is not None and args.chapter not in (chapters := sorted({task.chapter for task in TASKS.values()})):
        raise BadInput(f"exercises: --chapter must be {chapters[0]} to {chapters[-1]}, got {args.chapter}")
    for number, task in enumerate(TASKS.values(), 1):
        if args.chapter not in (None, task.chapter):
            continue
        rows.append((str(number), task.name, task.title, str(task.chapter), task.level, str(task.minutes), _state(workspace, task) if workspace else ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.rjust(w) if i in (0, 3, 5) else text.ljust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))).rstrip())
    if workspace is None:
        print(f"\n{len(TASKS)} exercises, about {sum(task.minutes for task in TASKS.values()) / 60:.0f} hours; {ME} start writes them to {FOLDER}")
    else:
        labs = sum(bool(entry["passed"]) for entry in workspace.progress["labs"].values())
        print(f"\n{len(workspace.passed())} of {len(TASKS)} passed, and {labs} labs, in {workspace.folder}\n{_next(workspace)}")
    return 0


def _state(workspace: Workspace, task: Task) -> str:
    entry = workspace.of(task.name)
    if not workspace.path(task).is_file():
        return "file is missing"
    parts = [PASSED if entry["passed"] else entry["state"]]
    parts += [f"{entry['attempts']} attempt{'s' * (entry['attempts'] != 1)}"] if entry["attempts"] else []
    parts += [f"{entry['hints']} hint{'s' * (entry['hints'] != 1)}"] if entry["hints"] else []
    return ", ".join(parts + ["solution seen"] * (entry["solution"] and not entry["passed"]))


def _next(workspace: Workspace) -> str:
    task = workspace.next()
    if task is None:
        return f"all have passed; {ME} lab gives a script with a fault, {ME} swap puts yours into the library"
    return f"next: {workspace.path(task)}   then {ME} check {task.name}"


# ------------------------------------------------------------------------------------- check, watch


def check(args: argparse.Namespace) -> int:
    """Whether the named exercises are right; without names, all that have been begun."""
    workspace = Workspace.open(args.dir)
    if args.seconds is not None and not args.seconds > 0:
        raise BadInput(f"exercises: --seconds must be above 0, got {args.seconds:g}")
    files = _asked(workspace, args.names) if args.names else [(task.name, workspace.path(task), task.seconds) for task in workspace.begun()]
    if not files:
        print(f"nothing has been begun\n{_next(workspace)}")
        return 0
    verdicts = _checked(workspace, [(name, path, args.seconds or seconds) for name, path, seconds in files])
    if len(verdicts) > 1:
        states = [verdict.status for verdict in verdicts]
        print(f"{len(states)} checked: " + ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))
    right = all(verdict.status == PASSED for verdict in verdicts)
    if right:
        print(_next(workspace))
    return 0 if right else 1


def _asked(workspace: Workspace, names: Sequence[str]) -> list[tuple[str, Path, float]]:
    files = []
    for name in names:
        if Path(name).stem.startswith("lab_"):
            from .labs import find_lab

            lab = find_lab(name)
            path = workspace.folder / f"{lab}.py"
            if not path.is_file():
                raise BadInput(f"exercises: {path} is missing; {ME} lab {lab} writes it")
            files.append((lab, path, LAB_SECONDS))
        else:
            task = find(name)
            files.append((task.name, workspace.written(task), task.seconds))
    return files


def _checked(workspace: Workspace, files: Sequence[tuple[str, Path, float]]) -> list[Verdict]:
    """Check, print and note."""
    paths, verdicts = {name: path for name, path, _ in files}, []
    for verdict in check_files(files):
        print(shown(verdict, paths[verdict.task]), flush=True)
        workspace.take(verdict, paths[verdict.task])
        verdicts.append(verdict)
    return verdicts


def shown(verdict: Verdict, path: Path) -> str:
    """A verdict in plain words."""
    if verdict.status == PASSED:
        more = f"; {ME} solution {verdict.task} shows ours" if verdict.task in TASKS else ""
        return f"passed  {verdict.task}, {verdict.cases} {'cases' if verdict.task in TASKS else 'checks'}{more}"
    if verdict.status == TODO:
        return f"to do   {verdict.task}: nothing is written yet in {path}"
    rows = [
        ("case", verdict.case), ("where", verdict.line), ("first wrong", verdict.place), ("expected", verdict.expected), ("got", verdict.got),
        ("largest error", verdict.error), ("likely cause", verdict.cause or "none that is known: begin with the first wrong number"),
        ("next", f"{ME} hint {verdict.task}"),
    ]  # fmt: skip
    return "\n".join([f"{verdict.status:<7} {verdict.task}", *(f"        {name:<14} {text}" for name, text in rows if text)])


def watch(args: argparse.Namespace) -> int:
    """Check each file when it is saved, until Ctrl-C."""
    workspace = Workspace.open(args.dir)
    files = {workspace.path(task): (task.name, task.seconds) for task in TASKS.values()}
    files |= {path: (path.stem, LAB_SECONDS) for path in sorted(workspace.folder.glob("lab_??.py"))}
    seen = {path: _saved(path) for path in files}
    print(f"watching {workspace.folder}; Ctrl-C ends it\n{_next(workspace)}", flush=True)
    try:
        while True:
            time.sleep(POLL)
            for path, (name, seconds) in files.items():
                if (saved := _saved(path)) != seen[path]:
                    seen[path] = saved
                    if saved is not None and _checked(workspace, [(name, path, seconds)])[0].status == PASSED:
                        print(_next(workspace), flush=True)
    except KeyboardInterrupt:
        print(f"\n{len(workspace.passed())} of {len(TASKS)} passed")
        return 0


def _saved(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
        return status.st_mtime_ns, status.st_size
    except FileNotFoundError:                                    # some editors take it away for a moment
        return None


# ------------------------------------------------------------------------------------- hint, solution, reset


def _named(given: str) -> str:
    """The name of the exercise or lab that is meant. Raises BadInput."""
    if Path(given).stem.startswith("lab_"):
        from .labs import find_lab

        return find_lab(given)
    return find(given).name


def hint(args: argparse.Namespace) -> int:
    """The next of three hints."""
    workspace, name = Workspace.open(args.dir), _named(args.name)
    if name in TASKS:
        hints = TASKS[name].hints
    else:
        from .labs import lab_hints

        hints = lab_hints(name)
    given = min(workspace.of(name)["hints"] + 1, len(hints))
    workspace.note(name, hints=given)
    print(f"hint {given} of {len(hints)} for {name}: {hints[given - 1]}")
    if given == len(hints):
        print(f"that was the last one; {ME} solution {name} --anyway shows the solution")
    return 0


def solution(args: argparse.Namespace) -> int:
    """Our solution, after one's own."""
    workspace, name = Workspace.open(args.dir), _named(args.name)
    passed = workspace.of(name)["passed"]
    if not passed and not args.anyway:
        raise BadInput(f"exercises: {name} has not passed yet; {ME} hint {name} helps, and --anyway shows the solution all the same")
    if not passed:
        workspace.note(name, solution=True)
    if name in TASKS:
        print(TASKS[name].source().rstrip())
    else:
        from .labs import lab_solution

        print(lab_solution(name))
    return 0


def reset(args: argparse.Namespace) -> int:
    """A file as it was given out; the learner's is kept beside it."""
    workspace = Workspace.open(args.dir)
    names = [_named(name) for name in args.names]
    if not args.yes:
        if not sys.stdin.isatty():
            raise BadInput(f"exercises: reset asks first; add --yes to put {', '.join(names)} back without being asked")
        if input(f"put {', '.join(names)} back as given out? your file is kept as .bak [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was changed")
            return 0
    for name in names:
        path, text = _given_out(workspace, name)
        backup = workspace.put_back(path, text)
        workspace.note(name, state=TODO, digest="")
        print(f"{path}: as it was given out{f'; yours is in {backup.name}' if backup else ''}")
    return 0


def _given_out(workspace: Workspace, name: str) -> tuple[Path, str]:
    """An exercise's or a lab's file, and what it holds at first."""
    if name in TASKS:
        return workspace.path(TASKS[name]), TASKS[name].stub()
    from .labs import lab_text

    return workspace.folder / f"{name}.py", lab_text(name)


# ------------------------------------------------------------------------------------- swap, lab


def swap(args: argparse.Namespace) -> int:
    """Train and draw with the learner's function in the library's place."""
    from .swap import SWAPS, compare

    workspace, task = Workspace.open(args.dir), find(args.name)
    if task.name not in SWAPS:
        raise BadInput(f"exercises: {task.name} has no place in the network or the sampler; these have: {', '.join(SWAPS)}")
    if args.train < 1:
        raise BadInput(f"exercises: --train must be 1 or more steps, got {args.train}")
    path = workspace.written(task)
    verdict = next(iter(check_files([(task.name, path, task.seconds)])))
    workspace.take(verdict, path)
    if verdict.status != PASSED:
        print(shown(verdict, path))
        if verdict.status == TODO or not args.anyway:
            print(f"swapped only when it has passed; --anyway shows what {'the mistake does to the training' if verdict.status != TODO else 'a mistake does'}")
            return 1
    print(f"a small network, {args.train} steps on glyphs, then ten digits: with the library's {task.name}, and with yours", flush=True)
    outcome = compare(task.name, task.load(path), args.train)
    print(outcome)
    print("equal, to rounding: the network is yours" if outcome.equal else "not equal")
    return 0 if outcome.equal else 1


def lab(args: argparse.Namespace) -> int:
    """A training script with one fault."""
    from .classroom import give_lab
    from .labs import LABS, find_lab

    workspace = Workspace.open(args.dir)
    name = find_lab(args.name) if args.name else next((lab for lab in LABS if not workspace.of(lab)["passed"]), None)
    if name is None:
        print(f"all {len(LABS)} labs have passed")
        return 0
    path, new = give_lab(workspace, name)
    print(f"{path}: {'written' if new else 'was there and stays as it is'}; run it, name the fault in it, repair it, then {ME} check {name}")
    return 0


# ------------------------------------------------------------------------------------- for teachers


def setup(args: argparse.Namespace) -> int:
    """A folder for each learner."""
    from .classroom import set_up

    folders = set_up(Path(args.folder), args.names.split(","), args.labs)
    labs = f" and {args.labs} lab{'s' * (args.labs != 1)}" if args.labs else ""
    print(f"{args.folder}: {len(folders)} folders of {len(TASKS)} exercises{labs}: {', '.join(folder.name for folder in folders)}")
    print(f"a learner works in one of them, and hands in what {ME} export NAME.json writes; {ME} report *.json reads them")
    return 0


def export(args: argparse.Namespace) -> int:
    """Progress in a file for the teacher."""
    from .classroom import export

    workspace, out = Workspace.open(args.dir), Path(args.file)
    if out.suffix != ".json":
        raise BadInput(f"exercises: {out}: the file must end in .json")
    content = export(workspace, out, args.name)
    print(f"wrote {out}: {content['learner']}, {sum(bool(entry['passed']) for entry in content['done'].values())} passed; it holds no code")
    return 0


def prove(args: argparse.Namespace) -> int:
    """Whether the exercises themselves are right."""
    import json

    from ..files import atomic_path
    from ..train import records
    from .proving import prove

    proof = prove()
    print(proof)
    if args.json:
        record = {"command": records.command_line(), "commit": records.commit(), "time": records.now(), **proof.to_json()}
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0 if proof.holds else 1


def report(args: argparse.Namespace) -> int:
    """The class at a glance."""
    from .classroom import report

    print(report([Path(file) for file in args.files]))
    return 0


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "start": start, "list": show, "check": check, "watch": watch, "hint": hint, "solution": solution, "reset": reset,
    "swap": swap, "lab": lab, "setup": setup, "export": export, "report": report, "prove": prove,
}  # fmt: skip


def main_exercises(args: argparse.Namespace) -> int:
    """Run one action."""
    return ACTIONS[args.action or "list"](args)
