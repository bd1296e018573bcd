"""Chapter 24: pictures and words in one space."""

import numpy as np
from scipy.special import softmax

from ..task import Task


def clip_probabilities(images, texts, scale):
    """What share of a picture's likeness each text has (Radford et al. 2021).            # (N,F), (K,F), a number -> (N,K)

        cos_nk = f_n · g_k / (|f_n| |g_k|),    p = softmax(scale · cos)            over the texts

    The shares add up to 1 whether or not any text fits: what is not offered cannot be said.
    """
    f = images / np.linalg.norm(images, axis=1, keepdims=True)
    g = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    s = scale * f @ g.T
    e = np.exp(s - s.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def best_of(scores, keep):
    """Which candidates of each class to keep, best first.            # (K,N), a number -> (K,keep)

    scores of N candidates for each of K classes; the largest are best.
    """
    return np.argsort(-scores, axis=1)[:, :keep]


def _shares(images, texts, scale):
    cosines = np.array([[f @ g / np.sqrt((f @ f) * (g @ g)) for g in texts] for f in images])
    return softmax(scale * cosines, axis=1)


def _ranked(scores, keep):
    return np.array([sorted(range(len(row)), key=lambda i: -row[i])[:keep] for row in scores])


TASKS = [
    Task(
        clip_probabilities, "Which words fit", 24, "easy", 10,
        reference=_shares,
        cases=lambda rng: [(rng.standard_normal((3, 5)), rng.standard_normal((4, 5)), 10.0), (50 * rng.standard_normal((2, 3)), rng.standard_normal((2, 3)), 900.0), (rng.standard_normal((1, 4)), 7 * rng.standard_normal((3, 4)), 1.0)],
        hints=("How long a vector is must not matter.", "Divide each row of both by its length; a product of matrices gives all cosines at once.", "s = scale * (images/|images|) @ (texts/|texts|).T, and a softmax along axis 1."),
        slips=[
            ("f = images / np.linalg.norm(images, axis=1, keepdims=True)", "f = images", "a longer picture vector makes surer: its length must go"),
            ("g = texts / np.linalg.norm(texts, axis=1, keepdims=True)", "g = texts", "a text with a longer vector wins: its length must go"),
            ("s = scale * f @ g.T", "s = f @ g.T", "the scale is missing: cosines lie between −1 and 1, and their softmax is nearly even"),
            ("e / e.sum(1, keepdims=True)", "e / e.sum(0, keepdims=True)", "the shares of one picture add up to 1, over the texts (axis 1)"),
        ],
    ),
    Task(
        best_of, "The best of N", 24, "easy", 5,
        reference=_ranked,
        cases=lambda rng: [(rng.standard_normal((3, 5)), 2), (rng.standard_normal((1, 4)), 4), (rng.standard_normal((4, 6)), 1)],
        hints=("Sort each class's candidates by themselves.", "argsort gives places from the smallest on.", "np.argsort(−scores, axis=1)[:, :keep]."),
        slips=[
            ("np.argsort(-scores, axis=1)[:, :keep]", "np.argsort(scores, axis=1)[:, :keep]", "these are the worst"),
            ("np.argsort(-scores, axis=1)[:, :keep]", "np.argsort(scores, axis=1)[:, -keep:]", "the best stand last here; they are wanted first"),
            ("np.argsort(-scores, axis=1)[:, :keep]", "np.argsort(np.argsort(-scores, axis=1), axis=1)[:, :keep]", "these are the ranks of the first candidates, not the places of the best"),
        ],
    ),
]  # fmt: skip
