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


def _halfway(x, axis):
    """Twice as many lines: each new one is 3/4 of the line it lies in and 1/4 of the next; ends are repeated."""
    x = np.moveaxis(x, axis, 0)
    before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
    y = np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], 1).reshape(-1, *x.shape[1:])
    return np.moveaxis(y, 0, axis)


def _between(x, axis, places):
    """The line at each place, mixed of the two around it."""
    x = np.moveaxis(x, axis, -1)
    y = np.apply_along_axis(lambda line: np.interp(places, np.arange(x.shape[-1]), line), -1, x)
    return np.moveaxis(y, -1, axis)


for _label, _shape, _options, _expected in [
    ("nearest, whole factor", (1, 2, 2, 1), {"scale_factor": 3}, lambda x: x.repeat(3, 2).repeat(3, 3)),
    ("nearest, whole factors", (1, 1, 2, 3), {"scale_factor": (1, 2)}, lambda x: x.repeat(2, 3)),
    ("nearest, any size", (1, 2, 3, 4), {"size": (5, 2)}, lambda x: x[:, :, [0, 0, 1, 1, 2]][..., [0, 2]]),
    ("nearest, any factor", (1, 1, 4, 2), {"scale_factor": (0.7, 1.5)}, lambda x: x[:, :, [0, 1]][..., [0, 0, 1]]),
    ("bilinear, twice the size", (1, 2, 2, 3), {"scale_factor": 2, "mode": "bilinear"},
     lambda x: _halfway(_halfway(x, 2), 3)),
    ("bilinear, any size", (1, 1, 3, 4), {"size": (5, 3), "mode": "bilinear"},
     lambda x: _between(_between(x, 2, (np.arange(5) + 0.5) * 0.6 - 0.5), 3, (np.arange(3) + 0.5) * 4 / 3 - 0.5)),
    ("bilinear, any factor", (1, 1, 4, 2), {"scale_factor": (0.6, 1.8), "mode": "bilinear"},
     lambda x: _between(_between(x, 2, (np.arange(2) + 0.5) / 0.6 - 0.5), 3, (np.arange(3) + 0.5) / 1.8 - 0.5)),
    ("bilinear, corners aligned", (2, 1, 3, 2), {"size": (4, 5), "mode": "bilinear", "align_corners": True},
     lambda x: _between(_between(x, 2, np.arange(4) * 2 / 3), 3, np.arange(5) / 4)),
]:  # fmt: skip
    case(f"interpolate, {_label}", lambda x, o=_options: F.interpolate(x, **o), [normal(*_shape)], _expected,
         lambda torch, x, o=_options: torch.nn.functional.interpolate(x, **o))  # fmt: skip
