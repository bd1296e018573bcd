"""What stands at the edge of an operation's domain: NaN, booleans, single numbers, no numbers, one image without a batch."""

import numpy as np
import pytest

import minidiff.nn.functional as F
from minidiff import ops
from minidiff.errors import BadInput
from minidiff.tensor import Tensor, tensor

NAN = float("nan")


def test_a_bound_of_nan_makes_nan():
    low, high = tensor([NAN, 0.0]), tensor([5.0, NAN])
    assert np.isnan(ops.clip(tensor([1.0, 2.0]), low, high).numpy()).all()
    np.testing.assert_array_equal(ops.clip(tensor([1.0, 2.0]), low).numpy(), [NAN, 2.0])
    np.testing.assert_array_equal(ops.clip(tensor([1.0, 2.0]), None, high).numpy(), [1.0, NAN])


def test_relu_passes_the_gradient_where_x_is_nan():
    x = tensor([NAN, -1.0, 0.0, 2.0], requires_grad=True)
    ops.relu(x).backward(np.full(4, 3.0, np.float32))
    np.testing.assert_array_equal(x.grad.numpy(), [3, 0, 0, 3])


def test_a_power_of_0_has_no_slope_even_at_nan():
    x = tensor([NAN, np.inf, 0.0, 2.0], requires_grad=True)
    ops.pow(x, tensor([0.0, 0.0, 0.0, 0.0])).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros(4))


@pytest.mark.parametrize("squared", [ops.square, lambda x: ops.pow(x, 2)])
def test_squares_of_booleans_are_int64(squared):
    y = squared(tensor([True, False]))
    assert y.dtype == np.int64 and y.tolist() == [1, 0]


def test_sum_to_counts_small_whole_numbers_as_int64():
    y = ops.sum_to(Tensor(np.full((3, 2), 200, np.uint8)), (1, 2))
    assert y.dtype == np.int64 and y.tolist() == [[600, 600]]


@pytest.mark.parametrize("eps", [-1e-5, NAN, np.inf])
@pytest.mark.parametrize(
    "norm",
    [
        lambda x, e: F.group_norm(x, 1, eps=e), lambda x, e: F.layer_norm(x, 4, eps=e), lambda x, e: F.instance_norm(x, eps=e),
        lambda x, e: F.batch_norm(x, None, None, training=True, eps=e), lambda x, e: F.group_norm_silu(x, 1, eps=e),
        lambda x, e: F.batch_norm(x, np.zeros(3, np.float32), np.ones(3, np.float32), eps=e),
    ],
)  # fmt: skip
def test_eps_must_be_finite_and_not_negative(norm, eps):
    with pytest.raises(BadInput, match="eps must be a finite number"):
        norm(tensor(np.ones((2, 3, 4), np.float32)), eps)


def test_batch_norm_needs_an_eps_above_0():
    with pytest.raises(BadInput) as error:
        F.batch_norm(tensor(np.ones((2, 3), np.float32)), None, None, training=True, eps=0.0)
    assert str(error.value) == "batch_norm: eps must be a finite number, above 0; got 0.0"


def test_ignore_index_beside_probabilities_is_refused():
    with pytest.raises(BadInput) as error:
        F.cross_entropy(tensor([[1.0, 2.0]]), tensor([[0.5, 0.5]]), ignore_index=1)
    assert str(error.value) == "cross_entropy: ignore_index 1 is for labels; with probabilities, give 0 for all classes"


@pytest.mark.parametrize("axis", [0, -1])
def test_a_single_number_has_axis_0(axis):
    for name in ("sum", "mean", "max", "min", "prod", "logsumexp", "cumsum"):
        x = tensor(3.0, requires_grad=True)
        y = getattr(ops, name)(x, axis)
        y.backward()
        assert y.shape == () and y.item() == 3.0 and x.grad.item() == 1.0
    assert ops.softmax(tensor(3.0), axis).item() == 1.0 and ops.log_softmax(tensor(3.0), axis).item() == 0.0
    assert ops.argmax(tensor(3.0), axis).item() == ops.argmin(tensor(3.0), axis).item() == 0
    with pytest.raises(BadInput, match="axis 1 is not in a tensor of 0 dimensions"):
        ops.sum(tensor(3.0), 1)


def test_plus_is_the_tensor_itself():
    x = tensor([1.0])
    assert +x is x


@pytest.mark.parametrize("shape", [(2, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("fn", [ops.softmax, ops.log_softmax], ids=["softmax", "log_softmax"])
def test_softmax_of_no_numbers_is_none(fn, shape):
    x = tensor(np.zeros(shape, np.float32), requires_grad=True)
    y = fn(x, -1)
    y.backward(np.zeros(shape, np.float32))
    assert y.shape == x.grad.shape == shape


def test_logsumexp_of_no_numbers_is_minus_infinity():
    x = tensor(np.zeros((2, 0), np.float32), requires_grad=True)
    y = ops.logsumexp(x, 1)
    y.sum().backward()
    assert y.tolist() == [-np.inf, -np.inf] and x.grad.shape == (2, 0)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (lambda x, w: F.group_norm(x, 1, w), (0, 3, 4)), (lambda x, w: F.group_norm(x, 1, w), (2, 3, 0)),
        (lambda x, w: F.instance_norm(x, weight=w), (0, 3, 4)), (lambda x, w: F.group_norm(x, 1, w), (2, 0)),
        (lambda x, w: F.instance_norm(x, weight=w), (2, 0, 4)), (lambda x, w: F.layer_norm(x, 0, w), (2, 0)),
        (lambda x, w: F.batch_norm(x, None, None, w, training=True), (0, 3)),
    ],
)  # fmt: skip
def test_norms_of_no_numbers_are_none_and_their_weights_get_zeros(norm, shape):
    w = tensor(np.ones(shape[1], np.float32), requires_grad=True)
    y = norm(tensor(np.zeros(shape, np.float32), requires_grad=True), w)
    y.sum().backward()
    assert y.shape == shape
    np.testing.assert_array_equal(w.grad.numpy(), np.zeros(shape[1]))


def test_an_empty_batch_leaves_the_statistics():
    mean, variance = np.ones(3, np.float32), np.full(3, 2, np.float32)
    F.batch_norm(tensor(np.zeros((0, 3), np.float32)), mean, variance, training=True)
    assert (mean == 1).all() and (variance == 2).all()


@pytest.mark.parametrize(
    ("fn", "ndim"),
    [
        (lambda x: F.conv1d(x, Tensor(np.ones((2, 3, 2), np.float32)), padding="same"), 1),
        (lambda x: F.conv2d(x, Tensor(np.ones((2, 3, 2, 2), np.float32)), padding=1), 2),
        (lambda x: F.conv_transpose1d(x, Tensor(np.ones((3, 2, 2), np.float32))), 1),
        (lambda x: F.conv_transpose2d(x, Tensor(np.ones((3, 2, 2, 2), np.float32))), 2),
        (lambda x: F.max_pool1d(x, 2), 1), (lambda x: F.max_pool2d(x, 2), 2), (lambda x: F.avg_pool1d(x, 2), 1),
        (lambda x: F.avg_pool2d(x, 2), 2), (lambda x: F.adaptive_avg_pool2d(x, 3), 2),
    ],
)  # fmt: skip
def test_one_image_without_a_batch_is_a_batch_of_one(fn, ndim):
    x = np.random.default_rng(0).standard_normal((3, *(4,) * ndim)).astype(np.float32)
    np.testing.assert_array_equal(fn(Tensor(x)).numpy(), fn(Tensor(x[None])).numpy()[0])
