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
from minidiff.checks.testing import LAYOUTS, TOLERANCE, Subject
from minidiff.gradcheck import gradcheck
from minidiff.nn import functional as F
from minidiff.tensor import Tensor, tensor

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
NO_DERIVATIVE = {"argmax", "argmin", "as_tensor", "eq", "ge", "gt", "le", "lt", "ne", "one_hot"}

def leaf(numbers):
    return Tensor(np.array(numbers, np.float64), requires_grad=True)


@functools.cache
def subject(case):
    return Subject.of(case)


@EACH
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_values_and_gradients_in_every_dtype_and_layout(case, dtype):
    for layout in LAYOUTS:
        subject(case).check_values_and_gradients(dtype, layout)


@EACH
@pytest.mark.parametrize("order", [1, 2])
def test_gradients_agree_with_differences(case, order):
    assert gradcheck(case.ours, case.inputs(), order, h=case.h)


@EACH
def test_differentiable_gradients_are_the_same_gradients(case):
    """With create_graph a fused operation differentiates its reference; its kernel must mean the same."""
    subject(case).check_create_graph()


@pytest.mark.parametrize("case", [c for c in CASES if len(c.draws) > 1], ids=lambda case: case.name)
def test_each_gradient_alone_is_the_same_as_all_together(case):
    for wanted in subject(case).floating:
        subject(case).check_alone(wanted)


@EACH
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gradients_may_be_written_to_and_nothing_else_changes(case, dtype):
    subject(case).check_own_memory(dtype)


@EACH
def test_nothing_is_recorded_for_inputs_that_need_no_gradient(case):
    subject(case).check_nothing_recorded()


def test_every_public_operation_is_in_the_table():
    public = {n for module in (ops, F) for n in module.__all__ if inspect.isfunction(getattr(module, n))}
    assert public - {case.operation for case in CASES} == NO_DERIVATIVE


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


@st.composite
def indices(draw, shape):
    """Any index NumPy takes: slices, integers, new axes and dots, with arrays of integers that may name one place twice."""
    index = draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    parts = list(index) if isinstance(index, tuple) else [index]
    whole = [i for i, part in enumerate(parts) if isinstance(part, slice)]
    if whole and draw(st.booleans()):
        i = draw(st.sampled_from(whole))
        before = sum(part is not None for part in parts[:i])
        n = shape[before] if Ellipsis not in parts[:i] else shape[before - sum(part is not None for part in parts)]
        places = draw(st.lists(st.integers(-n, n - 1), max_size=5))
        parts[i] = draw(st.sampled_from([np.array(places, int), places, tuple(places)]))
    return tuple(parts)


@given(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), st.data())
def test_put_is_the_transpose_of_getitem(shape, data):
    """⟨x[index], y⟩ = ⟨x, put(y)⟩ for any index."""
    index = data.draw(indices(shape))
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    taken = ops.getitem(Tensor(x), index)
    np.testing.assert_array_equal(taken.data, x[index])
    y = rng.standard_normal(taken.shape)
    assert np.isclose((taken.data * y).sum(), (x * ops.put(Tensor(y), index, shape).data).sum())


@pytest.mark.parametrize("index", [lambda i: i, lambda i: (slice(None), i % 7), lambda i: (i, i % 7)], ids=["rows", "columns", "pairs"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_repeats_are_added_in_the_order_of_the_index(rng, dtype, index):
    """So the sum is NumPy's add.at to the last bit, though it takes a faster way."""
    index = index(rng.integers(0, 30, 1000))
    x = (100 * rng.standard_normal(np.empty((30, 7))[index].shape)).astype(dtype)
    expected = np.zeros((30, 7), dtype)
    np.add.at(expected, index, x)
    np.testing.assert_array_equal(ops.put(Tensor(x), index, (30, 7)).data, expected)


@pytest.mark.parametrize(
    "index",
    [((0, 0, 1), (1, 1, 2)), ([0, 0, 1], (1, 1, 2)), ((1, 1, 0),), (slice(None), (1, 1)), (range(2), (1, 1)), (Tensor(np.array([1, 1])), 0), ((),)],
    ids=["tuples", "list and tuple", "one tuple", "slice and tuple", "range", "tensor", "empty tuple"],
)  # fmt: skip
def test_every_sequence_in_an_index_may_name_a_place_twice(index):
    """As `rows, cols = zip(...)` makes them: the place that is named twice receives the gradient of both."""
    places = tuple(np.array(part.data if isinstance(part, Tensor) else part) if not isinstance(part, slice) else part for part in index)
    places = tuple(part.astype(int) if isinstance(part, np.ndarray) else part for part in places)
    x = leaf(np.arange(12.0).reshape(3, 4))
    y = x[index]
    np.testing.assert_array_equal(y.data, x.data[places])
    u = np.arange(1.0, 1.0 + y.size).reshape(y.shape)
    y.backward(u)
    expected = np.zeros((3, 4))
    np.add.at(expected, places, u)
    np.testing.assert_array_equal(x.grad.data, expected)
    np.testing.assert_array_equal(ops.put(Tensor(u), index, (3, 4)).data, expected)
    written = Tensor(x.data.copy())
    written[index] = u
    x.data[places] = u
    np.testing.assert_array_equal(written.data, x.data)


@given(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=3, max_side=3))
def test_matmul_is_numpys_for_every_rank(shapes):
    assert_multilinear(ops.matmul, np.matmul, shapes.input_shapes)


@given(st.data())
def test_einsum_is_numpys_for_any_subscripts(data):
    sizes = {"a": 2, "b": 3, "c": 1, "d": 2}
    parts = data.draw(st.lists(st.text("abcd", max_size=3), min_size=1, max_size=4))
    subscripts = ",".join(parts)
    if data.draw(st.booleans()):
        subscripts += "->" + "".join(data.draw(st.permutations(sorted(set("".join(parts)))))[: data.draw(st.integers(0, 3))])
    shapes = [tuple(sizes[letter] for letter in part) for part in parts]
    assert_multilinear(lambda *xs: ops.einsum(subscripts, *xs), lambda *xs: np.einsum(subscripts, *xs), shapes)


def assert_multilinear(ours, numpys, shapes):
    """The values are NumPy's. As y is linear in each x alone, ⟨gx, x⟩ = ⟨gy, y⟩ for each, and for another x likewise."""
    rng = np.random.default_rng(0)
    xs = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]
    y = ours(*xs)
    np.testing.assert_allclose(y.data, numpys(*(x.data for x in xs)), rtol=1e-12, atol=1e-12)
    u = rng.standard_normal(y.shape)
    y.backward(u)
    for i, x in enumerate(xs):
        other = rng.standard_normal(x.shape)
        moved = numpys(*(other if j == i else z.data for j, z in enumerate(xs)))
        assert x.grad.shape == x.shape
        np.testing.assert_allclose((x.grad.data * other).sum(), (u * moved).sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["group_norm", "group_norm_gelu", "group_norm_silu"])
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
    x = Tensor(np.array([-1000.0, 0.0, 1000.0], dtype), requires_grad=True)
    y = getattr(ops, name)(x)
    y.sum().backward()
    low, high = (0.0, 1000.0) if name in ("gelu", "silu") else (-1.0 if name == "tanh" else 0.0, 1.0)
    np.testing.assert_array_equal(y.data[[0, 2]], [low, high])
    np.testing.assert_array_equal(x.grad.data[[0, 2]], [0.0, 1.0 if high == 1000 else 0.0])


def test_gelu_in_float32_is_exact_to_its_own_rounding():
    """The polynomial behind it is good to 1.5e-7 of the probability, so to 1.5e-7 |x| of the result."""
    x = np.linspace(-8, 8, 20_001, dtype=np.float32)
    exact = x.astype(np.float64) * ndtr(x.astype(np.float64))
    error = np.abs(ops.gelu(Tensor(x)).data - exact)
    assert (error <= 3e-7 * (1 + np.abs(x))).all()



# ------------------------------------------------------------------------------ where rules meet 0 and ∞


@pytest.mark.filterwarnings("ignore:invalid value")
def test_powers_of_zero_have_pytorchs_gradients(torch):
    """0 · ∞ stands in the rules, and no number must come of it where PyTorch has one."""
    bases, exponents = [0.0, 0.0, 0.0, 0.0, 2.0, -2.0, 3.0], [0.0, 1.0, 2.0, 3.5, 0.0, 2.0, -1.0]
    x, p = leaf(bases), leaf(exponents)
    (x**p).sum().backward()
    tx, tp = (torch.tensor(numbers, dtype=torch.float64, requires_grad=True) for numbers in (bases, exponents))
    (tx**tp).sum().backward()
    np.testing.assert_array_equal(x.grad.data, tx.grad)
    np.testing.assert_array_equal(p.grad.data, tp.grad)  # no number for the negative base, here as there


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("p", "slopes"), [(0.0, [1, 0, 0]), (1.0, [0, 1, 0]), (2.0, [0, 0, 2]), (3.0, [0, 0, 0])])
def test_every_derivative_of_a_whole_power_is_right_at_zero(p, slopes, constant):
    x = leaf([0.0])
    y = x ** (p if constant else Tensor(np.array([p])))
    for slope in slopes:
        assert y.item() == slope
        y = grad(y, [x], create_graph=True)[0] + 0.0 * x  # also a derivative that is constant has one


@pytest.mark.parametrize("axis", [0, 1, None])
def test_every_derivative_of_a_product_is_right_at_zero(axis):
    """Π x over the rows of [[0, 2], [0, 3]]: the mixed second derivative is 1 (or the rest of the product)."""
    x = leaf([[0.0, 2.0], [0.0, 3.0]])
    (g,) = grad(x.prod(axis).sum(), [x], create_graph=True)
    (h,) = grad(g[0, 0], [x])
    expected = {0: [[0, 0], [1, 0]], 1: [[0, 1], [0, 0]], None: [[0, 0], [6, 0]]}[axis]
    np.testing.assert_array_equal(h.data, expected)


def test_the_deviation_of_numbers_that_are_alike_has_gradient_zero():
    x = leaf([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
    y = x.std(1)
    y.sum().backward()
    np.testing.assert_array_equal(y.data, [0.0, 1.0])
    np.testing.assert_allclose(x.grad.data, [[0, 0, 0], [-0.5, 0, 0.5]], atol=1e-15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("offset", [0.0, 1e3, -1e5])
def test_large_numbers_lose_no_digits_of_logsumexps_gradient(offset):
    """Multiples of 1/64 are exact in float32, and an equal offset changes no quotient: gradients and their own add up to gy and 0."""
    x = (np.arange(-32, 32).reshape(2, 4, 8) / 64 * 4 + offset).astype(np.float32)

    def derivatives(dtype):
        a = Tensor(x.astype(dtype), requires_grad=True)
        (g,) = grad(a.logsumexp((0, 2)).sum(), [a], create_graph=True)
        return g.data, grad((g * np.arange(8, dtype=dtype)).sum(), a).data

    for actual, expected in zip(derivatives(np.float32), derivatives(np.float64), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_logsumexp_of_infinite_numbers():
    inf = np.inf
    x = leaf([[-inf, -inf], [0.0, -inf], [inf, 0.0], [1000.0, 1000.0], [-1000.0, -1000.0]])
    y = x.logsumexp(1)
    np.testing.assert_allclose(y.data, [-inf, 0.0, inf, 1000 + np.log(2), -1000 + np.log(2)])
    x = leaf(x.data[[0, 1, 3, 4]])
    (g,) = grad(x.logsumexp(1).sum(), [x], create_graph=True)
    np.testing.assert_allclose(g.data, [[0, 0], [1, 0], [0.5, 0.5], [0.5, 0.5]])
    (h,) = grad(g[:, 0].sum(), [x])
    np.testing.assert_allclose(h.data, [[0, 0], [0, 0], [0.25, -0.25], [0.25, -0.25]], atol=1e-15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softplus_is_exact_far_out(dtype):
    x = Tensor(np.array([-1000.0, -50.0, 0.0, 50.0, 1000.0], dtype), requires_grad=True)
    y = ops.softplus(x)
    y.sum().backward()
    np.testing.assert_allclose(y.data, [0.0, np.exp(-50.0), np.log(2), 50.0, 1000.0], rtol=1e-6)
    np.testing.assert_allclose(x.grad.data, [0.0, 0.0, 0.5, 1.0, 1.0], atol=1e-6)


def test_what_was_not_chosen_receives_zero_even_where_the_gradient_is_infinite():
    a, b = leaf([1.0, 1.0]), leaf([1.0, 1.0])
    ops.where(np.array([True, False]), a, b).backward(np.array([np.inf, np.nan]))
    np.testing.assert_array_equal(a.grad.data, [np.inf, 0.0])
    np.testing.assert_array_equal(b.grad.data, [0.0, np.nan])


@pytest.mark.parametrize(
    "choose",
    [
        lambda x, i: x[i], lambda x, i: x[:, Tensor(i)], lambda x, i: ops.put(x, (i, i), (4, 4, 3)),
        lambda x, i: ops.take_along_axis(x, i[:, None], 1), lambda x, i: ops.where((i > 0)[:, None], x, 0.0),
    ],
)  # fmt: skip
def test_an_index_may_be_used_again_for_other_numbers_before_backward(choose):
    """What says where the gradient goes is kept as it was: a loader may fill its arrays anew."""
    gradients = []
    for later in ([0, 2, 1], [1, 1, 1]):
        index = np.array([0, 2, 1])
        x = leaf(np.arange(9.0).reshape(3, 3))
        y = choose(x, index)
        index[:] = later
        y.backward(np.arange(1.0, 1.0 + y.size).reshape(y.shape))
        gradients.append(x.grad.data)
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("name", ["relu", "abs", "clip", "maximum", "minimum", "leaky_relu", "softplus", "gelu", "silu"])
def test_no_number_stays_no_number(name):
    arguments = {"clip": (-1.0, 1.0), "maximum": (0.0,), "minimum": (0.0,)}.get(name, ())
    assert np.isnan(getattr(ops, name)(leaf([np.nan]), *arguments).item())


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (None, 1.0), (0.0, None), (1.0, 0.0)])
@pytest.mark.parametrize("tensors", [False, True])
def test_clip_keeps_the_gradient_inside_and_on_the_border(torch, low, high, tensors):
    numbers = [-1.0, 0.0, 0.5, 1.0, 2.0]
    x, t = leaf(numbers), torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
    ours = (None if b is None else Tensor(np.array(b)) for b in (low, high)) if tensors else (low, high)
    y, z = ops.clip(x, *ours), t.clip(low, high)
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_array_equal(y.data, z.detach())
    if low is None or high is None or low < high:  # where nothing is inside, PyTorch has gradients on the borders
        np.testing.assert_array_equal(x.grad.data, t.grad)


def test_small_numbers_keep_their_digits():
    x = Tensor(np.array([1e-12]))
    np.testing.assert_allclose(ops.expm1(x).data, [1e-12], rtol=1e-11)
    np.testing.assert_allclose(ops.log1p(x).data, [1e-12], rtol=1e-11)


@pytest.mark.parametrize(("n", "chunks"), [(6, 3), (7, 3), (5, 4), (2, 5), (0, 3), (7, 1)])
def test_chunks_are_pytorchs(torch, n, chunks):
    ours, theirs = Tensor(np.arange(n)).chunk(chunks), torch.arange(n).chunk(chunks)
    assert [list(a.data) for a in ours] == [b.tolist() for b in theirs]


@pytest.mark.parametrize(("n", "size"), [(6, 3), (7, 3), (2, 5), (0, 3)])
def test_pieces_of_one_size_are_pytorchs(torch, n, size):
    ours, theirs = Tensor(np.arange(n)).split(size), torch.arange(n).split(size)
    assert [list(a.data) for a in ours] == [b.tolist() for b in theirs]


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_the_place_of_an_extreme_is_numpys_and_carries_no_gradient(name, axis, keepdims):
    x = np.array([[1.0, 3.0, 1.0, 3.0], [2.0, 2.0, 2.0, 2.0]])
    y = getattr(ops, name)(Tensor(x, requires_grad=True), axis, keepdims)
    np.testing.assert_array_equal(y.data, getattr(np, name)(x, axis, keepdims=keepdims))
    assert y.dtype == np.int64 and not y.requires_grad
    if axis is not None and keepdims:
        extreme = getattr(ops, name[3:])(Tensor(x), axis, keepdims=True)
        np.testing.assert_array_equal(ops.take_along_axis(Tensor(x), y, axis).data, extreme.data)


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share_the_gradient_of_an_extreme(name):
    x = Tensor(np.array([[1.0, 3.0, 1.0, 3.0], [2.0, 2.0, 2.0, 2.0]]), requires_grad=True)
    getattr(x, name)(1).sum().backward()
    first = [0, 0.5, 0, 0.5] if name == "max" else [0.5, 0, 0.5, 0]
    np.testing.assert_array_equal(x.grad.data, [first, [0.25] * 4])


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_two_tensors_that_tie_share_the_gradient(name):
    a, b = leaf([1.0, 2.0, 3.0]), leaf([1.0, 3.0, 2.0])
    getattr(ops, name)(a, b).sum().backward()
    first = [0.5, 0, 1] if name == "maximum" else [0.5, 1, 0]
    np.testing.assert_array_equal(a.grad.data, first)
    np.testing.assert_array_equal(b.grad.data, 1 - np.array(first))


@pytest.mark.parametrize("name", ["sum", "prod", "cumsum", "softmax", "log_softmax", "flip", "std", "logsumexp", "max", "min", "mean"])
def test_an_empty_batch_is_reduced_row_by_row(name):
    x = Tensor(np.zeros((0, 3), np.float32), requires_grad=True)
    y = getattr(ops, name)(x, 1)
    y.sum().backward()
    assert y.shape == ((0, 3) if name in ("cumsum", "softmax", "log_softmax", "flip") else (0,))
    assert x.grad.shape == (0, 3) and x.grad.dtype == np.float32


@pytest.mark.parametrize(
    ("empty", "shape"),
    [
        (lambda x: ops.exp(x), (0, 3)), (lambda x: ops.gelu(x), (0, 3)), (lambda x: ops.silu(x), (0, 3)),
        (lambda x: ops.softplus(x), (0, 3)), (lambda x: ops.abs(x), (0, 3)), (lambda x: x**x, (0, 3)),
        (lambda x: ops.clip(x, 0, 1), (0, 3)), (lambda x: ops.maximum(x, 0.5), (0, 3)),
        (lambda x: x.sum(0), (3,)), (lambda x: x.prod(0), (3,)), (lambda x: x.prod(), ()), (lambda x: x.cumsum(0), (0, 3)),
        (lambda x: x[:0], (0, 3)), (lambda x: x[[]], (0, 3)), (lambda x: x[:, [1, 1]], (0, 2)), (lambda x: x[x.data > 0], (0,)),
        (lambda x: ops.take_along_axis(x, np.zeros((0, 2), int), 1), (0, 2)), (lambda x: x.reshape(3, 0), (3, 0)),
        (lambda x: x.T, (3, 0)), (lambda x: x.flatten(), (0,)), (lambda x: x.roll(1), (0, 3)), (lambda x: x.tile(2, 2), (0, 6)),
        (lambda x: ops.concatenate([x, x]), (0, 3)), (lambda x: ops.stack([x, x]), (2, 0, 3)), (lambda x: x.split(2)[0], (0, 3)),
        (lambda x: ops.pad(x, [(1, 1), (0, 0)]), (2, 3)), (lambda x: x @ np.ones((3, 2), np.float32), (0, 2)),
        (lambda x: x.T @ x, (3, 3)), (lambda x: ops.einsum("ij,ik->jk", x, x), (3, 3)), (lambda x: ops.einsum("ij->j", x), (3,)),
    ],
)  # fmt: skip
def test_nothing_goes_through(empty, shape):
    x = Tensor(np.zeros((0, 3), np.float32), requires_grad=True)
    y = empty(x)
    assert y.shape == shape and y.dtype == np.float32
    y.backward(np.ones(shape, np.float32))
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


# -------------------------------------------------------------------------------- whole numbers


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("name", ["max", "min", "sum", "prod", "abs", "square", "argmax", "argmin"])
def test_whole_numbers_stay_whole(name, dtype):
    x = np.array([[3, 0], [2, 7]], dtype)
    expected = getattr(np, name)(x)
    y = getattr(ops, name)(Tensor(x))
    np.testing.assert_array_equal(y.data, expected)
    assert y.dtype == (np.int64 if expected.dtype == np.uint64 else expected.dtype)  # PyTorch's sums and products


@pytest.mark.parametrize("name", ["exp", "log1p", "sqrt", "reciprocal", "sin", "sigmoid", "mean", "std", "logsumexp"])
def test_functions_of_whole_numbers_are_float32(name):
    x = np.array([1, 2, 4])
    y = getattr(ops, name)(Tensor(x))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, getattr(ops, name)(Tensor(x.astype(np.float64))).data, rtol=1e-6)


def test_whole_numbers_are_divided_as_float32_and_take_the_dtype_of_what_they_meet():
    x, y = Tensor(np.array([1, 2])), Tensor(np.array([0.5, 4.0], np.float32))
    for z in (x / x, x / 2, x**0.5, x * y, y + x, ops.maximum(x, y), ops.clip(x, 0.5), ops.concatenate([x, y]), x @ y,
              ops.einsum("i,i", x, y), ops.where(np.array([True, False]), x, y)):  # fmt: skip
        assert z.dtype == np.float32


def test_booleans_are_counted_and_scaled():
    x = Tensor(np.array([True, False, True]))
    assert x.sum().item() == 2 and x.prod().item() == 0
    np.testing.assert_array_equal((x * 3).data, [3, 0, 3])
    np.testing.assert_array_equal((x * 0.5).data, [0.5, 0.0, 0.5])


@pytest.mark.parametrize("name", ["sum", "cumsum", "prod"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int32, bool])
def test_sums_and_products_of_whole_numbers_are_int64(name, dtype):
    y = getattr(ops, name)(tensor(np.array([1, 1, 1], dtype)), 0)
    assert y.dtype == np.int64
    assert (y + tensor([1])).dtype == np.int64  # not float64, as uint64 and int64 would make


@pytest.mark.parametrize("number", [-1, 300])
def test_a_number_beyond_a_dtype_is_still_that_number(number):
    x = np.array([0, 255], np.uint8)
    np.testing.assert_array_equal((tensor(x) > number).numpy(), x > number)
    np.testing.assert_array_equal((tensor(x) + number).numpy(), x.astype(np.int64) + number)
    assert (tensor(x) + 1).dtype == np.uint8


@pytest.mark.parametrize("name", ["sigmoid", "silu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_left_of_a_sigmoid_far_out_keeps_its_digits(torch, name, dtype):
    numbers = np.array([-80.0, -40.0, -20.0, -1.0, 0.0, 1.0, 30.0], dtype)
    x, tx = tensor(numbers, requires_grad=True), torch.tensor(numbers, requires_grad=True)
    y, ty = getattr(ops, name)(x), getattr(torch.nn.functional, name)(tx)
    y.sum().backward()
    ty.sum().backward()
    # atol below anything but 0: every digit counts, however small the number is. At 30 the slope of
    # the sigmoid is 1 − y, of which the rounding of y leaves a few digits in float64.
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-6, atol=0)
    np.testing.assert_allclose(x.grad.numpy()[:-1], tx.grad.numpy()[:-1], rtol=1e-6, atol=0)


def test_one_whole_number_is_the_shape_of_a_vector():
    assert ops.reshape(Tensor(np.zeros((2, 3))), 6).shape == (6,)
    assert ops.broadcast_to(Tensor(np.zeros(())), 3).shape == (3,)
    assert ops.expand(Tensor(np.zeros(1)), 3).shape == (3,)
