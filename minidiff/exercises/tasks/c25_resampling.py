"""Chapter 25: other sizes of the same picture."""

import minidiff as md

from ...nn import functional as F
from ..task import Task


def pixel_unshuffle(x, r):
    """Every r×r patch becomes r² channels.            # (N,C,H,W) -> (N,C·r²,H/r,W/r)

        y[n, c r² + i r + j, h, w] = x[n, c, h r + i, w r + j]

    Nothing is computed: the numbers are only put elsewhere. That is its own transpose undone.
    """
    N, C, H, W = x.shape
    x = x.reshape(N, C, H // r, r, W // r, r)                    # (n, c, h, i, w, j)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(N, C * r * r, H // r, W // r)


TASKS = [
    Task(
        pixel_unshuffle, "Patches into channels", 25, "medium", 10,
        reference=lambda x, r: F.pixel_unshuffle(md.tensor(x), r).numpy(),
        cases=lambda rng: [(rng.standard_normal((1, 1, 4, 4)), 2), (rng.standard_normal((2, 3, 4, 6)), 2), (rng.standard_normal((1, 2, 6, 3)), 3)],
        hints=("Rows split into h and i, columns into w and j; then the axes change places.", "After x.reshape(N, C, H//r, r, W//r, r) the axes are n c h i w j; wanted are n c i j h w.", "x.reshape(N, C, H//r, r, W//r, r).transpose(0, 1, 3, 5, 2, 4).reshape(N, C*r*r, H//r, W//r)."),
        slips=[
            ("transpose(0, 1, 3, 5, 2, 4)", "transpose(0, 1, 5, 3, 2, 4)", "the columns of a patch run fastest: channel c r² + i r + j"),
            ("transpose(0, 1, 3, 5, 2, 4)", "transpose(0, 3, 5, 1, 2, 4)", "the channels of one old channel stay together: c r² + i r + j"),
            ("x.reshape(N, C, H // r, r, W // r, r)", "x.reshape(N, C, r, H // r, r, W // r)", "row h r + i: within a patch i runs faster than h"),
            ("x.transpose(0, 1, 3, 5, 2, 4).reshape(", "x.reshape(", "the axes were never exchanged: a reshape alone moves nothing"),
        ],
    ),
]  # fmt: skip
