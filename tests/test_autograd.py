"""The walk back: what it promises about graphs, memory, sharing and repeated derivatives."""

import gc
import os
import re
import signal
import sys
import threading
import weakref

import array_api_strict
import numpy as np
import pytest

import minidiff as md
from minidiff import autograd, ops
from minidiff.autograd import FusedOp, Op, grad
from minidiff.errors import BadInput
from minidiff.ops.activation import GELU
from minidiff.ops.elementwise import Mul
from minidiff.ops.matmul import MatMul
from minidiff.tensor import Tensor


def leaf(*numbers):
    return md.tensor(list(numbers) if len(numbers) != 1 else numbers[0], requires_grad=True, dtype=np.float64)


@pytest.fixture
def no_collector():
    """Memory is to be freed by reference counting alone: no cycles."""
    gc.disable()
    yield
    gc.enable()


# ----------------------------------------------------------------------------------------- graphs


def test_a_chain_of_100_000_operations_runs_backward_and_is_freed():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = -y
    first = weakref.ref(x)
    y.backward()
    assert x.grad.item() == 1.0
    del x, y  # frees the whole chain, one operation holding the next
    gc.collect()
    assert first() is None


def test_a_tensor_used_many_times_receives_the_sum():
    x = leaf(3.0)
    y = x * x + x * x + x  # 2x² + x
    y.backward()
    assert x.grad.item() == 13.0


def test_diamonds_hand_on_only_when_complete(monkeypatch):
    """Each of the 20 squarings runs backward once; handing every part on by itself would take 2²⁰ calls."""
    calls, backward = [], Mul.backward
    monkeypatch.setattr(Mul, "backward", lambda self, gy: calls.append(self) or backward(self, gy))
    x = leaf(1.0)
    y = x
    for _ in range(20):
        y = y * y
    y.backward()
    assert len(calls) == 20 and x.grad.item() == 2.0**20


def test_gradients_of_several_backward_passes_add_up():
    x = leaf(3.0)
    for n in (1, 2):
        (x * x).backward()
        assert x.grad.item() == 6.0 * n


def test_backward_from_a_leaf_itself():
    x = leaf(3.0)
    x.backward()
    assert x.grad.item() == 1.0


def test_only_leaves_that_ask_get_a_gradient():
    x, y = leaf(2.0), md.tensor(3.0)
    z = x * y
    (z * z).backward()
    assert x.grad is not None and y.grad is None and z.grad is None


def test_gy_weighs_the_outputs():
    x = leaf(1.0, 2.0)
    (x * x).backward([10.0, 100.0])
    np.testing.assert_array_equal(x.grad.numpy(), [20.0, 400.0])


def test_a_single_number_of_any_shape_needs_no_gy():
    x = leaf(1.0, 2.0)
    (x * x).sum(keepdims=True).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2.0, 4.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: (leaf(1.0, 2.0) * 2).backward(np.ones(2, complex)), "backward: gy must hold real numbers, got complex128"),
        (lambda: (leaf(1.0, 2.0) * 2).backward(["a", "b"]), "backward: gy must hold real numbers, got <U1"),
        (lambda: grad(leaf(1.0, 2.0) * 2, leaf(1.0)),
         "grad: gy is needed for a tensor of shape (2,); only a single number has a default"),
        (lambda: grad(md.tensor(1.0), leaf(1.0)),
         "grad: this tensor was not computed from any tensor with requires_grad=True"),
        (lambda: grad(leaf(1.0), np.ones(2)), "grad: outputs and inputs must be tensors, one is a float64"),
        (lambda: grad([leaf(1.0), leaf(2.0)], leaf(1.0), [1.0]),
         "grad: there are 2 outputs and 1 gradients gy; each output needs one, or None"),
        (lambda: grad(leaf(1.0), [leaf(1.0, 2.0)], allow_unused=False),
         "grad: no output depends on input 0 (2,); allow_unused=True gives None for it"),
        (lambda: (leaf(1.0, 2.0) * 2).backward(),
         "backward: gy is needed for a tensor of shape (2,); only a single number has a default"),
        (lambda: (leaf(1.0, 2.0) * 2).backward(np.ones(3)), "backward: gy has shape (3,), the tensor has (2,)"),
        (lambda: md.tensor(1.0).backward(),
         "backward: this tensor was not computed from any tensor with requires_grad=True"),
    ],
)  # fmt: skip
def test_backward_of_what_cannot_be_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()


def test_a_gy_of_another_dtype_is_taken_in_the_tensors_own():
    x = md.tensor([1.0, 2.0], requires_grad=True)
    (x * x).backward(md.tensor(np.ones(2)))
    assert x.grad.dtype == np.float32


# ------------------------------------------------------------------------ grad(), and what is computed


def test_grad_gives_gradients_of_leaves_and_of_what_lies_between_and_touches_no_grad():
    x, unused = leaf(3.0), leaf(1.0)
    h = x * x
    y = h * h
    gx, gh, nothing = grad(y, [x, h, unused])
    assert (gx.item(), gh.item(), nothing) == (108.0, 18.0, None)
    assert x.grad is None


def test_grad_of_one_tensor_is_a_tensor_and_of_several_a_list():
    x = leaf(3.0)
    assert grad(x * x, x).item() == 6.0
    assert [g.item() for g in grad(x * x, (x,))] == [6.0]
    assert grad(x * x, leaf(1.0)) is None and grad(x * x, []) == []


@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_of_one_input_asked_for_twice_is_two_tensors_in_memory_of_their_own(create_graph):
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    for between in (x, x * 1.0):
        a, b, c = grad((between * between * between).sum(), [between, x, between], create_graph=create_graph)
        if create_graph:
            np.testing.assert_array_equal(grad(c.sum(), between, retain_graph=True).data, [6.0, 12.0])
        a.data[0] = c.data[0] = 9.0
        np.testing.assert_array_equal(b.data, [3.0, 12.0])
        assert not np.shares_memory(a.data, c.data)


def test_grad_of_several_outputs_is_the_sum_of_their_gradients():
    x, w = leaf(3.0), leaf(1.0, 2.0)
    ys = [x * x, w * x, x]
    gx, gw = grad(ys, [x, w], [None, [1.0, 10.0], 100.0])
    assert gx.item() == 6.0 + 21.0 + 100.0
    np.testing.assert_array_equal(gw.numpy(), [3.0, 30.0])


def test_an_output_that_is_named_twice_or_leads_to_another_counts_each_time():
    x = leaf(3.0)
    h = x * x
    assert grad([h, h], x, retain_graph=True).item() == 12.0
    assert [g.item() for g in grad([h * h, h], [h, x])] == [18.0 + 1.0, 6.0 * 19.0]


def test_inputs_may_depend_on_each_other():
    x = leaf(2.0)
    a = x * x
    b = a * x  # x³
    y = b * a  # x⁵
    gb, ga, gx = grad(y, [b, a, x])
    assert (gb.item(), ga.item(), gx.item()) == (4.0, 8.0 + 8.0, 80.0)


def test_grad_walks_only_between_outputs_and_inputs(monkeypatch):
    """Not past h, not into the branch that does not lead to it, and of Mul on the way only the product that does."""
    ran = []
    for op in (Mul, MatMul, GELU):
        backward = op.backward
        monkeypatch.setattr(op, "backward", lambda self, gy, b=backward: ran.append((self.name, self.needs)) or b(self, gy))
    x, w = leaf(3.0, 4.0), leaf(5.0, 6.0)
    before = x * x
    h = ops.gelu(before)
    beside = ops.gelu(w * w)
    y = (h * beside).sum()
    (gh,) = grad(y, [h], retain_graph=True)
    assert ran == [("Mul", (True, False))]
    np.testing.assert_array_equal(gh.numpy(), beside.numpy())
    ran.clear()
    y.backward()  # the rest has been left as it was
    assert len(ran) == 5 and x.grad is not None and w.grad is not None


def test_nothing_older_than_what_is_asked_for_is_even_looked_at():
    """Or a derivative through a chain of fused operations, each of which asks for its own part, would take forever."""
    class Untouchable(tuple):
        def __iter__(self):
            pytest.fail("walked past what was asked for")

    before = leaf(1.0, 2.0) * 2.0
    h = ops.gelu(before)
    before.creator.edges = Untouchable()
    np.testing.assert_array_equal(grad((h * h).sum(), h).numpy(), 2.0 * h.numpy())


def test_a_leaf_that_is_not_asked_for_costs_no_gradient_of_a_kernel():
    asked = []

    class Spy(ops.conv.Conv2d):
        def backward(self, gy):
            asked.append(self.needs)
            return super().backward(gy)

    x, w = (Tensor(np.ones(s), requires_grad=True) for s in ((1, 1, 4, 4), (1, 1, 3, 3)))
    y = Spy(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)(x, w).sum()
    for inputs in ([x], [w], [x, w]):
        grad(y, inputs, retain_graph=True)
    assert asked == [(True, False), (False, True), (True, True)]


def test_x_detached_and_x_are_told_apart_though_they_share_their_numbers():
    """y = c x with c = x: dy/dx = c, and d²y/dx² = 0; not 2x and 2."""
    x = leaf(3.0)
    (gx,) = grad(x.detach() * x, [x], create_graph=True)
    assert gx.item() == 3.0 and not gx.requires_grad
    (gx,) = grad(x * x, [x], create_graph=True)
    assert gx.item() == 6.0 and grad(gx, [x])[0].item() == 2.0
    (gx,) = grad(x * x.detach() * x, [x], create_graph=True)  # c x²
    assert grad(gx, [x])[0].item() == 6.0


@pytest.mark.parametrize(("op", "fn"), [(MatMul, lambda a, b: a @ b), (Mul, lambda a, b: a * b)])
@pytest.mark.parametrize("needs", [(True, False), (False, True), (True, True)])
def test_gradients_nobody_needs_are_not_computed(monkeypatch, op, fn, needs):
    a, b = (Tensor(np.ones((2, 2)), requires_grad=need) for need in needs)
    y = fn(a, b)
    calls, forward = [], op.forward
    monkeypatch.setattr(op, "forward", lambda self, *xs: calls.append(self) or forward(self, *xs))
    y.backward(np.ones((2, 2)))
    assert len(calls) == sum(needs)  # one product for each gradient


def test_branches_without_gradients_are_not_recorded():
    x, constant = leaf(1.0), md.tensor(2.0)
    y = (constant * constant) * x
    assert y.creator.edges == (None, x)


# ----------------------------------------------------------------------------- second time, higher order


def test_a_second_backward_names_the_operation_that_let_go():
    x = leaf(3.0)
    y = (x * x).exp()
    y.backward()
    message = "Exp: backward a second time, but what it kept was released; use backward(retain_graph=True) the first time"
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        y.backward()


def test_a_fused_operation_is_released_too():
    y = ops.gelu(leaf(1.0, 2.0)).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="^Sum: backward a second time"):
        y.backward()


def test_retain_graph_allows_another_backward():
    x = leaf(3.0)
    y = (x * x).exp() * 0.0 + ops.gelu(x) * 0.0 + x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12.0


def test_any_order_of_derivative():
    x = leaf(2.0)
    y = x**5
    for expected in (80.0, 160.0, 240.0, 240.0, 120.0, 0.0):
        (y,) = grad(y, [x], create_graph=True)
        assert y.item() == expected


def test_backward_with_create_graph_leaves_gradients_that_can_be_differentiated():
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    gx, x.grad = x.grad, None
    gx.backward()
    assert (gx.item(), x.grad.item()) == (12.0, 12.0)


def test_a_fused_operation_is_differentiated_three_times_through_its_reference():
    """gelu‴(x) = φ(x) (x³ − 4x), from gelu′ = Φ + xφ and φ′ = −xφ."""
    x = leaf(0.7)
    y = ops.gelu(x)
    for _ in range(3):
        (y,) = grad(y, [x], create_graph=True)
    density = np.exp(-0.5 * 0.7**2) / np.sqrt(2 * np.pi)
    assert y.item() == pytest.approx(density * (0.7**3 - 4 * 0.7), rel=1e-12)


def test_a_chain_of_50_000_operations_has_second_derivatives_and_is_freed(no_collector):
    """Each of them kept its input and output, and the gradient's graph lies beside the first."""
    x = leaf(0.5)
    y = x * 1.0
    for i in range(50_000):
        y = y * 1.0 if i % 2 else y + 0.0
    gx = grad(y * y, x, create_graph=True)
    assert gx.item() == 1.0 and grad(gx, x).item() == 2.0
    alive = weakref.ref(y.creator)
    del y, gx
    assert alive() is None


def test_a_gradient_penalty_reaches_every_parameter(rng):
    """L = |∂y/∂x|² with y = Σ tanh(x w): the term that needs the second derivative."""
    @md.enable_grad()  # gradcheck measures slopes without recording, and this function needs it itself
    def penalty(w):
        x = md.tensor(np.ones((1, 2)), requires_grad=True)
        (gx,) = grad((x @ w).tanh().sum(), [x], create_graph=True)
        return (gx * gx).sum()

    assert md.gradcheck(penalty, [rng.standard_normal((2, 3))], 2)


# ------------------------------------------------------------------------------ nothing is written to


def test_a_shared_gradient_is_never_written_to():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    gy = np.ones(2)
    gy.flags.writeable = False
    (a + b).backward(gy)  # both gradients may be gy itself
    before = a.grad.data.copy()
    (a * 5.0 + b * 0.0).backward(gy)
    np.testing.assert_array_equal(a.grad.numpy(), before + 5.0)
    np.testing.assert_array_equal(b.grad.numpy(), before)
    np.testing.assert_array_equal(gy, 1.0)


def test_a_gradient_read_earlier_does_not_change_later():
    x = leaf(2.0)
    (x * x).backward()
    early = x.grad
    (x * x).backward()
    assert (early.item(), x.grad.item()) == (4.0, 8.0)


def test_a_broadcast_view_may_be_a_gradient():
    """The gradient of a sum is one number seen many times: a read-only view, which must be added to all the same."""
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    (x.sum() + x.mean() * 6.0 + x.broadcast_to(4, 2, 3).sum()).backward()
    np.testing.assert_array_equal(x.grad.numpy(), 6.0)


@pytest.mark.parametrize(
    "op",
    [
        lambda x: ops.conv2d(x, Tensor(np.ones((2, 2, 3, 3)))), lambda x: ops.conv2d(x, Tensor(np.ones((2, 2, 3, 3))), stride=2),
        lambda x: ops.conv2d(x, Tensor(np.ones((1, 2, 3, 3))), stride=2),
        lambda x: ops.conv_transpose2d(x, Tensor(np.ones((2, 2, 2, 2)))), lambda x: ops.group_norm(x, 2) * x,
        lambda x: ops.group_norm_gelu(x, 1) * x, ops.gelu, lambda x: ops.mse_loss(x, x * 0.5),
    ],
    ids=["conv2d", "conv2d, stride 2", "conv2d, to one channel", "conv_transpose2d", "group_norm", "group_norm_gelu", "gelu", "mse_loss"],
)  # fmt: skip
def test_kernels_take_a_broadcast_view_as_gradient(rng, op):
    """loss.sum().backward() must mean what a gradient of written-out ones means."""
    x = Tensor(rng.standard_normal((2, 2, 5, 5)), requires_grad=True)
    y = op(x)
    (by_view,) = grad(y.sum(), [x])
    (by_ones,) = grad(op(x), [x], np.ones(y.shape))
    np.testing.assert_allclose(by_view.data, by_ones.data, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------- a gradient is in memory of its own


OWN = {
    "a + b": lambda a, b: (a + b) * 3.0,
    "a - b": lambda a, b: a - b,
    "reshaped": lambda a, b: a.reshape(4) + b.reshape(4),
    "transposed": lambda a, b: a.T + b.T,
    "sums": lambda a, b: a.sum() + b.mean() + a.sum(0, keepdims=True) * 0.0,
    "broadcast": lambda a, b: a.broadcast_to(3, 2, 2) + b,
    "joined": lambda a, b: ops.concatenate([a, b]),
    "parts": lambda a, b: ops.stack([*a.split(1), *b.split(1)]),
    "flipped": lambda a, b: a.flip(0) + b,
    "astype": lambda a, b: a.astype(np.float64) + b.astype(np.float64),
    "one reads the other's numbers": lambda a, b: a + Tensor(a.data, requires_grad=True) + b,
    "checkpoint": lambda a, b: md.checkpoint(lambda a, b: a + b, a, b),
    "mse_loss": lambda a, b: ops.mse_loss(a, b),
    "fused": lambda a, b: ops.group_norm(a.reshape(2, 2, 1, 1), 1) + b.reshape(2, 2, 1, 1),
}


def writes_apart(tensors, others=()):
    """Writing to each in turn changes none of the others."""
    arrays = [*[t.numpy() for t in tensors], *others]
    for i, t in enumerate(tensors):
        before = [a.copy() for a in arrays]
        with md.no_grad():
            if t.creator is None:
                t[...] = 7.0 + i
            else:
                t.numpy()[...] = 7.0 + i
        for j, (a, was) in enumerate(zip(arrays, before, strict=True)):
            if j != i:
                np.testing.assert_array_equal(a, was)
        np.testing.assert_array_equal(arrays[i], 7.0 + i)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", OWN)
def test_gradients_may_be_written_to_and_nothing_else_changes(name, create_graph):
    """Those of two leaves, the gradient that backward was given, and the leaves themselves share no memory."""
    a, b = leaf([[1.0, 2.0], [3.0, 5.0]]), leaf([[2.0, 3.0], [5.0, 7.0]])
    y = OWN[name](a, b)
    gy = np.ones(y.shape)
    y.backward(gy, create_graph=create_graph)
    writes_apart([a.grad, b.grad], [gy, a.data, b.data])
    gradients = grad(OWN[name](a, b), [a, b], gy, create_graph=create_graph)
    writes_apart(gradients, [gy, a.data, b.data, a.grad.data, b.grad.data])


def test_a_gradient_is_not_the_array_that_backward_was_given():
    x, g = leaf(1.0, 2.0), np.array([3.0, 4.0])
    for y in (x + 1.0, x):
        x.grad = None
        y.backward(g, retain_graph=True)
        writes_apart([x.grad], [g])
        g[...] = 3.0, 4.0
        writes_apart([md.grad(y, x, g)], [g])


def test_the_gradients_of_results_and_leaves_share_no_memory():
    x = leaf(1.0, 2.0)
    h = x + 1.0
    k = h.reshape(2, 1)
    for t in (h, k):
        t.retain_grad()
    k.sum().backward()
    writes_apart([x.grad, h.grad, k.grad])
    h = x + 1.0
    k = h.reshape(2, 1)
    writes_apart(grad((k * 1.0).sum(), [x, h, k]))


def test_a_gradient_that_a_hook_has_seen_or_given_is_not_the_leafs():
    x, seen, own = leaf(1.0, 2.0), [], Tensor(np.array([5.0, 6.0]))
    handle = x.register_hook(seen.append)
    (x * 2.0).backward([1.0, 1.0])
    writes_apart([x.grad], [seen[0].data])
    handle.remove()
    x.register_hook(lambda g: own)
    x.grad = None
    (x * 2.0).backward([1.0, 1.0])
    writes_apart([x.grad], [own.data])


def test_an_operation_may_give_one_array_for_two_inputs_or_what_it_kept():
    class Twice(FusedOp):
        portable = True

        def forward(self, a, b):
            return a + b

        def backward(self, gy):
            memory = np.concatenate([gy, gy])
            return (memory[:2], memory[:2]) if self.same else (memory[:2], memory[2:])

    class Kept(Op):
        def forward(self, a):
            self.save(a)
            return a * a / 2.0

        def backward(self, gy):
            return self.saved[0]

    for same in (True, False):
        a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
        Twice(same=same)(a, b).backward([1.0, 1.0])
        writes_apart([a.grad, b.grad])
    a = leaf(1.0, 2.0)
    Kept()(a).backward([1.0, 1.0])
    writes_apart([a.grad], [a.data])


def test_gradients_with_history_keep_it_in_memory_of_their_own():
    """d/dx of (x² + b)·x summed, and of its gradient: the copy is an operation like others."""
    x, b = leaf(2.0, 3.0), leaf(1.0, 1.0)
    ((x * x + b) * x).sum().backward(create_graph=True)
    assert b.grad.requires_grad and not np.shares_memory(b.grad.data, x.data)
    np.testing.assert_array_equal(grad(b.grad.sum(), x, retain_graph=True).data, 1.0)         # b.grad is x
    np.testing.assert_array_equal(grad(x.grad.sum(), x).data, 6.0 * x.data)


def test_what_an_operation_made_for_a_leaf_alone_is_not_copied(monkeypatch, rng):
    """So a training step copies next to nothing: only what Linear's transpose hands on."""
    from minidiff.autograd import Copy
    from minidiff.models import UNet

    copied, forward = [], Copy.forward
    monkeypatch.setattr(Copy, "forward", lambda self, x: copied.append(x.nbytes) or forward(self, x))
    model = UNet()
    x = rng.standard_normal((1, 1, 32, 32)).astype(np.float32)
    (model(x, np.array([1]), np.array([0])) * x).sum().backward()
    total = sum(p.data.nbytes for p in model.parameters())
    assert all(p.grad is not None for p in model.parameters()) and sum(copied) < 0.05 * total
    assert all(p.grad.data.flags.c_contiguous for p in model.parameters())   # an optimizer's kernel can walk along them


def test_passes_of_several_threads_into_one_leaf_all_arrive(monkeypatch):
    """Reading, adding and writing `.grad` is one piece, whenever Python turns to another thread."""
    x, result = leaf(*np.zeros(64)), leaf(0.0)
    kept = result * 1.0
    kept.retain_grad()
    before = sys.getswitchinterval()
    start = threading.Barrier(4)

    def work():
        start.wait()
        for _ in range(500):
            (x * 1.0).sum().backward()
            kept.backward(retain_graph=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    try:
        sys.setswitchinterval(1e-6)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    np.testing.assert_array_equal(x.grad.data, 2000.0)
    assert (kept.grad.item(), result.grad.item()) == (2000.0, 2000.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_adds_up_though_a_thread_was_adding_at_the_time():
    """The thread that held the lock is not in the child: a lock of the parent's would never be released there."""
    with autograd._accumulating:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            x = leaf(1.0)
            (x * 2.0).backward()
            os._exit(0 if x.grad.item() == 2.0 else 1)
    assert os.waitpid(child, 0)[1] == 0


# -------------------------------------------------------------------------------------------- memory


def kept_arrays(y):
    """The arrays that the operations behind y hold, beside the options that the caller gave."""
    stack, seen, found = [y.creator], set(), []
    while stack:
        op = stack.pop()
        seen.add(op)
        found += [(op.name, k) for k, v in vars(op).items() if isinstance(v, np.ndarray) and k not in op.options]
        found += [(op.name, "slot") for _ in op.slots]
        stack += [edge for edge in op.edges if isinstance(edge, Op) and edge not in seen]
    return found


MEMORY = {
    "mul": lambda x: x * x, "exp": lambda x: x.exp(), "softmax": ops.softmax, "matmul": lambda x: x @ x.T, "relu": ops.relu,
    "abs": ops.abs, "clip": lambda x: x.clip(0.0, 1.0), "max": lambda x: x.max(1), "gelu": ops.gelu, "silu": ops.silu,
    "group_norm": lambda x: ops.group_norm(x, 2), "mse_loss": lambda x: ops.mse_loss(x, 0.5 * x),
    "cross_entropy": lambda x: ops.cross_entropy(x, [0, 1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", MEMORY)
def test_what_was_kept_is_released_after_backward(rng, name):
    y = MEMORY[name](Tensor(rng.standard_normal((3, 4)), requires_grad=True)).sum()
    y.backward()
    assert kept_arrays(y) == []


def test_saved_arrays_are_freed_by_backward_though_its_result_lives_on(no_collector):
    h = leaf(1.0, 2.0) * 1.0
    alive = weakref.ref(h.data)
    y = (h * h).sum()
    del h
    assert alive() is not None  # Mul needs it
    y.backward()
    assert alive() is None


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_graph_is_freed_with_its_result(no_collector, create_graph):
    x = leaf(1.0, 2.0)
    h = ops.softmax(x) * x.exp()  # both keep their own output, which must not point back to them
    alive = weakref.ref(h.creator)
    y = ops.gelu(h).sum()
    del h
    gx = grad(y, [x], create_graph=create_graph)
    assert alive() is not None
    del y, gx
    assert alive() is None


def live(*kinds):
    return sum(issubclass(type(thing), kinds) for thing in gc.get_objects())


def test_a_thousand_training_steps_leave_no_tensor_behind(no_collector):
    """Every kind of layer of the U-Net, an optimizer, averaged weights, a checkpoint and a penalty on a gradient."""
    x = md.tensor(np.ones((1, 2, 2, 2), np.float32))
    model = md.nn.Sequential(md.nn.Conv2d(2, 2, 3, padding=1), md.nn.GroupNorm(1, 2), md.nn.GELU())
    optimizer, ema = md.optim.AdamW(model.parameters(), lr=1e-3), md.optim.EMA(model)

    def step():
        optimizer.zero_grad()
        loss = ops.mse_loss(md.checkpoint(model, x), x)
        loss.backward()
        z = md.tensor([1.0], requires_grad=True)
        gz = grad((z * z * z).exp(), z, create_graph=True)
        (gz * gz).backward()
        optimizer.step()
        ema.update()

    for _ in range(3):
        step()
    before = live(Tensor), live(Op)
    for _ in range(1000):
        step()
    assert (live(Tensor), live(Op)) == before


def test_without_recording_nothing_is_kept(no_collector):
    with md.no_grad():
        h = leaf(1.0, 2.0) * 2.0
        alive = weakref.ref(h.data)
        y = h.exp()
        del h
    assert alive() is None and y.creator is None and not y.requires_grad


# ------------------------------------------------------------------------------------- recording or not


def test_no_grad_is_a_context_and_a_decorator_and_ends_after_an_error():
    @md.no_grad()
    def double(x):
        assert not md.is_grad_enabled()
        with md.enable_grad():
            assert (x * 2).requires_grad
        return x * 2

    x = leaf(1.0)
    assert not double(x).requires_grad and not double(x).requires_grad
    with pytest.raises(KeyError), md.no_grad():
        raise KeyError
    assert md.is_grad_enabled() and (x * 2).requires_grad


def test_no_grad_of_one_thread_leaves_the_others_alone():
    seen = []
    with md.no_grad():
        thread = threading.Thread(target=lambda: seen.append(md.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_graphs_that_are_made_in_several_threads_at_once_do_not_meet():
    """Each thread records and differentiates, another rule of recording in every second step, and all agree."""
    n, results = 8, {}
    start = threading.Barrier(n)

    def work(i):
        x = leaf(0.5 + i)
        start.wait()
        for j in range(200):
            y = x
            for _ in range(5):
                y = (y * x).tanh() + y
            with md.no_grad() if j % 2 else md.enable_grad():
                assert (y * 2.0).requires_grad == (j % 2 == 0)
            gx = grad(y, x, create_graph=True)
            results.setdefault(i, set()).add((y.item(), gx.item(), grad(gx, x).item()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(results[i]) == 1 for i in range(n)) and len(set.union(*results.values())) == n


def test_gradients_are_not_recorded_unless_asked():
    x = leaf(2.0)
    (x**3).backward()
    assert not x.grad.requires_grad


# ------------------------------------------------------------------------------------------ where arrays are


STRICT = array_api_strict.asarray([1.0, 2.0])
PAIRS = {
    "mul": (lambda a, b: Mul()(a, b), "a is on cpu (numpy), b on {} (array_api_strict)"),
    "matmul": (lambda a, b: MatMul()(a, b), "a is on cpu (numpy), b on {} (array_api_strict)"),
    "concatenate": (lambda a, b: ops.shape.Concatenate(axis=0)(a, a, b),
                    "xs[0] is on cpu (numpy), xs[2] on {} (array_api_strict)"),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    ("place", "fix"), [("cuda", "move one with .to('cpu')"), ("cpu", "make both arrays of numpy")], ids=["devices", "libraries"]
)
def test_arrays_of_two_devices_or_libraries_do_not_mix(monkeypatch, name, place, fix):
    apply, message = PAIRS[name]
    monkeypatch.setattr(md.backend, "device_of", lambda x: "cpu" if isinstance(x, np.ndarray) else place)
    with pytest.raises(BadInput, match=f"^{re.escape(f'{name}: {message.format(place)}; {fix}')}$"):
        apply(leaf(1.0, 2.0), Tensor(STRICT))


def test_the_engine_leaves_the_arrays_of_another_library_what_they_are():
    x, seen = Tensor(STRICT, requires_grad=True), []
    x.register_hook(lambda g: seen.append(g) or g * 1.0)
    h = x * x
    h.retain_grad()
    with md.detect_anomaly():
        y = md.checkpoint(lambda h: h * x * x, h)
        (gx,) = grad(y, [x], [1.0, 1.0], create_graph=True)
        gx.backward(np.ones(2))
    _, move = md.jvp(lambda x: x * x * x, x, Tensor(STRICT))
    for actual, expected in [(gx, [4.0, 32.0]), (x.grad, [12.0, 48.0]), (move, [3.0, 24.0]), (h.grad, [2.0, 4.0]), (seen[0], gx)]:
        assert isinstance(actual.data, type(STRICT))
        np.testing.assert_array_equal(actual.numpy(), expected)


def test_a_gradient_from_another_device_is_refused(monkeypatch):
    y = leaf(1.0, 2.0) * 2.0
    monkeypatch.setattr(md.backend, "device_of", lambda x: "cpu" if isinstance(x, np.ndarray) else "cuda")
    message = "backward: gy is on cuda, the tensor on cpu; move gy with .to('cpu')"
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        y.backward(Tensor(STRICT))


def test_whole_numbers_that_ask_for_a_gradient_are_refused_however_they_ask():
    message = "requires_grad needs floating-point numbers; this tensor is int64; use .astype(numpy.float32)"
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        md.tensor([1, 2], requires_grad=True)
    x = md.tensor([1, 2])
    x.requires_grad = True
    y = (x * leaf(1.0, 2.0)).sum()
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        y.backward()


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (lambda: (leaf(1.0, 2.0) * leaf(1.0)).creator, "Mul(): (2,), () -> (2,)"),
        (lambda: leaf(1.0, 2.0).sum(0).creator, "Sum(axes=(0,), keepdims=False): (2,) -> ()"),
        (lambda: leaf(1.0, 2.0)[np.array([1, 1, 0])].creator, "GetItem(index=array(3,)): (2,) -> (3,)"),
        (lambda: leaf(1.0, 2.0)[np.array([1, 1]), None].creator, "GetItem(index=(array(2,), None)): (2,) -> (2, 1)"),
        (lambda: GELU(approximate="tanh"), "GELU(approximate='tanh')"),
    ],
)  # fmt: skip
def test_an_operation_says_what_it_is_and_what_it_made_of_what(op, text):
    assert repr(op()) == text


# -------------------------------------------------------------------------------- mistakes of whoever adds an operation


class Wrong(Op):
    """y = 2x, with a mistake that the options name."""

    def forward(self, x):
        if self.options.get("saves"):
            self.save(x + 1)
        return 2 * x

    def backward(self, gy):
        return self.gives(gy)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"saves": True}, TypeError,
         "Wrong saves an array that is neither input nor output: derivatives of its gradient would miss it"),
        ({"gives": lambda gy: (gy, gy)}, TypeError, "Wrong.backward gives 2 gradients for 1 inputs"),
        ({"gives": lambda gy: gy.astype(np.float32)}, TypeError,
         "Wrong.backward gives a gradient of float32 for input 0 of float64"),
        ({"gives": lambda gy: gy.sum()}, BadInput, "Wrong.backward, input 0: shape () cannot be summed down to (2,)"),
        ({"gives": lambda gy: gy[:1].broadcast_to(3)}, BadInput,
         "Wrong.backward, input 0: shape (3,) cannot be summed down to (2,)"),
    ],
)  # fmt: skip
def test_the_engine_says_what_is_wrong_with_an_operation(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Wrong(**options)(leaf(1.0, 2.0)).backward(np.ones(2))


def test_methods_that_must_be_defined():
    for op, call, what in [(Op, lambda op: op().forward(), "forward"), (Op, lambda op: op().backward(None), "backward")]:
        with pytest.raises(TypeError, match=f"^Op must define {what}$"):
            call(op)
    with pytest.raises(TypeError, match="^a fused operation must define its reference$"):
        FusedOp.reference()
    assert GELU.reference is not FusedOp.reference


def test_backward_uses_the_numbers_of_forward_though_a_leaf_was_given_others():
    """Weights that are swapped between forward and backward, as averaged ones are, must not enter the gradient."""
    x, w = leaf(2.0), leaf(3.0)
    y = x * w
    w.data = np.array(100.0)
    y.backward()
    assert x.grad.item() == 3.0
