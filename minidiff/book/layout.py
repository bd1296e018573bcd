"""The sources of all pages, in one folder: some written for the site, most made from what the repository says already."""

from __future__ import annotations

import json
import posixpath
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput
from . import api, notation, works

HERE = Path(__file__).parent
PACKAGE = HERE.parent
ROOT = PACKAGE.parent                                       # of a checkout; anything at all around an installed copy

# Pages that are files of the repository, and where the site has them.
INCLUDED = {
    "minidiff/ops/ADDING.md": "adding.md",
    "minidiff/kernels/README.md": "kernels.md",
    "minidiff/kernels/cuda/README.md": "kernels-cuda.md",
    "minidiff/exercises/README.md": "exercise-files.md",
}
FOLDERS = {"chapters": "chapters/index.rst", "chapters/results": "results.md", "minidiff/kernels": "kernels.md", "minidiff/kernels/cuda": "kernels-cuda.md"}


def chapter_files(root: Path = ROOT) -> list[Path]:
    """The chapters beside the package. Raises BadInput where there are none."""
    found = sorted((root / "chapters").glob("[0-9][0-9]_*.py"))
    if not found:
        raise BadInput(f"book: no chapters in {root / 'chapters'}; the book is built from a clone of the repository, not from an installed package")
    return found


# ------------------------------------------------------------------------------------------------ README and its kin


def led(text: str, page: str, there: Callable[[str], bool]) -> str:
    """Markdown of the repository's file `page` with its links leading to where the site has their targets.

    `there` says whether the repository has a file; a link to what is not on the site keeps its words and leads nowhere.
    """

    def turn(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if target is None:                                  # code, in which brackets are brackets
            return found[0]
        path, hash_, anchor = target.partition("#")
        if "://" in target or not path:
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        new = INCLUDED.get(path) or FOLDERS.get(path)
        if re.fullmatch(r"chapters/\d\d_\w+\.py", path):
            new = path.removesuffix(".py") + ".rst"
        elif path.startswith("chapters/results/"):
            new = path.removeprefix("chapters/")
        elif path.startswith("examples/"):
            new = path
        return f"{mark}[{words}]({new}{hash_}{anchor})" if new and there(path) else words

    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    return re.sub(r"(?s:```.*?```)|`[^`\n]*`|(!?)\[([^\]]*)\]\(([^)\s]+)\)", turn, text)


def part(text: str, first: str, last: str) -> str:
    """The lines of `text` from the one that begins with `first` to the one before `last`."""
    start = text.index(first)
    return text[start : text.index(last, start)]


# ------------------------------------------------------------------------------------------------ tables


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto", ""]
    for row in [heads, *rows]:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def link(chapter: Path) -> str:
    """A reference to a chapter's page."""
    return f":doc:`{works.title(chapter)} <chapters/{chapter.stem}>`"


def numbered(found: Sequence[int], chapters: Sequence[Path]) -> str:
    """References to chapters by their numbers."""
    return ", ".join(f":doc:`{i} <chapters/{chapters[i - 1].stem}>`" for i in found)


def notation_page(chapters: Sequence[Path]) -> str:
    """What `notation.py` says."""
    text = (HERE / "pages" / "notation.rst").read_text(encoding="utf-8")
    for name, symbols in (("DIFFUSION", notation.DIFFUSION), ("NETWORKS", notation.NETWORKS)):
        rows = []
        for s in symbols:
            names = ", ".join(f"``{each.strip()}``" for each in s.code.split(","))
            rows.append((f":math:`{s.formula}`", names, s.meaning, numbered([s.chapter], chapters)))
        text = text.replace(f".. {name}", table(("symbol", "in code", "what it is", "chapter"), rows))
    return text


def references_page(chapters: Sequence[Path]) -> str:
    """Every work that a chapter recommends."""
    rows = [f"* {w.authors}, *{w.title}*, {w.rest}. Chapter{'s' * (len(w.chapters) > 1)} {numbered(w.chapters, chapters)}" for w in works.collect(chapters)]
    return ("References\n==========\n\nThe works that the chapters recommend, by author, with the chapters that do. "
            "What is worth reading in each stands at the chapter's end.\n\n" + "\n".join(rows) + "\n")  # fmt: skip


def exercises_page(chapters: Sequence[Path]) -> str:
    """The exercises of all chapters."""
    text = (HERE / "pages" / "exercises.rst").read_text(encoding="utf-8")
    for chapter in chapters:
        heading = f"{works.number(chapter)}. {works.title(chapter)}"
        body = "\n".join(works.section(chapter, "Exercises")).strip()
        files = ", ".join(f"``{task.name}`` ({task.level}, {task.minutes} minutes)" for task in works.tasks(works.number(chapter)))
        text += f"\n{heading}\n{'-' * len(heading)}\n\n:doc:`To the chapter <chapters/{chapter.stem}>`\n\n{body}\n\nIn a file, checked: {files}.\n"
    return text


def records_table(results: Path) -> str:
    """The records: the command that made each, when, and the file itself."""
    rows = []
    for path in sorted(results.glob("*.json")):
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        command, commit = str(record.get("command") or ""), str(record.get("commit") or "")
        rows.append((f":download:`{path.name} <results/{path.name}>`", f"``{command}``" if command else "",
                     str(record.get("time") or record.get("started") or "")[:10].replace("-", "\N{NON-BREAKING HYPHEN}"), f"``{commit[:7]}``" if commit else ""))  # fmt: skip
    return table(("record", "made by", "on", "at commit"), rows)


def times_table(results: Path, chapters: Sequence[Path]) -> str:
    """How long each chapter takes, as `minidiff book --alone` has measured it; nothing where it has not."""
    path = results / "book.json"
    if not path.is_file():
        return ""
    record = json.loads(path.read_text(encoding="utf-8"))
    measured = {row["chapter"]: row for row in record["chapters"] if "alone_seconds" in row}
    rows = [(link(chapter), f"{row['alone_seconds']:.0f}", f"{row['alone_cpu_seconds']:.0f}") for chapter in chapters if (row := measured.get(chapter.stem))]
    heading = "How long the chapters take"
    return (f"\n{heading}\n{'-' * len(heading)}\n\nEach alone, in a fresh process, on {record['machine']['cores']} cores with other programs at work on them "
            f"(a load of {record['load_average']:.0f}): seconds on the clock, and seconds of processor, both cores added.\n\n"
            + table(("chapter", "clock, s", "processor, s"), rows))  # fmt: skip


# ------------------------------------------------------------------------------------------------ all of it


def write(folder: Path, root: Path = ROOT) -> list[Path]:
    """Write every page's source below `folder`; returns the chapters. Raises BadInput where they are missing."""
    chapters = chapter_files(root)
    readme = (root / "README.md").read_text(encoding="utf-8")

    def there(path: str) -> bool:
        return (root / path).exists()

    (folder / "scripts").mkdir(parents=True)
    for chapter in chapters:
        shutil.copy(chapter, folder / "scripts")
    shutil.copy(HERE / "pages" / "chapters.rst", folder / "scripts" / "GALLERY_HEADER.rst")
    for name in ("results", "../examples"):
        shutil.copytree(root / "chapters" / name, folder / Path(name).name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE / "static", folder / "static")
    for page in ("glossary.rst", "other_libraries.rst"):
        shutil.copy(HERE / "pages" / page, folder)

    pages = {
        "index.md": led(part(readme, "# minidiff", "## Chapters"), "README.md", there) + (HERE / "pages" / "index.md").read_text(encoding="utf-8"),
        "results.md": "# Results\n\n" + led(part(readme, "## Measured", "## Commands").removeprefix("## Measured\n\n"), "README.md", there)
        + f"\n## The records\n\n```{{eval-rst}}\n{records_table(folder / 'results')}```\n",
        "commands.md": "# Commands\n\n`minidiff COMMAND --help` explains one command, with examples.\n\n"
        + led(part(readme, "| | |\n|---|---|\n| `minidiff demo`", "## Layout"), "README.md", there),
        "notation.rst": notation_page(chapters),
        "references.rst": references_page(chapters),
        "teaching.rst": (HERE / "pages" / "teaching.rst").read_text(encoding="utf-8") + times_table(folder / "results", chapters),
        "exercises.rst": exercises_page(chapters),
    }  # fmt: skip
    for source, page in INCLUDED.items():
        if there(source):
            pages[page] = led((root / source).read_text(encoding="utf-8"), source, there)
    if "exercise-files.md" in pages:
        pages["index.md"] = pages["index.md"].replace("exercises\n", "exercises\nexercise-files\n")
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    api.write(folder / "api", chapters)
    return chapters
