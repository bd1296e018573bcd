"""A folder of images: each sub-folder is a class, each image in it is a sample.

    birds/owl/1.jpg             birds/train/owl/1.jpg
    birds/owl/2.png      or     birds/train/robin/7.png
    birds/robin/7.png           birds/test/owl/2.png …

The classes are the sub-folders' names, sorted. Where there is no train and test, a tenth of each class is the test set (rounded
up, and never all of a class): the files are put into the order of the SHA-256 of ``class/file``, and the first of them are
taken. The same order, over all classes, is that of the samples, so that the first N of them are a fair mixture.

An image becomes a square in three steps: it is turned as its EXIF data says, the largest square around its middle is kept, and
that is resized (Pillow's bicubic filter, which averages when it makes smaller). An image that has the size already keeps its
bytes. Transparent parts become black. If every image of the folder is grey, so is the set; otherwise all are RGB.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidiff.data.check import Check
from minidiff.data.dataset import Dataset
from minidiff.errors import BadInput

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
SIZE = 32          # pixels, unless another is asked for
MOST = 4 << 30          # bytes of images in memory
HELD_OUT = 10          # one of so many is a test image, where the folder has no test/
AUGMENTATIONS = ("shift", "flip")          # whether flip makes sense, only its owner can know

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True)
class Listing:
    """What a folder holds: the classes, and the (path, label) of each sample by split."""

    classes: tuple[str, ...]
    samples: dict[str, list[tuple[Path, int]]]


def load(folder: str | Path, split: str = "train", *, limit: int | None = None, size: int = SIZE) -> Dataset:
    """The images of one split, decoded one at a time into an array that is as large as the result and no larger.

    Args:
        folder: see above.
        split: "train" or "test".
        limit: at most so many samples, the first ones; None for all.
        size: height and width of the result in pixels.

    Returns:
        A `Dataset` of uint8 (N,size,size) or (N,3,size,size), named as the folder.

    Raises:
        BadInput: the folder is not of this form, a class is empty, the split has no image, a file cannot be decoded
            (the line names it), or the result would take more than 4 GiB.
    """
    folder = Path(folder)
    listing = read_listing(folder)
    samples = listing.samples[split] if limit is None else listing.samples[split][:limit]
    if not samples:
        raise BadInput(f"{folder}: has no image for the {split} split; one image in {HELD_OUT} of a class is a test image, "
                       "if the class has two or more")
    if size < 1:
        raise BadInput(f"{folder}: size is {size}; it must be 1 or more")
    channels = 1 if all(_is_grey(path) for paths in listing.samples.values() for path, _ in paths) else 3
    shape = (len(samples), size, size) if channels == 1 else (len(samples), 3, size, size)
    if np.prod(shape, dtype=float) > MOST:
        raise BadInput(f"{folder}: {len(samples):,} images of {size}x{size} take {np.prod(shape, dtype=float) / 2**30:.1f} GiB, more than "
                       f"{MOST / 2**30:g}; give a limit or a smaller size")
    images = np.empty(shape, np.uint8)
    for k, (path, _) in enumerate(samples):
        images[k] = decode(path, size, channels)
    labels = np.array([label for _, label in samples], np.int64)
    return Dataset(folder.resolve().name, images, labels, listing.classes, augmentations=AUGMENTATIONS)


def verify(folder: Path) -> list[Check]:
    """Whether every image can be decoded: one check for each split, and one for each file that cannot."""
    checks = []
    for split, samples in read_listing(folder).samples.items():
        faults = []
        for path, _ in samples:
            try:
                decode(path, SIZE, 3)
            except BadInput as error:
                faults.append(Check(path.name, path, False, str(error).removeprefix(f"{path}: ")))
        good = len(samples) - len(faults)
        checks += [*faults, Check(f"{folder} {split}", None, not faults and good > 0, f"{good:,} of {len(samples):,} images can be decoded")]
    return checks


def read_listing(folder: Path) -> Listing:
    """The classes and files of a folder; nothing is decoded.

    Raises:
        BadInput: the folder is not of the form described above.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: is not a folder; expected one with a sub-folder of images for each class")
    inside = [path.name for path in _folders(folder)]
    if "train" in inside or "test" in inside:
        if missing := [split for split in ("train", "test") if split not in inside]:
            raise BadInput(f"{folder}: has no {missing[0]} beside its {' and '.join(s for s in ('train', 'test') if s in inside)}; "
                           "expected both, or the classes' folders alone")
        train, test = (_by_class(folder / split) for split in ("train", "test"))
        if unknown := sorted(set(test) - set(train)):
            raise BadInput(f"{folder / 'test' / unknown[0]}: is no class of the training images; the classes are {', '.join(sorted(train))}")
        by_split = {"train": train, "test": test}
    else:
        every = _by_class(folder)
        held_out = {name: min(-(-len(paths) // HELD_OUT), len(paths) - 1) for name, paths in every.items()}
        by_split = {"train": {name: paths[held_out[name]:] for name, paths in every.items()},
                    "test": {name: paths[:held_out[name]] for name, paths in every.items()}}
    classes = tuple(sorted(by_split["train"]))
    samples = {split: sorted(((path, classes.index(name)) for name, paths in parts.items() for path in paths),
                             key=lambda sample: _order(classes[sample[1]], sample[0])) for split, parts in by_split.items()}
    return Listing(classes, samples)


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """The images of each class, those in its sub-folders among them, in the order that decides the split."""
    classes = {}
    for path in _folders(folder):
        files = [Path(place, name) for place, _, names in os.walk(path) for name in names
                 if name.lower().endswith(ENDINGS) and not name.startswith(".")]
        if not files:
            raise BadInput(f"{path}: is a class without images; expected files that end in {', '.join(ENDINGS)}")
        classes[path.name] = sorted(files, key=lambda file, name=path.name: _order(name, file))
    if not classes:
        raise BadInput(f"{folder}: has no sub-folder; expected one with images for each class (or the files data_batch_*.bin and "
                       "test_batch.bin of CIFAR-10)")
    return classes


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read ({error.strerror or error}); expected a folder of images") from None


def _order(name: str, path: Path) -> tuple[bytes, str]:
    return hashlib.sha256(f"{name}/{path.name}".encode("utf-8", "surrogateescape")).digest(), str(path)


# ------------------------------------------------------------------------------------------------ one image

def decode(path: Path, size: int, channels: int) -> np.ndarray:
    """One image as a square.            # -> uint8 (size,size) for 1 channel, (3,size,size) for 3

    Raises:
        BadInput: the file cannot be decoded; the line names it.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    with _decoding(path), _opened(path) as image:
        image.load()
        image = _eight_bits(ImageOps.exif_transpose(image), channels)
        W, H = image.size
        side = min(W, H)
        left, top = (W - side) // 2, (H - side) // 2
        pixels = np.asarray(image.resize((size, size), Resampling.BICUBIC, (left, top, left + side, top + side)))
    return pixels if channels == 1 else pixels.transpose(2, 0, 1)          # (H,W,3) -> (3,H,W)


def _eight_bits(image: Any, channels: int) -> Any:
    """The picture in mode L or RGB, on black where it is transparent."""
    from PIL import Image

    if image.mode.startswith("I"):          # 16 bits; Pillow's own conversion would clip them at 255
        pixels = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(pixels, 0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise BadInput(f"holds floating point numbers ({image.width}x{image.height}); expected 8 or 16 bits for each colour")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("L" if channels == 1 else "RGB")


def _is_grey(path: Path) -> bool:
    with _decoding(path), _opened(path) as image:          # reads the header alone
        return image.mode in _GREY


def _opened(path: Path) -> Any:
    from PIL import Image

    return Image.open(path)


class _decoding:
    """Whatever Pillow says inside becomes one line that names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, BadInput):
            raise BadInput(f"{self.path}: {error}") from None
        if isinstance(error, Exception):          # Pillow's decoders raise many kinds, for damage and for pictures that are too large
            said = " ".join(str(error).replace(repr(str(self.path)), "the file").split()) or type(error).__name__
            raise BadInput(f"{self.path}: cannot be decoded ({said}); mend the file or remove it") from None
