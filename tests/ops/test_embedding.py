"""Rows of a table, and dropout: what is looked up, what is dropped, what takes a gradient."""

import re

import numpy as np
import pytest

from minidiff import backend, ops
from minidiff.errors import BadInput
from minidiff.tensor import Tensor


def table(rows=4, dim=3):
    return Tensor(np.arange(rows * dim, dtype=np.float32).reshape(rows, dim), requires_grad=True)


def test_a_row_that_is_looked_up_often_takes_every_gradient():
    w = table()
    y = ops.embedding([[1, 1, 3], [1, 0, 3]], w)
    assert y.shape == (2, 3, 3)
    y.sum().backward()
    np.testing.assert_array_equal(w.grad.data[:, 0], [1, 3, 0, 2])


@pytest.mark.parametrize("padding_idx", [2, -2])
def test_the_padding_row_is_read_but_takes_no_gradient(torch, padding_idx):
    w, indices = table(), np.array([2, 0, 2, 3])
    t = torch.tensor(w.data, requires_grad=True)
    y = ops.embedding(indices, w, padding_idx)
    z = torch.nn.functional.embedding(torch.tensor(indices), t, padding_idx)
    np.testing.assert_array_equal(y.data, z.detach().numpy())
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_array_equal(w.grad.data, t.grad.numpy())
    assert not w.grad.data[2].any()


def test_an_empty_list_names_nothing():
    assert ops.embedding([], table()).shape == (0, 3)
    assert ops.one_hot([[]], 3).shape == (1, 0, 3)


def test_no_indices_give_no_rows():
    w = table()
    y = ops.embedding(np.zeros((0, 2), int), w)
    y.sum().backward()
    assert y.shape == (0, 2, 3) and not w.grad.data.any()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_one_hot_has_a_1_at_the_label_and_none_for_no_class(dtype):
    y = ops.one_hot([[2, -1], [0, 1]], 3, dtype)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.data, [[[0, 0, 1], [0, 0, 0]], [[1, 0, 0], [0, 1, 0]]])


def test_dropout_drops_single_numbers_and_dropout2d_whole_channels():
    backend.manual_seed(0)
    x = Tensor(np.ones((50, 40, 3, 2), np.float32), requires_grad=True)
    each, channels = (drop(x, 0.25).data for drop in (ops.dropout, ops.dropout2d))
    for y, draws in ((each, each.size), (channels, 2000)):
        assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
        assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / draws)  # five standard deviations
    assert (channels == channels[:, :, :1, :1]).all() and (each != each[:, :, :1, :1]).any()


@pytest.mark.parametrize("name", ["dropout", "dropout2d"])
def test_dropout_multiplies_the_gradient_by_what_it_multiplied_x_by(name):
    x = Tensor(np.ones((5, 4, 2, 2)), requires_grad=True)
    y = getattr(ops, name)(x, 0.5)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, y.data)


@pytest.mark.parametrize("name", ["dropout", "dropout2d"])
def test_dropout_of_all_and_of_nothing(name):
    x = Tensor(np.ones((2, 3, 2, 2), np.float32))
    drop = getattr(ops, name)
    assert not drop(x, 1.0).data.any()
    assert drop(x, 0.0) is x and drop(x, 0.9, training=False) is x


W = Tensor(np.zeros((3, 2), np.float32))
MESSAGES = [
    (lambda: ops.embedding([-1], W), "embedding: indices must lie in 0 … 2; got -1 … -1"),
    (lambda: ops.embedding([0.5], W), "embedding: indices must be integers, got float64"),
    (lambda: ops.embedding([0], W[0]), "embedding: weight must be (rows, dimensions), got shape (2,)"),
    (lambda: ops.embedding([0], W, 3), "embedding: padding_idx must lie in -3 … 2, got 3"),
    (lambda: ops.one_hot([0, 10], 10), "one_hot: indices must lie in -1 … 9; got 0 … 10"),
    (lambda: ops.one_hot([0.5], 10), "one_hot: indices must be integers, got float64"),
    (lambda: ops.dropout(W, 1.5), "dropout: p must be a probability from 0 to 1, got 1.5"),
    (lambda: ops.dropout2d(W, -0.1), "dropout2d: p must be a probability from 0 to 1, got -0.1"),
    (lambda: ops.dropout2d(W, 0.1), "dropout2d: x must be (N,C,H,W), got shape (3, 2)"),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_wrong_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()
