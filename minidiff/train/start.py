"""Training that begins with the weights of another model and not with random ones: fine-tuning, or simply more of it.

Only the weights are taken, the averaged ones where there are any. Step count, learning rate, moments and random
numbers begin anew, so this is a run of its own with a recipe of its own; to go on with a run, resume it. Schedule and data
may be others, and so may the scale of style values, which is the data's: what has changed must be learned anew.

A model that knows classes alone may be taught style values, too. The layers that hear them begin with an output of 0, so the
network begins as what it was, and what it had learned is there from the first step (Zhang et al. 2023, *Adding conditional
control to text-to-image diffusion models*, there for convolutions).
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ..errors import BadInput
from . import checkpoint


def take_weights(model: Any, source: str, style: Sequence[str] = (), classes: Sequence[str] = ()) -> dict[str, Any]:
    """Give ``model`` the weights of ``source``, and return where they came from.

    source: a checkpoint, a run's folder, RUN/best, or a bundled model's name. style: the values that ``model`` is told.
    classes: the names of the data's classes. Returned is what a record needs to be checked: the name as given, the file's
    SHA-256, its training step, its classes where they have other names, and what that model itself had begun with.

    Raises BadInput where the file holds no diffusion model, or a network with other options than ``model``: some of
    them (what it predicts, where it hears the class, which style values it is told) change what the weights mean and not
    their shapes. That ``model`` is told style values, and the source was told none, is no difference.
    """
    loaded = checkpoint.load_model(source)
    theirs, ours = ({"network": "unet", **config, "style_dim": 0} for config in (loaded.meta["model"], model.config))
    names = sorted({*theirs, *ours}) if theirs["network"] == ours["network"] else ["network"]
    differ = [f"{name} {theirs.get(name)}, not {ours.get(name)}" for name in names if theirs.get(name) != ours.get(name)]
    told = loaded.style.names if loaded.style else ()
    added = bool(style) and not told
    if not added and told != tuple(style):
        differ.append(f"style {' '.join(told)}, not {' '.join(style) or 'none'}")
    if differ:
        preset = f"; it was trained by --preset {loaded.config.preset}" if loaded.config else ""
        raise BadInput(f"train: start: {source} has another network than this recipe: {', '.join(differ)}{preset}")
    model.load_state_dict(loaded.model.state_dict(), strict=not added)
    if added:
        model.style_embed.silence()
    origin = {"model": source, "sha256": hashlib.sha256(loaded.path.read_bytes()).hexdigest(), "step": loaded.meta.get("step")}
    if classes and (names := loaded.meta.get("classes", list(classes))) != list(classes):
        origin["classes"] = names
    return {**origin, "start": loaded.meta["start"]} if loaded.meta.get("start") else origin
