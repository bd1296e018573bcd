"""How large a step should a difference take? Too large and the curve bends, too small and rounding takes over.

    (φ(x + h) − φ(x − h)) / 2h = φ'(x) + h²/6 φ'''(x) + …,   rounding of φ: about ε |φ| / h

The sum of both is smallest near h = ∛ε: 6e-6 in float64, where ten digits are left, and 5e-3 in
float32, where four are. That is why gradcheck computes in float64, and why its step is 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import ops
from ..autograd import grad
from ..tensor import Tensor

STEPS = np.logspace(-13, -1, 73)
CHOSEN = 1e-5  # gradcheck's default step

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": ops.tanh,
    "softmax": lambda x: ops.softmax(x, -1),
    "group_norm": lambda x: ops.group_norm(x, 2),
    "exp": ops.exp,
}


def step_size_curves(shape: tuple[int, ...] = (3, 8), seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """{function: {dtype: errors}}: for each step in STEPS, the error of the central differences.

    The error is the root of the mean square over all elements, relative to that of the gradient,
    which is computed in float64.
    """
    rng = np.random.default_rng(seed)
    x, u = rng.standard_normal((2, *shape))
    curves = {}
    for name, fn in FUNCTIONS.items():
        leaf = Tensor(x, requires_grad=True)
        (g,) = grad(fn(leaf), [leaf], u)
        curves[name] = {dtype: _errors(fn, x, u, g.data, dtype) for dtype in ("float64", "float32")}
    return curves


def _errors(fn: Callable[[Tensor], Tensor], x: np.ndarray, u: np.ndarray, g: np.ndarray, dtype: str) -> np.ndarray:
    def phi(x: np.ndarray) -> float:
        return float((fn(Tensor(x.astype(dtype))).data * u).sum())

    errors = np.empty(len(STEPS))
    for k, h in enumerate(STEPS):
        steps = h * np.eye(x.size).reshape(x.size, *x.shape)
        slopes = [(phi(x + step) - phi(x - step)) / (2 * h) for step in steps]
        errors[k] = np.sqrt(np.mean((np.reshape(slopes, x.shape) - g) ** 2) / np.mean(g**2))
    return errors
