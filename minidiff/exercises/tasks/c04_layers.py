"""Chapter 4: a layer of weights, the curve behind it, and the step that moves them."""

import math

import numpy as np

from ... import ops, optim
from ...nn import functional as F
from ...tensor import Tensor
from ..task import Task


def linear_backward(gy, x, w):
    """The gradients of y = x wᵀ + b.            # (N,O), (N,I), (O,I) -> gx (N,I), gw (O,I), gb (O,)

        gx = gy w,    gw = gyᵀ x,    gb = Σ_n gy
    """
    return gy @ w, gy.T @ x, gy.sum(0)


def gelu(x):
    """The activation of the U-Net, by the tanh formula (Hendrycks & Gimpel 2016).            # (…) -> (…)

        y = ½ x (1 + tanh u),    u = √(2/π) (x + 0.044715 x³)

    Nearly x Φ(x): each number is kept with the probability that a standard normal number lies below it.
    """
    u = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(u))


def gelu_backward(x, gy):
    """The gradient of the exact GELU, y = x Φ(x).            # (…) (…) -> (…)

        gx = gy (Φ(x) + x φ(x)),    φ(x) = e^{−x²/2} / √(2π),    Φ(x) = ½ (1 + erf(x/√2))

    normal_below(x) is there, and is Φ.
    """
    density = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    return gy * (normal_below(x) + x * density)


def normal_below(x):
    """Φ(x), the probability that a standard normal number lies below x."""
    return 0.5 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in x.ravel()]).reshape(x.shape))


def adam_step(p, g, m, v, t, lr, beta1, beta2, eps):
    """Step t = 1, 2, … of Adam (Kingma & Ba 2015, algorithm 1).            # all (…) -> p, m, v as they are after it

        m ← β₁ m + (1 − β₁) g,              v ← β₂ v + (1 − β₂) g²
        m̂ = m / (1 − β₁ᵗ),                  v̂ = v / (1 − β₂ᵗ)
        p ← p − lr m̂ / (√v̂ + eps)
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


def _linear(gy, x, w):
    x, w, b = (Tensor(a, requires_grad=True) for a in (x, w, np.zeros(len(w))))
    F.linear(x, w, b).backward(gy)
    return x.grad.numpy(), w.grad.numpy(), b.grad.numpy()


def _gelu_backward(x, gy):
    x = Tensor(x, requires_grad=True)
    ops.gelu(x).backward(gy)
    return x.grad.numpy()


def _adam(p, g, m, v, t, lr, beta1, beta2, eps):
    """The library's step, which works in place."""
    optim.Adam([Tensor(p, requires_grad=True)], lr, (beta1, beta2), eps)._adapt(p, g, t, m, v, np.empty_like(p))
    return p, m, v


def _adam_cases(rng):
    for shape, t, eps in [((4,), 1, 1e-8), ((2, 3), 3, 1e-8), ((3,), 10, 0.1)]:
        p, g, m = rng.standard_normal((3, *shape))
        v = rng.uniform(0.1, 1, shape)
        yield p, g, (m if t > 1 else 0 * m), (v if t > 1 else 0 * v), t, 0.01, 0.9, 0.99, eps


TASKS = [
    Task(
        linear_backward, "Three gradients of a layer", 4, "easy", 10,
        reference=_linear, outputs=("gx", "gw", "gb"),
        cases=lambda rng: [(rng.standard_normal((n, o)), rng.standard_normal((n, i)), rng.standard_normal((o, i))) for n, i, o in [(2, 3, 4), (5, 1, 2), (1, 4, 4)]],
        hints=("Each gradient has the shape of its thing; few products have.", "w was transposed on the way, so it is not on the way back.", "gy @ w, gy.T @ x, gy.sum(0)."),
        slips=[
            ("gy.sum(0)", "gy.mean(0)", "b is added to every row, so its gradient is a sum over rows"),
            ("gy.T @ x", "gy.T @ x / len(x)", "the mean over the batch is the loss's business, not the layer's"),
            ("gy @ w, gy.T @ x, gy.sum(0)", "gy @ w, np.outer(gy.sum(0), x.sum(0)), gy.sum(0)", "Σ_n gy_n x_n, not Σ gy · Σ x: each row goes with its own"),
        ],
    ),
    Task(
        gelu, "GELU", 4, "easy", 5,
        reference=lambda x: ops.gelu(Tensor(x), approximate="tanh").numpy(),
        cases=lambda rng: [(rng.standard_normal(7),), (3 * rng.standard_normal((2, 3, 2)),), (np.array([-30.0, 0.0, 30.0]),)],
        hints=(
            "It is two lines: u, and y.",
            "√(2/π) multiplies the whole bracket, and the cube is of x alone.",
            "u = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3), then 0.5 * x * (1 + np.tanh(u)).",
        ),
        slips=[
            ("x + 0.044715 * x**3", "x + 0.044715 * x**2", "it is the cube of x, not the square"),
            ("np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)", "np.sqrt(2 / np.pi) * x + 0.044715 * x**3", "√(2/π) multiplies the whole bracket"),
            ("0.5 * x * (1 + np.tanh(u))", "x * (1 + np.tanh(u))", "the half is missing"),
            ("0.5 * x * (1 + np.tanh(u))", "0.5 * (1 + np.tanh(u))", "x is missing: this is only the probability Φ"),
            ("np.sqrt(2 / np.pi)", "np.sqrt(np.pi / 2)", "it is √(2/π), and this is upside down"),
        ],
    ),
    Task(
        gelu_backward, "GELU, backwards", 4, "medium", 10,
        reference=_gelu_backward, given=(normal_below,), tolerance=1e-7,
        cases=lambda rng: [(rng.standard_normal(6), rng.standard_normal(6)), (2 * rng.standard_normal((2, 3)), rng.standard_normal((2, 3)))],
        hints=(
            "The rule for products: x Φ(x) has the slope 1 · Φ(x) + x · Φ'(x).",
            "Φ' is the density φ, the bell.",
            "gy * (normal_below(x) + x * np.exp(−0.5 * x**2) / np.sqrt(2 * np.pi)).",
        ),
        slips=[
            ("normal_below(x) + x * density", "normal_below(x)", "the second part of the product rule is missing: x φ(x)"),
            ("normal_below(x) + x * density", "normal_below(x) + density", "φ must be multiplied by x"),
            ("gy * (normal_below(x) + x * density)", "normal_below(x) + x * density", "gy is missing: this is the slope, not the gradient"),
            ("np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)", "np.exp(-0.5 * x**2)", "the bell must have area 1: 1/√(2π) is missing"),
            ("np.exp(-0.5 * x**2)", "np.exp(-(x**2))", "the bell is e^{−x²/2}: the half is missing"),
        ],
    ),
    Task(
        adam_step, "A step of Adam", 4, "medium", 15,
        reference=_adam, outputs=("p", "m", "v"), cases=_adam_cases,
        hints=(
            "Five lines, one after the other as they stand there. Nothing is to be changed in place.",
            "m and v are kept as they are; m̂ and v̂ are only for this step. t counts from 1.",
            "p − lr * m_hat / (np.sqrt(v_hat) + eps), and return p, m, v.",
        ),
        slips=[
            ("m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)", "m_hat, v_hat = m, v", "the correction by 1 − βᵗ is missing: m and v still feel the zeros that they began with"),
            ("m / (1 - beta1**t), v / (1 - beta2**t)", "m / (1 - beta1 ** (t - 1) if t > 1 else 1), v / (1 - beta2 ** (t - 1) if t > 1 else 1)", "t counts from 1: at the first step the correction is 1 − β"),
            ("(1 - beta2) * g**2", "(1 - beta2) * g", "v is the mean of g², not of g"),
            ("(np.sqrt(v_hat) + eps)", "np.sqrt(v_hat + eps)", "eps stands beside the root, not under it"),
            ("(np.sqrt(v_hat) + eps)", "(v_hat + eps)", "divide by the root of v̂"),
            ("return p - lr", "return p + lr", "the step goes down the slope: minus"),
            ("return p - lr * m_hat / (np.sqrt(v_hat) + eps), m, v", "return p - lr * m_hat / (np.sqrt(v_hat) + eps), m_hat, v_hat", "m and v are kept as they are, without the correction"),
        ],
    ),
]  # fmt: skip
