"""Attention: every query mixes the values, by how well their keys match it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import backend, kernels
from ..autograd import FusedOp
from ..backend import Array, array_module, permute
from ..errors import BadInput
from ..tensor import Tensor
from .activation import softmax
from .elementwise import as_tensor, in_float32, where
from .matmul import matmul
from .random import check_probability, dropout_factors
from .shape import broadcast_to, transpose

SCORES = 131_072  # how many are worked on at a time on the CPU: a block that stays in the cache


class Attention(FusedOp):
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1).            # (…,L,E) (…,S,E) (…,S,V) -> (…,L,V)

        s = c q kᵀ + bias,   p = softmax(s) along the keys,   y = m p v

    c is 1/√E unless another is given. s is −∞ where a key is not visible, so that its p is 0; a query
    that sees no key gives 0. m is what dropout leaves of p: 0 or 1/(1 − rate). Backward, with gp the
    gradient of p, and the softmax as in `Softmax`:

        gv = (m p)ᵀ gy,   gp = m gy vᵀ,   gs = p (gp − Σ gp p),   gq = c gs k,   gk = c gsᵀ q,   g bias = gs

    There are L·S scores for each head (a place in the leading dimensions), and they are never all
    there at once (Dao et al. 2022): a block of them is computed, used and forgotten. Backward
    computes p again from what forward keeps, the largest score of each query and its sum:

        p = e / Σ e,   e = e^{s − max s}

    ln Σ eˢ alone would do for both, but is rounded as a large score is: p would not add up to 1, and
    gs is a difference. (Only the gradient of a bias, where one is wanted, is as large as all scores.)
    """

    scale: float
    visible: Any                                                 # booleans that broadcast to (…,L,S), or None
    factors: Any                                                 # m, likewise

    portable = True

    def takes_bfloat16(self, q: Array, k: Array, v: Array, bias: Array | None = None) -> bool:
        """Only where the kernel does all of it: array libraries do not compute in bfloat16."""
        return self._kernel("attention", q, k, v, bias) is not None

    def forward(self, q: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
        if kernel := self._kernel("attention", q, k, v, bias):
            y, sums = kernel(q, k, v, self.scale)
            self.cache = sums, y
            return y
        xp, heads = array_module(q), _Heads(q, k)
        q, k, v = map(heads.flat, (q, k, v))
        y = backend.full((*q.shape[:2], v.shape[2]), 0.0, like=q)
        sums = backend.full((*q.shape[:2], 2), 0.0, like=q)      # of each query: max s, Σ e
        scores, m = self._scores(heads, q, k, bias), heads.masks(self.factors)

        def work(h: slice, queries: slice) -> None:
            s = scores(h, queries)
            top = xp.max(s, axis=-1, keepdims=True)
            blind = top == -math.inf
            top = xp.where(blind, xp.zeros_like(top), top)
            s -= top
            e = xp.exp(s)
            total = xp.sum(e, axis=-1, keepdims=True)
            total = xp.where(blind, xp.ones_like(total), total)
            sums[h, queries, :1], sums[h, queries, 1:] = top, total
            e = e if m is None else e * m(h, queries)
            y[h, queries, :] = (e @ v[h, ...]) / total

        heads.each_block(work)
        self.cache = sums
        return xp.reshape(y, (*heads.batch, *y.shape[1:]))

    def backward(self, gy: Array) -> Any:
        if isinstance(self.cache, tuple):
            (q, k, v), (sums, y) = self.saved, self.cache
            return kernels.of(q).attention_backward(q, k, v, y, sums, gy, self.scale)
        (q, k, v, *bias), heads = self.saved, _Heads(*self.saved[:2])
        xp, shapes = array_module(q), [q.shape, k.shape, v.shape, (*q.shape[:-1], k.shape[-2])]
        needs = (*self.needs, False)[:4]                         # without a bias, no gradient for one
        gq, gk, gv, g_bias = gs = [
            heads.flat(backend.full(shape, 0.0, like=q)) if need else None
            for shape, need in zip(shapes, needs, strict=True)
        ]
        q, k, v, gy = map(heads.flat, (q, k, v, gy))
        scores, m, sums = self._scores(heads, q, k, *bias), heads.masks(self.factors), self.cache

        def work(h: slice, queries: slice) -> None:
            total = sums[h, queries, 1:]
            e = xp.exp(scores(h, queries) - sums[h, queries, :1])
            g = gy[h, queries, :] * (1.0 / total)                # p = e / Σ e, but of L·V numbers in place of L·S
            if gv is not None:
                gv[h, ...] += _swap(e if m is None else e * m(h, queries)) @ g
            gp = g @ _swap(v[h, ...])
            gs = e * (gp if m is None else gp * m(h, queries))
            gs -= e * (xp.sum(gs, axis=-1, keepdims=True) / total)
            if gq is not None:
                gq[h, queries, :] = (gs @ k[h, ...]) * self.scale
            if gk is not None:
                gk[h, ...] += (_swap(gs) @ q[h, queries, :]) * self.scale
            if g_bias is not None:
                g_bias[h, queries, :] = gs

        heads.each_block(work)
        found = [None if g is None else xp.reshape(g, shape) for g, shape in zip(gs, shapes, strict=True)]
        return tuple(found[: len(self.needs)])

    def _kernel(self, name: str, q: Array, k: Array, v: Array, bias: Array | None) -> Any:
        """The kernel that does all of it, where there is one for such heads, and nothing but q, k and v."""
        kernel = kernels.special(name, q, k, v) if bias is None and self.visible is None and self.factors is None else None
        return kernel if kernel is not None and kernels.of(q).takes_attention(q, k, v) else None

    def _scores(self, heads: _Heads, q: Array, k: Array, bias: Array | None = None) -> Callable[[slice, slice], Array]:
        """A function that gives a block of s."""
        xp, bias_of, visible = array_module(q), heads.masks(bias), heads.masks(self.visible)

        def scores(h: slice, queries: slice) -> Array:
            s = (q[h, queries, :] * self.scale) @ _swap(k[h, ...])
            if bias_of is not None:
                s += bias_of(h, queries)
            return s if visible is None else xp.where(visible(h, queries), s, xp.asarray(-math.inf, dtype=s.dtype))

        return scores

    @staticmethod
    def reference(
        q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float = 1.0, visible: Any = None,
        factors: Any = None,
    ) -> Tensor:  # fmt: skip
        s = matmul(q * scale, transpose(k, (*range(k.ndim - 2), k.ndim - 1, k.ndim - 2)))
        s = s if bias is None else s + bias
        s = s if visible is None else where(visible, s, -math.inf)
        sees = array_module(s.data).max(s.data, axis=-1, keepdims=True) > -math.inf
        p = where(sees, softmax(where(sees, s, 0.0), -1), 0.0)
        return matmul(p if factors is None else p * Tensor(factors), v)


class _Heads:
    """The leading dimensions as one, and how the scores of all heads are divided into blocks."""

    def __init__(self, q: Array, k: Array) -> None:
        self.like, self.batch = q, q.shape[:-2]
        self.count, self.queries, self.keys = math.prod(self.batch), q.shape[-2], k.shape[-2]

    def flat(self, x: Array) -> Array:
        """(…,L,E) -> (B,L,E)"""
        return array_module(x).reshape(x, (self.count, *x.shape[-2:]))

    def masks(self, mask: Array | None) -> Callable[[slice, slice], Array] | None:
        """A function that gives the part of a mask, which broadcasts to (…,L,S), that belongs to a block."""
        if mask is None:
            return None
        xp, lead = array_module(mask), mask.shape[:-2]
        flat = xp.reshape(mask, (math.prod(lead), *mask.shape[-2:]))
        own = np.broadcast_to(np.arange(flat.shape[0]).reshape(lead), self.batch).reshape(-1)  # each head's matrix

        def block(h: slice, queries: slice) -> Array:
            part = flat if flat.shape[0] == 1 else xp.take(flat, xp.asarray(own[h]), axis=0)
            return part if part.shape[1] == 1 else part[:, queries, :]

        return block

    def each_block(self, work: Callable[[slice, slice], Any]) -> None:
        """Call work(heads, queries) for every block; heads are shared over the threads where NumPy computes."""
        on_cpu = array_module(self.like) is np
        size = SCORES if on_cpu else 256 * SCORES
        some_heads = max(1, size // max(self.queries * self.keys, 1))
        some_queries = max(1, size // max(self.keys, 1))

        def share(lo: int, hi: int) -> None:
            for h in _pieces(lo, hi, some_heads):
                for queries in _pieces(0, self.queries, some_queries):
                    work(h, queries)

        if on_cpu:
            backend.parallel(self.count, share)
        else:
            share(0, self.count)


def _pieces(lo: int, hi: int, step: int) -> Iterator[slice]:
    return (slice(i, min(i + step, hi)) for i in range(lo, hi, step))


def _swap(x: Array) -> Array:
    return permute(x, (0, 2, 1))


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:  # fmt: skip
    """Each query's mean of the values, weighted by softmax(scale q kᵀ); PyTorch's meaning and order of arguments.

    q (…,L,E), k (…,S,E), v (…,S,V) -> (…,L,V); leading dimensions (samples, heads) broadcast.

    attn_mask    broadcasts to (…,L,S): booleans, True where a query may see a key; or numbers that are
                 added to the scores, and may have a gradient
    dropout_p    drops weights with that probability; as in PyTorch always, so pass 0 when not training
    is_causal    a query sees the keys up to its own place only
    scale        1/√E unless given

    Raises BadInput where shapes or dtypes do not fit, or for a mask beside is_causal.
    """
    name = "scaled_dot_product_attention"
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise BadInput(
            f"{name}: q must be (…,L,E), k (…,S,E) and v (…,S,V); got q {q.shape}, k {k.shape}, v {v.shape}"
        )
    if len({t.dtype for t in (q, k, v)}) > 1 or backend.kind(q.dtype) != "f":
        raise BadInput(f"{name}: q, k and v must share one floating-point dtype; got {q.dtype}, {k.dtype}, {v.dtype}")
    if 0 in (k.shape[-1], k.shape[-2]):
        raise BadInput(f"{name}: there is nothing to attend to in k {k.shape}")
    if is_causal and attn_mask is not None:
        raise BadInput(f"{name}: give attn_mask or is_causal=True, not both")
    check_probability(name, "dropout_p", dropout_p)
    try:
        batch = np.broadcast_shapes(*(t.shape[:-2] for t in (q, k, v)))
    except ValueError:
        raise BadInput(
            f"{name}: the leading dimensions do not broadcast: q {q.shape}, k {k.shape}, v {v.shape}"
        ) from None
    q, k, v = (broadcast_to(t, (*batch, *t.shape[-2:])) for t in (q, k, v))
    shape = (*batch, q.shape[-2], k.shape[-2])
    visible, bias = _masks(name, attn_mask, shape, q)
    if is_causal:
        visible = backend.asarray(np.tri(*shape[-2:], dtype=bool), like=q.data)
    factors = dropout_factors(shape, dropout_p, q.data) if dropout_p else None
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    op = Attention(scale=scale, visible=visible, factors=factors)
    return in_float32(op, q, k, v) if bias is None else in_float32(op, q, k, v, bias)


def _masks(name: str, mask: Any, shape: tuple[int, ...], q: Tensor) -> tuple[Array | None, Tensor | None]:
    """attn_mask as booleans or as a bias, one of them None, with two dimensions or more."""
    if mask is None:
        return None, None
    mask = as_tensor(mask, q)
    try:
        fits = np.broadcast_shapes(mask.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"{name}: attn_mask {mask.shape} does not broadcast to the scores {shape}")
    if mask.dtype != np.bool_ and mask.dtype != q.dtype:
        raise BadInput(f"{name}: attn_mask must hold booleans or, like q, {q.dtype}; got {mask.dtype}")
    if mask.ndim < 2:
        mask = mask.reshape((1,) * (2 - mask.ndim) + mask.shape)
    return (mask.data, None) if mask.dtype == np.bool_ else (None, mask)
