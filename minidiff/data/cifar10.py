"""CIFAR-10 in its binary version: six files of records, found on this machine or fetched as one archive.

A file is nothing but records, one for each image:

    1 byte        the class, 0 … 9
    3,072 bytes   the image: 1,024 bytes of red, then green, then blue, each plane row by row

Five files of 10,000 records are the training set, one is the test set. No file has a header, so what a file is can be told
by its name or by the SHA-256 of its content.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
That page gives one digest, the archive's MD5: c32a1d4ab5d03f1284b67883e8d87530. The SHA-256 values below are not the author's.
The archive's is the one in the checksum registry of TensorFlow Datasets and in MLDatasets.jl; those of the batches
are the ones in torchvision-ruby, and the test batch's is found in other public programs as well. None of them was computed by
this project from the author's files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from minidiff.data.check import Check
from minidiff.data.dataset import Dataset
from minidiff.data.download import DownloadError, Progress, download
from minidiff.data.idx import content_sha256, is_packed, open_bytes
from minidiff.data.mnist import settle, unverified
from minidiff.errors import BadInput
from minidiff.files import atomic_path, cache_folder

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
AUGMENTATIONS = ("shift", "flip")          # what leaves the class as it is
SIZE = 32
RECORD = 1 + 3 * SIZE * SIZE          # bytes
SUFFIXES = (".bin", ".bin.gz", ".bin.xz")
LOOK_INTO = 50          # files of a folder that are recognised by their content, first names first

_A_BATCH = re.compile(r"(data|test)_batch.*\.bin(\.gz|\.xz)?")


@dataclass(frozen=True)
class Batch:
    """One published file: its name without ".bin", the split it belongs to, and the SHA-256 of its content."""

    name: str
    split: str
    content: str


@dataclass(frozen=True)
class Source:
    """Where the set may lie, where it can be fetched, what is in it.

    Its files may be given as six, each plain, as .gz or as .xz, or as the archive, which is read without unpacking it:
    in ``MINIDIFF_DATA``, ``MINIDIFF_DATA/cifar10`` or the cache, each of them or its folder ``cifar-10-batches-bin``.
    """

    batches: tuple[Batch, ...]
    archive: str          # its name
    packed: str          # its SHA-256
    mirrors: tuple[str, ...]
    records: int = 10_000          # in each batch

    def folders(self) -> list[Path]:
        """Where the files are looked for, in this order."""
        given = os.environ.get("MINIDIFF_DATA")
        roots = [Path(given).expanduser(), Path(given).expanduser() / "cifar10"] if given else []
        return [folder for root in [*roots, cache_folder("cifar10")] for folder in (root, root / "cifar-10-batches-bin")]

    def locate(self, folder: Path, by_name: bool = True, by_content: bool = True) -> dict[str, Path]:
        """The batches that are in `folder`, by their names; in an archive all have the archive's path.

        Where the six are not there by name, files of the right size are recognised by the SHA-256 of their content, whatever
        they are called; `by_name=False` goes by the content alone, and `by_content=False` by names, without reading a file.
        """
        named = {batch.name: path for batch in self.batches for suffix in reversed(SUFFIXES)
                 if by_name and (path := folder / (batch.name + suffix)).is_file()}
        if len(named) < len(self.batches) and (archive := self._archive(folder)):
            return {batch.name: archive for batch in self.batches}
        if len(named) == len(self.batches) or not by_content or not folder.is_dir():
            return named
        by_content = {batch.content: batch.name for batch in self.batches}
        recognised = [(name, path) for path in self._candidates(folder) if (name := by_content.get(content_sha256(path) or ""))]
        return settle([batch.name for batch in self.batches], named, recognised)

    def _archive(self, folder: Path) -> Path | None:
        names = (self.archive, self.archive.removesuffix(".gz"), self.archive.removesuffix(".gz") + ".xz")
        return next((path for name in names if (path := folder / name).is_file()), None)

    def _candidates(self, folder: Path) -> list[Path]:
        """Files that can hold a batch: as large as one, or packed, photographs lose at most three quarters by that."""
        plain = self.records * RECORD
        with contextlib.suppress(OSError):
            files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))[:LOOK_INTO]
            return [path for path in files if path.stat().st_size == plain
                    or (plain // 4 < path.stat().st_size < plain + plain // 100 and is_packed(path))]
        return []

    def find(self) -> Path | None:
        """The first of `folders()` that holds the whole set. Files are unpacked only where there are enough of them."""
        return next((folder for folder in self.folders() if len(self.locate(folder, by_content=self._may_be_whole(folder))) == len(self.batches)), None)

    def _may_be_whole(self, folder: Path) -> bool:
        return len({*self._candidates(folder), *self.locate(folder, by_content=False).values()}) >= len(self.batches)

    def nearest(self, by_content: bool = True) -> tuple[Path, dict[str, Path]]:
        """The folder that holds most of the batches, the first of such, and those that it holds."""
        there = {folder: self.locate(folder, by_content=by_content) for folder in self.folders()}
        folder = max(there, key=lambda folder: len(there[folder]))
        return folder, there[folder]


CIFAR10 = Source(
    (Batch("data_batch_1", "train", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
     Batch("data_batch_2", "train", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
     Batch("data_batch_3", "train", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
     Batch("data_batch_4", "train", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
     Batch("data_batch_5", "train", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
     Batch("test_batch", "test", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b")),
    "cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/",
     "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/"))


def load(split: str, *, limit: int | None = None) -> Dataset:
    """The images of one split ("train" or "test"), fetched first if they are not on this machine.

    Returns:
        A `Dataset` of uint8 (N,3,32,32), RGB, N = 50,000 or 10,000, or `limit`.

    Raises:
        BadInput: a file is damaged; files are mixed up; or the set is not whole and no mirror answers.
    """
    source = CIFAR10
    folder = source.find() or fetch()
    return _load(source, folder, source.locate(folder), split, limit)


def _load(source: Source, folder: Path, there: dict[str, Path], split: str, limit: int | None, again: bool = True) -> Dataset:
    batches = [batch.name for batch in source.batches if batch.split == split]
    wanted = len(batches) * source.records if limit is None else min(limit, len(batches) * source.records)
    batches = batches[:-(-wanted // source.records)]
    names = {batch.content: batch.name for batch in source.batches}
    N = len(batches) * source.records
    images, labels = np.empty((N, 3, SIZE, SIZE), np.uint8), np.empty(N, np.int64)
    strange: dict[Path, None] = {}
    for name, path, data in _contents(source, there, batches):
        holds = names.get(hashlib.sha256(data).hexdigest())
        if holds is None:
            strange[path] = None
        elif holds != name:
            # A test batch among the training batches would never be noticed later.
            if again and len(by_hand := source.locate(folder, by_name=False)) == len(source.batches):
                return _load(source, folder, by_hand, split, limit, again=False)
            raise BadInput(f"{path}: holds {holds}.bin, expected {name}.bin; give each file its own name")
        part = slice(batches.index(name) * source.records, (batches.index(name) + 1) * source.records)
        images[part], labels[part] = _records(path, data)
    return Dataset("cifar10", images[:wanted], labels[:wanted], CLASSES, augmentations=AUGMENTATIONS, notes=unverified("CIFAR-10", list(strange)))


def _records(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels in a file's content: uint8 (N,3,32,32) and uint8 (N,)."""
    if not data or len(data) % RECORD:
        raise BadInput(f"{path}: is cut: it has {len(data):,} bytes; expected whole records of {RECORD:,} bytes")
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)          # (N,3073)
    labels = records[:, 0]
    if (wrong := labels >= len(CLASSES)).any():
        at = int(np.argmax(wrong))
        raise BadInput(f"{path}: has a label {labels[at]} in record {at:,}; CIFAR-10 has the classes 0 to {len(CLASSES) - 1}")
    return records[:, 1:].reshape(-1, 3, SIZE, SIZE), labels


# ------------------------------------------------------------------------------------------------ some of the batches

def holds_batches(folder: Path) -> bool:
    """Whether a folder has files with names of CIFAR-10's batches."""
    return bool(_parts(folder, "train") or _parts(folder, "test"))


def load_folder(folder: Path, split: str, *, limit: int | None = None) -> Dataset:
    """What there is of a split in a folder of batches, all of it or a part: ``data_batch*.bin`` or ``test_batch*.bin``.

    The files are read in the order of their names, plain, as .gz or as .xz, and may hold any number of whole records. A
    set that is not the whole split is named "cifar10-part", and a warning says how much of it is there.

    Returns:
        A `Dataset` of uint8 (N,3,32,32).

    Raises:
        BadInput: the folder has no file of this split, or one is damaged.
    """
    paths = _parts(folder, split)
    stem = "data_batch" if split == "train" else "test_batch"
    if not paths:
        raise BadInput(f"{folder}: has no {stem}*.bin for the {split} split; expected at least one, plain, .gz or .xz")
    parts, count, strange = [], 0, []
    published = {batch.content for batch in CIFAR10.batches if batch.split == split}
    for path in paths:
        if limit is not None and count >= limit:
            break
        with open_bytes(path, "a batch of CIFAR-10") as stream:
            content = stream.read(-1 if limit is None else (limit - count) * RECORD)
        parts.append(_records(path, content))
        if hashlib.sha256(content).hexdigest() not in published:
            strange.append(path)
        count += len(parts[-1][1])
    whole = sum(batch.split == split for batch in CIFAR10.batches) * CIFAR10.records
    if limit is None and count != whole:
        warnings.warn(f"{folder}: has {count:,} of CIFAR-10's {whole:,} {split} images; this is not the whole set", stacklevel=3)
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Dataset("cifar10" if count == whole else "cifar10-part", images, labels.astype(np.int64), CLASSES, augmentations=AUGMENTATIONS,
                   notes=unverified("CIFAR-10", strange))


def verify_folder(folder: Path) -> list[Check]:
    """Whether each of a folder's batches is whole records with labels of CIFAR-10's classes."""
    checks = []
    for path in [*_parts(folder, "train"), *_parts(folder, "test")]:
        try:
            with open_bytes(path, "a batch of CIFAR-10") as stream:
                count = len(_records(path, stream.read())[1])
            checks.append(Check(path.name, path, True, f"{count:,} whole records (whether they are the published ones, `verify cifar10` tells)"))
        except BadInput as error:
            checks.append(Check(path.name, path, False, str(error).removeprefix(f"{path}: ")))
    return checks


def _parts(folder: Path, split: str) -> list[Path]:
    start = "data" if split == "train" else "test"
    try:
        paths = sorted(path for path in folder.iterdir() if (found := _A_BATCH.fullmatch(path.name)) and found[1] == start)
        return list({path.name.partition(".")[0]: path for path in reversed(paths)}.values())[::-1]          # a file and the same one packed are one
    except OSError:
        return []


# ------------------------------------------------------------------------------------------------ fetching and checking

def fetch(*, tries: int = 3, timeout: float = 10.0, pause: float = 1.0, progress: Progress | None = None) -> Path:
    """The folder with the whole set: the one it is in already, or the cache, where the archive is fetched and unpacked.

    Of the archive only regular files of a batch's name and size are taken, and each goes under that name into the cache,
    whatever path the archive gives it. The archive is deleted when all six are there.

    Raises:
        BadInput: no mirror has the archive, the line names files, folders and addresses; or the disk is full.
    """
    source = CIFAR10
    folder = cache_folder("cifar10")
    found = source.find()
    if found is None:
        try:
            download(source.mirrors, source.archive, source.packed, folder, tries=tries, timeout=timeout, pause=pause, progress=progress)
        except DownloadError as error:
            raise BadInput(_how_to_get(source, str(error))) from None
    archive = folder / source.archive
    if found in (None, folder) and archive.is_file():
        try:
            _unpack(source, archive)
        except BadInput:
            if archive.exists() or source.find() is None:          # else another process has just unpacked it
                raise
    return found or folder


def _unpack(source: Source, archive: Path) -> None:
    names = [batch.name for batch in source.batches]
    try:
        for name, _, data in _contents(source, dict.fromkeys(names, archive), names):
            with atomic_path(archive.with_name(f"{name}.bin")) as temporary:
                temporary.write_bytes(data)
        archive.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{archive.parent}: cannot be written ({error.strerror or error}); expected a writable folder with room: "
                       "set MINIDIFF_CACHE to one") from None


def verify() -> list[Check]:
    """One check for each of the six batches, by the SHA-256 of its content, however it is packed."""
    source = CIFAR10
    folder, there = source.nearest()
    looked = str(folder) if there else ", ".join(map(str, source.folders()))
    checks = {batch.name: Check(batch.name, None, False, f"not found in {looked}") for batch in source.batches}
    content = {batch.name: batch.content for batch in source.batches}
    for path in dict.fromkeys(there.values()):
        left = [name for name in there if there[name] == path]
        try:
            for name, _, data in _contents(source, there, list(left)):
                found = hashlib.sha256(data).hexdigest()
                said = ("the published content, by SHA-256" if found == content[name] else
                        f"is {source.records:,} records with other content: SHA-256 {found}, expected {content[name]}")
                checks[name] = Check(name, path, found == content[name], said)
                left.remove(name)
        except BadInput as error:
            checks.update({name: Check(name, path, False, str(error).removeprefix(f"{path}: ")) for name in left})
    return list(checks.values())


def where() -> tuple[Path | None, str]:
    """The folder of the whole set, or None, and one line on it; of a part that is counted by names, nothing is unpacked."""
    if folder := CIFAR10.find():
        return folder, f"{folder} (unverified; minidiff data verify cifar10 compares the content)"
    folder, there = CIFAR10.nearest(by_content=False)
    has = f"{folder} has {len(there)} of {len(CIFAR10.batches)} batches; " if there else ""
    return None, f"{has}minidiff data fetch cifar10 gets it from {CIFAR10.mirrors[0]}"


def _contents(source: Source, there: dict[str, Path], wanted: list[str]) -> Iterator[tuple[str, Path, bytes]]:
    """The content of the wanted batches, one at a time: name, file, bytes."""
    for path in dict.fromkeys(there[name] for name in wanted):
        if ".tar" in path.suffixes:
            yield from _members(source, path, set(wanted))
            continue
        with open_bytes(path, "a batch of CIFAR-10") as stream:
            yield next(name for name in wanted if there[name] == path), path, _read(source, path, stream)


def _read(source: Source, path: Path, stream: BinaryIO) -> bytes:
    size = source.records * RECORD
    data = stream.read(size + 1)          # the byte more shows a longer file and lets gzip and xz compare their checksum
    if len(data) != size:
        state = "is cut: it has" if len(data) < size else "goes on: it has more than"
        raise BadInput(f"{path}: {state} {min(len(data), size):,} bytes; expected {size:,} for {source.records:,} records")
    return data


def _members(source: Source, archive: Path, wanted: set[str]) -> Iterator[tuple[str, Path, bytes]]:
    """The wanted batches in a .tar, plain or packed, in its own order. Nothing is written, and links are not followed."""
    # Imported here, since few runs have an archive to read.
    import tarfile

    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if not member.isfile() or not name.endswith(".bin") or (name := name.removesuffix(".bin")) not in wanted:
                    continue
                yield name, archive, _read(source, archive / member.name, tar.extractfile(member))
                wanted.discard(name)
                if not wanted:
                    return
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise BadInput(f"{archive}: is cut or damaged ({error}); expected {source.archive} as published") from None
    if wanted:
        raise BadInput(f"{archive}: lacks {', '.join(f'{name}.bin' for name in sorted(wanted))}; expected {source.archive} as published")


def _how_to_get(source: Source, why: str) -> str:
    folder, there = source.nearest()
    lacking = [f"{batch.name}.bin" for batch in source.batches if batch.name not in there]
    looked = ", ".join(map(str, [folder] if there else source.folders()))
    hint = "" if there or os.environ.get("MINIDIFF_DATA") else ", or set MINIDIFF_DATA to the folder that holds it"
    some = f" {folder} has {', '.join(f'{name}.bin' for name in there)} and lacks {', '.join(lacking)}; --data {folder} uses what is there." if there else ""
    return (f"cifar10: the whole set is not on this machine and could not be fetched ({why}).{some} Put {source.archive} "
            f"from {' or '.join(source.mirrors)}, or the files {', '.join(f'{batch.name}.bin' for batch in source.batches)} in it, "
            f"into {'' if there else 'one of '}{looked}{hint}")
