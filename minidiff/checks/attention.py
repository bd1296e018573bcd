"""Attention, over few keys: each number of q, k and v is moved on its own."""

import math

import numpy as np

from .. import backend, ops
from ..ops.attention import Attention
from .case import case, exact, normal, textbook

VISIBLE = np.array([[True, False, True, True], [False, True, False, False], [True, True, True, True]])
BLIND = np.array([[True, False], [False, False], [True, True]])  # the second query sees no key
ADDED = np.array([[0.0, -1.5], [-math.inf, 0.5], [2.0, 0.25]])
attention = ops.scaled_dot_product_attention


def _theirs(torch, *xs, attn_mask=None, **options):
    if isinstance(attn_mask, np.ndarray):
        attn_mask = torch.tensor(attn_mask)
        attn_mask = attn_mask.to(xs[0].dtype) if attn_mask.is_floating_point() else attn_mask
    return torch.nn.functional.scaled_dot_product_attention(*xs, attn_mask=attn_mask, **options)


# Options as PyTorch spells them, and what the operation makes of them.
for _label, _shapes, _options, _made in [
    ("heads", [(2, 2, 3, 4), (2, 2, 2, 4), (2, 2, 2, 3)], {}, {"scale": 0.5}),
    ("one head", [(2, 4), (3, 4), (3, 1)], {"scale": 0.3}, {"scale": 0.3}),
    ("causal", [(2, 3, 1), (2, 4, 1), (2, 4, 2)], {"is_causal": True}, {"scale": 1.0, "visible": np.tri(3, 4, dtype=bool)}),
    ("mask", [(2, 3, 1), (2, 4, 1), (2, 4, 2)], {"attn_mask": VISIBLE}, {"scale": 1.0, "visible": VISIBLE}),
    ("mask of each head", [(2, 2, 1, 1), (2, 2, 3, 1), (2, 2, 3, 2)], {"attn_mask": VISIBLE[:2, None, None, :3]},
     {"scale": 1.0, "visible": VISIBLE[:2, None, None, :3]}),
    ("a query that sees nothing", [(3, 4), (2, 4), (2, 2)], {"attn_mask": BLIND}, {"scale": 0.5, "visible": BLIND}),
]:  # fmt: skip
    case(f"scaled_dot_product_attention, {_label}", lambda *xs, o=_options: attention(*xs, **o),
         [normal(*s) for s in _shapes], textbook(Attention, **_made),
         lambda torch, *xs, o=_options: _theirs(torch, *xs, **o))  # fmt: skip
case("scaled_dot_product_attention, added numbers", lambda q, k, v: attention(q, k, v, ADDED.astype(q.dtype)),
     [normal(1, 3, 4), normal(1, 2, 4), normal(1, 2, 3)],
     lambda q, k, v: textbook(Attention, scale=0.5)(q, k, v, ADDED), lambda torch, *xs: _theirs(torch, *xs, attn_mask=ADDED))  # fmt: skip
# 1024 and products of multiples of 1/32: float32 holds these scores exactly, so what is lost is lost by the softmax.
case("scaled_dot_product_attention, large scores",
     lambda q, k, v: attention(q, k, v, np.full((2, 3), 1024.0, q.dtype), scale=1.0),
     [exact(2, 1), exact(3, 1), normal(3, 2)],
     lambda q, k, v: textbook(Attention, scale=1.0)(q, k, v),
     lambda torch, *xs: _theirs(torch, *xs, attn_mask=np.full((2, 3), 1024.0), scale=1.0))  # fmt: skip
for _label, _shape in {"a learned bias": (2, 2, 3, 2), "a learned bias, broadcast": (2, 1, 1, 2)}.items():
    case(f"scaled_dot_product_attention, {_label}", attention,
         [normal(2, 2, 3, 1), normal(2, 2, 2, 1), normal(2, 2, 2, 2), normal(*_shape)], textbook(Attention, scale=1.0),
         lambda torch, q, k, v, bias: _theirs(torch, q, k, v, attn_mask=bias))  # fmt: skip
case("scaled_dot_product_attention, one head of keys for all, broadcast", attention,
     [normal(2, 2, 1, 2), normal(2, 1, 3, 2), normal(3, 2)], textbook(Attention, scale=math.sqrt(0.5)),
     lambda torch, q, k, v: (q @ k.mT / math.sqrt(2)).softmax(-1) @ v)  # fmt: skip


def _seeded(q, k, v):
    backend.manual_seed(5)  # every call drops the same weights, as a check by differences needs
    return attention(q, k, v, dropout_p=0.25)


case("scaled_dot_product_attention, dropout", _seeded, [normal(2, 3, 1), normal(2, 4, 1), normal(2, 4, 2)],
     lambda q, k, v: textbook(
         Attention, scale=1.0, factors=(np.random.default_rng(5).random((2, 3, 4), dtype=np.float32) >= 0.25) / 0.75
     )(q, k, v))  # fmt: skip
