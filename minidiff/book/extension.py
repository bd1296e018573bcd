"""What the book asks of Sphinx: formulas as pictures, docstrings as they were typed, numbered chapters."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

from . import works
from .docstrings import as_rst
from .formulas import lines_of, picture


def _inline(self: Any, node: nodes.Element) -> None:
    self.body.append(f'<span class="formula">{picture(node.astext())}</span>')
    raise nodes.SkipNode


def _block(self: Any, node: nodes.Element) -> None:
    self.body.append(f'<div class="formula">{"<br>".join(map(picture, lines_of(node.astext())))}</div>\n')
    raise nodes.SkipNode


def _docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst("\n".join(lines))


def _number(app: Sphinx, doctree: nodes.document) -> None:
    """Put a chapter's number before its title, for the heading, the sidebar and the links from page to page."""
    if found := re.match(r"chapters/(\d\d)_", app.env.docname):
        title = next(iter(doctree.findall(nodes.title)))
        title.insert(0, nodes.Text(f"{int(found[1])}. "))


def _lead(app: Sphinx, doctree: nodes.document) -> None:
    """Make "chapter 13", wherever prose says it, lead there."""
    pages = {int(page[9:11]): page for page in app.env.found_docs if re.match(r"chapters/\d\d_", page)}
    for text in [text for text in doctree.findall(nodes.Text) if isinstance(text.parent, nodes.paragraph)]:
        new: list[nodes.Node] = []
        for words in re.split(r"(\b[Cc]hapter \d+\b)", text.astext()):
            page = pages.get(int(words.split()[1])) if re.fullmatch(r"[Cc]hapter \d+", words) else None
            if page is None or page == app.env.docname:
                new.append(nodes.Text(words))
            else:
                new.append(pending_xref("", nodes.inline("", words), refdomain="std", reftype="doc", reftarget=f"/{page}", refexplicit=True,
                                        refwarn=True, refdoc=app.env.docname))  # fmt: skip
        if len(new) > 1:
            text.parent.replace(text, new)


def _tasks(app: Sphinx, doctree: nodes.document) -> None:
    """Below a chapter's exercises: those that are written in a file, and checked."""
    found = re.match(r"chapters/(\d\d)_", app.env.docname)
    section = next((s for s in doctree.findall(nodes.section) if found and s[0].astext() == "Exercises"), None)
    if found is None or section is None:
        return
    line = nodes.paragraph()
    line += pending_xref("", nodes.inline("", "To be written in a file and checked"), refdomain="std", reftype="doc", reftarget="/exercise-files",
                         refexplicit=True, refwarn=True, refdoc=app.env.docname)  # fmt: skip
    line += nodes.Text(": ")
    for i, task in enumerate(works.tasks(int(found[1]))):
        line += [nodes.Text(", " if i else ""), nodes.literal("", task.name), nodes.Text(f" ({task.level})")]
    line += nodes.Text(".")
    section += line


def _images(app: Sphinx) -> None:
    """The films are WebP, which every browser shows."""
    if "image/webp" not in app.builder.supported_image_types:
        app.builder.supported_image_types = [*app.builder.supported_image_types, "image/webp"]


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls to have all this."""
    app.add_html_math_renderer("pictures", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.add_css_file("book.css")
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("doctree-read", _number, priority=1)
    app.connect("doctree-read", _lead)
    app.connect("doctree-read", _tasks)
    app.connect("builder-inited", _images)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
