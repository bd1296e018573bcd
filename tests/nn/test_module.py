"""What every Module promises: order, names, saving, loading, moving, printing."""

import copy

import numpy as np
import pytest

from minidiff import nn
from minidiff.errors import BadInput
from minidiff.tensor import Tensor


class Scale(nn.Module):
    """y = w x, with a count of its calls."""

    def __init__(self, size=3):
        self.weight = nn.Parameter(np.arange(size, dtype=np.float32))
        self.register_buffer("calls", np.zeros(2, np.int64))
        self.register_buffer("table", np.ones(2, np.float32), persistent=False)

    def forward(self, x):
        self.calls = self.calls + 1
        return x * self.weight


class Net(nn.Module):
    """Children defined before and after the module's own parameter."""

    def __init__(self):
        self.zebra = Scale()
        self.own = nn.Parameter(np.zeros((2, 2), np.float32))
        self.ape = Scale(4)


NAMES = ["own", "zebra.weight", "ape.weight"]
SAVED = ["own", "zebra.weight", "zebra.calls", "ape.weight", "ape.calls"]


def test_parameters_keep_the_order_of_definition_and_come_before_those_of_children():
    assert [name for name, _ in Net().named_parameters()] == NAMES


def test_order_survives_reassignment():
    net = Net()
    net.zebra.weight = nn.Parameter(np.ones(3, np.float32))
    net.own = None
    net.own = nn.Parameter(np.ones((2, 2), np.float32))
    assert [name for name, _ in net.named_parameters()] == NAMES


def test_modules_and_children_come_parents_first():
    net = Net()
    assert [name for name, _ in net.named_modules()] == ["", "zebra", "ape"]
    assert list(net.modules()) == [net, net.zebra, net.ape]
    assert list(net.children()) == [net.zebra, net.ape]
    assert [name for name, _ in net.named_modules("unet")] == ["unet", "unet.zebra", "unet.ape"]


def test_a_shared_parameter_is_found_once_but_saved_under_both_names():
    net = Net()
    net.ape.weight = net.zebra.weight
    assert [name for name, _ in net.named_parameters()] == ["own", "zebra.weight"]
    assert [name for name, _ in net.named_parameters(remove_duplicate=False)] == NAMES
    assert net.num_parameters() == 4 + 3
    assert list(net.state_dict()) == SAVED


def test_a_shared_module_is_found_once_but_saved_under_both_names():
    net = Net()
    net.ape = net.zebra
    assert list(net.modules()) == [net, net.zebra]
    assert list(net.children()) == [net.zebra]
    assert list(net.state_dict()) == SAVED


def test_num_parameters_counts_numbers_and_no_buffers():
    assert Net().num_parameters() == 4 + 3 + 4


def test_an_array_cannot_quietly_take_the_place_of_a_parameter():
    net = Net()
    with pytest.raises(BadInput) as error:
        net.own = np.zeros((2, 2))
    assert str(error.value) == "Net.own is a Parameter; it can become another Parameter or None, not ndarray"
    with pytest.raises(BadInput) as error:
        net.ape = net.own
    assert str(error.value) == "Net.ape is a Module; it can become another Module or None, not Parameter"
    assert [name for name, _ in net.named_parameters()] == NAMES


def test_a_parameter_owns_a_contiguous_copy_of_its_array():
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    p = nn.Parameter(array)
    p.data += 1
    assert p.data.flags.c_contiguous and p.requires_grad
    assert array[0, 0] == 0
    assert nn.Parameter(p).data is not p.data


def test_a_parameter_of_numbers_is_float32_and_of_an_array_keeps_its_dtype():
    assert nn.Parameter([1.0, 2.0]).dtype == np.float32
    assert nn.Parameter(np.zeros(2)).dtype == np.float64
    with pytest.raises(BadInput, match="int64"):
        nn.Parameter(np.arange(3))


def test_a_buffer_is_an_array_of_its_own_that_is_saved_only_if_persistent():
    scale = Scale()
    assert [name for name, _ in scale.named_buffers()] == ["calls", "table"]
    assert list(scale.state_dict()) == ["weight", "calls"]
    given = np.zeros(2)
    scale.register_buffer("late", Tensor(given))
    given += 1
    assert isinstance(scale.late, np.ndarray) and not scale.late.any()
    assert "late" in scale.state_dict() and "late" not in Scale().state_dict()


# ------------------------------------------------------------------------------------ state_dict


def test_state_dict_holds_copies():
    net = Net()
    state = net.state_dict()
    for array in state.values():
        array += 1
    assert not net.own.data.any() and not net.zebra.calls.any()


def test_load_brings_back_what_was_saved_in_place():
    net, other = Net(), Net()
    for p in net.parameters():
        p.data += np.random.default_rng(0).standard_normal(p.shape, np.float32)
    net.ape.calls = np.array([5, 6])
    arrays = [p.data for p in other.parameters()]
    assert other.load_state_dict(net.state_dict()) == ([], [])
    saved, loaded = net.state_dict(), other.state_dict()
    assert all(np.array_equal(saved[name], loaded[name]) for name in SAVED)
    assert all(p.data is array for p, array in zip(other.parameters(), arrays, strict=True))


def test_load_keeps_the_dtype_of_the_parameter_and_reads_any_float():
    net = Net()
    halves = {name: p.data.astype(np.float16) for name, p in net.named_parameters()}
    net.load_state_dict({**net.state_dict(), **halves})
    assert {p.dtype for p in net.parameters()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("given", [lambda a: a.astype(">f4"), np.ma.array, lambda a: a.tolist()])
def test_load_takes_any_array(given):
    layer, other = nn.Linear(2, 3), nn.Linear(2, 3)
    other.load_state_dict({path: given(array) for path, array in layer.state_dict().items()})
    for a, b in zip(layer.parameters(), other.parameters(), strict=True):
        assert type(b.data) is np.ndarray and b.dtype.isnative
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_load_refuses_masked_elements_and_read_only_parameters_and_changes_nothing():
    layer = nn.Linear(2, 3)
    before = layer.state_dict()
    masked = {"weight": np.ones((3, 2), np.float32), "bias": np.ma.array(np.ones(3, np.float32), mask=[0, 0, 1])}
    with pytest.raises(BadInput, match="1 of 3 elements of a masked array"):
        layer.load_state_dict(masked)
    layer.bias.data = np.broadcast_to(before["bias"], (3,))
    with pytest.raises(BadInput, match="the array of bias is read-only"):
        layer.load_state_dict({"weight": np.ones((3, 2), np.float32), "bias": np.ones(3, np.float32)})
    np.testing.assert_array_equal(layer.weight.numpy(), before["weight"])


def test_load_says_that_a_pytorch_tensor_has_a_history(torch):
    with pytest.raises(BadInput, match="requires grad. Use tensor.detach"):
        nn.Linear(2, 3).load_state_dict(dict(torch.nn.Linear(2, 3).named_parameters()))


def test_load_copies_so_that_the_given_arrays_stay_apart():
    net, state = Net(), Net().state_dict()
    net.load_state_dict(state)
    state["own"] += 1
    state["ape.calls"] += 1
    assert not net.own.data.any() and not net.ape.calls.any()


def without(state, name):
    return {key: array for key, array in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "own"), "missing own (2, 2)"),
        (lambda s: {**s, "qkv": np.zeros((4, 1))}, "unexpected qkv (4, 1)"),
        (
            lambda s: {**without(s, "own"), "attn.weight": np.zeros(7)},
            "missing own (2, 2), unexpected attn.weight (7,)",
        ),
        (lambda s: {**s, "ape.weight": np.zeros((4, 1))}, "ape.weight has shape (4, 1), needs (4,)"),
        (lambda s: {**s, "own": np.zeros((2, 2), complex)}, "own holds complex128, needs float32"),
        (lambda s: {**s, "ape.calls": np.zeros(2)}, "ape.calls holds float64, needs int64"),
        (lambda s: {**s, "own": np.full((2, 2), "x")}, "own holds <U1, needs float32"),
    ],
)
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(change, message):
    net = Net()
    state = {name: array + 1 for name, array in net.state_dict().items()}
    with pytest.raises(BadInput) as error:
        net.load_state_dict(change(state))
    assert str(error.value) == f"written by another architecture: {message}"
    fresh = Net().state_dict()
    assert all(np.array_equal(array, fresh[name]) for name, array in net.state_dict().items())


def test_a_long_difference_stays_one_line():
    big = nn.Sequential(*(Scale() for _ in range(20)))
    with pytest.raises(BadInput) as error:
        big.load_state_dict({})
    assert str(error.value) == (
        "written by another architecture: "
        "missing 0.weight (3,), missing 0.calls (2,), missing 1.weight (3,), missing 1.calls (2,), "
        "missing 2.weight (3,), missing 2.calls (2,), and 34 more"
    )


def test_a_loose_load_takes_what_is_there_and_says_what_was_not():
    net = Net()
    missing, unexpected = net.load_state_dict({"own": np.ones((2, 2)), "else": np.zeros(1)}, strict=False)
    assert net.own.data.all()
    assert missing == SAVED[1:] and unexpected == ["else"]
    with pytest.raises(BadInput, match="own has shape"):
        net.load_state_dict({"own": np.ones(2)}, strict=False)


# ----------------------------------------------------------------------- modes, moves, gradients


def test_train_and_eval_reach_every_module():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())
    assert nn.Module.training is True


def test_zero_grad_forgets_every_gradient():
    net = Net()
    for p in net.parameters():
        p.grad = Tensor(np.ones_like(p.data))
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_astype_converts_floats_and_leaves_counts():
    net = Net()
    net.own.grad = Tensor(np.ones((2, 2), np.float32))
    p = net.own
    assert net.astype(np.float64) is net
    assert net.own is p and p.dtype == p.grad.dtype == net.zebra.table.dtype == np.float64
    assert net.zebra.calls.dtype == np.int64


def test_to_the_cpu_keeps_the_parameters_and_an_unknown_device_is_refused():
    net = Net()
    parameters = list(net.parameters())
    assert net.to("cpu") is net and list(net.parameters()) == parameters
    with pytest.raises(BadInput, match="device 'tpu' is unknown; it is one of: cpu, cuda"):
        net.to("tpu")


def test_a_deep_copy_is_independent():
    net = Net()
    twin = copy.deepcopy(net)
    twin.own.data += 1
    twin.ape.training = False
    assert not net.own.data.any() and net.ape.training
    assert isinstance(twin.own, nn.Parameter) and list(twin.state_dict()) == SAVED


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Net does not define forward"):
        Net()(1)


def test_calling_a_module_calls_forward_and_buffers_can_be_rebound():
    scale = Scale()
    y = scale(np.full(3, 2.0, np.float32))
    assert np.array_equal(y.numpy(), [0, 2, 4])
    assert np.array_equal(scale.state_dict()["calls"], [1, 1])


def test_repr_is_a_tree():
    net = Net()
    net.block = nn.Sequential(nn.Linear(2, 3), nn.GELU())
    assert repr(net) == (
        "Net(\n"
        "  (zebra): Scale()\n"
        "  (ape): Scale()\n"
        "  (block): Sequential(\n"
        "    (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "    (1): GELU(approximate='none')\n"
        "  )\n"
        ")"
    )
