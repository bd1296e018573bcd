"""Hooks: seen once, with the whole gradient, wherever in the graph they are."""

import gc
import re
import weakref

import numpy as np
import pytest

import minidiff as md
from minidiff import ops
from minidiff.errors import BadInput


def leaf(*numbers):
    return md.tensor(np.array(numbers if len(numbers) != 1 else numbers[0], dtype=np.float64), requires_grad=True)


def test_a_hook_on_a_leaf_and_on_a_result_sees_the_whole_gradient_once():
    x, seen = leaf(3.0), []
    h = x * x
    h.register_hook(lambda g: seen.append(("h", g.item())))
    x.register_hook(lambda g: seen.append(("x", g.item())))
    (h * h + 4.0 * h).backward()  # dh = 2h + 4 = 22, dx = 22 · 6, from two products each
    assert seen == [("h", 22.0), ("x", 132.0)]
    assert x.grad.item() == 132.0  # what only looks changes nothing


@pytest.mark.parametrize("at_leaf", [True, False])
def test_what_a_hook_gives_takes_the_place_of_the_gradient(at_leaf):
    x = leaf(1.0, 2.0)
    h = x * 3.0
    (x if at_leaf else h).register_hook(lambda g: g * 10.0)
    h.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [30.0, 30.0])


def test_hooks_run_in_the_order_of_their_registration_each_on_what_the_one_before_gave():
    x = leaf(1.0)
    x.register_hook(lambda g: g + 1.0)
    handle = x.register_hook(lambda g: g * 10.0)
    x.register_hook(lambda g: g - 3.0)
    (gx,) = md.grad(x * 1.0, [x])
    assert gx.item() == (1.0 + 1.0) * 10.0 - 3.0
    handle.remove()
    handle.remove()  # does no harm
    assert md.grad(x * 1.0, x).item() == (1.0 + 1.0) - 3.0


def test_a_hook_runs_in_every_pass_on_the_gradient_of_that_pass_alone():
    x, seen = leaf(1.0), []
    x.register_hook(lambda g: seen.append(g.item()))
    for _ in range(2):
        (x * 2.0).backward()
    assert seen == [2.0, 2.0] and x.grad.item() == 4.0


def test_hooks_on_what_is_asked_for_come_before_the_answer():
    x = leaf(3.0)
    h = x * x
    h.register_hook(lambda g: g * 100.0)
    gh, gx = md.grad(h * 5.0, [h, x])
    assert (gh.item(), gx.item()) == (500.0, 3000.0)


def test_a_hook_off_the_way_to_what_is_asked_for_does_not_run():
    x, w = leaf(3.0), leaf(2.0)
    w.register_hook(lambda g: pytest.fail("nobody asked for w"))
    assert md.grad(x * w, x).item() == 2.0


def test_a_hook_may_be_differentiated_through():
    """With the gradient 3x² scaled by its own size, g² = 9x⁴, the next derivative is 36x³."""
    x = leaf(2.0)
    y = x**3
    handle = x.register_hook(lambda g: g * g)
    (gx,) = md.grad(y, [x], create_graph=True)
    handle.remove()
    assert gx.item() == 144.0 and md.grad(gx, x).item() == 288.0


def test_without_create_graph_a_hook_records_nothing():
    x, kept = leaf(2.0), []
    x.register_hook(lambda g: kept.append(g * x))
    (x * x).backward()
    assert not kept[0].requires_grad


def test_retain_grad_leaves_the_gradient_of_a_result_and_adds_up():
    x = leaf(1.0, 2.0)
    h = x * 3.0
    h.retain_grad()
    y = (h * h).sum()
    y.backward(retain_graph=True)
    np.testing.assert_array_equal(h.grad.numpy(), [6.0, 12.0])
    y.backward()
    np.testing.assert_array_equal(h.grad.numpy(), [12.0, 24.0])


def test_retain_grad_keeps_what_the_hooks_left_whatever_the_order():
    h = leaf(1.0) * 3.0
    h.retain_grad()
    h.register_hook(lambda g: g * 10.0)
    h.backward()
    assert h.grad.item() == 10.0


def test_retain_grad_does_nothing_to_a_leaf_and_nothing_in_grad():
    x = leaf(1.0)
    x.retain_grad()
    h = x * 3.0
    h.retain_grad()
    assert md.grad(h * h, x, retain_graph=True).item() == 18.0 and h.grad is None
    (h * h).backward()
    assert x.grad.item() == 18.0


def test_retain_grad_makes_no_cycle():
    gc.disable()
    try:
        h = leaf(1.0) * 3.0
        h.retain_grad()
        y = h * 2.0
        alive = weakref.ref(h.creator)
        y.backward()
        del h, y
        assert alive() is None
    finally:
        gc.enable()


def test_a_result_that_is_gone_keeps_no_gradient_and_does_no_harm():
    x = leaf(1.0)
    h = x * 3.0
    h.retain_grad()
    y = h * 2.0
    del h
    y.backward()
    assert x.grad.item() == 6.0


@pytest.mark.parametrize("fused", [False, True])
def test_hooks_on_the_output_of_either_kind_of_operation(fused):
    x, seen = leaf(0.5, 1.5), []
    h = ops.gelu(x) if fused else x.exp()
    h.register_hook(lambda g: seen.append(g.numpy()))
    (h * h).sum().backward()
    np.testing.assert_array_equal(seen, [2.0 * h.numpy()])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: md.tensor(1.0).register_hook(print),
         "register_hook: no gradient flows to this tensor; it was made without requires_grad=True"),
        (lambda: md.tensor(1.0).retain_grad(),
         "retain_grad: no gradient flows to this tensor; it was made without requires_grad=True"),
        (lambda: hooked(lambda g: g.sum()),
         "register_hook: a hook made a gradient of () float64 out of one of (2,) float64; shape and dtype must stay"),
        (lambda: hooked(lambda g: g.astype(np.float32)),
         "register_hook: a hook made a gradient of (2,) float32 out of one of (2,) float64; shape and dtype must stay"),
        (lambda: hooked(None), "register_hook: a hook is a function of the gradient, not NoneType"),
        (lambda: hooked(lambda g: g.numpy()), "register_hook: a hook gives a Tensor or None, not ndarray"),
    ],
)  # fmt: skip
def test_what_hooks_cannot_do_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()


def hooked(hook):
    x = leaf(1.0, 2.0)
    x.register_hook(hook)
    (x * x).sum().backward()
