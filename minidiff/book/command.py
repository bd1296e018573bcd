"""`minidiff book`: lay the pages out, run the chapters, build the site, and put it where it was asked for."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import BadInput
from . import layout, quotes, works
from .alone import measure

MARK = ".minidiff-book"                                     # a folder that has it was made here, and may be replaced
NEEDED = ("sphinx", "sphinx_gallery", "furo", "myst_parser", "sphinx_design")


def main_book(args: argparse.Namespace, record: Path | None) -> int:
    """Build the site. Exit status 0 only when there was not one warning."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise BadInput(f"book: {', '.join(missing)} not installed; pip install 'minidiff[book]'")
    chapters = layout.chapter_files()
    run = chosen(args, len(chapters))
    out = free(Path(args.out))
    alone = measure(chapters) if args.alone else []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="minidiff-book-") as temporary:
        folder = Path(temporary)
        layout.write(folder / "pages")
        status, seconds = build(folder, run)
        if status:
            print("minidiff: book: not written, because of what is said above", file=sys.stderr)
            return 1
        shutil.rmtree(folder / "site" / "_sources", ignore_errors=True)     # empty: the sources are the repository's
        (folder / "site" / MARK).touch()
        replace(folder / "site", out)
    took = time.perf_counter() - start
    print(f"wrote {out / 'index.html'}: {len(chapters)} chapters, {len(seconds)} of them run, in {took:.0f} s")
    if record:
        write_record(record, took, seconds, alone)
    return 0


def main_numbers() -> int:
    """Write the numbers of README and its sisters anew, from the records of the checkout."""
    layout.chapter_files()                                   # raises where there is no checkout
    changes = quotes.refresh(layout.ROOT)
    print("\n".join(changes) if changes else "every number is the recorded one already")
    return 0


def chosen(args: argparse.Namespace, count: int) -> list[int] | None:
    """The chapters to execute; None for all. Raises BadInput."""
    if args.no_run:
        return []
    for number in args.chapters or ():
        if not 1 <= number <= count:
            raise BadInput(f"book: there is no chapter {number}; the book has 1 to {count}")
    return args.chapters


def free(out: Path) -> Path:
    """`out`, if the site may be put there. Raises BadInput."""
    from ..train.folder import check_writable

    if out.exists() and not (out.is_dir() and ((out / MARK).exists() or not any(out.iterdir()))):
        raise BadInput(f"book: {out} holds something else; give --out a folder that is new, empty or an earlier book")
    check_writable(out)
    return out


def replace(site: Path, out: Path) -> None:
    """Move the finished site to `out`, in the place of an earlier one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        shutil.rmtree(out)
    shutil.move(site, out)


def options(run: list[int] | None) -> dict[str, Any]:
    """Sphinx's settings."""
    from .. import __version__
    from . import gallery

    return {
        "project": "minidiff",
        "html_title": "minidiff",
        "release": __version__,
        "html_show_copyright": False,
        "html_show_sphinx": False,
        "extensions": ["sphinx.ext.autodoc", "sphinx_gallery.gen_gallery", "myst_parser", "sphinx_design", "minidiff.book.extension"],
        "exclude_patterns": ["scripts", "examples", "results"],
        "myst_heading_anchors": 3,
        "myst_enable_extensions": ["colon_fence"],
        "html_theme": "furo",
        "html_math_renderer": "pictures",
        "html_static_path": ["static"],
        "html_copy_source": False,
        "html_theme_options": {"navigation_with_keys": True},
        "autodoc_preserve_defaults": True,
        "autodoc_typehints_format": "short",
        "python_use_unqualified_type_names": True,
        "maximum_signature_line_length": 88,
        "toc_object_entries": False,
        "sphinx_gallery_conf": gallery.settings(run),
    }


def build(folder: Path, run: list[int] | None) -> tuple[int, dict[str, float]]:
    """Run Sphinx over ``folder/pages`` into ``folder/site``; its status, and the seconds that each chapter took."""
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError
    from sphinx.util.console import nocolor
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    os.environ.setdefault("MPLBACKEND", "Agg")
    if not sys.stdout.isatty():
        nocolor()
    here, settings, report = Path.cwd(), options(run), folder / "times.xml"
    settings["sphinx_gallery_conf"]["junit"] = str(report)
    try:
        with patch_docutils(None), docutils_namespace():
            app = Sphinx(folder / "pages", None, folder / "site", folder / "trees", "html", settings,
                         status=sys.stdout, warning=sys.stderr, warningiserror=True)  # fmt: skip
            app.builder.epilog = ""                         # it would name a folder that is about to move
            app.build()
        return app.statuscode, times(report)
    except SphinxError as error:                            # a chapter's traceback, whole
        print(error, file=sys.stderr)
        return 1, {}
    finally:
        os.chdir(here)


def times(report: Path) -> dict[str, float]:
    """{chapter: seconds} of those that were executed, from sphinx-gallery's report."""
    from xml.etree import ElementTree

    if not report.exists():
        return {}
    cases = ElementTree.parse(report).getroot().iter("testcase")
    return {Path(case.get("file", "")).stem: round(float(case.get("time", 0)), 1) for case in cases
            if case.find("skipped") is None and float(case.get("time", 0)) > 0}  # fmt: skip


def write_record(path: Path, took: float, seconds: dict[str, float], alone: list[dict[str, Any]]) -> None:
    """What the build took, and each chapter in it; with --alone, each chapter by itself too."""
    from ..backend import get_num_threads
    from ..train import records

    rows = {chapter.stem: {"chapter": chapter.stem, "title": works.title(chapter)} for chapter in layout.chapter_files()}
    for stem, spent in seconds.items():
        rows[stem]["seconds"] = spent
    for row in alone:
        rows[row["chapter"]].update(row)
    records.write_json(path, {"command": records.command_line(), "commit": records.commit(), "time": records.now(), "seconds": round(took, 1),
                              "load_average": os.getloadavg()[2], "chapters": list(rows.values()),
                              "machine": records.machine("cpu", get_num_threads()), "versions": records.versions()})  # fmt: skip
    print(f"wrote {path}")
