"""Chapter 11: what the blocks of the U-Net are made of."""

import numpy as np

from ...models.conditions import SinusoidalPositionEmbedBlock
from ..task import Task


def time_embedding(t, dim):
    """Steps as the hands of a clock.            # (N,), even dim ≥ 4 -> (N,dim)

        e[i] = sin(t ωᵢ),    e[dim/2 + i] = cos(t ωᵢ),    ωᵢ = 10000^{−i/(dim/2 − 1)},    i = 0 … dim/2 − 1

    The fast hands tell neighbouring steps apart, the slow ones the whole run.
    """
    half = dim // 2
    omega = 10_000.0 ** (-np.arange(half) / (half - 1))
    angle = t[:, None] * omega
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def film(h, e):
    """An embedding steers a block (Perez et al. 2018).            # (N,C,H,W) (N,2C) -> (N,C,H,W)

        s, b = the two halves of e,    y = (1 + s) h + b            for each sample and channel

    1 + s, so that an embedding of zeros changes nothing.
    """
    c = h.shape[1]
    s, b = e[:, :c, None, None], e[:, c:, None, None]
    return (1 + s) * h + b


def _film(h, e):
    rows = [[(1 + e[n, c]) * h[n, c] + e[n, c + h.shape[1]] for c in range(h.shape[1])] for n in range(len(h))]
    return np.array(rows)


TASKS = [
    Task(
        time_embedding, "The clock", 11, "easy", 10,
        reference=lambda t, dim: SinusoidalPositionEmbedBlock(dim)(t).numpy().astype(np.float64), tolerance=1e-6,
        cases=lambda rng: [(np.array([1, 50, 100]), 8), (np.array([7, 7]), 4), (np.array([3, 90, 2, 41]), 16)],
        hints=(
            "First the dim/2 frequencies, then a table of t times frequency, then its sines and cosines side by side.",
            "ω falls from 1 to 1/10000 in even ratios: 10000 ** (−i / (dim/2 − 1)).",
            "angle = t[:, None] * omega; np.concatenate([np.sin(angle), np.cos(angle)], axis=1).",
        ),
        slips=[
            ("angle = t[:, None] * omega", "angle = np.arange(len(t))[:, None] * omega", "the clock shows the place in the batch, not the step t"),
            ("-np.arange(half) / (half - 1)", "-np.arange(half) / half", "the slowest hand has ω = 1/10000: divide by dim/2 − 1"),
            ("[np.sin(angle), np.cos(angle)]", "[np.cos(angle), np.sin(angle)]", "sines come first"),
            ("np.concatenate([np.sin(angle), np.cos(angle)], axis=1)", "np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(len(t), dim)", "all sines come first, then all cosines: here they take turns"),
        ],
    ),
    Task(
        film, "An embedding steers a block", 11, "easy", 10,
        reference=_film,
        cases=lambda rng: [(rng.standard_normal((n, c, *size)), rng.standard_normal((n, 2 * c))) for n, c, size in [(2, 3, (2, 2)), (3, 3, (3, 1)), (1, 2, (2, 3))]],
        hints=(
            "Each sample and channel has one s and one b, for all of its pixels.",
            "e[:, :C] and e[:, C:] are (N,C); with two more axes of length 1 they multiply (N,C,H,W).",
            "s, b = e[:, :c, None, None], e[:, c:, None, None]; (1 + s) * h + b.",
        ),
        slips=[
            ("(1 + s) * h + b", "s * h + b", "it is 1 + s: an embedding of zeros must change nothing"),
            ("s, b = e[:, :c, None, None], e[:, c:, None, None]", "b, s = e[:, :c, None, None], e[:, c:, None, None]", "the first half is the scale, the second the shift"),
            ("s, b = e[:, :c, None, None], e[:, c:, None, None]", "s, b = e[:, ::2, None, None], e[:, 1::2, None, None]", "two halves: the first C numbers and the last C, not every other one"),
            ("(1 + s) * h + b", "(1 + s) * (h + b)", "the shift comes after the scale"),
        ],
    ),
]  # fmt: skip
