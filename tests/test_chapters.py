"""The book's chapters run alone, anywhere, in a minute, and all have the same form."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "chapters").glob("[0-9][0-9]_*.py"))
LIMIT = 2 * 60  # seconds of processor in a minute of two cores; the clock is the record's (book.json): here other tests run beside
HUNG = 5 * 60  # seconds on the clock after which no chapter will end

SECTIONS = ("What would break it", "Exercises", "Further reading")
UNSEEDED = re.compile(r"default_rng\(\)|np\.random\.(?!default_rng|Generator|SeedSequence)\w+")

SPECIMEN = '''"""
A title
=======
One idea in a sentence. And another sentence.
"""
import matplotlib.pyplot as plt
import minidiff as md

# %%
# The number to remember: 4
# -------------------------
# Text.

print(4)
assert 3 < md.tensor([4.0]).item() < 5
plt.show()

# %%
# What would break it
# -------------------
# Text.
#
# Exercises
# ---------
# 1. **Easy.** Text.
# 2. **Hard.** Text.
#
# Further reading
# ---------------
# * A. Author, *Title*, 1999: text over
#   two lines.
#
# The next chapter.
'''


def trains(chapter):
    """Whether a chapter trains a network with an optimizer, which takes longest."""
    return re.search(r"\boptim\b|\bTrainer\b", chapter.read_text(encoding="utf-8")) is not None


def chapters(mark_slow=False):
    marks = pytest.mark.slow if mark_slow else ()
    return [pytest.param(c, id=c.stem, marks=marks if mark_slow and trains(c) else ()) for c in CHAPTERS]


def sections(text):
    """{heading: what stands below it} for the prose; a heading is a comment underlined with dashes."""
    parts = re.split(r"^# (\S.*)\n# -{3,}\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def title_problems(docstring):
    lines = (docstring or "").strip().split("\n")
    if len(lines) < 3 or lines[1] != "=" * len(lines[0]):
        return ["the docstring does not begin with a title underlined in full"]
    sentences = re.findall(r"[.?!](?:\s|$)", " ".join(lines[2:]))
    return [] if len(sentences) >= 2 else ["the docstring does not say the idea in two or three sentences"]


def code_problems(text):
    problems = []
    asserts = [node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assert)]
    number = re.search(r"number to remember", text, flags=re.I)
    if not asserts:
        problems.append("nothing is asserted")
    if number is None:
        problems.append("there is no number to remember")
    elif not any(line > text[: number.start()].count("\n") for line in asserts) or "print(" not in text:
        problems.append("the number to remember is not printed and asserted")
    if "plt.show()" not in text:
        problems.append("there is no figure")
    if "import minidiff" not in text:
        problems.append("minidiff is not used")
    if found := UNSEEDED.search(text):
        problems.append(f"chance has no seed: {found.group()}")
    return problems


def section_problems(text):
    problems = [
        f"heading {heading!r} is underlined with {len(line)} dashes"
        for heading, line in re.findall(r"^# (\S.*)\n# (-{3,})$", text, flags=re.M)
        if len(line) != len(heading)
    ]
    found = sections(text)
    if [name for name in found if name in SECTIONS] != list(SECTIONS):
        return [*problems, f"the last sections are not {', '.join(SECTIONS)}, in this order"]
    exercises = re.findall(r"^# \d\. \*\*(Easy|Medium|Hard)\.", found["Exercises"], flags=re.M)
    if len(exercises) < 2 or sorted(exercises, key=["Easy", "Medium", "Hard"].index) != exercises:
        problems.append("there are not two or three exercises, graded Easy, Medium, Hard")
    works = re.split(r"^# \* ", found["Further reading"], flags=re.M)[1:]
    if not works or not all(re.search(r"\b(1[89]|20)\d\d\b", work) for work in works):
        problems.append("further reading has no works, or a work without its year")
    if any(re.match(r"[A-Z]\. .*\n(?!#   )", work) for work in works):
        problems.append("further reading has a work on one line that begins with an initial: RST makes that a list")
    return problems


def problems(text):
    """What is missing from the form of a chapter."""
    return title_problems(ast.get_docstring(ast.parse(text))) + code_problems(text) + section_problems(text)


def test_chapters_are_numbered_without_gaps():
    assert [int(c.name[:2]) for c in CHAPTERS] == list(range(1, len(CHAPTERS) + 1))
    assert len(CHAPTERS) >= 4


@pytest.mark.parametrize("chapter", chapters())
def test_a_chapter_has_the_form_of_the_book(chapter):
    assert problems(chapter.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("=======", "======", "the docstring does not begin with a title underlined in full"),
        (" And another sentence.", "", "the docstring does not say the idea in two or three sentences"),
        ("assert ", "", "nothing is asserted"),
        ("assert ", "", "the number to remember is not printed and asserted"),
        ("The number to remember", "A number to forget", "there is no number to remember"),
        ("print", "str", "the number to remember is not printed and asserted"),
        ("plt.show()", "plt.close()", "there is no figure"),
        ("import minidiff", "import numpy", "minidiff is not used"),
        ("print(4)", "print(np.random.default_rng())", "chance has no seed: default_rng()"),
        ("print(4)", "print(np.random.rand(4))", "chance has no seed: np.random.rand"),
        ("\n# ---------\n", "\n# --------\n", "heading 'Exercises' is underlined with 8 dashes"),
        ("Further reading", "Further writing", f"the last sections are not {', '.join(SECTIONS)}, in this order"),
        ("**Hard.**", "", "there are not two or three exercises, graded Easy, Medium, Hard"),
        (
            ": text over\n#   two lines",
            "",
            "further reading has a work on one line that begins with an initial: RST makes that a list",
        ),
        ("1999", "a year", "further reading has no works, or a work without its year"),
    ],
)
def test_the_form_is_checked(good, bad, complaint):
    assert problems(SPECIMEN) == []
    assert good in SPECIMEN and complaint in problems(SPECIMEN.replace(good, bad))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all chapters, and not the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("chapter", chapters(mark_slow=True))
def test_a_chapter_runs_alone_in_a_minute_and_leaves_nothing_behind(chapter, tmp_path, cache):
    given = {name: value for name, value in os.environ.items() if name not in ("MINIDIFF_DATA", "MINIDIFF_FULL")}
    path = os.pathsep.join(filter(None, (str(ROOT), given.get("PYTHONPATH"))))
    before = os.times()
    run = subprocess.run(
        [sys.executable, str(chapter)],
        cwd=tmp_path,
        env=given | {"PYTHONPATH": path, "MPLBACKEND": "Agg", "MINIDIFF_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    after = os.times()
    assert run.returncode == 0, run.stderr
    assert after.children_user + after.children_system - before.children_user - before.children_system <= LIMIT
    assert "Warning" not in run.stderr, run.stderr
    assert list(tmp_path.iterdir()) == []
