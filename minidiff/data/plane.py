"""Points in the plane: data sets to learn from in seconds, and one whose every answer is known.

A picture of 32 x 32 pixels is a point in 1,024 dimensions; a point in two can be drawn. What diffusion does to a
distribution is the same in both.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import BadInput

FIGURES = ("moons", "spiral", "checkerboard", "gaussians", "figure")
# A little house, as a pen would draw it: the corners of one line.
HOUSE = np.array([(-0.7, -0.9), (-0.7, 0.2), (0.0, 0.9), (0.7, 0.2), (0.7, -0.9), (-0.7, -0.9), (0.7, 0.2), (-0.7, 0.2), (0.7, -0.9)])


def points(name: str, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n points of a figure, about as large as pictures are (in [−1,1]), and the part each belongs to.

    moons          two half moons that reach into each other       parts: 2
    spiral         two arms that wind around each other            parts: 2
    checkerboard   the eight dark squares of 4 x 4                 parts: 8
    gaussians      `eight_gaussians()`                             parts: 8
    figure         a house drawn in one line                       parts: 1

    -> float32 (n,2), int64 (n,). Raises BadInput for an unknown name.
    """
    if name not in FIGURES:
        raise BadInput(f"points: {name!r} is unknown; it is one of: {', '.join(FIGURES)}")
    if int(n) != n or n < 0:
        raise BadInput(f"points: n must be a whole number, 0 or more; got {n}")
    rng = np.random.default_rng([seed, FIGURES.index(name)])
    x, part = {"moons": _moons, "spiral": _spiral, "checkerboard": _checkerboard, "gaussians": _gaussians, "figure": _figure}[name](n, rng)
    return x.astype(np.float32), part.astype(np.int64)


def _moons(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    part, angle = rng.integers(0, 2, n), math.pi * rng.random(n)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x[part == 1] = np.array([1.0, 0.5]) - x[part == 1]
    return (x - [0.5, 0.25]) / 1.5 + 0.03 * rng.standard_normal((n, 2)), part


def _spiral(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    part, angle = rng.integers(0, 2, n), 3 * math.pi * np.sqrt(rng.random(n))
    turned = angle + math.pi * part
    radius = angle / (3 * math.pi)
    return np.stack([radius * np.cos(turned), radius * np.sin(turned)], axis=1) + 0.02 * rng.standard_normal((n, 2)), part


def _checkerboard(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    part = rng.integers(0, 8, n)
    row, column = part // 2, 2 * (part % 2) + part // 2 % 2
    return (np.stack([column, row], axis=1) + rng.random((n, 2))) / 2 - 1, part


def _gaussians(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return eight_gaussians().draw(n, rng)


def _figure(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.linalg.norm(np.diff(HOUSE, axis=0), axis=1)
    k = rng.choice(len(lengths), n, p=lengths / lengths.sum())
    along = rng.random((n, 1))
    return (1 - along) * HOUSE[k] + along * HOUSE[k + 1] + 0.01 * rng.standard_normal((n, 2)), np.zeros(n, int)


class Mixture:
    """Points from several normal distributions, round ones: Σ_k w_k N(m_k, s_k² 1).

    Noise keeps it one: x_t = a x0 + σ ε comes from Σ w_k N(a m_k, (a² s_k² + σ²) 1). So all that a network can learn at best
    is known: by Bayes, with r_k the probability that x_t came from part k,

        r_k ∝ w_k N(x_t; a m_k, v_k),   v_k = a² s_k² + σ²            (K parts, D dimensions)
        E[x0 | x_t] = Σ r_k (m_k + a s_k² (x_t − a m_k) / v_k)

    means (K,D), deviations s (K,), weights (K,), which add up to 1
    """

    def __init__(self, means: np.ndarray, deviations: np.ndarray, weights: np.ndarray | None = None) -> None:
        self.means, self.deviations = np.asarray(means, float), np.asarray(deviations, float)
        k = len(self.means)
        self.weights = np.full(k, 1.0 / k) if weights is None else np.asarray(weights, float)
        if self.means.ndim != 2 or self.deviations.shape != (k,) or self.weights.shape != (k,) or (self.deviations <= 0).any():
            raise BadInput("Mixture: means must be (K,D), deviations and weights (K,), deviations above 0; got"
                           f" {self.means.shape}, {self.deviations.shape} and {self.weights.shape}")  # fmt: skip
        if not np.isclose(self.weights.sum(), 1.0) or (self.weights < 0).any():
            raise BadInput(f"Mixture: weights must be parts of 1, got {self.weights}")

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """n points and the parts they are of.            # -> (n,D), (n,)"""
        part = rng.choice(len(self.weights), n, p=self.weights)
        return self.means[part] + self.deviations[part, None] * rng.standard_normal((n, self.means.shape[1])), part

    def _parts(self, x: np.ndarray, a: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        """ln (w_k N(x; a m_k, v_k)), and v_k.            # (N,D) -> (N,K), (K,)"""
        v = (a * self.deviations) ** 2 + sigma**2
        distance = ((x[:, None, :] - a * self.means) ** 2).sum(axis=2)
        with np.errstate(divide="ignore"):
            return np.log(self.weights) - 0.5 * distance / v - 0.5 * x.shape[1] * np.log(2 * math.pi * v), v

    def log_density(self, x: np.ndarray, a: float = 1.0, sigma: float = 0.0) -> np.ndarray:
        """ln p(x_t).            # (N,D) -> (N,)"""
        parts, _ = self._parts(x, a, sigma)
        top = parts.max(axis=1, keepdims=True)
        return (top + np.log(np.exp(parts - top).sum(axis=1, keepdims=True)))[:, 0]

    def expected(self, x: np.ndarray, a: float, sigma: float, part: np.ndarray | None = None) -> np.ndarray:
        """E[x0 | x_t]; for samples whose part is given and not −1, of that part alone.            # (N,D) -> (N,D)"""
        parts, v = self._parts(x, a, sigma)
        if part is not None:
            other = (part[:, None] >= 0) & (part[:, None] != np.arange(len(self.weights)))
            parts = np.where(other, -np.inf, parts)
        r = np.exp(parts - parts.max(axis=1, keepdims=True))
        r /= r.sum(axis=1, keepdims=True)
        guess = self.means + a * (self.deviations**2 / v)[:, None] * (x[:, None, :] - a * self.means)
        return (r[:, :, None] * guess).sum(axis=1)


def eight_gaussians() -> Mixture:
    """Eight on a circle, one of them twice as likely as the others and one wider."""
    angle = 2 * math.pi * np.arange(8) / 8
    weights = np.array([2, 1, 1, 1, 1, 1, 1, 1]) / 9
    return Mixture(0.8 * np.stack([np.cos(angle), np.sin(angle)], axis=1), np.array([0.08] * 7 + [0.16]), weights)
