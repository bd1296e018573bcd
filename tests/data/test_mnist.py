import dataclasses
import gzip
import hashlib
import lzma
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from minidiff import data
from minidiff.data import mnist
from minidiff.errors import BadInput

N = {"train": 20, "test": 10}
PREFIX = {"train": "train", "test": "t10k"}


@pytest.fixture(scope="module")
def files(idx_bytes):
    """Four small files of MNIST's form: their content by name."""
    rng = np.random.default_rng(0)
    files = {}
    for split, n in N.items():
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        files[f"{PREFIX[split]}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{PREFIX[split]}-labels-idx1-ubyte"] = idx_bytes(np.arange(n, dtype=np.uint8) % 10)
    return files


def gz(content):
    return gzip.compress(content, mtime=0)          # without the time, so that its SHA-256 is known


def _shape(content):
    return tuple(int(size) for size in np.frombuffer(content[4:4 + 4 * content[3]], ">u4"))


def put(folder, files, pack=gz, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / (name + suffix)).write_bytes(pack(content))
    return folder


@pytest.fixture
def small_mnist(files, monkeypatch):
    """Lets the small files stand for the originals, at a mirror that is not there."""
    def sha(content):
        return hashlib.sha256(content).hexdigest()

    originals = tuple(mnist.Original(name, sha(gz(content)), sha(content), _shape(content))
                      for name, content in files.items())
    source = dataclasses.replace(mnist.MNIST, originals=originals, mirrors=("http://nowhere.invalid/mnist/",))
    monkeypatch.setitem(mnist.SOURCES, "mnist", source)
    return source


@pytest.fixture
def mirror(files, small_mnist, tmp_path, monkeypatch):
    """A web server that has the small files; gives the folder it serves."""
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = put(tmp_path / "served", files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setitem(mnist.SOURCES, "mnist", dataclasses.replace(small_mnist, mirrors=(address,)))
    yield folder
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("place", ["data", "data/mnist", "cache/mnist"])
@pytest.mark.parametrize("pack, suffix", [(gz, ".gz"), (bytes, ""), (lzma.compress, ".xz")])
def test_the_originals_are_found_wherever_they_may_be_and_however_packed(
        files, tmp_path, monkeypatch, place, pack, suffix):
    assert data.find_mnist() is None
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "data"))
    folder = put(tmp_path / place, files, pack, suffix)
    assert data.find_mnist() == folder
    assert len(data.load("mnist", "train")) == 20


def test_a_folder_that_lacks_one_file_is_passed_over(files, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "data"))
    put(tmp_path / "data", dict(list(files.items())[:3]))
    assert data.find_mnist() is None
    whole = put(tmp_path / "cache" / "mnist", files)
    assert data.find_mnist() == whole


@pytest.mark.parametrize("split", N)
def test_a_split_is_loaded_whole_or_up_to_the_limit(files, tmp_path, monkeypatch, split):
    monkeypatch.setenv("MINIDIFF_DATA", str(put(tmp_path / "data", files)))
    whole = data.load("mnist", split)
    assert whole.name == "mnist" and whole.classes == tuple("0123456789") and whole.style is None
    assert whole.images.tobytes() == files[f"{PREFIX[split]}-images-idx3-ubyte"][16:]
    assert whole.labels.tolist() == [i % 10 for i in range(N[split])]
    start = data.load("mnist", split, limit=3)
    np.testing.assert_array_equal(start.images, whole.images[:3])
    assert len(data.load("mnist", split, limit=1000)) == N[split]


def test_what_is_missing_is_fetched_into_the_cache_and_then_found(mirror, tmp_path):
    folder = data.fetch("mnist")
    assert folder == tmp_path / "cache" / "mnist"
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in mirror.iterdir())
    shutil.rmtree(mirror)          # from here on everything must come from the cache
    assert data.fetch("mnist") == folder
    assert len(data.load("mnist")) == 20
    assert all(check.ok for check in data.verify("mnist"))


def test_only_the_files_that_are_not_there_are_fetched(mirror, files, tmp_path):
    name = "t10k-labels-idx1-ubyte"
    put(tmp_path / "cache" / "mnist", {name: files[name]})
    told = []
    data.fetch("mnist", progress=lambda name, *_: told.append(name))
    assert set(told) == {f"{other}.gz" for other in files if other != name}


def test_a_mirror_with_a_wrong_file_is_not_believed(mirror, tmp_path):
    (mirror / "t10k-images-idx3-ubyte.gz").write_bytes(b"<html>")
    message = (r"could not be fetched \(t10k-images-idx3-ubyte\.gz: 127\.0\.0\.1:\d+ has other bytes: "
               r"SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}\)")
    with pytest.raises(BadInput, match=message):
        data.load("mnist", "test")
    assert not (tmp_path / "cache" / "mnist" / "t10k-images-idx3-ubyte.gz").exists()


@pytest.mark.parametrize("given", [True, False])
def test_without_files_and_network_one_line_says_what_to_put_where(small_mnist, tmp_path, monkeypatch, given):
    if given:
        monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "data"))
    with pytest.raises(BadInput) as failure:
        data.load("mnist")
    line = str(failure.value)
    assert line.startswith("mnist: the files are not on this machine and could not be fetched "
                           "(train-images-idx3-ubyte.gz: nowhere.invalid cannot be reached (")
    places = [tmp_path / "data", tmp_path / "data" / "mnist"] if given else []
    looked = ", ".join(map(str, [*places, tmp_path / "cache" / "mnist"]))
    hint = "" if given else ", or set MINIDIFF_DATA to the folder that holds them"
    assert line.endswith("); put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
                         "t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz "
                         f"from http://nowhere.invalid/mnist/ into one of {looked}{hint}")
    assert "\n" not in line


def test_a_cut_file_is_reported_by_loading_and_by_verifying(small_mnist, files, tmp_path, monkeypatch):
    folder = put(tmp_path / "data", files, bytes, "")
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    fault = "is cut: it has 15,580 bytes of data; expected 15,680 for uint8 (20, 28, 28)"
    with pytest.raises(BadInput, match=f"^{re.escape(f'{path}: {fault}')}$"):
        data.load("mnist")
    checks = data.verify("mnist")
    assert [check.ok for check in checks] == [False, True, True, True]
    assert str(checks[0]) == f"FAILED  {path}: {fault}"
    assert str(checks[1]) == f"ok      {folder}/train-labels-idx1-ubyte: the published content, by SHA-256"


def test_one_changed_pixel_is_seen_by_verifying(small_mnist, files, tmp_path, monkeypatch):
    changed = dict(files)
    name = "t10k-images-idx3-ubyte"
    changed[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    monkeypatch.setenv("MINIDIFF_DATA", str(put(tmp_path / "data", changed)))
    checks = {check.name: check for check in data.verify("mnist")}
    assert [name for name, check in checks.items() if not check.ok] == [name]
    assert re.fullmatch("is an IDX file with other content: SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}",
                        checks[name].detail)


def test_verifying_what_is_not_there_says_where_it_was_looked_for(small_mnist, tmp_path):
    assert [str(check) for check in data.verify("mnist")][0] == \
        f"FAILED  train-images-idx3-ubyte: not found in {tmp_path / 'cache' / 'mnist'}"


def test_labels_beyond_the_classes_are_refused(files, idx_bytes, tmp_path, monkeypatch):
    name = "train-labels-idx1-ubyte"
    folder = put(tmp_path / "data", {**files, name: idx_bytes(np.arange(20, dtype=np.uint8))})
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    with pytest.raises(BadInput, match=rf"{name}\.gz: has a label 19; MNIST has the classes 0 to 9$"):
        data.load("mnist")


def test_the_files_of_a_namesake_are_refused(files, tmp_path, monkeypatch):
    """MNIST and Fashion-MNIST share their file names, so one can be mistaken for the other."""
    labels = hashlib.sha256(files["train-labels-idx1-ubyte"]).hexdigest()
    fashion = mnist.SOURCES["fashion-mnist"]
    originals = (fashion.originals[0], dataclasses.replace(fashion.originals[1], content=labels),
                 *fashion.originals[2:])
    monkeypatch.setitem(mnist.SOURCES, "fashion-mnist", dataclasses.replace(fashion, originals=originals))
    folder = put(tmp_path / "data", files)
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    message = f"{folder}: holds Fashion-MNIST, expected MNIST; put it into a folder named fashion-mnist"
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        data.load("mnist")


def test_fashion_mnist_has_the_same_form_and_its_own_folder_and_classes(files, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path))
    put(tmp_path / "fashion-mnist", files)
    fashion = data.load("fashion-mnist", "test")
    assert fashion.name == "fashion-mnist" and fashion.classes[9] == "Ankle boot" and len(fashion) == 10
    assert data.find_mnist() is None


KNOWN = "the data sets are mnist, fashion-mnist, cifar10, glyphs"
OR_A_FOLDER = f"{KNOWN}; or give the path of a folder of images"


@pytest.mark.parametrize("call, message", [
    (lambda: data.load("digits"), f"data: unknown data set 'digits'; {OR_A_FOLDER}"),
    (lambda: data.load(""), f"data: unknown data set ''; {OR_A_FOLDER}"),
    (lambda: data.fetch("cifar100"), f"data: unknown data set 'cifar100'; {KNOWN}"),
    (lambda: data.fetch("."), f"data: unknown data set '.'; {KNOWN}"),
    (lambda: data.verify("MNIST"), f"data: unknown data set 'MNIST'; {OR_A_FOLDER}"),
    (lambda: data.load("glyphs", "valid"), "data: unknown split 'valid'; the splits are train, test"),
    (lambda: data.load("glyphs", limit=0), "data: limit is 0; it must be 1 or more"),
])
def test_unknown_names_are_answered_with_the_known_ones(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()


def test_available_tells_what_is_ready_and_where(small_mnist, files, tmp_path, monkeypatch):
    before = {entry.name: entry for entry in data.available()}
    assert tuple(before) == data.NAMES
    assert not before["mnist"].ready and before["glyphs"].ready
    assert before["mnist"].detail.startswith("minidiff data fetch mnist gets it from http://")
    folder = put(tmp_path / "data", files)
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    entry = data.available()[0]
    assert entry.ready and entry.folder == folder and str(entry) == f"mnist          ready    {folder}"


@pytest.mark.parametrize("pack, suffix", [(gz, ".gz"), (bytes, ""), (lzma.compress, ".xz")])
def test_other_content_under_the_published_names_is_unverified(small_mnist, files, idx_bytes, tmp_path, monkeypatch, pack, suffix):
    name = "t10k-images-idx3-ubyte"
    other = idx_bytes(np.zeros((10, 28, 28), np.uint8))
    folder = put(tmp_path / "data", {**files, name: other}, pack, suffix)
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    assert data.load("mnist", "train").notes == ()
    note = f"unverified: {folder / (name + suffix)} does not have the published content of a file of MNIST (by SHA-256)"
    assert data.load("mnist", "test").notes == data.load("mnist", "test", limit=3).notes == (note,)
    assert str(data.available()[0]) == f"mnist          ready    {folder} (unverified: {name}{suffix}; minidiff data verify mnist says more)"


def test_images_with_rows_and_columns_exchanged_are_recognized(small_mnist, files, idx_bytes, tmp_path, monkeypatch):
    name = "train-images-idx3-ubyte"
    images = np.frombuffer(files[name][16:], np.uint8).reshape(-1, 28, 28)
    folder = put(tmp_path / "data", {**files, name: idx_bytes(images.transpose(0, 2, 1))})
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    with pytest.raises(BadInput, match=rf"{name}\.gz: holds MNIST's images with rows and columns exchanged; expected them upright$"):
        data.load("mnist")


# ------------------------------------------------------------------------------------------------ by content

def rot(names, k):
    """Each file under the name of the one k places further on."""
    names = list(names)
    return dict(zip(names, names[k:] + names[:k], strict=True))


@pytest.mark.parametrize("name_of", [
    lambda names: {name: f"file{k}.bin" for k, name in enumerate(names)},
    lambda names: {name: f"{name}.part1.dat" for name in names},
    lambda names: rot(names, 1),          # labels called images, test called training
    lambda names: rot(names, 2),          # test and training files exchanged
], ids=["numbered", "other endings", "mixed up", "splits exchanged"])
@pytest.mark.parametrize("pack", [bytes, gz, lzma.compress], ids=["plain", "gz", "xz"])
def test_files_are_known_by_their_content_whatever_they_are_called(small_mnist, files, tmp_path, monkeypatch, name_of, pack):
    names = name_of(files)
    folder = put(tmp_path / "data", {names[name]: content for name, content in files.items()}, pack, "")
    (folder / "notes.txt").write_text("not a file of MNIST")
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    for split in N:
        assert data.load("mnist", split).images.tobytes() == files[f"{PREFIX[split]}-images-idx3-ubyte"][16:]
    assert data.fetch("mnist") == folder          # and from no mirror: there is none
    checks = data.verify("mnist")
    assert all(check.ok for check in checks)
    assert [check.path for check in checks] == [folder / names[name] for name in files]


def test_it_is_said_which_file_was_taken_for_which(small_mnist, files, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDIFF_DATA", str(put(tmp_path / "data", {f"file{k}": content for k, content in enumerate(files.values())}, gz, ".bin")))
    assert str(data.available()[0]).endswith(
        f"ready    {tmp_path / 'data'} (train-images-idx3-ubyte is file0.bin, train-labels-idx1-ubyte is file1.bin, "
        "t10k-images-idx3-ubyte is file2.bin, t10k-labels-idx1-ubyte is file3.bin)")
    assert str(data.verify("mnist")[3]) == \
        f"ok      {tmp_path / 'data' / 'file3.bin'} holds t10k-labels-idx1-ubyte: the published content, by SHA-256"


@pytest.mark.parametrize("lacking", range(4))
def test_the_one_that_is_missing_is_named(small_mnist, files, tmp_path, monkeypatch, lacking):
    names = list(files)
    folder = put(tmp_path / "data", {f"file{k}": files[name] for k, name in enumerate(names) if k != lacking})
    monkeypatch.setenv("MINIDIFF_DATA", str(folder))
    with pytest.raises(BadInput) as failure:
        data.load("mnist")
    line = str(failure.value)
    assert line.startswith(f"mnist: {folder} lacks {names[lacking]}.gz, which could not be fetched (")
    assert line.endswith(f"); put {names[lacking]}.gz from http://nowhere.invalid/mnist/ into it")
    assert [check.ok for check in data.verify("mnist")] == [k != lacking for k in range(4)]
    assert str(data.verify("mnist")[lacking]) == f"FAILED  {names[lacking]}: not found in {folder}"
    assert f"missing  {folder} has 3 of 4 files; minidiff data fetch mnist gets it from http" in str(data.available()[0])


def test_a_file_under_anothers_name_does_not_stand_for_it(small_mnist, files, tmp_path, monkeypatch):
    names = list(files)
    copies = {**{name: files[name] for name in names[:3]}, names[3]: files[names[1]]}          # training labels twice
    monkeypatch.setenv("MINIDIFF_DATA", str(put(tmp_path / "data", copies)))
    with pytest.raises(BadInput, match=f"^mnist: {re.escape(str(tmp_path / 'data'))} lacks {names[3]}.gz, which could not be fetched"):
        data.load("mnist", "test")


# ------------------------------------------------------------------------------------------------ the real files

@pytest.mark.parametrize("name, mean, deviation",
                         [("mnist", 0.1307, 0.3081), ("fashion-mnist", 0.2860, 0.3530)])
def test_the_real_images_have_the_published_statistics(given_data, name, mean, deviation):
    if not next(entry for entry in data.available() if entry.name == name).ready:
        pytest.skip(f"{name} is not in MINIDIFF_DATA")
    train, test = data.load(name), data.load(name, "test")
    assert train.images.shape == (60_000, 28, 28) and test.images.shape == (10_000, 28, 28)
    # Both are published to four decimals.
    assert abs(train.images.mean() / 255 - mean) < 6e-5
    assert abs(train.images.std() / 255 - deviation) < 6e-5
    assert np.bincount(test.labels).shape == (10,)
    assert all(check.ok for check in data.verify(name))


def test_find_mnist_finds_the_real_files(given_data):
    if (folder := data.find_mnist()) is None:
        pytest.skip("MINIDIFF_DATA holds no MNIST")
    assert isinstance(folder, Path) and data.fetch("mnist") == folder


def test_one_flipped_bit_in_the_real_files_is_found_and_named(given_data, tmp_path, monkeypatch):
    if (folder := data.find_mnist()) is None:
        pytest.skip("MINIDIFF_DATA holds no MNIST")
    copies = tmp_path / "mnist"
    copies.mkdir()
    for path in mnist.MNIST.locate(folder).values():
        content = bytearray(gzip.decompress(path.read_bytes()))
        if path.name.startswith("t10k-images"):
            content[1_234_567] ^= 0x10
        (copies / path.name.removesuffix(".gz")).write_bytes(content)
    monkeypatch.setenv("MINIDIFF_DATA", str(copies))
    checks = {check.name: check for check in data.verify("mnist")}
    assert {name for name, check in checks.items() if not check.ok} == {"t10k-images-idx3-ubyte"}
    assert re.fullmatch(rf"FAILED  {re.escape(str(copies))}/t10k-images-idx3-ubyte: is an IDX file with other content: "
                        "SHA-256 [0-9a-f]{64}, expected 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                        str(checks["t10k-images-idx3-ubyte"]))


def test_the_real_files_are_known_by_their_content(given_data, tmp_path, monkeypatch):
    if (folder := data.find_mnist()) is None:
        pytest.skip("MINIDIFF_DATA holds no MNIST")
    for k, path in enumerate(sorted(mnist.MNIST.locate(folder).values())):
        (tmp_path / f"{k}.bin").symlink_to(path)
    before = data.load("mnist", "test")
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path))
    after = data.load("mnist", "test")
    np.testing.assert_array_equal(after.images, before.images)
    np.testing.assert_array_equal(after.labels, before.labels)
