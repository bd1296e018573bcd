"""The book as a site: it needs no network, nothing in it leads astray, and one warning is enough to refuse it.

Without the extra `book` the pages' sources are still checked, and what needs Sphinx is skipped.
"""

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tokenize
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from minidiff import cli
from minidiff.book import alone, api, command, docstrings, layout, notation, works
from minidiff.book.formulas import lines_of, picture, plain
from minidiff.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = layout.chapter_files()
EXTRA = pytest.mark.skipif(any(find_spec(name) is None for name in command.NEEDED), reason="needs the extra: pip install 'minidiff[book]'")


# ------------------------------------------------------------------------------------------------ the notation


def formulas(chapter):
    """Every formula of a chapter, as TeX."""
    prose = re.sub(r"^# ?", "", chapter.read_text(encoding="utf-8"), flags=re.M)
    return re.findall(r":math:`([^`]+)`", prose) + re.findall(r"\.\. math::(.*(?:\n {2,}.*)*)", prose)


def names(chapter):
    """Every name in a chapter's code."""
    return {t.string for t in tokenize.generate_tokens(io.StringIO(chapter.read_text(encoding="utf-8")).readline) if t.type == tokenize.NAME}


@pytest.mark.parametrize("symbol", notation.DIFFUSION, ids=lambda symbol: symbol.code)
def test_the_chapter_that_introduces_a_symbol_has_it_in_a_formula_and_by_its_name_in_code(symbol):
    chapter = CHAPTERS[symbol.chapter - 1]
    for sign, name in zip(symbol.formula.split(r",\ "), symbol.code.split(", "), strict=True):
        sign = re.compile(r"(?<![A-Za-z\\])" * (sign[0] != "\\") + re.escape(sign if sign == "x_t" else sign.removesuffix("_t")) + r"(?![A-Za-z])")
        assert any(map(sign.search, formulas(chapter))) and name in names(chapter)


@pytest.mark.parametrize("symbol", notation.NETWORKS, ids=lambda symbol: symbol.code)
def test_the_chapter_that_introduces_a_name_uses_it(symbol):
    assert set(symbol.code.split(", ")) <= names(CHAPTERS[symbol.chapter - 1])


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_no_chapter_has_another_name_for_a_symbol_of_the_table(chapter):
    assert names(chapter) & {name for symbol in notation.DIFFUSION + notation.NETWORKS for name in symbol.never} == set()


# ------------------------------------------------------------------------------------------------ the sources of pages


def test_every_work_that_a_chapter_recommends_is_in_the_references_once():
    found = works.collect(CHAPTERS)
    recommended = sum(len(works.items(works.section(c, "Further reading"))) for c in CHAPTERS)
    assert len({work.title.casefold() for work in found}) == len(found) <= recommended <= sum(len(work.chapters) for work in found)
    assert all(work.authors and re.search(r"\b(1[89]|20)\d\d\b", work.rest) for work in found)
    assert {number for work in found for number in work.chapters} == set(range(1, len(CHAPTERS) + 1))


def test_the_exercises_page_has_every_exercise():
    text = layout.exercises_page(CHAPTERS)
    assert all(f"\n{works.number(c)}. {works.title(c)}\n---" in text for c in CHAPTERS)
    assert text.count("**Easy.**") == sum(c.read_text(encoding="utf-8").count("# 1. **Easy.**") for c in CHAPTERS) == len(CHAPTERS)


def test_the_lectures_name_only_exercises_that_there_are():
    text = (layout.HERE / "pages" / "teaching.rst").read_text(encoding="utf-8")
    named = re.findall(r"- Chapter (\d+), (easy|medium|hard)", text)
    assert len(named) == 10
    for number, grade in named:
        assert f"**{grade.capitalize()}.**" in "\n".join(works.section(CHAPTERS[int(number) - 1], "Exercises"))


@pytest.mark.parametrize(
    ("text", "page", "expected"),
    [
        ("[a](chapters/01_tensor.py)", "README.md", "[a](chapters/01_tensor.rst)"),
        ("[a](../../chapters/results/clinic.json)", "minidiff/kernels/README.md", "[a](results/clinic.json)"),
        ("![a](chapters/results/denoising.webp)", "README.md", "![a](results/denoising.webp)"),
        ("[a](minidiff/kernels/README.md)", "README.md", "[a](kernels.md)"),
        ("[a](pyproject.toml)", "README.md", "a"),
        ("[a](https://example.org/a)", "README.md", "[a](https://example.org/a)"),
        ("`f[0](x)` and\n```\na[i](x)\n```\n", "README.md", "`f[0](x)` and\n```\na[i](x)\n```\n"),
        ("takes <!--= x.json a {} -->3<!--/--> s", "README.md", "takes 3 s"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(text, page, expected):
    assert layout.led(text, page, lambda path: (ROOT / path).exists()) == expected


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Takes `x` and *args*: one_two.", [r"Takes \ ``x``\  and \*args\*\: one\_two.", ""]),
        ("y = a b            gx = gy b", ["::", "", "    y = a b            gx = gy b", ""]),
        ("Title.\n\n    a    one\n    bb   two\n\nEnd.", ["Title.", "", "::", "", "        a    one", "        bb   two", "", "End.", ""]),
        ("The mean of x.     # (N,C) -> (N,)", [r"The mean of x. \ ``(N,C) -> (N,)``\ ", ""]),
        ("a     of :func:`b`", ["::", "", "    a     of `b`", ""]),
        ("See :func:`~minidiff.grad`s", [r"See \ ``minidiff.grad``\ s", ""]),
        ("", []),
    ],
)
def test_a_docstring_keeps_its_columns_and_its_prose_flows(docstring, expected):
    assert docstrings.as_rst(docstring) == expected


def test_every_public_name_has_its_entry():
    for room in api.ROOMS:
        text = api.page(room, {})
        assert api.members(room) and all(f":: {room}.{name}\n" in text for name in api.members(room))


def test_an_entry_names_the_chapters_that_use_it():
    codes = {Path("05_a.py"): "md.diffusion.q_sample(x)", Path("06_b.py"): "q_sample(x)", Path("07_c.py"): "diffusion.q_sample(x)"}
    assert api.used("minidiff.diffusion", "q_sample", codes) == "In chapters :doc:`5 <../chapters/05_a>`, :doc:`7 <../chapters/07_c>`."
    assert api.used("minidiff.diffusion", "sample", codes) == ""


# ------------------------------------------------------------------------------------------------ the command


def refused(capsys, *argv):
    status = cli.main(["book", *map(str, argv)])
    return status, capsys.readouterr().err


def test_without_the_extra_one_line_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    status, said = refused(capsys)
    assert (status, said.count("\n")) == (2, 1) and said.endswith("not installed; pip install 'minidiff[book]'\n")


@EXTRA
def test_without_chapters_one_line_says_where_they_are(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(layout.chapter_files, "__defaults__", (tmp_path,))
    status, said = refused(capsys)
    assert (status, said.count("\n")) == (2, 1) and "no chapters in" in said and "clone of the repository" in said


@EXTRA
def test_a_chapter_that_is_not_there_is_refused(capsys):
    assert refused(capsys, "--chapters", 99) == (2, f"minidiff: book: there is no chapter 99; the book has 1 to {len(CHAPTERS)}\n")


@EXTRA
def test_a_folder_with_something_else_in_it_is_left_alone(capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    status, said = refused(capsys, "--no-run", "--out", tmp_path)
    assert status == 2 and "holds something else" in said and [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_importing_minidiff_and_its_command_line_does_not_import_sphinx():
    code = "import sys, minidiff.cli, minidiff.book.command; print([m for m in sys.modules if m.startswith(('sphinx', 'docutils'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def small(folder, page="Text.", chapter="print(1)"):
    """A book of one page and one chapter."""
    (folder / "scripts").mkdir(parents=True)
    shutil.copytree(layout.HERE / "static", folder / "static")
    (folder / "index.rst").write_text(f"Index\n=====\n\n{page}\n\n.. toctree::\n\n   chapters/index\n")
    (folder / "scripts" / "GALLERY_HEADER.rst").write_text("Chapters\n========\n")
    (folder / "scripts" / "01_one.py").write_text(f'"""\nOne\n===\nText.\n"""\n\n{chapter}\n')
    return CHAPTERS


@EXTRA
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, None),
        ({"page": ":doc:`nowhere`"}, "unknown document: 'nowhere'"),
        ({"page": "*half"}, "Inline emphasis start-string without end-string"),
        ({"chapter": "assert 1 > 2"}, "AssertionError"),
    ],
)
def test_a_book_with_anything_wrong_is_not_written(given, said, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(layout, "write", lambda folder: small(folder, **given))
    status = command.main_book(argparse.Namespace(out=str(tmp_path / "book"), chapters=[1], no_run=False, alone=False), None)
    err = capfd.readouterr().err
    if said is None:
        assert (status, err) == (0, "") and (tmp_path / "book" / "chapters" / "01_one.html").exists()
    else:
        assert status == 1 and said in err and not (tmp_path / "book").exists()


def test_a_chapter_is_timed_by_itself_in_an_empty_folder(tmp_path, capsys):
    chapter = tmp_path / "07_one.py"
    chapter.write_text('"""\nOne\n===\n"""\nimport os\nassert os.listdir() == []\n')
    (row,) = alone.measure([chapter])
    assert row["title"] == "One" and 0 <= row["alone_seconds"] < 60 and row["leaves_nothing_behind"]
    chapter.write_text("print(1 / 0)\n")
    with pytest.raises(RuntimeError, match="07_one.py leaves with 1: ZeroDivisionError"):
        alone.measure([chapter])


def test_each_chapter_in_the_record_kept_its_minute():
    record = json.loads((ROOT / "chapters" / "results" / "book.json").read_text(encoding="utf-8"))
    assert len(record["chapters"]) >= 20 and record["seconds"] < 15 * 60
    for row in record["chapters"]:
        assert row["leaves_nothing_behind"] and row["alone_seconds"] <= 60


# ------------------------------------------------------------------------------------------------ the site


class Links(HTMLParser):
    """What a page loads, and where it leads."""

    def __init__(self, page):
        super().__init__()
        self.loads, self.leads, self.ids = [], [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.add(given.get("id"))
        self.loads += [given[name] for name in ("src", "data", "poster") if given.get(name)]
        self.loads += [part.split()[0] for part in (given.get("srcset") or "").split(",") if part.strip()]
        if tag == "link" and given.get("href"):
            self.loads.append(given["href"])
        if tag == "a" and given.get("href"):
            self.leads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole book, laid out and not run, by the command, in a folder that is not the repository."""
    folder = tmp_path_factory.mktemp("book")
    done = subprocess.run([sys.executable, "-m", "minidiff", "book", "--no-run", "--out", "site"], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert f"{len(CHAPTERS)} chapters, 0 of them run" in done.stdout and [p.name for p in folder.iterdir()] == ["site"]
    return folder / "site"


@EXTRA
def test_no_page_asks_a_remote_host_for_anything(site):
    remote = re.compile(r"^(https?:)?//")
    for page in site.rglob("*.html"):
        assert [each for each in Links(page).loads if remote.match(each)] == [], page
    for sheet in site.rglob("*.css"):
        assert re.findall(r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^)"']*""", sheet.read_text(encoding="utf-8")) == [], sheet
    for script in [*site.rglob("*.js"), *site.rglob("*.html")]:
        assert re.findall(r"//cdn|jsdelivr|unpkg|googleapis|cdnjs", script.read_text(encoding="utf-8")) == [], script


@EXTRA
def test_every_link_inside_the_site_leads_somewhere(site):
    pages = {page.resolve(): Links(page) for page in site.rglob("*.html")}
    for page, links in pages.items():
        for target in links.loads + links.leads:
            parts = urlsplit(target)
            if parts.scheme:
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert file.is_file(), f"{page.name}: {target}"
            if parts.fragment and file in pages and page.name not in ("search.html",):
                assert unquote(parts.fragment) in pages[file].ids, f"{page.name}: {target}"


@EXTRA
def test_every_chapter_has_a_page_with_its_script_and_its_notebook(site):
    for chapter in CHAPTERS:
        leads = Links(site / "chapters" / f"{chapter.stem}.html").leads
        for ending in (".py", ".ipynb"):
            (file,) = {each for each in leads if each.endswith(f"/{chapter.stem}{ending}")}
            assert (site / "chapters" / file).is_file()
            if ending == ".py":
                assert (site / "chapters" / file).read_bytes() == chapter.read_bytes()


@EXTRA
def test_code_in_chapters_leads_to_the_reference(site):
    leads = {each for chapter in CHAPTERS for each in Links(site / "chapters" / f"{chapter.stem}.html").leads}
    for name in ("minidiff.tensor", "minidiff.diffusion.make_schedule", "minidiff.diffusion.q_sample", "minidiff.gradcheck"):
        room = name.rpartition(".")[0]
        assert f"../api/{room}.html#{name}" in leads


@EXTRA
def test_a_chapter_names_its_exercises_that_are_checked(site):
    for chapter in CHAPTERS:
        page = (site / "chapters" / f"{chapter.stem}.html").read_text(encoding="utf-8")
        below = page[page.index("<h2>Exercises<") : page.index("<h2>Further reading<")]
        assert works.tasks(works.number(chapter)) and all(f">{task.name}</span>" in below for task in works.tasks(works.number(chapter)))


@EXTRA
def test_a_chapter_that_prose_mentions_is_a_link(site):
    page = (site / "chapters" / "13_sampling.html").read_text(encoding="utf-8")
    assert re.search(r'<a[^>]*href="09_forward_diffusion.html"[^>]*>(<[^>]*>)*Chapter 9<', page)


@EXTRA
def test_no_page_shows_markup(site):
    for page in site.rglob("*.html"):
        text = re.sub(r"<(script|style|pre)\b.*?</\1>|<[^>]+>", "", page.read_text(encoding="utf-8"), flags=re.S)
        assert re.findall(r".*(?::::|:[a-z]+:`|\.\. \w+::|\]\(\w|<!--).*", text) == [], page


@EXTRA
def test_the_search_knows_the_chapters(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert all(f'"chapters/{chapter.stem}"' in index for chapter in CHAPTERS) and "groupnorm" in index


@EXTRA
def test_the_records_are_there(site):
    leads = Links(site / "results.html").leads
    for record in (ROOT / "chapters" / "results").glob("*.json"):
        assert any(each.endswith(f"/{record.name}") for each in leads)


@EXTRA
def test_every_formula_is_a_picture_that_says_its_tex(site):
    found = [f for page in site.rglob("*.html") for f in re.findall(r'class="formula">(.*?)</(?:span|div)>', page.read_text(encoding="utf-8"), flags=re.S)]
    assert len(found) > 100
    for formula in found:
        assert re.fullmatch(r'(<img class="tex" alt="[^"]+" style="[^"]+" src="data:image/svg\+xml;base64,[\w+/=]+">(<br>)?)+', formula)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_every_formula_of_a_chapter_can_be_set(chapter):
    for tex in formulas(chapter):
        for line in lines_of(tex):
            assert picture(line).startswith("<img")


def test_what_mathtext_does_not_know_is_said_in_other_words():
    assert plain(r"\underbrace{a_{1} + b}_{\text{two terms}} \mid \tfrac12") == r"a_{1} + b\;(\mathrm{two\ terms}) \,|\, \frac{1}{2}"
    assert lines_of("a &= b \\\\ &= c\n\n  d") == ["a &= b", "&= c", "d"]
    with pytest.raises(BadInput, match="book: the formula .* cannot be set: "):
        picture(r"\nosuchthing{x}")
    with pytest.raises(BadInput, match="book: a brace stays open in the formula "):
        plain(r"\underbrace{a + b")
