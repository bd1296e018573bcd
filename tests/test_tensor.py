"""Tensor: making one, what it tells of itself, and that its methods and operators mean what NumPy's do."""

import operator
import re

import numpy as np
import pytest

import minidiff as md
from minidiff import nn, ops, optim
from minidiff.errors import BadInput
from minidiff.tensor import Tensor, tensor

A = np.array([[0.5, -1.5, 2.0], [3.0, 0.25, -0.75]], np.float32)


# ------------------------------------------------------------------------------------------ making


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"), ([1.0, 2], "float32"), ([[1, 2]], "int64"), (3, "int64"), ([True, False], "bool"),
        (np.float64(1.5), "float64"), (np.ones(2), "float64"), (np.ones(2, np.float16), "float16"),
        (np.arange(3, dtype=np.uint8), "uint8"), ([], "float32"),
    ],
)  # fmt: skip
def test_numbers_and_lists_become_float32_or_int64_and_arrays_keep_their_dtype(data, dtype):
    x = md.tensor(data)
    assert x.dtype == dtype
    np.testing.assert_array_equal(x.numpy(), data)


def test_dtype_can_be_chosen():
    assert md.tensor([1, 2], dtype=np.float64).dtype == np.float64
    assert md.tensor(A, dtype=np.float32).data is A


def test_an_array_is_shared_not_copied():
    x = md.tensor(A)
    assert x.data is A and x.numpy() is A and x.detach().data is A


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: md.tensor([1j]), "tensor: complex128 is no number type; give floats, integers or booleans"),
        (lambda: md.tensor("abc"), "tensor: <U3 is no number type; give floats, integers or booleans"),
        (lambda: md.tensor(md.tensor(1.0)), "tensor: this is a tensor already; use .detach() for one without history"),
        (lambda: md.tensor([md.tensor(1.0)]), "tensor: a list of tensors would lose their history; use ops.stack"),
        (lambda: md.tensor([1, 2], requires_grad=True), "requires_grad needs floating-point numbers; this tensor is int64; use .astype(numpy.float32)"),
        (lambda: md.tensor(1.0, device="gpu"), "device 'gpu' is unknown; it is one of: cpu, cuda"),
        (lambda: md.tensor(A).to("tpu"), "device 'tpu' is unknown; it is one of: cpu, cuda"),
        (lambda: md.tensor(A).item(), "item: this tensor has 6 elements (shape (2, 3)), not one"),
        (lambda: f"{md.tensor(A):.3f}", "format: '.3f' is for a single number; this tensor has shape (2, 3)"),
        (lambda: bool(md.tensor(A)), "item: this tensor has 6 elements (shape (2, 3)), not one"),
    ],
)
def test_bad_input_is_answered_in_one_line(make, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        make()


# -------------------------------------------------------------------------------- what it tells of itself


def test_attributes_are_the_arrays():
    x = md.tensor(A)
    assert (x.shape, x.ndim, x.size, x.dtype, x.device, len(x)) == ((2, 3), 2, 6, np.float32, "cpu", 2)
    assert x.to("cpu") is x
    assert not x.requires_grad and x.grad is None and x.creator is None


def test_numbers_come_out_as_python_numbers():
    assert md.tensor([2.5]).item() == 2.5 and type(md.tensor(2.5).item()) is float
    assert type(md.tensor(2).item()) is int and type(md.tensor(True).item()) is bool
    assert float(md.tensor(2.5)) == 2.5 and bool(md.tensor([1.0])) and not md.tensor(0.0)


def test_a_single_number_can_be_formatted():
    loss = md.tensor([2.0], requires_grad=True).sum() / 3.0
    assert f"{loss:.3f}" == "0.667" and f"{md.tensor([[7]]):03d}" == "007"
    assert f"{loss}" == str(loss) == "tensor(0.6667, creator=Div)"


def test_lists_come_out_as_they_went_in():
    assert md.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]] and md.tensor(0.5).tolist() == 0.5
    assert int(md.tensor([3])) == 3 and int(md.tensor(2.7)) == 2


def test_a_single_number_has_no_length():
    with pytest.raises(TypeError, match="^a 0-dimensional tensor has no length$"):
        len(md.tensor(1.0))


def test_rows_can_be_looped_over():
    np.testing.assert_array_equal([row.numpy() for row in md.tensor(A)], A)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (lambda: md.tensor([1.0, 2.5]), "tensor([1. , 2.5])"),
        (lambda: md.tensor([1, 2]), "tensor([1, 2], dtype=int64)"),
        (lambda: md.tensor(1.0, requires_grad=True), "tensor(1., requires_grad=True)"),
        (lambda: md.tensor([1 / 3], dtype=np.float64), "tensor([0.3333], dtype=float64)"),
        (lambda: md.tensor([1.0], requires_grad=True) * 2, "tensor([2.], creator=Mul)"),
        (lambda: md.tensor([[1.0], [2.0]]), "tensor([[1.],\n        [2.]])"),
        (lambda: md.tensor(np.zeros((0, 3), np.float32)), "tensor([], shape=(0, 3))"),
        (lambda: md.tensor(np.zeros((1, 201), np.float32), requires_grad=True),
         "tensor([[0., 0., 0., ..., 0., 0., 0.]], shape=(1, 201), requires_grad=True)"),
    ],
)
def test_printing(x, text):
    assert repr(x()) == text


# ----------------------------------------------------------------------------- operators and methods


BINARY = ["add", "sub", "mul", "truediv", "pow"]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("other", [2, 0.5, True, np.float64(0.5), np.full(3, 2, np.float32)], ids=repr)
def test_operators_mean_what_numpys_do_on_both_sides(name, other):
    fn, positive = getattr(operator, name), np.abs(A)
    plain = other if isinstance(other, np.ndarray) else float(other)
    for actual, expected in [(fn(md.tensor(positive), other), fn(positive, plain)),
                             (fn(other, md.tensor(positive)), fn(plain, positive))]:  # fmt: skip
        assert isinstance(actual, Tensor)
        assert actual.dtype == np.float32  # no scalar promotes it, Python's or NumPy's float64
        np.testing.assert_allclose(actual.numpy(), expected, rtol=2e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scalar", [2, 0.1, True])
def test_python_scalars_never_promote(dtype, scalar):
    x = md.tensor(A, dtype=dtype)
    for y in (x + scalar, scalar - x, x * scalar, x / scalar, scalar / x, x**2, ops.maximum(x, scalar), ops.minimum(scalar, x)):
        assert y.dtype == dtype
    for y in (x.mean(), x.var(0), x.sum(), x.clip(0.1, 1.0), ops.gelu(x), ops.silu(x), x.sigmoid()):
        assert y.dtype == dtype


def test_whole_numbers_stay_whole_under_whole_scalars():
    x = md.tensor([1, 2])
    assert [(x + 1).dtype, (2 * x).dtype, (x / 2).dtype.kind] == [np.int64, np.int64, "f"]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
def test_an_array_meeting_a_tensor_makes_a_tensor(name):
    x = md.tensor(A, requires_grad=True)
    y = getattr(operator, name)(A + 4, x)
    assert isinstance(y, Tensor) and y.shape == A.shape and y.requires_grad


def test_an_array_times_a_matrix_is_a_tensor():
    assert isinstance(A @ md.tensor(A.T), Tensor)
    np.testing.assert_allclose((A @ md.tensor(A.T)).numpy(), A @ A.T)
    np.testing.assert_allclose((md.tensor(A) @ A.T).numpy(), A @ A.T)


def test_powers_of_either_kind_of_whole_number_agree():
    x = md.tensor([-2.0, 3.0])
    for exponent in (2, np.int64(2), np.float32(2)):
        np.testing.assert_array_equal((x**exponent).numpy(), [4.0, 9.0])


METHODS = [
    ("exp", (), {}), ("tanh", (), {}), ("sigmoid", (), {}), ("abs", (), {}), ("clip", (-0.5, 1.0), {}), ("sum", (), {}),
    ("sum", (0, True), {}), ("mean", (1,), {}), ("var", ((0, 1),), {"correction": 1}), ("max", (), {"axis": 1}),
    ("min", (0,), {"keepdims": True}), ("unsqueeze", (0,), {}), ("reshape", ((3, 2),), {}), ("transpose", ((1, 0),), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options"), METHODS)
def test_methods_are_the_operations(name, args, options):
    x = md.tensor(A)
    np.testing.assert_array_equal(getattr(x, name)(*args, **options).numpy(), getattr(ops, name)(x, *args, **options).numpy())


def test_log_and_sqrt_of_positive_numbers():
    x = md.tensor(np.abs(A))
    np.testing.assert_allclose(x.log().numpy(), np.log(np.abs(A)), rtol=1e-6)
    np.testing.assert_allclose(x.sqrt().numpy(), np.sqrt(np.abs(A)), rtol=1e-6)


def test_shapes_may_be_given_as_numbers_or_as_one_tuple():
    x = md.tensor(A)
    assert x.reshape(3, 2).shape == x.reshape((3, 2)).shape == x.reshape([3, -1]).shape == (3, 2)
    assert x.transpose(1, 0).shape == x.transpose((1, 0)).shape == x.transpose().shape == x.T.shape == (3, 2)
    assert x.broadcast_to(4, 2, 3).shape == x.broadcast_to((4, 2, 3)).shape == (4, 2, 3)
    assert x.reshape(6).shape == (6,) and x.unsqueeze(-1).squeeze(-1).shape == (2, 3)


@pytest.mark.parametrize("index", [0, -1, (slice(None), 1), (..., None), [1, 0, 1], (slice(None, None, -1), 2), A[0] > 0], ids=repr)
def test_indexing_is_numpys(index):
    expected = A[:, index] if isinstance(index, np.ndarray) else A[index]
    x = md.tensor(A)
    actual = x[:, index] if isinstance(index, np.ndarray) else x[index]
    np.testing.assert_array_equal(actual.numpy(), expected)


def test_an_index_may_be_a_tensor():
    np.testing.assert_array_equal(md.tensor(A)[md.tensor([1, 1])].numpy(), A[[1, 1]])
    np.testing.assert_array_equal(md.tensor(A)[md.tensor([0, 1]), md.tensor([2, 0])].numpy(), A[[0, 1], [2, 0]])


def test_astype_changes_the_dtype_and_the_gradient_comes_back_in_the_old_one():
    x = md.tensor(A, requires_grad=True)
    y = x.astype(np.float64)
    y.sum().backward()
    assert y.dtype == np.float64 and x.grad.dtype == np.float32
    assert x.astype(np.float32) is x


def test_whole_numbers_made_of_floats_carry_no_gradient():
    assert not md.tensor(A, requires_grad=True).astype(np.int64).requires_grad


def test_detach_shares_the_numbers_and_forgets_the_history():
    y = md.tensor(A, requires_grad=True) * 2
    assert y.detach().data is y.data and not y.detach().requires_grad and y.detach().creator is None


def test_zero_grad_forgets_the_gradient():
    x = md.tensor(2.0, requires_grad=True)
    (x * x).backward()
    assert x.grad.item() == 4.0
    x.zero_grad()
    assert x.grad is None


def test_a_result_that_is_one_number_is_an_array_like_any_other():
    w = (tensor(2.0) * tensor(3.0)).detach()
    assert isinstance(w.data, np.ndarray) and w.shape == () and w.dtype == np.float32
    w.requires_grad = True
    (w * w).backward()
    optim.SGD([w], lr=0.25).step()
    assert w.item() == 3.0
    w.requires_grad = False
    w[()] = 7.0
    assert w.item() == 7.0


# ----------------------------------------------------------------------------- arrays as users have them

B = np.array([[1.0, -2.0], [0.5, 4.0]], np.float32)
MASKED = np.ma.array(B, mask=[[0, 1], [0, 0]])
# What must be an ordinary array once it is in a tensor: the other byte order (this machine's is "<" or ">"), and NumPy's
# subclasses. A memory-mapped file is one of them.
OTHERS = {
    "byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "matrix": lambda a: np.asmatrix(a),
    "masked array without masks": lambda a: np.ma.array(a),
    "subclass": lambda a: a.view(type("Subclass", (np.ndarray,), {})),
    "read-only": lambda a: np.broadcast_to(a, a.shape),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_any_array_of_numpys_trains_as_an_ordinary_one(other):
    """Values, gradients and steps: a matrix keeps its own * and **, big-endian gradients are of another dtype."""

    def trained(of):
        x = md.tensor(of(B.copy()), requires_grad=True)
        assert type(x.data) is np.ndarray and x.dtype == np.float32 and x.dtype.isnative
        for optimizer in (optim.Adam([x], 0.1), optim.SGD([x], 0.1, momentum=0.5)):
            x.zero_grad()
            y = x * of(B) + x**2 + ops.where(of(B > 0), x, of(B))
            y.backward(of(B))
            optimizer.step()
        return y.numpy(), x.grad.numpy(), x.numpy()

    for found, expected in zip(trained(other), trained(np.copy), strict=True):
        np.testing.assert_array_equal(found, expected)


MASKED_LINE = "1 of 4 elements of a masked array (2, 2) are masked; choose numbers for them: .filled(0)"


@pytest.mark.parametrize(
    "enter",
    [
        lambda: md.tensor(MASKED), lambda: Tensor(MASKED), lambda: md.tensor(B) + MASKED, lambda: MASKED * md.tensor(B),
        lambda: md.tensor(B, requires_grad=True).backward(MASKED), lambda: nn.Parameter(MASKED),
        lambda: ops.where(np.ma.array(B > 0, mask=MASKED.mask), md.tensor(B), 0.0),
        lambda: ops.embedding(np.ma.array(np.ones((2, 2), np.int64), mask=MASKED.mask), md.tensor(B)),
        lambda: md.tensor(B).__setitem__(..., MASKED),
    ],
)  # fmt: skip
def test_masked_elements_are_refused_wherever_an_array_enters(enter):
    """Their mask would be lost without a word, and with it which numbers count."""
    with pytest.raises(BadInput) as error:
        enter()
    assert str(error.value) == MASKED_LINE


def test_a_read_only_array_is_copied_where_it_will_be_written_to():
    array = np.broadcast_to(np.float32(1.0), (3,))               # one number in memory, read three times
    assert md.tensor(array).data is array
    x = md.tensor(array, requires_grad=True)
    x.sum().backward()
    optim.SGD([x], lr=1.0).step()
    np.testing.assert_array_equal(x.numpy(), np.zeros(3))
    assert array[0] == 1.0


def test_writing_to_a_read_only_array_is_refused_in_one_line():
    x = Tensor(np.broadcast_to(np.float32(1.0), (3,)))
    with pytest.raises(BadInput) as error:
        x[0] = 2.0
    assert str(error.value) == "this tensor (3,) has a read-only array, which cannot be written to; make one of a copy of it"


def test_a_dtype_of_another_byte_order_is_this_machines():
    swapped = np.dtype(np.float32).newbyteorder()
    assert md.tensor(B, dtype=swapped).dtype.isnative
    x = md.tensor(B.astype(np.float64), requires_grad=True)
    x.astype(swapped).sum().backward()
    assert x.grad.dtype == np.float64 and x.astype(swapped).dtype.isnative


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[1.0, 2.0], [3.0]], "a list does not make an array: setting an array element with a sequence. "),
        ([np.zeros(2), np.zeros(3)], "a list does not make an array: "),
    ],
)
@pytest.mark.parametrize("enter", [md.tensor, lambda data: md.tensor(B) + data, nn.Parameter], ids=["tensor", "+", "Parameter"])
def test_lists_of_unequal_lengths_are_refused_in_one_line(data, message, enter):
    with pytest.raises(BadInput) as error:
        enter(data)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_pytorch_tensor_is_taken_unless_a_gradients_history_would_be_lost(torch):
    np.testing.assert_array_equal(md.tensor(torch.tensor(B)).numpy(), B)
    for enter in (md.tensor, nn.Parameter, lambda x: md.tensor([x, x])):
        with pytest.raises(BadInput, match="requires grad. Use tensor.detach") as error:
            enter(torch.tensor(B, requires_grad=True))
        assert "\n" not in str(error.value)
