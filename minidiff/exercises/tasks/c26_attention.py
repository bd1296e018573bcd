"""Chapter 26: everyone asks everyone."""

import numpy as np

import minidiff as md

from ...nn import functional as F
from ..task import Task


def attention(q, k, v):
    """Each query mixes the values by how well their keys match it (Vaswani et al. 2017, eq. 1).            # (L,d), (S,d), (S,C) -> (L,C)

        s = q kᵀ / √d,    p = softmax(s) over the keys,    y = p v
    """
    s = q @ k.T / np.sqrt(q.shape[-1])
    e = np.exp(s - s.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    return p @ v


def attention_backward(gy, q, k, v):
    """The gradients of attention.            # (L,C), (L,d), (S,d), (S,C) -> gq (L,d), gk (S,d), gv (S,C)

        gv = pᵀ gy,    gp = gy vᵀ,    gs = p (gp − Σ_keys gp p),    gq = gs k/√d,    gk = gsᵀ q/√d
    """
    c = 1 / np.sqrt(q.shape[-1])
    s = c * q @ k.T
    p = np.exp(s - s.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    gp = gy @ v.T
    gs = p * (gp - (gp * p).sum(1, keepdims=True))
    return c * gs @ k, c * gs.T @ q, p.T @ gy


def _forward(q, k, v):
    return F.scaled_dot_product_attention(*map(md.tensor, (q, k, v))).numpy()


def _backward(gy, q, k, v):
    inputs = [md.tensor(a, requires_grad=True) for a in (q, k, v)]
    F.scaled_dot_product_attention(*inputs).backward(md.tensor(gy))
    return tuple(a.grad.numpy() for a in inputs)


SIZES = ((3, 5, 4, 2), (4, 4, 1, 3), (2, 6, 9, 1))  # L, S, d, C


TASKS = [
    Task(
        attention, "Queries, keys, values", 26, "medium", 15,
        reference=_forward,
        cases=lambda rng: [(size * rng.standard_normal((L, d)), rng.standard_normal((S, d)), rng.standard_normal((S, C))) for size in (3, 900) for L, S, d, C in SIZES],
        hints=("All products of queries and keys are one product of matrices.", "Each query's shares add up to 1 over the keys: the softmax goes along axis 1.", "p = softmax(q @ k.T / √d) along axis 1; p @ v."),
        slips=[
            (" / np.sqrt(q.shape[-1])", "", "the root is missing: s = q kᵀ / √d"),
            ("np.sqrt(q.shape[-1])", "q.shape[-1]", "divide by the root of d, not by d"),
            ("e / e.sum(1, keepdims=True)", "e / e.sum(0, keepdims=True)", "the shares of one query add up to 1, over the keys (axis 1)"),
            ("return p @ v", "return p @ k", "the answer is a mixture of the values, not of the keys"),
        ],
        tolerance=1e-6,
    ),
    Task(
        attention_backward, "Attention, backwards", 26, "hard", 30,
        reference=_backward, outputs=("gq", "gk", "gv"), given=(attention,),
        cases=lambda rng: [(rng.standard_normal((L, C)), size * rng.standard_normal((L, d)), rng.standard_normal((S, d)), rng.standard_normal((S, C)))
                           for size in (1, 900) for L, S, d, C in SIZES],
        hints=("Walk back: through p v, through the softmax, through c q kᵀ.", "A softmax's gradient takes away its own mean: gs = p (gp − Σ gp p), the sum along the keys.", "gp = gy @ v.T; gs = p * (gp − (gp * p).sum(1, keepdims=True)); c * gs @ k, c * gs.T @ q, p.T @ gy."),
        slips=[
            ("gs = p * (gp - (gp * p).sum(1, keepdims=True))", "gs = p * gp", "pushing one share up pushes the others down: − Σ gp p is missing"),
            ("(gp * p).sum(1, keepdims=True)", "(gp * p).sum(0, keepdims=True)", "the sum runs over the keys of one query (axis 1)"),
            ("c * gs @ k, c * gs.T @ q", "gs @ k, gs.T @ q", "s = c q kᵀ: both gradients have the factor c = 1/√d"),
            ("p.T @ gy", "(p * gp).T @ gy", "y = p v, so gv = pᵀ gy"),
        ],
        tolerance=1e-6,
    ),
]  # fmt: skip
