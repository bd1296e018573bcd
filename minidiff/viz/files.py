"""Pictures to files: whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput
from ..files import atomic_path
from .images import as_array, grid
from .style import DPI, house_look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

GREYS, COLOURS = 16, 128  # entries in an animation's colour table; the last one means "as before"


def save(picture: Figure | np.ndarray, path: str | Path, dpi: float | None = None) -> Path:
    """Write a figure, or an array of pixels, as the ending of ``path`` says: .png .pdf .svg .gif .webp.

    picture: a Figure, or uint8 (H,W) or (H,W,3) such as :func:`grid` gives. dpi: pixels per inch of the
    figure (its own by default); of an array, what its size in a PDF or SVG follows. Missing folders are
    made. The file appears whole or not at all, and an old one stays until the new one is complete.
    Raises BadInput for another ending, a picture that is neither, or a folder that cannot be written to.
    """
    path = Path(path)
    kind = ending(path, (".png", ".pdf", ".svg", ".gif", ".webp"))
    if hasattr(picture, "savefig"):
        return write_whole(path, figure_bytes(picture, kind, dpi or picture.dpi))
    pixels = as_array(picture)
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise BadInput(
            f"viz.save: expected a Figure or uint8 pixels (H,W) or (H,W,3), not {pixels.dtype} "
            f"{pixels.shape}; viz.grid makes one picture of many images"
        )
    if kind in ("pdf", "svg"):
        return write_whole(path, figure_bytes(bare_figure(pixels, dpi or DPI), kind, dpi or DPI))
    from PIL import Image

    return write_whole(path, image_bytes(Image.fromarray(pixels), kind))


@house_look
def figure_bytes(fig: Figure, kind: str, dpi: float) -> bytes:
    """The file of a figure; without dates, so that the same picture gives the same bytes."""
    out = BytesIO()
    if kind in ("gif", "webp"):
        from PIL import Image

        fig.savefig(out, format="png", dpi=dpi)
        return image_bytes(Image.open(out).convert("RGB"), kind)
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    fig.savefig(out, format=kind, dpi=dpi, metadata=dates[kind])
    return out.getvalue()


def image_bytes(image: Image.Image, kind: str) -> bytes:
    out = BytesIO()
    image.save(out, kind, **({"lossless": True} if kind == "webp" else {"optimize": True}))
    return out.getvalue()


@house_look
def bare_figure(pixels: np.ndarray, dpi: float) -> Figure:
    """The pixels alone, one to a dot."""
    height, width = pixels.shape[:2]
    fig = new_figure(width / dpi, height / dpi, layout=None)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    colour = pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, 2)
    ax.imshow(colour, interpolation="none", aspect="auto")
    return fig


def animation(
    frames: np.ndarray | Sequence[np.ndarray],
    path: str | Path,
    duration_ms: float = 80,
    hold_ms: float = 2000,
    columns: int | None = None,
    scale: int = 2,
) -> Path:
    """An animated .gif or .webp that loops for ever: a grid of N images at K moments.

    frames: (K,N,C,H,W), or K arrays (N,C,H,W). duration_ms: how long a frame stays; hold_ms: how long the
    last one does (a GIF counts in hundredths of a second). columns: as for :func:`grid`. scale: each pixel
    becomes scale x scale. Grey images keep 15 levels and colour ones share 127 colours, for noise is as
    large as its number of levels: this is a file for a README. A frame equal to the one before it is not
    stored twice; the one before stays longer.
    """
    path = Path(path)
    kind = ending(path, (".gif", ".webp"))
    if not len(frames):
        raise BadInput("viz.animation: there are no frames")
    if as_array(frames[0]).ndim != 4:
        raise BadInput(
            f"viz.animation: frames must be (K,N,C,H,W): K moments of N images, not "
            f"{(len(frames), *as_array(frames[0]).shape)}"
        )
    shapes = list(dict.fromkeys(as_array(frame).shape for frame in frames))
    if len(shapes) > 1:
        raise BadInput(f"viz.animation: all frames must have the same shape, not {shapes[0]} and {shapes[1]}")
    if scale < 1 or scale != int(scale):
        raise BadInput(f"viz.animation: scale must be a whole number from 1, not {scale}")
    for name, value in (("duration_ms", duration_ms), ("hold_ms", hold_ms)):
        if not 10 <= value <= 600_000:
            raise BadInput(f"viz.animation: {name} must be 10 to 600000 milliseconds, not {value}")
    sheets = np.stack([grid(frame, columns) for frame in frames])  # (K,H',W'[,3])
    indexed, palette = in_few_colours(sheets)
    indexed = indexed.repeat(scale, 1).repeat(scale, 2)
    times = [round(duration_ms)] * (len(sheets) - 1) + [round(hold_ms)]
    return write_whole(path, animation_bytes(indexed, palette, times, kind))


def animation_bytes(indexed: np.ndarray, palette: np.ndarray, times: list[int], kind: str) -> bytes:
    """indexed: uint8 (K,H,W) places in palette, uint8 (n,3), whose last entry is left for "as before"."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in indexed]
    for image in images:
        image.putpalette(palette.tobytes())
    out = BytesIO()
    if kind == "webp":
        images = [image.convert("RGB") for image in images]
        images[0].save(
            out,
            "webp",
            save_all=True,
            append_images=images[1:],
            duration=times,
            loop=0,
            lossless=True,
            quality=80,
            method=4,
        )
    else:
        # One colour table for all frames, and pixels that did not change stored as transparent: both
        # make the file a good deal smaller.
        images[0].save(
            out,
            "gif",
            save_all=True,
            append_images=images[1:],
            duration=times,
            loop=0,
            palette=palette.tobytes(),
            transparency=len(palette) - 1,
            optimize=True,
            disposal=1,
        )
    return out.getvalue()


def in_few_colours(sheets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sheets (K,H,W[,3]) as places (K,H,W) in one palette (n,3), whose last entry no pixel uses."""
    from PIL import Image

    n = (GREYS if sheets.ndim == 3 else COLOURS) - 1
    palette = np.zeros((n + 1, 3), np.uint8)
    palette[n] = (255, 0, 255)
    if sheets.ndim == 3:
        palette[:n] = np.rint(np.linspace(0, 255, n))[:, None]
        return np.rint(sheets * np.float32((n - 1) / 255)).astype(np.uint8), palette
    # The palette is chosen on the finished images and on a few on the way there.
    seen = sheets[np.unique(np.linspace(0, len(sheets) - 1, 8).astype(int))]
    chosen = Image.fromarray(seen.reshape(-1, *sheets.shape[2:])).quantize(n, Image.Quantize.MEDIANCUT)
    colours = np.array(chosen.getpalette()[: 3 * n], np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    frames = [Image.fromarray(sheet).quantize(palette=chosen, dither=Image.Dither.NONE) for sheet in sheets]
    return np.stack([np.asarray(frame) for frame in frames]), palette


def ending(path: Path, known: tuple[str, ...]) -> str:
    """The kind of file that ``path`` asks for, without its dot."""
    if path.suffix.lower() not in known:
        wrong = f"cannot draw a {path.suffix} file" if path.suffix else "has no ending"
        raise BadInput(f"{path}: {wrong}; the name must end in {', '.join(known[:-1])} or {known[-1]}")
    return path.suffix.lower()[1:]


def write_whole(path: Path, content: bytes) -> Path:
    """Put ``content`` at ``path`` in one step. Raises BadInput for a place that cannot be written to."""
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadInput(f"{path}: cannot write it ({reason}); name a folder that can be written to") from error
    return path
