"""Checkpoints: NumPy archives without pickle, written so that a crash never leaves half a file.

A checkpoint is one ``.npz``. Its arrays are named ``group/name`` (groups ``model``, ``ema``, ``optimizer``) and its
entry ``meta`` is a JSON text that starts with ``{"format": "minidiff-checkpoint", "version": 1, ...}``, so that
anything able to read NumPy files can read it.
"""
from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.style import StyleScale
from ..errors import BadInput
from ..files import UNREADABLE, write_npz

if TYPE_CHECKING:
    from ..diffusion import Schedule
    from ..models import AttentionUNet, UNet
    from .config import Config

FORMAT = "minidiff-checkpoint"
VERSION = 1

Arrays = dict[str, dict[str, np.ndarray]]            # group -> name -> array


class Damaged(BadInput):
    """A file that may have been a checkpoint and cannot be read as one: cut, changed, or empty."""


# ------------------------------------------------------------------------------------------------ writing

def save(path: str | Path, arrays: Mapping[str, Mapping[str, Any]], meta: Mapping[str, Any]) -> Path:
    """Write ``arrays[group][name]`` and ``meta`` to ``path`` atomically; numbers are stored as 0-d arrays."""
    entries: dict[str, np.ndarray] = {}
    for group, members in arrays.items():
        for name, value in members.items():
            array = np.asarray(value)
            if array.dtype == object:
                raise BadInput(f"checkpoint: {group}/{name} is no numeric array (dtype object)")
            entries[f"{group}/{name}"] = array
    entries["meta"] = np.array(json.dumps({"format": FORMAT, "version": VERSION, **meta}))
    write_npz(path, entries)
    return Path(path)


# ------------------------------------------------------------------------------------------------ reading

def load(path: str | Path) -> tuple[Arrays, dict[str, Any]]:
    """Read a checkpoint: ``(arrays by group and name, meta)``.

    Raises BadInput, one line each, for a missing, truncated, foreign or pickled file and for a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file" if not path.is_dir() else f"{path}: is a folder, not a checkpoint")
    try:
        with np.load(_zip_checked(path), allow_pickle=False) as archive:
            meta = _meta(path, archive)
            arrays: Arrays = {}
            for key in archive.files:
                group, _, name = key.partition("/")
                if name:
                    arrays.setdefault(group, {})[name] = archive[key]
    except BadInput:
        raise
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror or error})") from None
    except UNREADABLE as error:
        if "pickle" in str(error):
            raise BadInput(f"{path}: holds pickled objects, which minidiff never loads; "
                           "a checkpoint is plain numeric arrays") from None
        raise Damaged(f"{path}: damaged checkpoint ({error}); use another one") from None
    return arrays, meta


def _zip_checked(path: Path) -> Path:
    """``path`` if it is a whole zip archive, else BadInput that tells a cut file from one of another kind."""
    if zipfile.is_zipfile(path):
        return path
    with open(path, "rb") as file:
        head = file.read(4)
    if head.startswith(b"PK"):
        raise Damaged(f"{path}: truncated checkpoint (the archive's directory at its end is missing); use another one")
    if not head:
        raise Damaged(f"{path}: empty file, not a minidiff checkpoint")
    raise Damaged(f"{path}: not a minidiff checkpoint (no .npz archive)")


def _meta(path: Path, archive: Any) -> dict[str, Any]:
    try:
        meta = json.loads(str(archive["meta"])) if "meta" in archive.files else None
    except json.JSONDecodeError:
        meta = None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        holds = ", ".join(archive.files[:4]) or "nothing"
        raise BadInput(f"{path}: not a minidiff checkpoint (an archive without its meta entry; it holds {holds})")
    version = meta.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise BadInput(f"{path}: written by a newer minidiff (checkpoint version {version}, this one reads up to "
                       f"{VERSION}); upgrade minidiff")
    return meta


# ------------------------------------------------------------------------------------------------ models

@dataclass
class Loaded:
    """What :func:`load_model` returns: a model ready to sample from, and where it came from."""

    model: UNet | AttentionUNet                # averaged weights where the run kept them, in eval mode
    schedule: Schedule
    config: Config | None            # the recipe it was trained by, where recorded
    meta: dict[str, Any]
    path: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, index = label."""
        return tuple(self.meta.get("classes") or map(str, range(self.meta["model"]["num_classes"])))

    @property
    def steps(self) -> int:
        """Optimiser steps that its weights have seen, those of the models that it began with included."""
        steps, of = 0, self.meta
        while of:
            steps, of = steps + (of.get("step") or 0), of.get("start")
        return steps

    @property
    def style(self) -> StyleScale | None:
        """The style values that the model has learned beside the class, and their scale."""
        return StyleScale.from_json(self.meta["style"]) if self.meta.get("style") else None


def pretrained_folder() -> Path:
    """Where the bundled models lie inside the package."""
    return Path(__file__).resolve().parent.parent / "models" / "pretrained"


def bundled() -> tuple[str, ...]:
    """Names of the models that come with minidiff."""
    return tuple(sorted(p.stem for p in pretrained_folder().glob("*.npz")))


def find(name_or_path: str | Path) -> Path:
    """The file that a name stands for: a path, with or without .npz, a run's folder, or the name of a bundled model."""
    path = Path(name_or_path)
    if path.is_dir():
        return _of_run(path)
    if path.exists():
        return path
    if not path.suffix and path.with_suffix(".npz").is_file():           # RUN/best
        return path.with_suffix(".npz")
    name = str(name_or_path)
    if name in bundled():
        return pretrained_folder() / f"{name}.npz"
    if path.suffix or len(path.parts) > 1:
        raise BadInput(f"{name}: no such file")
    known = ", ".join(bundled()) or "none in this installation"
    raise BadInput(f"{name}: no such file, and no bundled model of this name (bundled: {known})")


def _of_run(folder: Path) -> Path:
    final = folder / "model.npz"
    if final.is_file():
        return final
    path = latest(folder)
    if path is None:
        raise BadInput(f"{folder}: no checkpoint in this folder (looked for model.npz and checkpoints/step_*.npz)")
    return path


def all_of_run(folder: str | Path) -> list[Path]:
    """A run's ``checkpoints/step_XXXXXXXX.npz``, oldest first."""
    return sorted((Path(folder) / "checkpoints").glob("step_????????.npz"))


def latest(folder: str | Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    paths = all_of_run(folder)
    return paths[-1] if paths else None


def load_model(name_or_path: str | Path, device: str = "cpu") -> Loaded:
    """Load a model to sample from: by path, by run folder, or by the name of a bundled model. RUN/best is the run's best.

    Takes the averaged (EMA) weights where there are any and widens half precision to float32. Raises BadInput when
    the file is no checkpoint, belongs to another architecture (the message names the parameters that differ), or holds
    weights that are NaN or infinite.
    """
    from ..diffusion import make_schedule
    from ..models import build
    from .config import Config

    path = find(name_or_path)
    arrays, meta = load(path)
    weights = _sampling_weights(path, arrays, meta)
    try:
        model = build(meta["model"])
    except TypeError as error:
        raise BadInput(f"{path}: written by another architecture: {error}") from None
    load_weights(model, weights, path)
    _check_finite(weights, path)
    config = Config.from_json(meta["config"]) if meta.get("config") else None
    return Loaded(model.to(device).eval(), make_schedule(**meta["schedule"]), config, meta, path)


def _sampling_weights(path: Path, arrays: Arrays, meta: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The weights that one samples with: the averaged ones where there are any. Raises BadInput where there are none."""
    weights = arrays.get("ema") or arrays.get("model")
    if not weights or not isinstance(meta.get("model"), dict) or not isinstance(meta.get("schedule"), dict):
        raise BadInput(f"{path}: a minidiff checkpoint, but not one of a diffusion model")
    return weights


def load_weights(model: Any, weights: Mapping[str, np.ndarray], path: str | Path) -> None:
    """``model.load_state_dict`` in float32; a mismatch becomes a BadInput that names the file too."""
    wide = {k: v.astype(np.float32) if v.dtype == np.float16 else v
            for k, v in weights.items() if not k.startswith("ema.")}
    try:
        model.load_state_dict(wide)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None            # "written by another architecture: missing …"


def not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Of each array with NaN or infinity its name, how many such numbers it has, and of how many."""
    bad = {name: int(a.size - np.isfinite(a).sum()) for name, a in arrays.items() if a.dtype.kind in "fc"}
    return [f"{name} holds NaN or infinity ({count:,} of {arrays[name].size:,} numbers)" for name, count in bad.items() if count]


def _check_finite(weights: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises BadInput for weights with which a network computes nothing but NaN."""
    if faults := not_finite(weights):
        more = f", and {len(faults) - 1} arrays more" if len(faults) > 1 else ""
        raise BadInput(f"{path}: {faults[0]}{more}; the model cannot be used")


def export(source: str | Path, target: str | Path, half: bool = True) -> Path:
    """Write the sampling weights of ``source`` alone to ``target``, in float16 unless ``half`` is false.

    A quarter of the moments-and-averages checkpoint halves again: this is the form of the bundled models. Half
    precision has 11 significant bits; weights beyond its range (65504) raise BadInput.
    """
    path = find(source)
    arrays, meta = load(path)
    weights = {k: v for k, v in _sampling_weights(path, arrays, meta).items() if not k.startswith("ema.")}
    _check_finite(weights, path)
    if half:
        with np.errstate(over="ignore"):                  # it is said below
            weights = {k: v.astype(np.float16) if v.dtype.kind == "f" else v for k, v in weights.items()}
        overflow = [k for k, v in weights.items() if v.dtype.kind == "f" and not np.isfinite(v).all()]
        if overflow:
            raise BadInput(f"{path}: {overflow[0]} does not fit float16, whose largest number is 65,504; export in float32")
    kept = ("model", "schedule", "config", "classes", "style", "step", "epoch", "start", "held_out_loss")
    return save(target, {"model": weights}, {"kind": "weights", **{k: meta[k] for k in kept if k in meta}})
