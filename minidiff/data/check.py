"""What is known of one file of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Check:
    """Whether one file (or, for glyphs, one split) is what it should be, and how that is known."""

    name: str
    path: Path | None
    ok: bool
    detail: str

    def __str__(self) -> str:
        where = self.path or self.name
        # A file may bear any name, and an archive holds several: then both are told.
        which = f" holds {self.name}" if self.path and not self.path.name.startswith(self.name) else ""
        return f"{'ok    ' if self.ok else 'FAILED'}  {where}{which}: {self.detail}"
