"""How far a cloud of samples lies from a cloud of real images, as the judge sees both."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .. import data
from ..errors import BadInput
from ..files import UNREADABLE, atomic_path, cache_folder
from .judge import Judge, load_judge
from .samples import as_frequent

NOISE_SEED = 30_000  # of the control that is nothing but noise
PART = 2000  # images whose features are made, and kept, at a time


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """The Fréchet distance of two clouds, each taken for a normal distribution.            # (N,F), (M,F) -> one number

        d² = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½)            (Dowson & Landau 1982; Heusel et al. 2017, eq. 6)

    As everywhere it is d² that is given. Σ₁Σ₂ is not symmetric, and the general root of a matrix is a delicate thing. But
    with R = Σ₁^½ the matrix R Σ₂ R has the same eigenvalues λ (Σ₁Σ₂ = R (R Σ₂ R) R⁻¹), and it is symmetric and has none
    below zero. A trace asks for nothing else:

        tr (Σ₁Σ₂)^½ = Σ √λ,        R = V √D Vᵀ  where  Σ₁ = V D Vᵀ

    That holds for singular Σ too, so fewer images than features are allowed. All in float64.

    The distance of few images is too large: the mean of N differs from the true one by chance, and so does their spread, and
    each of both adds to d², by about as much as 1/N. So compare distances of equal N only, and never without their floor.
    """
    mu_a, sigma_a = moments(features_a)
    mu_b, sigma_b = moments(features_b)
    if mu_a.shape != mu_b.shape:
        raise BadInput(f"frechet: features of different length: {len(mu_a)} and {len(mu_b)}")
    values, vectors = np.linalg.eigh(sigma_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ sigma_b @ root).clip(0)).sum()
    distance = ((mu_a - mu_b) ** 2).sum() + np.trace(sigma_a) + np.trace(sigma_b) - 2.0 * shared
    return max(0.0, float(distance))  # two equal clouds differ by rounding


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """μ (F,) and Σ (F,F), the latter with N − 1, float64."""
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
        raise BadInput(f"frechet: features must be finite numbers (N,F), N at least 2; got {features.shape}")
    centred = features - features.mean(axis=0)
    return features.mean(axis=0), centred.T @ centred / (len(features) - 1)


@dataclass(frozen=True)
class Frechet:
    """A distance, and what to hold it against: all three are those of `n` images to the same `n` training images.

    floor   the distance of real test images, classes as frequent as among the samples: about what a perfect model would reach
    noise   the distance of pure noise
    """

    distance: float
    n: int
    floor: float
    noise: float
    reference: str
    features: int

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"Fréchet distance {self.distance:.2f} of {self.n:,} samples to as many training images of {self.reference}, in the"
            f" judge's {self.features} features (floor, real test images: {self.floor:.2f}; pure noise: {self.noise:.0f})"
        )


def sample_frechet(images: np.ndarray, reference: str = "mnist", judge: Judge | None = None, labels: np.ndarray | None = None) -> Frechet:
    """How far samples are from a data set, beside the floor and noise.            # (N,1,H,W) in [−1,1]

    N samples are held against the first N training images, and so are N test images and N images of noise; N is at most the size
    of the test set. labels (N,) are what the samples were asked for: the test images then have the same classes as often (see
    `as_frequent`); without, they are spread evenly over the test set. What the judge sees of real images is kept in the cache, under a name made of
    the judge's weights and of the images, so that another judge or other data never meets it.

    Raises BadInput for too few or too many samples, and where the data set cannot be had.
    """
    judge = load_judge() if judge is None else judge
    train, test = (data.load(reference, split) for split in ("train", "test"))
    n, most = len(images), min(len(train), len(test))
    if not 2 <= n <= most:
        raise BadInput(f"frechet: {n:,} samples; 2 to {most:,} can be held against equally many of the images of {reference}")
    labels = np.full(n, -1) if labels is None else np.asarray(labels)
    if labels.shape != (n,):
        raise BadInput(f"frechet: {n:,} samples need as many labels, got {labels.shape}")
    real, held_out = (real_features(judge, dataset, n) for dataset in (train, like(test, labels)))
    noise = np.random.default_rng(NOISE_SEED).standard_normal((n, 1, 28, 28), dtype=np.float32).clip(-1, 1)
    distance, floor, control = (frechet_distance(other, real) for other in (judge.features(images), held_out, judge.features(noise)))
    return Frechet(distance, n, floor, control, reference, real.shape[1])


def like(dataset: data.Dataset, labels: np.ndarray) -> data.Dataset:
    """As many images of a data set as there are labels, with the same classes as often."""
    return dataset.subset(as_frequent(labels, dataset.labels))


def real_features(judge: Judge, dataset: data.Dataset, n: int) -> np.ndarray:
    """The judge's features of the first n images, from the cache where they are there.            # -> (n,F) float32

    They are made and kept in parts, each in a file of its own, so that a few images do not have to wait for all.
    """
    parts = [_part(judge, dataset.images[i : min(i + PART, len(dataset))]) for i in range(0, n, PART)]
    return np.concatenate(parts)[:n]


def _part(judge: Judge, images: np.ndarray) -> np.ndarray:
    path = cache_folder("features", f"{fingerprint(*judge.model.state_dict().values())}-{fingerprint(images)}.npy")
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, *UNREADABLE):
        pass  # not there yet, or damaged: made anew
    features = judge.features(data.to_model(images, size=28))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, features)
    except OSError:
        pass  # a cache that cannot be written costs time, nothing else
    return features


def fingerprint(*arrays: np.ndarray) -> str:
    """A name made of what the arrays hold."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
