"""Attention of the GPU, run by the emulator, against the textbook's in float64."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels.cuda.attention import attention, attention_backward

ERROR = {"fp32": 3e-6, "tf32": 2e-3, "bf16": 1e-2}       # bfloat16: p is rounded to 8 bits before it mixes the values


def numbers(rng, precision, *shape):
    a = rng.standard_normal(shape).astype(np.float32)
    return a.astype(backend.bfloat16()) if precision == "bf16" else a


def textbook(q, k, v, gy, scale):
    """y, gq, gk, gv in float64, all scores written down."""
    q, k, v, gy = (a.astype(np.float64) for a in (q, k, v, gy))
    s = scale * q @ k.swapaxes(-1, -2)
    p = np.exp(s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    y, gp = p @ v, gy @ v.swapaxes(-1, -2)
    gs = p * (gp - (gp * p).sum(-1, keepdims=True))
    return y, scale * gs @ k, scale * gs.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ gy


@pytest.mark.parametrize("precision", ERROR)
@pytest.mark.parametrize("heads, length, keys, width", [((2,), 64, 64, 32), ((1, 2), 70, 50, 24), ((), 5, 130, 64), ((1,), 1, 1, 5)])
def test_attention_and_its_gradients(heads, length, keys, width, precision, order, rng):
    q, gy = numbers(rng, precision, *heads, length, width), numbers(rng, precision, *heads, length, width)
    k, v = numbers(rng, precision, *heads, keys, width), numbers(rng, precision, *heads, keys, width)
    with backend.precision(precision):
        y, sums = attention(q, k, v, 0.3)
        found = y, *attention_backward(q, k, v, y, sums, gy, 0.3)
    for name, a, e in zip(("y", "gq", "gk", "gv"), found, textbook(q, k, v, gy, 0.3), strict=True):
        assert a.shape == e.shape and a.dtype == q.dtype
        scale = max(np.linalg.norm(e), 1e-2 * np.sqrt(e.size))           # one key alone: gq and gk are exactly 0
        assert np.linalg.norm(a.astype(np.float64) - e) <= ERROR[precision] * scale, name


def test_large_scores_lose_no_digits(order, rng):
    """Scores of multiples of 1/64 are exact in float32, also beside an offset of 2¹⁶, which changes no softmax."""
    q, k = (rng.integers(-8, 9, (1, n, 4)).astype(np.float32) / 8 for n in (5, 70))
    q[..., 0], k[..., 0] = 2**16, 1
    v, gy = numbers(rng, "fp32", 1, 70, 4), numbers(rng, "fp32", 1, 5, 4)
    y, sums = attention(q, k, v, 1.0)
    found = y, *attention_backward(q, k, v, y, sums, gy, 1.0)
    for name, a, e in zip(("y", "gq", "gk", "gv"), found, textbook(q, k, v, gy, 1.0), strict=True):
        assert np.linalg.norm(a - e) <= ERROR["fp32"] * np.linalg.norm(e), name


def test_scores_far_apart_do_not_overflow(order, rng):
    q, k, v = (numbers(rng, "fp32", 1, 80, 32) for _ in range(3))
    y, sums = attention(100 * q, 10 * k, v, 1.0)
    assert np.isfinite(y).all() and np.isfinite(sums).all()
    assert np.linalg.norm(y - textbook(100 * q, 10 * k, v, q, 1.0)[0]) < 1e-3 * np.linalg.norm(y)
