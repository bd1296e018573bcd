import dataclasses
import errno
import gzip
import hashlib
import io
import lzma
import os
import re
import tarfile
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from minidiff import data
from minidiff.data import cifar10
from minidiff.errors import BadInput

RECORDS = 12          # in each batch of the small set
NAMES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
PACKERS = {".bin": bytes, ".bin.gz": gzip.compress, ".bin.xz": lzma.compress}


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def files():
    """Six small batches: their content by name."""
    rng = np.random.default_rng(0)
    records = rng.integers(0, 256, (6, RECORDS, cifar10.RECORD), dtype=np.uint8)
    records[:, :, 0] = np.arange(RECORDS) % 10
    return {name: batch.tobytes() for name, batch in zip(NAMES, records, strict=True)}


def put(folder, files, suffix=".bin"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}{suffix}").write_bytes(PACKERS[suffix](content))
    return folder


def tar(files, mode="w:gz", inside="cifar-10-batches-bin/", more=()):
    """An archive as the author's: the batches, a list of the classes, a page."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in [("batches.meta.txt", b"airplane\n"), *((f"{name}.bin", files[name]) for name in reversed(files)), ("readme.html", b"")]:
            member = tarfile.TarInfo(inside + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member, content in more:
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def small(files, monkeypatch):
    """Lets the small files stand for the published ones, at a mirror that is not there."""
    batches = tuple(cifar10.Batch(name, "test" if name == "test_batch" else "train", sha(content)) for name, content in files.items())
    source = dataclasses.replace(cifar10.CIFAR10, batches=batches, packed=sha(b""), mirrors=("http://nowhere.invalid/",), records=RECORDS)
    monkeypatch.setattr(cifar10, "CIFAR10", source)
    return source


@pytest.fixture
def mirror(small, tmp_path, monkeypatch):
    """mirror(content) serves these bytes as the archive; with their digest, unless told another."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def mirror(content, packed=None):
        (tmp_path / "served").mkdir(exist_ok=True)
        (tmp_path / "served" / small.archive).write_bytes(content)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served"))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        monkeypatch.setattr(cifar10, "CIFAR10", dataclasses.replace(
            small, packed=packed or sha(content), mirrors=(f"http://127.0.0.1:{server.server_port}/",)))
    yield mirror
    for server in servers:
        server.shutdown()
        server.server_close()


def images_of(files, names):
    records = np.frombuffer(b"".join(files[name] for name in names), np.uint8).reshape(-1, cifar10.RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def assert_is_whole(files):
    for split, names in (("train", NAMES[:5]), ("test", NAMES[5:])):
        dataset = data.load("cifar10", split)
        images, labels = images_of(files, names)
        np.testing.assert_array_equal(dataset.images, images)
        np.testing.assert_array_equal(dataset.labels, labels)
        assert dataset.name == "cifar10" and dataset.classes[8] == "ship" and dataset.augmentations == ("shift", "flip")


# ------------------------------------------------------------------------------------------------ the whole set

@pytest.mark.parametrize("place", ["data", "data/cifar10", "data/cifar-10-batches-bin", "data/cifar10/cifar-10-batches-bin", "cache/cifar10"])
@pytest.mark.parametrize("suffix", PACKERS)
def test_the_six_files_are_found_wherever_they_may_be_and_however_packed(small, files, tmp_path, monkeypatch, place, suffix):
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "data"))
    folder = put(tmp_path / place, files, suffix)
    assert_is_whole(files)
    assert data.fetch("cifar10") == folder
    assert [str(check) for check in data.verify("cifar10")] == \
        [f"ok      {folder / name}{suffix}: the published content, by SHA-256" for name in NAMES]


@pytest.mark.parametrize("mode, name", [("w:gz", "cifar-10-binary.tar.gz"), ("w", "cifar-10-binary.tar"), ("w:xz", "cifar-10-binary.tar.xz"),
                                        ("w", "cifar-10-binary.tar.gz")])
def test_the_archive_itself_is_read_where_it_lies(small, files, tmp_path, monkeypatch, mode, name):
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(tar(files, mode))
    assert_is_whole(files)
    assert [str(check) for check in data.verify("cifar10")] == \
        [f"ok      {tmp_path / 'data' / name} holds {batch}: the published content, by SHA-256" for batch in NAMES]
    assert os.listdir(tmp_path / "data") == [name] and not (tmp_path / "cache").exists()


def test_red_comes_first_and_planes_go_row_by_row(small, files, tmp_path, monkeypatch):
    pixels = np.zeros((3, 32, 32), np.uint8)
    pixels[0, 2, 5], pixels[2, 31, 0] = 200, 7          # red in row 2, blue in the last row
    record = bytes([8]) + pixels.tobytes()
    monkeypatch.setenv("MINIDIFF_DATA", str(put(tmp_path / "data", {**files, "test_batch": record * RECORDS})))
    dataset = data.load("cifar10", "test", limit=2)
    assert len(dataset) == 2 and dataset.classes[dataset.labels[1]] == "ship"
    np.testing.assert_array_equal(dataset.images[1], pixels)


@pytest.mark.parametrize("limit", [1, RECORDS, RECORDS + 1, 5 * RECORDS, 999])
def test_a_limit_gives_the_first_ones(small, files, tmp_path, monkeypatch, limit):
    monkeypatch.setenv("MINIDIFF_DATA", str(put(tmp_path / "data", files)))
    images, labels = images_of(files, NAMES[:5])
    dataset = data.load("cifar10", limit=limit)
    np.testing.assert_array_equal(dataset.images, images[:limit])
    np.testing.assert_array_equal(dataset.labels, labels[:limit])


@pytest.mark.parametrize("suffix", PACKERS)
def test_files_are_known_by_their_content_whatever_they_are_called(small, files, tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("MINIDIFF_DATA", str(put(tmp_path / "data", {f"part{k}": files[name] for k, name in enumerate(NAMES)}, suffix)))
    assert_is_whole(files)
    assert str(data.verify("cifar10")[5]) == f"ok      {tmp_path / 'data'}/part5{suffix} holds test_batch: the published content, by SHA-256"


def test_a_test_batch_among_the_training_batches_is_put_right(small, files, tmp_path, monkeypatch):
    mixed = {**files, "data_batch_3": files["test_batch"], "test_batch": files["data_batch_3"]}
    monkeypatch.setenv("MINIDIFF_DATA", str(put(tmp_path / "data", mixed)))
    assert_is_whole(files)


def test_a_batch_that_stands_for_another_is_refused(small, files, tmp_path, monkeypatch):
    folder = put(tmp_path / "data", {**files, "data_batch_3": files["test_batch"]})          # and data_batch_3 is nowhere
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    with pytest.raises(BadInput, match=f"^{re.escape(f'{folder}/data_batch_3.bin: holds test_batch.bin, expected data_batch_3.bin')}"):
        data.load("cifar10")


# ------------------------------------------------------------------------------------------------ damage

DAMAGE = {
    "cut": (lambda content: content[:-1], "is cut: it has 36,875 bytes; expected 36,876 for 12 records"),
    "longer": (lambda content: content + b"\0", "goes on: it has more than 36,876 bytes; expected 36,876 for 12 records"),
    "label": (lambda content: content[:3073] + b"\x0b" + content[3074:], "has a label 11 in record 1; CIFAR-10 has the classes 0 to 9"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_batch_is_named(small, files, tmp_path, monkeypatch, case):
    damage, message = DAMAGE[case]
    folder = put(tmp_path / "data", {**files, "data_batch_2": damage(files["data_batch_2"])})
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    with pytest.raises(BadInput, match=f"^{re.escape(f'{folder}/data_batch_2.bin: {message}')}$"):
        data.load("cifar10")
    assert [check.ok for check in data.verify("cifar10")] == [True, False, True, True, True, True]


def test_one_flipped_bit_is_seen_by_verifying(small, files, tmp_path, monkeypatch):
    content = bytearray(files["data_batch_4"])
    content[20_000] ^= 4
    monkeypatch.setenv("MINIDIFF_DATA", str(put(tmp_path / "data", {**files, "data_batch_4": bytes(content)})))
    wrong = [check for check in data.verify("cifar10") if not check.ok]
    assert [check.name for check in wrong] == ["data_batch_4"]
    assert wrong[0].detail == f"is 12 records with other content: SHA-256 {sha(content)}, expected {sha(files['data_batch_4'])}"


@pytest.mark.parametrize("cut", [5, 1000, -20_000])
def test_a_cut_archive_is_one_line(small, files, tmp_path, monkeypatch, cut):
    (tmp_path / "data").mkdir()
    archive = tmp_path / "data" / small.archive
    archive.write_bytes(tar(files)[:cut])
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "data"))
    with pytest.raises(BadInput, match=rf"^{re.escape(str(archive))}: is cut or damaged \(.+\); expected cifar-10-binary\.tar\.gz as published$"):
        data.load("cifar10")
    assert not all(check.ok for check in data.verify("cifar10"))


def test_an_archive_that_lacks_batches_names_them(small, files, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    archive = tmp_path / "data" / small.archive
    archive.write_bytes(tar({name: files[name] for name in NAMES[1:]}))
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "data"))
    with pytest.raises(BadInput, match=rf"^{re.escape(str(archive))}: lacks data_batch_1\.bin; expected cifar-10-binary\.tar\.gz as published$"):
        data.load("cifar10")


# ------------------------------------------------------------------------------------------------ fetching

def test_the_archive_is_fetched_unpacked_and_deleted(mirror, files, tmp_path):
    mirror(tar(files))
    folder = data.fetch("cifar10")
    assert folder == tmp_path / "cache" / "cifar10"
    assert sorted(os.listdir(folder)) == [f"{name}.bin" for name in NAMES]
    assert_is_whole(files)
    assert data.fetch("cifar10") == folder and data.available()[2].ready


def test_an_archive_in_the_cache_that_was_not_unpacked_yet_is(mirror, small, files, tmp_path):
    (tmp_path / "cache" / "cifar10").mkdir(parents=True)
    (tmp_path / "cache" / "cifar10" / small.archive).write_bytes(tar(files))
    folder = data.fetch("cifar10")
    assert sorted(os.listdir(folder)) == [f"{name}.bin" for name in NAMES]


def test_nothing_is_written_where_an_archive_would_like_it(mirror, files, tmp_path):
    """Members that lead out of the folder, links under a batch's name, and devices."""
    link, device = tarfile.TarInfo("data_batch_1.bin"), tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    stray = tarfile.TarInfo("../../stray.bin")
    stray.size = 3
    evil = io.BytesIO(tar(files, inside="../../../"))
    with tarfile.open(fileobj=evil) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive.getmembers()]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for member, content in [(link, b""), (device, b""), (stray, b"abc"), *members]:
            archive.addfile(member, io.BytesIO(content))
    mirror(out.getvalue())
    before = {path for path in tmp_path.rglob("*")}
    folder = data.fetch("cifar10")
    new = {path for path in tmp_path.rglob("*")} - before
    assert {path for path in new if path.is_file()} == {folder / f"{name}.bin" for name in NAMES}
    assert not any(path.is_symlink() for path in new)
    assert_is_whole(files)


def test_other_bytes_are_not_unpacked(mirror, files, tmp_path):
    mirror(tar(files), packed=sha(b"published"))
    with pytest.raises(BadInput, match=r"could not be fetched \(cifar-10-binary\.tar\.gz: 127\.0\.0\.1:\d+ has other bytes: SHA-256 "):
        data.load("cifar10")
    assert os.listdir(tmp_path / "cache" / "cifar10") == []


def test_a_disk_that_fills_up_while_unpacking_is_one_line(mirror, files, tmp_path, monkeypatch):
    mirror(tar(files))

    def full(self, content):
        self.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BadInput, match=r"cache/cifar10: cannot be written \(No space left on device\); expected a writable folder with room"):
        data.fetch("cifar10")
    assert os.listdir(tmp_path / "cache" / "cifar10") == ["cifar-10-binary.tar.gz"]          # from which it can go on
    monkeypatch.undo()


def test_without_files_and_network_one_line_says_what_to_put_where(small, tmp_path):
    with pytest.raises(BadInput) as failure:
        data.load("cifar10")
    line = str(failure.value)
    cache = tmp_path / "cache" / "cifar10"
    assert line.startswith("cifar10: the whole set is not on this machine and could not be fetched "
                           "(cifar-10-binary.tar.gz: nowhere.invalid cannot be reached (")
    assert line.endswith("). Put cifar-10-binary.tar.gz from http://nowhere.invalid/, or the files data_batch_1.bin, data_batch_2.bin, "
                         "data_batch_3.bin, data_batch_4.bin, data_batch_5.bin, test_batch.bin in it, into one of "
                         f"{cache}, {cache / 'cifar-10-batches-bin'}, or set MINIDIFF_DATA to the folder that holds it")


@pytest.mark.parametrize("suffix", PACKERS)
def test_other_content_under_the_published_names_is_unverified(small, files, tmp_path, monkeypatch, suffix):
    folder = put(tmp_path / "data", {**files, "data_batch_2": bytes(len(files["data_batch_2"]))}, suffix)
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    note = f"unverified: {folder}/data_batch_2{suffix} does not have the published content of a file of CIFAR-10 (by SHA-256)"
    assert data.load("cifar10").notes == data.load(str(folder)).notes == (note,)
    assert data.load("cifar10", "test").notes == data.load(str(folder), "test").notes == ()
    assert "unverified; minidiff data verify cifar10 compares the content" in str(data.available()[2])


@pytest.mark.parametrize("suffix", PACKERS)
def test_listing_the_sets_unpacks_no_batch(small, files, tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(cifar10, "content_sha256", lambda path: pytest.fail(f"{path} is read"))
    some = dict(list(files.items())[:2])
    put(tmp_path / "data", some, suffix)
    assert f"{tmp_path / 'data'} has 2 of 6 batches; " in str(data.available()[2])
    put(tmp_path / "data", files, suffix)
    assert data.available()[2].ready


# ------------------------------------------------------------------------------------------------ a part of it

def test_a_part_is_not_taken_for_the_whole(small, files, tmp_path, monkeypatch):
    folder = put(tmp_path / "data", {name: files[name] for name in NAMES if name != "data_batch_3"})
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    with pytest.raises(BadInput) as failure:
        data.load("cifar10")
    assert (f"{folder} has data_batch_1.bin, data_batch_2.bin, data_batch_4.bin, data_batch_5.bin, test_batch.bin and lacks data_batch_3.bin; "
            f"--data {folder} uses what is there.") in str(failure.value)
    assert str(data.available()[2]).startswith(f"cifar10        missing  {folder} has 5 of 6 batches; minidiff data fetch cifar10 gets it from ")
    assert [check.ok for check in data.verify("cifar10")] == [True, True, False, True, True, True]


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_folder_of_batches_gives_what_is_there_and_says_that_it_is_a_part(small, files, tmp_path, suffix):
    folder = put(tmp_path / "some", {"data_batch_2": files["data_batch_2"], "data_batch_1": files["data_batch_1"],
                                     "test_batch_first5": files["test_batch"][:5 * cifar10.RECORD]}, suffix)
    assert data.known(str(folder))
    with pytest.warns(UserWarning, match=f"^{re.escape(str(folder))}: has 24 of CIFAR-10's 60 train images; this is not the whole set$"):
        train = data.load(str(folder))
    with pytest.warns(UserWarning, match=r"has 5 of CIFAR-10's 12 test images"):
        test = data.load(str(folder), "test")
    assert train.name == test.name == "cifar10-part" and len(test) == 5
    np.testing.assert_array_equal(train.images, images_of(files, NAMES[:2])[0])
    np.testing.assert_array_equal(data.load(str(folder), limit=15).images, train.images[:15])
    assert all(check.ok for check in data.verify(str(folder)))


def test_a_folder_with_all_batches_is_the_whole_set(small, files, tmp_path, recwarn):
    assert data.load(str(put(tmp_path / "all", files))).name == "cifar10"
    assert not recwarn.list


def test_a_folder_of_batches_that_lacks_a_split_says_so(small, files, tmp_path):
    folder = put(tmp_path / "some", {"data_batch_1": files["data_batch_1"]})
    with pytest.raises(BadInput, match=f"^{re.escape(f'{folder}: has no test_batch*.bin for the test split; expected at least one, plain, .gz or .xz')}$"):
        data.load(str(folder), "test")


def test_half_a_record_is_refused(small, files, tmp_path):
    folder = put(tmp_path / "some", {"data_batch_1": files["data_batch_1"][:4000]})
    message = f"{folder}/data_batch_1.bin: is cut: it has 4,000 bytes; expected whole records of 3,073 bytes"
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        data.load(str(folder))
    assert [str(check) for check in data.verify(str(folder))] == [f"FAILED  {message}"]


# ------------------------------------------------------------------------------------------------ real images

@pytest.fixture(scope="module")
def real(given_folder):
    """What there is of the real set in MINIDIFF_DATA/cifar10: training and test images."""
    if given_folder is None or not cifar10.holds_batches(folder := given_folder / "cifar10"):
        pytest.skip("MINIDIFF_DATA is not set, or holds no batch of CIFAR-10")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {split: data.load(str(folder), split) for split in data.SPLITS}


# Of the 50,000 training images: (0.4914, 0.4822, 0.4465) and (0.2470, 0.2435, 0.2616), as widely published. A mean
# over 10,000 of them differs by about 0.25/100 (images vary as wholes), five times less than the colours among themselves.
def test_real_images_have_the_published_statistics(real):
    images = real["train"].images
    assert images.shape[1:] == (3, 32, 32)
    np.testing.assert_allclose(images.mean((0, 2, 3)) / 255, (0.4914, 0.4822, 0.4465), atol=0.006)
    np.testing.assert_allclose(images.std((0, 2, 3)) / 255, (0.2470, 0.2435, 0.2616), atol=0.006)
    assert (np.bincount(real["train"].labels, minlength=10) > 0.09 * len(images)).all()


def test_real_images_are_pictures_and_not_shuffled_planes(real):
    """Neighbouring pixels, and the three colours of a pixel, are nearly alike; 90 apart (another row order) they are not."""
    x = real["test"].images[:500].astype(float)
    def alike(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]
    assert alike(x[..., 1:], x[..., :-1]) > 0.9 and alike(x[..., 1:, :], x[..., :-1, :]) > 0.9
    assert alike(x[:, 0], x[:, 1]) > 0.85 and alike(x[:, 1], x[:, 2]) > 0.85


def test_training_and_test_images_share_none(real):
    train = {image.tobytes() for image in real["train"].images}
    assert not any(image.tobytes() in train for image in real["test"].images)
