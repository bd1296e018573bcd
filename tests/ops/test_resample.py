"""Images of another size: PyTorch's pixels for any sizes and factors, and what no resampling may change."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minidiff import ops
from minidiff.errors import BadInput
from minidiff.tensor import Tensor, tensor

MODES = [("nearest", None), ("bilinear", None), ("bilinear", False), ("bilinear", True)]
EACH_MODE = pytest.mark.parametrize(("mode", "align_corners"), MODES)


@EACH_MODE
def test_every_size_is_pytorchs(torch, rng, mode, align_corners):
    options = dict(mode=mode, align_corners=align_corners)
    for old in (1, 2, 3, 5, 8, 13):
        x = rng.standard_normal((1, 2, old, 6))
        for new in range(1, 30):
            theirs = torch.nn.functional.interpolate(torch.tensor(x), size=(new, 9), **options).numpy()
            np.testing.assert_allclose(ops.interpolate(Tensor(x), (new, 9), **options).data, theirs, atol=1e-12)


@EACH_MODE
def test_every_factor_is_pytorchs(torch, rng, mode, align_corners):
    """Also those where a place is almost a whole pixel, and those that leave the size as it was."""
    factors = [0.3, 0.5, 0.7, 1.0, 1.3, 1.5, 2, 2.2, 2.5, 3.4, 1 / 3, 2 / 3, 4 / 3, *rng.uniform(0.2, 4, 20)]
    for old in (1, 2, 3, 6, 7, 12):
        x = rng.standard_normal((1, 2, old, 5))
        for f in factors:
            if math.floor(old * f) >= 1:
                options = dict(scale_factor=(float(f), 1.7), mode=mode, align_corners=align_corners)
                theirs = torch.nn.functional.interpolate(torch.tensor(x), **options).numpy()
                np.testing.assert_allclose(ops.interpolate(Tensor(x), **options).data, theirs, atol=1e-12)


@EACH_MODE
@given(st.tuples(st.integers(1, 6), st.integers(1, 6)), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_a_plain_image_stays_plain(mode, align_corners, old, new):
    x = Tensor(np.full((1, 2, *old), 0.7))
    y = ops.interpolate(x, new, mode=mode, align_corners=align_corners)
    assert y.shape == (1, 2, *new)
    np.testing.assert_allclose(y.data, 0.7, rtol=1e-14)


def test_aligned_corners_stay_where_they_are(rng):
    x = rng.standard_normal((1, 1, 4, 5))
    y = ops.interpolate(Tensor(x), (9, 7), mode="bilinear", align_corners=True).data
    np.testing.assert_allclose(y[..., ::8, ::6], x[..., ::3, ::4], rtol=1e-13)


@EACH_MODE
def test_the_size_it_has_leaves_an_image_as_it_is(rng, mode, align_corners):
    x = rng.standard_normal((2, 1, 3, 5)).astype(np.float32)
    np.testing.assert_array_equal(ops.interpolate(Tensor(x), (3, 5), mode=mode, align_corners=align_corners).data, x)


def test_nearest_copies_numbers_and_keeps_nan_where_it_was():
    x = np.array([[[[np.nan, 1.0], [2.0, np.inf]]]])
    np.testing.assert_array_equal(ops.interpolate(Tensor(x), (3, 4)).data, x[:, :, [0, 0, 1]][..., [0, 0, 1, 1]])


@given(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3))
def test_pixel_shuffle_undoes_pixel_unshuffle(n, c, r, h, w):
    x = np.arange(n * c * h * w * r * r, dtype=np.float32).reshape(n, c, h * r, w * r)
    small = ops.pixel_unshuffle(Tensor(x), r)
    assert small.shape == (n, c * r * r, h, w)
    np.testing.assert_array_equal(ops.pixel_shuffle(small, r).data, x)


@EACH_MODE
def test_an_empty_batch_goes_through_in_its_dtype(mode, align_corners):
    x = Tensor(np.zeros((0, 2, 3, 4), np.float32), requires_grad=True)
    y = ops.interpolate(x, (5, 4), mode=mode, align_corners=align_corners)
    assert y.shape == (0, 2, 5, 4) and y.dtype == np.float32
    y.backward(np.zeros(y.shape, np.float32))
    assert x.grad.shape == x.shape


@given(st.integers(1, 9), st.floats(0.05, 5.0))
def test_no_place_lies_outside_the_image(old, factor):
    assume(math.floor(old * factor) >= 1)
    x = Tensor(np.arange(old, dtype=np.float64).reshape(1, 1, old, 1))
    for mode, align_corners in MODES:
        y = ops.interpolate(x, scale_factor=(factor, 1), mode=mode, align_corners=align_corners).data.ravel()
        assert len(y) == math.floor(old * factor)
        assert y.min() >= 0 and y.max() <= old - 1 and (np.diff(y) >= -1e-12).all()


def zeros(*shape, dtype=np.float32):
    return Tensor(np.zeros(shape, dtype))


X = zeros(2, 4, 8, 8)
MESSAGES = [
    (lambda: ops.interpolate(zeros(4, 8, 8), 2), "interpolate: x must be (N,C,H,W), got shape (4, 8, 8)"),
    (lambda: ops.interpolate(X), "interpolate: give either size or scale_factor; got size None, scale_factor None"),
    (lambda: ops.interpolate(X, 4, 2), "interpolate: give either size or scale_factor; got size 4, scale_factor 2"),
    (lambda: ops.interpolate(X, 1.5), "interpolate: size must be one or two whole numbers, 1 or more; got 1.5"),
    (lambda: ops.interpolate(X, scale_factor=-1.0), "interpolate: scale_factor must be one or two positive numbers, got -1.0"),
    (
        lambda: ops.interpolate(X, scale_factor=(1, 2, 3)),
        "interpolate: scale_factor must be one or two positive numbers, got (1, 2, 3)",
    ),
    (lambda: ops.interpolate(X, scale_factor=0.1), "interpolate: scale_factor 0.1 leaves nothing of the image (8, 8)"),
    (lambda: ops.interpolate(X, 4, mode="cubic"), "interpolate: mode 'cubic' is unknown; it is 'nearest' or 'bilinear'"),
    (
        lambda: ops.interpolate(X, 4, align_corners=True),
        "interpolate: align_corners=True has no meaning for mode 'nearest'; leave it out",
    ),
    (lambda: ops.interpolate(zeros(1, 1, 0, 2), 4), "interpolate: the images of x (1, 1, 0, 2) have no pixels"),
    (
        lambda: ops.interpolate(tensor(np.ones((1, 1, 2, 2), int)), 4),
        "interpolate: x must hold floating-point numbers, got int64",
    ),
    (lambda: ops.pixel_shuffle(zeros(1, 6, 4, 4), 2), "pixel_shuffle: 6 channels are no multiple of 2·2"),
    (lambda: ops.pixel_shuffle(X, 1.5), "pixel_shuffle: upscale_factor must be a whole number, 1 or more; got 1.5"),
    (lambda: ops.pixel_unshuffle(zeros(1, 1, 4, 5), 2), "pixel_unshuffle: a 4x5 image does not divide into 2x2 patches"),
    (lambda: ops.pixel_unshuffle(zeros(4, 4), 2), "pixel_unshuffle: x must be (N,C,H,W), got shape (4, 4)"),
    (lambda: ops.pixel_unshuffle(X, 0), "pixel_unshuffle: downscale_factor must be a whole number, 1 or more; got 0"),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_wrong_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()
