"""Chapter 24: a layer of weights."""

import numpy as np

import minidiff as md

from ...nn import functional as F
from ..task import Task


def linear_backward(gy, x, w):
    """The gradients of y = x wᵀ + b.            # (N,O), (N,I), (O,I) -> gx (N,I), gw (O,I), gb (O,)

        gx = gy w,    gw = gyᵀ x,    gb = Σ_n gy
    """
    return gy @ w, gy.T @ x, gy.sum(0)


def _linear(gy, x, w):
    x, w, b = (md.tensor(a, requires_grad=True) for a in (x, w, np.zeros(len(w))))
    F.linear(x, w, b).backward(md.tensor(gy))
    return x.grad.numpy(), w.grad.numpy(), b.grad.numpy()


TASKS = [
    Task(
        linear_backward, "Three gradients of a layer", 24, "easy", 10,
        reference=_linear, outputs=("gx", "gw", "gb"),
        cases=lambda rng: [(rng.standard_normal((n, o)), rng.standard_normal((n, i)), rng.standard_normal((o, i))) for n, i, o in [(2, 3, 4), (5, 1, 2), (1, 4, 4)]],
        hints=("Each gradient has the shape of its thing; few products have.", "w was transposed on the way, so it is not on the way back.", "gy @ w, gy.T @ x, gy.sum(0)."),
        slips=[
            ("gy.sum(0)", "gy.mean(0)", "b is added to every row, so its gradient is a sum over rows"),
            ("gy.T @ x", "gy.T @ x / len(x)", "the mean over the batch is the loss's business, not the layer's"),
            ("gy @ w, gy.T @ x, gy.sum(0)", "gy @ w, np.outer(gy.sum(0), x.sum(0)), gy.sum(0)", "Σ_n gy_n x_n, not Σ gy · Σ x: each row goes with its own"),
        ],
    ),
]  # fmt: skip
