"""All kernels as users run them, in float32, batches of 0 to 9 samples on 1 to 4 threads, against the definitions in float64.

Compiled and emulated kernels take float32 alone: float64 goes elsewhere, so that what is checked in float64 says nothing
about them. The definition is each fused operation's `reference`. Working memory is NaN at first and guarded at both ends,
so that a number a kernel forgets to write shows, and so does one that it writes outside.

Cases are drawn by seed: 100 of each, and 5,000 by `pytest -m exhaustive`.
"""

import contextlib
import importlib.util
import math
import shutil
from unittest import mock

import numpy as np
import pytest

from minidiff import backend, ops
from minidiff.autograd import FusedOp, grad
from minidiff.checks.testing import LAYOUTS, laid_out
from minidiff.kernels import cpu
from minidiff.ops import attention as attention_module
from minidiff.tensor import Tensor

COMPILED = importlib.util.find_spec("numba") is not None
EMULATED = bool(importlib.util.find_spec("ml_dtypes") and shutil.which("g++"))
CPU_KERNELS = ("numpy", "numba", "rounded") if COMPILED else ("numpy", "rounded")
emulated = pytest.mark.skipif(not EMULATED, reason="emulating CUDA kernels needs g++ and ml_dtypes")
GUARD = 64  # numbers before and after working memory


def number_of_cases(ordinary, exhaustive):
    """A test of so many cases, and of so many more where exhaustive tests are asked for."""
    return pytest.mark.parametrize("cases", [ordinary, pytest.param(exhaustive, marks=pytest.mark.exhaustive)])


def try_each(draw, check, cases, *arguments):
    """check(case, …) for cases drawn with the seeds 0, 1, …; a failure says which, and what was drawn."""
    for seed in range(cases):
        case = draw(Draw(seed))
        try:
            check(case, *arguments)
        except Exception as wrong:
            raise AssertionError(f"seed {seed}, {case}: {wrong}") from wrong


class Draw:
    """Random choices."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def whole(self, low, high):
        """low … high, both included"""
        return int(self.rng.integers(low, high + 1))

    def one(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def run(self):
        """How an operation is run: threads, order in memory, blocks, and which inputs want a gradient (by turns)."""
        return {"threads": self.whole(1, 4), "layout": self.one(*LAYOUTS), "small_blocks": self.one(False, False, True),
                "wanted": self.one([True], [True], [True, False], [False, True])}  # fmt: skip


# ------------------------------------------------------------------------------------- what is compared


@contextlib.contextmanager
def chosen(kernels, threads, small_blocks=False):
    """These kernels on so many threads, in guarded memory; with small_blocks, blocks of a few numbers, so that there are many."""
    modules = [cpu] if kernels == "numpy" or not COMPILED else [cpu, importlib.import_module("minidiff.kernels.numba")]
    lent, before = [], (backend.get_kernels(), backend.get_num_threads())

    def scratch(dtype, *shapes):
        memories = [np.full(GUARD + math.prod(s) + GUARD, np.nan, dtype) for s in shapes]
        lent.extend(memories)
        return [m[GUARD : m.size - GUARD].reshape(s) for m, s in zip(memories, shapes, strict=True)]

    with contextlib.ExitStack() as patches:
        for module in modules:
            patches.enter_context(mock.patch.object(module, "scratch", scratch))
            if small_blocks and module is not cpu:
                patches.enter_context(mock.patch.object(module, "COLUMNS", 8))
        if small_blocks:
            patches.enter_context(mock.patch.multiple(cpu, BLOCK=16, TRANSFORMED=1))
            patches.enter_context(mock.patch.object(attention_module, "SCORES", 7))
        backend.set_kernels(kernels)
        backend.set_num_threads(threads)
        try:
            yield
        finally:
            backend.set_kernels(before[0])
            backend.set_num_threads(before[1])
    for memory in lent:
        assert np.isnan(memory[:GUARD]).all() and np.isnan(memory[memory.size - GUARD :]).all(), "wrote outside of its memory"


def outcome(fn, arrays, dtype, layout, wanted):
    """fn's value, and the gradients of the wanted inputs, of Σ u y for a random u."""
    xs = [Tensor(laid_out(a.astype(dtype), layout), requires_grad=w) for a, w in zip(arrays, wanted, strict=True)]
    y = fn(*xs)
    u = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32).astype(dtype)
    chosen_ones = [x for x, w in zip(xs, wanted, strict=True) if w]
    return [y.data, *(g.data for g in grad(y, chosen_ones, Tensor(laid_out(u, layout))))]


def definition(fn, arrays, wanted):
    """The same in float64, every fused operation by its reference."""
    by_reference = lambda op, *xs: type(op).reference(*xs, **op.options)  # noqa: E731
    with chosen("numpy", 1), mock.patch.object(FusedOp, "__call__", by_reference):
        return outcome(fn, arrays, np.float64, "contiguous", wanted)


def assert_as_defined(fn, arrays, run, kernels=CPU_KERNELS, tolerance=1e-5):
    """fn of these arrays by each set of kernels; errors are relative to an array's largest number, or to 1."""
    arrays = [a.astype(np.float32) for a in arrays]
    wanted = (run["wanted"] * len(arrays))[: len(arrays)]
    exact = definition(fn, arrays, wanted)
    for name in kernels:
        with chosen(name, run["threads"], run["small_blocks"]):
            found = outcome(fn, arrays, np.float32, run["layout"], wanted)
        for k, (a, e) in enumerate(zip(found, exact, strict=True)):
            what = f"{name}: {'value' if k == 0 else f'gradient {k} of those wanted'}"
            assert a.dtype == np.float32 and a.shape == e.shape, what
            limit = tolerance * max(1.0, np.abs(e).max(initial=0.0))
            np.testing.assert_allclose(a, e, rtol=0, atol=limit, err_msg=what)


RNG = lambda: np.random.default_rng(0)  # noqa: E731


def normal(*shapes):
    rng = RNG()
    return [rng.standard_normal(shape) for shape in shapes]


# ------------------------------------------------------------------------------------------ convolution


def axis(draw, transposed):
    """One axis of a geometry that leaves something. Images are small beside dilation and padding, so that often taps miss them."""
    k, d, s = draw.one(1, 2, 3, 3, 4), draw.one(1, 2, 3, 5, 8), draw.one(1, 1, 1, 2, 3, 4)
    reach = d * (k - 1)
    p, extra = draw.one(0, reach // 2, draw.whole(0, reach + 2)), draw.whole(0, max(s, d) - 1) if transposed else 0
    least = 1 + max(0, -(-(2 * p - reach - extra) // s)) if transposed else max(1, reach + 1 - 2 * p)
    return {"size": least + draw.one(0, 1, 2, 5), "kernel": k, "stride": s, "padding": p, "dilation": d, "extra": extra}


def special_axis(draw, kernel, padding, stride):
    """One axis of a convolution that has a kernel of its own."""
    size = max(1, kernel - 2 * padding) + draw.whole(0, 9)
    return {"size": size, "kernel": kernel, "stride": stride, "padding": padding, "dilation": 1, "extra": 0}


def convolution(draw):
    """A signal or image, forwards or transposed; two in five 3x3 of many channels (by Winograd's filtering) or without overlap."""
    kind = draw.one("any", "any", "any", "winograd", "without overlap")
    transposed = kind == "without overlap" or (kind == "any" and draw.one(False, True))
    if kind == "any":
        axes = [axis(draw, transposed) for _ in range(draw.whole(1, 2))]
    else:
        padding, kernel = draw.whole(0, 2), (draw.whole(1, 3), draw.whole(1, 3))
        axes = [special_axis(draw, 3, padding, 1) if kind == "winograd" else special_axis(draw, k, 0, k) for k in kernel]
    return {
        "transposed": transposed, "axes": axes, "n": draw.whole(0, 9), "groups": draw.whole(1, 3) if kind == "any" else 1,
        "c": draw.whole(8, 11) if kind == "winograd" else draw.whole(1, 3), "o": draw.whole(1, 4),
        "bias": draw.one(False, True), **draw.run(),
    }  # fmt: skip


def convolve(case, kernels=CPU_KERNELS):
    axes, groups, c, o = case["axes"], case["groups"], case["c"], case["o"]
    ndim, transposed = len(axes), case["transposed"]
    options = {name: tuple(a[name] for a in axes) for name in ("stride", "padding", "dilation")} | {"groups": groups}
    if transposed:
        options["output_padding"] = tuple(a["extra"] for a in axes)
    image, kernel = (tuple(a[name] for a in axes) for name in ("size", "kernel"))
    weight = (groups * c, o, *kernel) if transposed else (groups * o, c, *kernel)
    shapes = [(case["n"], groups * c, *image), weight, *([(groups * o,)] if case["bias"] else [])]
    fn = getattr(ops, f"conv{'_transpose' if transposed else ''}{ndim}d")
    # A bias's gradient adds up thousands of numbers that cancel.
    assert_as_defined(lambda *xs: fn(*xs, **options), normal(*shapes), case, kernels, tolerance=5e-5)


@number_of_cases(100, 5_000)
def test_convolutions(cases):
    try_each(convolution, convolve, cases)


@emulated
@number_of_cases(4, 200)                                         # each geometry is compiled
def test_convolutions_of_the_gpu(cases):
    try_each(convolution, convolve, cases, ["emulated"])


# -------------------------------------------------------------------------------------------- attention


def attention(draw):
    """Scores that are small, or so large that float32 has few digits left for their differences."""
    return {
        "batch": draw.one((), (0,), (1,), (2, 3), (5,), (9,), (3, 0)), "queries": draw.whole(0, 9), "keys": draw.whole(1, 9),
        "e": draw.one(1, 4, 7), "v": draw.one(1, 4, 7), "offset": draw.one(0.0, -3.0, 2.0**10, 2.0**16),
        "mask": draw.one("none", "causal", "booleans", "numbers", "learned", "learned, of keys"), **draw.run(),
    }  # fmt: skip


def attend(case, kernels=CPU_KERNELS):
    """q and k are multiples of 1/8: float32 holds scores exactly, also beside a large offset, so nothing is lost before the softmax."""
    rng, (batch, n, s, e) = RNG(), (case[name] for name in ("batch", "queries", "keys", "e"))
    q, k = rng.integers(-8, 9, (*batch, n, e)) / 8, rng.integers(-8, 9, (*batch, s, e)) / 8
    q[..., 0], k[..., 0] = (case["offset"], 1) if case["offset"] else (q[..., 0], k[..., 0])
    arrays, mask, options = [q, k, rng.standard_normal((*batch, s, case["v"]))], None, {"scale": 1.0}
    if case["mask"] == "causal":
        options["is_causal"] = True
    elif case["mask"] == "booleans":
        mask = rng.random((n, s)) < 0.6
    elif case["mask"] == "numbers":
        mask = np.where(rng.random((*batch, n, s)) < 0.7, rng.integers(-8, 9, (*batch, n, s)) / 8, -math.inf)
    elif case["mask"] != "none":
        arrays.append(rng.integers(-8, 9, (n if case["mask"] == "learned" else 1, s)) / 8)

    def fn(q, k, v, bias=None):
        given = mask.astype(q.dtype) if case["mask"] == "numbers" else mask
        return ops.scaled_dot_product_attention(q, k, v, given if bias is None else bias, **options)

    assert_as_defined(fn, arrays, case, kernels)


@number_of_cases(100, 5_000)
def test_attention(cases):
    try_each(attention, attend, cases, CPU_KERNELS[:1])          # one path for all of the CPU's


@emulated
@number_of_cases(20, 500)
def test_attention_of_the_gpu(cases):
    try_each(attention, attend, cases, ["emulated"])


# -------------------------------------------------------------------------------------- normalization


NORMS = ("group_norm", "group_norm_gelu", "group_norm_silu", "layer_norm", "batch_norm", "instance_norm")


def norm(draw, channels=(1, 2, 3, 4), groups=(1, 2, 3)):
    name, g = draw.one(*NORMS), draw.one(*groups)
    return {
        "name": name, "n": draw.whole(2 if name == "batch_norm" else 0, 9), "groups": g, "c": g * draw.one(*channels),
        "size": tuple(draw.whole(2, 5) for _ in range(draw.whole(name == "instance_norm", 3))),
        "shift": draw.one(0.0, 3.0), "film": draw.one((0, 0), (1, 1), (0, 1), (1, 0)), **draw.run(),
    }  # fmt: skip


def norm_of_few_sizes(draw):
    """Each number of channels and groups is compiled."""
    return norm(draw, channels=(1, 4), groups=(1, 2))


def normalize(case, kernels=CPU_KERNELS):
    """Numbers that lie apart, and an ε that counts: a small deviation, by which everything is divided, would blow up rounding."""
    rng, name, n, c, size = RNG(), *(case[key] for key in ("name", "n", "c", "size"))
    shape = (n, c, *size)
    x = case["shift"] + rng.permutation(math.prod(shape)).reshape(shape) * (8.0 / max(1, math.prod(shape)))
    film = [(n, c) if own and name.startswith("group_norm") else (c,) for own in case["film"]]
    weights = [rng.standard_normal(s) for s in (film if name != "layer_norm" else [shape[1:]] * 2)]
    fns = {
        "layer_norm": lambda x, w, b: ops.layer_norm(x, shape[1:], w, b, eps=1e-2),
        "batch_norm": lambda x, w, b: ops.batch_norm(x, None, None, w, b, training=True, eps=1e-2),
        "instance_norm": lambda x, w, b: ops.instance_norm(x, None, None, w, b, eps=1e-2),
    }
    fn = fns.get(name, lambda x, w, b: getattr(ops, name)(x, case["groups"], w, b, eps=1e-2))
    assert_as_defined(fn, [x, *weights], case, kernels, tolerance=5e-5)


@number_of_cases(100, 5_000)
def test_norms(cases):
    try_each(norm, normalize, cases)


@emulated
@number_of_cases(10, 200)
def test_norms_of_the_gpu(cases):
    try_each(norm_of_few_sizes, normalize, cases, ["emulated"])


# ------------------------------------------------------------------------------------------------ pooling


def pooling(draw):
    name, axes = draw.one("max_pool", "avg_pool", "adaptive"), []
    for _ in range(2 if name == "adaptive" else draw.whole(1, 2)):
        k, d = draw.whole(1, 4), draw.whole(1, 3) if name == "max_pool" else 1
        p = draw.whole(0, k // 2)
        size = max(1, d * (k - 1) + 1 - 2 * p) + draw.whole(0, 6)
        axes.append({"size": size, "kernel_size": k, "stride": draw.whole(1, 4), "padding": p, "dilation": d})
    return {
        "name": name, "axes": axes, "n": draw.whole(0, 9), "ceil_mode": draw.one(False, True),
        "count_include_pad": draw.one(False, True), "ties": draw.one(False, True), **draw.run(),
    }  # fmt: skip


def pool(case, kernels=CPU_KERNELS):
    rng, name, axes = RNG(), case["name"], case["axes"]
    shape = (case["n"], 2, *(a["size"] for a in axes))
    x = rng.integers(0, 3, shape) if case["ties"] else rng.standard_normal(shape)
    options = {key: tuple(a[key] for a in axes) for key in ("kernel_size", "stride", "padding")} | {"ceil_mode": case["ceil_mode"]}
    if name == "max_pool":
        options["dilation"] = tuple(a["dilation"] for a in axes)
    else:
        options["count_include_pad"] = case["count_include_pad"]
    if name == "adaptive":
        fn = lambda x: ops.adaptive_avg_pool2d(x, options["kernel_size"])  # noqa: E731
    else:
        fn = lambda x: getattr(ops, f"{name}{len(axes)}d")(x, **options)  # noqa: E731
    assert_as_defined(fn, [x], {**case, "wanted": [True]}, kernels)


@number_of_cases(100, 5_000)
def test_pooling(cases):
    try_each(pooling, pool, cases, CPU_KERNELS[:1])              # one path for all of the CPU's


@emulated
@number_of_cases(20, 500)
def test_pooling_of_the_gpu(cases):
    try_each(pooling, pool, cases, ["emulated"])
