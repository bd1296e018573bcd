"""Images made larger and smaller."""

import numpy as np

from ..nn import functional as F
from .case import case, normal

case("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), [normal(1, 2, 4, 2)],
     lambda x: np.stack([x[..., u::2, v::2] for u in (0, 1) for v in (0, 1)], 2).reshape(1, 8, 2, 1),
     lambda torch, x: torch.nn.functional.pixel_unshuffle(x, 2))  # fmt: skip
case("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), [normal(2, 4, 1, 3)],
     lambda x: x.reshape(2, 2, 2, 1, 3).transpose(0, 3, 1, 4, 2).reshape(2, 1, 2, 6),
     lambda torch, x: torch.nn.functional.pixel_shuffle(x, 2))  # fmt: skip
case("interpolate, nearest", lambda x: F.interpolate(x, 3), [normal(1, 2, 2, 1)], lambda x: x.repeat(3, 2).repeat(3, 3),
     lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=3))  # fmt: skip
case("interpolate, bilinear", lambda x: F.interpolate(x, 2, "bilinear"), [normal(1, 2, 2, 3)],
     lambda x: _halfway(_halfway(x, 2), 3),
     lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"))  # fmt: skip



def _halfway(x, axis):
    """Twice as many lines: each new one is 3/4 of the line it lies in and 1/4 of the next; ends are repeated."""
    x = np.moveaxis(x, axis, 0)
    before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
    y = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], 1).reshape(-1, *x.shape[1:])
    return np.moveaxis(y, 0, axis)
