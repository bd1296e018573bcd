"""Losses: where they are smallest, far out, with nothing to count; and their messages."""

import math
import re

import numpy as np
import pytest

from minidiff import ops
from minidiff.errors import BadInput
from minidiff.tensor import Tensor, tensor

OF_TWO = ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"]


def leaf(array, dtype=np.float64):
    return Tensor(np.asarray(array, dtype), requires_grad=True)


@pytest.mark.parametrize("name", OF_TWO)
def test_mean_and_sum_are_those_of_none(rng, name):
    a, b = rng.uniform(size=(2, 3, 4))
    each = getattr(ops, name)(Tensor(a), Tensor(b), reduction="none")
    assert each.shape == (3, 4)
    assert getattr(ops, name)(Tensor(a), Tensor(b)).item() == pytest.approx(each.data.mean())
    assert getattr(ops, name)(Tensor(a), Tensor(b), reduction="sum").item() == pytest.approx(each.data.sum())


@pytest.mark.parametrize("name", OF_TWO[:-1])
def test_no_difference_no_loss_no_gradient(rng, name):
    a, b = leaf(rng.standard_normal(5)), leaf(0.0)
    b = leaf(a.data.copy())
    loss = getattr(ops, name)(a, b)
    loss.backward()
    assert loss.item() == 0 and not a.grad.data.any() and not b.grad.data.any()


@pytest.mark.parametrize("name", OF_TWO)
def test_a_loss_of_nothing_has_a_sum_but_no_mean(name):
    a = leaf(np.zeros((0, 3)))
    loss = getattr(ops, name)(a, np.zeros((0, 3)), reduction="sum")
    loss.backward()
    assert loss.item() == 0 and a.grad.shape == (0, 3)
    with pytest.raises(BadInput, match=rf"^{name}: no loss counts \(shape \(0, 3\)\), so they have no mean; use reduction='sum'$"):
        getattr(ops, name)(a, np.zeros((0, 3)))


@pytest.mark.parametrize("name", OF_TWO)
def test_numbers_and_arrays_may_stand_for_the_target_and_float32_stays(name):
    a = Tensor(np.full((2, 2), 0.25, np.float32))
    for b in (np.full((2, 2), 0.5, np.float32), [[0.5, 0.5], [0.5, 0.5]]):
        assert getattr(ops, name)(a, b).dtype == np.float32


def test_huber_is_the_square_near_0_and_straight_far_out():
    d = leaf([-100.0, -0.5, 0.0, 0.5, 100.0])
    loss = ops.huber_loss(d, np.zeros(5), reduction="none", delta=2.0)
    np.testing.assert_allclose(loss.data, [198.0, 0.125, 0.0, 0.125, 198.0])
    loss.sum().backward()
    np.testing.assert_allclose(d.grad.data, [-2.0, -0.5, 0.0, 0.5, 2.0])


# ------------------------------------------------------------------------- binary cross-entropy


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_cross_entropy_is_exact_and_smooth_far_out(dtype):
    """At ±200 in float32 σ(x) is 0 or 1: by ln σ(x) the loss would be infinite."""
    x = leaf([-200.0, -200.0, 0.0, 0.0, 200.0, 200.0], dtype)
    t = np.array([0, 1, 0, 1, 0, 1], dtype)
    loss = ops.binary_cross_entropy_with_logits(x, t, reduction="none")
    tiny = math.exp(-200) if dtype == "float64" else 0.0
    np.testing.assert_allclose(loss.data, [tiny, 200, math.log(2), math.log(2), 200, tiny], rtol=1e-6)
    loss.sum().backward()
    np.testing.assert_allclose(x.grad.data, [0, -1, 0.5, -0.5, 1, 0], atol=1e-30)


def test_binary_cross_entropy_does_not_lose_what_is_small():
    """A loss of e⁻¹⁵, which is less than the rounding of 15 in float32."""
    x = Tensor(np.array([-15.0, 15.0], np.float32))
    loss = ops.binary_cross_entropy_with_logits(x, np.array([0, 1], np.float32), reduction="none")
    np.testing.assert_allclose(loss.data, math.exp(-15), rtol=1e-6)


# ---------------------------------------------------------------------------------- cross-entropy


def test_cross_entropy_of_equal_scores_is_ln_k():
    assert ops.cross_entropy(Tensor(np.zeros((5, 7))), [0, 1, 2, 3, 6]).item() == pytest.approx(math.log(7))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_is_exact_far_out(dtype):
    x = leaf([[1e4, 0.0], [0.0, 1e4]], dtype)
    loss = ops.cross_entropy(x, [0, 0], reduction="none")
    np.testing.assert_array_equal(loss.data, [0.0, 1e4])
    loss.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [[0, 0], [-1, 1]])


@pytest.mark.filterwarnings("error")
def test_a_class_that_was_made_impossible_does_not_matter():
    """A score of −∞ says "not this one", and only where it is the label is the loss infinite."""
    x = leaf([[1.0, -math.inf, 2.0], [0.0, 0.0, -math.inf]])
    loss = ops.cross_entropy(x, [2, 0], reduction="none")
    np.testing.assert_allclose(loss.data, [math.log(1 + math.exp(-1)), math.log(2)])
    loss.sum().backward()
    assert np.isfinite(x.grad.data).all() and x.grad.data[0, 1] == x.grad.data[1, 2] == 0
    np.testing.assert_allclose(ops.nll_loss(ops.log_softmax(x, 1), [2, 0], reduction="none").data, loss.data)
    assert ops.cross_entropy(x, [1, 0], reduction="none").data[0] == math.inf


def test_the_gradient_of_a_sample_adds_up_to_0(rng):
    """Adding one number to all scores of a sample changes nothing."""
    x = leaf(rng.standard_normal((4, 6, 2)))
    ops.cross_entropy(x, rng.integers(0, 6, (4, 2)), label_smoothing=0.3).backward()
    np.testing.assert_allclose(x.grad.data.sum(1), 0, atol=1e-15)


def test_with_smoothing_the_best_probabilities_are_the_smoothed_labels():
    k, eps = 4, 0.2
    best = np.full(k, eps / k)
    best[1] += 1 - eps
    x = leaf(np.log(best)[None])
    ops.cross_entropy(x, [1], label_smoothing=eps).backward()
    np.testing.assert_allclose(x.grad.data, 0, atol=1e-15)


def test_labels_are_the_probabilities_1_and_0(rng):
    x, labels = rng.standard_normal((5, 3)), np.array([2, 0, 1, 1, 2])
    options = dict(weight=[0.5, 1.0, 2.0], label_smoothing=0.1, reduction="none")
    np.testing.assert_allclose(
        ops.cross_entropy(Tensor(x), labels, **options).data,
        ops.cross_entropy(Tensor(x), np.eye(3)[labels], **options).data, rtol=1e-14,
    )  # fmt: skip


@pytest.mark.parametrize("ignore_index", [-100, 1])
def test_an_ignored_label_neither_counts_nor_takes_a_gradient(rng, ignore_index):
    x, labels = leaf(rng.standard_normal((4, 3))), np.array([0, ignore_index, 2, ignore_index])
    loss = ops.cross_entropy(x, labels, ignore_index=ignore_index, label_smoothing=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(ops.cross_entropy(x[[0, 2]], [0, 2], label_smoothing=0.1).item())
    assert not x.grad.data[[1, 3]].any() and x.grad.data[[0, 2]].all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_labels_may_be_any_whole_numbers(dtype):
    x = Tensor(np.zeros((2, 3), np.float32))
    for labels in (np.array([1, 2], dtype), Tensor(np.array([1, 2], dtype))):
        assert ops.cross_entropy(x, labels).item() == pytest.approx(math.log(3))


def test_cross_entropy_is_nll_loss_of_log_softmax(rng):
    x, labels = Tensor(rng.standard_normal((3, 4, 2))), np.array([[0, 1], [-100, 3], [2, 2]])
    for options in ({}, {"weight": [1, 2, 3, 4]}, {"reduction": "none"}):
        expected = ops.nll_loss(ops.log_softmax(x, 1), labels, **options).data
        np.testing.assert_allclose(ops.cross_entropy(x, labels, **options).data, expected, rtol=1e-13)


# ------------------------------------------------------------------------------------------ errors


def zeros(*shape, dtype=np.float32):
    return Tensor(np.zeros(shape, dtype))


X = zeros(2, 3)
TARGET = "x must be (N,K,…) and the target integers (N,…), or probabilities (N,K,…); got"
MESSAGES = [
    (lambda: ops.mse_loss(X, zeros(3, 2)), "mse_loss: shapes (2, 3) and (3, 2) differ"),
    (lambda: ops.l1_loss(X, tensor(np.ones((2, 3), int))), "l1_loss: both must hold floating-point numbers, got float32 and int64"),
    (lambda: ops.mse_loss(X, X, "avg"), "mse_loss: reduction 'avg' is unknown; it is 'mean', 'sum' or 'none'"),
    (lambda: ops.huber_loss(X, X, delta=0), "huber_loss: delta must be positive, got 0"),
    (lambda: ops.smooth_l1_loss(X, X, beta=-1), "smooth_l1_loss: beta must be 0 or more, got -1"),
    (
        lambda: ops.binary_cross_entropy_with_logits(X, X, pos_weight=np.ones(2)),
        "binary_cross_entropy_with_logits: pos_weight (2,) does not broadcast to (2, 3)",
    ),
    (
        lambda: ops.binary_cross_entropy_with_logits(X, X, weight=np.ones((4, 2, 3))),
        "binary_cross_entropy_with_logits: weight (4, 2, 3) does not broadcast to (2, 3)",
    ),
    (lambda: ops.cross_entropy(X, [0, 1, 2]), f"cross_entropy: {TARGET} x (2, 3), target (3,) int64"),
    (lambda: ops.cross_entropy(zeros(3), 1), f"cross_entropy: {TARGET} x (3,), target () int64"),
    (lambda: ops.cross_entropy(X, zeros(2)), f"cross_entropy: {TARGET} x (2, 3), target (2,) float32"),
    (lambda: ops.cross_entropy(X, np.ones((2, 3), bool)), f"cross_entropy: {TARGET} x (2, 3), target (2, 3) bool"),
    (lambda: ops.cross_entropy(tensor(np.ones((2, 3), int)), [0, 1]), "cross_entropy: x must hold floating-point numbers, got int64"),
    (lambda: ops.cross_entropy(X, [0, 3]), "cross_entropy: labels must lie in 0 … 2, or be ignore_index -100; got 0 … 3"),
    (lambda: ops.nll_loss(X, [-1, 0]), "nll_loss: labels must lie in 0 … 2, or be ignore_index -100; got -1 … 0"),
    (lambda: ops.cross_entropy(X, [0, 1], weight=[1.0, 2.0]), "cross_entropy: weight (2,) does not broadcast to (3,)"),
    (lambda: ops.cross_entropy(X, [0, 1], label_smoothing=1.5), "cross_entropy: label_smoothing must be from 0 to 1, got 1.5"),
    (lambda: ops.cross_entropy(X, [0, 1], reduction="max"), "cross_entropy: reduction 'max' is unknown; it is 'mean', 'sum' or 'none'"),
    (
        lambda: ops.cross_entropy(X, [-100, -100]),
        "cross_entropy: no loss counts (shape (2,)), so they have no mean; use reduction='sum'",
    ),
    (
        lambda: ops.cross_entropy(zeros(0, 3), np.zeros(0, int)),
        "cross_entropy: no loss counts (shape (0,)), so they have no mean; use reduction='sum'",
    ),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_wrong_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()
