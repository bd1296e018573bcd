"""Every number in the READMEs comes from a committed record, or from counting."""

import ast
import json
import re
import tokenize
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "minidiff" / "kernels" / "cuda" / "README.md"]
README = PAGES[0].read_text(encoding="utf-8")
QUOTED = [found for page in PAGES for found in re.findall(r"<!--= (.+?) -->(.*?)<!--/-->", page.read_text(encoding="utf-8"))]


def code_lines(path: Path) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    source = path.read_text(encoding="utf-8")
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            prose.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code: set[int] = set()
    for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__):
        if token.type not in silent:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - prose)


def measured(source: str) -> str:
    """What the record says, or the count: "FILE.json KEY/KEY FORMAT", "FILE.json KEY len" or "lines FILE FILE"."""
    first, *rest = source.split(" ")
    if first == "lines":
        return str(sum(code_lines(ROOT / name) for name in rest))
    value = json.loads((ROOT / "chapters" / "results" / first).read_text())
    for key in rest[0].split("/"):
        value = value[int(key) if isinstance(value, list) else unquote(key)]
    return str(len(value)) if rest[1] == "len" else rest[1].format(value)


def test_the_readme_quotes_records():
    assert len(QUOTED) >= 10


@pytest.mark.parametrize(("source", "text"), QUOTED, ids=[source for source, _ in QUOTED])
def test_a_number_in_the_readme_is_the_recorded_one(source, text):
    assert text == measured(source)


def test_the_recorded_checks_all_passed():
    """The README says "all"."""
    found = json.loads((ROOT / "chapters" / "results" / "gradcheck.json").read_text())
    assert found["passed"] and found["orders"] == [1, 2] and set(found["dtypes"]) == {"float32", "float64"}


ENGINE = {
    "tensor.py": 130, "autograd.py": 290, "methods.py": 240, "hooks.py": 60, "inplace.py": 25, "interop.py": 60,
    "recompute.py": 100, "anomaly.py": 100, "transforms.py": 120, "gradcheck.py": 200,
}  # fmt: skip


def test_the_engine_stays_readable_in_one_sitting(capsys):
    """The core in about 400 lines of code, and each file around it in no more than its bound."""
    lines = {name: code_lines(ROOT / "minidiff" / name) for name in ENGINE}
    with capsys.disabled():
        print("\n" + "\n".join(f"{name:15}{count:5} lines of code" for name, count in lines.items()))
    assert lines["tensor.py"] + lines["autograd.py"] <= 402
    assert {name: count for name, count in lines.items() if count > ENGINE[name]} == {}


def test_links_in_the_readme_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_python_example_runs_and_prints_what_it_says(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"^print\(.*?\) +# (.*?)(?::.*)?$", code, flags=re.M)
    assert printed == promised and len(printed) == 4


def test_counting_skips_what_is_not_code(tmp_path):
    path = tmp_path / "sample.py"
    path.write_text('"""Doc."""\n\n# comment\ndef f():\n    """Doc\n    string."""\n    return (1 +\n            2)  # why\n')
    assert code_lines(path) == 3


def write_the_recorded_numbers():
    """Bring the pages up to their records: `python tests/test_readme.py`."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"(<!--= (.+?) -->).*?(<!--/-->)", lambda m: m[1] + measured(m[2]) + m[3], text), encoding="utf-8")


if __name__ == "__main__":
    write_the_recorded_numbers()
