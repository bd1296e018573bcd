"""Are the gradients right? Compare each with the slope measured by moving the input a little.

For y = f(x) and a random upstream gradient u, backward claims that φ(x) = Σ u f(x) has the slope
g = ∂φ/∂x. Central differences measure the same slope without any rule of differentiation:

    g[i] ≈ (φ(x + h eᵢ) − φ(x − h eᵢ)) / 2h

In float64 with h = 1e-5 |x| both errors, h² from the curve and 1e-16/h from rounding, stay near 1e-10.
u is random because a constant one is blind: the gradient of softmax, or of a normalisation, is
zero when every output counts the same, and a backward that returned zeros would pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .autograd import grad, no_grad
from .errors import BadInput
from .tensor import Tensor

ELEMENTS = 200  # inputs up to this size are checked element by element, larger ones along random directions
DIRECTIONS = 8


class GradcheckError(AssertionError):
    """A gradient is wrong. `.input`, `.index`, `.analytic`, `.numeric` say where and by how much.

    index is the element's place, or None for a random direction.
    """

    def __init__(self, name: str, input: int, index: tuple[int, ...] | None, analytic: float, numeric: float) -> None:
        self.input, self.index, self.analytic, self.numeric = input, index, analytic, numeric
        place = "along a random direction" if index is None else f"at index {index}"
        super().__init__(f"{name}: gradient of input {input} {place}: analytic {analytic:.8g}, numeric {numeric:.8g}")


def gradcheck(
    fn: Callable[..., Tensor], inputs: Sequence[Any], order: int = 1, *, h: float = 1e-5, rtol: float = 1e-5,
    atol: float = 1e-7, seed: int = 0, name: str | None = None,
) -> bool:  # fmt: skip
    """True if the gradients of fn(*inputs) agree with central differences; raises GradcheckError if not.

    fn       takes Tensors and gives one Tensor; it must be deterministic and smooth near the inputs
    inputs   Tensors or arrays; floating-point ones are copied to float64 and checked, others only passed on
    order    1 checks backward, 2 also the gradient of the gradient
    h        step of the differences, relative to each number where that is larger than 1
    rtol, atol   |analytic − numeric| ≤ atol + rtol max |gradient of this input|
    name     what to call fn in the error; its operation's name by default

    Raises BadInput where nothing can be checked.
    """
    if order not in (1, 2):
        raise BadInput(f"gradcheck: order must be 1 or 2, got {order}")
    rng = np.random.default_rng(seed)
    xs = [_copy(x) for x in inputs]
    checked = [i for i, x in enumerate(xs) if x.requires_grad]
    if not checked:
        raise BadInput("gradcheck: no input holds floating-point numbers")
    y = fn(*xs)
    if not isinstance(y, Tensor) or not y.requires_grad or y.dtype != np.float64:
        found = f"{y.dtype} tensor" if isinstance(y, Tensor) else type(y).__name__
        raise BadInput(f"gradcheck: fn must give a float64 tensor computed from its inputs; it gave a {found}")
    name = name or (y.creator.name if y.creator is not None else "fn")
    u = Tensor(rng.standard_normal(y.shape))
    gs = grad(y, [xs[i] for i in checked], u, create_graph=False)

    def phi() -> float:
        with no_grad():
            return float((fn(*xs).data * u.data).sum())

    for i, g in zip(checked, gs, strict=True):
        analytic = np.zeros(xs[i].shape) if g is None else g.data
        _compare(name, i, xs[i].data, analytic, phi, rng, h, rtol, atol)
    if order == 2:
        _check_second(fn, xs, checked, u, rng, dict(h=h, rtol=rtol, atol=atol, seed=seed, name=f"{name}, second order"))
    return True


def _copy(x: Any) -> Tensor:
    array = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    if array.dtype.kind != "f":
        return Tensor(array)
    return Tensor(array.astype(np.float64).copy(), requires_grad=not isinstance(x, Tensor) or x.requires_grad)


def _compare(
    name: str, i: int, x: np.ndarray, analytic: np.ndarray, phi: Callable[[], float], rng: np.random.Generator,
    h: float, rtol: float, atol: float,
) -> None:  # fmt: skip
    """Check every element of a small input, or random directions through a large one."""
    tolerance = atol + rtol * float(np.abs(analytic).max(initial=0.0))
    if x.size <= ELEMENTS:
        for index in np.ndindex(x.shape):
            direction = np.zeros(x.shape)
            direction[index] = 1.0
            numeric = _slope(phi, x, direction, h * max(1.0, abs(x[index])))
            _judge(name, i, index, float(analytic[index]), numeric, tolerance)
    else:
        for _ in range(DIRECTIONS):
            direction = rng.standard_normal(x.shape)
            numeric = _slope(phi, x, direction, h)
            spread = float(np.sqrt(x.size))  # a direction sums this many independent errors
            _judge(name, i, None, float((analytic * direction).sum()), numeric, tolerance * spread)


def _slope(phi: Callable[[], float], x: np.ndarray, direction: np.ndarray, h: float) -> float:
    """(φ(x + h d) − φ(x − h d)) / 2h; x is moved in place and put back exactly."""
    before = x.copy()
    x += h * direction
    above = phi()
    x[...] = before - h * direction
    below = phi()
    x[...] = before
    return (above - below) / (2.0 * h)


def _judge(
    name: str, i: int, index: tuple[int, ...] | None, analytic: float, numeric: float, tolerance: float
) -> None:
    if not abs(analytic - numeric) <= tolerance:  # written so that NaN fails
        raise GradcheckError(name, i, index, analytic, numeric)


def _check_second(
    fn: Callable[..., Tensor], xs: list[Tensor], checked: list[int], u: Tensor, rng: np.random.Generator, options: Any
) -> None:
    """The gradient of ψ = Σ v · ∂φ/∂x, random v, is checked like any other function's."""
    vs = [Tensor(rng.standard_normal(xs[i].shape)) for i in checked]

    def psi(*arguments: Tensor) -> Tensor:
        gs = grad(fn(*arguments), [arguments[i] for i in checked], u, create_graph=True)
        terms = [(v * g).sum() for v, g in zip(vs, gs, strict=True) if g is not None]
        total = sum((x * 0.0).sum() for x in (arguments[i] for i in checked))  # linear fn: slope zero, still a graph
        return sum(terms, total)

    gradcheck(_with_grad(psi), xs, 1, **options)


def _with_grad(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """fn computes a gradient itself, so it needs recording also when only its value is asked for."""
    from .autograd import enable_grad

    def recorded(*arguments: Tensor) -> Tensor:
        with enable_grad():
            return fn(*arguments)

    return recorded
