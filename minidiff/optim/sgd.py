"""Stochastic gradient descent, with momentum and Nesterov's look ahead."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor
from .optimizer import Optimizer, fraction, not_negative


class SGD(Optimizer):
    """Gradient descent, by PyTorch's form of momentum (Sutskever et al. 2013, lr outside the velocity).

        g ← g + λ θ              weight decay λ
        b ← μ b + g              velocity, b = 0 at the start
        θ ← θ − lr b             or, looking ahead (nesterov):  θ ← θ − lr g − lr μ b

    With μ = 0 nothing is remembered and θ ← θ − lr g.
    """

    moments: ClassVar[tuple[str, ...]] = ("b",)

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum = fraction("SGD: momentum", momentum)
        self.weight_decay = not_negative("SGD: weight_decay", weight_decay)
        self.nesterov = nesterov
        if nesterov and not momentum:
            raise BadInput("SGD: nesterov looks ahead along the momentum, so it needs momentum above 0")
        if not momentum:
            self.moments = ()  # type: ignore[misc]
        super().__init__(params, lr)

    def update(self, p: Array, g: Array, t: int, *arrays: Array) -> None:
        *velocity, s = arrays
        xp, lr, mu = array_module(p), self.lr, self.momentum
        xp.multiply(p, self.weight_decay, out=s)
        s += g
        for b in velocity:  # one, or none when mu = 0
            b *= mu
            b += s
        if self.nesterov or not velocity:
            s *= lr
            p -= s
        for b in velocity:
            xp.multiply(b, lr * mu if self.nesterov else lr, out=s)
            p -= s
