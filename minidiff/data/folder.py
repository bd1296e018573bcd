"""A folder of images: each sub-folder is a class, each image in it is a sample.

    birds/owl/1.jpg             birds/train/owl/1.jpg
    birds/owl/2.png      or     birds/train/robin/7.png
    birds/robin/7.png           birds/test/owl/2.png …

The classes are the sub-folders' names in natural order: owl2 before owl10, and numbers by their value. Split folders may be
spelled in any usual way (Train, TRAINING, test_set, Validation); where there is a test and a validation folder, the first is
used. Without split folders a tenth of each class is the test set (rounded up, and never all of a class): the files are put into
the order of the SHA-256 of ``class/file``, and the first of them are taken. The same order, over all classes, is that of the
samples, so that the first N of them are a fair mixture.

A class's folder has images directly in it. Those in its sub-folders belong to the class too, linked folders are followed, and
hidden folders and those that tools make (.ipynb_checkpoints, @eaDir, __MACOSX) are left out. A folder that has only folders of
images in it is refused, since they could be classes of their own.

An image becomes a square in three steps: it is turned as its EXIF data says, the largest square around its middle is kept, and
that is resized (Pillow's bicubic filter, which averages when it makes smaller). An image that has the size already keeps its
bytes. Transparent parts become black. If every image of the folder is gray, whatever its file's mode, so is the set; otherwise
all are RGB. Images of more than 8 bits are scaled by the range that the folder's images have together: 0 … 4,095 is taken for 12
bits, and 4,095 for white.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidiff.data.check import Check
from minidiff.data.classes import natural_order
from minidiff.data.dataset import Dataset
from minidiff.errors import BadInput

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
DEEP = (".png", ".tif", ".tiff", ".pgm", ".ppm")          # the formats among them that can hold more than 8 bits
SIZE = 32          # pixels, unless another is asked for
MOST = 4 << 30          # bytes of images in memory
HELD_OUT = 10          # one of so many is a test image, where the folder has no test/
DARK = 32          # if no value is above this one of 255, a note says so
AUGMENTATIONS = ("shift", "flip")          # whether flip makes sense, only its owner can know

_GREY = ("1", "L", "LA", "La")
_WHITE = (255, 1023, 4095, 16_383, 65_535, 2**24 - 1, 2**32 - 1)          # of 8, 10, 12, 14, 16, 24 and 32 bits

_A_SPLIT = re.compile(r"(?:(?P<train>train(?:ing)?)|(?P<test>test(?:ing)?)|(?P<validation>val(?:id(?:ation)?)?|dev|eval(?:uation)?))"
                      r"(?:[ _.-]?(?:sets?|data|images?|imgs?|split))?", re.IGNORECASE)
_OF_TOOLS = ("__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "@recycle", "$recycle.bin", "system volume information", "lost+found")


@dataclass(frozen=True)
class Listing:
    """What a folder holds: the classes, the (path, label) of each sample by split, and what is to be said of it."""

    classes: tuple[str, ...]
    samples: dict[str, list[tuple[Path, int]]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Values:
    """What is known of the images of a folder together: whether all are gray, and which value is white, by kind.

    `white` has "I" for images of more than 8 bits and "F" for floating point, if there are such.
    """

    grey: bool
    white: dict[str, float]

    def notes(self) -> list[str]:
        kinds = {"I": "more than 8 bits", "F": "floating point"}
        return [f"images of {kinds[kind]}: by the range of their values {white:,g} is taken for white" for kind, white in self.white.items()]


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
                       "if the class has two or more; to train without held-out images: --set validate=0")
    if size < 1:
        raise BadInput(f"{folder}: size is {size}; it must be 1 or more")
    values = _values(folder, [path for paths in listing.samples.values() for path, _ in paths])
    channels = 1 if values.grey else 3
    shape = (len(samples), size, size) if channels == 1 else (len(samples), 3, size, size)
    if np.prod(shape, dtype=float) > MOST:
        raise BadInput(f"{folder}: {len(samples):,} images of {size}x{size} take {np.prod(shape, dtype=float) / 2**30:.1f} GiB, more than "
                       f"{MOST / 2**30:g}; give a limit or a smaller size")
    images = np.empty(shape, np.uint8)
    for k, (path, _) in enumerate(samples):
        images[k] = decode(path, size, channels, values.white)
    labels = np.array([label for _, label in samples], np.int64)
    notes = [*listing.notes, *values.notes()]
    if (most := images.max()) <= DARK:
        notes.append(f"the images are nearly black: no value is above {most} of 255")
    return Dataset(folder.resolve().name, images, labels, listing.classes, augmentations=AUGMENTATIONS, notes=tuple(notes))


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
    notes: list[str] = []
    if splits := _splits(folder, notes):
        train, test = (_by_class(path, notes, of_split=True) for path in splits)
        if unknown := sorted(set(test) - set(train)):
            raise BadInput(f"{splits[1] / unknown[0]}: is no class of the training images; the classes are {', '.join(sorted(train, key=natural_order))}")
        by_split = {"train": train, "test": test}
    else:
        every = _by_class(folder, notes)
        held_out = {name: min(-(-len(paths) // HELD_OUT), len(paths) - 1) for name, paths in every.items()}
        by_split = {"train": {name: paths[held_out[name]:] for name, paths in every.items()},
                    "test": {name: paths[:held_out[name]] for name, paths in every.items()}}
    classes = tuple(sorted(by_split["train"], key=natural_order))
    samples = {split: sorted(((path, classes.index(name)) for name, paths in parts.items() for path in paths),
                             key=lambda sample: _order(classes[sample[1]], sample[0])) for split, parts in by_split.items()}
    return Listing(classes, samples, tuple(notes))


def _splits(folder: Path, notes: list[str]) -> tuple[Path, Path] | None:
    """The folders of the training and the test images; None where the sub-folders are classes.

    One folder with images and the name of a split, beside others of other names, is a class: "train" beside "bus" and "car".
    """
    inside = _folders(folder)
    found = [(path, match.lastgroup) for path in inside if (match := _A_SPLIT.fullmatch(path.name))]
    others = [path for path in inside if path not in [path for path, _ in found]]
    flat = [path for path, _ in found if _own_images(path)]
    if not found or (len(found) == 1 and flat and others):
        return None
    if flat:
        raise BadInput(f"{flat[0]}: holds images and no classes; expected a sub-folder of images for each class in it")
    by_kind = dict(map(reversed, found))
    if len(by_kind) < len(found):
        raise BadInput(f"{folder}: has several folders for one split ({', '.join(path.name for path, _ in found)}); expected one for each")
    names = " and ".join(path.name for path, _ in found)
    train, test = by_kind.get("train"), by_kind.get("test") or by_kind.get("validation")
    if train is None or test is None:
        missing = "test" if test is None else "train"
        raise BadInput(f"{folder}: has no {missing} beside its {names}; expected both, or the classes' folders alone "
                       f"(--data {found[0][0]} trains on that alone)")
    if classes := [path.name for path in others if next(_files_below(path), None)]:
        raise BadInput(f"{folder}: has {', '.join(classes)} beside its {names}; expected the classes' folders in those")
    if "test" in by_kind and "validation" in by_kind:
        notes.append(f"{by_kind['validation'].name} is not used: the held-out images are those in {test.name}")
    return train, test


def _by_class(folder: Path, notes: list[str], of_split: bool = False) -> dict[str, list[Path]]:
    """The images of each class, those in its sub-folders among them, in the order that decides the split."""
    classes, other = {}, Counter()
    for path in (inside := _folders(folder)):
        files = []
        for file in _files_below(path):
            if _is_image(file):
                files.append(file)
            else:
                other[file.suffix.lower() or file.name] += 1
        if not files:
            raise BadInput(f"{path}: is a class without images; expected files that end in {', '.join(ENDINGS)}")
        below = Counter(file.relative_to(path).parts[0] for file in files if file.parent != path)
        some = _some(sorted(below, key=natural_order))
        if below.total() == len(files):
            instead = f"give {path}" if len(inside) == 1 and not of_split else f"put them directly into {folder}"
            raise BadInput(f"{path}: holds no image itself, but folders of images: {some}; if these are the classes, {instead}; "
                           f"if {path.name} is one class, put its images directly into it")
        if below:
            notes.append(f"{path.name}: {below.total():,} of its {len(files):,} images are in its sub-folders ({some})")
        classes[path.name] = sorted(files, key=lambda file, name=path.name: _order(name, file))
    if not classes:
        raise BadInput(f"{folder}: has no sub-folder; expected one with images for each class (or the files data_batch_*.bin and "
                       "test_batch.bin of CIFAR-10)")
    if loose := len(_own_images(folder)):
        notes.append(f"images directly in {folder} belong to no class and are not used: {loose:,}")
    if other:
        notes.append(f"files without an image's ending are not read: "
                     f"{_some({f'{ending} ({count:,})': count for ending, count in other.most_common()})}")
    return classes


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def _own_images(folder: Path) -> list[Path]:
    """The images directly in a folder."""
    return [Path(entry.path) for entry in _entries(folder) if not entry.is_dir() and _is_image(Path(entry.path))]


def _folders(folder: Path) -> list[Path]:
    """The sub-folders that may be classes, linked ones among them."""
    for entry in (entries := _entries(folder)):
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise BadInput(f"{entry.path}: is a broken symbolic link; fix or remove it")
    return [Path(entry.path) for entry in entries if entry.is_dir()]


def _files_below(top: Path) -> Iterator[Path]:
    """Every file in a folder and in its sub-folders, linked ones among them.

    No folder is read twice, and none that `top` lies in: a link to one of these would lead round in a circle.
    """
    here = [Path(os.path.realpath(path)) for path in (top, top.parent)]
    seen = {str(path) for start in here for path in (start, *start.parents)}
    left = [top]
    while left:
        for entry in _entries(left.pop()):
            if not entry.is_dir():
                yield Path(entry.path)
            elif (place := os.path.realpath(entry.path)) not in seen:
                seen.add(place)
                left.append(Path(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder by name, but what is hidden or made by tools."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _OF_TOOLS),
                          key=lambda entry: entry.name)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read ({error.strerror or error}); expected a folder of images") from None


def _order(name: str, path: Path) -> tuple[bytes, str]:
    return hashlib.sha256(f"{name}/{path.name}".encode("utf-8", "surrogateescape")).digest(), str(path)


# ------------------------------------------------------------------------------------------------ all images

def _values(folder: Path, paths: list[Path]) -> Values:
    """What the images have in common. Once one is known to be colored, only those that can have more than 8 bits are looked at."""
    grey, most, high = True, {}, None
    for path in paths:
        if grey or path.name.lower().endswith(DEEP):
            facts = _facts(path, grey)
            grey = grey and facts.grey
            if facts.most is not None:
                most[facts.kind] = max(facts.most, most.get(facts.kind, 0))
            if facts.high is not None:
                high = max(facts.high, high or 0)
    if high is not None and high < 64:
        raise BadInput(f"{folder}: has color images of 16 bits whose values end at about {256 * high + 255:,}, and Pillow reads the upper 8 bits alone; "
                       "expected values up to 65,535, or images of 8 bits")
    return Values(grey, {kind: _white(kind, value) for kind, value in sorted(most.items())})


def _white(kind: str, most: float) -> float:
    """The value that is white where the largest is `most`."""
    return 1.0 if kind == "F" and most <= 1 else next(white for white in _WHITE if most <= white)


@dataclass(frozen=True)
class Facts:
    """What is known of one image: whether it is gray, the largest value of more than 8 bits or floating point ("I" or "F"), and
    that of the upper 8 bits of 16-bit colors."""

    grey: bool
    kind: str = ""
    most: float | None = None
    high: int | None = None


def _facts(path: Path, grey: bool) -> Facts:
    """Remembered as long as the file keeps its size and its time: both splits ask for all images.

    `grey` says whether it matters if the image is; otherwise its header is enough, unless it has more than 8 bits.
    """
    with _decoding(path):
        stat = path.stat()
    return _facts_of(path, stat.st_size, stat.st_mtime_ns, grey)


@functools.lru_cache(maxsize=1 << 18)
def _facts_of(path: Path, size: int, time: int, grey: bool) -> Facts:
    with _decoding(path), _opened(path) as image:
        if image.mode in _GREY:          # told by the header alone
            return Facts(True)
        if image.mode[0] in "IF":
            return Facts(True, image.mode[0], _checked(np.asarray(image)).max().item())
        sixteen = any("16" in str(tile) for tile in image.tile)          # read before the pixels are, which empties it
        if not (grey or sixteen):
            return Facts(False)
        pixels = np.asarray(_eight_bits(image, 3))          # (H,W,3)
    return Facts(bool((pixels == pixels[..., :1]).all()), high=int(pixels.max()) if sixteen else None)


def _checked(pixels: np.ndarray) -> np.ndarray:
    least, most = pixels.min(), pixels.max()
    if not (least >= 0 and most <= _WHITE[-1]):          # not where one of them is NaN
        raise BadInput(f"its values run from {least:g} to {most:g}; expected 0 to 65,535, or 0 to 1 in floating point")
    return pixels


# ------------------------------------------------------------------------------------------------ one image

def decode(path: Path, size: int, channels: int, white: dict[str, float] | None = None) -> np.ndarray:
    """One image as a square.            # -> uint8 (size,size) for 1 channel, (3,size,size) for 3

    `white` is as in `Values`; without it an image of more than 8 bits is scaled by the range of its own values.

    Raises:
        BadInput: the file cannot be decoded; the line names it.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    with _decoding(path), _opened(path) as image:
        image.load()
        image = _eight_bits(ImageOps.exif_transpose(image), channels, white)
        W, H = image.size
        side = min(W, H)
        left, top = (W - side) // 2, (H - side) // 2
        pixels = np.asarray(image.resize((size, size), Resampling.BICUBIC, (left, top, left + side, top + side)))
    return pixels if channels == 1 else pixels.transpose(2, 0, 1)          # (H,W,3) -> (3,H,W)


def _eight_bits(image: Any, channels: int, white: dict[str, float] | None = None) -> Any:
    """The image in mode L or RGB, on black where it is transparent."""
    from PIL import Image

    if (kind := image.mode[0]) in "IF":          # Pillow's own conversion would clip the values at 255
        pixels = _checked(np.asarray(image))
        scale = 255 / (white or {}).get(kind, _white(kind, pixels.max()))
        image = Image.fromarray(np.rint(np.minimum(pixels * scale, 255)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("L" if channels == 1 else "RGB")


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
            said = " ".join(str(error).replace(f" {str(self.path)!r}", "").split()) or type(error).__name__
            raise BadInput(f"{self.path}: cannot be decoded ({said}); mend the file or remove it") from None
