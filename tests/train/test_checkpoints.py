"""Checkpoints come back bit for bit, appear whole or not at all, and say clearly what is wrong with a file."""
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidiff.errors import BadInput
from minidiff.files import atomic_path, write_npz
from minidiff.train import checkpoint
from minidiff.train.checkpoint import load, save

ARRAYS = {"model": {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.zeros(0, np.float16)},
          "optimizer": {"lr": 1e-3, "t.0": 7}}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", ARRAYS, {"step": 3, "rng": {"state": 2**100}})
    arrays, meta = load(path)
    assert (meta["format"], meta["version"], meta["step"]) == ("minidiff-checkpoint", 1, 3)
    assert meta["rng"]["state"] == 2**100                # generators' states do not fit 64 bits
    for group, members in ARRAYS.items():
        assert list(arrays[group]) == list(members)
        for name, value in members.items():
            back = arrays[group][name]
            assert back.dtype == np.asarray(value).dtype
            np.testing.assert_array_equal(back, value)


def test_numpy_alone_can_read_it(tmp_path: Path) -> None:
    with np.load(save(tmp_path / "a.npz", ARRAYS, {"step": 3}), allow_pickle=False) as archive:
        assert json.loads(archive["meta"].item())["step"] == 3
        assert archive["model/a.weight"].shape == (2, 3)


def test_object_arrays_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="model/a is no numeric array"):
        save(tmp_path / "a.npz", {"model": {"a": np.array([None, 1])}}, {})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent       # a rename across file systems is not atomic
            assert temporary.suffix == ".npz"
            temporary.write_bytes(b"ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_the_file_is_flushed_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), rename(a, b)))
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("all of it")
    assert done == ["fsync", "rename", "fsync"]          # the file, its new name, the folder


@pytest.mark.parametrize(("compress", "savez"), [(False, np.savez), (True, np.savez_compressed)])
def test_archives_are_those_of_numpy_to_the_byte(tmp_path: Path, compress: bool, savez: Any) -> None:
    arrays = {"model/a": np.ones((3, 4), np.float32).T, "text": np.array("é"), "number": np.float64(3), "none": np.zeros((0, 3)), "big": np.arange(5, dtype=">i4")}
    write_npz(tmp_path / "ours.npz", arrays, compress)
    savez(tmp_path / "theirs.npz", **arrays)
    assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "theirs.npz").read_bytes()


def test_threads_of_one_process_write_one_file_without_meeting(tmp_path: Path) -> None:
    path, together, failed = tmp_path / "a.txt", threading.Barrier(2), []

    def write(text: str) -> None:
        try:
            with atomic_path(path) as temporary:
                temporary.write_text(text)
                together.wait(10)
                assert temporary.read_text() == text
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert path.read_text() in ("one", "other")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


# ------------------------------------------------------------------------------------------------ bad files

def _file(folder: Path, kind: str) -> Path:
    path = folder / "x.npz"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("hello")
    elif kind == "truncated":
        whole = save(path, ARRAYS, {}).read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif kind == "damaged":
        content = bytearray(save(path, {"model": {"w": np.ones(4096, np.float32)}}, {}).read_bytes())
        content[2000:2100] = b"\xff" * 100
        path.write_bytes(content)
    elif kind == "foreign":
        np.savez(path, weights=np.ones(3))
    elif kind == "other meta":
        np.savez(path, meta=np.array(json.dumps({"format": "something-else"})))
    elif kind == "numeric meta":
        np.savez(path, meta=np.arange(3))
    elif kind == "pickled":
        np.savez(path, meta=np.array(json.dumps({"format": "minidiff-checkpoint", "version": 1})),
                 **{"model/w": np.array([{"a": 1}], dtype=object)})
    elif kind == "pickled meta":
        np.savez(path, meta=np.array({"format": "minidiff-checkpoint"}, dtype=object))
    elif kind == "newer":
        np.savez(path, meta=np.array(json.dumps({"format": "minidiff-checkpoint", "version": 2})))
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(("kind", "message"), [
    ("missing", "x.npz: no such file"),
    ("folder", "x.npz: is a folder, not a checkpoint"),
    ("empty", "x.npz: empty file, not a minidiff checkpoint"),
    ("text", r"x.npz: not a minidiff checkpoint \(no .npz archive\)"),
    ("truncated", r"x.npz: truncated checkpoint \(the archive's directory at its end is missing\); use another one"),
    ("damaged", r"x.npz: damaged checkpoint \(Bad CRC-32 for file 'model/w.npy'\); use another one"),
    ("foreign", r"x.npz: not a minidiff checkpoint \(an archive without its meta entry; it holds weights\)"),
    ("other meta", r"x.npz: not a minidiff checkpoint \(an archive without its meta entry; it holds meta\)"),
    ("numeric meta", r"x.npz: not a minidiff checkpoint \(an archive without its meta entry; it holds meta\)"),
    ("pickled", "x.npz: holds pickled objects, which minidiff never loads; a checkpoint is plain numeric arrays"),
    ("pickled meta", "x.npz: holds pickled objects, which minidiff never loads; .*"),
    ("newer", r"x.npz: written by a newer minidiff \(checkpoint version 2, this one reads up to 1\); upgrade minidiff"),
])
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, kind: str, message: str) -> None:
    path = _file(tmp_path, kind)
    with pytest.raises(BadInput, match=f"^{tmp_path}/{message}$"):
        load(path)


# ------------------------------------------------------------------------------------------------ finding

def test_a_name_that_is_nothing_lists_the_bundled_models() -> None:
    with pytest.raises(BadInput, match=r"^mnits: no such file, and no bundled model of this name \(bundled: .+\)$"):
        checkpoint.find("mnits")


def test_a_missing_path_is_only_that() -> None:
    with pytest.raises(BadInput, match=r"^some/where\.npz: no such file$"):
        checkpoint.find("some/where.npz")


def test_a_bundled_name_is_found_and_a_file_of_that_name_comes_first(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    (bundled / "digits.npz").touch()
    monkeypatch.setattr(checkpoint, "pretrained_folder", lambda: bundled)
    monkeypatch.chdir(tmp_path)
    assert checkpoint.bundled() == ("digits",)
    assert checkpoint.find("digits") == bundled / "digits.npz"
    (tmp_path / "digits").touch()
    assert checkpoint.find("digits") == Path("digits")


def test_a_runs_folder_means_its_final_model_else_its_newest_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no checkpoint in this folder \(looked for model.npz and checkpoints/step_"):
        checkpoint.find(tmp_path)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("step_00000100.npz", "step_00000020.npz", "step_00000200.bad.npz"):
        (folder / name).touch()
    assert checkpoint.find(tmp_path) == folder / "step_00000100.npz"
    (tmp_path / "model.npz").touch()
    assert checkpoint.find(tmp_path) == tmp_path / "model.npz"
