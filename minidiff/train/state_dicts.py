"""Weights from PyTorch: arrays by the names that a ``state_dict()`` has, which are minidiff's names too.

    .npz           numpy.savez("w.npz", **{k: v.numpy() for k, v in model.state_dict().items()})
    .safetensors   safetensors.torch.save_file(model.state_dict(), "w.safetensors")

PyTorch's own files (.pt, .pth, .bin) are pickles, and unpickling runs whatever code the file names: they are refused.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, models
from ..diffusion import make_schedule
from ..errors import BadInput
from . import checkpoint
from .config import Config

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
    not_finite: list[str] = field(default_factory=list)            # with NaN or infinity among their numbers
    prefix: str = ""                                               # what stands before the network's names, and was removed
    left_out: list[str] = field(default_factory=list)              # arrays without that prefix: not the network's

    @property
    def complete(self) -> bool:
        """Whether every parameter fits."""
        return not (self.missing or self.unexpected or self.different or self.not_finite)

    @property
    def counts(self) -> str:
        """What does not fit, counted, in words."""
        kinds = ((self.missing, "missing"), (self.unexpected, "unexpected"), (self.different, "of another shape or type"), (self.not_finite, "not finite"))
        return ", ".join(f"{len(entries)} {words}" for entries, words in kinds if entries)

    def __str__(self) -> str:
        lines = [f"prefix      {self.prefix} (removed)"] if self.prefix else []
        lines.append(f"fitting     {len(self.fitting)} arrays")
        for title, entries in (("missing", self.missing), ("unexpected", self.unexpected), ("different", self.different),
                               ("not finite", self.not_finite), ("left out", self.left_out)):  # fmt: skip
            lines += [f"{title:<11} {entry}" for entry in entries]
        return "\n".join(lines)


def compare(expected: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> Match:
    """Which arrays fit, and which are missing, unexpected, of another shape, or hold NaN or infinity.

    A prefix of the network's names (`module.`, `_orig_mod.`, `ema_model.` …) is removed. Arrays without it belong to the
    wrapper (counters such as `n_averaged`) or to another network, and are left out.
    """
    match = Match(prefix=_prefix(expected, given))
    match.left_out = [f"{name} {array.shape}" for name, array in given.items() if not name.startswith(match.prefix)]
    given = {name.removeprefix(match.prefix): array for name, array in given.items() if name.startswith(match.prefix)}
    for name, want in expected.items():
        if name not in given:
            match.missing.append(f"{name} {want.shape}")
        elif given[name].shape != want.shape:
            match.different.append(f"{name} is {given[name].shape} in the file, {want.shape} in the network")
        elif given[name].dtype.kind != want.dtype.kind:
            match.different.append(f"{name} holds {given[name].dtype} in the file, {want.dtype} in the network")
        else:
            with np.errstate(over="ignore"):                        # of float64 numbers beyond float32's range: infinite, and said below
                array = given[name].astype(want.dtype)
            if faults := checkpoint.not_finite({name: array}):
                match.not_finite += faults
            else:
                match.fitting[name] = array
    match.unexpected = [f"{name} {array.shape}" for name, array in given.items() if name not in expected]
    return match


def _prefix(expected: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> str:
    """What wrappers have put before the network's names, up to a dot; "" where most names of the network have no such prefix.

    A file may hold several networks, such as a model and the moving average of its weights. Taken is the one with most
    arrays that fit; of equals the average (`ema` in its prefix), since it is what one samples with; else the one without a
    prefix, or the first.
    """
    names: Counter[str] = Counter()                       # of the network's, by what stands before them
    fits: Counter[str] = Counter()
    for name, array in given.items():
        parts = name.split(".")
        for k in range(len(parts)):
            if (inner := ".".join(parts[k:])) in expected:
                prefix = name.removesuffix(inner)
                names[prefix] += 1
                fits[prefix] += array.shape == expected[inner].shape
    likely = [prefix for prefix, count in names.items() if 2 * count > len(expected)]
    return max(likely, key=lambda prefix: (fits[prefix], names[prefix], "ema" in prefix, not prefix), default="")


# ------------------------------------------------------------------------------------------------ the model

def import_weights(path: str | Path, config: Config, channels: int, out: str | Path, classes: Sequence[str] = ()) -> Match:
    """Make the arrays in ``path`` a model of this recipe in ``out``, ready to sample from, if all fit; else write nothing.

    channels: of the images, as the data set of the recipe has them. classes: their names, where they are known.
    """
    given = {"in_channels": channels, "image_size": config.image_size, "num_classes": len(classes), "style_dim": len(config.style)}
    model = models.build({**{name: value for name, value in given.items() if value}, **config.model})
    match = compare(model.state_dict(), read(path))
    if match.complete:
        meta = {"kind": "weights", "config": config.to_json(), "model": model.config, "schedule": make_schedule(**config.schedule).config,
                **({"classes": list(classes)} if classes else {}), "imported": Path(path).name, "step": 0, "epoch": 0.0}
        checkpoint.save(out, {"model": match.fitting}, meta)
    return match


def main_import(path: str, config: Config, out: Path, chosen: bool = False) -> int:
    """``minidiff import FILE --preset NAME --out model.npz``

    chosen: the data set was named, and is not the recipe's usual one; then a recipe that contradicts it is refused.
    """
    channels, classes = data.form(config.data)
    if (asked := config.model.get("num_classes", len(classes))) != len(classes):
        if chosen:
            raise BadInput(f"import: model.num_classes is {asked}, and {config.data} has {len(classes)} classes; leave one of them out")
        classes = ()                                      # of a data set that is not named: its classes are numbered
    if chosen and (asked := config.model.get("in_channels", channels)) != channels:
        raise BadInput(f"import: model.in_channels is {asked}, and the images of {config.data} have {channels}; leave one of them out")
    match = import_weights(path, config, channels, out, classes)
    print(match)
    if not match.complete:
        raise BadInput(f"import: {path} does not fit this network of preset {config.preset}: {match.counts}; nothing was written")
    print(f"wrote {out}")
    return 0
