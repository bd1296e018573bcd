"""Labelled images in memory, and the two maps between bytes and the numbers a model sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from minidiff.backend import array_of
from minidiff.errors import BadInput


@dataclass(frozen=True)
class Dataset:
    """Images with a class each, and what is known of their style.

    Attributes:
        name: what the set is called, for messages and records.
        images: uint8, (N,H,W) for grey images or (N,C,H,W); 0 is black.
        labels: int64 (N,), each in 0 … len(classes)−1.
        classes: the name of each class.
        style: further known values of each image, float32 (N,) by name, or None where nothing is known.
        augmentations: the changes of `minidiff.data.augmentation` that leave every image in its class. A digit stays
            what it is when it is moved, but a mirrored 2 is no digit, while a mirrored ship is a ship.
        notes: what whoever uses the set should know of how it was read, a line each.

    Raises:
        BadInput: the arrays' types or sizes do not belong together.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    style: dict[str, np.ndarray] | None = field(default=None)
    augmentations: tuple[str, ...] = ("shift",)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for attribute in ("images", "labels"):
            object.__setattr__(self, attribute, array_of(getattr(self, attribute)))  # frozen: = would be refused
        if self.style:
            object.__setattr__(self, "style", {key: array_of(values) for key, values in self.style.items()})
        images, labels, count = self.images, self.labels, len(self.classes)
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise BadInput(f"{self.name}: images must be uint8 (N,H,W) or (N,C,H,W), got {_kind(images)}")
        refuse_channels_last(self.name, images)
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise BadInput(f"{self.name}: labels must be int64 (N,), got {_kind(labels)}")
        if len(images) != len(labels):
            raise BadInput(f"{self.name}: {len(images):,} images and {len(labels):,} labels; "
                           "expected one label for each image")
        if len(labels) and not (0 <= labels.min() and labels.max() < count):
            raise BadInput(f"{self.name}: labels run from {labels.min()} to {labels.max()}; "
                           f"its {count} classes are 0 to {count - 1}")
        for key, values in (self.style or {}).items():
            if values.dtype != np.float32 or values.shape != labels.shape:
                raise BadInput(f"{self.name}: style {key!r} must be float32 {labels.shape}, "
                               f"got {_kind(values)}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> dict[str, int]:
        """How many images there are of each class, by its name."""
        return dict(zip(self.classes, np.bincount(self.labels, minlength=len(self.classes)).tolist(), strict=True))

    def subset(self, indices: Sequence[int] | np.ndarray | slice) -> Dataset:
        """The images at `indices` (whole numbers, a mask or a slice), in that order, as a set."""
        chosen = indices if isinstance(indices, slice) else np.asarray(indices)
        if not isinstance(chosen, slice) and chosen.size == 0:
            chosen = chosen.astype(np.int64)          # an empty list would otherwise index as float64
        style = self.style and {key: values[chosen] for key, values in self.style.items()}
        return Dataset(self.name, self.images[chosen], self.labels[chosen], self.classes, style, self.augmentations, self.notes)


def to_model(images: np.ndarray, size: int = 32) -> np.ndarray:
    """Bytes to the numbers a model sees:  x = p / 127.5 − 1, so that black is −1 and white is 1.

    The frame around a smaller image is filled with black, evenly on both sides (an odd pixel goes to
    the bottom and the right): MNIST's 28 pixels become 32, which can be halved five times.

    Args:
        images: uint8 (N,H,W) or (N,C,H,W), H and W at most `size`.
        size: height and width of the result in pixels.

    Returns:
        float32 (N,C,size,size) in [−1, 1].
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise BadInput(f"to_model: images must be uint8 (N,H,W) or (N,C,H,W), got {_kind(images)}")
    refuse_channels_last("to_model", images)
    pixels = images[:, None] if images.ndim == 3 else images          # (N,C,H,W)
    N, C, H, W = pixels.shape
    if max(H, W) > size:
        raise BadInput(f"to_model: images of {H}x{W} do not fit into {size}x{size}; "
                       f"size must be at least {max(H, W)}")
    top, left = (size - H) // 2, (size - W) // 2
    x = np.full((N, C, size, size), -1, np.float32)
    x[:, :, top:top + H, left:left + W] = pixels / np.float32(127.5) - np.float32(1)
    return x


def from_model(x: np.ndarray) -> np.ndarray:
    """The way back:  p = round(127.5 (x + 1)), with x outside [−1, 1] clipped. Nothing is cropped.

    Args:
        x: floating point, any shape.

    Returns:
        uint8 of the same shape. ``from_model(to_model(images, size))`` gives the padded images exactly.
    """
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise BadInput(f"from_model: x must be floating point in [-1, 1], got {_kind(x)}")
    if np.isnan(x).any():
        raise BadInput(f"from_model: {np.isnan(x).sum():,} of {x.size:,} values are NaN; "
                       "expected numbers in [-1, 1]")
    return np.rint((np.clip(x, -1, 1) + 1) * x.dtype.type(127.5)).astype(np.uint8)


def refuse_channels_last(who: str, images: np.ndarray) -> None:
    """Raises BadInput for (N,H,W,C), as Pillow and matplotlib have it: height would be taken for channels, and no operation would notice."""
    if images.ndim == 4 and images.shape[1] > 4 >= images.shape[3]:
        raise BadInput(f"{who}: images are {images.shape}, with the channels last; expected (N,C,H,W): images.transpose(0, 3, 1, 2)")


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"
