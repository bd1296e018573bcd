"""Is the judge as often right as it is sure?

A classifier that says 90 % should be right nine times in ten. What it says are softmaxes of scores, and nothing in its training
keeps the scores' size honest. One number can (Guo et al. 2017): divide all scores by a temperature,

    p = softmax(z / τ),        τ: where  −mean ln p(true class)  is smallest on images that were not trained on

which changes how sure it is and never what it says. How far words and deeds are apart is

    ECE = Σ_bins  share of the bin · |accuracy − mean confidence|            (expected calibration error)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Of predictions sorted by how sure they are into BINS of equal width.

    confidence, accuracy    mean of each bin that is not empty
    count                   predictions in it
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error, 0 … 1."""
        return float((self.count * np.abs(self.accuracy - self.confidence)).sum() / self.count.sum())


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """How often predictions are right, by how sure they are.            # (N,K), (N,)"""
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    which = np.minimum((sure * BINS).astype(int), BINS - 1)
    there = np.unique(which)
    count = np.array([(which == b).sum() for b in there])
    return Calibration(np.array([sure[which == b].mean() for b in there]), np.array([right[which == b].mean() for b in there]), count)


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The τ with the smallest −mean ln p of the true classes.            # (N,K) scores, (N,)"""

    def surprise(log_tau: float) -> float:
        return -float(log_softmax(scores / np.exp(log_tau), axis=1)[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(surprise, bounds=(-3.0, 3.0), method="bounded").x))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How many of each class (row) were taken for each (column).            # (N,), (N,) -> (K,K)"""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def tempered(scores: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(z / τ)            # (N,K) -> (N,K)"""
    return softmax(scores / temperature, axis=1)
