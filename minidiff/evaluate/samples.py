"""Sample archives: `.npz` with `images` float32 (N,C,H,W) in [−1,1] and `labels` int64 (N,)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..data.dataset import refuse_channels_last
from ..errors import BadInput, Failed
from ..files import UNREADABLE, atomic_path


def in_proportion(labels: np.ndarray, n: int) -> np.ndarray:
    """n labels, the classes as frequent among them as among the given ones, and evenly mixed.            # (M,) -> (n,)

    Samples that are held against a data set should be asked for as it is made up: of MNIST's digits one in nine is a 1, and
    one in eleven a 5. Class k gets its share of n, rounded so that all together are n (the largest remainders go up), and its
    m_k labels stand at (j + ½)/m_k of the way, j = 0 … m_k − 1.
    """
    share = n * np.bincount(labels) / len(labels)
    counts = share.astype(int)
    counts[np.argsort(counts - share, kind="stable")[: n - counts.sum()]] += 1
    place = np.concatenate([(np.arange(m) + 0.5) / m for m in counts])
    return np.repeat(np.arange(len(counts)), counts)[np.argsort(place, kind="stable")]


def as_frequent(labels: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Places of n images among whose labels each class is as frequent as among the given ones.            # (n,), (M,) -> (n,)

    Samples are fairly compared with held-out images of the same make-up: twenty of each digit are nearer to a data set than
    two hundred digits as they come. The images of a class are drawn by lot from all that there are, always the same ones: the
    first ones need not be like the last. Where there are too few, and for samples of no class (−1), images of any class take
    their places. In the order of `among`; n is at most M.
    """
    rng = np.random.default_rng(0)
    chosen = np.zeros(len(among), bool)
    for k in np.unique(labels):
        chosen[rng.permutation(np.flatnonzero(among == k))[: (labels == k).sum()]] = True
    chosen[rng.permutation(np.flatnonzero(~chosen))[: len(labels) - chosen.sum()]] = True
    return np.flatnonzero(chosen)


def is_samples(path: str | Path) -> bool:
    """Whether this is a sample archive, and not a checkpoint or a model's name."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return "images" in archive.files
    except (OSError, AttributeError, *UNREADABLE):
        return False


def read_samples(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """images and labels of an archive. Raises BadInput for what is not as `minidiff sample` writes it."""
    form = "it must hold images float (N,C,H,W) in [-1,1] and labels integer (N,), as minidiff sample writes them"
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
    except KeyError as error:
        raise BadInput(f"{path}: {error.args[0]}; {form}") from None
    except (OSError, AttributeError, *UNREADABLE):
        raise BadInput(f"{path}: cut, damaged or pickled; {form}") from None
    if images.dtype.kind in "fiub" and images.ndim == 4:
        refuse_channels_last(str(path), images)
        if fault := range_fault(images):
            raise BadInput(f"{path}: {fault}; {form}")
    kinds = images.dtype.kind == "f" and labels.dtype.kind in "iu"
    if not kinds or images.ndim != 4 or labels.shape != images.shape[:1] or images.size == 0:
        found = f"images {images.dtype} {images.shape}, labels {labels.dtype} {labels.shape}"
        raise BadInput(f"{path}: {found}; {form}")
    if broken := int((~np.isfinite(images)).reshape(len(images), -1).any(1).sum()):
        raise BadInput(f"{path}: {broken:,} of {len(images):,} images are not finite (NaN or infinity); {form}")
    if labels.min() < -1 or labels.max() > np.iinfo(np.int64).max:
        raise BadInput(f"{path}: labels run {labels.min()} … {labels.max()}; a label is a class's index, or -1 for no class; {form}")
    if np.abs(images).max() > 1.0 + 1e-5:
        raise BadInput(f"{path}: images run {images.min():g} … {images.max():g}; {form}")
    return images, labels.astype(np.int64, copy=False)


def range_fault(images: np.ndarray) -> str:
    """What is wrong with images that are of bytes or of [0,1] by their values, and not of [−1,1]; nothing where they may be of that.

    No sample is without black, so what never falls below 0 was scaled in another way.
    """
    if images.size == 0 or not images.min() >= 0 or images.max() == 0:
        return ""
    least, most = images.min().item(), images.max().item()
    scaled = "x / 127.5 - 1" if most > 2 else "2 x - 1"
    return f"images run {least:g} … {most:g} ({images.dtype}), and samples run -1 … 1; {scaled} makes them so"


def write_samples(path: str | Path, labels: np.ndarray, parts: Iterable[np.ndarray]) -> Path:
    """An archive, whole or not at all, of images that come in parts (n,C,H,W), one after the other in the order of the labels.

    What `np.savez` would write, though a part at a time: no more than one needs to be in memory.
    """
    path, written = Path(path), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            for images in parts:
                images = np.ascontiguousarray(images, "<f4")
                if not written:
                    shape = (len(labels), *images.shape[1:])
                    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
                file.write(images.data)
                written += len(images)
        if written != len(labels):
            raise BadInput(f"{path}: {written} images and {len(labels)} labels; there must be one label for each image")
        with archive.open("labels.npy", "w") as file:
            np.lib.format.write_array(file, np.asarray(labels, np.int64), allow_pickle=False)
    return path


def check_finite(images: np.ndarray) -> None:
    """Raises Failed where samples that were just drawn hold NaN or infinity.            # (N,C,H,W)"""
    finite = np.isfinite(images).reshape(len(images), -1).all(1)
    if not finite.all():
        raise Failed(f"{(~finite).sum():,} of {len(images):,} samples are not finite (NaN or infinity); the sampler diverged; "
                     "try less guidance or another sampler")  # fmt: skip


@contextmanager
def kept_until_drawn(picture: Path, images: np.ndarray, labels: np.ndarray) -> Iterator[None]:
    """Samples are in an archive beside `picture` while a picture is made of them inside, and stay there if that fails.

    The archive is named as the picture, with the ending .npz, and with a number if there is such a file already.

    Raises Failed, or BadInput where that is what happened inside, with the name of the archive.
    """
    kept = picture.with_suffix(".npz")
    for number in range(1, 10_000):
        if not kept.exists():
            break
        kept = picture.with_name(f"{picture.stem}-{number}.npz")
    try:
        write_samples(kept, labels, [images])
    except OSError:
        where = ""                                            # no room for them: the picture may be small enough
    else:
        where = f"; the samples are in {kept}"
    try:
        yield
    except (BadInput, Failed) as error:
        raise type(error)(f"{error}{where}") from error
    except Exception as error:
        said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}".removesuffix(": ")
        raise Failed(f"{picture}: cannot be drawn ({said}){where}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted{where}") from None
    kept.unlink(missing_ok=True)
