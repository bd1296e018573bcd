"""Chapter 10: how good are the samples, and how sure is that?"""

import numpy as np

from ...evaluate import frechet_distance
from ...evaluate.judge import wilson as library_wilson
from ..task import Task


def frechet(a, b):
    """The Fréchet distance of two clouds, each taken for a normal distribution.            # (N,F) (M,F) -> one number

        d² = |μ_a − μ_b|² + tr(Σ_a + Σ_b) − 2 Σ_i √λ_i            λ_i: the eigenvalues of R Σ_b R, R = Σ_a^½

    As everywhere d² is given. Σ is the covariance, with N − 1. R = V √D Vᵀ where Σ_a = V D Vᵀ (np.linalg.eigh); eigenvalues
    that rounding takes below zero are zero.
    """
    sigma_a, sigma_b = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(sigma_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ sigma_b @ root).clip(0)).sum()
    return ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(sigma_a) + np.trace(sigma_b) - 2 * shared


def wilson(correct, n, z):
    """Between which rates the truth may lie if `correct` of n were right (Wilson 1927).            # -> low, high

        p = correct/n,    (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n)

    z = 1.96 for 95 %. Right also where all or none were correct, where p ± z √(p (1 − p)/n) says that it is certain.
    """
    p = correct / n
    middle = p + z**2 / (2 * n)
    spread = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - spread) / (1 + z**2 / n), (middle + spread) / (1 + z**2 / n)


def _clouds(rng):
    for n, m, f in [(30, 20, 2), (50, 50, 4), (40, 25, 3)]:
        yield rng.standard_normal((n, f)), 1 + rng.standard_normal((m, f)) @ rng.standard_normal((f, f))


TASKS = [
    Task(
        frechet, "The distance of two clouds", 10, "hard", 25,
        reference=frechet_distance, cases=_clouds, tolerance=1e-8,
        hints=(
            "Three parts: how far the middles are apart, how wide the clouds are, and how much of their shape they share.",
            "np.cov(a.T) is Σ with N − 1. The root of a symmetric matrix: eigh, the root of the eigenvalues, and back.",
            "root = (vectors * np.sqrt(values.clip(0))) @ vectors.T; shared = np.sqrt(np.linalg.eigvalsh(root @ sigma_b @ root).clip(0)).sum().",
        ),
        slips=[
            ("- 2 * shared", "- shared", "what they share counts twice: −2 Σ √λ"),
            (" - 2 * shared", "", "what the clouds share is missing: two equal clouds would be far apart"),
            ("np.sqrt(np.linalg.eigvalsh(root @ sigma_b @ root).clip(0)).sum()", "np.linalg.eigvalsh(root @ sigma_b @ root).clip(0).sum()", "the eigenvalues' roots are to be summed"),
            ("np.cov(a.T), np.cov(b.T)", "np.cov(a.T, ddof=0), np.cov(b.T, ddof=0)", "the covariance divides by N − 1"),
            ("(vectors * np.sqrt(values.clip(0))) @ vectors.T", "np.sqrt(np.abs(sigma_a))", "the root of a matrix is not the root of its elements"),
            ("return ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()", "return np.sqrt(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum())", "the squared distance of the middles counts, without a root"),
        ],
    ),
    Task(
        wilson, "How sure is a rate?", 10, "easy", 10,
        reference=library_wilson, outputs=("low", "high"),
        cases=lambda rng: [(90, 100, 1.959964), (10, 10, 1.959964), (3, 40, 1.0), (50, 100, 2.5)],
        hints=("Two numbers that differ in a sign.", "Write p, the middle and the spread; both ends are divided by 1 + z²/n.", "spread = z * np.sqrt(p * (1 − p) / n + z**2 / (4 * n**2))."),
        slips=[
            ("return (middle - spread) / (1 + z**2 / n), (middle + spread) / (1 + z**2 / n)", "s = z * np.sqrt(p * (1 - p) / n)\n    return p - s, p + s", "this is the simple interval p ± z √(p (1 − p)/n), which is certain of 10 right out of 10"),
            ("return (middle - spread) / (1 + z**2 / n), (middle + spread) / (1 + z**2 / n)", "return middle - spread, middle + spread", "both ends are to be divided by 1 + z²/n"),
            ("z**2 / (4 * n**2)", "z**2 / (4 * n)", "under the root it is z²/4n²"),
            ("return (middle - spread) / (1 + z**2 / n), (middle + spread)", "return (middle + spread) / (1 + z**2 / n), (middle - spread)", "low and high are exchanged"),
        ],
    ),
]  # fmt: skip
