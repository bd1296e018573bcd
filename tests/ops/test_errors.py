"""Wrong shapes and dtypes: one line that names the operation, what it was given, and what would be right."""

import re

import numpy as np
import pytest

from minidiff import nn, ops
from minidiff.checks.testing import check_op
from minidiff.errors import BadInput
from minidiff.nn import functional as F
from minidiff.tensor import Tensor, tensor


def zeros(*shape, dtype=np.float32):
    return Tensor(np.zeros(shape, dtype))


X = zeros(2, 4, 8, 8)

# What is called, and the whole of its message.
MESSAGES = [
    (lambda: zeros(2) + zeros(3), "add: shapes (2,) and (3,) do not broadcast"),
    (lambda: np.zeros((2, 3)) - zeros(2), "sub: shapes (2, 3) and (2,) do not broadcast"),
    (lambda: zeros(2, 3) @ zeros(4, 2), "matmul: shapes (2, 3) and (4, 2) do not fit"),
    (lambda: zeros(2, 2, 3) @ zeros(3, 3, 2), "matmul: shapes (2, 2, 3) and (3, 3, 2) do not fit"),
    (lambda: zeros() @ zeros(2), "matmul: a single number has no rows or columns (shapes () and (2,))"),
    (lambda: zeros(2, 3).reshape(4, 2), "reshape: (2, 3) has 6 elements, which do not make (4, 2)"),
    (lambda: zeros(2, 3).reshape(-1, -1), "reshape: (2, 3) has 6 elements, which do not make (-1, -1)"),
    (lambda: zeros(2, 3).reshape(-1, 4), "reshape: (2, 3) has 6 elements, which do not make (-1, 4)"),
    (lambda: zeros(2, 3).transpose(0, 0), "transpose: axes (0, 0) are no order of the 2 axes of (2, 3)"),
    (lambda: zeros(2, 3).transpose(0), "transpose: axes (0,) are no order of the 2 axes of (2, 3)"),
    (lambda: zeros(2).broadcast_to(3, 3), "broadcast_to: (2,) does not broadcast to (3, 3)"),
    (lambda: ops.sum_to(zeros(2, 3), (2,)), "sum_to: shape (2, 3) cannot be summed down to (2,)"),
    (lambda: zeros(2, 3).squeeze(1), "squeeze: axis 1 of a tensor of shape (2, 3) has length 3, not 1"),
    (lambda: zeros(2, 1).squeeze((0, 1)), "squeeze: axis (0, 1) of a tensor of shape (2, 1) has length 2, not 1"),
    (lambda: zeros(2, 1).squeeze(2), "squeeze: axis 2 is not in a tensor of 2 dimensions"),
    (lambda: zeros(2).unsqueeze(3), "unsqueeze: axis 3 is out of range for a tensor of 1 dimensions"),
    (lambda: ops.concatenate([]), "concatenate: there is no tensor to join"),
    (lambda: ops.concatenate([zeros(2, 3), zeros(2, 4)]), "concatenate: shapes (2, 3), (2, 4) differ beside axis 0"),
    (lambda: ops.pad(zeros(2, 3), [(1, 1)]), "pad: 2 pairs of widths, 0 or more, are needed for shape (2, 3); got [(1, 1)]"),
    (lambda: zeros(2, 3).sum(2), "sum: axis 2 is not in a tensor of 2 dimensions"),
    (lambda: zeros(2, 3).mean((1, -1)), "mean: axis (1, -1) names a dimension twice"),
    (lambda: zeros(0, 3).max(), "max: a tensor of shape (0, 3) has no element along axis 0; it needs 1 or more"),
    (lambda: ops.softmax(zeros(2, 3), 2), "softmax: axis 2 is not in a tensor of 2 dimensions"),
    (lambda: ops.where(zeros(2), zeros(2), zeros(2)), "where: the condition must be an array of booleans, got float32"),
    (lambda: ops.where([True], zeros(1), zeros(1)), "where: the condition must be an array of booleans, got list"),
    (lambda: zeros(2, 0).min(1), "min: a tensor of shape (2, 0) has no element along axis 1; it needs 1 or more"),
    (lambda: zeros(0).argmax(), "argmax: a tensor of shape (0,) has no element along axis 0; it needs 1 or more"),
    (lambda: zeros(2).argmin(1), "argmin: axis 1 is not in a tensor of 1 dimensions"),
    (lambda: zeros(2).cumsum(None), "cumsum: axis must be one whole number, got None"),
    (lambda: zeros(2, 3).softmax((0, 1)), "softmax: axis must be one whole number, got (0, 1)"),
    (lambda: zeros(2, 3).log_softmax(None), "log_softmax: axis must be one whole number, got None"),
    (lambda: zeros(2, 3).argmax((0, 1)), "argmax: axis must be one whole number, got (0, 1)"),
    (lambda: zeros(2, 3).sum(1.5), "sum: an axis is a whole number, or several or None for all; got 1.5"),
    (lambda: zeros(2, 3).reshape(2.0, 3), "reshape: a shape is made of whole numbers, got (2.0, 3)"),
    (lambda: zeros(2) + [zeros(), zeros()], "a list of tensors would lose their history; use ops.stack"),
    (lambda: zeros(2) * np.array([1j, 2.0]), "complex128 is no number type; give floats, integers or booleans"),
    (lambda: zeros(2) * [None, 1.0], "object is no number type; give floats, integers or booleans"),
    (lambda: tensor([True]) - tensor([True]), "sub: booleans have no difference; use ne, or .astype(numpy.int64)"),
    (lambda: -tensor([True]), "neg: booleans have no sign; use x == False, or .astype(numpy.int64)"),
    (lambda: ops.pad(tensor([1]), [(1, 1)], value=0.5),
     "pad: x holds int64, which has no 0.5; convert x with .astype, or give another value"),
    (lambda: ops.pad(tensor([1]), [(1, 1)], value=np.nan),
     "pad: x holds int64, which has no nan; convert x with .astype, or give another value"),
    (lambda: ops.dropout(tensor([1]), 0.3), "dropout: x must hold floating-point numbers, got int64"),
    (lambda: ops.dropout2d(zeros(1, 1, 1, 1, dtype=np.int64)), "dropout2d: x must hold floating-point numbers, got int64"),
    (lambda: ops.adaptive_avg_pool2d(X, (1, 2, 3)), "adaptive_avg_pool2d: output_size must be one size or two, got (1, 2, 3)"),
    (lambda: ops.conv2d(X, zeros(0, 4, 3, 3)), "conv2d: weight (0, 4, 3, 3) has no elements"),
    (lambda: F.pad(zeros(2), 1), "pad: pad (1,) must be a pair for each dimension to pad, the last first (x (2,))"),
    (lambda: F.cross_entropy(zeros(2, 0), np.zeros((2, 0), np.float32), reduction="none"),
     "cross_entropy: x (2, 0) has no classes; axis 1 must have one or more"),
    (lambda: nn.InstanceNorm2d(3, momentum=None, track_running_stats=True),
     "InstanceNorm2d: momentum must be a number, got None; only BatchNorm averages over all batches"),
    (lambda: check_op(lambda x: (x, x), [np.ones(2)], reference=lambda x: (x,), name="twice"),
     "twice: fn has 2 outputs and reference 1; they must be as many"),
    (lambda: zeros(2).cumsum(1), "cumsum: axis 1 is not in a tensor of 1 dimensions"),
    (lambda: zeros(2, 1).var(1), "var: 1 numbers of x (2, 1) do not outnumber correction 1; use more, or a smaller correction"),
    (lambda: zeros(3).std(correction=3), "std: 3 numbers of x (3,) do not outnumber correction 3; use more, or a smaller correction"),
    (lambda: zeros(2).clip(), "clip: low and high are both None; give at least one of them"),
    (lambda: zeros(2).clip(zeros(3)), "clip: shapes (2,) and (3,) do not broadcast"),
    (lambda: zeros(2) < zeros(3), "lt: shapes (2,) and (3,) do not broadcast"),
    (lambda: zeros(2) == zeros(3), "eq: shapes (2,) and (3,) do not broadcast"),
    (lambda: zeros(2) ** zeros(3), "pow: shapes (2,) and (3,) do not broadcast"),
    (lambda: zeros(2, dtype=int) ** -1, "pow: whole numbers (int64) have no power -1; use floating-point ones"),
    (
        lambda: zeros(2, dtype=int) ** np.array([0, -1]),
        "pow: whole numbers (int64) have no negative powers; use floating-point ones",
    ),
    (lambda: ops.softplus(zeros(2), 0), "softplus: beta must be larger than 0, got 0"),
    (lambda: zeros(2, 3, 4).flatten(2, 1), "flatten: start_axis 2 comes after end_axis 1 (x (2, 3, 4))"),
    (lambda: zeros(2, 3).flatten(2), "flatten: axis 2 is not in a tensor of 2 dimensions"),
    (lambda: zeros(2, 3).permute(1, 1), "transpose: axes (1, 1) are no order of the 2 axes of (2, 3)"),
    (lambda: zeros(2, 3).swapaxes(0, 2), "swapaxes: axis 2 is not in a tensor of 2 dimensions"),
    (
        lambda: zeros(2, 3).moveaxis((0, 1), 0),
        "moveaxis: source (0, 1) and destination 0 must be as many axes, each named once",
    ),
    (lambda: zeros(2, 3).expand(3), "expand: (3,) must have 2 dimensions or more, and -1 only for those of x (2, 3)"),
    (lambda: zeros(3).expand(-1, 3), "expand: (-1, 3) must have 1 dimensions or more, and -1 only for those of x (3,)"),
    (lambda: zeros(2, 3).expand(4, 3), "broadcast_to: (2, 3) does not broadcast to (4, 3)"),
    (lambda: zeros(2).tile(-1), "tile: repeats must be 0 or more, got (-1,)"),
    (lambda: zeros(2).repeat_interleave(1.5, 0), "repeat_interleave: repeats must be a whole number, 0 or more; got 1.5"),
    (lambda: zeros(2, 3).flip(0, 0), "flip: axis (0, 0) names a dimension twice"),
    (lambda: zeros(2, 3).flip(2), "flip: axis 2 is not in a tensor of 2 dimensions"),
    (lambda: zeros(2, 3).roll((1, 2), 0), "roll: shift (1, 2) and axis 0 must be as many; give one shift for each axis"),
    (lambda: ops.stack([]), "stack: there is no tensor to join"),
    (lambda: ops.stack([zeros(2), zeros(3)]), "stack: shapes (2,), (3,) differ; they must be alike"),
    (lambda: ops.stack([zeros(2), zeros(2)], 2), "stack: axis 2 is out of range for tensors of 1 dimensions"),
    (lambda: zeros(5).split(0), "split: the size of a piece must be 1 or more, got 0"),
    (lambda: zeros(5).split([2, 2]), "split: sizes [2, 2] do not make up the 5 of axis 0 (x (5,))"),
    (lambda: zeros(5).split(2, 1), "split: axis 1 is not in a tensor of 1 dimensions"),
    (lambda: zeros(5).chunk(0), "chunk: the number of pieces must be 1 or more, got 0"),
    (lambda: ops.pad(zeros(3), [(1, 1)], "mirror"), "pad: mode 'mirror' is unknown; it is one of: constant, reflect, replicate, circular"),
    (lambda: ops.pad(zeros(3), [(0, 3)], "reflect"), "pad: reflect has at most 2 elements for a border of (0, 3) (axis 0 of x (3,))"),
    (lambda: ops.pad(zeros(3), [(4, 0)], "circular"), "pad: circular has at most 3 elements for a border of (4, 0) (axis 0 of x (3,))"),
    (lambda: ops.pad(zeros(0), [(1, 0)], "replicate"), "pad: replicate has at most 0 elements for a border of (1, 0) (axis 0 of x (0,))"),
    (lambda: F.pad(zeros(3), (1, 1, 1)), "pad: pad (1, 1, 1) must be a pair for each dimension to pad, the last first (x (3,))"),
    (
        lambda: zeros(2, 3).take_along_axis(np.array([0, 1]), 0),
        "take_along_axis: index must hold integers and have x's 2 dimensions; got (2,) int64",
    ),
    (
        lambda: zeros(2, 3).take_along_axis(np.zeros((2, 1)), 0),
        "take_along_axis: index must hold integers and have x's 2 dimensions; got (2, 1) float64",
    ),
    (
        lambda: zeros(2, 3).take_along_axis(np.zeros((2, 2), int), 0),
        "take_along_axis: x (2, 3) and index (2, 2) do not broadcast beside axis 0",
    ),
    (lambda: ops.einsum("ij,jk->ik", zeros(2, 3)), "einsum: 'ij,jk->ik' is for 2 operands, got 1"),
    (lambda: ops.einsum("ij->i", zeros(2)), "einsum: 'ij->i': 'ij' names 2 axes, its operand 1 dimensions (2,)"),
    (lambda: ops.einsum("i->i", zeros(2, 3)), "einsum: 'i->i': 'i' names 1 axes, its operand 2 dimensions (2, 3)"),
    (lambda: ops.einsum("ij,jk", zeros(2, 3), zeros(4, 2)), "einsum: 'ij,jk': index 'j' has length 3 and 4"),
    (lambda: ops.einsum("ii", zeros(1, 3)), "einsum: 'ii': index 'i' has length 1 and 3"),
    (lambda: ops.einsum("ij->ik", zeros(2, 3)), "einsum: 'ij->ik': the output names 'k', which no operand has"),
    (lambda: ops.einsum("ij->ii", zeros(2, 3)), "einsum: 'ij->ii': the output names an index twice"),
    (lambda: ops.einsum("i1", zeros(2, 3)), "einsum: 'i1': 'i1' must be letters, with at most one '...'"),
    (lambda: ops.einsum("......i", zeros(2, 3)), "einsum: '......i': '......i' must be letters, with at most one '...'"),
    (lambda: ops.gelu(zeros(2), "erf"), "gelu: approximate='erf' is unknown; it is 'none' or 'tanh'"),
    (lambda: ops.mse_loss(zeros(2, 3), zeros(3)), "mse_loss: shapes (2, 3) and (3,) differ"),
    (
        lambda: ops.conv2d(X, zeros(5, 3, 3, 3)),
        "conv2d: weight expects 3 input channels, x has 4 (x (2, 4, 8, 8), weight (5, 3, 3, 3), groups 1)",
    ),
    (
        lambda: ops.conv2d(X, zeros(4, 3, 3, 3), groups=2),
        "conv2d: weight expects 3 input channels per group, x has 2 (x (2, 4, 8, 8), weight (4, 3, 3, 3), groups 2)",
    ),
    (
        lambda: ops.conv2d(X, zeros(4, 2, 3, 3), groups=3),
        "conv2d: groups 3 does not divide the channels (x (2, 4, 8, 8), weight (4, 2, 3, 3), groups 3)",
    ),
    (
        lambda: ops.conv2d(zeros(8, 8), zeros(4, 4, 3, 3)),
        "conv2d: x must be (N,C,H,W) and weight have 4 dimensions (x (8, 8), weight (4, 4, 3, 3), groups 1)",
    ),
    (
        lambda: ops.conv2d(X, zeros(4, 4, 9, 9)),
        "conv2d: kernel (9, 9) with dilation (1, 1) is larger than the image (8, 8) padded by (0, 0)",
    ),
    (
        lambda: ops.conv2d(X, zeros(4, 4, 3, 3), dilation=(1, 6), padding=(0, 2)),
        "conv2d: kernel (3, 3) with dilation (1, 6) is larger than the image (8, 8) padded by (0, 2)",
    ),
    (lambda: ops.conv2d(X, zeros(5, 4, 3, 3), zeros(4)), "conv2d: bias must have shape (5,), got (4,)"),
    (
        lambda: ops.conv2d(X, zeros(4, 4, 3, 3, dtype=np.float64)),
        "conv2d: x, weight and bias must share one floating-point dtype; got float32, float64",
    ),
    (
        lambda: ops.conv2d(zeros(1, 1, 3, 3, dtype=int), zeros(1, 1, 3, 3, dtype=int)),
        "conv2d: x, weight and bias must share one floating-point dtype; got int64, int64",
    ),
    (
        lambda: ops.conv2d(X, zeros(4, 4, 3, 3), stride=0),
        "conv2d: stride must be one or two whole numbers, 1 or more; got 0",
    ),
    (
        lambda: ops.conv2d(X, zeros(4, 4, 3, 3), padding=(1, 2, 3)),
        "conv2d: padding must be one or two whole numbers, 0 or more; got (1, 2, 3)",
    ),
    (
        lambda: ops.conv_transpose2d(X, zeros(3, 4, 2, 2)),
        "conv_transpose2d: weight expects 3 input channels, x has 4 (x (2, 4, 8, 8), weight (3, 4, 2, 2), groups 1)",
    ),
    (
        lambda: ops.conv_transpose2d(X, zeros(4, 4, 2, 2), stride=2, output_padding=2),
        "conv_transpose2d: output_padding (2, 2) must be smaller than stride (2, 2) or dilation (1, 1)",
    ),
    (lambda: ops.group_norm(X, 3), "group_norm: 4 channels do not divide into 3 groups (x (2, 4, 8, 8))"),
    (lambda: ops.group_norm(zeros(4), 2), "group_norm: x must be (N,C,…), got shape (4,)"),
    (
        lambda: ops.group_norm_gelu(X, 2, zeros(3)),
        "group_norm_gelu: weight must have shape (4,) or (2, 4), got (3,) (x (2, 4, 8, 8))",
    ),
    (
        lambda: ops.group_norm(X, 2, zeros(4), zeros(4, dtype=np.float64)),
        "group_norm: bias is float64, x is float32; they must be alike",
    ),
    (lambda: F.linear(zeros(2, 3), zeros(4, 5)), "linear: x (2, 3) does not end in the (5,) inputs of weight (4, 5)"),
    (lambda: F.linear(zeros(2, 3), zeros(4, 3), zeros(3)), "linear: bias must have shape (4,), got (3,)"),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_wrong_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput) as error:
        call()
    assert str(error.value) == message


# What is called, and what its message must name: the operation, and what it was given.
NAMED = {
    "where, shapes": (lambda: ops.where(np.ones(4, bool), zeros(3), zeros(3)), "where", "(4,)", "(3,)"),
    "maximum, shapes": (lambda: ops.maximum(zeros(2), zeros(3)), "maximum", "(2,)", "(3,)"),
    "minimum, shapes": (lambda: ops.minimum(zeros(2), zeros(3)), "minimum", "(2,)", "(3,)"),
    "transpose, axis out of range": (lambda: zeros(2, 3).transpose(0, 3), "transpose", "(0, 3)", "(2, 3)"),
    "concatenate, axis out of range": (lambda: ops.concatenate([zeros(2), zeros(2)], 1), "concatenate", "axis 1"),
    "concatenate, single numbers": (lambda: ops.concatenate([zeros(), zeros()]), "concatenate", "()"),
    "reshape, negative": (lambda: zeros(6).reshape(-2, -3), "reshape", "(6,)", "(-2, -3)"),
    "put, shape": (lambda: ops.put(zeros(3), (slice(0, 2),), (5,)), "put", "(3,)"),
    "conv_transpose2d, nothing left": (
        lambda: ops.conv_transpose2d(zeros(1, 1, 1, 1), zeros(1, 1, 1, 1), padding=1), "conv_transpose2d", "(1, 1)"
    ),
    "conv2d, weight without dimensions": (lambda: ops.conv2d(X, zeros()), "conv2d", "()"),
    "softplus, integers": (lambda: ops.softplus(tensor([1, 2])), "softplus", "int64"),
    "leaky_relu, integers": (lambda: ops.leaky_relu(tensor([1, 2])), "leaky_relu", "int64"),
    "softmax, integers": (lambda: ops.softmax(tensor([1, 2])), "softmax", "int64"),
    "log_softmax, integers": (lambda: ops.log_softmax(tensor([1, 2])), "log_softmax", "int64"),
    "gelu, integers": (lambda: ops.gelu(tensor([1, 2])), "gelu", "int64"),
    "group_norm, integers": (lambda: ops.group_norm(tensor([[1, 2]]), 1), "group_norm", "int64"),
    "mse_loss, integers": (lambda: ops.mse_loss(tensor([1, 2]), tensor([2, 4])), "mse_loss", "int64"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_wrong_input_is_refused_by_name(name):
    call, *parts = NAMED[name]
    with pytest.raises(BadInput, match=".*".join(map(re.escape, parts))):
        call()


def test_an_index_along_an_axis_that_is_out_of_range_is_refused():
    with pytest.raises(IndexError, match=re.escape("getitem: index 3 is out of bounds for axis 1 with size 3 (tensor of shape (2, 3))")):
        zeros(2, 3).take_along_axis(np.array([[0], [3]]), 1)


def test_a_place_out_of_range_names_the_shape():
    with pytest.raises(IndexError, match=re.escape("put: index 5 is out of bounds for axis 0 with size 3 (shape (3,))")):
        ops.put(zeros(), 5, (3,))


def test_an_index_out_of_range_names_the_shape():
    with pytest.raises(IndexError, match=re.escape("getitem: index 5 is out of bounds for axis 0 with size 3 (tensor of shape (3, 2))")):
        zeros(3, 2)[5]


def test_what_is_no_number_is_a_type_error():
    with pytest.raises(TypeError, match="^a tensor, array or number is needed, not NoneType$"):
        zeros(2) + None


@pytest.mark.parametrize(("call", "name"), [(ops.sum, "Sum"), (ops.softmax, "Softmax"), (ops.gelu, "GELU"), (ops.silu, "SiLU")])
def test_an_array_is_no_tensor(call, name):
    with pytest.raises(TypeError, match=re.escape(f"{name}: a Tensor is needed, not ndarray; make one with minidiff.tensor(…)")):
        call(np.ones(3, np.float32))


def test_bad_input_is_a_value_error_also_through_a_layer():
    with pytest.raises(ValueError, match="^conv2d: weight expects 4 input channels, x has 3 "):
        nn.Conv2d(4, 8, 3)(zeros(1, 3, 8, 8))
