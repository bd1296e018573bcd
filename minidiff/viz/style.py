"""The house look, said once: sizes, colours, type, and the few lines that apply them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from .text import FONT, clean, escaped, one_warning

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

DPI = 150
WIDTH = 8.0  # inches: 1200 pixels, which a README shows at about 850

TITLE, LABEL, SMALL = 12.5, 10.5, 9.5  # points

INK = "#1b1f24"  # text
MUTED = "#5b6470"  # second-rank text
FAINT = "#d9dde3"  # grid lines
# Okabe & Ito (2008): told apart by readers with any common colour blindness. Their yellow is left out:
# it vanishes on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b1f24")
LINES = ("-", "--", "-.", ":")  # the next dash pattern starts where the colours begin again

STYLE = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": [FONT],
    "font.size": LABEL,
    "text.color": INK,
    "text.usetex": False,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": TITLE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": LABEL,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "white",
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": SMALL,
    "svg.hashsalt": "minidiff",  # the same picture gives the same bytes
    "pdf.fonttype": 42,
}


def house_look(draw: Callable[P, R]) -> Callable[P, R]:
    """Run ``draw`` under :data:`STYLE`; the caller's own matplotlib settings are back afterwards."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(), one_warning():
            # Start from matplotlib's defaults, so that a reader's own matplotlibrc cannot change the book.
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float = WIDTH, height: float = 4.5, layout: str | None = "constrained") -> Figure:
    """An empty figure of ``width`` x ``height`` inches that pyplot knows nothing about."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def line_style(i: int) -> str:
    return LINES[i // len(COLOURS) % len(LINES)]


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of ``text`` in pixels at :data:`DPI` (the widest of its lines; mathtext is understood)."""
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family=matplotlib.rcParams["font.family"], weight=weight)
    widths = [
        TextPath((0, 0), line, size=size, prop=font).get_extents().x1
        for line in text.split("\n")
        if line.strip()
    ]
    return max(widths, default=0.0) * DPI / 72


def fit_title(title: str | None, width: int = int(WIDTH * DPI), pad: int = 40) -> tuple[str, int, int]:
    """The title, as it is given, broken into lines, their number, and the page width it needs (pixels)."""
    if not title:
        return "", 0, width
    title = "\n".join(map(clean, title.split("\n")))
    needed = text_width(escaped(title), TITLE, "bold")
    room = max(width, 0.6 * WIDTH * DPI) - 2 * pad
    if needed > room:
        title = "\n".join(textwrap.wrap(title, max(10, int(0.95 * len(title) * room / needed))))
        needed = text_width(escaped(title), TITLE, "bold")
    return escaped(title), title.count("\n") + 1, max(width, int(needed) + 2 * pad)


def tidy(ax: Axes, grid: str = "both") -> None:
    """Grid lines without tick marks: the lines already say where the numbers are."""
    ax.grid(True, which="major", axis=grid)
    ax.tick_params(which="both", length=0)
