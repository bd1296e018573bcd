"""A run's folder: what lies in it, whether one may write there, and what to go on from.

    config.json          the recipe                        metrics.jsonl   a line a step
    environment.json     versions, machine, variables      record.json     how the run was made and how it went
    sheets/              samples on the way                checkpoints/    all that the next step depends on
    best.npz             weights of the lowest held-out loss
    model.npz            weights at the end
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from . import checkpoint

FILES = ("config.json", "environment.json", "record.json", "metrics.jsonl", "model.npz", "best.npz")


def holds_run(folder: str | Path) -> bool:
    """Whether a training run has written into this folder something that can be gone on with, or lost."""
    folder = Path(folder)
    return bool(checkpoint.latest(folder)) or any(
        (folder / name).exists() for name in ("record.json", "metrics.jsonl", "model.npz"))


def check_writable(folder: str | Path, option: str = "--out") -> None:
    """Refuse a folder that cannot be written to, or made, before the work rather than after it.

    Tries a file in it, or in the nearest folder above that exists; makes nothing that stays.
    """
    folder = Path(folder)
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    probe = nearest / f".minidiff-{os.getpid()}.part"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror or error}); give another {option}") from None


@dataclass
class Saved:
    """A checkpoint to go on from, and newer ones that cannot be read, each with what is wrong with it."""

    path: Path
    arrays: checkpoint.Arrays
    meta: dict[str, Any]
    damaged: dict[Path, str]


def newest_readable(folder: str | Path) -> Saved:
    """The newest checkpoint of a run that can be read. Raises BadInput where there is none."""
    damaged: dict[Path, str] = {}
    for path in reversed(checkpoint.all_of_run(folder)):
        try:
            return Saved(path, *checkpoint.load(path), damaged)
        except checkpoint.Damaged as error:
            damaged[path] = str(error)
    if damaged:
        raise BadInput(f"{folder}: none of its {len(damaged)} checkpoints can be read; the newest: {next(iter(damaged.values()))}")
    raise BadInput(f"{folder}: no checkpoint to resume from; start a run there without --resume")


def set_aside(path: Path) -> Path:
    """Take a checkpoint out of the row without losing it: step_X.npz becomes step_X.bad.npz."""
    return path.replace(path.with_suffix(".bad.npz"))


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files of a run that was killed while it wrote one. For whoever holds the folder's lock."""
    folder = Path(folder)
    stems = {name.partition(".")[0] for name in FILES}
    for path in [*folder.glob(".*.part.*"), *folder.glob("checkpoints/.*.part.*"), *folder.glob("sheets/.*.part.*")]:
        stem = path.name.split(".")[1]
        if stem in stems or stem.startswith("step_"):
            path.unlink(missing_ok=True)


def clear(folder: str | Path) -> None:
    """Remove the files of a run, by their names, and nothing else."""
    folder = Path(folder)
    for path in [*(folder / name for name in FILES), *folder.glob("checkpoints/step_*.npz"), *folder.glob("sheets/step_*.png")]:
        path.unlink(missing_ok=True)
