"""A labelled table of small pictures: what every figure of the house that shows images is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .style import DPI, INK, LABEL, MUTED, SMALL, TITLE, WIDTH, fit_title, new_figure, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER = 255  # what lies between tiles, and where a tile is missing
PAD = 14  # pixels: the margin, and the distance from a label to what it names
LINE = 1.45 * LABEL * DPI / 72  # pixels: the height of a line of text
LARGEST = 128  # pixels: a tile larger than this shows blocks instead of a digit


def tile_offsets(count: int, size: int, gap: int, group: int = 1, group_gap: int | None = None) -> np.ndarray:
    """Where each of ``count`` tiles begins along one side, (count,) pixels; wider apart after each group."""
    i = np.arange(count)
    wider = 0 if group_gap is None else group_gap - gap
    return i * (size + gap) + i // group * wider


@dataclass
class PictureTable:
    """R x K pictures with labels, all measured in pixels at :data:`DPI` from the top left corner.

    tiles           uint8 (R,K,H,W,3) or (R,K,H,W); each pixel becomes scale x scale pixels of the figure
    groups          a name for every ``rows_per_group`` rows, far left
    row_labels      R texts beside the rows
    header          lines above the columns: each (name of the line, K texts)
    captions        a text above each tile, in reading order
    """

    tiles: np.ndarray
    groups: Sequence[str] = ()
    rows_per_group: int = 1
    row_labels: Sequence[str] = ()
    header: Sequence[tuple[str, Sequence[str]]] = ()
    captions: Sequence[str] = ()
    title: str | None = None

    def draw(self) -> Figure:
        self._measure()
        fig = new_figure(self.width / DPI, self.height / DPI, layout=None)
        ax = fig.add_axes((0, 0, 1, 1), xlim=(0, self.width), ylim=(self.height, 0))
        ax.set_axis_off()
        whole_page = (0, self.width, self.height, 0)
        ax.imshow(self._page(), interpolation="nearest", extent=whole_page, aspect="auto")
        self._write_above(ax)
        self._write_beside(ax)
        return fig

    def _measure(self) -> None:
        """Find the size of the page, the scale, and the left and top edges of the tiles."""
        R, K, H, W = self.tiles.shape[:4]
        self.beside = widest(self.row_labels, LABEL, PAD)
        names = widest([name for name, _ in self.header], LABEL, PAD)
        left = int(np.ceil(PAD + max(self.beside + widest(self.groups, LABEL + 1, PAD, "bold"), names)))

        gap = 6 if self.rows_per_group == 1 else 4
        room = WIDTH * DPI - left - PAD - (K - 1) * gap
        self.scale = max(1, min(int(room // (K * W)), LARGEST // W))
        self.tile_width, self.tile_height = W * self.scale, H * self.scale

        texts = [text for _, texts in self.header for text in texts] + list(self.captions)
        column_gap = max(gap, int(np.ceil(widest(texts, SMALL, 10))) - self.tile_width)
        row_gap = int(LINE) if self.captions else gap
        group_gap = row_gap if self.rows_per_group == 1 else 4 * gap
        self.overhang = (column_gap - gap + 1) // 2  # of a text on either side of its tile
        self.lefts = left + self.overhang + tile_offsets(K, self.tile_width, column_gap)
        self.width = int(self.lefts[-1] + self.tile_width + self.overhang + PAD)

        self.heading, lines, self.width = fit_title(self.title, self.width, PAD)
        top = PAD + (lines * 1.35 * TITLE * DPI / 72 + 10 if lines else 0)
        top = int(np.ceil(top + (len(self.header) + bool(self.captions)) * LINE))
        self.tops = top + tile_offsets(R, self.tile_height, row_gap, self.rows_per_group, group_gap)
        self.height = int(self.tops[-1] + self.tile_height + PAD)

    def _page(self) -> np.ndarray:
        """All tiles on white paper, (height,width,3): in colour, since a colour map would round the greys."""
        page = np.full((self.height, self.width, 3), PAPER, np.uint8)
        tiles = self.tiles if self.tiles.ndim == 5 else self.tiles[..., None]
        for y, row in zip(self.tops, tiles.repeat(self.scale, 2).repeat(self.scale, 3), strict=True):
            for x, tile in zip(self.lefts, row, strict=True):
                page[y : y + self.tile_height, x : x + self.tile_width] = tile
        return page

    def _write_above(self, ax: Axes) -> None:
        """The title, the lines of the header, and the captions."""
        if self.heading:
            ax.text(PAD, PAD, self.heading, size=TITLE, weight="bold", va="top")
        middles = self.lefts + self.tile_width / 2
        for i, (name, texts) in enumerate(self.header):
            y = self.tops[0] - (len(self.header) - i - 0.45) * LINE
            ax.text(self.lefts[0] - self.overhang - PAD, y, name, color=MUTED, ha="right", va="center")
            for x, text in zip(middles, texts, strict=True):
                ax.text(x, y, text, size=SMALL, color=MUTED if i else INK, ha="center", va="center")
        for i, text in enumerate(self.captions):
            x, y = middles[i % len(middles)], self.tops[i // len(middles)] - 0.45 * LINE
            ax.text(x, y, text, size=SMALL, color=MUTED, ha="center", va="center")

    def _write_beside(self, ax: Axes) -> None:
        """The labels of the rows and, left of them, the names of the groups."""
        x, middles = self.lefts[0] - self.overhang - PAD, self.tops + self.tile_height / 2
        for i, text in enumerate(self.row_labels):
            ax.text(x, middles[i], text, color=MUTED, ha="right", va="center")
        for i, text in enumerate(self.groups):
            y = middles[i * self.rows_per_group : (i + 1) * self.rows_per_group].mean()
            ax.text(x - self.beside, y, text, size=LABEL + 1, weight="bold", ha="right", va="center")


def widest(texts: Sequence[str], size: float, margin: float, weight: str = "normal") -> float:
    """The width in pixels that the longest of the texts needs with its margin; 0 without any."""
    width = max((text_width(text, size, weight) for text in texts), default=0.0)
    return width + margin if width else 0.0
