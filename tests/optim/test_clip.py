"""Clipping: one factor, nothing shared is written to, a norm that is not finite is left alone."""

import numpy as np
import pytest

from minidiff import nn, optim
from minidiff.errors import BadInput
from minidiff.tensor import Tensor


def with_gradients(*arrays):
    params = [Tensor(np.zeros_like(g), requires_grad=True) for g in arrays]
    for p, g in zip(params, arrays, strict=True):
        p.grad = Tensor(g)
    return params


def random(scale=1.0, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [(scale * rng.standard_normal(shape)).astype(dtype) for shape in [(3, 4), (), (50,)]]


def norm(params):
    return np.sqrt(sum(np.square(p.grad.numpy(), dtype=np.float64).sum() for p in params))


def test_the_norm_before_is_returned_and_the_norm_after_is_the_bound():
    params = with_gradients(*random())
    before = norm(params)
    assert optim.clip_grad_norm(params, 0.5) == pytest.approx(before, rel=1e-6)
    assert norm(params) == pytest.approx(0.5, rel=1e-5)


def test_the_direction_is_kept():
    params = with_gradients(*random())
    optim.clip_grad_norm(params, 0.5)
    ratios = np.concatenate([(p.grad.numpy() / g).ravel() for p, g in zip(params, random(), strict=True)])
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-6)


def test_gradients_within_the_bound_are_the_same_tensors():
    params = with_gradients(*random(1e-3))
    tensors = [p.grad for p in params]
    optim.clip_grad_norm(params, 1.0)
    assert all(p.grad is t for p, t in zip(params, tensors, strict=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_are_not_written_to_and_keep_their_dtype(dtype):
    arrays = random(10, dtype)
    for g in arrays:
        g.setflags(write=False)
    params = with_gradients(*arrays)
    optim.clip_grad_norm(params, 1.0)
    assert all(p.grad.dtype == dtype for p in params)
    assert norm(params) == pytest.approx(1, rel=1e-2)


def test_a_gradient_shared_by_two_parameters_counts_twice_and_is_scaled_once():
    params = with_gradients(np.array([3.0], np.float32), np.array([0.0], np.float32))
    params[1].grad = params[0].grad
    assert optim.clip_grad_norm(params, 1.0) == pytest.approx(18**0.5)
    assert params[0].grad.item() == params[1].grad.item() == pytest.approx(0.5**0.5, rel=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_norm_that_is_not_finite_is_returned_and_nothing_changes(bad):
    arrays = random(10)
    arrays[2][7] = bad
    params = with_gradients(*arrays)
    tensors = [p.grad for p in params]
    assert not np.isfinite(optim.clip_grad_norm(params, 1.0))
    assert all(p.grad is t for p, t in zip(params, tensors, strict=True))


@pytest.mark.parametrize(("dtype", "value"), [(np.float16, 3e4), (np.float32, 1e30)])
def test_squares_that_leave_the_dtype_do_not_make_the_norm_infinite(dtype, value):
    params = with_gradients(np.full(4, value, dtype))
    assert optim.clip_grad_norm(params, 1.0) == pytest.approx(2 * value, rel=1e-3)
    np.testing.assert_allclose(params[0].grad.numpy(), 0.5, rtol=1e-3)


def test_parameters_may_be_a_generator_and_may_lack_gradients():
    params = [Tensor(np.zeros(3), requires_grad=True), *with_gradients(np.array([6.0, 8.0]))]
    assert optim.clip_grad_norm((p for p in params), 5.0) == 10
    assert params[0].grad is None
    np.testing.assert_allclose(params[1].grad.numpy(), [3, 4], rtol=1e-6)
    assert optim.clip_grad_norm(params[:1], 1.0) == 0.0


def test_one_tensor_is_one_parameter():
    """Taken for a list it would be its rows, which have no gradients."""
    w = Tensor(np.array([3.0, 4.0]), requires_grad=True)
    (w * w).sum().backward()
    assert optim.clip_grad_norm(w, 1.0) == 10
    np.testing.assert_allclose(w.grad.numpy(), [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (nn.Linear(2, 2), "clip_grad_norm: params must be a list of tensors, not a Linear; give its .parameters()"),
        (None, "clip_grad_norm: params must be a list of tensors, not a NoneType"),
        (np.zeros((2, 3)), "clip_grad_norm: params must be tensors, got ndarray"),
    ],
)
def test_what_is_no_list_of_tensors_is_refused(parameters, message):
    with pytest.raises(BadInput) as error:
        optim.clip_grad_norm(parameters, 1.0)
    assert str(error.value) == message


def test_an_infinite_bound_only_measures():
    params = with_gradients(np.array([6.0, 8.0]))
    assert optim.clip_grad_norm(params, np.inf) == 10
    assert np.array_equal(params[0].grad.numpy(), [6, 8])


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 100.0])
def test_clipping_is_pytorchs(max_norm):
    torch = pytest.importorskip("torch")
    params = with_gradients(*random(dtype=np.float64))
    twins = [torch.zeros(p.shape, dtype=torch.float64, requires_grad=True) for p in params]
    for twin, g in zip(twins, random(dtype=np.float64), strict=True):
        twin.grad = torch.from_numpy(np.array(g))
    theirs = torch.nn.utils.clip_grad_norm_(twins, max_norm).item()
    assert optim.clip_grad_norm(params, max_norm) == pytest.approx(theirs, rel=1e-12)
    for p, twin in zip(params, twins, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), twin.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("max_norm", [0, -1, float("nan")])
def test_a_bound_must_be_above_zero(max_norm):
    with pytest.raises(BadInput) as error:
        optim.clip_grad_norm(with_gradients(*random()), max_norm)
    assert str(error.value) == f"clip_grad_norm: max_norm must be above 0, got {max_norm}"
