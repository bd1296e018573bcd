"""Numbers in the pages, filled in from the records in chapters/results.

A page says where each of its numbers comes from, in a comment that no reader sees:

    recognises <!--= mnist-evaluate.json class_accuracy {:.1%} -->99.6%<!--/--> of them

that is, a record, the way to a value in it, and Python's format; or `len`, how many there are; or "lines FILE FILE", how many
lines of code. Code is quoted with its backticks in the format, `{}` between two of them: a comment inside of a code span would be
shown. `minidiff book --numbers` writes what stands between the comments, and a test fails where it is not what the
record says.
"""

from __future__ import annotations

import ast
import json
import re
import tokenize
from pathlib import Path
from urllib.parse import unquote

from ..errors import BadInput
from ..files import atomic_path

PAGES = ("README.md", "minidiff/kernels/cuda/README.md")
QUOTE = re.compile(r"<!--= (?P<source>.+?) -->(?P<text>.*?)<!--/-->")


def quoted(root: Path) -> list[tuple[str, str, str]]:
    """Every number of the pages: page, source and text."""
    return [(page, found["source"], found["text"]) for page in PAGES for found in QUOTE.finditer((root / page).read_text(encoding="utf-8"))]


def measured(source: str, root: Path) -> str:
    """What the record says, or the count. Raises BadInput for a source that leads nowhere."""
    first, *rest = source.split(" ")
    if first == "lines":
        return str(sum(code_lines(root / name) for name in rest))
    try:
        value = json.loads((root / "chapters" / "results" / first).read_text(encoding="utf-8"))
        for key in rest[0].split("/"):
            value = value[int(key) if isinstance(value, list) else unquote(key)]
        return str(len(value)) if rest[1] == "len" else rest[1].format(value)
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise BadInput(f"book: '{source}' leads to nothing ({type(error).__name__}: {error})") from None


def refresh(root: Path) -> list[str]:
    """Bring every page's numbers up to date; says what changed. Nothing is written if one source leads nowhere."""
    changes: list[str] = []
    pages: dict[Path, str] = {}
    for page in PAGES:
        def renewed(found: re.Match[str], page: str = page) -> str:
            now = measured(found["source"], root)
            if now != found["text"]:
                changes.append(f"{page}: {found['source']}: {found['text']} -> {now}")
            return f"<!--= {found['source']} -->{now}<!--/-->"

        text = (root / page).read_text(encoding="utf-8")
        pages[root / page] = QUOTE.sub(renewed, text)
    for path, text in pages.items():
        if text != path.read_text(encoding="utf-8"):
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return changes


def code_lines(path: Path) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    source = path.read_text(encoding="utf-8")
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            last = node.body[0].end_lineno
            prose.update(range(node.body[0].lineno, (last or node.body[0].lineno) + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code: set[int] = set()
    for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__):
        if token.type not in silent:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - prose)
