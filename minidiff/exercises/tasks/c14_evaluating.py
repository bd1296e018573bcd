"""Chapter 14: how sure a rate is, how far two clouds are apart, and what one number does not see."""

import numpy as np

from ...evaluate import frechet_distance
from ...evaluate.clouds import share_among
from ...evaluate.judge import wilson as library_wilson
from ..task import Task


def recall(real, samples, k):
    """The share of real points that lie among the samples (Kynkäänniemi et al. 2019, eq. 2).            # (N,F), (M,F), a number -> a number

    Around each sample is a ball which reaches to that sample's k-th nearest other sample. A real point lies among the samples
    if one of the balls holds it, the edge included. With the two exchanged it is precision.
    """

    def distances(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    reach = np.sort(distances(samples, samples), axis=1)[:, k]   # the nearest, in place 0, is the sample itself
    inside = distances(real, samples) <= reach[None]
    return inside.any(1).mean()


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
    yield np.array([[0.0, 1.0], [5.0, 0.0], [0.5, 2.0]]), np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), 1     # on an edge
    for n, m, k in ((30, 30, 3), (40, 25, 1), (12, 20, 5)):
        yield rng.standard_normal((n, 2)), 0.7 * rng.standard_normal((m, 2)) + 0.4, k


def _shapes(rng):
    for n, m, f in [(30, 20, 2), (50, 50, 4), (40, 25, 3)]:
        yield rng.standard_normal((n, f)), 1 + rng.standard_normal((m, f)) @ rng.standard_normal((f, f))


TASKS = [
    Task(
        wilson, "How sure is a rate?", 14, "easy", 10,
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
    Task(
        frechet, "The distance of two clouds", 14, "hard", 25,
        reference=frechet_distance, cases=_shapes, tolerance=1e-8,
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
        recall, "What the samples leave out", 14, "medium", 15,
        reference=lambda real, samples, k: share_among(real, samples, k), cases=_clouds,
        hints=("First how far each sample's ball reaches, then who lies in any ball.", "Sorted distances of a sample to all samples begin with 0, its own; the k-th other stands in place k.", "reach = np.sort(d(samples, samples), axis=1)[:, k]; (d(real, samples) <= reach).any(1).mean()."),
        slips=[
            ("axis=1)[:, k]", "axis=1)[:, k - 1]", "the sample itself, at distance 0, was counted as its first neighbour"),
            ("reach = np.sort(distances(samples, samples)", "reach = np.sort(distances(samples, real)", "a ball reaches to a neighbour among the samples, not among the real points"),
            (".any(1).mean()", ".all(1).mean()", "one ball that holds the point is enough"),
            (".any(1).mean()", ".any(0).mean()", "this counts balls that hold a real point; count real points that lie in a ball"),
            ("    reach = np.sort(distances(samples, samples), axis=1)[:, k]   # the nearest, in place 0, is the sample itself\n    inside = distances(real, samples) <= reach[None]\n", "    reach = np.sort(distances(real, real), axis=1)[:, k]\n    inside = distances(samples, real) <= reach[None]\n", "this is precision: balls around the samples are wanted, and the real points in them"),
        ],
    ),
]  # fmt: skip
