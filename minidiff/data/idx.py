"""The IDX files of MNIST and its relatives, read from the bytes up.

An IDX file is a header and one array, everything big-endian
(Y. LeCun, "THE MNIST DATABASE of handwritten digits", section "File formats"):

    00 00  type  ndim     the magic number: two zeros, a code for the type, the number of dimensions
    size_1 … size_ndim    32-bit unsigned each
    data                  size_1 · … · size_ndim items, last dimension fastest
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import lzma
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from minidiff.data.download import sha256
from minidiff.errors import BadInput

TYPES = {0x08: np.dtype("u1"), 0x09: np.dtype("i1"), 0x0B: np.dtype(">i2"),
         0x0C: np.dtype(">i4"), 0x0D: np.dtype(">f4"), 0x0E: np.dtype(">f8")}

# A compressed file is known by its first bytes, whatever it is called.
_OPENERS = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}

_CHUNK = 1 << 22          # bytes; a header that claims terabytes must not allocate them


def read_idx(path: str | Path, *, ndim: int | None = None, dtype: str | None = None) -> np.ndarray:
    """The array in an IDX file, plain or compressed by gzip or xz.

    Args:
        path: the file.
        ndim: the number of dimensions it must have, if that is known.
        dtype: the type it must have, such as "uint8", if that is known.

    Returns:
        The array in the machine's byte order, writable.

    Raises:
        BadInput: the file cannot be read, is not IDX, is of another type or number of dimensions, is cut,
            is damaged, or goes on after its data.
    """
    path = Path(path)
    with open_bytes(path) as stream:
        kind, shape = _read_header(path, stream, ndim, dtype)
        data = _read_exactly(path, stream, kind, shape)
    array = np.frombuffer(data, kind).reshape(shape)
    return array.astype(kind.newbyteorder("="), copy=False)


def read_pair(images: str | Path, labels: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and their labels: uint8 (N,H,W) and int64 (N,) from two IDX files of bytes.

    Raises:
        BadInput: as `read_idx`, and where the files disagree in their number of items.
    """
    x = read_idx(images, ndim=3, dtype="uint8")
    y = read_idx(labels, ndim=1, dtype="uint8")
    if len(x) != len(y):
        raise BadInput(f"{images}: has {len(x):,} images, and {labels} has {len(y):,} labels; "
                       "expected one label for each image")
    return x, y.astype(np.int64)


def shape_told(path: Path) -> tuple[int, ...] | None:
    """The sizes in the file's header, read without the data; None where the file is not IDX or cannot be read."""
    try:
        with open_bytes(path) as stream:
            return _read_header(path, stream, None, None)[1]
    except BadInput:
        return None


@contextlib.contextmanager
def open_bytes(path: Path, expected: str = "an IDX file") -> Iterator[BinaryIO]:
    """A file's content as a stream, decompressed if need be; whatever goes wrong inside is one clear line."""
    try:
        with open(path, "rb") as raw:
            start = raw.read(6)
        opener = next((opener for mark, opener in _OPENERS.items() if start.startswith(mark)), open)
        with opener(path, "rb") as stream:
            yield stream
    except EOFError:
        raise BadInput(f"{path}: is cut: its compressed data ends too early; expected a whole file") from None
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise BadInput(f"{path}: its compressed data is damaged ({error}); expected a whole file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error}); expected {expected}") from None


def content_sha256(path: Path) -> str | None:
    """The SHA-256 of a file's content, decompressed if need be; None where it cannot be read.

    Remembered as long as the file keeps its size and its time.
    """
    try:
        stat = path.stat()
    except OSError:
        return None
    return _content_sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _content_sha256(path: Path, size: int, time: int) -> str | None:
    try:
        with open_bytes(path) as stream:
            return sha256(stream)
    except BadInput:
        return None


def is_packed(path: Path) -> bool:
    """Whether a file begins as those of gzip or xz do."""
    try:
        with open(path, "rb") as raw:
            return raw.read(6).startswith(tuple(_OPENERS))
    except OSError:
        return False


def _read_header(path: Path, stream: BinaryIO, ndim: int | None,
                 dtype: str | None) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or magic[3] == 0:
        raise BadInput(f"{path}: is not an IDX file: it begins with {magic.hex(' ') or 'nothing'}; "
                       f"expected {_magic(ndim, dtype)}")
    kind, dimensions = TYPES[magic[2]], magic[3]
    if ndim not in (None, dimensions) or (dtype is not None and kind != np.dtype(dtype).newbyteorder(">")):
        raise BadInput(f"{path}: begins with {magic.hex(' ')} ({dimensions}-dimensional "
                       f"{kind.newbyteorder('=')}); expected {_magic(ndim, dtype)}")
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise BadInput(f"{path}: is cut: it ends inside its header; "
                       f"expected {4 + 4 * dimensions} bytes of header")
    return kind, tuple(int(size) for size in np.frombuffer(sizes, ">u4"))


def _read_exactly(path: Path, stream: BinaryIO, kind: np.dtype, shape: tuple[int, ...]) -> bytearray:
    wanted = math.prod(shape) * kind.itemsize
    data = bytearray()
    while len(data) < wanted and (chunk := stream.read(min(_CHUNK, wanted - len(data)))):
        data += chunk
    if len(data) < wanted:
        raise BadInput(f"{path}: is cut: it has {len(data):,} bytes of data; expected {wanted:,} for "
                       f"{kind.newbyteorder('=')} {shape}")
    if stream.read(1):          # also makes gzip and xz compare their checksum, which stands at the end
        raise BadInput(f"{path}: goes on after its data; expected it to end after {wanted:,} bytes of "
                       f"{kind.newbyteorder('=')} {shape}")
    return data


def _magic(ndim: int | None, dtype: str | None) -> str:
    if ndim is None or dtype is None:
        return "00 00, a type code and the number of dimensions"
    code = next(code for code, kind in TYPES.items() if kind.newbyteorder("=") == np.dtype(dtype))
    return f"00 00 {code:02x} {ndim:02x} ({ndim}-dimensional {dtype})"
