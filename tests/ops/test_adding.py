"""minidiff/ops/ADDING.md is followed to the letter, in a copy of the package, and what it promises happens."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = (ROOT / "minidiff" / "ops" / "ADDING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", RECIPE, re.M | re.S)
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package and its tests with the blocks of the recipe added to the files they name."""
    root = tmp_path_factory.mktemp("adding")
    skipped = shutil.ignore_patterns("__pycache__", "*.npz")
    shutil.copytree(ROOT / "minidiff", root / "minidiff", ignore=skipped)
    for part in ("tests/conftest.py", "tests/ops", "tests/checks", "pyproject.toml"):
        (root / part).parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, root / part)
    for language, block in BLOCKS:
        if language == "python":
            path = re.match(r"# (minidiff/\S+\.py)\n", block)[1]
            with (root / path).open("a", encoding="utf-8") as file:
                file.write(f"\n\n{block}")
    return root


def follow(command, root):
    """Run a command of the recipe in the copy; what it printed."""
    argv = [sys.executable if word == "python" else word for word in shlex.split(command)]
    if "pytest" in argv:
        argv += ["-p", "no:cacheprovider", "-p", "no:randomly", "-n", "0"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]
    done = subprocess.run(argv, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_recipe_names_files_that_exist():
    named = [re.match(r"# (\S+)\n", block)[1] for language, block in BLOCKS if language == "python"]
    assert len(named) == 5 and all((ROOT / name).is_file() for name in named)
    assert all((ROOT / name).exists() for name in re.findall(r"`(tests/\S+\.py)`", RECIPE))


def test_the_table_lists_the_new_operation_in_both_orders_and_dtypes(copy):
    (command,) = (c for c in COMMANDS if c.endswith("gradcheck softsign"))
    out = follow(command, copy)
    assert re.search(r"^softsign +1( +[\de.-]+){6} .* pass$", out, re.M)
    assert re.search(r"1 operation, 1 case, orders 1 and 2: all pass", out)


def test_every_mistake_in_it_is_caught(copy):
    (command,) = (c for c in COMMANDS if "--mutants" in c)
    out = follow(command, copy)
    found = re.search(r"(\d+) mutants of (\d+) operations?: all caught", out)
    assert int(found[1]) >= 10


def test_the_tests_pick_it_up_in_every_backend_and_beside_pytorch(copy):
    (command,) = (c for c in COMMANDS if "pytest" in c)
    out = follow(f"{command} -vv", copy)
    assert re.search(r"\d+ passed", out) and "failed" not in out
    for suite in ("test_ops", "test_backends", "test_torch_parity", "test_cases"):
        assert f"{suite}.py::" in out, f"{suite} does not run the new operation"
    if importlib.util.find_spec("array_api_strict"):
        assert re.search(r"test_backends.py::\S+\[\S*softsign\S*array-api-strict\] PASSED", out)


def test_without_its_case_it_is_missed(copy, tmp_path):
    """The last step cannot be forgotten: a test of the table fails."""
    shutil.copytree(copy, tmp_path / "copy")
    path = tmp_path / "copy" / "minidiff" / "checks" / "activation.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index('case("softsign"')], encoding="utf-8")
    command = "python -m pytest tests/ops/test_ops.py tests/ops/test_mutations.py -k 'every_public or every_operation_has'"
    with pytest.raises(AssertionError, match="softsign"):
        follow(command, tmp_path / "copy")


def test_the_example_is_not_in_the_package_yet():
    from minidiff import ops

    assert not hasattr(ops, "softsign")  # or the recipe needs another example
