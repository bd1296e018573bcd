"""Chapter 28: a yardstick for a loss."""

import numpy as np

from ... import diffusion
from ..task import Task


def linear_loss(values, alpha_bar):
    """The loss of the best linear guess of the noise, averaged over all steps (Wiener's filter).            # (I,) (T + 1,) -> one number

        L_t = ⟨ ᾱ_t λ_i / (ᾱ_t λ_i + 1 − ᾱ_t) ⟩_i,    L = the mean of L_t over t = 1 … T

    λ are the eigenvalues of the pictures' covariance; alpha_bar[0] = 1. Along each direction what is lost is the share of x_t
    that is picture: there the noise cannot be told from it.
    """
    signal = alpha_bar[1:, None] * values
    return (signal / (signal + 1 - alpha_bar[1:, None])).mean()


def _filtered(values, alpha_bar):
    """By Bayes, a direction and a step at a time: the variance of ε that is left once x_t = a x0 + σ ε is known."""
    left = []
    for a2 in alpha_bar[1:]:
        for variance in values:
            both = np.array([[1.0, np.sqrt(1 - a2)], [np.sqrt(1 - a2), a2 * variance + 1 - a2]])     # covariance of ε and x_t
            left.append(both[0, 0] - both[0, 1] ** 2 / both[1, 1])
    return np.mean(left)


TASKS = [
    Task(
        linear_loss, "What a matrix knows", 28, "medium", 10,
        reference=_filtered,
        cases=lambda rng: [(rng.uniform(0.01, 3, n), diffusion.make_schedule(name, T=T).alpha_bar) for n, name, T in [(3, "linear", 20), (1, "cosine", 10), (6, "linear", 100)]],
        hints=(
            "A table of steps and directions: in each place the share of the variance of x_t that is picture.",
            "The picture has ᾱ λ of it and the noise 1 − ᾱ. Steps run from 1, for at t = 0 there is no noise to guess.",
            "signal = alpha_bar[1:, None] * values; (signal / (signal + 1 − alpha_bar[1:, None])).mean().",
        ),
        slips=[
            ("signal / (signal + 1 - alpha_bar[1:, None])", "(1 - alpha_bar[1:, None]) / (signal + 1 - alpha_bar[1:, None])", "that is the share of the noise, which is what the guess gets right; lost is the picture's share"),
            ("alpha_bar[1:, None] * values", "np.sqrt(alpha_bar[1:, None]) * values", "variances add up: the picture's is ᾱ λ, not √ᾱ λ"),
            ("alpha_bar[1:, None] * values", "alpha_bar[1:, None] * values**2", "λ is a variance already"),
            ("alpha_bar[1:, None] * values", "alpha_bar[1:, None] * values.mean()", "each direction has a λ of its own: the mean of shares is not the share of means"),
        ],
    ),
]  # fmt: skip
