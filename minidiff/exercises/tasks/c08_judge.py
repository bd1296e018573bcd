"""Chapter 8: a classifier, and how much its word is worth."""

import numpy as np

import minidiff as md

from ... import evaluate
from ...nn import functional as F
from ..task import Task


def cross_entropy_backward(scores, labels):
    """The gradient of the mean of −ln p(label) along the scores, p = softmax(scores).            # (N,K), (N,) -> (N,K)

        g_nk = (p_nk − [k = label_n]) / N

    What was said too loudly goes down, what should have been said goes up, and each row adds up to nothing.
    """
    N = len(scores)
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(N), labels] -= 1
    return p / N


def calibration_error(p, labels, bins):
    """How far sureness and truth are apart: the expected calibration error (Guo et al. 2017).            # (N,K), (N,), a number -> a number

        Σ_b  n_b/N · |accuracy_b − mean confidence_b|

    Predictions are sorted by confidence, the largest p of a row, into bins of equal width from 0 to 1. Empty bins do not count.
    """
    sure, right = p.max(1), p.argmax(1) == labels
    which = np.minimum((sure * bins).astype(int), bins - 1)
    error = 0.0
    for b in np.unique(which):
        mine = which == b
        error += mine.mean() * abs(right[mine].mean() - sure[mine].mean())
    return error


def _gradient(scores, labels):
    z = md.tensor(scores, requires_grad=True)
    F.cross_entropy(z, labels).backward()
    return z.grad.numpy()


def _error(p, labels, bins):
    """The library has ten bins; with one, it is the difference of two means."""
    if bins == 1:
        return abs((p.argmax(1) == labels).mean() - p.max(1).mean())
    return evaluate.calibration(p, labels).error


def _predictions(rng):
    yield np.array([[0.85, 0.15], [0.95, 0.05], [1.0, 0.0], [0.3, 0.7]]), np.array([1, 0, 0, 1]), 10      # wrong next to right
    for n, bins in ((40, 10), (60, 1), (12, 10)):
        p = rng.dirichlet(0.4 * np.ones(4), n)
        p[0] = (0.0, 0.0, 1.0, 0.0)                              # as sure as can be
        labels = np.where(rng.random(n) < 0.6, p.argmax(1), rng.integers(0, 4, n))
        labels[0] = 1                                            # and wrong
        yield p, labels, bins


TASKS = [
    Task(
        cross_entropy_backward, "p minus y", 8, "easy", 10,
        reference=_gradient,
        cases=lambda rng: [(rng.standard_normal((3, 4)), np.array([0, 3, 1])), (500 * rng.standard_normal((2, 5)), np.array([4, 4])), (rng.standard_normal((1, 2)), np.array([1]))],
        hints=("ln p(label) = score of the label − ln Σ exp(scores); differentiate the two parts.", "The second part gives p, the first a 1 where the label is.", "p = softmax(scores); p[np.arange(N), labels] −= 1; p / N."),
        slips=[
            ("return p / N", "return p", "the loss is a mean over N rows: the 1/N is missing"),
            ("return p / N", "return -p / N", "the sign: the loss is −ln p"),
            ("p[np.arange(N), labels] -= 1\n", "p[:, labels] -= 1\n", "this takes 1 from the columns of all labels in every row; each row has one label"),
            ("    p[np.arange(N), labels] -= 1\n", "", "the part of the label is missing: [k = label]"),
            ("p.sum(1, keepdims=True)", "p.sum()", "each row is a softmax of its own: sum over classes (axis 1)"),
        ],
    ),
    Task(
        calibration_error, "As often right as sure?", 8, "medium", 15,
        reference=_error, cases=_predictions,
        hints=("Who says 80 % ten times should be right eight times.", "A bin counts by its share of all predictions.", "for each bin: (which == b).mean() * abs(right[mine].mean() − sure[mine].mean())."),
        slips=[
            ("mine.mean() * abs(", "abs(", "a bin counts by the share of predictions in it"),
            ("abs(right[mine].mean() - sure[mine].mean())", "(right[mine].mean() - sure[mine].mean())", "too sure here and too modest there must not cancel: the absolute value is missing"),
            ("p.max(1), p.argmax(1) == labels", "p[np.arange(len(p)), labels], p.argmax(1) == labels", "confidence is the largest probability of a row, whatever the label is"),
            ("sure[mine].mean())", "(b + 0.5) / bins)", "the mean confidence of those in the bin, not the bin's middle"),
        ],
    ),
]  # fmt: skip
