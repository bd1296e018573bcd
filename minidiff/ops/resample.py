"""Images made larger and smaller without weights of their own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backend
from ..autograd import Op
from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor
from .conv import Pair, per_axis
from .matmul import matmul
from .shape import reshape, transpose


def _images(name: str, x: Tensor) -> tuple[int, int, int, int]:
    if x.ndim != 4:
        raise BadInput(f"{name}: x must be (N,C,H,W), got shape {x.shape}")
    return x.shape  # type: ignore[return-value]


def _factor(name: str, argument: str, r: int) -> None:
    if not isinstance(r, int | np.integer) or r < 1:
        raise BadInput(f"{name}: {argument} must be a whole number, 1 or more; got {r!r}")


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """Every r x r patch becomes r² channels: a smaller image that lost nothing.    # (N,C,rH,rW) -> (N,C r²,H,W)"""
    r, (n, c, h, w) = downscale_factor, _images("pixel_unshuffle", x)
    _factor("pixel_unshuffle", "downscale_factor", r)
    if h % r or w % r:
        raise BadInput(f"pixel_unshuffle: a {h}x{w} image does not divide into {r}x{r} patches")
    x = transpose(reshape(x, (n, c, h // r, r, w // r, r)), (0, 1, 3, 5, 2, 4))
    return reshape(x, (n, c * r * r, h // r, w // r))


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """The opposite of `pixel_unshuffle`.            # (N,C r²,H,W) -> (N,C,rH,rW)"""
    r, (n, c, h, w) = upscale_factor, _images("pixel_shuffle", x)
    _factor("pixel_shuffle", "upscale_factor", r)
    if c % (r * r):
        raise BadInput(f"pixel_shuffle: {c} channels are no multiple of {r}·{r}")
    x = transpose(reshape(x, (n, c // (r * r), r, r, h, w)), (0, 1, 4, 2, 5, 3))
    return reshape(x, (n, c // (r * r), h * r, w * r))


class Nearest(Op):
    """y[i,j] = x[rows[i], columns[j]]            gx = Rᵀ gy C,  R[i,k] = 1 where rows[i] is k, and C likewise

    Forward picks lines. Backward has to add up what the copies of each line are given, and a product
    with a matrix of ones and zeros does that ten times quicker than adding copy by copy.
    """                                                          # (N,C,H,W) -> (N,C,H',W')

    rows: np.ndarray
    columns: np.ndarray

    def forward(self, x: Array) -> Array:
        xp, self.size = array_module(x), x.shape[2:]
        y = xp.take(x, backend.asarray(self.columns, like=x, dtype=np.int64), axis=3)
        return xp.take(y, backend.asarray(self.rows, like=x, dtype=np.int64), axis=2)

    def backward(self, gy: Tensor) -> Tensor:
        r, c = (
            Tensor(backend.asarray(np.eye(size)[lines], like=gy.data, dtype=gy.dtype))
            for size, lines in zip(self.size, (self.rows, self.columns), strict=True)
        )
        return matmul(matmul(r.T, gy), c)


def interpolate(
    x: Tensor, size: int | Pair | None = None, scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest", align_corners: bool | None = None,
) -> Tensor:  # fmt: skip
    """Images of another size; PyTorch's meaning and order of arguments.            # (N,C,H,W) -> (N,C,H',W')

    size, scale_factor   one of the two, for both axes or one for each; H' = ⌊H scale_factor⌋
    mode                 "nearest": pixel i is old pixel ⌊i r⌋, with r = H/H', or 1/scale_factor where
                         that was given; "bilinear": each new pixel is mixed of the four around its
                         place, which is (i + ½) r − ½ in the old image
    align_corners        for "bilinear": let the centres of the corner pixels stay where they are,
                         so that the place is i (H − 1)/(H' − 1)

    Both modes are linear in x and treat rows and columns alike: y = A x Bᵀ with A (H',H) the weights
    of each new line in the old ones. So one number that is not finite spoils the whole image (in
    "bilinear") or gradient (in both): 0 · ∞ is none. In PyTorch it spoils its neighbours only.
    """
    _, _, *old = _images("interpolate", x)
    if mode not in ("nearest", "bilinear"):
        raise BadInput(f"interpolate: mode {mode!r} is unknown; it is 'nearest' or 'bilinear'")
    if backend.kind(x.dtype) != "f":
        raise BadInput(f"interpolate: x must hold floating-point numbers, got {x.dtype}")
    new, ratios = _new_size(x, size, scale_factor)
    if mode == "nearest":
        if align_corners is not None:
            raise BadInput(f"interpolate: align_corners={align_corners} has no meaning for mode 'nearest'; leave it out")
        rows, columns = (_old_pixels(*axis) for axis in zip(old, new, ratios, strict=True))
        return Nearest(rows=rows, columns=columns)(x)
    rows, columns = (
        Tensor(backend.asarray(_weights(*axis, bool(align_corners)), like=x.data, dtype=x.dtype))
        for axis in zip(old, new, ratios, strict=True)
    )
    return matmul(matmul(rows, x), columns.T)


def _new_size(x: Tensor, size: Any, scale_factor: Any) -> tuple[tuple[int, ...], list[float]]:
    """The new height and width, and how many old pixels one new pixel is."""
    if (size is None) == (scale_factor is None):
        raise BadInput(f"interpolate: give either size or scale_factor; got size {size}, scale_factor {scale_factor}")
    old = x.shape[2:]
    if 0 in old:
        raise BadInput(f"interpolate: the images of x {x.shape} have no pixels")
    if size is not None:
        new = per_axis("interpolate", "size", size, 1)
        return new, [n / m for n, m in zip(old, new, strict=True)]
    factors = tuple(scale_factor) if isinstance(scale_factor, tuple | list) else (scale_factor,) * 2
    if len(factors) != 2 or any(not 0 < f < math.inf for f in factors):
        raise BadInput(f"interpolate: scale_factor must be one or two positive numbers, got {scale_factor!r}")
    new = tuple(math.floor(n * f) for n, f in zip(old, factors, strict=True))
    if min(new) < 1:
        raise BadInput(f"interpolate: scale_factor {scale_factor} leaves nothing of the image {old}")
    return new, [1.0 / f for f in factors]


def _old_pixels(old: int, new: int, ratio: float) -> np.ndarray:
    """⌊i r⌋ for each new pixel i. PyTorch's arithmetic, because where i r is almost whole, that decides:
    in float32, and exact for one and two times the size, whatever r is.
    """
    if new in (old, 2 * old):
        return np.arange(new) * old // new
    return np.minimum((np.arange(new, dtype=np.float32) * np.float32(ratio)).astype(np.int64), old - 1)


def _weights(old: int, new: int, ratio: float, align_corners: bool) -> np.ndarray:
    """A[i,k] = max(0, 1 − |place of new line i − k|): how much old line k counts in it.

    An axis that keeps its length is left alone, whatever r is (PyTorch's rule on the CPU).
    """
    if new == old:
        return np.eye(old)
    i = np.arange(new)
    place = i * (old - 1) / max(new - 1, 1) if align_corners else (i + 0.5) * ratio - 0.5
    place = np.clip(place, 0, old - 1)                           # beyond the outer lines: the outer line
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(old)))
