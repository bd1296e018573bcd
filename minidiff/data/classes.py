"""The order of classes, and how they are asked for by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from minidiff.errors import BadInput

SHOWN = 20          # names in a message


def natural_order(name: str) -> tuple[Any, ...]:
    """A sort key by which numbers are ordered by value: 2 before 10, 0.25 before 0.5, img2 before img10."""
    if re.fullmatch(r"[-+]?\d+(\.\d+)?", name):
        return 0, float(name), name
    pieces = re.split(r"(\d+)", name)          # text at even places, digits at odd ones
    return 1, [int(piece) if k % 2 else piece for k, piece in enumerate(pieces)], name


def find_classes(command: str, text: str, classes: Sequence[str]) -> list[int]:
    """The labels that a request means, in its order, each once.

        cat,dog        classes by name, whatever the names look like
        0-9            those from one name to another, in natural order
        "a,b","1"-"3"  names in quotes are names and nothing else (a quote in a name is written twice)
        index:0-2      classes by label, 0 … K−1
        none           no class, label −1; where a class has that name, index:-1 is no class

    Names come first: only what cannot be read as names is read as `none` or an index. What can be read as names in two ways,
    such as 1-3 where that is a class and 1 and 3 are classes too, is refused.

    Args:
        command: who asks; messages begin with it.
        text: the request.
        classes: the name of each class, index = label.

    Raises:
        BadInput: no such class, a range that runs backwards, or a request with two meanings.
    """
    ends = [k for k, sign in enumerate(text) if sign == ","] + [len(text)]
    most = 2 * max((name.count(",") for name in classes), default=0) + 1          # ends that a range of two names may reach to
    place = {name: label for label, name in enumerate(classes)}
    readings: dict[int, list[list[int]]] = {len(text) + 1: [[]]}          # of the text from a place on, two at most
    for k, start in reversed(list(enumerate([0, *(end + 1 for end in ends[:-1])]))):
        found: list[list[int]] = []
        for end in ends[k:k + most]:
            if readings[end + 1]:
                found += [[*labels, *rest] for labels in _labels(text[start:end], place) for rest in readings[end + 1]]
        readings[start] = [labels for k, labels in enumerate(found) if labels not in found[:k]][:2]
    if len(readings[0]) > 1:
        one, two = (", ".join(_quoted(classes[label]) if label >= 0 else "no class" for label in labels) for labels in readings[0])
        raise BadInput(f"{command}: {text} has two meanings: {one}; or {two}; write names in quotes, as here")
    if not readings[0]:
        raise BadInput(f"{command}: {_fault(text, classes)}")
    return list(dict.fromkeys(readings[0][0]))


def _labels(part: str, place: dict[str, int]) -> list[list[int]]:
    """What one part of a request can mean: the labels of each reading; names before all else."""
    name = _name(part, place)
    readings = [] if name is None else [[place[name]]]
    for first, last in _ends(part):
        if (low := _name(first, place)) is not None and (high := _name(last, place)) is not None:
            ordered = sorted(place, key=natural_order)
            readings.append([place[name] for name in ordered[ordered.index(low):ordered.index(high) + 1]])
    if readings:
        return [labels for labels in readings if labels]          # a range that runs backwards has none
    if part.strip() == "none":
        return [[-1]]
    if match := re.fullmatch(r"index:(-1|(\d+)(?:-(\d+))?)", part.strip()):
        labels = list(range(int(match[2]), int(match[3] or match[2]) + 1)) if match[2] else [-1]
        return [labels] if labels and labels[-1] < len(place) else []
    return []


def _name(part: str, place: dict[str, int]) -> str | None:
    """The class's name that this is, as it stands, without the spaces around it, or in quotes."""
    quoted = re.fullmatch(r'"((?:[^"]|"")*)"', part.strip())
    spellings = (part, part.strip(), *([quoted[1].replace('""', '"')] if quoted else ()))
    return next((name for name in spellings if name in place), None)


def _ends(part: str) -> list[tuple[str, str]]:
    """The two sides of each hyphen, any of which may be that of a range."""
    return [(part[:k], part[k + 1:]) for k, sign in enumerate(part) if sign == "-"]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _fault(text: str, classes: Sequence[str]) -> str:
    """Why a request has no meaning."""
    place = {name: label for label, name in enumerate(classes)}
    part = next((part for part in text.split(",") if not _labels(part, place)), text).strip()
    for first, last in _ends(part):
        low, high = _name(first, place), _name(last, place)
        if low is not None and high is not None:
            return f"class range '{part}' runs backwards; write {high}-{low}"
        if low is not None or high is not None:
            part = (last if low is not None else first).strip()
            break
    numbered = list(classes) == [str(k) for k in range(len(classes))]
    known = (f"0-{len(classes) - 1}" if numbered else
             ", ".join(classes[:SHOWN]) + (f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""))
    by_index = f"; index:{int(part)} means {classes[int(part)]}" if part.isdecimal() and int(part) < len(classes) else ""
    shown = part if re.fullmatch(r"[^\s,]+", part) else _quoted(part)
    return f"class {shown} is not in this model; it knows {known}{by_index}"
