"""Checkpointing: the same gradients from less memory."""

import gc
import re
import tracemalloc
import weakref

import numpy as np
import pytest

import minidiff as md
import minidiff.nn.functional as F
from minidiff import backend, ops
from minidiff.tensor import Tensor
from minidiff.viz.graph import trace


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def plain(fn, *inputs):
    return fn(*inputs)


def block(w):
    return lambda h: ops.gelu(ops.group_norm((h @ w).exp() * h + w[0], 1)).tanh()


def chain(x, w, run):
    for _ in range(3):
        x = run(block(w), x)
    return x


def nested(x, w, run):
    inner = block(w)
    return run(lambda h: run(lambda h: run(inner, h) * run(inner, h * 2.0), h).tanh() + h, x)


def dropping(x, w, run):
    return run(lambda h: F.dropout(block(w)(F.dropout(h, 0.5)), 0.3), x)


def several(x, w, run):
    a, b = run(lambda x, y: (x @ w, {"b": (x * y).sigmoid()}["b"]), x, x * x)
    return a * b


SHAPES = {"chain": chain, "nested": nested, "dropout": dropping, "several inputs and outputs": several}


@pytest.fixture(params=SHAPES)
def network(request):
    return SHAPES[request.param]


def gradients(network, run, x, w, order):
    backend.manual_seed(3)
    gs = md.grad(network(x, w, run).sum(), [x, w], create_graph=order == 2)
    return gs if order == 1 else md.grad(sum((g * g).sum() for g in gs), [x, w])


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_are_what_they_are_without(rng, network, order):
    x, w = leaf(rng, 4, 4), leaf(rng, 4, 4)
    for actual, expected in zip(gradients(network, md.checkpoint, x, w, order), gradients(network, plain, x, w, order)):
        np.testing.assert_array_equal(actual.numpy(), expected.numpy())


def test_backward_reaches_leaves_that_the_function_finds_elsewhere(rng, network):
    (x, w), (x2, w2) = [[Tensor(np.array(a.data), requires_grad=True) for a in pair] for pair in [[leaf(rng, 4, 4), leaf(rng, 4, 4)]] * 2]
    for run, a, b in ((md.checkpoint, x, w), (plain, x2, w2)):
        backend.manual_seed(3)
        network(a, b, run).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), x2.grad.numpy())
    np.testing.assert_array_equal(w.grad.numpy(), w2.grad.numpy())


def test_gradcheck_agrees(rng):
    assert md.gradcheck(lambda x, w: chain(x, w, md.checkpoint), [rng.standard_normal((2, 2)), rng.standard_normal((2, 2))], 2)


def test_an_input_without_gradient_does_not_keep_parameters_from_theirs(rng):
    w = leaf(rng, 4, 4)
    md.checkpoint(block(w), Tensor(np.ones((4, 4)))).sum().backward()
    assert w.grad is not None


def test_the_function_runs_once_forward_and_once_backward(rng):
    x, calls = leaf(rng, 3), []
    y = md.checkpoint(lambda x: calls.append(1) or (x * x).exp().sum(), x)
    assert len(calls) == 1
    y.backward(retain_graph=True)
    assert len(calls) == 2
    y.backward()
    assert len(calls) == 2  # retained is retained


def test_without_recording_it_is_a_plain_call(rng):
    calls = []
    with md.no_grad():
        y = md.checkpoint(lambda x: calls.append(1) or x * x, leaf(rng, 3))
    assert calls == [1] and y.creator is None


def test_what_is_inside_can_be_asked_for(rng):
    x, inside = leaf(rng, 3), []

    def fn(x):
        inside.append(x * x)
        return inside[-1].exp()

    y = md.checkpoint(fn, x)
    h = inside[0]
    (gh,) = md.grad(y.sum(), [h])
    np.testing.assert_array_equal(gh.numpy(), y.numpy())


def test_the_graph_can_be_drawn_like_any_other(rng):
    x, w = leaf(rng, 4, 4), leaf(rng, 4, 4)
    with_it, without = (trace(chain(x, w, run)) for run in (md.checkpoint, plain))
    assert (with_it.texts, with_it.edges) == (without.texts, without.edges)


def test_the_generator_goes_on_as_if_nothing_had_been_computed_again(rng):
    x = leaf(rng, 4)
    y = md.checkpoint(lambda x: F.dropout(x, 0.5) * x, x).sum()
    state = backend.default_rng().bit_generator.state
    y.backward()
    assert backend.default_rng().bit_generator.state == state


# ------------------------------------------------------------------------------------------- memory


def peak(run, n=2**16, blocks=8):
    """Arrays at the highest point of forward and backward through blocks whose operations keep three each."""
    x = Tensor(np.ones(n), requires_grad=True)

    def fn(h):
        return (((h * 0.5).exp() * 0.5).sigmoid() * h).tanh()

    gc.collect()
    tracemalloc.start()
    h = x
    for _ in range(blocks):
        h = run(fn, h)
    h.sum().backward()
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest / (8 * n)


def test_a_chain_of_blocks_keeps_less():
    """Without: three arrays for each of 8 blocks. With: one for each, and at one time the inside of one."""
    without, with_it = peak(plain), peak(md.checkpoint)
    assert without > 3 * 8 and with_it < 8 + 7
    assert peak(plain, blocks=16) - without > 3 * 8 - 0.5
    assert peak(md.checkpoint, blocks=16) - with_it < 8 + 0.5  # each further block costs its input


def test_nothing_is_left_when_all_is_done(rng):
    gc.disable()
    try:
        x, w = leaf(rng, 4, 4), leaf(rng, 4, 4)
        y = nested(x, w, md.checkpoint)
        alive = weakref.ref(y.creator), weakref.ref(y.creator.block)
        y.sum().backward()
        del y
        y = nested(x, w, md.checkpoint)  # and one that is never differentiated
        alive += weakref.ref(y.creator), weakref.ref(y.creator.block)
        del y
        assert [ref() for ref in alive] == [None] * 4
    finally:
        gc.enable()


# ------------------------------------------------------------------------- what must not change between


def fickle(x):
    fickle.calls += 1
    return (x * x if fickle.calls == 1 else x.exp()).tanh()


def shrinking(x):
    shrinking.calls += 1
    return x * x * x if shrinking.calls == 1 else x * x


def overwritten(x, w):
    with md.no_grad():
        w[...] = 0.0


def replaced(x, w):
    w.data = np.zeros(3)


SAME = "checkpoint: {} took another path the second time: {}"
CHANGED = "checkpoint: a tensor of shape (3,) that changed_between.<locals>.<lambda> reads was {} since forward; change it after backward"


def path_taken(fn):
    fn.calls = 0
    md.checkpoint(fn, Tensor(np.ones(3), requires_grad=True)).sum().backward()


def changed_between(change):
    x, w = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
    y = md.checkpoint(lambda x: x + w, x)  # even where, without, the numbers would not matter
    z = md.checkpoint(lambda x: (x * w).tanh(), x)
    change(x, w)
    (y * z).sum().backward()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: path_taken(fickle), SAME.format("fickle", "operation 0 was Mul (3,), (3,) -> (3,), is Exp (3,) -> (3,)")),
        (lambda: path_taken(shrinking), SAME.format("shrinking", "2 operations, then 1")),
        (lambda: changed_between(overwritten), CHANGED.format("written to")),
        (lambda: changed_between(replaced), CHANGED.format("given another array")),
        (lambda: changed_between(lambda x, w: overwritten(w, x)), CHANGED.format("written to")),
    ],
)  # fmt: skip
def test_a_function_that_does_something_else_the_second_time_is_refused(call, message):
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        call()


def test_a_constant_that_is_written_to_is_noticed_wherever_the_function_finds_it():
    x, inside, in_list = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3)), [Tensor(np.ones(3))]

    def fn(x, constants):
        return x * ((inside + 1.0) * (constants[0] + 1.0))  # the product keeps numbers that nobody can write to

    for constant in (inside, *in_list):
        y = md.checkpoint(fn, x, in_list)
        constant[...] = 5.0
        with pytest.raises(RuntimeError, match=r"^checkpoint: a tensor of shape \(3,\) that .*fn reads was written to since"):
            y.sum().backward()


def test_statistics_that_a_batch_norm_moves_are_noticed(rng):
    layer = md.nn.BatchNorm1d(3)
    x = Tensor(rng.standard_normal((4, 3), dtype=np.float32), requires_grad=True)
    y = md.checkpoint(layer.eval(), x)
    layer.train()(x)
    layer.eval()
    with pytest.raises(RuntimeError, match="^checkpoint: a tensor of shape .* reads was written to since forward"):
        y.sum().backward()


def test_a_function_may_write_to_what_it_reads_itself(rng):
    x, buffer = leaf(rng, 3), Tensor(np.zeros(3))

    def fn(x):
        buffer[...] = 2.0
        y = x * (buffer + 1.0)
        buffer[...] = 7.0
        return y

    md.checkpoint(fn, x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3.0, 3.0, 3.0])


def test_an_error_inside_comes_out_and_leaves_the_engine_as_it_was(rng):
    with pytest.raises(KeyError):
        md.checkpoint(lambda x: {}["missing"], leaf(rng, 3))
    from minidiff.autograd import mode

    assert mode.watchers == ()


def test_statistics_are_forgotten_too():
    """What carries no gradient is kept beside the numbers, in `cache`; it is dropped and computed again like them."""
    x = md.tensor(np.arange(8.0).reshape(1, 2, 4), requires_grad=True)
    plain, saving = (fn(lambda x: F.group_norm(x, 1), x) for fn in (lambda f, x: f(x), md.checkpoint))
    assert plain.creator.cache is not None and saving.creator.cache is None
    u = np.arange(8.0).reshape(1, 2, 4) ** 2
    np.testing.assert_array_equal(md.grad(saving, x, u).numpy(), md.grad(plain, x, u).numpy())
