"""The checker is checked: it passes what is right, and says where and by how much the rest is wrong."""

import re

import numpy as np
import pytest

import minidiff as md
from minidiff import ops
from minidiff.autograd import Op
from minidiff.errors import BadInput
from minidiff.gradcheck import Comparison, GradcheckError, compare, gradcheck
from minidiff.tensor import Tensor


class Square(Op):
    """y = x², with `spoil` applied to its gradient."""

    def forward(self, x):
        self.save(x)
        return x * x

    def backward(self, gy):
        (x,) = self.saved
        return self.spoil(gy * 2.0 * x, x)


def square(spoil):
    return lambda x: Square(spoil=spoil)(x)


def wrong_at_1_2(gx, x):
    mask = np.zeros(x.shape)
    mask[1, 2] = 0.001
    return gx * Tensor(1.0 + mask)


@pytest.fixture
def x(rng):
    return rng.uniform(0.5, 1.5, (2, 3))


@pytest.mark.parametrize("order", [1, 2])
def test_what_is_right_passes(x, order):
    assert gradcheck(square(lambda gx, x: gx), [x], order)
    assert gradcheck(lambda a, b: (a * b).tanh().sum(0), [x, x + 1.0], order)
    assert gradcheck(lambda a: a + 1.0, [x], order)  # linear: its second derivative is zero


@pytest.mark.parametrize(
    "spoil",
    [lambda gx, x: gx * 0.0, lambda gx, x: gx * 1.0001, lambda gx, x: -gx, lambda gx, x: gx + 0.001, lambda gx, x: gx * float("nan")],
    ids=["zeros", "a factor", "a sign", "an offset", "not a number"],
)
def test_what_is_wrong_is_caught(x, spoil):
    with pytest.raises(GradcheckError, match="^Square: gradient of input 0 at index "):
        gradcheck(square(spoil), [x])


def test_the_error_names_the_operation_the_input_the_element_and_both_slopes(x):
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda a, b: square(wrong_at_1_2)(b), [x, x])
    error = caught.value
    assert (error.input, error.index) == (1, (1, 2))
    assert error.analytic == pytest.approx(1.001 * error.numeric)
    expected = f"Square: gradient of input 1 at index (1, 2): analytic {error.analytic:.8g}, numeric {error.numeric:.8g}"
    assert str(error) == expected
    assert isinstance(error, AssertionError)


def test_the_name_can_be_given(x):
    with pytest.raises(GradcheckError, match="^my layer: gradient of input 0 "):
        gradcheck(square(lambda gx, x: gx * 2.0), [x], name="my layer")


def test_large_inputs_are_checked_along_random_directions(rng):
    x = rng.uniform(0.5, 1.5, (40, 30))
    assert gradcheck(square(lambda gx, x: gx), [x], 2)
    with pytest.raises(GradcheckError, match="^Square: gradient of input 0 along a random direction: analytic ") as caught:
        gradcheck(square(lambda gx, x: gx * 1.01), [x])
    assert caught.value.index is None


def test_a_gradient_that_sums_to_zero_is_still_seen(x):
    """All-ones upstream gradients are blind here: the true gradient of Σ softmax is zero, like a broken one."""
    y = Tensor(x, requires_grad=True)
    ops.softmax(y).sum().backward()
    assert np.abs(y.grad.data).max() < 1e-15
    assert gradcheck(ops.softmax, [x])
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: ops.softmax(x) * 0.0 + ops.softmax(x.detach()), [x])


@pytest.mark.parametrize(
    "spoil",
    [lambda gx, x: gx.detach(), lambda gx, x: gx * x / x.detach(), lambda gx, x: gx * 0.5 + gx.detach() * 0.5],
    ids=["cut off", "a factor", "half cut off"],
)
def test_a_right_gradient_with_a_wrong_second_one_passes_the_first_order_only(x, spoil):
    fn = square(spoil)
    assert gradcheck(fn, [x]) and max(c.error for c in compare(fn, [x])) < 1e-9
    with pytest.raises(GradcheckError, match="^Square, second order: gradient of input 0 "):
        gradcheck(fn, [x], 2)


@pytest.mark.parametrize("spoil", [lambda gy: gy.detach(), lambda gy: gy * 0.5 + gy.detach() * 0.5], ids=["all", "half"])
def test_a_linear_operation_that_cuts_off_the_history_of_gy_passes_the_first_order_only(x, spoil):
    """Its gradient is a constant, so only a derivative along gy can tell."""

    class Double(Op):
        def forward(self, x):
            return 2.0 * x

        def backward(self, gy):
            return 2.0 * spoil(gy)

    assert gradcheck(lambda x: Double()(x), [x])
    with pytest.raises(GradcheckError, match="^Double, second order: gradient of gy at index ") as caught:
        gradcheck(lambda x: Double()(x), [x], 2)
    assert caught.value.input is None


@pytest.mark.parametrize("order", [1, 2])
def test_several_outputs_are_checked_together(x, order):
    assert gradcheck(lambda a: (a.exp(), (a * a).sum(), a), [x], order)
    assert gradcheck(lambda a: [Tensor(a.data > 1.0), a.exp()], [x], order)  # a mask has no gradient
    with pytest.raises(GradcheckError, match="^Exp: gradient of input 0 "):
        gradcheck(lambda a: (a.exp(), square(lambda gx, x: gx * 1.01)(a)), [x], order)


def test_an_output_that_depends_on_no_input_is_a_constant(x):
    constant = md.tensor(np.ones(2))
    assert gradcheck(lambda a: (a * a, constant), [x], 2)


def test_options_are_passed_on(x):
    assert gradcheck(ops.softmax, [x], 2, options={"axis": 0})
    with pytest.raises(BadInput, match="^softmax: axis 5 "):
        gradcheck(ops.softmax, [x], options={"axis": 5})


def test_compare_tells_how_far_off_each_input_is(x):
    right, wrong = compare(lambda a, b: a * square(lambda gx, x: gx * 1.5)(b), [x, x + 1.0])
    assert (right.input, wrong.input) == (0, 1)
    assert right.error < 1e-9
    assert wrong.error == pytest.approx(abs(wrong.analytic - wrong.numeric) / wrong.scale, rel=0.01)
    assert wrong.analytic == pytest.approx(1.5 * wrong.numeric)


def test_compare_of_order_2_is_of_order_2_alone_and_includes_gy(x):
    found = compare(square(lambda gx, x: gx.detach()), [x], 2)
    assert [c.input for c in found] == [0, None]
    assert min(c.error for c in found) > 0.1
    assert max(c.error for c in compare(square(lambda gx, x: gx), [x], 2)) < 1e-9


def test_an_error_is_relative_to_the_largest_gradient_and_infinite_for_nan():
    assert Comparison(0, (0,), 101.0, 100.0, scale=101.0).error == pytest.approx(1 / 101.01)
    assert Comparison(0, (0,), 0.0, 1e-9, scale=0.0).error == pytest.approx(1e-7)  # absolute where all are small
    assert Comparison(0, (0,), float("nan"), 1.0, scale=1.0).error == float("inf")
    assert not Comparison(0, (0,), float("nan"), 1.0, scale=1.0).within(1.0, 1.0)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_a_single_number_and_no_number_can_be_checked(shape):
    assert gradcheck(lambda a, b: (a * b).exp() + b.sum(), [np.full(shape, 0.5), np.ones(1)], 2)


def test_inputs_are_copied_to_float64_and_left_alone(x):
    given = x.astype(np.float32)
    given.flags.writeable = False
    tensor = md.tensor(given, requires_grad=True)
    seen = set()
    assert gradcheck(lambda a, b: seen.update({a.dtype, b.dtype}) or a * b, [given, tensor])
    assert seen == {np.dtype(np.float64)} and tensor.grad is None


def test_what_holds_no_floats_is_passed_on_unchecked(x):
    labels = np.array([0, 2])
    assert gradcheck(lambda a, i, j: ops.cross_entropy(a, i) + j.sum() * 0.0, [x, labels, md.tensor(labels)])


def test_no_input_of_floats_goes_unchecked(x):
    """An array is checked; a tensor that requires no gradient is refused, alone and beside others."""
    with pytest.raises(GradcheckError):
        gradcheck(lambda a, c: a * c.detach(), [x, x])
    fixed = md.tensor(x)
    for inputs, i in [([fixed], 0), ([x, fixed], 1), ([fixed, md.tensor(x, requires_grad=True)], 0)]:
        message = (
            f"gradcheck: input {i} requires no gradient; make it with requires_grad=True, or, if it is not to be checked,"
            f" use it inside fn instead"
        )
        for check in (gradcheck, compare):
            with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
                check(lambda a, c=fixed: a * c.detach(), inputs)


def test_bfloat16_holds_floats_too(x):
    pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    narrow = md.tensor(x, requires_grad=True, dtype="bfloat16")
    for given in (narrow, narrow.data):
        with pytest.raises(GradcheckError):
            gradcheck(lambda a, c: a * c.detach(), [x, given])


def test_a_kink_is_not_smooth():
    with pytest.raises(GradcheckError, match=r"^ReLU: gradient of input 0 at index \(1,\): analytic -?0, numeric "):
        gradcheck(ops.relu, [np.array([1.0, 0.0])])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradcheck(ops.exp, [np.ones(2)], 3), "gradcheck: order must be 1 or 2, got 3"),
        (lambda: gradcheck(ops.exp, [np.array([1, 2])]), "gradcheck: no input holds floating-point numbers"),
        (lambda: gradcheck(lambda x: x.astype(np.float32), [np.ones(2)]),
         "gradcheck: fn must give a float64 tensor computed from its inputs; it gave a float32 tensor"),
        (lambda: gradcheck(lambda x: x.data, [np.ones(2)]),
         "gradcheck: fn must give a float64 tensor computed from its inputs; it gave a ndarray"),
        (lambda: gradcheck(lambda x: x.detach(), [np.ones(2)]),
         "gradcheck: fn must give a float64 tensor computed from its inputs; its result has no history"),
        (lambda: gradcheck(lambda x: (x, x.astype(np.float32)), [np.ones(2)]),
         "gradcheck: fn must give a float64 tensor computed from its inputs; output 1 is a float32 tensor"),
        (lambda: gradcheck(lambda x: (md.tensor([1, 2]),), [np.ones(2)]),
         "gradcheck: fn must give a float64 tensor computed from its inputs; it gave none"),
        (lambda: gradcheck(lambda x: x * np.random.default_rng().random(), [np.ones(2)]),
         "gradcheck: fn gives another result each time; seed its chance, as manual_seed(0) does"),
        (lambda: compare(ops.exp, [np.ones(2)], 0), "gradcheck: order must be 1 or 2, got 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()


def test_a_second_input_beside_the_list_is_named():
    x = Tensor(np.ones(2), requires_grad=True)
    for second in (x, x.data):
        with pytest.raises(BadInput, match=r"^gradcheck: order must be 1 or 2, not a \w+; several inputs are given as one list$"):
            gradcheck(lambda x, y: x * y, x, second)
