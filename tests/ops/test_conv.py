"""Convolution and its transpose: any geometry, large images, adjointness, repeatability."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minidiff import backend, ops
from minidiff.autograd import grad
from minidiff.errors import BadInput
from minidiff.kernels import cpu
from minidiff.ops.conv import Conv2d, ConvTranspose2d, output_size
from minidiff.tensor import Tensor

pair = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))  # noqa: E731
GEOMETRY = st.fixed_dictionaries(
    {
        "n": st.integers(1, 3), "groups": st.integers(1, 3), "c": st.integers(1, 2), "o": st.integers(1, 2),
        "image": pair(1, 9), "kernel": pair(1, 4), "stride": pair(1, 4), "padding": pair(0, 4), "dilation": pair(1, 3),
    }
)  # fmt: skip


def tensors(rng, *shapes, dtype=np.float64):
    return [Tensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in shapes]


def positions(g):
    """H', W' of a convolution of this geometry."""
    axes = zip(g["image"], g["kernel"], g["stride"], g["padding"], g["dilation"], strict=True)
    return tuple(output_size(*axis) for axis in axes)


def assert_kernel_equals_reference(op, xs, tolerance=1e-11, **options):
    """Values and all gradients of the kernel against those of the textbook definition."""
    y, z = op(**options)(*xs), op.reference(*xs, **options)
    u = Tensor(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype))
    for actual, expected in zip([y, *grad(y, xs, u)], [z, *grad(z, xs, u)], strict=True):
        scale = 1 + np.abs(expected.data).max()
        np.testing.assert_allclose(actual.data, expected.data, rtol=tolerance, atol=tolerance * scale)


@settings(max_examples=100)
@given(GEOMETRY)
def test_conv2d_is_its_reference_for_any_geometry(g):
    assume(min(positions(g)) >= 1)
    groups = g["groups"]
    shapes = (g["n"], groups * g["c"], *g["image"]), (groups * g["o"], g["c"], *g["kernel"]), (groups * g["o"],)
    options = {k: g[k] for k in ("stride", "padding", "dilation", "groups")}
    assert_kernel_equals_reference(Conv2d, tensors(np.random.default_rng(0), *shapes), **options)


@settings(max_examples=100)
@given(GEOMETRY, pair(0, 3))
def test_conv_transpose2d_is_its_reference_for_any_geometry(g, extra):
    extra = tuple(min(e, max(s, d) - 1) for e, s, d in zip(extra, g["stride"], g["dilation"], strict=True))
    groups = g["groups"]
    axes = zip(g["image"], g["kernel"], g["stride"], g["padding"], g["dilation"], extra, strict=True)
    assume(min((size - 1) * s - 2 * p + d * (k - 1) + e + 1 for size, k, s, p, d, e in axes) >= 1)
    shapes = (g["n"], groups * g["c"], *g["image"]), (groups * g["c"], g["o"], *g["kernel"]), (groups * g["o"],)
    options = {k: g[k] for k in ("stride", "padding", "dilation", "groups")} | {"output_padding": extra}
    assert_kernel_equals_reference(ConvTranspose2d, tensors(np.random.default_rng(0), *shapes), **options)


@settings(max_examples=60)
@given(GEOMETRY)
def test_the_two_are_each_others_adjoint(g):
    """⟨conv(x), y⟩ = ⟨x, conv_transpose(y)⟩ with one and the same weight."""
    assume(min(positions(g)) >= 1)
    # The rows that a stride leaves over below the last position; without output_padding they would be cut off.
    axes = zip(g["image"], g["kernel"], g["stride"], g["padding"], g["dilation"], strict=True)
    extra = tuple((size + 2 * p - d * (k - 1) - 1) % s for size, k, s, p, d in axes)
    options = {k: g[k] for k in ("stride", "padding", "dilation", "groups")}
    groups = g["groups"]
    x, w, y = tensors(
        np.random.default_rng(0), (g["n"], groups * g["c"], *g["image"]), (groups * g["o"], g["c"], *g["kernel"]),
        (g["n"], groups * g["o"], *positions(g)),
    )  # fmt: skip
    back = ops.conv_transpose2d(y, w, output_padding=extra, **options)
    assert back.shape == x.shape
    assert np.isclose((ops.conv2d(x, w, **options) * y).sum().item(), (x * back).sum().item(), rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------------- larger than the kernels' blocks

LARGE = [
    pytest.param((2, 16, 64, 64), (8, 16, 3, 3), dict(padding=(1, 1)), id="same size"),
    pytest.param((2, 8, 96, 100), (4, 8, 3, 3), dict(stride=(2, 2), padding=(1, 1)), id="stride 2"),
    pytest.param((2, 8, 67, 71), (6, 4, 5, 3), dict(padding=(3, 0), groups=2), id="prime sizes, groups"),
    pytest.param((1, 4, 128, 96), (4, 4, 3, 3), dict(padding=(2, 2), dilation=(2, 2)), id="dilation"),
    pytest.param((3, 32, 32, 32), (32, 32, 1, 1), {}, id="1x1"),
    pytest.param((2, 4, 80, 80), (2, 4, 3, 3), dict(padding=(4, 4)), id="padding beyond the kernel"),
]  # fmt: skip


@pytest.mark.parametrize(("image", "weight", "options"), LARGE)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-4), ("float64", 1e-11)])
def test_large_images_are_worked_on_in_blocks_without_a_seam(rng, image, weight, options, dtype, tolerance):
    """A row of float32 gw here adds up to 10,000 products: √10,000 roundings of 6e-8 each, and some reserve."""
    options = dict(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1) | options
    xs = tensors(rng, image, weight, weight[:1], dtype=dtype)
    assert_kernel_equals_reference(Conv2d, xs, tolerance, **options)


def test_large_transposed_convolution(rng):
    xs = tensors(rng, (2, 8, 48, 50), (8, 4, 2, 2), (4,))
    options = dict(stride=(2, 2), padding=(0, 0), output_padding=(0, 0), dilation=(1, 1), groups=1)
    assert_kernel_equals_reference(ConvTranspose2d, xs, **options)


@pytest.mark.parametrize("size", [(3, 200_001), (2, 131_072), (131_073,)])
def test_elementwise_kernels_have_no_seam_between_blocks(rng, size):
    x, gy = rng.standard_normal((2, *size))
    one_by_one = np.concatenate([cpu.gelu(row, "none") for row in np.array_split(x.ravel(), 7)])
    np.testing.assert_array_equal(cpu.gelu(x, "none").ravel(), one_by_one)
    rows = zip(np.array_split(x.ravel(), 7), np.array_split(gy.ravel(), 7), strict=True)
    slopes = np.concatenate([cpu.gelu_backward(*row, "none") for row in rows])
    np.testing.assert_array_equal(cpu.gelu_backward(x, gy, "none").ravel(), slopes)


# ------------------------------------------------------------------------------------ repeatability


def everything(dtype=np.float32):
    """The bytes of a forward and backward pass through all kernels."""
    rng = np.random.default_rng(0)
    x, w, v = tensors(rng, (5, 8, 24, 24), (16, 8, 3, 3), (16, 8, 2, 2), dtype=dtype)
    gamma, beta = tensors(rng, (16,), (16,), dtype=dtype)
    h = ops.group_norm_gelu(ops.conv2d(x, w, stride=2, padding=1), 4, gamma, beta)
    y = ops.conv_transpose2d(h, v, stride=2)
    y = ops.gelu(ops.group_norm(y, 2))
    gs = grad(y, [x, w, v, gamma, beta], rng.standard_normal(y.shape).astype(dtype))
    return [t.data for t in (y, *gs)]


def test_results_are_the_same_bit_for_bit_every_time():
    first = everything()
    for _ in range(3):
        for a, b in zip(first, everything(), strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing_but_rounding(threads):
    before = backend.get_num_threads()
    expected = everything(np.float64)
    try:
        backend.set_num_threads(threads)
        actual = everything(np.float64)
    finally:
        backend.set_num_threads(before)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * np.abs(b).max())


def test_samples_of_a_batch_do_not_touch_each_other(rng):
    x, w = tensors(rng, (5, 3, 6, 6), (4, 3, 3, 3))
    alone = [ops.conv2d(Tensor(x.data[i : i + 1]), w, padding=1).data for i in range(5)]
    np.testing.assert_allclose(ops.conv2d(x, w, padding=1).data, np.concatenate(alone), rtol=1e-13, atol=1e-13)


def test_a_kernel_of_one_in_the_middle_copies_the_image(rng):
    (x,) = tensors(rng, (2, 3, 5, 4))
    w = np.zeros((3, 3, 3, 3))
    w[range(3), range(3), 1, 1] = 1.0
    np.testing.assert_array_equal(ops.conv2d(x, Tensor(w), padding=1).data, x.data)


# ------------------------------------------------------------------------------- what is not computed


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["x alone", "weight alone"])
@pytest.mark.parametrize("stride", [1, 2])
def test_kernels_leave_out_the_gradient_nobody_needs(rng, monkeypatch, name, needs, stride):
    monkeypatch.setattr(backend, "_kernels", "numpy")
    given_back, kernel = [], getattr(cpu, f"{name}_backward")

    def watched(*args, **options):
        given_back.append(kernel(*args, **options))
        return given_back[-1]

    monkeypatch.setattr(cpu, f"{name}_backward", watched)
    x, w = (Tensor(t.data, requires_grad=n) for t, n in zip(tensors(rng, (1, 2, 5, 5), (2, 2, 3, 3)), needs, strict=True))
    getattr(ops, name)(x, w, stride=stride).sum().backward()
    assert [[g is not None for g in gs] for gs in given_back] == [[*needs, False]]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("op", "image", "weight", "options"),
    [
        (Conv2d, (4, 1, 1, 1), (1, 1, 1, 3), dict(padding=(0, 2), dilation=(1, 2))),
        (Conv2d, (4, 3, 8, 8), (4, 3, 3, 3), dict(padding=(12, 12), dilation=(12, 12))),
        (ConvTranspose2d, (4, 2, 3, 3), (2, 3, 3, 3), dict(padding=(4, 4), dilation=(4, 4), output_padding=(0, 0))),
    ],
    ids=["a signal", "dilation 12", "transposed"],
)
def test_a_tap_outside_the_image_adds_nothing_to_any_sample(rng, threads, op, image, weight, options):
    """Samples lie side by side in float32's product: what belongs to none of one must not reach into the next."""
    before = backend.get_num_threads()
    backend.set_num_threads(threads)
    try:
        xs = tensors(rng, image, weight, dtype=np.float32)
        assert_kernel_equals_reference(op, xs, 1e-5, **(dict(stride=(1, 1), groups=1) | options))
    finally:
        backend.set_num_threads(before)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 21])
def test_every_sample_is_computed_whatever_the_blocks(n, rng):
    """Small images share matrix products, several samples each; the last block of a thread is often smaller."""
    x, w, gy = rng.standard_normal((n, 3, 8, 8)), rng.standard_normal((4, 3, 3, 3)), rng.standard_normal((n, 4, 8, 8))
    ours, theirs = ([Tensor(a.copy(), requires_grad=True) for a in (x, w)] for _ in range(2))
    y = ops.conv2d(*ours, padding=1)
    expected = Conv2d.reference(*theirs, padding=(1, 1))
    y.backward(gy)
    expected.backward(gy)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), atol=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-11)


# ------------------------------------------------------------------- named paddings, signals, errors


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (4, 5), (3, 6)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
def test_padding_same_keeps_the_size_and_is_pytorchs(torch, rng, kernel, dilation):
    x, w = tensors(rng, (2, 2, 6, 7), (3, 2, *kernel))
    theirs = torch.nn.functional.conv2d(torch.tensor(x.data), torch.tensor(w.data), padding="same", dilation=dilation)
    y = ops.conv2d(x, w, padding="same", dilation=dilation)
    assert y.shape == (2, 3, 6, 7)
    np.testing.assert_allclose(y.data, theirs.numpy(), rtol=1e-11, atol=1e-11)


def test_padding_valid_is_none(rng):
    x, w = tensors(rng, (1, 2, 6, 7), (3, 2, 3, 2))
    np.testing.assert_array_equal(
        ops.conv2d(x, w, padding="valid", stride=2).data, ops.conv2d(x, w, padding=0, stride=2).data
    )


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 2}, {"dilation": 2, "groups": 2}])
def test_a_signal_is_an_image_one_pixel_high(rng, options):
    x, w, v = tensors(rng, (3, 4, 9), (6, 4 // options.get("groups", 1), 3), (4, 5, 3))
    lines = {k: (1 if k != "padding" else 0, n) if k != "groups" else n for k, n in options.items()}
    images = [Tensor(t.data[:, :, None]) for t in (x, w, v)]
    np.testing.assert_array_equal(ops.conv1d(x, w, **options).data, ops.conv2d(*images[:2], **lines).data[:, :, 0])
    back, wide = ops.conv_transpose1d(x, v, **options), ops.conv_transpose2d(images[0], images[2], **lines)
    np.testing.assert_array_equal(back.data, wide.data[:, :, 0])


@pytest.mark.parametrize("op", [Conv2d, ConvTranspose2d])
def test_the_reference_of_an_empty_batch_is_empty(op):
    x, w = tensors(np.random.default_rng(0), (0, 2, 4, 4), (2, 2, 3, 3))
    y = op.reference(x, w)
    y.sum().backward()
    assert y.shape[:2] == (0, 2) and not w.grad.data.any()


def zeros(*shape, dtype=np.float32):
    return Tensor(np.zeros(shape, dtype))


X, L = zeros(2, 4, 8, 8), zeros(2, 4, 8)
MESSAGES = [
    (lambda: ops.conv2d(X, zeros(4, 4, 3, 3), padding="full"), "conv2d: padding 'full' is unknown; it is 'same', 'valid' or whole numbers"),
    (
        lambda: ops.conv2d(X, zeros(4, 4, 3, 3), padding="same", stride=2),
        "conv2d: padding 'same' needs stride 1, got stride (2, 2); give the padding in numbers",
    ),
    (lambda: ops.conv2d(X, zeros(4, 4, 0, 3)), "conv2d: weight (4, 4, 0, 3) has no elements"),
    (lambda: ops.conv2d(X, zeros(4, 4, 3, 3), dilation=1.5), "conv2d: dilation must be one or two whole numbers, 1 or more; got 1.5"),
    (lambda: ops.conv1d(X, zeros(4, 4, 3)), "conv1d: x must be (N,C,L) and weight have 3 dimensions (x (2, 4, 8, 8), weight (4, 4, 3), groups 1)"),
    (lambda: ops.conv1d(L, zeros(4, 3, 3)), "conv1d: weight expects 3 input channels, x has 4 (x (2, 4, 8), weight (4, 3, 3), groups 1)"),
    (lambda: ops.conv1d(L, zeros(4, 4, 9)), "conv1d: kernel (9,) with dilation (1,) is larger than the signal (8,) padded by (0,)"),
    (lambda: ops.conv1d(L, zeros(4, 4, 3), stride=(2, 2)), "conv1d: stride must be one whole number, 1 or more; got (2, 2)"),
    (lambda: ops.conv1d(L, zeros(5, 4, 3), zeros(4)), "conv1d: bias must have shape (5,), got (4,)"),
    (
        lambda: ops.conv_transpose1d(L, zeros(4, 2, 3), stride=2, output_padding=2),
        "conv_transpose1d: output_padding (2,) must be smaller than stride (2,) or dilation (1,)",
    ),
    (
        lambda: ops.conv_transpose1d(zeros(1, 1, 1), zeros(1, 1, 1), padding=1),
        "conv_transpose1d: padding (1,) leaves nothing of the signal: it would come out as (-1,)",
    ),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_wrong_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()
