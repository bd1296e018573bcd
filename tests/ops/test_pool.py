"""Pooling: any geometry against the definition window by window, edges, ties and what PyTorch makes of them."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minidiff import ops
from minidiff.autograd import grad
from minidiff.errors import BadInput
from minidiff.ops.pool import AvgPool2d, MaxPool2d, _windows
from minidiff.tensor import Tensor, tensor

AXIS = st.fixed_dictionaries(
    {"size": st.integers(1, 7), "kernel_size": st.integers(1, 4), "stride": st.integers(1, 4), "padding": st.integers(0, 2),
     "dilation": st.integers(1, 3)}
)  # fmt: skip


def pooled(x, windows, reduce):
    """The definition: of each window, the pixels that lie in the image."""
    y = np.empty((*x.shape[:2], windows[0].positions, windows[1].positions))
    for i in range(windows[0].positions):
        for j in range(windows[1].positions):
            lines = [
                [k for k in range(p * w.stride - w.padding, p * w.stride - w.padding + w.dilation * w.kernel, w.dilation)
                 if 0 <= k < size]
                for p, w, size in zip((i, j), windows, x.shape[2:], strict=True)
            ]  # fmt: skip
            y[:, :, i, j] = reduce(x[:, :, lines[0]][..., lines[1]], axis=(2, 3))
    return y


def geometry(rows, columns, names):
    return {name: (rows[name], columns[name]) for name in names}


@settings(max_examples=100)
@given(AXIS, AXIS, st.booleans())
def test_max_pool2d_is_its_definition_for_any_geometry(rows, columns, ceil_mode):
    for axis in (rows, columns):
        assume(2 * axis["padding"] <= axis["kernel_size"])
        assume(axis["size"] + 2 * axis["padding"] > axis["dilation"] * (axis["kernel_size"] - 1))
    options = geometry(rows, columns, ("kernel_size", "stride", "padding", "dilation"))
    x = Tensor(np.random.default_rng(0).standard_normal((2, 1, rows["size"], columns["size"])), requires_grad=True)
    windows = _windows("max_pool2d", x, *options.values(), ceil_mode, 2)
    y = ops.max_pool2d(x, **options, ceil_mode=ceil_mode)
    # A dilated window beside a tiny image can miss it altogether.
    expected = pooled(x.data, windows, lambda a, axis: a.max(axis, initial=-np.inf))
    np.testing.assert_array_equal(y.data, expected)
    u = Tensor(np.random.default_rng(1).standard_normal(y.shape))
    other = MaxPool2d.reference(x, *windows)
    if np.isfinite(expected).all():
        np.testing.assert_allclose(grad(y, [x], u)[0].data, grad(other, [x], u)[0].data, rtol=1e-13, atol=1e-13)


@settings(max_examples=100)
@given(AXIS, AXIS, st.booleans())
def test_avg_pool2d_is_its_definition_for_any_geometry(rows, columns, ceil_mode):
    for axis in (rows, columns):
        assume(2 * axis["padding"] <= axis["kernel_size"] <= axis["size"] + 2 * axis["padding"])
    options = geometry(rows, columns, ("kernel_size", "stride", "padding"))
    x = Tensor(np.random.default_rng(0).standard_normal((2, 1, rows["size"], columns["size"])), requires_grad=True)
    windows = _windows("avg_pool2d", x, *options.values(), 1, ceil_mode, 2)
    y = ops.avg_pool2d(x, **options, ceil_mode=ceil_mode, count_include_pad=False)
    np.testing.assert_allclose(y.data, pooled(x.data, windows, np.mean), rtol=1e-12, atol=1e-12)
    u = Tensor(np.random.default_rng(1).standard_normal(y.shape))
    other = AvgPool2d.reference(x, *windows, n=y.creator.n)
    np.testing.assert_allclose(grad(y, [x], u)[0].data, grad(other, [x], u)[0].data, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("size", [(5, 6), (7, 8), (9, 11), (2, 3)])
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), (3, 3, 1), (2, 3, 1), (2, 1, 1)])
def test_sizes_and_counts_are_pytorchs(torch, rng, size, window, ceil_mode):
    x = rng.standard_normal((1, 2, *size))
    t, functional = torch.tensor(x), torch.nn.functional
    pairs = [(ops.max_pool2d(Tensor(x), *window, ceil_mode=ceil_mode), functional.max_pool2d(t, *window, ceil_mode=ceil_mode))]
    for count in (True, False):
        options = dict(ceil_mode=ceil_mode, count_include_pad=count)
        pairs.append((ops.avg_pool2d(Tensor(x), *window, **options), functional.avg_pool2d(t, *window, **options)))
    for ours, theirs in pairs:
        assert ours.shape == tuple(theirs.shape)
        np.testing.assert_allclose(ours.data, theirs.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (3, 4), (8, 9), (11, 2), (1, 13)])
def test_adaptive_windows_are_pytorchs(torch, rng, size):
    x = rng.standard_normal((2, 3, 7, 9))
    theirs = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(x), size).numpy()
    np.testing.assert_allclose(ops.adaptive_avg_pool2d(Tensor(x), size).data, theirs, rtol=1e-12, atol=1e-12)


# -------------------------------------------------------------------------------------- edges


def test_a_tie_goes_to_the_first_pixel_of_the_window():
    x = Tensor(np.ones((1, 1, 4, 4)), requires_grad=True)
    ops.max_pool2d(x, 2).sum().backward()
    np.testing.assert_array_equal(x.grad.data[0, 0], [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4])
    (again,) = grad(ops.max_pool2d(x, 2).sum(), [x], create_graph=True)
    np.testing.assert_array_equal(again.data, x.grad.data)


def test_overlapping_windows_add_up_at_the_pixel_they_share():
    x = Tensor(np.array([[[0.0, 5.0, 1.0, 2.0]]]), requires_grad=True)
    ops.max_pool1d(x, 2, stride=1).backward(np.array([[[1.0, 10.0, 100.0]]]))
    np.testing.assert_array_equal(x.grad.data, [[[0.0, 11.0, 0.0, 100.0]]])


def test_padding_is_never_the_largest():
    x = Tensor(np.full((1, 1, 3, 3), -5.0, np.float32), requires_grad=True)
    y = ops.max_pool2d(x, 3, stride=1, padding=1)
    assert (y.data == -5).all()
    y.sum().backward()
    assert x.grad.data.sum() == 9


def test_nan_is_larger_than_any_number_and_stays_in_its_windows(torch):
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 1, 1] = np.nan
    for name in ("max_pool2d", "avg_pool2d"):
        y = getattr(ops, name)(Tensor(x), 2).data
        np.testing.assert_array_equal(y, getattr(torch.nn.functional, name)(torch.tensor(x), 2).numpy())
        assert np.isnan(y).sum() == 1


def test_more_than_127_pixels_in_a_window(rng):
    x = Tensor(rng.standard_normal((1, 1, 40, 20)), requires_grad=True)
    y = ops.max_pool2d(x, (40, 20))
    y.backward(np.full(y.shape, 3.0))
    assert y.data.item() == x.data.max() and np.argmax(x.grad.data) == np.argmax(x.data) and x.grad.data.sum() == 3


def test_more_than_32767_pixels_in_a_window():
    numbers = np.zeros((1, 1, 182, 182), np.float32)
    numbers[0, 0, 181, 180] = 1.0
    x = tensor(numbers, requires_grad=True)
    y = ops.max_pool2d(x, 182)
    y.sum().backward()
    assert y.item() == 1.0
    np.testing.assert_array_equal(x.grad.numpy(), numbers)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: ops.max_pool2d(x, 3, padding=1),
        lambda x: ops.avg_pool2d(x, 2),
        lambda x: ops.avg_pool2d(x, 3, padding=1, count_include_pad=False),
        lambda x: ops.adaptive_avg_pool2d(x, (3, 2)),
        lambda x: ops.adaptive_avg_pool2d(x, 1),
        lambda x: ops.max_pool1d(x[:, :, 0], 2),
        lambda x: ops.avg_pool1d(x[:, :, 0], 2),
    ],
)
def test_an_empty_batch_goes_through_in_its_dtype(pool):
    x = Tensor(np.zeros((0, 2, 4, 4), np.float32), requires_grad=True)
    y = pool(x)
    assert y.shape[:2] == (0, 2) and y.dtype == np.float32
    y.backward(np.zeros(y.shape, np.float32))
    assert x.grad.shape == x.shape


def zeros(*shape, dtype=np.float32):
    return Tensor(np.zeros(shape, dtype))


X = zeros(2, 4, 8, 8)
MESSAGES = [
    (lambda: ops.max_pool2d(zeros(8, 8), 2), "max_pool2d: x must be (N,C,H,W), got shape (8, 8)"),
    (lambda: ops.avg_pool1d(X, 2), "avg_pool1d: x must be (N,C,L), got shape (2, 4, 8, 8)"),
    (lambda: ops.max_pool2d(tensor(np.ones((1, 1, 2, 2), int)), 2), "max_pool2d: x must hold floating-point numbers, got int64"),
    (lambda: ops.max_pool2d(X, 0), "max_pool2d: kernel_size must be one or two whole numbers, 1 or more; got 0"),
    (lambda: ops.max_pool2d(X, 2, stride=(1, 2, 3)), "max_pool2d: stride must be one or two whole numbers, 1 or more; got (1, 2, 3)"),
    (lambda: ops.max_pool1d(X[0], (2, 2)), "max_pool1d: kernel_size must be one whole number, 1 or more; got (2, 2)"),
    (lambda: ops.avg_pool2d(X, 2.5), "avg_pool2d: kernel_size must be one or two whole numbers, 1 or more; got 2.5"),
    (lambda: ops.avg_pool2d(X, 3, padding=2), "avg_pool2d: padding (2, 2) is more than half of kernel_size (3, 3)"),
    (
        lambda: ops.max_pool2d(X, (9, 2), dilation=2),
        "max_pool2d: kernel_size (9, 2) with dilation (2, 2) is larger than the image (8, 8) padded by (0, 0)",
    ),
    (
        lambda: ops.max_pool1d(zeros(1, 1, 0), 1),
        "max_pool1d: kernel_size (1,) with dilation (1,) is larger than the signal (0,) padded by (0,)",
    ),
    (lambda: ops.avg_pool2d(X, 2, divisor_override=0), "avg_pool2d: divisor_override must be a number other than 0, got 0"),
    (
        lambda: ops.adaptive_avg_pool2d(X, 0),
        "adaptive_avg_pool2d: output_size must be one or two whole numbers, 1 or more; got (0, 0)",
    ),
    (lambda: ops.adaptive_avg_pool2d(zeros(1, 1, 0, 3), 1), "adaptive_avg_pool2d: the images of x (1, 1, 0, 3) have no pixels"),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_wrong_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()
