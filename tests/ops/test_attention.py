"""Attention: blocks without a seam, masks, and what must not change the answer."""

import itertools
import math
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff import backend, ops
from minidiff.autograd import grad
from minidiff.errors import BadInput
from minidiff.ops import attention as module
from minidiff.ops import scaled_dot_product_attention as attention
from minidiff.ops.attention import Attention
from minidiff.tensor import Tensor, tensor


def drawn(rng, *shapes, dtype=np.float64):
    return [Tensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in shapes]


def heads(rng, batch=(2, 3), queries=5, keys=7, e=4, v=3, dtype=np.float64):
    return drawn(rng, (*batch, queries, e), (*batch, keys, e), (*batch, keys, v), dtype=dtype)


def assert_equal_to_reference(xs, tolerance=1e-12, **options):
    y, z = Attention(**options)(*xs), Attention.reference(*xs, **options)
    u = Tensor(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype))
    for actual, expected in zip([y, *grad(y, xs, u)], [z, *grad(z, xs, u)], strict=True):
        np.testing.assert_allclose(actual.data, expected.data, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------------ blocks

MASKS = {
    "none": lambda rng: {},
    "one for all": lambda rng: {"visible": np.tri(5, 7, dtype=bool)},
    "of each sample": lambda rng: {"visible": rng.random((2, 1, 5, 7)) < 0.7},
    "of each head": lambda rng: {"visible": rng.random((3, 5, 7)) < 0.7},
    "of keys": lambda rng: {"visible": rng.random((2, 1, 1, 7)) < 0.7},
    "of queries": lambda rng: {"visible": rng.random((5, 1)) < 0.7},
    "with factors": lambda rng: {"visible": np.tri(5, 7, dtype=bool), "factors": rng.integers(0, 2, (2, 3, 5, 7)) * 2.0},
}


@pytest.mark.parametrize("scores", [1, 7, 14, 35, 36, 70, 10_000])
@pytest.mark.parametrize("mask", MASKS)
def test_blocks_of_any_size_are_one_whole(rng, monkeypatch, scores, mask):
    """A block is a part of one head's queries, one head, or several heads, also where they do not divide evenly."""
    monkeypatch.setattr(module, "SCORES", scores)
    options = {"scale": 0.5, "visible": None, "factors": None} | MASKS[mask](rng)
    assert_equal_to_reference(heads(rng), **options)
    assert_equal_to_reference([*heads(rng), *drawn(rng, (3, 1, 7))], **options)


@given(st.lists(st.integers(1, 3), max_size=3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_any_shape_is_its_reference(batch, queries, keys, e, v):
    xs = heads(np.random.default_rng(0), tuple(batch), queries, keys, e, v)
    assert_equal_to_reference(xs, scale=0.7, visible=None, factors=None)


def test_scores_are_never_all_there_at_once(rng):
    """16 heads of 512 x 512 scores are 16 MiB, and backward has several such arrays; blocks need a few MiB in all."""
    q, k, v = heads(rng, (16,), 512, 512, 8, 8, np.float32)
    tracemalloc.start()
    y = attention(q, k, v)
    forward = tracemalloc.get_traced_memory()[1]
    y.backward(np.ones(y.shape, np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert forward < 8 * 2**20 and peak < 12 * 2**20


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(rng, threads):
    xs = heads(rng, (7,), 40, 50)
    before, results = backend.get_num_threads(), []
    for n in (before, threads):
        try:
            backend.set_num_threads(n)
            y = attention(*xs)
            results.append([y.data, *(g.data for g in grad(y, xs, np.ones(y.shape)))])
        finally:
            backend.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------------------------- what it means


def test_equal_values_come_out_whatever_the_weights(rng):
    q, k, _ = heads(rng)
    np.testing.assert_allclose(attention(q, k, Tensor(np.full((2, 3, 7, 2), 0.3))).data, 0.3, rtol=1e-13)


def test_the_order_of_the_keys_does_not_matter(rng):
    q, k, v = heads(rng)
    order = rng.permutation(7)
    other = attention(q, Tensor(k.data[:, :, order]), Tensor(v.data[:, :, order]))
    np.testing.assert_allclose(attention(q, k, v).data, other.data, rtol=1e-12, atol=1e-13)


def test_causal_attention_does_not_see_the_future(rng):
    q, k, v = heads(rng, queries=6, keys=6)
    y = attention(q, k, v, is_causal=True).data
    for x in (k, v):
        x.data[:, :, 4:] += 5.0
    z = attention(q, k, v, is_causal=True).data
    np.testing.assert_array_equal(y[:, :, :4], z[:, :, :4])
    assert (y[:, :, 4:] != z[:, :, 4:]).any((2, 3)).all()


def test_a_mask_of_booleans_is_minus_infinity_added(rng):
    q, k, v = heads(rng)
    seen = rng.random((2, 1, 5, 7)) < 0.6
    added = np.where(seen, 0.0, -math.inf)
    np.testing.assert_array_equal(attention(q, k, v, seen).data, attention(q, k, v, added).data)
    np.testing.assert_array_equal(attention(q, k, v, Tensor(seen)).data, attention(q, k, v, Tensor(added)).data)


@pytest.mark.parametrize("added", [False, True])
def test_a_query_that_sees_no_key_gives_0_and_takes_no_gradient(rng, added):
    q, k, v = heads(rng)
    mask = np.ones((5, 7), bool)
    mask[2] = False
    y = attention(q, k, v, np.where(mask, 0.0, -math.inf) if added else mask)
    y.backward(rng.standard_normal(y.shape))
    assert not y.data[:, :, 2].any() and not q.grad.data[:, :, 2].any()
    for x in (q, k, v):
        assert np.isfinite(x.grad.data).all() and x.grad.data.any()


def test_large_scores_do_not_overflow(rng):
    q, k, v = heads(rng, dtype=np.float32)
    y = attention(Tensor(q.data * 1e3), Tensor(k.data * 1e3), v)
    best = (q.data @ k.data.swapaxes(-1, -2)).argmax(-1)
    np.testing.assert_allclose(y.data, np.take_along_axis(v.data, best[..., None], -2), rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 2.0**10, 2.0**16])
def test_large_scores_lose_no_digits_of_the_gradients(rng, offset):
    """Scores of multiples of 1/64 are exact in float32, and an equal offset changes no softmax."""
    q, k = rng.integers(-8, 9, (2, 5, 4)) / 8, rng.integers(-8, 9, (2, 7, 4)) / 8
    q[..., 0], k[..., 0] = offset, 1
    arrays, u = [q, k, rng.standard_normal((2, 7, 3)).astype(np.float32)], rng.standard_normal((2, 5, 3)).astype(np.float32)

    def gradients(dtype):
        xs = [Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
        return [g.data for g in grad(attention(*xs, scale=1.0), xs, u.astype(dtype))]

    for actual, expected in zip(gradients(np.float32), gradients(np.float64), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_two_keys_of_almost_the_same_large_score():
    """gq = p₁ p₂ (k₁ − k₂) gy (v₁ − v₂), with p₁ = 1 − p₂ = σ(1): the scores' size of 1000 has no part in it."""
    q, k, v = (tensor(np.array(a, np.float32), requires_grad=True) for a in ([[1000.0]], [[1.0], [0.999]], [[101.0], [100.0]]))
    attention(q, k, v, scale=1.0).sum().backward()
    np.testing.assert_allclose(q.grad.data, [[0.000197]], atol=2e-5)
    np.testing.assert_allclose(k.grad.data, [[196.6], [-196.6]], atol=0.1)


def test_heads_cut_out_of_one_array_are_the_same_as_copies(rng):
    """(N,L,H,E) seen as (N,H,L,E), as every multi-head layer does."""
    (x,) = drawn(rng, (2, 5, 3, 12))
    views = [x[..., i : i + 4].transpose(0, 2, 1, 3) for i in (0, 4, 8)]
    copies = [Tensor(np.ascontiguousarray(t.data)) for t in views]
    np.testing.assert_allclose(attention(*views).data, attention(*copies).data, rtol=1e-13, atol=1e-13)


def test_dropout_keeps_the_mean_and_drops_whole_weights(rng):
    backend.manual_seed(0)
    q, k, _ = heads(rng, (400,), 1, 8)
    v = Tensor(np.broadcast_to(np.eye(8), (400, 8, 8)).copy())
    p, weights = attention(q, k, v).data, attention(q, k, v, dropout_p=0.25).data
    kept = weights != 0
    np.testing.assert_allclose(weights[kept], p[kept] / 0.75, rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 0.03  # 3,200 draws: standard deviation 0.008
    assert not attention(q, k, v, dropout_p=1.0).data.any()


@pytest.mark.parametrize("masked", list(itertools.product([False, True], repeat=2)))
def test_pytorch_gives_the_same_with_any_broadcast_mask(torch, rng, masked):
    q, k, v = heads(rng)
    shape = tuple(n if full else 1 for n, full in zip((2, 3), masked, strict=True)) + (5, 7)
    mask = rng.random(shape) < 0.7
    mask[..., 0] = True
    theirs = torch.nn.functional.scaled_dot_product_attention(*(torch.tensor(x.data) for x in (q, k, v)), torch.tensor(mask))
    np.testing.assert_allclose(attention(q, k, v, mask).data, theirs.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("wanted", range(4))
def test_a_gradient_that_nobody_needs_is_not_computed(rng, wanted):
    xs = [Tensor(x.data, requires_grad=i == wanted) for i, x in enumerate([*heads(rng), *drawn(rng, (5, 7))])]
    y = attention(*xs)
    gs = y.creator.gradients(Tensor(np.ones(y.shape)), create_graph=False)
    assert [g is not None for g in gs] == [i == wanted for i in range(4)]


@pytest.mark.parametrize("shapes", [((0, 3, 2), (0, 4, 2), (0, 4, 5)), ((2, 0, 2), (2, 4, 2), (2, 4, 5))])
def test_no_samples_or_no_queries_go_through(shapes):
    q, k, v = (Tensor(np.zeros(s, np.float32), requires_grad=True) for s in shapes)
    y = attention(q, k, v)
    assert y.shape == (*q.shape[:-1], 5) and y.dtype == np.float32
    y.backward(np.zeros(y.shape, np.float32))
    assert k.grad.shape == k.shape and not k.grad.data.any()


# ------------------------------------------------------------------------------------------ errors


def zeros(*shape, dtype=np.float32):
    return Tensor(np.zeros(shape, dtype))


Q, K, V = zeros(2, 3, 4), zeros(2, 5, 4), zeros(2, 5, 6)
SIGNATURE = "q must be (…,L,E), k (…,S,E) and v (…,S,V); got"
MESSAGES = [
    (lambda: attention(zeros(4), K, V), f"{SIGNATURE} q (4,), k (2, 5, 4), v (2, 5, 6)"),
    (lambda: attention(Q, zeros(2, 5, 3), V), f"{SIGNATURE} q (2, 3, 4), k (2, 5, 3), v (2, 5, 6)"),
    (lambda: attention(Q, K, zeros(2, 4, 6)), f"{SIGNATURE} q (2, 3, 4), k (2, 5, 4), v (2, 4, 6)"),
    (
        lambda: attention(zeros(3, 3, 4), K, V),
        "the leading dimensions do not broadcast: q (3, 3, 4), k (2, 5, 4), v (2, 5, 6)",
    ),
    (
        lambda: attention(Q, K, zeros(2, 5, 6, dtype=np.float64)),
        "q, k and v must share one floating-point dtype; got float32, float32, float64",
    ),
    (
        lambda: attention(*(tensor(np.ones((2, 2), int)),) * 3),
        "q, k and v must share one floating-point dtype; got int64, int64, int64",
    ),
    (lambda: attention(Q, zeros(2, 0, 4), zeros(2, 0, 6)), "there is nothing to attend to in k (2, 0, 4)"),
    (lambda: attention(Q, K, V, np.ones((3, 4), bool)), "attn_mask (3, 4) does not broadcast to the scores (2, 3, 5)"),
    (lambda: attention(Q, K, V, np.ones((4, 2, 3, 5), bool)), "attn_mask (4, 2, 3, 5) does not broadcast to the scores (2, 3, 5)"),
    (lambda: attention(Q, K, V, np.ones((3, 5))), "attn_mask must hold booleans or, like q, float32; got float64"),
    (lambda: attention(Q, K, V, np.ones((3, 5), bool), is_causal=True), "give attn_mask or is_causal=True, not both"),
    (lambda: attention(Q, K, V, dropout_p=-0.5), "dropout_p must be a probability from 0 to 1, got -0.5"),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_wrong_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape('scaled_dot_product_attention: ' + message)}$"):
        call()


def test_the_last_dimensions_of_queries_and_values_may_differ_in_every_case(rng):
    assert ops.scaled_dot_product_attention(*heads(rng, e=1, v=9)).shape == (2, 3, 5, 9)
