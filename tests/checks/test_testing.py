"""`check_op` passes what is right and says in one line what is wrong, where and by how much."""

import re

import numpy as np
import pytest

import minidiff as md
from minidiff import ops
from minidiff.autograd import FusedOp, Op
from minidiff.checks import CASES
from minidiff.checks.testing import LAYOUTS, TOLERANCE, Subject, check_op, error, laid_out, parametrize
from minidiff.errors import BadInput
from minidiff.gradcheck import GradcheckError
from minidiff.tensor import Tensor

X = np.linspace(-2.0, 2.375, 8).reshape(2, 4)


class Cube(Op):
    """y = x³            gx = 3 gy x², each of which a test may spoil"""

    def forward(self, x):
        self.save(x)
        return self.value(x * x * x, x)

    def backward(self, gy):
        (x,) = self.saved
        return self.gradient(3.0 * gy * x * x, gy)


def cube(value=lambda y, x: y, gradient=lambda gx, gy: gx):
    return lambda x: Cube(value=value, gradient=gradient)(x)


class FusedSquare(FusedOp):
    """y = x²            gx = 2 gy x by its kernel, 2.02 gy x by its reference"""

    portable = True

    def forward(self, x):
        return x * x

    def backward(self, gy):
        (x,) = self.saved
        return 2.0 * gy * x

    @staticmethod
    def reference(x):
        return 1.01 * x * x


# -------------------------------------------------------------------------------------- what is right


def test_what_is_right_passes():
    check_op(cube(), [X], reference=lambda x: x**3)
    check_op(lambda a, b: (a * b).tanh().sum(0), [X, X[0] + 1.0])
    check_op(ops.softmax, [X], options={"axis": 0})


def test_labels_are_passed_on_in_their_own_dtype():
    seen = set()
    check_op(lambda x, i: seen.add(i.dtype) or ops.cross_entropy(x, i), [X, np.array([3, 0])])
    assert seen == {np.dtype(np.int64)}


def test_several_outputs_are_checked_together():
    check_op(lambda x: (x.exp(), x.sum(1)), [X], reference=lambda x: (np.exp(x), x.sum(1)))
    with pytest.raises(AssertionError, match=r"^fn: output 1 in float32, contiguous at index \(1,\): "):
        check_op(lambda x: (x.exp(), x.sum(1)), [X], reference=lambda x: (np.exp(x), 1.01 * x.sum(1)), name="fn")


def test_a_mask_among_the_outputs_has_values_but_no_gradient():
    check_op(lambda x: (x * x, Tensor(x.data > 0)), [X], reference=lambda x: (x * x, x > 0))
    with pytest.raises(AssertionError, match=r"^fn: output 1 in float32, contiguous at index \(0, 0\): "):
        check_op(lambda x: (x * x, Tensor(x.data > 0)), [X], reference=lambda x: (x * x, x < 0), name="fn")


def test_a_reference_may_be_made_of_tensors():
    check_op(ops.silu, [X], reference=lambda x: Tensor(x) * ops.sigmoid(Tensor(x)))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_single_numbers_and_no_numbers_are_checked(shape):
    check_op(cube(), [np.full(shape, 0.7)], reference=lambda x: x**3)


# -------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (cube(lambda y, x: 1.001 * y),
         "fn: value in float32, contiguous at index (1, 3): 13.40988"),
        (cube(lambda y, x: y.astype(np.float64)), "fn: value in float32, contiguous is float64, expected float32"),
        (cube(lambda y, x: y.astype(np.float32)), "fn: value in float64, contiguous is float32, expected float64"),
        (cube(lambda y, x: y if x.flags.c_contiguous or x.dtype == np.float64 else -y),
         "fn: value in float32, fortran at index (1, 3): -13.396484, expected 13.396484 (relative error 2.0e+00, limit 5e-06)"),
        (cube(lambda y, x: y[..., None]), "fn: value in float32, contiguous has shape (2, 4, 1), expected (2, 4)"),
        (cube(lambda y, x: np.add(x, 0, out=x) if x.dtype == np.float32 else y),
         "fn: writes to its input or to gy in float32, contiguous: output array is read-only"),
        (cube(gradient=lambda gx, gy: gx if gx.dtype == np.float64 else -gx),
         "fn: gradient of input 0 in float32, contiguous at index (1, 3): "),
        (cube(gradient=lambda gx, gy: gx * float("nan")),
         "fn: gradient of input 0 in float32, contiguous at index (0, 0): nan, expected nan (relative error inf, limit 5e-06)"),
        (cube(gradient=lambda gx, gy: gx.detach()), "fn, second order: gradient of input 0 at index "),
        (cube(gradient=lambda gx, gy: 1.1 * gx), "fn: gradient of input 0 at index (1, 3): analytic "),
        (lambda x: FusedSquare()(x), "fn: value in float32, contiguous at index (1, 3): 5.640625, expected 5.6970313"),
    ],
    ids=["value", "promotes", "demotes", "layout", "shape", "writes", "gradient in one dtype", "not a number",
         "not differentiable", "gradient", "reference"],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(fn, message):
    expected = (lambda x: x**3) if "5.6970313" not in message else lambda x: 1.01 * x * x
    with pytest.raises(AssertionError, match=f"^{re.escape(message)}") as caught:
        check_op(fn, [X], expected, name="fn")
    assert "\n" not in str(caught.value)


def test_a_kernel_that_differs_from_its_reference_is_found_without_any_expected_value():
    with pytest.raises(AssertionError, match=r"^fn: gradient of input 0 in float32, contiguous at index \(1, 3\): "):
        check_op(lambda x: FusedSquare()(x), [X], name="fn")
    with pytest.raises(AssertionError, match=r"^fn: gradient of input 0 beside create_graph's at index \(1, 3\): "):
        check_op(lambda x: FusedSquare()(x), [X], name="fn", dtypes=[], orders=[1])
    with pytest.raises(GradcheckError, match="^fn, second order: gradient of input 0 "):
        check_op(lambda x: FusedSquare()(x), [X], name="fn", dtypes=[])


def test_writing_to_an_input_in_spite_of_its_flag_is_found():
    def forced(y, x):
        if x.dtype == np.float32:
            x.flags.writeable = True
            x[0, 0] = 7.0
        return y

    with pytest.raises(AssertionError, match="^fn: changes its input 0 in float32, contiguous$"):
        check_op(cube(forced), [X], name="fn", layouts=["contiguous"])


class Kept(Cube):
    """Gives the array that it keeps: right the first time, and for whoever writes to no gradient."""

    def backward(self, gy):
        self.cache = super().backward(gy) if self.cache is None else self.cache
        return self.cache


def test_a_gradient_that_is_not_the_leafs_alone_is_found():
    with pytest.raises(AssertionError, match="^fn: the gradient of input 0 of another pass in float64 shares its memory with the gradient of input 0$"):
        check_op(lambda x: Kept(value=lambda y, x: y, gradient=lambda gx, gy: gx)(x), [X], name="fn", orders=(1,), dtypes=["float64"])


class Product(Op):
    """y = a b, with gradients that depend on who asks"""

    def forward(self, a, b):
        self.save(a, b)
        return a * b

    def backward(self, gy):
        a, b = self.saved
        return gy * b * (1.0 if self.needs[1] else 2.0), gy * a


def test_a_gradient_that_changes_when_it_is_asked_for_alone_is_found():
    with pytest.raises(AssertionError, match=r"^fn: gradient of input 0 alone at index "):
        check_op(lambda a, b: Product()(a, b), [X, X + 5.0], name="fn")


def test_recording_without_need_is_found():
    hidden = md.tensor([1.0], requires_grad=True)
    with pytest.raises(AssertionError, match="^fn: recorded for backward though no input needs a gradient$"):
        check_op(lambda x: x * hidden.astype(x.dtype), [X], name="fn")


def test_a_gradcheck_error_is_raised_as_such():
    with pytest.raises(GradcheckError, match="^layer: gradient of input 0 "):
        check_op(cube(gradient=lambda gx, gy: 1.1 * gx), [X], name="layer", dtypes=[], orders=[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dtypes=["float16"]), "check_op: dtype 'float16' is unknown; it is one of float32, float64"),
        (dict(layouts=["sparse"]), "check_op: layout 'sparse' is unknown; it is one of contiguous, fortran, every second, backwards"),
        (dict(orders=[3]), "check_op: order 3 is unknown; it is one of 1, 2"),
    ],
)  # fmt: skip
def test_unknown_options_are_answered_in_one_line(options, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        check_op(ops.exp, [X], **options)


def test_nothing_to_differentiate_is_bad_input():
    with pytest.raises(BadInput, match="^exp: no input holds floating-point numbers, so there is nothing to check$"):
        check_op(ops.exp, [np.array([1, 2])])


# -------------------------------------------------------------------------------------- its parts


@parametrize(cube(), [X], reference=lambda x: x**3, name="cube")
def test_each_check_can_be_a_test_of_its_own(check):
    check()


def test_parametrize_names_each_check():
    marked = parametrize(lambda a, b: a * b, [X, X], layouts=["fortran"], name="product").args[1]
    assert [p.id for p in marked] == ["float32, fortran", "float64, fortran", "order 1", "order 2", "create_graph",
                                      "input 0 alone", "input 1 alone", "no gradient needed",
                                      "own memory, float32", "own memory, float64"]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0)])
def test_layouts_hold_the_same_numbers_in_other_places_and_are_read_only(layout, shape):
    a = np.arange(np.prod(shape), dtype=float).reshape(shape)
    b = laid_out(a, layout)
    np.testing.assert_array_equal(a, b)
    assert not b.flags.writeable and not np.shares_memory(a, b)
    if shape == (2, 3):
        assert b.flags.c_contiguous == (layout == "contiguous")


def test_error_is_relative_to_the_largest_number():
    assert error([100.0, 1.0], [100.0, 2.0]) == 0.01
    assert error([0.0], [1e-3]) == 1e-3  # absolute below 1
    assert error([np.inf, 1.0], [np.inf, 1.0]) == 0.0
    assert error([np.inf], [1.0]) == np.inf and error([np.nan], [1.0]) == np.inf
    assert error(np.zeros((0, 2)), np.zeros((0, 2))) == 0.0


def test_every_case_of_the_table_begins_with_numbers_that_float32_holds():
    for case in CASES:
        for a in Subject(case.ours, case.inputs()).arrays:
            np.testing.assert_array_equal(a, a.astype(np.float32))
    assert list(TOLERANCE) == ["float32", "float64"]
