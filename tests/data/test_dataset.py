import re

import numpy as np
import pytest

from minidiff.data import Dataset, from_model, to_model
from minidiff.errors import BadInput

CLASSES = tuple("0123456789")


def dataset(n=10, images=None, labels=None, style=None):
    images = np.zeros((n, 28, 28), np.uint8) if images is None else images
    labels = np.arange(n) % 10 if labels is None else labels
    return Dataset("toy", images, labels, CLASSES, style)


@pytest.mark.parametrize("shape", [(5, 28, 28), (5, 1, 28, 28), (5, 3, 32, 32), (5, 27, 30)])
def test_to_model_and_back_is_exact(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    back = from_model(to_model(images, 32))
    H, W = shape[-2:]
    top, left = (32 - H) // 2, (32 - W) // 2
    np.testing.assert_array_equal(back[:, :, top:top + H, left:left + W],
                                  images if images.ndim == 4 else images[:, None])
    assert back.sum() == images.sum()          # the frame is black


def test_black_is_minus_one_white_is_one_and_the_frame_is_black():
    x = to_model(np.array([[[0, 255]]], np.uint8), 4)
    assert x.dtype == np.float32 and x.shape == (1, 1, 4, 4)
    expected = np.full((4, 4), -1.0)
    expected[1, 2] = 1
    np.testing.assert_array_equal(x[0, 0], expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_from_model_clips_and_keeps_the_shape(dtype):
    p = from_model(np.array([[-np.inf, -1.5, -1, 0, 1, 7, np.inf]], dtype))
    assert p.dtype == np.uint8 and p.tolist() == [[0, 0, 0, 128, 255, 255, 255]]


BAD = {
    "too large": (lambda: to_model(np.zeros((1, 28, 28), np.uint8), 16),
                  "to_model: images of 28x28 do not fit into 16x16; size must be at least 28"),
    "floats": (lambda: to_model(np.zeros((1, 28, 28), np.float32)),
               "to_model: images must be uint8 (N,H,W) or (N,C,H,W), got float32 (1, 28, 28)"),
    "channels last": (lambda: dataset(images=np.zeros((10, 28, 28, 3), np.uint8)),
                      "toy: images are (10, 28, 28, 3), with the channels last; expected (N,C,H,W): images.transpose(0, 3, 1, 2)"),
    "channels last, to a model": (lambda: to_model(np.zeros((10, 28, 28, 1), np.uint8)),
                                  "to_model: images are (10, 28, 28, 1), with the channels last; expected (N,C,H,W): images.transpose(0, 3, 1, 2)"),
    "one image": (lambda: to_model(np.zeros((28, 28), np.uint8)),
                  "to_model: images must be uint8 (N,H,W) or (N,C,H,W), got uint8 (28, 28)"),
    "bytes": (lambda: from_model(np.zeros(3, np.uint8)),
              "from_model: x must be floating point in [-1, 1], got uint8 (3,)"),
    "NaN": (lambda: from_model(np.array([0, np.nan])),
            "from_model: 1 of 2 values are NaN; expected numbers in [-1, 1]"),
    "images' type": (lambda: dataset(images=np.zeros((10, 28, 28))),
                     "toy: images must be uint8 (N,H,W) or (N,C,H,W), got float64 (10, 28, 28)"),
    "labels' type": (lambda: dataset(labels=np.zeros(10, np.uint8)),
                     "toy: labels must be int64 (N,), got uint8 (10,)"),
    "counts": (lambda: dataset(labels=np.zeros(9, np.int64)),
               "toy: 10 images and 9 labels; expected one label for each image"),
    "range": (lambda: dataset(labels=np.arange(10) + 1),
              "toy: labels run from 1 to 10; its 10 classes are 0 to 9"),
    "style": (lambda: dataset(style={"slant": np.zeros(9, np.float32)}),
              "toy: style 'slant' must be float32 (10,), got float32 (9,)"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arrays_are_named(case):
    make, message = BAD[case]
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        make()


def test_arrays_become_ordinary_ones_and_masked_elements_are_refused():
    images = np.ma.array(np.zeros((2, 4, 4), np.uint8))
    toy = dataset(2, images, np.array([3, 1], ">i8"), {"slant": np.array([0.5, 1.0], ">f4")})
    for array, kind in ((toy.images, np.uint8), (toy.labels, np.int64), (toy.style["slant"], np.float32)):
        assert type(array) is np.ndarray and array.dtype == kind and array.dtype.isnative
    np.testing.assert_array_equal(toy.labels, [3, 1])
    images[0, 0, 0] = np.ma.masked
    with pytest.raises(BadInput, match="^1 of 32 elements of a masked array"):
        dataset(2, images)


@pytest.mark.parametrize("indices, rows", [([3, 1, 3], [3, 1, 3]), (slice(2, 5), [2, 3, 4]), ([], []),
                                           (np.arange(10) % 2 == 0, [0, 2, 4, 6, 8])])
def test_a_subset_keeps_everything_in_step(indices, rows):
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4), dtype=np.uint8)
    whole = dataset(images=images, style={"slant": np.arange(10, dtype=np.float32)})
    part = whole.subset(indices)
    assert part.labels.tolist() == rows and len(part) == len(rows)
    np.testing.assert_array_equal(part.images, images[np.array(rows, int)])
    np.testing.assert_array_equal(part.style["slant"], rows)
