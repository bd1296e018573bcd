"""Chapter 10: the cloud, and the best answer that there is."""

import numpy as np

from ... import ops
from ...autograd import grad
from ...tensor import Tensor
from ..task import Task


def mixture_score(x, means, deviation):
    """Where a mixture of equal bells becomes denser: ∇ ln p(x).            # (N,D) (K,D) -> (N,D)

        p(x) = 1/K Σ_k N(x; μ_k, deviation²)
        ∇ ln p(x) = Σ_k r_k (μ_k − x) / deviation²,    r_k ∝ e^{−|x − μ_k|² / 2 deviation²},    Σ_k r_k = 1

    r_k is the probability that x came from bell k. Far from all bells every e^{…} is 0 in the computer: take the largest
    exponent off first, which changes no r.
    """
    away = means - x[:, None]
    exponent = -0.5 * (away**2).sum(axis=2) / deviation**2
    r = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    r = r / r.sum(axis=1, keepdims=True)
    return (r[:, :, None] * away).sum(axis=1) / deviation**2


def best_guess(xt, points, signal, noise):
    """The best answer about x_t if the data are nothing but these points: E[x0 | x_t].            # (N,D) (K,D) -> (N,D)

        x_t = signal x0 + noise ε
        E[x0 | x_t] = Σ_k r_k points_k,    r_k ∝ e^{−|x_t − signal points_k|² / 2 noise²},    Σ_k r_k = 1

    No network can do better: it is what they learn. Take the largest exponent off first.
    """
    exponent = -0.5 * ((xt[:, None] - signal * points) ** 2).sum(axis=2) / noise**2
    r = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return (r / r.sum(axis=1, keepdims=True)) @ points


def _score(x, means, deviation):
    """By differentiating ln p."""
    x = Tensor(x, requires_grad=True)
    away = x.reshape(len(x), 1, -1) - Tensor(means)
    ln_p = ops.logsumexp((away * away).sum(2) * (-0.5 / deviation**2), 1)
    return grad(ln_p.sum(), x).numpy()


def _guess(xt, points, signal, noise):
    """By Tweedie's formula: x_t = signal x0 + noise ε, so E[x0] = (x_t + noise² ∇ ln p(x_t)) / signal."""
    return (xt + noise**2 * _score(xt, signal * points, noise)) / signal


TASKS = [
    Task(
        mixture_score, "Uphill", 10, "medium", 15,
        reference=_score, tolerance=1e-8,
        cases=lambda rng: [(rng.standard_normal((n, d)), rng.standard_normal((k, d)), s) for n, d, k, s in [(4, 2, 3, 0.7), (3, 1, 2, 1.0), (2, 3, 4, 0.3)]] + [(np.array([[60.0, 0.0]]), np.eye(2), 0.5)],
        hints=(
            "Every bell pulls towards its middle. r says how much each of them has to say.",
            "means − x[:, None] is (N,K,D). r is a softmax of the exponents over k.",
            "r = np.exp(e − e.max(1, keepdims=True)), divided by its sum over k; then (r[:, :, None] * away).sum(axis=1) / deviation**2.",
        ),
        slips=[
            ("away = means - x[:, None]", "away = x[:, None] - means", "the arrow points away from the bells: it is μ − x"),
            (".sum(axis=1) / deviation**2", ".sum(axis=1)", "the division by deviation² is missing"),
            (".sum(axis=1) / deviation**2", ".sum(axis=1) / deviation", "divide by deviation², not by the deviation"),
            ("np.exp(exponent - exponent.max(axis=1, keepdims=True))", "np.exp(exponent)", "far away every e^{…} is 0, and 0/0 is NaN: take the largest exponent off first"),
            ("    r = r / r.sum(axis=1, keepdims=True)\n", "    r = np.exp(exponent)\n", "the r must add up to 1: divide by their sum"),
            ("    r = r / r.sum(axis=1, keepdims=True)\n", "    r = (exponent == exponent.max(axis=1, keepdims=True)) * 1.0\n", "every bell has a say, not the nearest alone"),
        ],
    ),
    Task(
        best_guess, "What the best network says", 10, "medium", 15,
        reference=_guess, tolerance=1e-8,
        cases=lambda rng: [(rng.standard_normal((n, d)), rng.standard_normal((k, d)), a, s) for n, d, k, a, s in [(4, 2, 3, 0.8, 0.6), (3, 2, 5, 0.3, 0.95), (2, 3, 2, 1.0, 2.0)]] + [(np.array([[9.0, 9.0]]), np.eye(2), 0.9, 0.2)],
        hints=(
            "Each point is asked: could you have become this x_t? Those that could are averaged.",
            "Points are shrunk by `signal` before they are compared with x_t, but the answer is made of points as they are.",
            "exponent = −0.5 * ((xt[:, None] − signal * points) ** 2).sum(axis=2) / noise**2, softmax over k, then @ points.",
        ),
        slips=[
            ("(xt[:, None] - signal * points)", "(xt[:, None] - points)", "in x_t the points are shrunk by `signal`: compare with signal · points"),
            ("(r / r.sum(axis=1, keepdims=True)) @ points", "(r / r.sum(axis=1, keepdims=True)) @ (signal * points)", "the picture itself is wanted, not the shrunken one"),
            ("np.exp(exponent - exponent.max(axis=1, keepdims=True))", "np.exp(exponent)", "far from all points every e^{…} is 0, and 0/0 is NaN: take the largest exponent off first"),
            ("/ noise**2", "/ noise", "divide by noise², the variance"),
            ("exponent = -0.5 *", "exponent = -1.0 *", "a bell's exponent has a half in it"),
            ("(r / r.sum(axis=1, keepdims=True)) @ points", "points[r.argmax(axis=1)]", "the mean of all that it could be is wanted, not the likeliest one"),
        ],
    ),
]  # fmt: skip
