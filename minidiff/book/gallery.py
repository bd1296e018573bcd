"""How the chapters are run and laid out, for sphinx-gallery."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def same_chance(conf: dict[str, Any], name: str) -> None:
    """Before each chapter: the state that a fresh process would have."""
    import numpy as np

    import minidiff as md

    np.random.seed(0)                                       # for a library that still draws from NumPy's global state
    md.manual_seed(0)


def settings(run: Collection[int] | None) -> dict[str, Any]:
    """sphinx-gallery's options; `run` names the chapters to execute, None all of them."""
    which = "|".join(f"{number:02}" for number in run) if run else r"\d\d" if run is None else "none"
    return {
        "examples_dirs": "scripts",
        "gallery_dirs": "chapters",
        "filename_pattern": rf"/({which})_",
        "plot_gallery": run is None or bool(run),
        "within_subsection_order": "FileNameSortKey",
        "backreferences_dir": None,
        "doc_module": ("minidiff",),
        "reference_url": {"minidiff": None},                # code leads to this site's own reference
        "inspect_global_variables": True,
        "reset_modules": ("matplotlib", "minidiff.book.gallery.same_chance"),
        "remove_config_comments": True,                     # such as which picture goes on the tile
        "capture_repr": (),                                 # what a chapter wants shown, it prints
        "thumbnail_size": (480, 320),
        "write_computation_times": False,
        "show_signature": False,
        "show_memory": False,
        "download_all_examples": False,
        "min_reported_time": 0,
        "log_level": {"backreference_missing": "debug"},
    }
