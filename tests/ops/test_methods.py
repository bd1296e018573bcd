"""The operators and methods of Tensor: usual names for the operations, and nothing else."""

import inspect
import operator

import numpy as np
import pytest

import minidiff as md
from minidiff import ops
from minidiff.errors import BadInput
from minidiff.methods import Methods
from minidiff.tensor import Tensor

A = np.array([[0.5, -1.5, 2.0], [3.0, 0.25, -0.75]], np.float32)

ARGUMENTS = {
    "astype": (np.float64,), "broadcast_to": ((2, 2, 3),), "chunk": (2, 1), "clip": (-0.5, 1.0), "cumsum": (1,), "expand": ((2, -1, 3),),
    "flatten": (0, 1), "flip": (1,), "log_softmax": (0,), "logsumexp": (1, True), "max": (0,), "maximum": (0.25,), "mean": ((0, 1), True),
    "min": (1, True), "minimum": (0.25,), "moveaxis": (0, 1), "permute": ((1, 0),), "pow": (2,), "prod": (0, True),
    "repeat_interleave": (2, 1), "reshape": ((3, 2),), "roll": (1, 1), "softmax": (0,), "split": ([1, 2], 1), "std": (1, True, 0),
    "squeeze": ((),), "swapaxes": (0, 1), "take_along_axis": (np.array([[0], [2]]), 1), "tile": ((2, 1),), "transpose": ((1, 0),),
    "unsqueeze": (1,), "var": (1, False, 0),
}  # fmt: skip
METHODS = [n for n, value in vars(Methods).items() if inspect.isfunction(value) and not n.startswith("_")]


def numbers(y):
    return [piece.numpy() for piece in y] if isinstance(y, tuple) else [y.numpy()]


@pytest.mark.filterwarnings("ignore:invalid value")  # the log of a negative number is none, here as there
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_operation_of_its_name(name):
    x = md.tensor(A)
    arguments = ARGUMENTS.get(name, ())
    expected, actual = getattr(ops, name)(x, *arguments), getattr(x, name)(*arguments)
    for a, b in zip(numbers(actual), numbers(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_method_with_options_passes_them_all_on():
    """An option that a method forgot would differ in name, order or default."""
    for name in sorted(set(METHODS) - {"maximum", "minimum"}):  # (a, b) are (self, other)
        ours = list(inspect.signature(getattr(ops, name)).parameters.values())[1:]
        theirs = list(inspect.signature(getattr(Methods, name)).parameters.values())[1:]
        if not any(p.kind is p.VAR_POSITIONAL for p in theirs):  # f(2, 3) for f((2, 3)): see below
            assert [(p.name, p.default) for p in theirs] == [(p.name, p.default) for p in ours], name


def test_arguments_of_the_methods_are_all_of_methods():
    assert set(ARGUMENTS) <= set(METHODS) and len(METHODS) > 50


def test_axes_and_sizes_may_be_given_as_numbers_or_as_one_tuple():
    x = md.tensor(A)
    assert x.expand(4, -1, 3).shape == x.expand((4, -1, 3)).shape == (4, 2, 3)
    assert x.permute(1, 0).shape == x.permute((1, 0)).shape == (3, 2)
    assert x.tile(2, 3).shape == x.tile((2, 3)).shape == (4, 9)
    np.testing.assert_array_equal(x.flip(0, 1).numpy(), x.flip((0, 1)).numpy())
    np.testing.assert_array_equal(x.flip().numpy(), np.flip(A))


# --------------------------------------------------------------------------------- comparisons

COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("other", [0.5, 2, True, np.float64(0.5), A[0], A[:, :1], Tensor(A[1])], ids=str)
def test_comparisons_are_numpys_from_both_sides_and_carry_no_gradient(name, other):
    x, compare = md.tensor(A, requires_grad=True), getattr(operator, name)
    plain = other.data if isinstance(other, Tensor) else other
    for actual, expected in [(compare(x, other), compare(A, plain)), (compare(other, x), compare(plain, A)),
                             (getattr(ops, name)(x, other), compare(A, plain))]:  # fmt: skip
        assert isinstance(actual, Tensor) and actual.dtype == bool and not actual.requires_grad
        np.testing.assert_array_equal(actual.numpy(), expected)


def test_a_comparison_chooses():
    x = md.tensor(A, requires_grad=True)
    ops.where(x > 0, x, 0.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), A > 0)
    np.testing.assert_array_equal(x[x > 0].numpy(), A[A > 0])


def test_tensors_are_told_apart_by_identity_in_sets_and_dicts():
    x, y = md.tensor(1.0), md.tensor(1.0)
    assert len({x, y, x}) == 2 and x in {x} and y not in {x}
    assert {x: "x", y: "y"}[y] == "y"


@pytest.mark.parametrize("other", [None, "one", object()])
def test_what_is_no_number_is_not_equal(other):
    x = md.tensor(1.0)
    assert (x == other) is False and (x != other) is True
    with pytest.raises(TypeError):
        x < other  # noqa: B015


# ------------------------------------------------------------------------- other things Python does


def test_rows_are_looped_over_and_their_gradients_come_back():
    x = md.tensor(A, requires_grad=True)
    first, second = x
    (first * 2 + second * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[2, 2, 2], [3, 3, 3]])
    assert [row.item() for row in md.tensor([1.0, 2.0])] == [1.0, 2.0]


def test_a_single_number_has_no_rows():
    with pytest.raises(TypeError, match="^a 0-dimensional tensor has no length$"):
        iter(md.tensor(1.0))


def test_abs_is_pythons_too():
    np.testing.assert_array_equal(abs(md.tensor(A)).numpy(), np.abs(A))


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv", "ipow", "imatmul"])
def test_augmented_assignment_makes_a_new_tensor(name):
    """x += y must not write to an array that backward will read."""
    x = Tensor(np.eye(2) + 1.0, requires_grad=True)
    recorded = x * x
    before = recorded.numpy().copy()
    after = getattr(operator, name)(recorded, 2.0 if name != "imatmul" else np.eye(2) * 2)
    assert after is not recorded
    np.testing.assert_array_equal(recorded.numpy(), before)
    recorded.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * x.numpy())


def test_elements_of_a_result_cannot_be_assigned():
    """Those of a leaf can, noticed by backward: see tests/test_inplace.py."""
    x = md.tensor(A, requires_grad=True) * 2.0
    with pytest.raises(BadInput, match="^a result of Mul cannot be written to"):
        x[0] = 1.0
