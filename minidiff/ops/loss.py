"""How wrong a prediction is, as one number."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import FusedOp, Op
from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor
from .activation import log_softmax
from .elementwise import as_tensor
from .reduce import mean


class MSELoss(FusedOp):
    """L = 1/n Σ (a − b)²            ga = 2/n (a − b) gL,   gb = −ga"""

    def forward(self, a: Array, b: Array) -> Array:
        d = (a - b).ravel()
        return array_module(a).asarray((d @ d) / d.size, dtype=d.dtype)

    def backward(self, gy: Array) -> Any:
        a, b = self.saved
        ga = (a - b) * (2.0 / a.size * gy)
        return ga, -ga if self.needs[1] else None

    @staticmethod
    def reference(a: Tensor, b: Tensor) -> Tensor:
        return mean((a - b) * (a - b))


class CrossEntropy(Op):
    """L = −1/N Σₙ ln softmax(xₙ)[labelₙ]            gx = (softmax(x) − onehot) gL / N            # (N,K) -> ()

    ln softmax is x − ln Σ eˣ; its gradient is what the model believes minus what is true.
    """

    labels: Array

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        self.save(x)
        z = x - x.max(axis=1, keepdims=True)
        log_p = z - xp.log(xp.exp(z).sum(axis=1, keepdims=True))
        return xp.asarray(-log_p[xp.arange(len(x)), self.labels].mean())

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        onehot = array_module(x.data).zeros_like(x.data)
        onehot[range(len(onehot)), self.labels] = 1
        return (log_softmax(x, 1).exp() - Tensor(onehot)) * (gy / float(len(onehot)))

    @staticmethod
    def reference(x: Tensor, labels: Array) -> Tensor:
        return -mean(log_softmax(x, 1)[np.arange(len(labels)), labels])


def mse_loss(a: Any, b: Any) -> Tensor:
    """The mean squared difference of two tensors of one shape."""
    a = as_tensor(a, b if isinstance(b, Tensor) else None)
    b = as_tensor(b, a)
    if a.shape != b.shape:
        raise BadInput(f"mse_loss: shapes {a.shape} and {b.shape} differ")
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        raise BadInput(f"mse_loss: both must hold floating-point numbers, got {a.dtype} and {b.dtype}")
    return MSELoss()(a, b)


def cross_entropy(x: Tensor, labels: Any) -> Tensor:
    """The mean of −ln softmax(x)[label]: x (N,K) scores, labels N whole numbers in 0 … K − 1."""
    labels = labels.data if isinstance(labels, Tensor) else array_module(x.data).asarray(labels)
    if x.ndim != 2 or labels.shape != x.shape[:1] or labels.dtype.kind not in "iu":
        raise BadInput(
            f"cross_entropy: x must be (N,K) and labels N integers; got x {x.shape}, labels {labels.shape} {labels.dtype}"
        )
    if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= x.shape[1]:
        raise BadInput(f"cross_entropy: labels must lie in 0 … {x.shape[1] - 1} and there must be at least one")
    return CrossEntropy(labels=labels)(x)
