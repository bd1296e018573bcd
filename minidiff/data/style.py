"""Style: what a picture is like beside its class, in numbers that can be measured and asked for.

    slant    degrees that it leans to the right. A stem that leans has its ink further right the higher it is; of all lines
             x = x̄ − tan(slant) (y − ȳ) through the middle of the ink, least squares picks

                 tan(slant) = − Σ p (x − x̄)(y − ȳ) / Σ p (y − ȳ)²            (p: ink, 0 … 1; y grows downwards)

    weight   width of the stroke in pixels. A stroke of width w and length L covers A = w L and has two edges of length L:

                 w = 2 A / P,       A = Σ p,       P = Σ |∇p|

             where P counts edges, sharp or soft, by how much the ink changes across them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidiff.data.dataset import Dataset
from minidiff.errors import BadInput
from minidiff.philox import uniform


def slant(images: np.ndarray) -> np.ndarray:
    """Degrees to the right; 0 for a picture without ink.            # uint8 or floats in [−1,1], (N,H,W) or (N,C,H,W) -> (N,)"""
    p = ink(images)
    y, x = np.mgrid[: p.shape[1], : p.shape[2]]
    A = np.maximum(p.sum((1, 2)), 1e-9)
    dx = x - ((p * x).sum((1, 2)) / A)[:, None, None]
    dy = y - ((p * y).sum((1, 2)) / A)[:, None, None]
    return np.degrees(np.arctan2(-(p * dx * dy).sum((1, 2)), np.maximum((p * dy * dy).sum((1, 2)), 1e-9)))


def weight(images: np.ndarray) -> np.ndarray:
    """Mean stroke width in pixels; 0 for a picture without ink.            # as `slant`"""
    p = np.pad(ink(images), ((0, 0), (1, 1), (1, 1)))
    gy, gx = np.diff(p, axis=1)[:, :, 1:], np.diff(p, axis=2)[:, 1:]
    return 2.0 * p.sum((1, 2)) / np.maximum(np.hypot(gx, gy).sum((1, 2)), 1e-9)


def ink(images: np.ndarray) -> np.ndarray:
    """How much ink each pixel has, from 0 to 1; colours count alike.            # (N,H,W) or (N,C,H,W) -> (N,H,W)"""
    images = np.asarray(images)
    p = images / 255.0 if images.dtype == np.uint8 else np.clip(0.5 * (images.astype(np.float64) + 1.0), 0.0, 1.0)
    return p.mean(1) if p.ndim == 4 else p


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"slant": slant, "weight": weight}
_STREAM = 48  # of the chance by which styles are drawn: samples' own noise has 16, likelihood 32
PLACES = (np.arange(50) + 0.5) / 50  # the parts of a class below its quantiles: the outermost hundredth at each end is left out
PART = 500  # pictures measured at once: what they are measured by is a hundred times as large as they are


def style_values(dataset: Dataset, names: Sequence[str]) -> np.ndarray:
    """The values of these names for each picture: as the set says, or measured where it says nothing.            # -> (N,S) float32

    Raises BadInput for a name that is neither known of this set nor one of `MEASURES`.
    """
    known = dataset.style or {}
    if unknown := [name for name in names if name not in known and name not in MEASURES]:
        raise BadInput(f"{dataset.name}: nothing is known of the style {unknown[0]!r}; there is {', '.join(dict.fromkeys([*known, *MEASURES]))}")
    columns = [known[name] if name in known else _in_parts(MEASURES[name], dataset.images) for name in names]
    return np.stack(columns, 1).astype(np.float32) if columns else np.empty((len(dataset), 0), np.float32)


def _in_parts(measure: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """What measure(images) gives, in the memory of PART pictures."""
    return np.concatenate([measure(images[i : i + PART]) for i in range(0, len(images), PART)] or [np.empty(0)])


@dataclass(frozen=True)
class StyleScale:
    """Style values as a network is told them, and how the training set has them.

    A network is told (value − mean) / deviation, of about unit size whatever the unit.

    names, mean, deviation    one each for every value, in the network's order
    quantiles                 of what is told, evenly from low to high, for each class and last for all pictures together,
                              (K+1,S,50); empty where it is not known
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    quantiles: tuple[Any, ...] = ()

    @classmethod
    def of(cls, values: np.ndarray, names: Sequence[str], labels: np.ndarray | None = None) -> StyleScale:
        """The scale that gives these (N,S) values mean 0 and deviation 1; and from (N,) labels, how each class has them."""
        deviation = values.std(0, dtype=np.float64)
        if len(flat := np.flatnonzero(~(deviation > 0))):
            raise BadInput(f"style {names[flat[0]]!r} is the same for all {len(values):,} pictures; nothing can be learned of it")
        scale = cls(tuple(names), tuple(map(float, values.mean(0, dtype=np.float64))), tuple(map(float, deviation)))
        if labels is None:
            return scale
        told = scale.told(values)
        groups = [told[labels == k] for k in range(labels.max() + 1)] + [told]
        found = [np.quantile(group if len(group) else told, PLACES, axis=0).T for group in groups]
        return replace(scale, quantiles=_tuples(np.round(found, 4)))

    def told(self, values: np.ndarray) -> np.ndarray:
        """What the network is told of (N,S) values; not a number stays so, "not known".            # -> (N,S) float32"""
        return ((np.asarray(values) - self.mean) / self.deviation).astype(np.float32)

    def asked(self, wanted: Mapping[str, Any]) -> np.ndarray:
        """A row for :func:`minidiff.diffusion.sample`: the values that are wanted, the others left open.            # -> (S,)

            scale.asked({"slant": 20.0})

        Raises BadInput for a name that the network has not learned and for a value that is not a finite number.
        """
        row = np.full(len(self.names), np.nan)
        for name, value in wanted.items():
            if name not in self.names:
                raise BadInput(f"style {name!r} is not in this model; it knows {', '.join(self.names) or 'none'}")
            if not np.isfinite(value):
                raise BadInput(f"style {name} must be a finite number, got {value}")
            row[self.names.index(name)] = value
        return self.told(row[None])[0]

    def drawn(self, labels: np.ndarray, seed: int = 0, asked: np.ndarray | None = None, first: int = 0) -> np.ndarray:
        """Rows for :func:`minidiff.diffusion.sample`, as varied as the training set.            # (N,) -> (N,S) float32

        Each value is drawn by itself, as the pictures of its class have it: s = Q(u), u uniform in [0,1), Q the class's
        quantiles with straight lines between them (the inversion method: Devroye 1986, *Non-uniform random variate
        generation*, II.2).

        labels   classes, −1 for none in particular
        seed     row i is a function of (seed, first + i) alone
        asked    a row of :meth:`asked`: only what is no number there is drawn
        first    the number of the first picture, as in ``sample``

        Raises BadInput where it is not known how the training set has the classes, and for a class that it has not.
        """
        labels, K = np.asarray(labels), len(self.quantiles) - 1
        if K < 1:
            raise BadInput("this model does not say how its training set has the styles; it was trained by an older minidiff")
        if len(labels) and not (labels.min() >= -1 and labels.max() < K):
            raise BadInput(f"classes must lie between -1 and {K - 1}, got {labels.min()} to {labels.max()}")
        Q = np.array(self.quantiles)                                               # row −1 is of all pictures
        u = uniform(seed, first + np.arange(len(labels)), len(self.names), stream=_STREAM)
        s = np.array([[np.interp(part, PLACES, q) for part, q in zip(row, Q[k], strict=True)] for row, k in zip(u, labels, strict=True)]).reshape(u.shape)
        return (s if asked is None else np.where(np.isnan(asked), s, asked)).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """The scale as plain JSON values, for a checkpoint."""
        return {name: _lists(value) for name, value in vars(self).items() if len(value)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StyleScale:
        """The opposite of :meth:`to_json`."""
        return cls(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    """Lists in lists, or an array, as tuples in tuples."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _lists(value: Any) -> Any:
    """Tuples in tuples as lists in lists."""
    return list(map(_lists, value)) if isinstance(value, tuple) else value
