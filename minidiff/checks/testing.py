"""For tests of your own operations: everything that the operations of minidiff must do, in one call.

    from minidiff.checks.testing import check_op, parametrize

    def test_softsign():
        check_op(softsign, [np.linspace(-2.1, 2.3, 8)], reference=lambda x: x / (1 + abs(x)))

    @parametrize(softsign, [np.linspace(-2.1, 2.3, 8)])          # the same, each check a test of its own
    def test_softsign(check):
        check()

The tests of minidiff run the same checks on every case of its table (`minidiff.checks.CASES`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..autograd import grad, is_grad_enabled
from ..errors import BadInput
from ..gradcheck import gradcheck
from ..tensor import Tensor
from .case import Case

# The same numbers, elsewhere in memory.
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": lambda a: a.copy(),
    "fortran": lambda a: a.copy(order="F"),
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a.copy(),
    "backwards": lambda a: np.flip(np.flip(a).copy()),
}
# Relative to the largest number of an array. float32 carries 24 bits (6e-8) and a sum of up to 100 numbers
# loses a few; Winograd's 3x3 convolution loses five times as many (2e-6 was seen); float64 likewise (1e-16).
TOLERANCE = {"float32": 5e-6, "float64": 1e-13}


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """A read-only copy of the array in another memory layout."""
    array = np.asarray(LAYOUTS[layout](np.asarray(array)))
    array.flags.writeable = False
    return array


def error(actual: Any, expected: Any) -> float:
    """The largest difference, relative to the largest expected number or to 1, whichever is more; ∞ for NaN."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if not expected.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        difference = np.where(actual == expected, 0.0, np.abs(actual - expected))  # equal infinities differ by 0
    finite = np.abs(expected[np.isfinite(expected)])
    worst = float(difference.max()) / max(1.0, float(finite.max(initial=0.0)))
    return worst if worst == worst else float("inf")


@dataclass
class Subject:
    """A function under test, at given inputs.

    fn         takes Tensors and `options`, gives a Tensor or several
    inputs     arrays; floating-point ones are given in each dtype and differentiated, others as they are
    reference  the same function of float64 arrays, in NumPy; its result is the expected value. None: fn itself
    h          gradcheck's step
    """

    fn: Callable[..., Any]
    inputs: Sequence[Any]
    reference: Callable[..., Any] | None = None
    name: str = "fn"
    h: float = 1e-5
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, case: Case) -> Subject:
        """A case of the table as a subject."""
        return cls(case.ours, case.inputs(), case.expected, case.name, case.h)

    @cached_property
    def arrays(self) -> list[np.ndarray]:
        """The inputs in float64, rounded to what float32 holds, so that all dtypes begin with the same numbers."""
        arrays = [x.numpy() if isinstance(x, Tensor) else np.asarray(x) for x in self.inputs]
        return [a.astype(np.float32).astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]

    @cached_property
    def floating(self) -> list[int]:
        """Which inputs have gradients."""
        floating = [i for i, a in enumerate(self.arrays) if a.dtype.kind == "f"]
        if not floating:
            raise BadInput(f"{self.name}: no input holds floating-point numbers, so there is nothing to check")
        return floating

    @cached_property
    def upstream(self) -> list[np.ndarray | None]:
        """A random u for each floating-point output."""
        rng = np.random.default_rng(1)
        ys = self.outputs(*map(Tensor, self.arrays))
        draws = (rng.standard_normal(y.shape).astype(np.float32).astype(np.float64) for y in ys)
        return [u if y.dtype.kind == "f" else None for u, y in zip(draws, ys, strict=True)]

    @cached_property
    def values(self) -> list[np.ndarray]:
        """What must come out: by the reference, or of fn itself."""
        ys = self.outputs(*map(Tensor, self.arrays))
        if self.reference is None:
            return [y.numpy() for y in ys]
        given = self.reference(*self.arrays)
        given = given if len(ys) > 1 else [given]
        if len(given) != len(ys):
            raise BadInput(f"{self.name}: fn has {len(ys)} outputs and reference {len(given)}; they must be as many")
        return [v.numpy() if isinstance(v, Tensor) else np.asarray(v) for v in given]

    @cached_property
    def gradients(self) -> list[np.ndarray]:
        """The gradients in float64 that are themselves differentiable: those of a fused operation's reference."""
        _, gs = self.run(self.arrays, create_graph=True)
        return [np.zeros(self.arrays[i].shape) if g is None else g.numpy() for i, g in zip(self.floating, gs, strict=True)]

    def outputs(self, *xs: Tensor) -> tuple[Tensor, ...]:
        y = self.fn(*xs, **self.options)
        return tuple(y) if isinstance(y, tuple | list) else (y,)

    def run(
        self, arrays: Sequence[Any], upstream: Sequence[Any] | None = None, create_graph: bool = False,
        watch: Callable[[tuple[Tensor, ...]], None] = lambda ys: None,
    ) -> tuple[tuple[Tensor, ...], list[Tensor | None]]:  # fmt: skip
        """The outputs, and the gradient of Σ u y for every floating-point input, None where it is zero.

        watch: is shown the outputs before the gradients are computed.
        """
        xs = [Tensor(a, requires_grad=i in self.floating) for i, a in enumerate(arrays)]
        ys = self.outputs(*xs)
        watch(ys)
        us = self.upstream if upstream is None else upstream
        pairs = [(y, Tensor(u)) for y, u in zip(ys, us, strict=True) if y.requires_grad]
        wanted = [xs[i] for i in self.floating]
        return ys, grad([y for y, _ in pairs], wanted, [u for _, u in pairs], create_graph)

    def cast(self, dtype: str, layout: str = "contiguous") -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        """Read-only inputs and upstream gradients in a dtype and a memory layout."""
        arrays = [laid_out(a.astype(dtype) if a.dtype.kind == "f" else a, layout) for a in self.arrays]
        return arrays, [None if u is None else laid_out(u.astype(dtype), layout) for u in self.upstream]

    # -------------------------------------------------------------------------------- the checks

    def checks(
        self, orders: Sequence[int] = (1, 2), dtypes: Sequence[str] = tuple(TOLERANCE),
        layouts: Sequence[str] = tuple(LAYOUTS),
    ) -> Iterator[tuple[str, Callable[[], None]]]:  # fmt: skip
        """(name, check) for everything that must hold; a check raises AssertionError where it does not."""
        for dtype in dtypes:
            for layout in layouts:
                yield f"{dtype}, {layout}", partial(self.check_values_and_gradients, dtype, layout)
        for order in orders:
            yield f"order {order}", partial(self.check_order, order)
        yield "create_graph", self.check_create_graph
        if len(self.floating) > 1:
            for i in self.floating:
                yield f"input {i} alone", partial(self.check_alone, i)
        yield "no gradient needed", self.check_nothing_recorded
        for dtype in dtypes:
            yield f"own memory, {dtype}", partial(self.check_own_memory, dtype)

    def check_values_and_gradients(self, dtype: str, layout: str) -> None:
        """Values and gradients in this dtype and layout are right, and of this dtype; inputs stay as they were."""
        where = f"in {dtype}, {layout}"
        arrays, upstream = self.cast(dtype, layout)

        def watch(ys: tuple[Tensor, ...]) -> None:
            for k, (y, value) in enumerate(zip(ys, self.values, strict=True)):
                self._agree(f"output {k}" if len(ys) > 1 else "value", where, y, value, dtype)

        try:
            _, gs = self.run(arrays, upstream, watch=watch)
        except ValueError as wrong:
            if "read-only" not in str(wrong):
                raise
            raise AssertionError(f"{self.name}: writes to its input or to gy {where}: {wrong}") from wrong
        for i, (given, before) in enumerate(zip(arrays, self.cast(dtype)[0], strict=True)):
            if not np.array_equal(given, before):  # compiled code may write where NumPy would refuse to
                raise AssertionError(f"{self.name}: changes its input {i} {where}")
        for i, g, expected in zip(self.floating, gs, self.gradients, strict=True):
            self._agree(f"gradient of input {i}", where, g, expected, dtype)

    def check_order(self, order: int) -> None:
        """The gradients of this order agree with differences."""
        gradcheck(self.fn, self.arrays, order, h=self.h, name=self.name, options=self.options)

    def check_create_graph(self) -> None:
        """With create_graph the gradients are the same: a fused operation's kernel means what its reference says."""
        _, gs = self.run(self.arrays)
        for i, g, expected in zip(self.floating, gs, self.gradients, strict=True):
            self._agree(f"gradient of input {i}", "beside create_graph's", g, expected, "float64")

    def check_alone(self, wanted: int) -> None:
        """The gradient of one input alone is the same as that of all together, and the others get none."""
        xs = [Tensor(a, requires_grad=i == wanted) for i, a in enumerate(self.arrays)]
        for y, u in zip(self.outputs(*xs), self.upstream, strict=True):
            if y.requires_grad:
                y.backward(u, retain_graph=True)
        for i, x in enumerate(xs):
            if i != wanted and x.grad is not None:
                raise AssertionError(f"{self.name}: input {i} needs no gradient and got one")
        expected = self.gradients[self.floating.index(wanted)]
        self._agree(f"gradient of input {wanted}", "alone", xs[wanted].grad, expected, "float64")

    def check_nothing_recorded(self) -> None:
        """Nothing is kept for backward where no input asks for a gradient."""
        assert is_grad_enabled()
        for y in self.outputs(*map(Tensor, self.arrays)):
            if y.requires_grad or y.creator is not None:
                raise AssertionError(f"{self.name}: recorded for backward though no input needs a gradient")

    def check_own_memory(self, dtype: str) -> None:
        """Each gradient may be written to: the others, those of the next pass, gy and the inputs do not change with it."""
        arrays, upstream = self.cast(dtype)
        xs = [Tensor(a, requires_grad=i in self.floating) for i, a in enumerate(arrays)]
        for y, u in zip(self.outputs(*xs), upstream, strict=True):
            if not y.requires_grad:
                continue
            held = {f"input {i}": a for i, a in enumerate(arrays)} | {"gy": u}
            for again in ("", " of another pass"):
                for x in xs:
                    x.grad = None
                y.backward(u, retain_graph=True)
                gradients = {f"the gradient of input {i}{again}": x.grad.numpy() for i, x in enumerate(xs) if x.grad is not None}
                for what, g in gradients.items():
                    for other, a in held.items():
                        if np.shares_memory(g, a):
                            raise AssertionError(f"{self.name}: {what} in {dtype} shares its memory with {other}")
                    if not g.flags.writeable:
                        raise AssertionError(f"{self.name}: {what} in {dtype} is read-only")
                    held[what] = g

    def _agree(self, what: str, where: str, actual: Tensor | None, expected: np.ndarray, dtype: str) -> None:
        if actual is None:
            actual = Tensor(np.zeros(expected.shape, dtype))
        if actual.shape != expected.shape:
            raise AssertionError(f"{self.name}: {what} {where} has shape {actual.shape}, expected {expected.shape}")
        if expected.dtype.kind != "f":
            dtype = expected.dtype.name
        if actual.dtype != np.dtype(dtype) and expected.dtype.kind == "f":
            raise AssertionError(f"{self.name}: {what} {where} is {actual.dtype}, expected {dtype}")
        numbers = actual.numpy()
        off, limit = error(numbers, expected), TOLERANCE.get(dtype, 0.0)
        if not off <= limit:
            with np.errstate(invalid="ignore"):
                difference = np.abs(numbers.astype(np.float64) - expected)
            worst = np.unravel_index(int(np.argmax(np.where(np.isnan(difference), np.inf, difference))), expected.shape)
            index = tuple(int(n) for n in worst)
            raise AssertionError(
                f"{self.name}: {what} {where} at index {index}: {numbers[index]:.8g}, expected {expected[index]:.8g} "
                f"(relative error {off:.1e}, limit {limit:.0e})"
            )


def check_op(
    fn: Callable[..., Any], inputs: Sequence[Any], reference: Callable[..., Any] | None = None, *,
    orders: Sequence[int] = (1, 2), dtypes: Sequence[str] = tuple(TOLERANCE), layouts: Sequence[str] = tuple(LAYOUTS),
    name: str | None = None, h: float = 1e-5, options: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Assert that fn is a right and well-behaved differentiable function of Tensors near `inputs`.

    fn         takes Tensors and `options`, gives a Tensor or a tuple of Tensors
    inputs     arrays; floating-point ones are differentiated, others (labels, masks) only passed on. Choose them
               where fn is smooth: away from kinks and ties
    reference  the expected value, a function of NumPy arrays; without one, float64 is compared with itself
    orders     1 and 2 are gradchecked
    dtypes     "float32", "float64": values and gradients must be of this dtype and right in it
    layouts    names in `LAYOUTS`; all inputs are read-only, so that an operation that writes to them fails

    Also checked: gradients with create_graph equal those without, each gradient alone equals that of all
    together, nothing is recorded for inputs that need no gradient, gradients share no memory. Raises AssertionError with one line
    that says what, where and by how much; BadInput for an unknown dtype or layout.
    """
    for _, check in _checks(fn, inputs, reference, orders, dtypes, layouts, name, h, options):
        check()


def parametrize(
    fn: Callable[..., Any], inputs: Sequence[Any], reference: Callable[..., Any] | None = None, *,
    orders: Sequence[int] = (1, 2), dtypes: Sequence[str] = tuple(TOLERANCE), layouts: Sequence[str] = tuple(LAYOUTS),
    name: str | None = None, h: float = 1e-5, options: Mapping[str, Any] | None = None,
) -> Any:  # fmt: skip
    """A decorator for a pytest test that takes `check` and calls it: every check of `check_op` a test of its own."""
    import pytest

    checks = _checks(fn, inputs, reference, orders, dtypes, layouts, name, h, options)
    return pytest.mark.parametrize("check", [pytest.param(check, id=label) for label, check in checks])


def _checks(
    fn: Any, inputs: Any, reference: Any, orders: Any, dtypes: Any, layouts: Any, name: Any, h: float, options: Any
) -> Iterator[tuple[str, Callable[[], None]]]:
    name = name or getattr(fn, "__name__", "fn")
    for kind, given, known in (("dtype", dtypes, TOLERANCE), ("layout", layouts, LAYOUTS), ("order", orders, (1, 2))):
        for value in given:
            if value not in known:
                raise BadInput(f"check_op: {kind} {value!r} is unknown; it is one of {', '.join(map(str, known))}")
    return Subject(fn, inputs, reference, name, h, options or {}).checks(orders, dtypes, layouts)
