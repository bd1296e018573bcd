"""Digits that need no download: drawn from matplotlib's fonts, bent as a hand would bend them.

Each typeface draws its ten digits once, large. What is kept is not the picture but its signed distance
field D: how far a point lies inside the ink (positive) or outside it (negative). From D any stroke width
and any bent shape can be drawn at any size by looking up 28x28 points:

    g = A⁻¹ (p − s − e(p))              where the pixel p lies in the upright digit
    d = z D(g) + (w − z w̄) / 2          how deep p lies in a stroke made w wide
    ink = ½ + d / softness              clipped to 0 … 1, an edge of that many pixels

with A = rotation · slant · width · scale z, the shift s, a smooth random displacement e, and w̄ the digit's
own mean stroke width. Adding a constant to D moves every edge outwards by as much: that is how weight is
changed without drawing anything again.

What was chosen for an image is known exactly, and comes with it as `Dataset.style`:

    slant     degrees the stems lean to the right (an italic typeface is set upright first)
    weight    mean stroke width in pixels
    face      index into `FACES`
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minidiff.data.dataset import Dataset
from minidiff.errors import BadInput
from minidiff.files import cache_folder, write_npz

SIZES = {"train": 12_000, "test": 2_000}
SIZE = 28          # pixels; the digit is about 20 high, as in MNIST
HEIGHT = 20

# Part of the cache's key: raise it with every change that moves a pixel.
VERSION = 1

_FINE = 8          # samples per pixel at which a digit is drawn and measured
_STEP = 2          # every second of them is kept
_REACH = 20          # pixels from the centre of mass to the border of the kept field
_CHUNK = 500          # images drawn at once


@dataclass(frozen=True)
class Face:
    """One typeface: its file among matplotlib's fonts and how far its stems lean, in degrees."""

    file: str
    lean: float = 0.0


# Twins were left out: an oblique that is its upright sheared gives the same digit once it is set upright,
# and the fixed-width DejaVu puts a dot into its zero, which at this size reads as an eight. All of these come
# with every matplotlib from 3.8 on, so the digits are the same whichever is installed.
FACES = (Face("DejaVuSans.ttf"), Face("DejaVuSans-Bold.ttf"),
         Face("DejaVuSerif.ttf"), Face("DejaVuSerif-Bold.ttf"), Face("DejaVuSerif-Italic.ttf", 11.0),
         Face("STIXGeneral.ttf"), Face("STIXGeneralBol.ttf"),
         Face("STIXGeneralItalic.ttf", 16.33), Face("STIXGeneralBolIta.ttf", 16.33),
         Face("cmr10.ttf"), Face("cmb10.ttf"), Face("DejaVuSerif-BoldItalic.ttf", 11.0),
         Face("cmss10.ttf"), Face("cmtt10.ttf"), Face("cmmi10.ttf"))

# The columns of the table of random numbers that an image is made from, and the range of each.
_RANGES = {"face": (0, len(FACES)), "slant": (-15, 30), "weight": (0, 1), "scale": (0.85, 1.05),
           "width": (0.85, 1.15), "rotation": (-5, 5), "shift_x": (-1, 1), "shift_y": (-1, 1),
           "softness": (1.1, 1.7)}
_KNOTS = 4          # the displacement is given at 4x4 points and smooth between them
_BEND = 1.5          # pixels, the largest displacement at a knot along each axis
_WEIGHTS = (1.8, 3.7)          # pixels
_SLIMMING = 0.4          # pixels a stroke may lose; more would break the hairlines of a bold face
_FATTENING = 1.6          # pixels a stroke may gain; more would fill the loops of a narrow one


def load(split: str = "train", *, seed: int = 0, limit: int | None = None) -> Dataset:
    """The `SIZES[split]` digits from the cache, drawn and put there on first use; at most the first `limit`.

    The cache is the folder ``glyphs`` in ``MINIDIFF_CACHE`` or ``~/.cache/minidiff``. It only saves time:
    where it cannot be written or its file is damaged, the digits are drawn.
    """
    n = SIZES[_known(split)]
    wanted = n if limit is None else min(limit, n)
    dataset = _read_cache(path := _cache_path(split, seed), n)
    if dataset is not None:
        return dataset.subset(slice(0, wanted))
    dataset = draw(wanted, split, seed=seed)
    if wanted == n:
        _write_cache(path, dataset)
    return dataset


def draw(n: int, split: str = "train", *, seed: int = 0) -> Dataset:
    """Draw `n` digits.

    Image i shows the digit i mod 10, and depends on (seed, split, i) alone: a smaller set is the start of a
    larger one.

    Args:
        n: how many, 1 or more.
        split: "train" or "test"; they never share a random number.
        seed: any non-negative whole number.

    Returns:
        A `Dataset` of uint8 (n,28,28), white on black, with the style "slant" (degrees, positive to the
        right), "weight" (mean stroke width in pixels) and "face" (index into `FACES`).
    """
    if n < 1 or seed < 0:
        raise BadInput(f"glyphs: n is {n} and seed is {seed}; n must be 1 or more, seed 0 or more")
    labels = np.arange(n) % 10
    chosen = _choose(n, _known(split), seed)
    chosen["face"] = np.floor(chosen["face"]).astype(np.int64)
    w = _weight(chosen, labels)
    images = np.empty((n, SIZE, SIZE), np.uint8)
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        images[part] = _render({key: values[part] for key, values in chosen.items()}, labels[part], w[part])
    style = {"slant": chosen["slant"], "weight": w, "face": chosen["face"]}
    return Dataset("glyphs", images, labels, tuple("0123456789"),
                   {key: values.astype(np.float32) for key, values in style.items()})


def cached() -> dict[str, Path]:
    """The cache's files for the default sets, by split; only those that are there."""
    paths = {split: _cache_path(split, 0) for split in SIZES}
    return {split: path for split, path in paths.items() if path.is_file()}


def check(split: str) -> str | None:
    """What is wrong with the split in the cache, or None: its first hundred are compared with fresh ones."""
    fresh = draw(min(100, SIZES[split]), split)
    path = cached().get(split)
    if path is None:
        return None
    kept = _read_cache(path, SIZES[split])
    if kept is None:
        return "the file in the cache is damaged; it will be drawn anew at its next use"
    same = np.array_equal(kept.images[:len(fresh)], fresh.images)
    return None if same else "differs from a fresh drawing; delete the file to have it drawn anew"


def _choose(n: int, split: str, seed: int) -> dict[str, np.ndarray]:
    """The random numbers of each image: one row of a table that is filled row by row from one stream."""
    columns = len(_RANGES) + 2 * _KNOTS * _KNOTS
    u = np.random.default_rng((seed, list(SIZES).index(split))).random((n, columns))
    chosen = {key: low + (high - low) * u[:, k] for k, (key, (low, high)) in enumerate(_RANGES.items())}
    bend = _BEND * (2 * u[:, len(_RANGES):] - 1)
    return {**chosen, "bend": bend.reshape(n, 2, _KNOTS, _KNOTS)}


def _weight(chosen: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The stroke width of each image in pixels, within what its digit can bear."""
    own = chosen["scale"] * _masters()[1][chosen["face"], labels]
    low = np.maximum(_WEIGHTS[0], own - _SLIMMING)
    high = np.maximum(np.minimum(_WEIGHTS[1], own + _FATTENING), low + 0.4)
    return low + (high - low) * chosen["weight"]


def _render(chosen: dict[str, np.ndarray], labels: np.ndarray, w: np.ndarray) -> np.ndarray:
    fields, own = _masters()
    face, z, softness = chosen["face"], chosen["scale"], chosen["softness"]
    gx, gy = _positions(chosen)          # (n,28,28) each
    D = _look_up(fields, 10 * face + labels, gx, gy)
    d = z[:, None, None] * D + ((w - z * own[face, labels]) / 2)[:, None, None]
    ink = np.clip(0.5 + d / softness[:, None, None], 0, 1)
    return np.rint(255 * ink).astype(np.uint8)


def _positions(chosen: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """g = A⁻¹ (p − s − e(p)): where each pixel lies in the upright digit, in pixels, y downwards."""
    p = np.arange(SIZE) - (SIZE - 1) / 2
    ex, ey = np.moveaxis(_bend(chosen["bend"]), 1, 0)          # (n,28,28) each
    x = p[None, None, :] - chosen["shift_x"][:, None, None] - ex
    y = p[None, :, None] - chosen["shift_y"][:, None, None] - ey
    a = _inverse(chosen)          # (n,2,2)
    return (a[:, 0, 0, None, None] * x + a[:, 0, 1, None, None] * y,
            a[:, 1, 0, None, None] * x + a[:, 1, 1, None, None] * y)


def _inverse(chosen: dict[str, np.ndarray]) -> np.ndarray:
    """A⁻¹ for A = rotation · slant · stretch · upright, the last setting an italic face straight."""
    lean = np.radians([face.lean for face in FACES])[chosen["face"]]
    angle, z, width = np.radians(chosen["rotation"]), chosen["scale"], chosen["width"]
    c, s, one, none = np.cos(angle), np.sin(angle), np.ones(len(z)), np.zeros(len(z))
    # y points down, so a lean to the right moves the upper half, where y is negative, by −y tan(slant).
    rotation = _matrix(c, -s, s, c)
    slant = _matrix(one, -np.tan(np.radians(chosen["slant"])), none, one)
    upright = _matrix(one, np.tan(lean), none, one)
    stretch = _matrix(z * width, none, none, z)
    return np.linalg.inv(rotation @ slant @ stretch @ upright)


def _matrix(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.stack([np.stack([a, b], -1), np.stack([c, d], -1)], -2)          # (n,2,2)


def _bend(knots: np.ndarray) -> np.ndarray:
    """A smooth displacement from its values at the knots:  e = B k Bᵀ.        (n,2,4,4) -> (n,2,28,28)

    The rows of B are Gaussian weights of the knots around a pixel, made to sum to one.
    """
    at = np.linspace(0, SIZE - 1, _KNOTS)
    distance = (np.arange(SIZE)[:, None] - at) / (at[1] - at[0])
    B = np.exp(-2 * distance**2)
    B /= B.sum(axis=1, keepdims=True)
    return B @ knots @ B.T


def _look_up(fields: np.ndarray, which: np.ndarray, gx: np.ndarray, gy: np.ndarray) -> np.ndarray:
    """Bilinear interpolation of field `which` at (gx, gy); beyond its border the border's value holds."""
    scale, side = _FINE / _STEP, fields.shape[-1]
    column = np.clip(gx * scale + side // 2, 0, side - 1.001)
    row = np.clip(gy * scale + side // 2, 0, side - 1.001)
    i, j = row.astype(np.int64), column.astype(np.int64)
    fy, fx = row - i, column - j
    flat, start = fields.reshape(-1), (which[:, None, None] * side + i) * side + j
    upper = flat[start] * (1 - fx) + flat[start + 1] * fx
    lower = flat[start + side] * (1 - fx) + flat[start + side + 1] * fx
    return upper * (1 - fy) + lower * fy


@functools.cache
def _masters() -> tuple[np.ndarray, np.ndarray]:
    """Of all digits, in pixels: the distance fields (faces·10, side, side), the stroke widths (faces, 10)."""
    drawn = [_master(face, digit) for face in FACES for digit in "0123456789"]
    fields = np.stack([field for field, _ in drawn])
    widths = np.array([width for _, width in drawn]).reshape(len(FACES), 10)
    return fields, widths


def _master(face: Face, digit: str) -> tuple[np.ndarray, float]:
    from scipy.ndimage import center_of_mass, distance_transform_edt

    half = _REACH * _FINE
    ink = _outline(face, digit)
    cy, cx = (round(c) for c in center_of_mass(ink))
    H, W = ink.shape
    canvas = np.zeros((2 * half, 2 * half), bool)
    canvas[half - cy:half - cy + H, half - cx:half - cx + W] = ink
    inside, outside = distance_transform_edt(canvas), distance_transform_edt(~canvas)
    # Both count to the next sample's centre; the edge lies half a sample before it.
    D = (np.where(canvas, inside - 0.5, 0.5 - outside) / _FINE).astype(np.float32)
    # Depths in a stroke of width w are spread evenly over 0 … w/2, so their mean is w/4.
    return D[::_STEP, ::_STEP], 4 * float(D[canvas].mean())


def _outline(face: Face, digit: str) -> np.ndarray:
    """The digit, HEIGHT pixels high at _FINE samples each, as a mask cut to its edges."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", face.file)
    try:
        trial = ImageFont.truetype(str(path), 100).getbbox(digit)
        wanted = HEIGHT * _FINE
        font = ImageFont.truetype(str(path), round(100 * wanted / (trial[3] - trial[1])))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error}); expected the font that matplotlib installs; "
                       "reinstall matplotlib") from None
    image = Image.new("L", (2 * wanted, 2 * wanted))
    ImageDraw.Draw(image).text((wanted, wanted), digit, font=font, fill=255, anchor="mm")
    return np.asarray(image.crop(image.getbbox())) >= 128


def _known(split: str) -> str:
    if split not in SIZES:
        raise BadInput(f"glyphs: unknown split {split!r}; the splits are {', '.join(SIZES)}")
    return split


def _cache_path(split: str, seed: int) -> Path:
    """One file for each set of parameters; other fonts or another rasteriser are other parameters too."""
    import matplotlib
    import PIL

    made_from = (VERSION, FACES, _RANGES, _KNOTS, _BEND, _WEIGHTS, _SLIMMING, _FATTENING, _FINE, _STEP, SIZE,
                 HEIGHT, matplotlib.__version__, PIL.__version__)
    key = hashlib.sha256(repr(made_from).encode()).hexdigest()[:12]
    return cache_folder("glyphs", f"{split}-{SIZES[split]}-seed{seed}-v{VERSION}-{key}.npz")


def _read_cache(path: Path, n: int) -> Dataset | None:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
            dataset = Dataset("glyphs", kept["images"], np.arange(n) % 10, tuple("0123456789"),
                              {key: kept[key] for key in ("slant", "weight", "face")})
    except Exception:
        return None
    return dataset if dataset.images.shape == (n, SIZE, SIZE) else None


def _write_cache(path: Path, dataset: Dataset) -> None:
    with contextlib.suppress(OSError):
        write_npz(path, {"images": dataset.images, **dataset.style}, compress=True)
