"""Derivatives of functions: against formulas, against each other, and against PyTorch."""

import re

import numpy as np
import pytest

import minidiff as md
from minidiff import ops
from minidiff.errors import BadInput
from minidiff.tensor import Tensor


@pytest.fixture
def x(rng):
    return Tensor(rng.standard_normal((2, 3)))


@pytest.fixture
def w(rng):
    return Tensor(rng.standard_normal((3, 4)), requires_grad=True)


def f(x, w):
    return ops.softmax((x @ w).tanh(), -1)                                     # (2,3) (3,4) -> (2,4)


def differences(fn, x, h=1e-6):
    """∂fn/∂x by central differences: fn's shape followed by x's."""
    columns = []
    for i in range(x.size):
        d = np.zeros(x.size)
        d[i] = h
        columns.append((fn(x + d.reshape(x.shape)) - fn(x - d.reshape(x.shape))) / (2 * h))
    return np.stack(columns, -1).reshape(*columns[0].shape, *x.shape)


def close(actual, expected, tol=1e-12):
    np.testing.assert_allclose(actual.numpy(), expected.numpy() if isinstance(expected, Tensor) else expected, tol, tol)


# ------------------------------------------------------------------------------- against each other


def test_vjp_is_the_jacobian_from_the_left_and_jvp_from_the_right(rng, x, w):
    jx, jw = md.jacobian(f, [x, w])
    assert (jx.shape, jw.shape) == ((2, 4, 2, 3), (2, 4, 3, 4))
    u, vx, vw = (Tensor(rng.standard_normal(s)) for s in ((2, 4), (2, 3), (3, 4)))
    y, pullback = md.vjp(f, x, w)
    gx, gw = pullback(u)
    close(gx, np.einsum("ab,abcd->cd", u.numpy(), jx.numpy()))
    close(gw, np.einsum("ab,abcd->cd", u.numpy(), jw.numpy()))
    z, move = md.jvp(f, [x, w], [vx, vw])
    close(move, np.einsum("abcd,cd->ab", jx.numpy(), vx.numpy()) + np.einsum("abcd,cd->ab", jw.numpy(), vw.numpy()))
    close(y, f(x, w))
    close(z, f(x, w))


def test_the_jacobian_is_what_differences_say(x, w):
    close(md.jacobian(lambda x: f(x, w), x), differences(lambda x: f(Tensor(x), w).numpy(), x.numpy()), 1e-8)


def test_hvp_is_the_hessian_times_the_vector(rng, x, w):
    def phi(x, w):
        return (f(x, w) * f(x, w)).sum()

    (hxx, hxw), (hwx, hww) = md.hessian(phi, (x, w))
    close(hxw, hwx.numpy().transpose(2, 3, 0, 1))  # second derivatives do not depend on the order
    vx, vw = Tensor(rng.standard_normal((2, 3))), Tensor(rng.standard_normal((3, 4)))
    ax, aw = md.hvp(phi, (x, w), (vx, vw))
    close(ax, np.einsum("abcd,cd->ab", hxx.numpy(), vx.numpy()) + np.einsum("abcd,cd->ab", hxw.numpy(), vw.numpy()))
    close(aw, np.einsum("abcd,cd->ab", hwx.numpy(), vx.numpy()) + np.einsum("abcd,cd->ab", hww.numpy(), vw.numpy()))


def test_the_hessian_of_a_quadratic_form_is_its_matrix(rng):
    a = rng.standard_normal((4, 4))
    h = md.hessian(lambda x: 0.5 * (x @ Tensor(a) @ x.unsqueeze(-1)).sum(), Tensor(rng.standard_normal((1, 4))))
    close(h.reshape(4, 4), (a + a.T) / 2)


@pytest.mark.parametrize("kernel", ["conv2d", "group_norm_gelu", "gelu", "mse_loss"])
def test_fused_operations_have_all_of_it(rng, kernel):
    weight = Tensor(rng.standard_normal((2, 2, 3, 3)))
    fn = {
        "conv2d": lambda x: ops.conv2d(x, weight, padding=1) ** 2, "group_norm_gelu": lambda x: ops.group_norm_gelu(x, 1),
        "gelu": ops.gelu, "mse_loss": lambda x: ops.mse_loss(x, x * x),
    }[kernel]  # fmt: skip
    x, v = (Tensor(rng.standard_normal((1, 2, 3, 3))) for _ in range(2))
    j = md.jacobian(fn, x)
    close(j, differences(lambda x: fn(Tensor(x)).numpy(), x.numpy()), 1e-6)
    _, move = md.jvp(fn, x, v)
    close(move.reshape(-1), j.numpy().reshape(-1, 18) @ v.numpy().reshape(18), 1e-10)


def test_functions_of_several_outputs(x):
    def fn(x):
        return x * x, x.sum(1)

    (y, s), pullback = md.vjp(fn, x)
    close(y, x.numpy() ** 2)
    close(pullback([np.ones((2, 3)), np.array([10.0, 20.0])]), 2 * x.numpy() + [[10.0], [20.0]])
    _, (my, ms) = md.jvp(fn, x, Tensor(np.ones((2, 3))))
    close(my, 2 * x.numpy())
    close(ms, [3.0, 3.0])
    jy, js = md.jacobian(fn, x)
    assert (jy.shape, js.shape) == ((2, 3, 2, 3), (2, 2, 3))


# ------------------------------------------------------------------------------------ what is promised


def test_a_pullback_may_be_called_again_and_again(x):
    _, pullback = md.vjp(lambda x: x.exp(), x)
    for scale in (1.0, 2.0, 3.0):
        close(pullback(np.full((2, 3), scale)), scale * np.exp(x.numpy()))


def test_the_same_tensor_twice_is_two_arguments(x):
    ga, gb = md.vjp(lambda a, b: a * b * b, x, x)[1](np.ones((2, 3)))
    close(ga, x.numpy() ** 2)
    close(gb, 2 * x.numpy() ** 2)


def test_no_grad_is_touched_and_no_history_kept(w):
    y, gw = md.jvp(lambda w: w * w, w, w)
    assert w.grad is None and not y.requires_grad and not gw.requires_grad
    with md.no_grad():  # what is asked for is computed all the same
        close(md.jacobian(lambda w: w.sum(), w), np.ones((3, 4)))


def test_with_create_graph_results_can_be_differentiated_towards_inputs_and_what_fn_finds_elsewhere():
    a, b = (Tensor(np.array(n), requires_grad=True) for n in (2.0, 3.0))
    _, move = md.jvp(lambda a: a * a * b, a, Tensor(np.array(1.0)), create_graph=True)  # 2ab
    ga, gb = md.grad(move, [a, b])
    assert (move.item(), ga.item(), gb.item()) == (12.0, 6.0, 4.0)
    h = md.hessian(lambda a: a * a * a * b, a, create_graph=True)  # 6ab
    assert (h.item(), md.grad(h, a).item()) == (36.0, 18.0)


@pytest.mark.parametrize("inside", [md.jacobian, md.hessian], ids=["jacobian", "hessian"])
def test_transforms_of_transforms(inside):
    """The third (second) derivative of Σx⁴ as the Jacobian of the Hessian (of the Jacobian)."""
    x = Tensor(np.array([1.0, 2.0]))
    third = md.jacobian(lambda x: inside(lambda x: (x**4).sum(), x, create_graph=True), x).numpy()
    expected = {"jacobian": np.diag(12.0 * x.numpy() ** 2), "hessian": np.zeros((2, 2, 2))}[inside.__name__]
    if inside is md.hessian:
        expected[[0, 1], [0, 1], [0, 1]] = 24.0 * x.numpy()
    np.testing.assert_allclose(third, expected, rtol=1e-12)


def test_what_does_not_matter_has_zeros_and_whole_numbers_have_nothing(x):
    labels = Tensor(np.array([1, 0]))

    def fn(x, unused, labels):
        return x[labels]

    gx, gu, gl = md.vjp(fn, x, x, labels)[1](np.ones((2, 3)))
    close(gx, np.ones((2, 3)))
    close(gu, np.zeros((2, 3)))
    assert gl is None
    _, move = md.jvp(fn, (x, x, labels), (x, x, labels))
    close(move, x.numpy()[[1, 0]])
    jx, ju, jl = md.jacobian(fn, (x, x, labels))
    assert jx.shape == ju.shape == (2, 3, 2, 3) and not ju.numpy().any() and jl is None
    (hx, *_), hu, hl = md.hessian(lambda *inputs: (fn(*inputs) ** 2).sum(), (x, x, labels))
    close(hx, 2.0 * np.eye(6).reshape(2, 3, 2, 3))
    assert len(hu) == 3 and hu[2] is None and hl is None


def test_an_output_of_whole_numbers_does_not_move(x):
    (_, largest), (move, none) = md.jvp(lambda x: (2.0 * x, ops.argmax(x, axis=1)), x, x)
    close(move, 2.0 * x.numpy())
    assert largest.dtype.kind == "i" and none is None


def test_a_function_that_is_constant_or_linear_has_derivatives_of_zero(x):
    constant = Tensor(np.ones(2))
    close(md.jacobian(lambda x: constant, x), np.zeros((2, 2, 3)))
    close(md.jvp(lambda x: constant, x, x)[1], np.zeros(2))
    close(md.hessian(lambda x: x.sum(), x), np.zeros((2, 3, 2, 3)))
    close(md.hvp(lambda x: x.sum(), x, x), np.zeros((2, 3)))


def test_an_empty_output_has_an_empty_jacobian(x):
    assert md.jacobian(lambda x: x[:0], x).shape == (0, 3, 2, 3)


def test_float32_stays_float32():
    x = md.tensor([1.0, 2.0])
    results = [md.vjp(ops.gelu, x)[1](x), md.jvp(ops.gelu, x, x)[1], md.jacobian(ops.gelu, x),
               md.hessian(lambda x: ops.gelu(x).sum(), x), md.hvp(lambda x: ops.gelu(x).sum(), x, x)]  # fmt: skip
    assert {y.dtype for y in results} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: md.vjp(lambda: x), "vjp: there is no input to differentiate with respect to"),
        (lambda x: md.vjp(lambda x: x, x.numpy()), "vjp: input 0 is a ndarray; give a tensor, md.tensor(…)"),
        (lambda x: md.jacobian(lambda x: 1.0, x), "jacobian: fn must give a tensor or several, not a float"),
        (lambda x: md.vjp(lambda x: (x, x), x)[1](np.ones((2, 3))),
         "vjp: fn gives 2 outputs, gy has 1; each output needs one"),
        (lambda x: md.vjp(lambda x: (x, x), x)[1]([x]), "vjp: fn gives 2 outputs, gy has 1; each output needs one"),
        (lambda x: md.vjp(lambda x: x, x)[1](np.ones(2)), "grad: gy has shape (2,), the tensor has (2, 3)"),
        (lambda x: md.jvp(lambda x: x, x, [x, x]), "jvp: 2 tangents for 1 inputs; each input needs one"),
        (lambda x: md.jvp(lambda x: x, x, x[0]), "jvp: tangent 0 has shape (3,), its input (2, 3); they must be alike"),
        (lambda x: md.hvp(lambda x: x, x, x),
         "hvp: fn must give a single number, it gave a tensor of shape (2, 3); take a sum, or use jacobian"),
        (lambda x: md.hessian(lambda x: x, x),
         "hessian: fn must give a single number, it gave a tensor of shape (2, 3); take a sum, or use jacobian"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_in_one_line(x, call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call(x)


def test_pytorch_finds_the_same(torch, rng):
    x, v, w = rng.standard_normal((2, 3)), rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    tx, tv, tw = map(torch.tensor, (x, v, w))

    def theirs(x):
        return torch.softmax(torch.tanh(x @ tw), -1)

    def ours(x):
        return f(x, Tensor(w))

    mx, mv = Tensor(x), Tensor(v)
    close(md.jacobian(ours, mx), torch.autograd.functional.jacobian(theirs, tx).numpy())
    close(md.jvp(ours, mx, mv)[1], torch.func.jvp(theirs, (tx,), (tv,))[1].numpy())
    square = {"ours": lambda x: (ours(x) ** 2).sum(), "theirs": lambda x: (theirs(x) ** 2).sum()}
    close(md.hessian(square["ours"], mx), torch.autograd.functional.hessian(square["theirs"], tx).numpy(), 1e-10)
    close(md.hvp(square["ours"], mx, mv), torch.autograd.functional.hvp(square["theirs"], tx, tv)[1].numpy(), 1e-10)
