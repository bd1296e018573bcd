"""Are the gradients right? Compare each with the slope measured by moving the input a little.

For y = f(x) and a random upstream gradient u, backward claims that φ(x) = Σ u f(x) has the slope
g = ∂φ/∂x. Central differences measure the same slope without any rule of differentiation:

    g[i] ≈ (φ(x + h eᵢ) − φ(x − h eᵢ)) / 2h

In float64 with h = 1e-5 |x| both errors, h² from the curve and 1e-16/h from rounding, stay near 1e-10;
`minidiff gradcheck --figure` draws them. u is random because a constant one is blind: the gradient of
softmax, or of a normalisation, is zero when every output counts the same, and a backward that
returned zeros would pass.

The second order is the first order of another function, ψ(x, u) = Σ v · ∂φ/∂x with random v. Its
slope along x is the second derivative of f; its slope along u says that the gradient carries on the
history of the gradient it was given, as it must where f is one link of a chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import backend
from .autograd import enable_grad, grad, is_grad_enabled, no_grad
from .errors import BadInput
from .tensor import Tensor

ELEMENTS = 200  # inputs up to this size are checked element by element, larger ones along random directions
DIRECTIONS = 8
SMALL = 0.01  # gradients below this are compared absolutely: the ratio of the default atol and rtol


class GradcheckError(AssertionError):
    """A gradient is wrong. `.input`, `.index`, `.analytic`, `.numeric` say where and by how much.

    input is None where it is the gradient of gy (in the second order alone), and index is the
    element's place, or None for a random direction.
    """

    def __init__(
        self, name: str, input: int | None, index: tuple[int, ...] | None, analytic: float, numeric: float
    ) -> None:
        self.input, self.index, self.analytic, self.numeric = input, index, analytic, numeric
        what = "gy" if input is None else f"input {input}"
        place = "along a random direction" if index is None else f"at index {index}"
        super().__init__(f"{name}: gradient of {what} {place}: analytic {analytic:.8g}, numeric {numeric:.8g}")


@dataclass(frozen=True)
class Comparison:
    """The place where the two gradients of one input differ most.

    input     which argument of fn; None for the upstream gradient gy
    index     which element; None for a random direction
    analytic  what backward says, numeric what the differences say
    scale     the largest |gradient| of this input; along a direction, what that many errors may add up to
    """

    input: int | None
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    scale: float
    spread: float = 1.0

    @property
    def error(self) -> float:
        """|analytic − numeric| relative to the scale, or to SMALL where that is larger by far; ∞ for NaN."""
        error = float(abs(self.analytic - self.numeric) / (self.spread * (self.scale + SMALL)))
        return error if error == error else float("inf")

    def within(self, rtol: float, atol: float) -> bool:
        """|analytic − numeric| ≤ atol + rtol scale; never for NaN."""
        return abs(self.analytic - self.numeric) <= self.spread * (atol + rtol * self.scale)


def gradcheck(
    fn: Callable[..., Any], inputs: Sequence[Any], order: int = 1, *, h: float = 1e-5, rtol: float = 1e-5,
    atol: float = 1e-7, seed: int = 0, name: str | None = None, options: Mapping[str, Any] | None = None,
) -> bool:  # fmt: skip
    """True if the gradients of fn(*inputs, **options) agree with central differences; raises GradcheckError if not.

    fn       takes Tensors and gives a Tensor or several; it must be deterministic and smooth near the inputs
    inputs   Tensors that require gradients, or arrays; floating-point ones are copied to float64 and checked, others
             (labels, masks) only passed on
    order    1 checks backward, 2 also the gradient of the gradient
    h        step of the differences, relative to each number where that is larger than 1
    rtol, atol   |analytic − numeric| ≤ atol + rtol max |gradient of this input|
    name     what to call fn in the error; its operation's name by default
    options  keyword arguments for fn, passed on as they are

    Inputs of more than 200 numbers are checked along random directions. The error is raised for the
    first input that is wrong, at the place where it is most so. Raises BadInput where nothing can be checked, and for a Tensor of
    floating-point numbers that requires no gradient.
    """
    _check_order(order)
    problem = _Problem.of(fn, inputs, options, seed)
    name = name or problem.name
    for n in range(1, order + 1):
        for c in problem.compare(n, h):
            if not c.within(rtol, atol):
                title = name if n == 1 else f"{name}, second order"
                raise GradcheckError(title, c.input, c.index, c.analytic, c.numeric)
    return True


def _check_order(order: Any) -> None:
    if not isinstance(order, int | np.integer):
        raise BadInput(f"gradcheck: order must be 1 or 2, not a {type(order).__name__}; several inputs are given as one list")
    if order not in (1, 2):
        raise BadInput(f"gradcheck: order must be 1 or 2, got {order}")


def compare(
    fn: Callable[..., Any], inputs: Sequence[Any], order: int = 1, *, h: float = 1e-5, seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> list[Comparison]:  # fmt: skip
    """How far the gradients of this order alone are from the differences: for each checked input, the worst place.

    The arguments are gradcheck's. Where it says yes or no, this says by how much; `.error` is at most
    1e-5 where gradcheck passes. For order 2 the gradients of gy follow those of the inputs.
    """
    _check_order(order)
    return _Problem.of(fn, inputs, options, seed).compare(order, h)


@dataclass(frozen=True)
class _Problem:
    """fn, the numbers to check it at, and the random numbers to check it with."""

    fn: Callable[..., tuple[Tensor, ...]]  # only the outputs that are checked
    xs: list[Tensor]
    us: list[np.ndarray]  # one for each output
    name: str
    seed: int

    @classmethod
    def of(cls, fn: Callable[..., Any], inputs: Sequence[Any], options: Any, seed: int) -> _Problem:
        """Raises BadInput where nothing can be checked."""
        for i, x in enumerate(inputs):
            if isinstance(x, Tensor) and backend.kind(x.dtype) == "f" and not x.requires_grad:
                raise BadInput(
                    f"gradcheck: input {i} requires no gradient; make it with requires_grad=True, or, if it is not to be"
                    f" checked, use it inside fn instead"
                )
        xs = [_copy(x) for x in inputs]
        if not any(x.requires_grad for x in xs):
            raise BadInput("gradcheck: no input holds floating-point numbers")

        def outputs(*arguments: Tensor) -> tuple[Tensor, ...]:
            return _checked_outputs(fn(*arguments, **(options or {})))

        ys = outputs(*xs)
        if not any(y.requires_grad for y in ys):
            raise BadInput("gradcheck: fn must give a float64 tensor computed from its inputs; its result has no history")
        if any(not np.array_equal(y.data, z.data, equal_nan=True) for y, z in zip(ys, outputs(*xs), strict=True)):
            raise BadInput("gradcheck: fn gives another result each time; seed its chance, as manual_seed(0) does")
        rng = np.random.default_rng(seed)
        us = [_weights(rng, y.shape) for y in ys]
        return cls(outputs, xs, us, ys[0].creator.name if ys[0].creator is not None else "fn", seed)

    @property
    def checked(self) -> list[int]:
        """The inputs whose gradients are checked."""
        return [i for i, x in enumerate(self.xs) if x.requires_grad]

    def compare(self, order: int, h: float) -> list[Comparison]:
        rng = np.random.default_rng(self.seed + 1)
        if order == 2:
            return self._second(rng)._differences(rng, h, len(self.xs))
        return self._differences(rng, h, len(self.xs))

    def _second(self, rng: np.random.Generator) -> _Problem:
        """The gradient as a function: ψ(x, u) = Σ v · ∂φ/∂x, a single number, has the gradients of order 2."""
        vs = [Tensor(_weights(rng, self.xs[i].shape)) for i in self.checked]
        n = len(self.xs)

        def psi(*arguments: Tensor) -> tuple[Tensor, ...]:
            xs, us = arguments[:n], arguments[n:]
            # Where only its value is asked for, the gradient is the one that training uses: a fused operation's
            # kernel. Its differences are compared with the derivative of the textbook definition.
            create_graph = is_grad_enabled()
            with enable_grad():
                gs = _gradients(self.fn(*xs), [xs[i] for i in self.checked], us, create_graph)
                terms = [(v * g).sum() for v, g in zip(vs, gs, strict=True) if g is not None]
                return (sum(terms[1:], terms[0]) if terms else Tensor(np.zeros(())),)

        us = [Tensor(u, requires_grad=True) for u in self.us]
        return _Problem(psi, [*self.xs, *us], [np.ones(())], self.name, self.seed)

    def _differences(self, rng: np.random.Generator, h: float, named: int) -> list[Comparison]:
        """Of each checked input the worst place; inputs from `named` on are upstream gradients."""
        us = [Tensor(u) for u in self.us]
        gs = _gradients(self.fn(*self.xs), [self.xs[i] for i in self.checked], us, create_graph=False)
        worst = []
        for i, g in zip(self.checked, gs, strict=True):
            analytic = np.zeros(self.xs[i].shape) if g is None else g.data
            pairs = list(_pairs(self.xs[i].data, analytic, lambda x, i=i: self._phi(i, x), rng, h))
            scale = float(np.abs(analytic).max(initial=0.0))
            found = [Comparison(i if i < named else None, *p, scale, _spread(self.xs[i].data)) for p in pairs]
            worst.extend(sorted(found, key=lambda c: -c.error)[:1])
        return worst

    def _phi(self, i: int, x: np.ndarray) -> float:
        """φ = Σ u f(x) with x in the place of input i."""
        moved = Tensor(x, requires_grad=True)
        with no_grad():
            ys = self.fn(*self.xs[:i], moved, *self.xs[i + 1 :])
        return float(sum((y.data * u).sum() for y, u in zip(ys, self.us, strict=True)))


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers of either sign, ¼ to 1, so that each element counts; float32 holds them without rounding."""
    return rng.choice([-1.0, 1.0], shape) * (rng.integers(256, 1025, shape) / 1024)


def _copy(x: Any) -> Tensor:
    array = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    floating = backend.kind(array.dtype) == "f"
    return Tensor(array.astype(np.float64) if floating else array, requires_grad=floating)


def _checked_outputs(result: Any) -> tuple[Tensor, ...]:
    """The floating-point outputs; others, such as positions and masks, have no gradient."""
    several = isinstance(result, tuple | list)
    ys = result if several else (result,)
    for i, y in enumerate(ys):
        floating = isinstance(y, Tensor) and (y.dtype.kind == "f" or not several)
        if not isinstance(y, Tensor) or (floating and y.dtype != np.float64):
            found = f"{y.dtype} tensor" if isinstance(y, Tensor) else type(y).__name__
            which = f"output {i} is" if several else "it gave"
            raise BadInput(f"gradcheck: fn must give a float64 tensor computed from its inputs; {which} a {found}")
    ys = tuple(y for y in ys if y.dtype.kind == "f")
    if not ys:
        raise BadInput("gradcheck: fn must give a float64 tensor computed from its inputs; it gave none")
    return ys


def _gradients(
    ys: Sequence[Tensor], xs: Sequence[Tensor], us: Sequence[Tensor], create_graph: bool
) -> list[Tensor | None]:
    """∂(Σ u y)/∂x for every x; None where no y depends on it."""
    pairs = [(y, u) for y, u in zip(ys, us, strict=True) if y.requires_grad]
    return grad([y for y, _ in pairs], xs, [u for _, u in pairs], create_graph)


def _pairs(
    x: np.ndarray, analytic: np.ndarray, phi: Callable[[np.ndarray], float], rng: np.random.Generator, h: float
) -> Any:
    """(index, analytic, numeric) for every element of a small input, or for random directions through a large one."""
    if x.size <= ELEMENTS:
        for index in np.ndindex(x.shape):
            step = np.zeros(x.shape)
            step[index] = h * max(1.0, abs(x[index]))
            yield index, float(analytic[index]), _slope(phi, x, step, step[index])
    else:
        for _ in range(DIRECTIONS):
            direction = rng.standard_normal(x.shape)
            yield None, float((analytic * direction).sum()), _slope(phi, x, h * direction, h)


def _spread(x: np.ndarray) -> float:
    """How much larger an error may be for x.size independent errors having been added."""
    return 1.0 if x.size <= ELEMENTS else float(np.sqrt(x.size))


def _slope(phi: Callable[[np.ndarray], float], x: np.ndarray, step: np.ndarray, h: float) -> float:
    """(φ(x + step) − φ(x − step)) / 2h"""
    return (phi(x + step) - phi(x - step)) / (2.0 * h)
