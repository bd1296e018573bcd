"""Chapter 25: style, measured and told."""

import numpy as np

from ...data import style
from ...models.conditions import told_style
from ...tensor import Tensor
from ..task import Task


def slant(p):
    """Degrees that a picture's ink leans to the right.            # (H,W), ink from 0 to 1 -> a number

        tan(slant) = − Σ p (x − x̄)(y − ȳ) / Σ p (y − ȳ)²,            x̄, ȳ = means of x and y weighted by p

    x is the column and y the row, which grows downwards; hence the sign.
    """
    y, x = np.mgrid[: p.shape[0], : p.shape[1]]
    dx = x - (p * x).sum() / p.sum()
    dy = y - (p * y).sum() / p.sum()
    return np.degrees(np.arctan(-(p * dx * dy).sum() / (p * dy * dy).sum()))


def told(values):
    """What a network is told of values of which some are unknown: each, or 0, and whether it is known.            # (N,S) with NaN -> (N,2S)

    First the S values, unknown ones as 0; then S numbers that are 1 where a value is known and 0 where it is not.
    """
    known = ~np.isnan(values)
    return np.concatenate([np.where(known, values, 0.0), known], axis=1)


def _told(values):
    return told_style("told", values, len(values), values.shape[1], Tensor(np.zeros(1))).numpy()


def _gaps(rng, shape):
    values = rng.standard_normal(shape)
    values[rng.random(shape) < 0.4] = np.nan
    return (values,)


TASKS = [
    Task(
        slant, "How far it leans", 25, "medium", 10,
        reference=lambda p: float(style.slant(2.0 * p[None] - 1.0)[0]),
        cases=lambda rng: [(rng.random((5, 4)),), (0.9 * np.eye(6) + 0.1,), (rng.random((3, 7)) ** 4,)],
        hints=("Put a line through the ink: x as a linear function of y, by least squares.", "Its slope is Σ p dx dy / Σ p dy², and y grows downwards.", "np.degrees(np.arctan(−(p*dx*dy).sum() / (p*dy*dy).sum()))."),
        slips=[
            ("np.arctan(-(p", "np.arctan((p", "the sign: y grows downwards, so ink that leans right has a smaller y at a larger x"),
            ("(p * dy * dy).sum()", "(p * dx * dx).sum()", "x as a function of y: divide by the variance of y"),
            ("dy = y - (p * y).sum() / p.sum()", "dy = y - y.mean()", "the means are those of the ink, weighted by p, not of the frame"),
            ("np.degrees(np.arctan(-(p * dx * dy).sum() / (p * dy * dy).sum()))", "np.arctan(-(p * dx * dy).sum() / (p * dy * dy).sum())", "in degrees, please"),
        ],
    ),
    Task(
        told, "Nobody said", 25, "easy", 5,
        reference=_told,
        cases=lambda rng: [_gaps(rng, (4, 2)), _gaps(rng, (3, 1)), _gaps(rng, (2, 3))],
        hints=("0 alone would mean an ordinary value.", "np.isnan finds what is unknown.", "known = ~np.isnan(values); np.concatenate([np.where(known, values, 0), known], axis=1)."),
        slips=[
            ("known = ~np.isnan(values)", "known = np.isnan(values)", "the second half says what is known, and here what is not; the values are lost with it"),
            ("np.where(known, values, 0.0)", "values", "a network that is told NaN answers NaN: unknown values become 0"),
            ("[np.where(known, values, 0.0), known]", "[known, np.where(known, values, 0.0)]", "first the values, then whether they are known"),
        ],
    ),
]  # fmt: skip
