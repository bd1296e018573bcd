"""Adam and AdamW: a step size of its own for every number, from the size of its past gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from .. import kernels
from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor
from .optimizer import Optimizer, fraction, is_plain, not_negative


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, Algorithm 1).

        g ← g + λ θ                          weight decay λ as an L2 penalty; none by default
        m ← β₁ m + (1 − β₁) g                running mean of g      m = v = 0 at the start
        v ← β₂ v + (1 − β₂) g²               running mean of g²
        m̂ = m / (1 − β₁ᵗ)                    undo the pull of the zeros they started from
        v̂ = v / (1 − β₂ᵗ)
        θ ← θ − α m̂ / (√v̂ + ε)

    m̂/√v̂ lies about between −1 and 1 whatever the scale of g, so α is the length of a step. The
    code does the last three lines in the order that the end of the paper's section 2 recommends,
    which never writes out m̂ and v̂ and gives the same θ:

        α_t = α √(1 − β₂ᵗ) / (1 − β₁ᵗ),   ε_t = ε √(1 − β₂ᵗ),   θ ← θ − α_t m / (√v + ε_t)
    """

    moments: ClassVar[tuple[str, ...]] = ("m", "v")
    decoupled: ClassVar[bool] = False  # whether the weights decay beside the step, and not through the gradient

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        name = type(self).__name__
        if len(betas) != 2:
            raise BadInput(f"{name}: betas must be two numbers (beta1, beta2), got {betas}")
        self.betas = fraction(f"{name}: beta1", betas[0]), fraction(f"{name}: beta2", betas[1])
        self.eps = not_negative(f"{name}: eps", eps)
        self.weight_decay = not_negative(f"{name}: weight_decay", weight_decay)
        super().__init__(params, lr)

    def update(self, p: Array, g: Array, t: int, m: Array, v: Array, s: Array) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * p
        self._adapt(p, g, t, m, v, s)

    def update_all(self, live: list[tuple[Tensor, dict[str, Any]]]) -> None:
        """All parameters at once where a kernel does that, those of one age in one go."""
        arrays = [a for p, state in live for a in (p.data, p.grad.data, *(state[name] for name in self.moments))]
        kernel = kernels.special("adam", *arrays) if arrays else None
        if kernel is None or (self.weight_decay and not self.decoupled) or not all(map(is_plain, arrays)):
            super().update_all(live)
            return
        for t in sorted({state["t"] for _, state in live}):
            some = [(p.data, p.grad.data, state["m"], state["v"]) for p, state in live if state["t"] == t]
            kernel(*zip(*some, strict=True), self.betas, *self.step_size(t), self.decay())

    def step_size(self, t: int) -> tuple[float, float]:
        """α_t and ε_t"""
        root = math.sqrt(1 - self.betas[1] ** t)
        return self.lr * root / (1 - self.betas[0] ** t), self.eps * root

    def decay(self) -> float:
        """What θ is multiplied by before the step."""
        return 1.0

    def _adapt(self, p: Array, g: Array, t: int, m: Array, v: Array, s: Array) -> None:
        xp, (beta1, beta2) = array_module(p), self.betas
        m *= beta1
        xp.multiply(g, 1 - beta1, out=s)
        m += s

        v *= beta2
        xp.multiply(g, g, out=s)
        s *= 1 - beta2
        v += s

        step, eps = self.step_size(t)
        xp.sqrt(v, out=s)
        s += eps
        xp.divide(m, s, out=s)
        s *= step
        p -= s


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 2, in PyTorch's scaling).

        θ ← θ − α λ θ
        then Adam, with g as it came

    In Adam the decay passes through m̂/√v̂, so numbers with large gradients hardly decay. Here all
    decay alike. PyTorch multiplies λ by the learning rate, where the paper has a schedule η_t.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    decoupled: ClassVar[bool] = True

    def decay(self) -> float:
        return 1.0 - self.lr * self.weight_decay

    def update(self, p: Array, g: Array, t: int, m: Array, v: Array, s: Array) -> None:
        p *= self.decay()
        self._adapt(p, g, t, m, v, s)
