"""Normalisation: what it leaves unchanged, what it remembers, where its parts agree with each other and with PyTorch."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import ops
from minidiff.autograd import grad
from minidiff.errors import BadInput
from minidiff.ops.norm import GroupNorm, Normalise
from minidiff.tensor import Tensor, tensor


def drawn(rng, *shape, dtype=np.float64):
    return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


# Each normalisation of x (N,C,H,W) without weights, and the axes that share a mean and a variance.
NORMS = {
    "layer_norm, last axis": (lambda x, eps: ops.layer_norm(x, x.shape[-1], eps=eps), (3,)),
    "layer_norm, whole sample": (lambda x, eps: ops.layer_norm(x, x.shape[1:], eps=eps), (1, 2, 3)),
    "instance_norm": (lambda x, eps: ops.instance_norm(x, eps=eps), (2, 3)),
    # batch_norm takes no ε of 0, but one that vanishes beside any variance
    "batch_norm": (lambda x, eps: ops.batch_norm(x, None, None, training=True, eps=eps or 1e-30), (0, 2, 3)),
}
EACH = pytest.mark.parametrize("name", NORMS)


@EACH
def test_what_comes_out_has_mean_0_and_variance_1(rng, name):
    norm, axes = NORMS[name]
    y = norm(drawn(rng, 3, 4, 5, 6), 0.0).data
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-12)


@EACH
@pytest.mark.parametrize("scale", [3.0, 0.25])
def test_scale_and_shift_of_the_input_change_nothing(rng, name, scale):
    norm, axes = NORMS[name]
    x = drawn(rng, 3, 4, 5, 6)
    shift = rng.standard_normal(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    np.testing.assert_allclose(norm(Tensor(scale * x.data + shift), 0.0).data, norm(x, 0.0).data, rtol=1e-9, atol=1e-9)


@EACH
def test_so_the_gradient_has_no_part_along_a_shift_or_a_scaling(rng, name):
    norm, axes = NORMS[name]
    x = drawn(rng, 3, 4, 5, 6)
    y = norm(x, 0.0)
    y.backward(rng.standard_normal(y.shape))
    np.testing.assert_allclose(x.grad.data.mean(axes), 0, atol=1e-13)
    np.testing.assert_allclose((x.grad.data * y.data).mean(axes), 0, atol=1e-13)


@EACH
def test_a_large_mean_costs_no_digits_of_the_rest(rng, name):
    """float32 holds a mean of 4096 to 2.4e-4, a few 1e-5 of the deviation 16. Mean of squares less square of
    the mean would lose 1e-2: 4096² is held to 1 only, where the variance is 256.
    """
    norm, _ = NORMS[name]
    x = (rng.standard_normal((3, 4, 5, 6)) * 16 + 4096).astype(np.float32)
    np.testing.assert_allclose(norm(Tensor(x), 1e-5).data, norm(Tensor(x.astype(np.float64)), 1e-5).data, atol=2e-4)


@EACH
def test_where_all_numbers_are_one_and_the_same_eps_keeps_the_gradient_finite(name):
    norm, _ = NORMS[name]
    x = Tensor(np.full((2, 3, 4, 4), 7.0, np.float32), requires_grad=True)
    y = norm(x, 1e-5)
    y.backward(np.ones(y.shape, np.float32))
    assert not y.data.any() and np.isfinite(x.grad.data).all()


def test_the_four_are_one_where_they_share_the_same_numbers(rng):
    x, w, b = drawn(rng, 2, 4, 3, 3), drawn(rng, 4), drawn(rng, 4)
    every = dict(rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ops.instance_norm(x, None, None, w, b).data, ops.group_norm(x, 4, w, b).data, **every)
    np.testing.assert_allclose(ops.layer_norm(x, (4, 3, 3)).data, ops.group_norm(x, 1).data, **every)
    one = x[:1]
    np.testing.assert_allclose(
        ops.batch_norm(one, None, None, w, b, training=True).data, ops.instance_norm(one, None, None, w, b).data, **every
    )


@given(st.integers(0, 3), st.integers(1, 3), st.lists(st.integers(1, 4), max_size=3))
def test_layer_norm_is_pytorchs_definition_for_any_shape(n, d, lead):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, *lead, d, 2))
    w, b = rng.standard_normal((2, d, 2))
    centred = x - x.mean((-1, -2), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean((-1, -2), keepdims=True) + 1e-5) * w + b
    y = ops.layer_norm(Tensor(x), (d, 2), Tensor(w), Tensor(b))
    assert y.shape == x.shape
    np.testing.assert_allclose(y.data, expected, rtol=1e-9, atol=1e-9)


def assert_kernel_equals_reference(op, xs, **options):
    y, z = op(**options)(*xs), op.reference(*xs, **options)
    u = Tensor(np.random.default_rng(1).standard_normal(y.shape))
    for actual, expected in zip([y, *grad(y, xs, u)], [z, *grad(z, xs, u)], strict=True):
        np.testing.assert_allclose(actual.data, expected.data, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 7), (2, 4, 5, 3), (2, 4, 3, 2, 2)])
def test_group_norms_kernel_is_its_reference_in_any_number_of_dimensions(rng, shape):
    assert_kernel_equals_reference(GroupNorm, [drawn(rng, *shape), drawn(rng, 4), drawn(rng, 4)], groups=2, eps=1e-5)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_normalise_is_its_reference_over_any_axes_and_with_weights_along_any(shape, data):
    some = st.lists(st.sampled_from(range(len(shape))), unique=True, min_size=1)
    axes, owned = tuple(data.draw(some)), data.draw(some)
    rng = np.random.default_rng(0)
    weights = [n if i in owned else 1 for i, n in enumerate(shape)]
    xs = [drawn(rng, *shape), drawn(rng, *weights), drawn(rng, *weights)]
    assert_kernel_equals_reference(Normalise, xs, axes=axes, eps=0.1)


# -------------------------------------------------------------------------------------- statistics


def test_batch_norm_moves_its_statistics_towards_the_batchs_unbiased_ones(rng):
    x = rng.standard_normal((3, 2, 4)) * 3 + 1
    mean, variance = np.array([1.0, 2.0]), np.array([4.0, 5.0])
    moved, kept = mean.copy(), variance.copy()
    ops.batch_norm(Tensor(x), moved, kept, training=True, momentum=0.25)
    np.testing.assert_allclose(moved, 0.75 * mean + 0.25 * x.mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(kept, 0.75 * variance + 0.25 * x.var((0, 2), ddof=1), rtol=1e-12)


def test_evaluation_leaves_the_statistics_alone_and_a_sample_to_itself(rng):
    mean, variance = rng.standard_normal(3), rng.uniform(0.5, 2, 3)
    before = mean.copy(), variance.copy()
    x = rng.standard_normal((4, 3, 2, 2))
    together = ops.batch_norm(Tensor(x), mean, variance).data
    alone = ops.batch_norm(Tensor(x[2:3]), mean, variance).data
    np.testing.assert_array_equal(together[2:3], alone)
    np.testing.assert_array_equal((mean, variance), before)


def test_statistics_may_have_another_dtype_than_x_and_keep_it(rng):
    mean, variance = np.zeros(2, np.float32), np.ones(2, np.float32)
    y = ops.batch_norm(drawn(rng, 5, 2), mean, variance, training=True)
    assert y.dtype == np.float64 and mean.dtype == variance.dtype == np.float32 and mean.any()
    assert ops.batch_norm(drawn(rng, 5, 2), mean, variance).dtype == np.float64


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_batch_norm_remembers_as_pytorch_does(torch, rng, shape):
    ours = [np.full(3, 0.5), np.full(3, 2.0)]
    theirs = [torch.tensor(a) for a in ours]
    for _ in range(3):
        x = rng.standard_normal(shape)
        y = ops.batch_norm(Tensor(x), *ours, training=True, momentum=0.3)
        z = torch.nn.functional.batch_norm(torch.tensor(x), *theirs, training=True, momentum=0.3)
        np.testing.assert_allclose(y.data, z.numpy(), rtol=1e-10, atol=1e-10)
    for a, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, t.numpy(), rtol=1e-12)


def test_instance_norm_remembers_as_pytorch_does(torch, rng):
    ours = [np.full(3, 0.5), np.full(3, 2.0)]
    theirs = [torch.tensor(a) for a in ours]
    x = rng.standard_normal((2, 3, 4, 5))
    ops.instance_norm(Tensor(x), *ours, momentum=0.3)
    torch.nn.functional.instance_norm(torch.tensor(x), *theirs, momentum=0.3)
    for a, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, t.numpy(), rtol=1e-12)


# ------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: ops.layer_norm(x, 4),
        lambda x: ops.instance_norm(x),
        lambda x: ops.instance_norm(x, np.zeros(2, np.float32), np.ones(2, np.float32)),
        lambda x: ops.batch_norm(x, np.zeros(2, np.float32), np.ones(2, np.float32)),
        lambda x: GroupNorm.reference(x, *(Tensor(np.ones(2, np.float32)),) * 2, groups=2, eps=1e-5),
    ],
    ids=["layer_norm", "instance_norm", "instance_norm, remembering", "batch_norm, evaluation", "GroupNorm.reference"],
)
def test_an_empty_batch_goes_through(norm):
    x = Tensor(np.zeros((0, 2, 3, 4), np.float32), requires_grad=True)
    y = norm(x)
    y.backward(np.zeros(y.shape, np.float32))
    assert y.shape == x.grad.shape == x.shape


def zeros(*shape, dtype=np.float32):
    return Tensor(np.zeros(shape, dtype))


X, C = zeros(2, 4, 8, 8), np.zeros(4, np.float32)
MESSAGES = [
    (lambda: ops.layer_norm(X, 4), "layer_norm: x (2, 4, 8, 8) does not end in normalized_shape (4,)"),
    (lambda: ops.layer_norm(X, (4, 8)), "layer_norm: x (2, 4, 8, 8) does not end in normalized_shape (4, 8)"),
    (lambda: ops.layer_norm(zeros(), ()), "layer_norm: x () does not end in normalized_shape ()"),
    (lambda: ops.layer_norm(zeros(2, 0), 1), "layer_norm: x (2, 0) does not end in normalized_shape (1,)"),
    (lambda: ops.layer_norm(X, 8, zeros(4)), "layer_norm: weight must have shape (8,), got (4,) (x (2, 4, 8, 8))"),
    (lambda: ops.layer_norm(tensor([1, 2]), 2), "layer_norm: x must hold floating-point numbers, got int64"),
    (
        lambda: ops.layer_norm(X, 8, zeros(8), zeros(8, dtype=np.float64)),
        "layer_norm: bias is float64, x is float32; they must be alike",
    ),
    (lambda: ops.instance_norm(zeros(2, 4)), "instance_norm: x must be (N,C,L,…), got shape (2, 4)"),
    (
        lambda: ops.instance_norm(zeros(2, 4, 1)),
        "instance_norm: one number has no variance; x (2, 4, 1) has one per sample and channel",
    ),
    (
        lambda: ops.instance_norm(X, use_input_stats=False),
        "instance_norm: running_mean is needed to normalise by, got None",
    ),
    (lambda: ops.batch_norm(zeros(4), C, C), "batch_norm: x must be (N,C,…), got shape (4,)"),
    (lambda: ops.batch_norm(X, None, None), "batch_norm: running_mean is needed to normalise by, got None"),
    (lambda: ops.batch_norm(X, C, None), "batch_norm: running_var is needed to normalise by, got None"),
    (lambda: ops.batch_norm(X, None, C, training=True), "batch_norm: running_mean is needed beside the other, got None"),
    (
        lambda: ops.batch_norm(X, C[:3], C),
        "batch_norm: running_mean must have shape (4,), got (3,) (x (2, 4, 8, 8))",
    ),
    (lambda: ops.batch_norm(X, C, C, zeros(3)), "batch_norm: weight must have shape (4,), got (3,) (x (2, 4, 8, 8))"),
    (
        lambda: ops.batch_norm(zeros(1, 4), C, C, training=True),
        "batch_norm: training needs two or more numbers per channel, x (1, 4) has 1",
    ),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_wrong_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()


def test_read_only_statistics_are_refused_where_training_would_move_them():
    fixed = np.broadcast_to(np.float32(0.0), (3,))
    x = Tensor(np.ones((4, 3), np.float32))
    with pytest.raises(BadInput) as error:
        ops.batch_norm(x, fixed, np.ones(3, np.float32), training=True)
    assert str(error.value) == "batch_norm: running_mean is read-only, and training moves it; give a copy"
    ops.batch_norm(x, fixed, np.ones(3, np.float32))                # only read here
