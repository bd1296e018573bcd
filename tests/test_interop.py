"""Tensors and other libraries: shared memory, no history; copies, and no pickles."""

import copy
import pickle
import re

import array_api_strict
import numpy as np
import pytest

import minidiff as md
from minidiff import ops
from minidiff.errors import BadInput
from minidiff.tensor import Tensor


@pytest.fixture
def x():
    return md.tensor([1.0, 2.0, 3.0], requires_grad=True)


# -------------------------------------------------------------------------------------------- NumPy


def test_numpy_gets_the_numbers_themselves(x):
    assert np.asarray(x) is not None and np.shares_memory(np.asarray(x), x.data)
    np.testing.assert_array_equal(np.asarray(x * 2), [2.0, 4.0, 6.0])
    np.testing.assert_array_equal(np.concatenate([x, x.detach()]), [1.0, 2.0, 3.0] * 2)


def test_a_copy_or_another_dtype_for_the_asking(x):
    assert not np.shares_memory(np.array(x), x.data) and np.asarray(x, np.float64).dtype == np.float64
    assert np.shares_memory(np.array(x, copy=False), x.data)
    with pytest.raises(ValueError, match="Unable to avoid copy"):
        np.array(x, np.float64, copy=False)


def test_a_tensor_elsewhere_is_not_copied_unasked(x, monkeypatch):
    monkeypatch.setattr(md.backend, "device_of", lambda array: "cuda")
    with pytest.raises(ValueError, match="^this tensor is on cuda: as a NumPy array it must be copied$"):
        np.array(x, copy=False)


def test_numpys_functions_refuse_rather_than_lose_a_gradient(x):
    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.exp(x)


@pytest.mark.parametrize("scalar", [np.float64(2.0), np.float32(2.0), np.int64(2), np.array(2.0, np.float32)], ids=repr)
def test_numpys_numbers_are_operands_and_leave_float32_alone(x, scalar):
    for y in (scalar * x, x * scalar, scalar + x, scalar - x, scalar / x, x / scalar):
        assert isinstance(y, Tensor) and y.dtype == np.float32 and y.requires_grad


def test_other_libraries_arrays_come_out_as_numpys():
    x = Tensor(array_api_strict.asarray([1.0, 2.0]))
    np.testing.assert_array_equal(np.asarray(x), [1.0, 2.0])
    assert x.tolist() == [1.0, 2.0] and float(x[0]) == 1.0


# ------------------------------------------------------------------------------------------- DLPack


def test_dlpack_shares_memory_both_ways_with_numpy(x):
    out = np.from_dlpack(x)
    assert np.shares_memory(out, x.data) and x.__dlpack_device__() == (1, 0)
    back = md.from_dlpack(out)
    assert isinstance(back, Tensor) and np.shares_memory(back.data, x.data) and not back.requires_grad


def test_dlpack_shares_memory_both_ways_with_pytorch(x, torch):
    theirs = torch.from_dlpack(x)
    theirs[0] = 7.0
    assert x.numpy()[0] == 7.0
    source = torch.arange(6.0).reshape(2, 3).T
    ours = md.from_dlpack(source)
    source[0, 0] = 9.0
    assert ours.shape == (3, 2) and ours.numpy()[0, 0] == 9.0
    ours.numpy()[1, 1] = 8.0
    assert source[1, 1] == 8.0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_dlpack_keeps_the_dtype(torch, dtype):
    x = md.tensor(np.ones((2, 2), dtype))
    theirs = torch.from_dlpack(x)
    assert str(theirs.dtype) == f"torch.{dtype}" and md.from_dlpack(theirs).dtype == dtype


def test_dlpack_takes_single_numbers_and_results(x):
    np.testing.assert_array_equal(np.from_dlpack((x * x).sum()), 14.0)
    np.testing.assert_array_equal(np.from_dlpack(-md.tensor(2.0)), -2.0)


def test_dlpack_of_another_library():
    strict = array_api_strict.asarray([1.0, 2.0])
    np.testing.assert_array_equal(np.from_dlpack(Tensor(strict)), [1.0, 2.0])
    assert isinstance(md.from_dlpack(strict).data, np.ndarray)


BACKWARDS = {
    "reversed": lambda x: x[::-1], "columns reversed": lambda x: x.reshape(2, 3)[:, ::-1],
    "every second, from the end": lambda x: x[::-2], "turned": lambda x: x.reshape(2, 3)[::-1].T,
}  # fmt: skip


@pytest.mark.parametrize("name", BACKWARDS)
def test_what_runs_backwards_is_lent_as_a_copy(name):
    """DLPack's consumers count on strides of 0 or more; a copy is refused to those that ask for none."""
    x = Tensor(BACKWARDS[name](np.arange(6.0)))
    assert min(x.data.strides) < 0
    lent = np.from_dlpack(x)
    np.testing.assert_array_equal(lent, x.data)
    assert min(lent.strides) > 0 and not np.shares_memory(lent, x.data)
    with pytest.raises(BufferError, match=r"^this tensor has negative strides, \(.*\): to be lent, it must be copied$"):
        x.__dlpack__(copy=False)
    flipped = ops.flip(Tensor(x.data[...]))
    np.testing.assert_array_equal(np.from_dlpack(flipped), np.flip(x.data))
    assert md.from_dlpack(x).data.strides == lent.strides


def test_what_does_not_run_backwards_is_lent_itself(x):
    for t in (x, Tensor(np.zeros((2, 3)).T), Tensor(np.zeros((3, 4))[::2, 1:])):
        assert np.shares_memory(np.from_dlpack(t), t.data)


@pytest.mark.parametrize("layout", [lambda a: a, lambda a: a[::-1], lambda a: np.broadcast_to(a, (2, 3))], ids=["plain", "backwards", "repeated"])
def test_a_read_only_array_is_taken_as_it_is(layout):
    """Also where NumPy cannot lend it, as before 2.1, in which all that came through DLPack was read-only."""
    numbers = np.arange(3.0)
    numbers.flags.writeable = False
    array = layout(numbers)
    x = md.from_dlpack(array)
    assert np.shares_memory(x.data, numbers) and not x.data.flags.writeable and type(x.data) is np.ndarray
    np.testing.assert_array_equal(x.data, array)


def test_from_dlpack_says_what_it_cannot_take(torch):
    with pytest.raises(BadInput, match=r"^from_dlpack: a list has no __dlpack__; use tensor\(…\)$"):
        md.from_dlpack([1.0])
    with pytest.raises(BadInput, match="^from_dlpack: Can't export tensors that require gradient"):
        md.from_dlpack(torch.ones(2, requires_grad=True))
    with pytest.raises(BadInput, match="^from_dlpack: Unsupported dtype"):
        md.from_dlpack(torch.ones(2, dtype=torch.bfloat16))
    with pytest.raises(BadInput, match="^from_dlpack: complex128 is no number type; give floats, integers or booleans$"):
        md.from_dlpack(np.ones(2, complex))


# --------------------------------------------------------------------------------- copies and pickles


def test_a_deep_copy_of_a_leaf_is_a_leaf_of_its_own(x):
    (x * x).sum().backward()
    x.register_hook(lambda g: g * 100.0)
    twin = copy.deepcopy(x)
    assert twin is not x and not np.shares_memory(twin.data, x.data) and not np.shares_memory(twin.grad.data, x.grad.data)
    np.testing.assert_array_equal(twin.grad.numpy(), x.grad.numpy())
    twin.grad = None
    (twin * twin).sum().backward()
    np.testing.assert_array_equal(twin.grad.numpy(), x.grad.numpy())  # the hook stayed behind


def test_a_deep_copied_model_learns_by_itself():
    model = md.nn.Linear(2, 2)
    model.tied = model.weight
    twin = copy.deepcopy(model)
    assert type(twin.weight) is md.nn.Parameter and twin.tied is twin.weight
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in model.named_parameters()]
    twin.weight.data[...] = 0.0
    assert model.weight.numpy().any()


def test_a_copy_has_the_same_numbers_and_the_same_history(x):
    y = x * 3.0
    twin = copy.copy(y)
    assert twin is not y and twin.data is y.data and twin.creator is y.creator
    twin.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 3.0)
    shared = copy.copy(md.nn.Parameter([1.0]))
    assert type(shared) is md.nn.Parameter and shared.requires_grad


def test_a_result_is_not_deep_copied(x):
    message = "a result of Mul cannot be deep-copied, its history is shared; .detach() it first"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        copy.deepcopy(x * 2)
    assert copy.deepcopy((x * 2).detach()).tolist() == [2.0, 4.0, 6.0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("make", "kind"), [(lambda: md.tensor(1.0), "Tensor"), (lambda: md.nn.Linear(1, 1), "Parameter")], ids=["tensor", "module"]
)
def test_pickling_is_refused_in_favour_of_state_dict(make, kind, protocol):
    message = (
        f"a {kind} is not pickled: unpickling runs whatever code the file names;"
        f" save x.numpy(), or a model's state_dict(), with numpy.savez"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        pickle.dumps(make(), protocol)
