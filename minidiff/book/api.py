"""The reference: a page for each room of the library, with every public name and its docstring."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from . import works
from .docstrings import as_rst

ROOMS = {
    "minidiff": "Tensors and gradients",
    "minidiff.nn": "Modules and layers",
    "minidiff.nn.functional": "Functions of networks",
    "minidiff.ops": "Operations",
    "minidiff.optim": "Optimizers",
    "minidiff.models": "Models",
    "minidiff.diffusion": "Diffusion",
    "minidiff.data": "Data",
    "minidiff.train": "Training",
    "minidiff.evaluate": "Evaluation",
    "minidiff.viz": "Pictures",
}


def members(name: str) -> dict[str, Any]:
    """{public name: what it is} of a room, without the rooms inside, and without what the room before shows already."""
    module = importlib.import_module(name)
    shown = set(importlib.import_module("minidiff.nn.functional").__all__) if name == "minidiff.ops" else set()
    found = {each: getattr(module, each) for each in module.__all__ if each not in shown}
    return {each: thing for each, thing in found.items() if not isinstance(thing, ModuleType)}


def used(room: str, name: str, codes: dict[Path, str]) -> str:
    """References to the chapters whose code says the name: ``md.diffusion.sample``, ``F.conv2d``; empty where none does."""
    last = room.rpartition(".")[2]
    ways = {"minidiff": "md", "functional": "F|functional"}.get(last, last)
    said = re.compile(rf"\b(?:{ways})\.{name}\b")
    found = [f":doc:`{works.number(chapter)} <../chapters/{chapter.stem}>`" for chapter, code in codes.items() if said.search(code)]
    return f"In chapter{'s' * (len(found) > 1)} {', '.join(found)}." if found else ""


def entry(room: str, name: str, thing: Any, codes: dict[Path, str]) -> list[str]:
    """The directive that shows one name."""
    full = f"{room}.{name}"
    where = ["", f"   {line}", ""] if (line := used(room, name, codes)) else [""]
    if inspect.isclass(thing):
        return [f".. autoclass:: {full}", "   :members:", "   :member-order: bysource", *where]
    if callable(thing):
        return [f".. autofunction:: {full}", *where]
    if isinstance(thing, dict | tuple | list | set | frozenset) and all(isinstance(each, str) for each in thing):
        text = ", ".join(f"``{each}``" for each in thing)
    else:
        text = f"``{thing!r}``"
    return [f".. py:data:: {full}", "", f"   {text}", *where]


def page(room: str, codes: dict[Path, str]) -> str:
    """The source of one room's page."""
    module = importlib.import_module(room)
    heading = f"{ROOMS[room]}: ``{room}``"
    lines = [heading, "=" * len(heading), "", f".. currentmodule:: {room}", "", *as_rst(module.__doc__ or ""), ""]
    for name, thing in members(room).items():
        lines += entry(room, name, thing, codes)
    return "\n".join(lines) + "\n"


def write(folder: Path, chapters: Sequence[Path]) -> None:
    """All pages, and the one that leads to them."""
    folder.mkdir()
    codes = {chapter: works.code(chapter) for chapter in chapters}
    for room in ROOMS:
        (folder / f"{room}.rst").write_text(page(room, codes), encoding="utf-8")
    rooms = "\n".join(f"   {room}" for room in ROOMS)
    (folder / "index.rst").write_text(
        "Reference\n=========\n\nEvery public name, by room, with its docstring as it stands in the code and the chapters that use it.\n\n"
        f".. toctree::\n   :maxdepth: 1\n\n{rooms}\n", encoding="utf-8")
