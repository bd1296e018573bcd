"""What chapters end with, gathered: the works that they recommend, and their exercises."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..exercises.task import Task
from ..exercises.tasks import TASKS

WORK = re.compile(r"([^*]*?)\*([^*]+)\*([^*]*?\b(?:1[89]|20)\d\d\b)")
INITIALS = re.compile(r"\b(?:[A-Z]\. ?-?)+(?=[A-ZÀ-Ž]|de )")


@dataclass
class Work:
    """A work, and the chapters that recommend it."""

    authors: str
    title: str
    rest: str                                               # edition, journal, year
    chapters: list[int] = field(default_factory=list)

    @property
    def order(self) -> str:
        """By author, then by year."""
        return f"{self.authors} {self.rest}".casefold()


def number(chapter: Path) -> int:
    """12 of ``12_training.py``."""
    return int(chapter.name[:2])


def title(chapter: Path) -> str:
    """The chapter's title, without importing it."""
    return next(line for line in chapter.read_text(encoding="utf-8").splitlines() if line.strip('"'))


def tasks(number: int) -> list[Task]:
    """The exercises of a chapter that are written in a file, and checked."""
    return [task for task in TASKS.values() if task.chapter == number]


def code(chapter: Path) -> str:
    """The chapter without its prose: no comments, no docstrings."""
    return re.sub(r'#.*|(?s:""".*?""")', "", chapter.read_text(encoding="utf-8"))


def section(chapter: Path, heading: str) -> list[str]:
    """The prose below a heading, up to the next, as lines of reStructuredText."""
    text = chapter.read_text(encoding="utf-8")
    found = re.search(rf"^# {heading}\n# -+\n((?:#.*\n)*?)(?=# \S.*\n# ---|(?!#))", text, flags=re.M)
    return [line.removeprefix("#").removeprefix(" ") for line in found[1].splitlines()] if found else []


def items(lines: Iterable[str]) -> list[str]:
    """The entries of a list that begins with stars, each in one line."""
    found: list[str] = []
    for line in lines:
        if line.startswith("* "):
            found.append(line[2:])
        elif line.startswith("  ") and found:
            found[-1] += " " + line.strip()
    return found


def collect(chapters: Iterable[Path]) -> list[Work]:
    """Every work that a chapter recommends, once, by author."""
    works: dict[str, Work] = {}
    for chapter in chapters:
        for item in items(section(chapter, "Further reading")):
            before = ""
            for authors, name, rest in WORK.findall(item):
                before = authors = INITIALS.sub("", re.sub(r"^[:;,. ]*(and )?|[, ]+$", "", authors)) or before
                work = works.setdefault(name.casefold(), Work(authors, name, rest.strip(", ")))
                if len(authors) > len(work.authors):        # one chapter names them all, another says "and others"
                    work.authors = authors
                work.rest = max(work.rest, rest.strip(", "))
                if number(chapter) not in work.chapters:
                    work.chapters.append(number(chapter))
    return sorted(works.values(), key=lambda work: work.order)
