"""Docstrings as pages: prose flows, and what is aligned stays as it was typed.

The docstrings of minidiff are plain text for people with an editor: formulas in columns, shapes behind a `#`, names between
backquotes. Read as reStructuredText they would fall apart, so each paragraph is turned into it here. A paragraph is
prose if its lines begin at the margin and have single spaces only; anything else is kept letter by letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CODE = re.compile(r"(?::[a-z:]+:)?(`{1,2})([^`\n]+?)\1")
SPECIAL = re.compile(r"([\\*_|`<>\[\]:])")
FORMULA = re.compile(r"^[^ ].* [=≈] .*$")
SHAPES = re.compile(r"([A-Za-z`][^=≈]*\S) {2,}# (.+)")       # a sentence, and behind it what shapes it is about
ROLE = re.compile(r":[a-z]+:(?=`)")


def escaped(text: str) -> str:
    """Plain text as reStructuredText that shows it: names between backquotes become code, all else stands for itself."""
    parts, end = [], 0
    for found in CODE.finditer(text):
        parts += [SPECIAL.sub(r"\\\1", text[end : found.start()]), _code(found[2])]
        end = found.end()
    return "".join([*parts, SPECIAL.sub(r"\\\1", text[end:])])


def _code(text: str) -> str:
    """A literal that may touch letters on both sides, as "`x`s" does."""
    return rf"\ ``{text.strip().lstrip('~')}``\ "


def paragraphs(text: str) -> list[list[str]]:
    """The lines between blank lines, a few at a time."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip():
            found[-1].append(line.rstrip())
        elif found[-1]:
            found.append([])
    return [lines for lines in found if lines]


def is_prose(lines: Iterable[str]) -> bool:
    """Whether nothing is lost when the lines are run together."""
    return all(re.match(r"[^\s\-*|+.>\d(]|\(?\w", line) and not re.search(r"\S {2,}\S", line) for line in lines)


def as_rst(docstring: str) -> list[str]:
    """The lines of reStructuredText that show a docstring, which has lost the margin of the code around it."""
    lines: list[str] = []
    block: list[str] = []                                   # literal paragraphs that follow each other stay one block

    def close() -> None:
        if block:
            lines.extend(["::", "", *("    " + ROLE.sub("", line) if line else "" for line in block), ""])
            block.clear()

    for paragraph in paragraphs(docstring):
        if len(paragraph) == 1 and (said := SHAPES.fullmatch(paragraph[0])):
            close()
            lines += [f"{escaped(said[1])} {_code(said[2])}", ""]
        elif is_prose(paragraph) and not all(FORMULA.match(line) and "`" not in line for line in paragraph):
            close()
            lines += [escaped(" ".join(paragraph)), ""]
        else:
            block += ["", *paragraph] if block else paragraph
    close()
    return lines
