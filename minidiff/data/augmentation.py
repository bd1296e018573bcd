"""Augmentation: changes of a picture that leave its class alone, so that a set shows more than it has.

    shift     moved by dx, dy ∈ {−2, …, 2} whole pixels, each of the 25 ways as likely; what comes in is black
    flip      mirrored left to right, one time in two

What happens to sample i in epoch e is a function of (seed, e, i) and of nothing else: not of the batch it is in, not of
the process that makes the batch. So a resumed run, and many processes that share one, see the very same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minidiff import philox
from minidiff.data.dataset import Dataset
from minidiff.errors import BadInput

AUGMENTATIONS = ("shift", "flip")
SHIFT = 2          # pixels at most, in each direction: the black frame that 28x28 digits get in 32x32

# Streams of random numbers that the steps of a training, which has the same seed, never come to.
_STREAM = 1 << 16


def augment(x: np.ndarray, rows: np.ndarray, names: Sequence[str], seed: int, epoch: int) -> np.ndarray:
    """The pictures of some samples as an epoch shows them.

    Args:
        x: (B,C,H,W), black −1, as `to_model` gives them.
        rows: which sample of the set each of them is, (B,).
        names: of `AUGMENTATIONS`; in which order does not matter.
        seed, epoch: whole numbers, 0 or more; seed below 2⁶⁴.

    Returns:
        A new array of x's shape and type; x itself where `names` is empty.
    """
    if "flip" in names:
        mirrored = philox.integers(seed, rows, 0, 2, step=epoch, stream=_STREAM) == 1
        x = np.where(mirrored[:, None, None, None], x[..., ::-1], x)
    if "shift" in names:
        dy, dx = (philox.integers(seed, rows, -SHIFT, SHIFT + 1, step=epoch, stream=_STREAM + k) for k in (1, 2))
        x = shift(x, dy, dx)
    return x


def shift(x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """Each picture moved down by dy and right by dx pixels, −`SHIFT` … `SHIFT`; what comes in is −1.

    A picture with a frame of `SHIFT` pixels around it contains every shifted one as a window.            # (B,C,H,W), (B,), (B,) -> (B,C,H,W)
    """
    m = SHIFT
    framed = np.pad(x, ((0, 0), (0, 0), (m, m), (m, m)), constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(framed, x.shape[2:], axis=(2, 3))          # (B,C,2m+1,2m+1,H,W), no copy
    return windows[np.arange(len(x)), :, m - dy, m - dx]


def check_names(dataset: Dataset, names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once, in the order of `AUGMENTATIONS`.

    Raises:
        BadInput: an unknown name, or one that would make this set's images something else.
    """
    if isinstance(names, str):
        names = (names,)
    for name in names:
        if name not in AUGMENTATIONS:
            raise BadInput(f"augment: unknown augmentation {name!r}; there are {', '.join(AUGMENTATIONS)}")
        if name not in dataset.augmentations:
            raise BadInput(f"augment: {name} does not leave the classes of {dataset.name} as they are; what does: "
                           f"{', '.join(dataset.augmentations) or 'nothing'} (Dataset.augmentations)")
    return tuple(name for name in AUGMENTATIONS if name in names)
