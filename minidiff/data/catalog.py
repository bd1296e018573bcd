"""The data sets by name: load them, fetch them, verify them, see what is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minidiff.data import cifar10, folder, glyphs, mnist
from minidiff.data.check import Check
from minidiff.data.dataset import Dataset
from minidiff.data.download import Progress
from minidiff.errors import BadInput

NAMES = ("mnist", "fashion-mnist", "cifar10", "glyphs")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Entry:
    """One data set: whether it can be used without a network, and where it is or would come from."""

    name: str
    ready: bool
    folder: Path | None
    detail: str

    def __str__(self) -> str:
        return f"{self.name:<14} {'ready  ' if self.ready else 'missing'}  {self.detail}"


def known(name: str) -> bool:
    """Whether `load` can take it: one of `NAMES`, or the path of a folder."""
    return name in NAMES or _is_folder(name)


def load(name: str, split: str = "train", *, limit: int | None = None, size: int = folder.SIZE) -> Dataset:
    """A data set by name, fetched or drawn if it is not on this machine yet; or the images of a folder.

    A folder has a sub-folder of images for each class, in itself or in its sub-folders train and test: see
    `minidiff.data.folder`. A folder with files ``data_batch*.bin`` and ``test_batch*.bin`` is read as what there is of CIFAR-10,
    with a warning where that is not all of it. To read a folder that is named as a data set, write ``./NAME``.

    Args:
        name: one of `NAMES`, or the path of a folder.
        split: "train" or "test".
        limit: at most so many samples, the first ones; None for all.
        size: height and width in pixels to which a folder's images are brought; the other sets keep their own.

    Raises:
        BadInput: an unknown name or split, a limit below 1, damaged files, or files that cannot be fetched.
    """
    _known(name, folders=True)
    if split not in SPLITS:
        raise BadInput(f"data: unknown split {split!r}; the splits are {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise BadInput(f"data: limit is {limit}; it must be 1 or more")
    if name == "glyphs":
        return glyphs.load(split, limit=limit)
    if name == "cifar10":
        return cifar10.load(split, limit=limit)
    if name not in NAMES:
        path = Path(name).expanduser()
        if cifar10.holds_batches(path):
            return cifar10.load_folder(path, split, limit=limit)
        return folder.load(path, split, limit=limit, size=size)
    dataset = mnist.load(mnist.SOURCES[name], split)
    return dataset if limit is None or limit >= len(dataset) else dataset.subset(slice(0, limit))


def fetch(name: str, *, tries: int = 3, timeout: float = 10.0, pause: float = 1.0,
          progress: Progress | None = None) -> Path | None:
    """Make a data set ready for use without a network.

    MNIST and Fashion-MNIST are downloaded into the cache unless all four files are found, CIFAR-10 unless it is found whole.
    The glyphs are drawn and kept in the cache.

    Args:
        name: one of `NAMES`.
        tries, timeout, pause: how often each mirror is asked, seconds to wait for an answer, and seconds
            before the second try (doubled before each further one).
        progress: called with (file name, bytes so far, bytes in all or 0).

    Returns:
        The folder that holds the files; None for glyphs where the cache cannot be written.

    Raises:
        BadInput: an unknown name; or no mirror answers: the line names the files, folders and addresses.
    """
    if _known(name) == "glyphs":
        for split in SPLITS:
            glyphs.load(split)
        return next((path.parent for path in glyphs.cached().values()), None)
    options = {"tries": tries, "timeout": timeout, "pause": pause, "progress": progress}
    return cifar10.fetch(**options) if name == "cifar10" else mnist.fetch(mnist.SOURCES[name], **options)


def verify(name: str) -> list[Check]:
    """Check a data set against what was published; damage is reported, not raised.

    The files of MNIST, Fashion-MNIST and CIFAR-10 are compared by the SHA-256 of their content, however they
    are packed. For glyphs the start of each split is drawn anew and compared with the cache. The images of a folder are
    decoded, each of them.

    Raises:
        BadInput: an unknown name, or a folder that is not of the form that `load` reads.
    """
    if _known(name, folders=True) == "glyphs":
        return [_check_glyphs(split) for split in SPLITS]
    if name == "cifar10":
        return cifar10.verify()
    if name not in NAMES:
        path = Path(name).expanduser()
        return cifar10.verify_folder(path) if cifar10.holds_batches(path) else folder.verify(path)
    source = mnist.SOURCES[name]
    nearest, there = source.nearest()
    looked = str(nearest) if there else ", ".join(map(str, source.folders()))
    return [_check_file(original, there[original.name]) if original.name in there else
            Check(original.name, None, False, f"not found in {looked}") for original in source.originals]


def available() -> list[Entry]:
    """Every data set of `NAMES`: whether it is ready, and where. Never goes to the network."""
    return [_entry(name) for name in NAMES]


def form(name: str) -> tuple[int, tuple[str, ...]]:
    """The channels of a data set's images and the names of its classes; of a folder's images one is decoded, others need not be here.

    Raises:
        BadInput: an unknown name, or a folder that `load` refuses.
    """
    if _known(name, folders=True) not in NAMES:
        images = load(name, limit=1)
        return 1 if images.images.ndim == 3 else images.images.shape[1], images.classes
    if name == "cifar10":
        return 3, cifar10.CLASSES
    return 1, mnist.SOURCES[name].classes if name in mnist.SOURCES else mnist.MNIST.classes          # glyphs are digits too


def _is_folder(name: str) -> bool:
    try:
        return bool(name) and Path(name).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):          # no path at all
        return False


def _known(name: str, folders: bool = False) -> str:
    if name in NAMES or (folders and _is_folder(name)):
        return name
    also = "; or give the path of a folder of images" if folders else ""
    raise BadInput(f"data: unknown data set {name!r}; the data sets are {', '.join(NAMES)}{also}")


def _check_file(original: mnist.Original, path: Path) -> Check:
    fault = mnist.check(original, path)
    return Check(original.name, path, fault is None, fault or "the published content, by SHA-256")


def _check_glyphs(split: str) -> Check:
    path = glyphs.cached().get(split)
    fault = glyphs.check(split)
    said = "equal to a fresh drawing" if path else "can be drawn; not in the cache yet"
    return Check(f"glyphs {split}", path, fault is None, fault or said)


def _entry(name: str) -> Entry:
    if name == "glyphs":
        place = next((path.parent for path in glyphs.cached().values()), None)
        return Entry(name, True, place, str(place) if place else "drawn when first needed, from matplotlib's fonts")
    if name == "cifar10":
        place, said = cifar10.where()
        return Entry(name, place is not None, place, said)
    source = mnist.SOURCES[name]
    if place := source.find():
        there = source.locate(place)
        said = [f"{original} is {path.name}" for original, path in there.items() if not path.name.startswith(original)]
        if strange := source.not_as_published(there):
            said.append(f"unverified: {', '.join(path.name for path in strange)}; minidiff data verify {name} says more")
        return Entry(name, True, place, f"{place}{' (' + ', '.join(said) + ')' if said else ''}")
    nearest, there = source.nearest()
    has = f"{nearest} has {len(there)} of {len(source.originals)} files; " if there else ""
    return Entry(name, False, None, f"{has}minidiff data fetch {name} gets it from {source.mirrors[0]}")
