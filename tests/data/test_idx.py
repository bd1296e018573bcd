import gzip
import lzma
import re

import numpy as np
import pytest

from minidiff.data.idx import TYPES, read_idx, read_pair
from minidiff.errors import BadInput

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
PACKERS = {"plain": bytes, "gzip": gzip.compress, "xz": lzma.compress}


@pytest.fixture
def write(tmp_path):
    def write(content, name="file"):
        path = tmp_path / name
        path.write_bytes(content)
        return path
    return write


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (0, 28, 28), (1, 1, 1, 1, 5)])
@pytest.mark.parametrize("code", TYPES)
def test_an_array_survives_the_file(write, idx_bytes, packer, shape, code):
    kind = TYPES[code]
    array = np.random.default_rng(0).integers(-100, 100, shape).astype(kind)
    read = read_idx(write(PACKERS[packer](idx_bytes(array, code))))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == kind.newbyteorder("=") and read.flags.writeable


def test_the_name_does_not_decide_how_it_is_packed(write, idx_bytes):
    packed = write(gzip.compress(idx_bytes(IMAGES)), "no-suffix")
    plain = write(idx_bytes(IMAGES), "plain.gz")
    np.testing.assert_array_equal(read_idx(packed), read_idx(plain))


IMAGES_EXPECTED = "expected 00 00 08 03 (3-dimensional uint8)"
WRONG = {          # the bytes, made with the fixture idx_bytes, and the line they get
    "not IDX": (lambda idx: b"\x89PNG\r\n\x1a\n",
                f"is not an IDX file: it begins with 89 50 4e 47; {IMAGES_EXPECTED}"),
    "empty": (lambda idx: b"", f"is not an IDX file: it begins with nothing; {IMAGES_EXPECTED}"),
    "three bytes": (lambda idx: b"\0\0\x08",
                    f"is not an IDX file: it begins with 00 00 08; {IMAGES_EXPECTED}"),
    "unknown type": (lambda idx: b"\0\0\x0a\x03" + bytes(20),
                     f"is not an IDX file: it begins with 00 00 0a 03; {IMAGES_EXPECTED}"),
    "labels for images": (lambda idx: idx(np.zeros(5, np.uint8)),
                          f"begins with 00 00 08 01 (1-dimensional uint8); {IMAGES_EXPECTED}"),
    "floats for bytes": (lambda idx: idx(IMAGES.astype(">f4"), 0x0D),
                         f"begins with 00 00 0d 03 (3-dimensional float32); {IMAGES_EXPECTED}"),
    "header cut": (lambda idx: idx(IMAGES)[:11],
                   "is cut: it ends inside its header; expected 16 bytes of header"),
    "data cut": (lambda idx: idx(IMAGES)[:-1],
                 "is cut: it has 23 bytes of data; expected 24 for uint8 (2, 3, 4)"),
    "longer": (lambda idx: idx(IMAGES) + b"\0",
               "goes on after its data; expected it to end after 24 bytes of uint8 (2, 3, 4)"),
    "gzip cut": (lambda idx: gzip.compress(idx(IMAGES))[:-9],
                 "is cut: its compressed data ends too early; expected a whole file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_gets_one_line_that_names_it(write, idx_bytes, case):
    content, message = WRONG[case]
    path = write(content(idx_bytes))
    with pytest.raises(BadInput, match=f"^{re.escape(f'{path}: {message}')}$"):
        read_idx(path, ndim=3, dtype="uint8")


@pytest.mark.parametrize("packer", ["gzip", "xz"])
def test_every_flipped_byte_of_the_compressed_data_is_noticed(write, idx_bytes, packer):
    whole = PACKERS[packer](idx_bytes(IMAGES))
    for at in range(10, len(whole)):          # before that gzip keeps its time stamp, which nothing guards
        broken = bytearray(whole)
        broken[at] ^= 0xFF
        path = write(broken)
        with pytest.raises(BadInput, match=f"^{re.escape(str(path))}: "):
            read_idx(path)


def test_a_header_that_claims_terabytes_does_not_allocate_them(write):
    path = write(b"\0\0\x08\x03" + b"\xff\xff\xff\xff" * 3)
    with pytest.raises(BadInput, match="is cut: it has 0 bytes of data; expected 79,228,162,458,924,105"):
        read_idx(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(BadInput, match=r"nothing: cannot be read \(No such file or directory\); expected"):
        read_idx(tmp_path / "nothing")
    with pytest.raises(BadInput, match=r"cannot be read \(Is a directory\); expected an IDX file"):
        read_idx(tmp_path)


def test_images_and_labels_must_agree_in_number(write, idx_bytes):
    images = write(idx_bytes(IMAGES), "images")
    labels = write(idx_bytes(np.zeros(3, np.uint8)), "labels")
    message = f"{images}: has 2 images, and {labels} has 3 labels; expected one label for each image"
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        read_pair(images, labels)


def test_labels_come_as_int64(write, idx_bytes):
    images = write(idx_bytes(IMAGES), "images")
    x, y = read_pair(images, write(idx_bytes(np.array([7, 2], np.uint8)), "labels"))
    assert x.shape == (2, 3, 4) and y.tolist() == [7, 2] and y.dtype == np.int64
