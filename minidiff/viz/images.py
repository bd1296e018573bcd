"""Pictures made of pictures: arrays of tiles, class grids, the sheet drawn during training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput
from .style import house_look
from .table import PAPER, PictureTable, tile_offsets
from .text import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def as_array(x: object) -> np.ndarray:
    """A NumPy array of ``x``: an array, a nested list, or anything with ``.numpy()`` such as a Tensor."""
    if hasattr(x, "__cuda_array_interface__"):
        return x.get()
    return x.numpy() if hasattr(x, "numpy") else np.asarray(x)


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Pixels of ``images``: −1 becomes 0, +1 becomes 255, what lies outside is clipped.

    images: floats (N,C,H,W) with C = 1 or 3, or (N,H,W). uint8 images of these shapes, or (N,H,W,3),
    already are pixels and keep their values. Returns uint8 (N,H,W) for one channel, (N,H,W,3) for colour.
    Raises BadInput for other shapes and types and for NaN.
    """
    images = as_array(images)
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3 != images.shape[1]:
        return images
    if not (images.ndim == 3 or (images.ndim == 4 and images.shape[1] in (1, 3))):
        raise BadInput(f"viz: images must be (N,H,W) or (N,C,H,W) with 1 or 3 channels, not {images.shape}")
    if images.ndim == 4:
        images = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise BadInput(f"viz: images are {images.dtype}; floats in [-1, 1] or uint8 pixels are expected")
    if np.isnan(images).any():
        raise BadInput(
            f"viz: {np.isnan(images).sum()} of {images.size} values are NaN; floats in [-1, 1] are expected"
        )
    return np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)


def join_tiles(tiles: np.ndarray, gap: int) -> np.ndarray:
    """One picture of a table of tiles uint8 (R,K,H,W[,3]), with ``gap`` white pixels between neighbours."""
    R, K, H, W = tiles.shape[:4]
    tops, lefts = tile_offsets(R, H, gap), tile_offsets(K, W, gap)
    sheet = np.full((tops[-1] + H, lefts[-1] + W, *tiles.shape[4:]), PAPER, np.uint8)
    for top, row in zip(tops, tiles, strict=True):
        for left, tile in zip(lefts, row, strict=True):
            sheet[top : top + H, left : left + W] = tile
    return sheet


def in_table(pixels: np.ndarray, columns: int) -> np.ndarray:
    """uint8 (N,H,W[,3]) -> (R,columns,H,W[,3]), the last row filled up with blank tiles."""
    rows = -(-len(pixels) // columns)
    table = np.full((rows * columns, *pixels.shape[1:]), PAPER, np.uint8)
    table[: len(pixels)] = pixels
    return table.reshape(rows, columns, *pixels.shape[1:])


def grid(images: np.ndarray, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """All images in one array, row by row, with thin white separators and nothing around them.

    images: as for :func:`to_uint8`. columns: images in a row; by default as near to a square as it gets.
    Returns uint8 (H',W') or (H',W',3) with W' = columns·W + (columns − 1)·gap.
    """
    pixels = to_uint8(images)
    if not len(pixels):
        raise BadInput("viz.grid: there are no images to draw")
    columns = int(np.ceil(np.sqrt(len(pixels)))) if columns is None else columns
    if columns < 1:
        raise BadInput(f"viz.grid: columns must be at least 1, not {columns}")
    return join_tiles(in_table(pixels, columns), gap)


def class_labels(labels: Sequence[int] | np.ndarray, class_names: Sequence[str] | None) -> list[str]:
    """The name of each label, as text to draw; −1 means that no class was asked for."""
    labels = [int(label) for label in labels]
    if class_names is None:
        return ["no class" if label == -1 else str(label) for label in labels]
    if labels and not (-1 <= min(labels) and max(labels) < len(class_names)):
        wrong = next(label for label in labels if not -1 <= label < len(class_names))
        raise BadInput(f"viz: label {wrong} has no name; {len(class_names)} class names are given")
    return ["no class" if label == -1 else plain(class_names[label]) for label in labels]


@house_look
def class_grid(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None = None,
    title: str | None = None,
    columns: int | None = None,
) -> Figure:
    """One row for each class, named on the left; its images side by side in the order they came.

    images: (N,C,H,W). labels: integers (N,), −1 for "no class". columns: at most so many images of a class.
    A row with fewer images than the others ends in blank paper.
    """
    pixels, labels = to_uint8(images), as_array(labels)
    if labels.shape != (len(pixels),) or not len(pixels):
        raise BadInput(
            f"viz.class_grid: one label for each image is expected: {len(pixels)} images, "
            f"labels {labels.shape}"
        )
    classes, counts = np.unique(labels, return_counts=True)
    K = min(counts.max(), columns or counts.max())
    rows = [in_table(pixels[labels == c][:K], K)[0] for c in classes]
    return PictureTable(np.stack(rows), groups=class_labels(classes, class_names), title=title).draw()


@house_look
def sample_sheet(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    columns: int = 10,
    class_names: Sequence[str] | None = None,
    step: int | None = None,
    loss: float | None = None,
    title: str | None = None,
) -> Figure:
    """What the model draws at this moment of training, headed by step and loss.

    images: (N,C,H,W), row by row. labels: integers (N,), the classes asked for: written above each column
    where a whole column shares its class, above each image otherwise.
    """
    pixels = to_uint8(images)
    if not len(pixels):
        raise BadInput("viz.sample_sheet: there are no images to draw")
    columns = max(1, min(columns, len(pixels)))
    parts = [title, None if step is None else f"step {step:,}", None if loss is None else f"loss {loss:.4f}"]
    heading = "  ·  ".join(part for part in parts if part)
    header, captions = [], []
    if labels is not None:
        names = class_labels(as_array(labels), class_names)
        if len(names) != len(pixels):
            raise BadInput(
                f"viz.sample_sheet: one label for each image is expected: {len(pixels)} images, "
                f"{len(names)} labels"
            )
        if all(name == names[i % columns] for i, name in enumerate(names)):
            header = [("", names[:columns])]
        else:
            captions = names
    return PictureTable(in_table(pixels, columns), header=header, captions=captions, title=heading).draw()
