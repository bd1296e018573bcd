"""Weights from PyTorch: arrays by the names that a ``state_dict()`` has, which are minidiff's names too.

    .npz           numpy.savez("w.npz", **{k: v.numpy() for k, v in model.state_dict().items()})
    .safetensors   safetensors.torch.save_file(model.state_dict(), "w.safetensors")

PyTorch's own files (.pt, .pth, .bin) are pickles, and unpickling runs whatever code the file names: they are refused.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import models
from ..diffusion import make_schedule
from ..errors import BadInput
from . import checkpoint
from .config import Config

PREFIXES = ("module.", "_orig_mod.", "model.")        # what DataParallel, torch.compile and trainers put before every name
KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


# ------------------------------------------------------------------------------------------------ reading

def read(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` or ``.safetensors`` file by name. Raises BadInput; never unpickles."""
    path = Path(path)
    if path.suffix not in (".npz", ".safetensors"):
        raise BadInput(f"import: {path}: only .npz and .safetensors are read, since PyTorch's own files are pickles, which can run "
                       "any code; in PyTorch: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')")
    if not path.is_file():
        raise BadInput(f"import: {path}: no such file")
    return _npz(path) if path.suffix == ".npz" else _safetensors(path)


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "meta" in archive.files:
                raise BadInput(f"import: {path}: is minidiff's own already; sample, evaluate and export take it as it is")
            return {name: archive[name] for name in archive.files}
    except BadInput:
        raise
    except (*checkpoint.UNREADABLE, AttributeError) as error:
        raise BadInput(f"import: {path}: cannot be read as .npz ({error})") from None


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError:
        raise BadInput('import: .safetensors needs the package safetensors, which is not installed; pip install "minidiff[safetensors]", '
                       "or give an .npz") from None
    try:
        found = deserialize(path.read_bytes())
    except SafetensorError as error:
        raise BadInput(f"import: {path}: cannot be read as .safetensors ({error})") from None
    return {name: _array(path, name, entry) for name, entry in found}


def _array(path: Path, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    kind, data = entry["dtype"], bytes(entry["data"])
    if kind == "BF16":                                # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
    if kind not in KINDS:
        raise BadInput(f"import: {path}: {name} holds {kind}, which is not read; there are {', '.join(KINDS)}, BF16")
    return np.frombuffer(data, KINDS[kind]).reshape(entry["shape"])


# ------------------------------------------------------------------------------------------------ comparing

@dataclass
class Match:
    """How arrays compare with a network's parameters and buffers, by name."""

    fitting: dict[str, np.ndarray] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)               # of the network, in no array: "NAME SHAPE"
    unexpected: list[str] = field(default_factory=list)            # arrays that the network does not have
    different: list[str] = field(default_factory=list)             # of another shape or kind of number
    prefix: str = ""                                               # what was taken off every name

    @property
    def complete(self) -> bool:
        """Whether every parameter fits."""
        return not (self.missing or self.unexpected or self.different)

    @property
    def counts(self) -> str:
        """What does not fit, counted, in words."""
        return f"{len(self.missing)} missing, {len(self.unexpected)} unexpected, {len(self.different)} of another shape or type"

    def __str__(self) -> str:
        lines = [f"taken off every name: {self.prefix}"] if self.prefix else []
        lines.append(f"fitting     {len(self.fitting)} arrays")
        for title, entries in (("missing", self.missing), ("unexpected", self.unexpected), ("different", self.different)):
            lines += [f"{title:<11} {entry}" for entry in entries]
        return "\n".join(lines)


def compare(expected: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> Match:
    """Which arrays fit, which are missing, unexpected, or of another shape; a prefix that all names share is taken off."""
    match = Match(prefix=_prefix(expected, given))
    given = {name.removeprefix(match.prefix): array for name, array in given.items()}
    for name, want in expected.items():
        if name not in given:
            match.missing.append(f"{name} {want.shape}")
        elif given[name].shape != want.shape:
            match.different.append(f"{name} is {given[name].shape} in the file, {want.shape} in the network")
        elif given[name].dtype.kind != want.dtype.kind:
            match.different.append(f"{name} holds {given[name].dtype} in the file, {want.dtype} in the network")
        else:
            match.fitting[name] = given[name].astype(want.dtype)
    match.unexpected = [f"{name} {array.shape}" for name, array in given.items() if name not in expected]
    return match


def _prefix(expected: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The wrappers' words before every name, one after the other, as long as no name is the network's own."""
    prefix = ""
    while given and not any(name.removeprefix(prefix) in expected for name in given):
        more = next((p for p in PREFIXES if all(name.startswith(prefix + p) for name in given)), "")
        if not more:
            return ""
        prefix += more
    return prefix


# ------------------------------------------------------------------------------------------------ the model

def import_weights(path: str | Path, config: Config, channels: int, out: str | Path) -> Match:
    """Make the arrays in ``path`` a model of this recipe in ``out``, ready to sample from, if all fit; else write nothing.

    channels: of the images, as the data set of the recipe has them.
    """
    model = models.build({"in_channels": channels, "image_size": config.image_size,
                          **({"style_dim": len(config.style)} if config.style else {}), **config.model})
    match = compare(model.state_dict(), read(path))
    if match.complete:
        meta = {"kind": "weights", "config": config.to_json(), "model": model.config, "schedule": make_schedule(**config.schedule).config,
                "imported": Path(path).name, "step": 0, "epoch": 0.0}
        checkpoint.save(out, {"model": match.fitting}, meta)
    return match


def main_import(path: str, config: Config, out: Path) -> int:
    """``minidiff import FILE --preset NAME --out model.npz``"""
    match = import_weights(path, config, 3 if config.data == "cifar10" else 1, out)
    print(match)
    if not match.complete:
        raise BadInput(f"import: {path} does not fit this network of preset {config.preset}: {match.counts}; nothing was written")
    print(f"wrote {out}")
    return 0
