"""Every number in the READMEs comes from a committed record, or from counting."""

import json
import re
from pathlib import Path

import pytest

from minidiff.book import quotes
from minidiff.errors import BadInput

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / page for page in quotes.PAGES]
README = PAGES[0].read_text(encoding="utf-8")
QUOTED = [(source, text) for _, source, text in quotes.quoted(ROOT)]


def test_the_readme_quotes_records():
    assert len(QUOTED) >= 10


@pytest.mark.parametrize(("source", "text"), QUOTED, ids=[source for source, _ in QUOTED])
def test_a_number_in_the_readme_is_the_recorded_one(source, text):
    assert text == quotes.measured(source, ROOT), "minidiff book --numbers writes it anew"


@pytest.mark.parametrize("page", PAGES, ids=quotes.PAGES)
def test_no_marker_is_shown_to_readers(page):
    """In Markdown a comment inside of code is shown as it is typed; of a comment and a code span, the one that begins first counts."""
    found = re.finditer(r"```.*?```|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)|<!--.*?-->", page.read_text(encoding="utf-8"), flags=re.S)
    assert [code[0] for code in found if code[0].startswith("`") and "<!--" in code[0]] == []


def test_the_recorded_checks_all_passed():
    """The README says "all"."""
    found = json.loads((ROOT / "chapters" / "results" / "gradcheck.json").read_text())
    assert found["passed"] and found["orders"] == [1, 2] and set(found["dtypes"]) == {"float32", "float64"}


def test_numbers_are_written_anew_from_the_records(tmp_path):
    for page in quotes.PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text("<!--= a.json rows/1/x {:.1%} -->?<!--/--> of <!--= a.json rows len -->2<!--/-->; <!--= lines m.py -->0<!--/-->\n")
    (tmp_path / "chapters" / "results").mkdir(parents=True)
    (tmp_path / "chapters" / "results" / "a.json").write_text('{"rows": [{"x": 1}, {"x": 0.25}]}')
    (tmp_path / "m.py").write_text('"""Prose."""\n\n# why\nx = 1\n')
    assert quotes.refresh(tmp_path)[:2] == ["README.md: a.json rows/1/x {:.1%}: ? -> 25.0%", "README.md: lines m.py: 0 -> 1"]
    assert (tmp_path / "README.md").read_text().startswith("<!--= a.json rows/1/x {:.1%} -->25.0%<!--/--> of <!--= a.json rows len -->2<!--/-->; ")
    assert quotes.refresh(tmp_path) == []
    (tmp_path / "chapters" / "results" / "a.json").write_text('{"rows": []}')
    with pytest.raises(BadInput, match=r"'a.json rows/1/x \{:.1%\}' leads to nothing \(IndexError"):
        quotes.refresh(tmp_path)
    assert "25.0%" in (tmp_path / "README.md").read_text()


ENGINE = {
    "tensor.py": 130, "autograd.py": 330, "contexts.py": 70, "methods.py": 240, "hooks.py": 60, "inplace.py": 25, "interop.py": 60,
    "recompute.py": 100, "anomaly.py": 100, "transforms.py": 120, "gradcheck.py": 200,
}  # fmt: skip


def test_the_engine_stays_readable_in_one_sitting(capsys):
    """The core in at most 450 lines of code, and each file around it in no more than its bound."""
    lines = {name: quotes.code_lines(ROOT / "minidiff" / name) for name in ENGINE}
    with capsys.disabled():
        print("\n" + "\n".join(f"{name:15}{count:5} lines of code" for name, count in lines.items()))
    assert lines["tensor.py"] + lines["autograd.py"] <= 450
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
    assert quotes.code_lines(path) == 3
