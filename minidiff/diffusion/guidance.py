"""Classifier-free guidance: lean away from what the model would draw for no class in particular."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..autograd import no_grad
from ..backend import Array


def guided_output(model: Any, xt: Array, t: int, labels: np.ndarray, w: float) -> Array:
    """ε̂ = (1 + w) ε̂(x_t, t, label) − w ε̂(x_t, t, no class)            (Ho & Salimans 2022, eq. 6)

    The same as ε̂_u + s (ε̂_c − ε̂_u) with s = 1 + w, the other convention in use. w = 0 is the plain
    conditional model and asks the network once; any other w asks it for both in one batch. For a
    model that answers with v the same holds, because ε̂ depends on v̂ along a straight line.

    x_t and what comes back are float32, where the model lives.
    """
    with no_grad():
        if w == 0:
            return model(xt, t, labels).astype(np.float32).data
        both = model(backend.concat([xt, xt], 0), t, np.concatenate([labels, np.full_like(labels, -1)]))
        both = both.astype(np.float32).data
    eps_cond, eps_uncond = both[: len(xt)], both[len(xt) :]
    return (1.0 + w) * eps_cond - w * eps_uncond
