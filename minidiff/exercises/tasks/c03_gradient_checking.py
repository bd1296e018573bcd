"""Chapter 3: slopes by measuring, and a gradient that a careless check lets through."""

import numpy as np

from ... import ops
from ...tensor import Tensor
from ..task import Task


def central_difference(f, x, h):
    """The gradient of f, which gives one number for an array, measured element by element.            # x (…) -> (…)

        g[i] = (f(x + h eᵢ) − f(x − h eᵢ)) / 2h            eᵢ: 1 at place i, 0 elsewhere
    """
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        g[i] = (f(up) - f(down)) / (2 * h)
    return g


def two_slopes(f, backward, x, u, v, h):
    """Two numbers that must agree if `backward` is right: a slope as it says, and the same as measured.            # -> (analytic, numeric)

    f gives an array y for an array x, and backward(x, gy) gives gx. With random u (of y's shape) and v (of x's),

        φ(x) = Σ u f(x)                                        one number
        analytic = Σ v · backward(x, u)                        the slope of φ along v, by backward
        numeric = (φ(x + h v) − φ(x − h v)) / 2h               the same, by measuring

    u is random because an all-ones u is blind: whatever adds up to a constant has no slope then.
    """
    analytic = (v * backward(x, u)).sum()
    numeric = ((u * f(x + h * v)).sum() - (u * f(x - h * v)).sum()) / (2 * h)
    return analytic, numeric


def softmax_backward(y, gy):
    """The gradient of y = softmax(x) along the last axis, from y alone.            # (…,K) (…,K) -> (…,K)

        yᵢ = e^{xᵢ} / Σⱼ e^{xⱼ},        ∂yᵢ/∂xⱼ = yᵢ (1[i = j] − yⱼ)

        gx = y (gy − Σⱼ gyⱼ yⱼ)

    All y together stay 1: raising one lowers the rest, and that is what the sum says.
    """
    return y * (gy - (gy * y).sum(axis=-1, keepdims=True))


def _square_sum(x):
    """f: Σ x² / 2 + x[0]"""
    return float(0.5 * (x * x).sum() + x.flat[0])


def _waves(x):
    """f: Σ sin x cumsum x"""
    return float((np.sin(x) * np.cumsum(x).reshape(x.shape)).sum())


def _waves_gradient(x):
    running = np.cumsum(x).reshape(x.shape)
    later = np.cumsum(np.sin(x).ravel()[::-1])[::-1].reshape(x.shape)
    return np.cos(x) * running + later


def _true_gradient(f, x, h):
    if f is _square_sum:
        g = x.copy()
        g.flat[0] += 1
        return g
    return _waves_gradient(x)


def _softmax(x):
    """softmax"""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _through_softmax(x, gy):
    """its backward"""
    y = _softmax(x)
    return y * (gy - (gy * y).sum(-1, keepdims=True))


def _no_backward(x, gy):
    """a backward that gives zeros"""
    return np.zeros_like(x)


def _slopes(f, backward, x, u, v, h):
    """Along the line x + s v, by a polynomial through seven places instead of two."""
    s = np.arange(-3, 4) * 0.05
    phi = [(u * f(x + k * v)).sum() for k in s]
    return np.dot(v.ravel(), backward(x, u).ravel()), np.polynomial.polynomial.polyfit(s, phi, 6)[1]


def _by_engine(y, gy):
    x = Tensor(np.log(y), requires_grad=True)
    ops.softmax(x, -1).backward(gy)
    return x.grad.numpy()


def _softmax_cases(rng):
    return [(_softmax(rng.standard_normal(shape)), rng.standard_normal(shape)) for shape in [(5,), (3, 4), (2, 3, 3)]]


def _slope_cases(rng):
    x, u, v = rng.standard_normal((3, 2, 4))
    return [(_softmax, _through_softmax, x, u, v, 1e-4), (_softmax, _no_backward, x, u, v, 1e-4), (np.exp, lambda x, gy: gy * np.exp(x), x, u, 0.3 * v, 1e-4)]


TASKS = [
    Task(
        central_difference, "Measure a slope", 3, "easy", 10,
        reference=_true_gradient, tolerance=1e-7,
        cases=lambda rng: [(_square_sum, rng.standard_normal(4), 1e-4), (_waves, rng.standard_normal((2, 3)), 1e-4), (_square_sum, np.array([[2.0]]), 0.5)],
        hints=(
            "Move one number at a time, a little up and a little down, and leave all others where they are.",
            "np.ndindex(x.shape) gives every index. Work on copies of x: f must see all other numbers as they were.",
            "for i in np.ndindex(x.shape): up, down = x.copy(), x.copy(); up[i] += h; down[i] -= h; g[i] = (f(up) − f(down)) / 2h.",
        ),
        slips=[
            ("/ (2 * h)", "/ h", "up and down lie 2h apart, and it is divided by h"),
            ("/ (2 * h)", "/ 2 * h", "a / 2 * h is (a / 2) · h: brackets are missing"),
            ("(f(up) - f(down)) / (2 * h)", "(f(up) - f(x)) / h", "a one-sided difference: its error falls only with h, that of the central one with h²"),
            ("up, down = x.copy(), x.copy()", "up, down = x, x.copy()", "x is changed and not put back, so that the next element is measured somewhere else"),
        ],
    ),
    Task(
        two_slopes, "A check for large arrays", 3, "medium", 15,
        reference=_slopes, outputs=("analytic", "numeric"), tolerance=1e-6,
        cases=_slope_cases,
        hints=(
            "An array has many slopes, but along one direction v there is only one, however many numbers it holds.",
            "φ is Σ u f(x). backward(x, u) is its gradient, and the slope along v is the gradient times v, summed.",
            "analytic = (v * backward(x, u)).sum(); numeric = ((u * f(x + h * v)).sum() − (u * f(x − h * v)).sum()) / (2 * h).",
        ),
        slips=[
            ("analytic = (v * backward(x, u)).sum()\n    numeric = ((u * f(x + h * v)).sum() - (u * f(x - h * v)).sum()) / (2 * h)",
             "analytic = (v * backward(x, np.ones_like(u))).sum()\n    numeric = (f(x + h * v).sum() - f(x - h * v).sum()) / (2 * h)",
             "with ones for u the check is blind: a softmax adds up to 1 whatever happens, and zeros pass"),
            ("analytic = (v * backward(x, u)).sum()", "analytic = backward(x, u).sum()", "the slope along v is wanted: the gradient must be multiplied by v"),
            ("f(x - h * v)", "f(x)", "a one-sided difference, divided by 2h"),
            ("backward(x, u)).sum()", "backward(f(x), u)).sum()", "backward is to be called with x, and it got f(x)"),
        ],
    ),
    Task(
        softmax_backward, "The gradient that ones cannot see", 3, "medium", 10,
        reference=_by_engine,
        cases=_softmax_cases,
        hints=(
            "Multiply gy by the Jacobian yᵢ (1[i = j] − yⱼ) and see what the sum over i becomes.",
            "gxⱼ = Σᵢ gyᵢ yᵢ (1[i = j] − yⱼ) = gyⱼ yⱼ − yⱼ Σᵢ gyᵢ yᵢ. No K x K matrix is needed.",
            "s = (gy * y).sum(axis=-1, keepdims=True), and then y * (gy − s).",
        ),
        slips=[
            ("y * (gy - (gy * y).sum(axis=-1, keepdims=True))", "y * gy", "the sum is missing: all others fall when one rises"),
            ("y * (gy - (gy * y).sum(axis=-1, keepdims=True))", "gy * y * (1 - y)", "this is the sigmoid's: the diagonal of the Jacobian alone"),
            ("(gy * y).sum(axis=-1, keepdims=True)", "gy.sum(axis=-1, keepdims=True)", "in the sum each gy counts with its y"),
            ("(gy * y).sum(axis=-1, keepdims=True)", "(gy * y).sum(keepdims=True)", "every row has a sum of its own: axis=-1"),
        ],
    ),
]  # fmt: skip
