"""Weight averaging: the formula, and a model that gets its own weights back bit by bit."""

import numpy as np
import pytest

from minidiff import nn, optim
from minidiff.errors import BadInput
from minidiff.tensor import Tensor


class Model(nn.Module):
    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.a = nn.Parameter(rng.standard_normal((2, 3)))
        self.b = nn.Parameter(rng.standard_normal(5))
        self.register_buffer("count", np.array([7]))


def move(model, seed):
    for i, p in enumerate(model.parameters()):
        p.data += np.random.default_rng((seed, i)).standard_normal(p.shape)


def weights(model):
    return [p.data.copy() for p in model.parameters()]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_it_begins_as_the_model():
    model = Model()
    state = optim.EMA(model).state_dict()
    assert list(state) == ["a", "b", "count", "ema.updates"] and state["ema.updates"] == 0
    assert all(np.array_equal(array, state[name]) for name, array in model.state_dict().items())


def test_what_is_no_model_is_refused():
    with pytest.raises(BadInput) as error:
        optim.EMA([nn.Parameter(np.zeros(2))])
    assert str(error.value) == "EMA: model must be a Module, got list"


@pytest.mark.parametrize("warmup", [True, False])
def test_the_average_follows_its_formula(warmup):
    model = Model()
    ema, expected = optim.EMA(model, decay=0.5, warmup=warmup), weights(model)
    for n in range(20):
        move(model, n)
        d = min(0.5, (1 + n) / (10 + n)) if warmup else 0.5
        expected = [d * a + (1 - d) * w for a, w in zip(expected, weights(model), strict=True)]
        ema.update()
        for found, want in zip(ema.average.values(), expected, strict=True):
            np.testing.assert_allclose(found, want, rtol=1e-12)


def test_a_model_that_stands_still_is_its_own_average_exactly():
    model = Model()
    ema = optim.EMA(model, 0.9)
    for _ in range(5):
        ema.update()
    assert same(ema.average.values(), weights(model))


def test_warmup_forgets_the_start_soon():
    """After 50 updates with decay 0.999 the first weights count for 1e-10 with warm-up, 0.95 without."""
    left = []
    for warmup in (True, False):
        model = Model()
        for p in model.parameters():
            p.data[...] = 1
        ema = optim.EMA(model, 0.999, warmup)
        for p in model.parameters():
            p.data[...] = 0
        for _ in range(50):
            ema.update()
        left.append(ema.average["b"][0])
    assert left[0] < 1e-9 and left[1] == pytest.approx(0.999**50)


def test_applied_puts_the_averages_in_and_the_same_arrays_back():
    model = Model()
    ema = optim.EMA(model, 0.9)
    move(model, 1)
    ema.update()
    arrays, before = [p.data for p in model.parameters()], weights(model)
    with ema.applied() as inside:
        assert inside is model and same(weights(model), ema.average.values())
        assert not same(weights(model), before)
    assert same(weights(model), before)
    assert all(p.data is array for p, array in zip(model.parameters(), arrays, strict=True))


def test_applied_restores_after_an_exception_and_protects_the_average():
    model = Model()
    ema = optim.EMA(model, 0.9)
    move(model, 1)
    ema.update()
    before, average = weights(model), [a.copy() for a in ema.average.values()]
    with pytest.raises(KeyboardInterrupt):
        with ema.applied():
            move(model, 2)
            raise KeyboardInterrupt
    assert same(weights(model), before) and same(ema.average.values(), average)


def test_applied_can_be_nested():
    model = Model()
    ema = optim.EMA(model)
    move(model, 1)
    before = weights(model)
    with ema.applied(), ema.applied():
        assert same(weights(model), ema.average.values())
    assert same(weights(model), before)


def test_a_shared_parameter_is_averaged_and_restored_under_both_names():
    model = Model()
    model.c = model.b
    ema = optim.EMA(model, 0.9)
    move(model, 1)
    ema.update()
    before = weights(model)
    assert np.array_equal(ema.state_dict()["b"], ema.state_dict()["c"])
    with ema.applied():
        assert np.array_equal(model.b.data, ema.average["b"])
    assert same(weights(model), before)


def test_updating_never_writes_to_the_model():
    model = Model()
    ema = optim.EMA(model)
    for p in model.parameters():
        p.data.setflags(write=False)
    ema.update()


def test_the_averages_load_into_a_model():
    model, other = Model(), Model(1)
    ema = optim.EMA(model)
    move(model, 1)
    ema.update()
    other.load_state_dict({name: array for name, array in ema.state_dict().items() if name != "ema.updates"})
    with ema.applied():
        assert same(weights(other), weights(model))


def test_a_resumed_average_goes_on_bit_by_bit(tmp_path):
    model = Model()
    whole = optim.EMA(model, 0.9)
    for n in range(3):
        move(model, n)
        whole.update()
    np.savez(tmp_path / "ema.npz", **whole.state_dict())
    resumed = optim.EMA(model, 0.9)
    with np.load(tmp_path / "ema.npz", allow_pickle=False) as file:
        resumed.load_state_dict(dict(file))
    for n in range(3, 6):
        move(model, n)
        whole.update()
        resumed.update()
    assert resumed.updates == 6 and same(whole.average.values(), resumed.average.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("ema.updates"), "EMA: the state has no ema.updates"),
        (lambda s: s.pop("a"), "written by another architecture: missing a (2, 3)"),
        (lambda s: s.update(b=np.zeros(4)), "written by another architecture: b has shape (4,), needs (5,)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, message):
    ema, other = optim.EMA(Model()), optim.EMA(Model(1))
    other.update()
    state, before = other.state_dict(), [a.copy() for a in ema.average.values()]
    change(state)
    with pytest.raises(BadInput) as error:
        ema.load_state_dict(state)
    assert str(error.value) == message
    assert same(ema.average.values(), before) and ema.updates == 0


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_decay_must_be_below_one(decay):
    with pytest.raises(BadInput) as error:
        optim.EMA(Model(), decay)
    assert str(error.value) == f"EMA: decay must be at least 0 and below 1, got {decay}"


def test_gradients_are_left_alone():
    model = Model()
    model.a.grad = Tensor(np.ones((2, 3)))
    ema = optim.EMA(model)
    with ema.applied():
        ema.update()
    assert np.array_equal(model.a.grad.data, np.ones((2, 3)))
