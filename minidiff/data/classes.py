"""The order of classes, and how they are asked for by name."""

from __future__ import annotations

import re
from typing import Any


def natural_order(name: str) -> tuple[Any, ...]:
    """A sort key by which numbers are ordered by value: 2 before 10, 0.25 before 0.5, img2 before img10."""
    if re.fullmatch(r"[-+]?\d+(\.\d+)?", name):
        return 0, float(name), name
    pieces = re.split(r"(\d+)", name)          # text at even places, digits at odd ones
    return 1, [int(piece) if k % 2 else piece for k, piece in enumerate(pieces)], name
