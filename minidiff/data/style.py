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
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff.data.dataset import Dataset
from minidiff.errors import BadInput


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
    """Style values as a network is told them: (value − mean) / deviation, of about unit size whatever their unit.

    names, mean, deviation    one each for every value, in the network's order
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, values: np.ndarray, names: Sequence[str]) -> StyleScale:
        """The scale that gives these (N,S) values mean 0 and deviation 1."""
        deviation = values.std(0, dtype=np.float64)
        if len(flat := np.flatnonzero(~(deviation > 0))):
            raise BadInput(f"style {names[flat[0]]!r} is the same for all {len(values):,} pictures; nothing can be learned of it")
        return cls(tuple(names), tuple(map(float, values.mean(0, dtype=np.float64))), tuple(map(float, deviation)))

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

    def to_json(self) -> dict[str, Any]:
        """The scale as plain JSON values, for a checkpoint."""
        return {"names": list(self.names), "mean": list(self.mean), "deviation": list(self.deviation)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StyleScale:
        """The opposite of :meth:`to_json`."""
        return cls(tuple(values["names"]), tuple(values["mean"]), tuple(values["deviation"]))
