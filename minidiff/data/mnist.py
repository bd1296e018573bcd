"""MNIST and Fashion-MNIST: the four original files, found on this machine or fetched.

Sources:
    MNIST: Y. LeCun, C. Cortes, C. Burges, "THE MNIST DATABASE of handwritten digits" (CC BY-SA 3.0).
    Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747 (MIT), a drop-in of the same form.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minidiff.data.dataset import Dataset
from minidiff.data.download import DownloadError, Progress, download, sha256
from minidiff.data.idx import content_sha256, open_bytes, read_idx, read_pair, shape_told
from minidiff.errors import BadInput
from minidiff.files import cache_folder

SUFFIXES = (".gz", "", ".xz")          # as published first
LOOK_INTO = 200          # files of a folder that are recognised by their content, first names first


@dataclass(frozen=True)
class Original:
    """One published file: its name without ".gz", and two SHA-256 values.

    `packed` is that of the published .gz, for downloads. `content` is that of the IDX bytes inside, for
    files on this machine: they may be unpacked, or packed anew by whoever handed them on. `shape` is what its
    header says.
    """

    name: str
    packed: str
    content: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """A data set of four IDX files: where it may lie, where it can be fetched, what is in it."""

    name: str
    title: str
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    originals: tuple[Original, ...]          # training images, training labels, test images, test labels
    in_root: bool = False          # whether MINIDIFF_DATA itself may hold the files
    system: tuple[str, ...] = ()          # folders of distributions' packages
    augmentations: tuple[str, ...] = ("shift",)          # what leaves the class as it is

    def folders(self) -> list[Path]:
        """Where the files are looked for, in this order."""
        given = os.environ.get("MINIDIFF_DATA")
        roots = [Path(given).expanduser()] if given else []
        return [*(root for root in roots if self.in_root), *(root / self.name for root in roots),
                *map(Path, self.system), cache_folder(self.name)]

    def locate(self, folder: Path) -> dict[str, Path]:
        """The original files that are in `folder`, by their names: each plain, as .gz or as .xz.

        A file that has an original's name and the shape in its header that was published is taken for it. Where
        the four are not there by name, files of those shapes are recognised by the SHA-256 of their content,
        whatever they are called; the content counts for more than the name.
        """
        named = {original.name: path for original in self.originals if (path := path_in(folder, original))}
        if all(original.name in named and shape_told(named[original.name]) == original.shape for original in self.originals):
            return named
        return settle([original.name for original in self.originals], named, list(self._recognised(folder)))

    def _recognised(self, folder: Path) -> Iterator[tuple[str, Path]]:
        by_content, shapes = {o.content: o.name for o in self.originals}, {o.shape for o in self.originals}
        for path in _files(folder):
            if shape_told(path) in shapes and (name := by_content.get(content_sha256(path) or "")):
                yield name, path

    def not_as_published(self, there: dict[str, Path]) -> list[Path]:
        """Those of the files that do not have the published content. Only what is not packed as it was published is unpacked."""
        return [path for original in self.originals
                if _bytes_of(path := there[original.name]) != original.packed and content_sha256(path) != original.content]

    def find(self) -> Path | None:
        """The first of `folders()` that holds all four files."""
        return next((folder for folder in self.folders() if len(self.locate(folder)) == len(self.originals)), None)

    def nearest(self) -> tuple[Path, dict[str, Path]]:
        """The folder that holds most of the files, the first of such, and those that it holds."""
        there = {folder: self.locate(folder) for folder in self.folders()}
        folder = max(there, key=lambda folder: len(there[folder]))
        return folder, there[folder]


MNIST = Source(
    "mnist", "MNIST", tuple("0123456789"),
    ("https://ossci-datasets.s3.amazonaws.com/mnist/",
     "https://storage.googleapis.com/cvdf-datasets/mnist/",
     "https://raw.githubusercontent.com/fgnt/mnist/master/"),
    (Original("train-images-idx3-ubyte",
              "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
              "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", (60_000, 28, 28)),
     Original("train-labels-idx1-ubyte",
              "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
              "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", (60_000,)),
     Original("t10k-images-idx3-ubyte",
              "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
              "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", (10_000, 28, 28)),
     Original("t10k-labels-idx1-ubyte",
              "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
              "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", (10_000,))),
    in_root=True)

FASHION_MNIST = Source(
    "fashion-mnist", "Fashion-MNIST",
    ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
     "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
     "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
    (Original("train-images-idx3-ubyte",
              "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
              "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", (60_000, 28, 28)),
     Original("train-labels-idx1-ubyte",
              "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
              "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", (60_000,)),
     Original("t10k-images-idx3-ubyte",
              "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
              "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", (10_000, 28, 28)),
     Original("t10k-labels-idx1-ubyte",
              "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
              "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", (10_000,))),
    system=("/usr/share/datasets/fashion-mnist",), augmentations=("shift", "flip"))

SOURCES = {source.name: source for source in (MNIST, FASHION_MNIST)}


def path_in(folder: Path, original: Original) -> Path | None:
    """The file in `folder`, in whichever of its forms is there, or None."""
    return next((path for suffix in SUFFIXES if (path := folder / (original.name + suffix)).is_file()), None)


def settle(names: list[str], named: dict[str, Path], recognised: list[tuple[str, Path]]) -> dict[str, Path]:
    """Names and content brought together: a file known to be one does not stand for another whose name it bears."""
    known = {path: name for name, path in recognised}
    there = {name: path for path, name in reversed(known.items())}          # of several copies the first
    there.update({name: path for name, path in named.items() if known.get(path, name) == name})
    return {name: there[name] for name in names if name in there}


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))[:LOOK_INTO]
    except OSError:
        return []


def _bytes_of(path: Path) -> str | None:
    try:
        with open(path, "rb") as raw:
            return sha256(raw)
    except OSError:
        return None


def find_mnist() -> Path | None:
    """The folder that holds the four original MNIST files, or None; never goes to the network.

    Looks in ``MINIDIFF_DATA``, ``MINIDIFF_DATA/mnist`` and the cache, ``MINIDIFF_CACHE/mnist`` or
    ``~/.cache/minidiff/mnist``. Each file may be plain, .gz or .xz, and have another name: see `Source.locate`.
    """
    return MNIST.find()


def load(source: Source, split: str) -> Dataset:
    """The images of one split ("train" or "test"), fetched first if they are not on this machine.

    Returns:
        A `Dataset` of uint8 (N,28,28), N = 60,000 or 10,000 for the published files.

    Raises:
        BadInput: a file is damaged or is not what its name says; or nothing is there and no mirror answers.
    """
    folder = source.find() or fetch(source)
    there = source.locate(folder)
    images, labels = source.originals[:2] if split == "train" else source.originals[2:]
    x, y = read_pair(there[images.name], there[labels.name])
    found = {images: _content_of(x), labels: _content_of(y)}
    _refuse_namesake(source, folder, found[labels])
    if found[images] != images.content and _content_of(x.transpose(0, 2, 1)) == images.content:
        raise BadInput(f"{there[images.name]}: holds {source.title}'s images with rows and columns exchanged; expected them upright")
    if len(y) and y.max() >= len(source.classes):
        raise BadInput(f"{there[labels.name]}: has a label {y.max()}; "
                       f"{source.title} has the classes 0 to {len(source.classes) - 1}")
    strange = [there[original.name] for original, content in found.items() if content != original.content]
    return Dataset(source.name, x, y, source.classes, augmentations=source.augmentations, notes=unverified(source.title, strange))


def unverified(title: str, strange: list[Path]) -> tuple[str, ...]:
    """The note on files of a set that do not have its published content, as a whole."""
    return (f"unverified: {', '.join(map(str, strange))} {'does' if len(strange) == 1 else 'do'} not have the published content of a file of {title} "
            "(by SHA-256)",) if strange else ()


def fetch(source: Source, *, tries: int = 3, timeout: float = 10.0, pause: float = 1.0,
          progress: Progress | None = None) -> Path:
    """The folder with the four files: the one they are in already, or the cache after fetching what it lacks.

    Raises:
        BadInput: no mirror has a file; the line names the files, the folders looked in and the addresses.
    """
    if found := source.find():
        return found
    folder = cache_folder(source.name)
    there = source.locate(folder)
    for original in source.originals:
        if original.name in there:
            continue
        try:
            download(source.mirrors, original.name + ".gz", original.packed, folder,
                     tries=tries, timeout=timeout, pause=pause, progress=progress)
        except DownloadError as error:
            raise BadInput(_how_to_get(source, str(error))) from None
    return folder


def check(original: Original, path: Path) -> str | None:
    """What is wrong with the file, or None if its content is the published one, byte for byte."""
    try:
        with open_bytes(path) as stream:
            found = sha256(stream)
        if found == original.content:
            return None
        read_idx(path)          # a cut or foreign file is better described by its structure
    except BadInput as error:
        return str(error).removeprefix(f"{path}: ")
    return f"is an IDX file with other content: SHA-256 {found}, expected {original.content}"


def _how_to_get(source: Source, why: str) -> str:
    folder, there = source.nearest()
    lacking = [original.name + ".gz" for original in source.originals if original.name not in there]
    looked = ", ".join(map(str, [folder] if there else source.folders()))
    hint = "" if there or os.environ.get("MINIDIFF_DATA") else ", or set MINIDIFF_DATA to the folder that holds them"
    what = f"{folder} lacks {' and '.join(lacking)}, which" if there else "the files are not on this machine and"
    return (f"{source.name}: {what} could not be fetched ({why}); put {', '.join(lacking)} "
            f"from {' or '.join(source.mirrors)} into {'it' if there else f'one of {looked}'}{hint}")


def _content_of(array: np.ndarray) -> str:
    """The SHA-256 of the IDX file of bytes that holds this array."""
    digest = hashlib.sha256(np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes())
    digest.update(np.ascontiguousarray(array, np.uint8))
    return digest.hexdigest()


def _refuse_namesake(source: Source, folder: Path, content: str) -> None:
    """MNIST and Fashion-MNIST use the same file names; the labels' content is enough to tell them apart."""
    for other in SOURCES.values():
        if other is not source and content in (original.content for original in other.originals):
            raise BadInput(f"{folder}: holds {other.title}, expected {source.title}; "
                           f"put it into a folder named {other.name}")
