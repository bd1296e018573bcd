"""A report card: what an evaluation found, on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .images import join_tiles, to_uint8
from .style import INK, LABEL, MUTED, SMALL, TITLE, house_look, new_figure
from .text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PER_CLASS = 12     # samples shown of each class


@house_look
def report_card(report: Any, train: np.ndarray, title: str = "Samples") -> Figure:
    """One page of a :class:`minidiff.evaluate.Report`: samples, figures beside those of controls, what is taken for what, and
    the samples that come nearest to a training image.

    train    the training images, uint8 (K,H,W), that `report.samples.pixels.index` points into
    """
    fig = new_figure(11.0, 7.4, layout=None)
    fig.text(0.03, 0.95, plain(title), size=TITLE + 2, weight="bold", color=INK)
    fig.text(0.03, 0.915, f"{report.n:,} samples beside as many images of {report.reference}", size=LABEL, color=MUTED)
    _samples(fig.add_axes((0.03, 0.31, 0.42, 0.58)), report)
    _figures(fig.add_axes((0.48, 0.44, 0.5, 0.45)), report)
    _confusion(fig.add_axes((0.56, 0.075, 0.30, 0.31)), report.confusion)
    _pairs(fig.add_axes((0.03, 0.05, 0.42, 0.2)), report, train)
    return fig


def _samples(ax: Axes, report: Any) -> None:
    """The first of each class, a row each."""
    pixels, rows = to_uint8(report.images), []
    for label in range(len(report.confusion)):
        mine = pixels[report.labels == label][:PER_CLASS]
        rows.append(np.concatenate([mine, np.full((PER_CLASS - len(mine), *mine.shape[1:]), 255, np.uint8)]))
    ax.imshow(join_tiles(np.stack(rows), 2), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()


def _figures(ax: Axes, report: Any) -> None:
    """The table of the report."""
    from ..evaluate.report import ROWS

    columns = {"samples": report.samples, **report.controls}
    ax.set(xlim=(0, 1), ylim=(len(ROWS) + 0.2, -1.2))
    ax.set_axis_off()
    places = np.linspace(0.55, 1.0, len(columns))
    for x, name in zip(places, columns, strict=True):
        ax.text(x, -0.15, name.replace("wrong labels", "wrong\nlabels"), ha="right", va="bottom", size=SMALL, color=MUTED)
    for y, (name, show) in enumerate(ROWS):
        ax.text(0.0, y + 0.5, name.strip(), va="center", size=SMALL, color=MUTED)
        for x, m in zip(places, columns.values(), strict=True):
            first = m is report.samples
            ax.text(x, y + 0.5, show(m), ha="right", va="center", size=SMALL, color=INK, weight="bold" if first else "normal")
        ax.axhline(y, color="#e6e9ed", lw=0.8)


def _confusion(ax: Axes, confusion: np.ndarray) -> None:
    """Which class (row) was taken for which (column); the diagonal is left empty, so that mistakes can be seen."""
    wrong = confusion.astype(float)
    np.fill_diagonal(wrong, 0)
    share = wrong / np.maximum(confusion.sum(1, keepdims=True), 1)
    ax.imshow(share, cmap="Oranges", vmin=0, vmax=max(0.02, 2.0 * share.max()))
    for i, j in zip(*np.nonzero(wrong), strict=True):
        ax.text(j, i, f"{confusion[i, j]}", ha="center", va="center", size=SMALL - 1, color=INK)
    K = len(confusion)
    ax.set(xticks=range(K), yticks=range(K), xlabel="what the judge sees", ylabel="what was asked for")
    ax.tick_params(length=0, labelsize=SMALL)
    ax.set_title("Mistakes", size=LABEL)


def _pairs(ax: Axes, report: Any, train: np.ndarray) -> None:
    """Of each class the sample nearest to a training image, in pixels, above that image."""
    near = report.samples.pixels
    chosen = [min(np.flatnonzero(report.labels == label), key=lambda i: near.distance[i]) for label in np.unique(report.labels)]
    size = train.shape[-1]
    top = to_uint8(report.images[chosen])
    trim = (top.shape[-1] - size) // 2
    top = top[:, trim : trim + size, trim : trim + size]
    ax.imshow(join_tiles(np.stack([top, train[near.index[chosen]]]), 2), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_title("Nearest to a training image, of each class", size=LABEL)
    ax.set_axis_off()
