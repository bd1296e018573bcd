"""What minidiff asks of an array library, CuPy has: names only, as no GPU is needed to look them up."""

import ast
from pathlib import Path

import pytest

import minidiff

ROOT = Path(minidiff.__file__).parent
CPU_ONLY = {"kernels/cpu.py", "kernels/numba.py", "kernels/winograd.py", "kernels/scratch.py"}


def asked_for():
    """Every NAME of an `xp.NAME`, `array_module(…).NAME` or `functions(…).NAME`, with where it is."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        if str(path.relative_to(ROOT)) in CPU_ONLY:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value
            module = isinstance(owner, ast.Name) and owner.id in ("xp", "fn")
            module |= isinstance(owner, ast.Call) and getattr(owner.func, "id", "") in ("array_module", "functions")
            if module:
                found.setdefault(node.attr, f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def test_cupy_has_every_function_that_is_asked_for():
    cupy = pytest.importorskip("cupy")
    # where the two spell a thing differently, backend.py asks first (hasattr) and takes what there is
    either = {"concat", "cumulative_sum", "cumulative_prod", "atan", "permute_dims", "astype"}
    missing = {name: place for name, place in asked_for().items() if not hasattr(cupy, name) and name not in either}
    assert not missing and len(asked_for()) >= 50
