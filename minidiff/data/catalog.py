"""The data sets by name: load them, fetch them, verify them, see what is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minidiff.data import glyphs, mnist
from minidiff.data.dataset import Dataset
from minidiff.data.download import Progress
from minidiff.errors import BadInput

NAMES = ("mnist", "fashion-mnist", "glyphs")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Check:
    """Whether one file (or, for glyphs, one split) is what it should be, and how that is known."""

    name: str
    path: Path | None
    ok: bool
    detail: str

    def __str__(self) -> str:
        return f"{'ok    ' if self.ok else 'FAILED'}  {self.path or self.name}: {self.detail}"


@dataclass(frozen=True)
class Entry:
    """One data set: whether it can be used without a network, and where it is or would come from."""

    name: str
    ready: bool
    folder: Path | None
    detail: str

    def __str__(self) -> str:
        return f"{self.name:<14} {'ready  ' if self.ready else 'missing'}  {self.detail}"


def load(name: str, split: str = "train", *, limit: int | None = None) -> Dataset:
    """A data set by name, fetched or drawn if it is not on this machine yet.

    Args:
        name: one of `NAMES`.
        split: "train" or "test".
        limit: at most so many samples, the first ones; None for all.

    Raises:
        BadInput: an unknown name or split, a limit below 1, damaged files, or files that cannot be fetched.
    """
    _known(name)
    if split not in SPLITS:
        raise BadInput(f"data: unknown split {split!r}; the splits are {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise BadInput(f"data: limit is {limit}; it must be 1 or more")
    if name == "glyphs":
        return glyphs.load(split, limit=limit)
    dataset = mnist.load(mnist.SOURCES[name], split)
    return dataset if limit is None or limit >= len(dataset) else dataset.subset(slice(0, limit))


def fetch(name: str, *, tries: int = 3, timeout: float = 10.0, pause: float = 1.0,
          progress: Progress | None = None) -> Path | None:
    """Make a data set ready for use without a network.

    MNIST and Fashion-MNIST are downloaded into the cache unless all four files are found. The glyphs are
    drawn and kept in the cache.

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
    return mnist.fetch(mnist.SOURCES[name], tries=tries, timeout=timeout, pause=pause, progress=progress)


def verify(name: str) -> list[Check]:
    """Check a data set against what was published; damage is reported, not raised.

    The four files of MNIST and Fashion-MNIST are compared by the SHA-256 of their content, however they
    are packed. For glyphs the start of each split is drawn anew and compared with the cache.

    Raises:
        BadInput: an unknown name.
    """
    if _known(name) == "glyphs":
        return [_check_glyphs(split) for split in SPLITS]
    source = mnist.SOURCES[name]
    folder = source.find()
    if folder is None:
        looked = ", ".join(map(str, source.folders()))
        return [Check(original.name, None, False, f"not found in {looked}") for original in source.originals]
    return [_check_file(original, mnist.path_in(folder, original)) for original in source.originals]


def available() -> list[Entry]:
    """Every data set of `NAMES`: whether it is ready, and where. Never goes to the network."""
    return [_entry_glyphs() if name == "glyphs" else _entry(mnist.SOURCES[name]) for name in NAMES]


def _known(name: str) -> str:
    if name not in NAMES:
        raise BadInput(f"data: unknown data set {name!r}; the data sets are {', '.join(NAMES)}")
    return name


def _check_file(original: mnist.Original, path: Path) -> Check:
    fault = mnist.check(original, path)
    return Check(original.name, path, fault is None, fault or "the published content, by SHA-256")


def _check_glyphs(split: str) -> Check:
    path = glyphs.cached().get(split)
    fault = glyphs.check(split)
    said = "equal to a fresh drawing" if path else "can be drawn; not in the cache yet"
    return Check(f"glyphs {split}", path, fault is None, fault or said)


def _entry(source: mnist.Source) -> Entry:
    folder = source.find()
    said = str(folder) if folder else f"minidiff data fetch {source.name} gets it from {source.mirrors[0]}"
    return Entry(source.name, folder is not None, folder, said)


def _entry_glyphs() -> Entry:
    folder = next((path.parent for path in glyphs.cached().values()), None)
    said = str(folder) if folder else "drawn when first needed, from matplotlib's fonts"
    return Entry("glyphs", True, folder, said)
