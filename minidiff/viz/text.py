"""Names given by users, such as those of classes, runs and files, as text that matplotlib draws unchanged.

Matplotlib sets what stands between two `$` as mathematics, breaks lines at line breaks, leaves curves out of a legend whose
names begin with `_`, and draws boxes for characters that its font lacks, with a warning for each. In a name all of these are
characters like others. Those that the font lacks are drawn in another font where this machine has one; where it has none,
there is one warning.
"""

from __future__ import annotations

import logging
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

FONT = "DejaVu Sans"  # comes with matplotlib: the same picture on every machine
WEIGHTS = ("normal", "bold")
BOX = "\N{WHITE SQUARE}"  # for a character that no font has
LAST_RESORT = "Last Resort"  # a font of boxes, which matplotlib brings along since 3.11

_missing: set[str] = set()  # characters of the figure that is being drawn
_warned: set[str] = set()  # those that a warning has named


def plain(name: object) -> str:
    """A user's name as text in which `$` begins no mathematics."""
    return escaped(clean(name))


def escaped(text: str) -> str:
    r"""Text whose `$` matplotlib draws: ``\$`` in its language."""
    return text.replace("$", r"\$")


def in_legend(name: object) -> str:
    """The same, where matplotlib would leave out a name that begins with `_`."""
    text = plain(name)
    return f" {text}" if text.startswith("_") else text


def clean(name: object) -> str:
    """A name in one line, of characters that can be drawn; adds fonts to ``font.family`` where it needs them.

    Letters that are written as a letter and an accent become one, white space becomes a space, and what no font has a box
    (nothing, if it would be invisible).
    """
    text = str(name)
    if text.isascii() and text.isprintable():
        return text
    text = "".join(" " if c.isspace() else c for c in unicodedata.normalize("NFC", text))
    lacking = frozenset(c for c in text if not _has(FONT, c))
    for family in _families(lacking):
        _use(family)
    unknown = {c for c in lacking if not any(_has(family, c) for family in _families(lacking))}
    _missing.update(c for c in unknown if not _invisible(c))
    return "".join(("" if _invisible(c) else BOX) if c in unknown else c for c in text)


@contextmanager
def one_warning() -> Iterator[None]:
    """A figure is drawn inside: what its names lack is said at its end, once in a process, and matplotlib is silent about fonts."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
        if new := sorted(_missing - _warned):
            _warned.update(new)
            shown = " ".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in new[:8])
            more = f" and {len(new) - 8} more" if len(new) > 8 else ""
            warnings.warn(f"viz: no font on this machine has {shown}{more}; {BOX} is drawn in their place; install a font that has them", stacklevel=4)
    finally:
        log.setLevel(level)
        _missing.clear()


def _invisible(c: str) -> bool:
    """Joiners and variation selectors, which only tell how their neighbours are drawn."""
    return unicodedata.category(c) in ("Cf", "Mn")


def _use(family: str) -> None:
    import matplotlib

    families = matplotlib.rcParams["font.family"]
    if family not in families:
        matplotlib.rcParams["font.family"] = [*families, family]


def _families(characters: frozenset[str]) -> tuple[str, ...]:
    """Fonts of this machine that together have as many of the characters as any, the one with most of them first."""
    return _found(frozenset(c for c in characters if c.isprintable())) if characters else ()


@cache
def _found(characters: frozenset[str]) -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    names = sorted({entry.name for entry in fontManager.ttflist if not entry.name.startswith((LAST_RESORT, "."))},
                   key=lambda name: ("Sans" not in name, name))  # fmt: skip
    chosen: list[str] = []
    left = set(characters)
    while left:
        best = max(names, key=lambda name: sum(_has(name, c) for c in left), default=FONT)
        now = {c for c in left if _has(best, c)}
        if not now:
            break
        chosen.append(best)
        left -= now
    return tuple(chosen)


def _has(family: str, character: str) -> bool:
    return ord(character) in _characters(family)


@cache
def _characters(family: str) -> frozenset[int]:
    """What this font can draw in all weights that figures use; nothing, if it is made of bitmaps."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    each = []
    for weight in WEIGHTS:
        try:
            face = get_font(findfont(FontProperties(family=family, weight=weight)))
        except (RuntimeError, OSError, ValueError):
            return frozenset()
        each.append(frozenset(face.get_charmap() if face.scalable else ()))
    return frozenset.intersection(*each)
