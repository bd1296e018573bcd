"""Chapter 27: what one number does not see."""

import numpy as np

from ...evaluate.clouds import share_among
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


def _clouds(rng):
    yield np.array([[0.0, 1.0], [5.0, 0.0], [0.5, 2.0]]), np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), 1     # on an edge
    for n, m, k in ((30, 30, 3), (40, 25, 1), (12, 20, 5)):
        yield rng.standard_normal((n, 2)), 0.7 * rng.standard_normal((m, 2)) + 0.4, k


TASKS = [
    Task(
        recall, "What the samples leave out", 27, "medium", 15,
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
