"""Every operation of the table, in every dtype and memory layout, against its expected values and by gradcheck."""

import functools
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import ndtr

from minidiff import ops
from minidiff.autograd import grad
from minidiff.checks import CASES
from minidiff.gradcheck import gradcheck
from minidiff.nn import functional as F
from minidiff.tensor import Tensor

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
NO_DERIVATIVE = {"as_tensor", "one_hot"}

# The same numbers, elsewhere in memory. All are read-only, so an operation that writes to its input fails.
LAYOUTS = {
    "contiguous": lambda a: a.copy(),
    "fortran": lambda a: a.copy(order="F"),
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a.copy(),
    "backwards": lambda a: np.flip(np.flip(a).copy()),
}
# float32 carries 24 bits and a sum of up to 100 numbers loses a few; float64 likewise.
TOLERANCE = {"float32": 4e-6, "float64": 1e-12}


def laid_out(array, layout):
    array = np.asarray(LAYOUTS[layout](array))
    array.flags.writeable = False
    return array


def run(case, arrays, u, create_graph=False):
    """y and the gradients of Σ u y."""
    xs = [Tensor(a, requires_grad=True) for a in arrays]
    y = case.ours(*xs)
    return y, grad(y, xs, Tensor(u), create_graph=create_graph)


@functools.cache
def exactly(name):
    """Inputs that float32 holds, u, and what comes out of them in float64."""
    (case,) = (case for case in CASES if case.name == name)
    arrays = [a.astype(np.float64) for a in case.inputs(np.float32)]
    y = np.asarray(case.expected(*arrays))
    u = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32).astype(np.float64)
    _, gs = run(case, arrays, u)
    return arrays, u, y, [g.data for g in gs]


def assert_close(actual, expected, tolerance):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * (1 + np.abs(expected).max(initial=0)))


@EACH
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_values_and_gradients_in_every_dtype_and_layout(case, dtype):
    arrays, u, y, gs = exactly(case.name)
    for layout in LAYOUTS:
        given_arrays = [laid_out(a.astype(dtype), layout) for a in arrays]
        upstream = laid_out(u.astype(dtype), layout)
        actual, actual_gs = run(case, given_arrays, upstream)
        assert {t.dtype.name for t in (actual, *actual_gs)} == {dtype}
        assert_close(actual.data, y, TOLERANCE[dtype])
        for actual_g, g in zip(actual_gs, gs, strict=True):
            assert_close(actual_g.data, g, TOLERANCE[dtype])
        for before, after in zip((*arrays, u), (*given_arrays, upstream), strict=True):
            np.testing.assert_array_equal(before, after)


@EACH
@pytest.mark.parametrize("order", [1, 2])
def test_gradients_agree_with_differences(case, order):
    assert gradcheck(case.ours, case.inputs(), order, h=case.h)


@EACH
def test_differentiable_gradients_are_the_same_gradients(case):
    """With create_graph a fused operation differentiates its reference; its kernel must mean the same."""
    arrays, u, _, gs = exactly(case.name)
    for g, other in zip(gs, run(case, arrays, u, create_graph=True)[1], strict=True):
        assert_close(g, other.data, 1e-12)


@pytest.mark.parametrize("case", [c for c in CASES if len(c.draws) > 1], ids=lambda case: case.name)
def test_each_gradient_alone_is_the_same_as_all_together(case):
    arrays, u, _, gs = exactly(case.name)
    for wanted, g in enumerate(gs):
        xs = [Tensor(a, requires_grad=i == wanted) for i, a in enumerate(arrays)]
        case.ours(*xs).backward(u)
        assert [x.grad is None for x in xs] == [i != wanted for i in range(len(xs))]
        assert_close(xs[wanted].grad.data, g, 1e-12)


@EACH
def test_nothing_is_recorded_for_inputs_that_need_no_gradient(case):
    y = case.ours(*map(Tensor, case.inputs()))
    assert not y.requires_grad and y.creator is None


def test_every_public_operation_is_in_the_table():
    public = {n for module in (ops, F) for n in module.__all__ if inspect.isfunction(getattr(module, n))}
    assert public - {case.operation for case in CASES} == NO_DERIVATIVE


def test_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)


# ------------------------------------------------------------------------------------- properties


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3), st.sampled_from(["add", "mul", "sub"]))
def test_any_shapes_broadcast_and_every_gradient_has_its_inputs_shape(shapes, name):
    rng = np.random.default_rng(0)
    a, b = (Tensor(rng.standard_normal(s), requires_grad=True) for s in shapes.input_shapes)
    y = getattr(ops, name)(a, b)
    u = rng.standard_normal(y.shape)
    y.backward(u)
    slopes = {"add": (1.0, 1.0), "sub": (1.0, -1.0), "mul": (b.data, a.data)}[name]
    assert y.shape == shapes.result_shape
    for x, slope in zip((a, b), slopes, strict=True):
        repeats = np.broadcast_to(u * slope, y.shape)
        lead = y.ndim - x.ndim
        repeated = tuple(i for i in range(y.ndim) if i < lead or x.shape[i - lead] == 1)
        np.testing.assert_allclose(x.grad.data, repeats.sum(repeated).reshape(x.shape), rtol=1e-12, atol=1e-12)


@given(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), st.data())
def test_put_is_the_transpose_of_getitem(shape, data):
    """⟨x[index], y⟩ = ⟨x, put(y)⟩ for any index."""
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal(shape))
    taken = ops.getitem(x, index)
    y = Tensor(rng.standard_normal(taken.shape))
    assert np.isclose((taken * y).sum().item(), (x * ops.put(y, index, shape)).sum().item())


@pytest.mark.parametrize("name", ["group_norm", "group_norm_gelu"])
@pytest.mark.parametrize("scale", [3.0, 0.25])
def test_group_norm_is_invariant_to_scale_and_shift_of_a_sample(rng, name, scale):
    x = rng.standard_normal((2, 4, 3, 3))
    norm = functools.partial(getattr(ops, name), num_groups=2, eps=0.0)
    np.testing.assert_allclose(norm(Tensor(scale * x - 5.0)).data, norm(Tensor(x)).data, rtol=1e-9, atol=1e-9)


def test_softmax_is_invariant_to_shift_and_survives_large_numbers():
    x = np.array([[1000.0, 1001.0], [-1000.0, -1001.0]], np.float32)
    y = ops.softmax(Tensor(x)).data
    np.testing.assert_allclose(y, [[0.2689414, 0.7310586], [0.7310586, 0.2689414]], rtol=1e-6)
    np.testing.assert_allclose(ops.log_softmax(Tensor(x)).data, np.log(y), rtol=1e-6)
    assert ops.logsumexp(Tensor(x)).item() == pytest.approx(1001.3132617)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["gelu", "silu", "sigmoid", "tanh"])
def test_activations_are_finite_far_out(name, dtype):
    x = Tensor(np.array([-400.0, 0.0, 400.0], dtype), requires_grad=True)
    y = getattr(ops, name)(x)
    y.sum().backward()
    low, high = (0.0, 400.0) if name in ("gelu", "silu") else (-1.0 if name == "tanh" else 0.0, 1.0)
    np.testing.assert_array_equal(y.data[[0, 2]], [low, high])
    np.testing.assert_array_equal(x.grad.data[[0, 2]], [0.0, 1.0 if high == 400 else 0.0])


def test_gelu_in_float32_is_exact_to_its_own_rounding():
    """The polynomial behind it is good to 1.5e-7 of the probability, so to 1.5e-7 |x| of the result."""
    x = np.linspace(-8, 8, 20_001, dtype=np.float32)
    exact = x.astype(np.float64) * ndtr(x.astype(np.float64))
    error = np.abs(ops.gelu(Tensor(x)).data - exact)
    assert (error <= 3e-7 * (1 + np.abs(x))).all()



@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share_the_gradient_of_an_extreme(name):
    x = Tensor(np.array([[1.0, 3.0, 1.0, 3.0], [2.0, 2.0, 2.0, 2.0]]), requires_grad=True)
    getattr(x, name)(1).sum().backward()
    first = [0, 0.5, 0, 0.5] if name == "max" else [0.5, 0, 0.5, 0]
    np.testing.assert_array_equal(x.grad.data, [first, [0.25] * 4])


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_tie_of_two_tensors_goes_to_the_first(name):
    a, b = (Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    getattr(ops, name)(a, b).sum().backward()
    np.testing.assert_array_equal(a.grad.data, [1.0, 1.0])
    np.testing.assert_array_equal(b.grad.data, [0.0, 0.0])


@pytest.mark.parametrize("name", ["exp", "gelu", "silu", "softmax", "sum", "abs", "neg"])
def test_an_empty_batch_goes_through(name):
    x = Tensor(np.zeros((0, 3), np.float32), requires_grad=True)
    y = getattr(ops, name)(x)
    y.sum().backward()
    assert x.grad.shape == (0, 3) and x.grad.dtype == np.float32


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: ops.conv2d(x, Tensor(np.ones((3, 2, 3, 3), np.float32)), padding=1),
        lambda x: ops.conv_transpose2d(x, Tensor(np.ones((2, 3, 2, 2), np.float32)), stride=2),
        lambda x: ops.group_norm(x, 2),
        lambda x: ops.group_norm_gelu(x, 1),
    ],
    ids=["conv2d", "conv_transpose2d", "group_norm", "group_norm_gelu"],
)
def test_an_empty_batch_of_images_goes_through(layer):
    x = Tensor(np.zeros((0, 2, 4, 4), np.float32), requires_grad=True)
    y = layer(x)
    assert y.shape[0] == 0
    y.backward(np.zeros(y.shape, np.float32))
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("name", ["max", "min", "sum", "abs", "neg"])
def test_integers_are_reduced_too(name):
    x = np.array([[3, -1], [2, 7]])
    expected = {"max": np.max, "min": np.min, "sum": np.sum, "abs": np.abs, "neg": np.negative}[name](x)
    y = getattr(ops, name)(Tensor(x))
    np.testing.assert_array_equal(y.data, expected)
    assert y.dtype.kind == "i"
