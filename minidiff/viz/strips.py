"""The two processes as strips: noise added from left to right, noise removed from left to right. And strips with names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput
from .images import as_array, class_labels, to_uint8
from .style import house_look
from .table import PictureTable
from .text import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@house_look
def forward_strip(
    frames: np.ndarray,
    steps: Sequence[int],
    alpha_bar: np.ndarray | None = None,
    title: str | None = None,
    columns: int = 10,
) -> Figure:
    """The forward process: each row one image, each column one step t, from the image to noise.

    frames: (R,K,C,H,W), x_t of R images at K steps. steps: (K,) values of t. alpha_bar: the schedule's
    (T+1,) array, ᾱ_0 = 1; √ᾱ_t, the share of the image that is left, is then written over each column.
    Of more than ``columns`` steps an even choice is drawn, first and last included.
    """
    frames, steps, chosen = even_choice("viz.forward_strip", frames, steps, columns)
    header = [("step $t$", [str(t) for t in steps])]
    if alpha_bar is not None:
        alpha_bar = as_array(alpha_bar)
        if steps.min() < 0 or steps.max() >= len(alpha_bar):
            raise BadInput(
                f"viz.forward_strip: steps run from {steps.min()} to {steps.max()}, "
                f"alpha_bar covers 0 to {len(alpha_bar) - 1}"
            )
        header.append((r"signal $\sqrt{\bar\alpha_t}$", [f"{a:.2f}" for a in np.sqrt(alpha_bar[steps])]))
    return PictureTable(pixel_rows(frames[:, chosen]), header=header, title=title).draw()


@house_look
def film_strip(
    frames: np.ndarray,
    steps: Sequence[int],
    x0_hat: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    title: str | None = None,
    class_names: Sequence[str] | None = None,
    columns: int = 10,
) -> Figure:
    """The reverse process: each row one sample, from noise on the left to an image on the right.

    frames: (R,K,C,H,W), x_t of R samples. steps: (K,) values of t, falling. x0_hat: (R,K,C,H,W), what the
    model believed the finished image to be at each step; drawn as a second row under each sample.
    labels: integers (R,), named on the left. Of more than ``columns`` steps an even choice is drawn.
    """
    frames, steps, chosen = even_choice("viz.film_strip", frames, steps, columns)
    groups = [] if labels is None else class_labels(as_array(labels), class_names)
    if groups and len(groups) != len(frames):
        raise BadInput(
            f"viz.film_strip: one label for each sample is expected: {len(frames)} samples, "
            f"{len(groups)} labels"
        )
    header = [("step $t$", [str(t) for t in steps])]
    rows = pixel_rows(frames[:, chosen])
    if x0_hat is None:
        return PictureTable(rows, groups=groups, header=header, title=title).draw()
    x0_hat = as_array(x0_hat)
    if x0_hat.shape != frames.shape:
        raise BadInput(
            f"viz.film_strip: x0_hat must have the shape of frames, {frames.shape}, not {x0_hat.shape}"
        )
    pairs = np.stack([rows, pixel_rows(x0_hat[:, chosen])], 1)  # (R,2,K,H,W)
    return PictureTable(
        pairs.reshape(-1, *rows.shape[1:]),
        groups=groups,
        rows_per_group=2,
        row_labels=["$x_t$", r"$\hat{x}_0$"] * len(rows),
        header=header,
        title=title,
    ).draw()


@house_look
def named_rows(
    frames: np.ndarray, names: Sequence[str], groups: Sequence[str] = (), title: str | None = None, header: tuple[str, Sequence[str]] | None = None
) -> Figure:
    """Rows of pictures with a name beside each: what went in above what came out.

    frames: (R,K,C,H,W), R rows of K pictures. names: R texts. groups: a text for every so many rows as make the groups
    equally large, far left. header: what the columns are, and K texts above them.
    """
    frames = as_array(frames)
    if frames.ndim != 5 or 0 in frames.shape or len(names) != len(frames) or len(frames) % max(1, len(groups)):
        raise BadInput(
            f"viz.named_rows: frames must be (R,K,C,H,W) with R names and groups of one size, not {frames.shape}, "
            f"{len(names)} names and {len(groups)} groups"
        )
    if header is not None and len(header[1]) != frames.shape[1]:
        raise BadInput(f"viz.named_rows: the header must have a text for each of {frames.shape[1]} columns, not {len(header[1])}")
    rows = len(frames) // max(1, len(groups))
    above = () if header is None else ((plain(header[0]), [plain(text) for text in header[1]]),)
    groups, names = ([plain(text) for text in texts] for texts in (groups, names))
    return PictureTable(pixel_rows(frames), groups=groups, rows_per_group=rows, row_labels=names, header=above, title=title).draw()


def even_choice(
    where: str, frames: np.ndarray, steps: Sequence[int], columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Checked frames (R,K,C,H,W), at most ``columns`` of the steps, and their places among the K."""
    frames, steps = as_array(frames), as_array(steps).astype(int)
    if frames.ndim != 5 or 0 in frames.shape:
        raise BadInput(f"{where}: frames must be (R,K,C,H,W), R images at K steps, not {frames.shape}")
    if steps.shape != frames.shape[1:2]:
        raise BadInput(
            f"{where}: frames {frames.shape} show {frames.shape[1]} steps, steps has the shape {steps.shape}"
        )
    K = len(steps)
    chosen = np.unique(np.rint(np.linspace(0, K - 1, min(K, max(columns, 1)))).astype(int))
    return frames, steps[chosen], chosen


def pixel_rows(frames: np.ndarray) -> np.ndarray:
    """Floats (R,K,C,H,W) -> uint8 (R,K,H,W[,3])."""
    pixels = to_uint8(frames.reshape(-1, *frames.shape[2:]))
    return pixels.reshape(*frames.shape[:2], *pixels.shape[1:])
