"""Chapter 17: lean towards the class."""

import numpy as np

from ...diffusion.guidance import rescaled
from ..task import Task


def guided(cond, uncond, w):
    """Classifier-free guidance (Ho & Salimans 2022, eq. 6).            # (…) (…) -> (…)

        ε̂ = (1 + w) ε_c − w ε_u

    ε_c is the answer for the class, ε_u the one for no class. w = 0 is the plain answer for the class.
    `minidiff exercises swap guided` samples with yours.
    """
    return (1 + w) * cond - w * uncond


def rescale(y, cond, phi):
    """Bring a guided answer back to the size it had without guidance (Lin et al. 2024, eq. 15–16).            # (N,…) (N,…) -> (N,…)

        φ y std(cond)/std(y) + (1 − φ) y            the deviations are taken over each sample by itself

    Large w makes answers too large, and pictures too contrasty.
    """
    axes = tuple(range(1, y.ndim))
    size = cond.std(axis=axes, keepdims=True) / y.std(axis=axes, keepdims=True)
    return phi * size * y + (1 - phi) * y


TASKS = [
    Task(
        guided, "Guidance", 17, "easy", 5,
        reference=lambda cond, uncond, w: uncond + (1 + w) * (cond - uncond),
        cases=lambda rng: [(*rng.standard_normal((2, *shape)), w) for shape, w in [((3,), 2.0), ((2, 1, 2, 2), 0.5), ((4,), 0.0)]],
        hints=("Lay a ruler through both answers and go beyond the one for the class.", "There are two conventions: (1 + w) ε_c − w ε_u, and ε_u + s (ε_c − ε_u) with s = 1 + w.", "(1 + w) * cond − w * uncond."),
        slips=[
            ("(1 + w) * cond - w * uncond", "(1 - w) * cond + w * uncond", "the sign of w is the wrong one: this leans away from the class"),
            ("(1 + w) * cond - w * uncond", "uncond + w * (cond - uncond)", "this is the other convention, in which w = 1 is no guidance; here w = 0 is"),
            ("(1 + w) * cond - w * uncond", "w * cond - (1 + w) * uncond", "1 + w belongs to the class, w to no class"),
            ("(1 + w) * cond - w * uncond", "(1 + w) * cond", "the answer for no class must be taken off: − w ε_u"),
            ("(1 + w) * cond - w * uncond", "(1 + w) * uncond - w * cond", "the answers with and without the class are exchanged"),
        ],
    ),
    Task(
        rescale, "Not too much contrast", 17, "medium", 10,
        reference=rescaled,
        cases=lambda rng: [(3 * rng.standard_normal(shape) * np.arange(1, shape[0] + 1).reshape(-1, *[1] * (len(shape) - 1)), rng.standard_normal(shape), phi) for shape, phi in [((2, 5), 0.7), ((3, 1, 3, 2), 1.0), ((2, 2, 4), 0.25)]],
        hints=("One factor for each sample: how large the answer was over how large it is.", "std over all axes but the first, keepdims=True.", "size = cond.std(axis=axes, keepdims=True) / y.std(axis=axes, keepdims=True); phi * size * y + (1 − phi) * y."),
        slips=[
            ("axes = tuple(range(1, y.ndim))", "axes = tuple(range(y.ndim))", "every sample has a size of its own: the deviation is taken over the whole batch"),
            ("cond.std(axis=axes, keepdims=True) / y.std(axis=axes, keepdims=True)", "y.std(axis=axes, keepdims=True) / cond.std(axis=axes, keepdims=True)", "the ratio is upside down: std(cond)/std(y)"),
            ("phi * size * y + (1 - phi) * y", "phi * size * y + (1 - phi) * cond", "the rest is the guided answer, not the one for the class"),
            ("phi * size * y + (1 - phi) * y", "phi * y + (1 - phi) * size * y", "φ and 1 − φ are exchanged: φ = 0 is to change nothing"),
            ("axes = tuple(range(1, y.ndim))", "axes = (y.ndim - 1,)", "the deviation is that of a whole sample: all axes but the first"),
        ],
    ),
]  # fmt: skip
