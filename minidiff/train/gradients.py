"""The gradient of a batch: in one piece or in several, with everything kept for backward or some of it computed twice."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import diffusion
from ..backend import Array
from ..diffusion import Schedule
from ..errors import BadInput
from ..philox import Rng
from ..recompute import checkpoint
from .config import Config


def gradients(
    model: Any, schedule: Schedule, c: Config, step: int, x0: Array, labels: Array, style: Array | None = None, first_row: int = 0
) -> float:
    """Leave the gradient of the batch's loss in the parameters; returns the loss, and stops where that is not finite.

    The loss is a mean over samples. That of B samples is the mean of K losses of B/K samples each,

        L = 1/K Σ_k L_k,      g = Σ_k ∂(L_k / K)/∂θ

    and backward adds to the gradients that are there: K parts in turn give the step of the whole batch in the memory of a
    part. t, ε and the dropped labels of a sample are a function of seed, step and its row in the batch, so each part draws
    what its samples would have drawn in one piece. (Dropout inside a network is not: it draws from one row of numbers, and each of several processes has its own.)
    `first_row` is where these samples begin in a batch that several processes share.
    """
    K, total = c.accumulate, 0.0
    size = len(x0) // K
    for first in range(0, len(x0), size):
        part = slice(first, first + size)
        rng = Rng(c.seed, step=step, first_row=first_row + first, like=x0)
        loss = diffusion.loss(model, schedule, x0[part], labels[part], rng, c.drop, c.weighting, c.times,
                              None if style is None else style[part])  # fmt: skip
        value = float(loss.item())
        if not math.isfinite(value):
            return value
        (loss if K == 1 else loss * (1.0 / K)).backward()
        total += value / K
    return total


def recompute_blocks(model: Any) -> None:
    """From now on the model's blocks keep only their inputs for backward, and compute the rest again when it comes.

    A block is an entry of ``downs``, ``mid`` or ``ups``, as both U-Nets call them. Raises BadInput for a network without.
    """
    blocks = [block for name in ("downs", "mid", "ups") for block in getattr(model, name, ())]
    if not blocks:
        raise BadInput(f"train: recompute works block by block, and {type(model).__name__} has no downs, mid or ups")
    for block in blocks:
        block.forward = _recomputed(block.forward)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *inputs: checkpoint(forward, *inputs)
