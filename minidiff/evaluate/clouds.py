"""Two clouds of images compared point by point: is each sample like something real, is everything real like some sample, and is
any sample simply a training image?

The Fréchet distance is one number for all that is wrong. These tell apart what may be: samples that are no digits
(precision), digits that are never drawn (recall), all alike (diversity), copied (nearest training images).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import BadInput

NEIGHBOURS = 3      # k, as in the paper
TABLE = 2**23       # numbers in a table of distances at a time: 64 MB
CLOSE = 0.01        # of held-out images are as close to the training images as what we call a suspicion


def distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared distances of all rows of a to all rows of b, some rows of a at a time.            # (N,F), (M,F) -> (n,M) each

        |a − b|² = |u|² + |v|² − 2 u·v,      u = a − o,  v = b − o

    The sum cancels where its terms are much larger than the distance, as they are for features that lie far from 0. So it is
    taken in float64, and from an origin o among the points: the row of b that is about nearest to b's mean. What is no larger
    than the sum's rounding error, F ε (|u|² + |v|²), is 0: equal rows are at distance 0 exactly.
    """
    b = b.reshape(len(b), -1)
    origin = b[np.argmin(np.einsum("mf,mf->m", b, b) - 2.0 * (b @ b.mean(0)))].astype(np.float64)
    v = b - origin
    lengths, rounding = np.einsum("mf,mf->m", v, v), v.shape[1] * np.finfo(np.float64).eps
    rows_at_once = max(1, TABLE // max(1, len(v)))
    for start in range(0, len(a), rows_at_once):
        part = slice(start, min(start + rows_at_once, len(a)))
        u = a[part].reshape(part.stop - start, -1) - origin
        terms = np.einsum("nf,nf->n", u, u)[:, None] + lengths
        d = (-2.0 * u) @ v.T
        d += terms
        terms *= rounding
        d *= d > terms
        yield part, d


def radii(cloud: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """The squared distance of each point to its k-th nearest other one.            # (N,F) -> (N,)"""
    if not 1 <= k < len(cloud):
        raise BadInput(f"clouds: k must be 1 to {len(cloud) - 1}, one less than the {len(cloud)} points; got {k}")
    found = np.empty(len(cloud))
    for part, d in distances(cloud, cloud):
        found[part] = np.partition(d, k, axis=1)[:, k]                       # the nearest of all is the point itself
    return found


@dataclass(frozen=True)
class Manifolds:
    """precision    the share of samples that lie among the real images
    recall       the share of real images that lie among the samples
    n            of each
    k            a point lies among a cloud if it is nearer to one of its points than that one's k-th neighbour is
    """

    precision: float
    recall: float
    n: int
    k: int = NEIGHBOURS

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return asdict(self)


def precision_recall(real: np.ndarray, samples: np.ndarray, k: int = NEIGHBOURS) -> Manifolds:
    """Precision and recall of features (Kynkäänniemi et al. 2019, eq. 1–2).            # (N,F), (N,F)

    Both clouds must have as many points, since a denser cloud has smaller balls.

    Raises BadInput for clouds of different size, or of k points or fewer.
    """
    if real.shape != samples.shape:
        raise BadInput(f"precision_recall: as many samples as real images are needed, got {samples.shape} and {real.shape}")
    return Manifolds(share_among(samples, real, k), share_among(real, samples, k), len(real), k)


@dataclass(frozen=True)
class Density:
    """density     how many of the real images' balls hold a sample, on average, over k: about 1 for samples as real images are, and
                more where samples crowd into the dense parts
    coverage    the share of real images whose ball holds a sample
    k           a ball reaches to its centre's k-th neighbour among the real images, the edge included
    """

    density: float
    coverage: float
    k: int = NEIGHBOURS

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return asdict(self)


def density_coverage(real: np.ndarray, samples: np.ndarray, k: int = NEIGHBOURS) -> Density:
    """Density and coverage of features (Naeem et al. 2020, eq. 5–6).            # (N,F), (M,F)

        density = 1/(kM) Σ_j Σ_i [s_j ∈ B_i],      coverage = 1/N Σ_i [some s_j ∈ B_i],      B_i: r_i's ball

    All balls are the real images', so that a single sample far outside, whose ball would be large, counts for little. A point on
    the edge of a ball lies in it: images that occur more than k times have balls of radius 0, and cover themselves.

    Raises BadInput for k real images or fewer, and for no samples.
    """
    if not len(samples):
        raise BadInput("density_coverage: there are no samples")
    reach, inside = radii(real, k), np.zeros(len(real), np.int64)             # samples in each ball
    for _, d in distances(samples, real):
        inside += (d <= reach).sum(0)
    return Density(float(inside.sum() / (k * len(samples))), float((inside > 0).mean()), k)


def share_among(points: np.ndarray, cloud: np.ndarray, k: int = NEIGHBOURS) -> float:
    """The share of points that lie in a ball around one of the cloud, which reaches to that one's k-th neighbour."""
    reach = radii(cloud, k)
    return float(np.mean([inside for _, d in distances(points, cloud) for inside in (d <= reach).any(1)]))


def diversity(features: np.ndarray, labels: np.ndarray) -> dict[int, float]:
    """How far apart two images of one class are, on average, squared.            # (N,F), (N,)

        mean over pairs of |f − f'|²  =  2 tr Σ,    Σ the class's covariance

    Of little meaning alone: hold it against that of as many real images.
    """
    spread = {}
    for label in np.unique(labels):
        mine = np.asarray(features[labels == label], np.float64)
        if len(mine) < 2:
            raise BadInput(f"diversity: class {label} has {len(mine)} image; there must be two or more of each")
        spread[int(label)] = 2.0 * float(mine.var(axis=0, ddof=1).sum())
    return spread


@dataclass(frozen=True)
class Nearest:
    """The training image nearest to each sample, and how near, beside how near held-out images come.

    index       of the training image, (N,)
    distance    root mean square over pixels or features, (N,)
    held_out    the same of the held-out images, (M,)

    close       the share of samples that come nearer than all but CLOSE of the held-out images: CLOSE if samples are as new
                as held-out images are, more if some were learned by heart
    ratio       the median of distance over that of held_out
    """

    index: np.ndarray
    distance: np.ndarray
    held_out: np.ndarray

    @property
    def close(self) -> float:
        """The share of samples nearer to a training image than all but CLOSE of the held-out ones are, 0 … 1."""
        # Of n held-out distances the k-th smallest has k/(n + 1) of all new ones below it: Weibull's rule, right for any n.
        return float((self.distance < np.quantile(self.held_out, CLOSE, method="weibull")).mean())

    @property
    def ratio(self) -> float:
        """The median distance of samples over that of held-out images."""
        return float(np.median(self.distance) / np.median(self.held_out))

    def of_held_out(self) -> Nearest:
        """The held-out images in the place of the samples; which training images are nearest to them is not kept."""
        return Nearest(np.empty(0, np.int64), self.held_out, self.held_out)

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {"close": self.close, "expected_close": CLOSE, "median": float(np.median(self.distance)),
                "median_of_held_out": float(np.median(self.held_out)), "ratio": self.ratio, "n": len(self.distance)}  # fmt: skip


def nearest(samples: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> Nearest:
    """For each sample the nearest training image; pixels or features, one row or image each.            # (N,…), (K,…), (M,…)"""
    index, near = _nearest(samples, train)
    return Nearest(index, near, _nearest(held_out, train)[1])


def _nearest(points: np.ndarray, cloud: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    index, near = np.empty(len(points), np.int64), np.empty(len(points))
    for part, d in distances(points, cloud):
        index[part], near[part] = d.argmin(1), d.min(1)
    return index, np.sqrt(near / points[0].size)
