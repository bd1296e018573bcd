"""``--set FIELD=VALUE``: any field of a recipe by its name, read as the type that the field has.

``model.X`` and ``schedule.X`` are the arguments of the network's class and of ``make_schedule``; their own signatures
say what there is and of which type, so there is no second list to forget.
"""
from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from ..diffusion import make_schedule
from ..errors import BadInput
from ..models import NETWORKS
from .config import Config

NOTHING = ("none", "null", "")
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def apply(config: Config, settings: Iterable[str]) -> Config:
    """The recipe with ``["lr=0.01", "model.channels=32,64"]`` put in. Raises BadInput, one line each."""
    changes: dict[str, Any] = {}
    inner: dict[str, dict[str, str]] = {"model": {}, "schedule": {}}
    kinds = fields()
    for setting in settings:
        name, equals, text = setting.partition("=")
        group, dot, option = name.partition(".")
        if not equals:
            raise BadInput(f"train: cannot read --set {setting}; write FIELD=VALUE, such as lr=0.001 or model.channels=32,64")
        if dot and group in inner:
            inner[group][option] = text
        elif name in kinds:
            changes[name] = read(name, text, kinds[name])
        else:
            raise _unknown(name, [k for k in kinds if k not in inner])
    for group, texts in inner.items():
        if texts:
            changes[group] = _options(group, getattr(config, group), texts)
    return config.replace(**changes)


def fields() -> dict[str, Any]:
    """Every field of a recipe and its type."""
    return typing.get_type_hints(Config)


def _options(group: str, before: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """The options of the network or the schedule, changed; a new network or schedule does not inherit the old one's own."""
    chooses = "network" if group == "model" else "name"
    old = before.get(chooses, "unet" if group == "model" else "linear")
    new = texts.get(chooses, old)
    if group == "model" and new not in NETWORKS:
        raise BadInput(f"model: network {new!r} is unknown; it is one of {', '.join(NETWORKS)}")
    kinds = _arguments(NETWORKS[new] if group == "model" else make_schedule)
    kinds.setdefault(chooses, str)
    common = ("target",) if group == "model" else ("T",)
    kept = before if new == old else {name: before[name] for name in common if name in before}
    changed = {}
    for name, text in texts.items():
        if name not in kinds:
            what = "network" if group == "model" else "schedule"
            raise BadInput(f"train: unknown field '{group}.{name}'; a {what} {new} has {', '.join(kinds)}")
        changed[name] = read(f"{group}.{name}", text, kinds[name])
    return {**kept, **changed}


def _arguments(made_by: Any) -> dict[str, Any]:
    """Name and type of every argument of a function, or of a class's making."""
    function = made_by.__init__ if inspect.isclass(made_by) else made_by
    hints = typing.get_type_hints(function)
    return {name: hints[name] for name in inspect.signature(function).parameters if name != "self"}


def _unknown(name: str, known: Sequence[str]) -> BadInput:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}, and those of model. and schedule."
    return BadInput(f"train: unknown field '{name}'; {hint}")


def read(name: str, text: str, kind: Any) -> Any:
    """A value of this type from the way it is typed: ``none``, ``32,64``, ``true``, ``1e-3``. Raises BadInput."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if type(None) in options and text.lower() in NOTHING:
        return None
    kind = next(k for k in options if k is not type(None))
    if _is_sequence(kind):
        part = next(k for k in typing.get_args(kind) if k is not ...)
        return [_one(name, piece.strip(), part) for piece in text.split(",") if piece.strip() and text.lower() not in NOTHING]
    if typing.get_origin(kind) is dict:
        raise BadInput(f"train: {name} has fields of its own; set them one by one, such as {name}.{_FIRST[name]}")
    return _one(name, text, kind)


_FIRST = {"model": "channels=32,64", "schedule": "T=100"}


def _is_sequence(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    return inspect.isclass(origin) and issubclass(origin, Sequence)


def _one(name: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in TRUE + FALSE:
            raise BadInput(f"train: {name} must be true or false, got '{text}'")
        return text.lower() in TRUE
    if kind is str:
        return text
    try:
        return kind(text)
    except ValueError:
        words = {int: "a whole number", float: "a number"}
        raise BadInput(f"train: {name} must be {words[kind]}, got '{text}'") from None
