"""Chapter 7: chance that any device can repeat, and two kernels."""

import numpy as np

from ... import philox
from ..task import KernelTask, Task


def philox_words(c0, c1, c2, c3, k0, k1):
    """Four random words from a counter of four words and a key of two (Salmon et al. 2011).            # uint64 (…) -> four of them

    All are whole numbers below 2³², kept in 64 bits so that a product has room. Ten times:

        p0 = 0xD2511F53 · c0,    p1 = 0xCD9E8D57 · c2
        c0 ← high(p1) ⊕ c1 ⊕ k0,    c1 ← low(p1),    c2 ← high(p0) ⊕ c3 ⊕ k1,    c3 ← low(p0)
        k0 ← k0 + 0x9E3779B9 mod 2³²,    k1 ← k1 + 0xBB67AE85 mod 2³²

    high(p) is p >> 32, low(p) is p & 0xFFFFFFFF, and ⊕ is ^. The counters are arrays, the keys whole numbers.
    """
    mask = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        high0, high1 = p0 >> np.uint64(32), p1 >> np.uint64(32)
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), p1 & mask, high0 ^ c3 ^ np.uint64(k1), p0 & mask
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def uniform(words):
    """Numbers from [0,1) of random words, never 1.            # (…) uint32 -> (…) float32

        u = (w >> 8) · 2⁻²⁴

    A float32 holds 24 bits. With all 32 of them, the largest words would be rounded to 1.
    """
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def noisy(x0, eps, signal, noise, t, xt, n, size):
    """x_t = signal[t] x0 + noise[t] ε on the GPU, one thread for each number.            # (N·size,) twice, (T + 1,) twice, (N,)

    n is how many numbers there are, N · size; number i belongs to sample i / size, whose step is t[i / size].
    The last block may have more threads than there are numbers left: these must not write.

    A block has blockDim.x threads; this one is number threadIdx.x of block blockIdx.x.
    """


def row_sum(x, y, n):
    """The sum of each row of x, a block for each row.            # (B,n) -> (B,)

    The threads of a block, blockDim.x, a power of two, add up every blockDim.x-th number each. They leave their sums in
    shared memory, `SHARED(float, s)`, one each, and add these up in a tree: of 64 numbers the upper half is added to the
    lower, then of 32, …. What another thread wrote is there after a __syncthreads(), which all threads must reach.
    Thread 0 writes y[blockIdx.x].
    """


NOISY = """\
#include "device.h"

KERNEL(noisy)(const float* x0, const float* eps, const float* signal, const float* noise, const int* t, float* xt, int n, int size) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int step = t[i / size];
  xt[i] = signal[step] * x0[i] + noise[step] * eps[i];
}
"""

ROW_SUM = """\
#include "device.h"

KERNEL(row_sum)(const float* x, float* y, int n) {
  SHARED(float, s);
  const int me = threadIdx.x;
  float total = 0;
  for (int j = me; j < n; j += blockDim.x) total += x[blockIdx.x * n + j];
  s[me] = total;
  __syncthreads();
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    if (me < half) s[me] += s[me + half];
    __syncthreads();
  }
  if (me == 0) y[blockIdx.x] = s[0];
}
"""


def _launch_noisy(kernel, x0, eps, signal, noise, t, size):
    """With room behind the arrays, where nothing may be written."""
    from ...kernels.cuda import runtime

    n, blocks = x0.size, -(-x0.size // 32)
    x0, eps, t = (np.concatenate([a, np.zeros(32, a.dtype)]) for a in (x0, eps, t))
    xt = runtime.memory((n + 32,), np.float32)
    kernel(blocks, 32, x0, eps, signal, noise, t, xt, n, size)
    if not np.isnan(xt[n:]).all():
        raise RuntimeError("it wrote behind the end of xt")
    return xt[:n]


def _launch_row_sum(kernel, x, threads):
    from ...kernels.cuda import runtime

    y = runtime.memory((len(x),), np.float32)
    kernel(len(x), threads, x, y, x.shape[1], shared=4 * threads)
    return y


def _noisy_cases(rng):
    for n, size in [(3, 32), (5, 7), (2, 50)]:
        x0, eps = rng.standard_normal((2, n * size), dtype=np.float32)
        signal = np.linspace(1, 0, 11, dtype=np.float32)
        yield x0, eps, signal, np.sqrt(1 - signal**2), rng.integers(0, 11, n).astype(np.int32), size


def _noisy(x0, eps, signal, noise, t, size):
    step = np.repeat(t, size)
    return signal[step] * x0 + noise[step] * eps


class _Noisy(KernelTask):
    @property
    def parameters(self):
        return ["x0", "eps", "signal", "noise", "t", "size"]


class _RowSum(KernelTask):
    @property
    def parameters(self):
        return ["x", "threads"]


def _counters(rng):
    for shape, key in [((3,), (1, 2)), ((2, 2), (0xFFFFFFFF, 0x9E3779B9)), ((1,), (0, 0))]:
        yield (*rng.integers(0, 2**32, (4, *shape), dtype=np.uint64), *key)


TASKS = [
    Task(
        philox_words, "Chance without a state", 7, "medium", 20,
        reference=lambda c0, c1, c2, c3, k0, k1: philox.philox((c0, c1, c2, c3), (k0, k1)),
        cases=_counters, outputs=("c0", "c1", "c2", "c3"), tolerance=0.0,
        hints=(
            "One round is the two products and one line that sets all four words at once: each new word is made of old ones.",
            "NumPy's uint64 wants uint64 beside it: np.uint64(0xD2511F53) * c0, p >> np.uint64(32), ^ np.uint64(k0).",
            "c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & mask, (p0 >> 32) ^ c3 ^ k1, p0 & mask; then both keys, % 2**32.",
        ),
        slips=[
            ("range(10)", "range(9)", "there are ten rounds, and these are nine"),
            ("k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32", "pass", "the keys must move on after each round"),
            ("high0, high1 = p0 >> np.uint64(32), p1 >> np.uint64(32)", "high1, high0 = p0 >> np.uint64(32), p1 >> np.uint64(32)", "the upper halves are exchanged: word 0 gets that of p1"),
            ("p1 & mask, high0", "p0 & mask, high0", "word 1 becomes the lower half of p1"),
            ("% 2**32, (k1 + 0xBB67AE85) % 2**32", ", k1 + 0xBB67AE85", "the keys have 32 bits: what goes beyond is dropped"),
        ],
    ),
    Task(
        uniform, "Words to numbers", 7, "easy", 5,
        reference=lambda words: philox._unit(words),
        cases=lambda rng: [(rng.integers(0, 2**32, 6, dtype=np.uint32),), (np.array([[0, 0xFFFFFFFF], [255, 256]], np.uint32),)],
        hints=("Keep the upper 24 bits, which a float32 holds exactly.", "After >> 8 the words lie below 2²⁴; times 2⁻²⁴ they lie below 1.", "(words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)."),
        slips=[
            ("(words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)", "words.astype(np.float32) * np.float32(2.0**-32)", "with all 32 bits the largest words are rounded to 1: only 24 fit into a float32"),
            (".astype(np.float32) * np.float32(2.0**-24)", " * 2.0**-24", "the numbers are to be float32, as on the GPU"),
            ("np.float32(2.0**-24)", "np.float32(1 / (2.0**24 - 1))", "divided by 2²⁴ − 1 the largest is 1, which must not come"),
            ("np.float32(2.0**-24)", "np.float32(2.0**-32)", "after >> 8 there are 24 bits left: times 2⁻²⁴"),
        ],
    ),
    _Noisy(
        noisy, "A thread for each number", 7, "easy", 15, code=NOISY, launch=_launch_noisy, seconds=180.0,
        reference=_noisy, cases=_noisy_cases, tolerance=1e-6,
        hints=(
            "Each thread works on one number. Find out which, leave if there is none, find the sample, write.",
            "i = blockIdx.x * blockDim.x + threadIdx.x. Threads with i ≥ n return.",
            "const int step = t[i / size]; xt[i] = signal[step] * x0[i] + noise[step] * eps[i];",
        ),
        slips=[
            ("  if (i >= n) return;\n", "", "threads beyond the end of the array must not write: if (i >= n) return;"),
            ("blockIdx.x * blockDim.x + threadIdx.x", "threadIdx.x", "every block does the work of the first: blockIdx.x * blockDim.x is missing"),
            ("t[i / size]", "t[i % size % (n / size)]", "number i belongs to sample i / size; i % size is its place in the sample"),
            ("signal[step] * x0[i] + noise[step] * eps[i]", "signal[step] * x0[i] + (1 - signal[step]) * eps[i]", "the noise has a table of its own: noise[step]"),
        ],
    ),
    _RowSum(
        row_sum, "A sum by many threads", 7, "hard", 30, code=ROW_SUM, launch=_launch_row_sum, seconds=180.0,
        reference=lambda x, threads: x.astype(np.float64).sum(1).astype(np.float32),
        cases=lambda rng: [(rng.standard_normal((2, 64), dtype=np.float32), 64), (rng.standard_normal((3, 150), dtype=np.float32), 32), (rng.standard_normal((1, 40), dtype=np.float32), 64)],
        tolerance=1e-5,
        hints=(
            "Three parts: each thread adds up its own numbers; the tree; one thread writes.",
            "In the tree, after each halving, all threads meet: __syncthreads() stands in the loop, but outside of the if.",
            "for (int half = blockDim.x / 2; half > 0; half /= 2) { if (me < half) s[me] += s[me + half]; __syncthreads(); }",
        ),
        slips=[
            ("    if (me < half) s[me] += s[me + half];\n    __syncthreads();\n", "    if (me < half) s[me] += s[me + half];\n", "a __syncthreads() is missing in the tree: a thread reads what another has not finished"),
            ("  s[me] = total;\n  __syncthreads();\n", "  s[me] = total;\n", "a __syncthreads() is missing before the tree: the other threads' sums may not be there yet"),
            ("j < n; j += blockDim.x) total += x[blockIdx.x * n + j];", "j < n && j < blockDim.x; j += blockDim.x) total += x[blockIdx.x * n + j];", "rows longer than the block: each thread must go on in steps of blockDim.x"),
            ("x[blockIdx.x * n + j]", "x[j]", "every block adds up the first row: row blockIdx.x begins at blockIdx.x * n"),
            ("    if (me < half) s[me] += s[me + half];\n    __syncthreads();\n", "    if (me < half) { s[me] += s[me + half]; __syncthreads(); }\n", "all threads of the block must reach a __syncthreads(): it stands inside of the if"),
        ],
    ),
]  # fmt: skip
