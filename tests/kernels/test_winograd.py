"""Winograd's filtering: exact in whole numbers, close in float32, and the same from NumPy and from Numba."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels import cpu, winograd

SQUARE = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}


def apply(matrix, vector):
    return [sum((m * v for m, v in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


def transposed(matrix):
    return [list(column) for column in zip(*matrix, strict=True)]


@pytest.fixture
def numbers():
    """Filter g, input d, upstream gradient e: fractions."""
    rng = np.random.default_rng(0)
    return [[Fraction(int(a), int(b)) for a, b in zip(rng.integers(-9, 10, n), rng.integers(1, 9, n), strict=True)]
            for n in (3, 6, 4)]  # fmt: skip


def test_six_products_give_four_outputs_exactly(numbers):
    g, d, _ = numbers
    a, gm, b = winograd.matrices()
    products = [x * y for x, y in zip(apply(gm, g), apply(transposed(b), d), strict=True)]
    assert apply(transposed(a), products) == [sum(g[k] * d[i + k] for k in range(3)) for i in range(4)]


def test_the_gradients_are_exact_too(numbers):
    """gd = B[(G g) ⊙ (A e)] and gg = Gᵀ[(A e) ⊙ (Bᵀ d)]: each e goes back to the numbers it was made of."""
    g, d, e = numbers
    a, gm, b = winograd.matrices()
    values = apply(a, e)
    gd = apply(b, [x * y for x, y in zip(apply(gm, g), values, strict=True)])
    gg = apply(transposed(gm), [x * y for x, y in zip(values, apply(transposed(b), d), strict=True)])
    expected_gd, expected_gg = [Fraction(0)] * 6, [Fraction(0)] * 3
    for i, k in product(range(4), range(3)):
        expected_gd[i + k] += e[i] * g[k]
        expected_gg[k] += e[i] * d[i + k]
    assert (gd, gg) == (expected_gd, expected_gg)


def test_filters_and_their_gradient_are_transposes(rng):
    """⟨G w Gᵀ, u⟩ = ⟨w, Gᵀ u G⟩"""
    w, u = rng.standard_normal((5, 4, 3, 3)), rng.standard_normal((36, 5, 4))
    assert (winograd.transform_filters(w) * u).sum() == pytest.approx((w * winograd.filter_gradient(u)).sum())


def test_tiles_are_transformed_in_both_directions(rng):
    tiles, matrix = rng.standard_normal((4, 4, 7)), rng.standard_normal((6, 4))
    out = np.empty((6, 6, 7))
    winograd.transform_tiles(matrix, tiles, np.empty((6, 4, 7)), out)
    np.testing.assert_allclose(out, np.einsum("ui,ijn,vj->uvn", matrix, tiles, matrix))


def plain(x, w, padding):
    """Convolution as a sum over the nine taps."""
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    height, width = x.shape[2] - 2, x.shape[3] - 2
    return sum(
        np.einsum("oc,nchw->nohw", w[:, :, u, v], x[:, :, u : u + height, v : v + width]) for u in range(3) for v in range(3)
    )


IMAGES = [(3, 3), (4, 4), (5, 9), (8, 8), (7, 18), (33, 2), (1, 1)]


@pytest.fixture(params=["numpy", "numba"])
def kernels(request):
    if request.param == "numba":
        pytest.importorskip("numba", reason="Numba is not installed: there are no compiled kernels to test")
        from minidiff.kernels import numba

        return numba
    return cpu


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_any_image_at_any_padding_agrees_with_the_plain_sum(kernels, rng, image, padding):
    """Edges of tiles, of images and of blocks of samples are where a mistake would be."""
    if min(image) + 2 * padding < 3:
        pytest.skip("the kernel is larger than the padded image")
    n, c, o = 5, 9, 8
    x, w = rng.standard_normal((n, c, *image)).astype("f"), rng.standard_normal((o, c, 3, 3)).astype("f")
    b = rng.standard_normal(o).astype("f")
    assert cpu.winograd_pays(w, padding=(padding, padding), **SQUARE)
    expected = plain(x.astype(float), w.astype(float), padding) + b[:, None, None]
    y = kernels.conv2d(x, w, b, padding=(padding, padding), **SQUARE)
    np.testing.assert_allclose(y, expected, rtol=0, atol=5e-6 * np.abs(expected).max())
    gy = rng.standard_normal(y.shape).astype("f")
    gx, gw, gb = kernels.conv2d_backward(x, w, gy, (True, True, True), padding=(padding, padding), **SQUARE)
    wide = np.pad(gy.astype(float), [(0, 0), (0, 0), (2, 2), (2, 2)])
    turned = w.astype(float)[:, :, ::-1, ::-1].swapaxes(0, 1)
    inside = slice(padding, None if padding == 0 else -padding)
    expected_gx = plain(wide, turned, 0)[:, :, inside, inside]
    padded = np.pad(x.astype(float), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    height, width = y.shape[2:]
    expected_gw = np.stack(
        [np.einsum("nohw,nchw->oc", gy.astype(float), padded[:, :, u : u + height, v : v + width])
         for u in range(3) for v in range(3)], -1,
    ).reshape(w.shape)  # fmt: skip
    for actual, right in ((gx, expected_gx), (gw, expected_gw), (gb, gy.astype(float).sum((0, 2, 3)))):
        np.testing.assert_allclose(actual, right, rtol=0, atol=1e-5 * max(1.0, np.abs(right).max()))


@pytest.mark.parametrize("block", [1, 10**9], ids=["sample by sample", "all at once"])
def test_the_size_of_a_block_changes_nothing_but_rounding(kernels, monkeypatch, rng, block):
    x, w = rng.standard_normal((7, 8, 9, 6)).astype("f"), rng.standard_normal((16, 8, 3, 3)).astype("f")
    before = kernels.conv2d(x, w, None, padding=(1, 1), **SQUARE)
    monkeypatch.setattr(cpu, "TRANSFORMED", block)
    np.testing.assert_allclose(kernels.conv2d(x, w, None, padding=(1, 1), **SQUARE), before, rtol=0, atol=1e-4)


def test_the_error_in_float32_is_a_few_times_that_of_the_plain_sum(kernels, rng):
    """The points were chosen for this: 0, ±1, ±2, ∞ would give three times as much."""
    x, w = rng.standard_normal((2, 64, 32, 32)).astype("f"), (rng.standard_normal((64, 64, 3, 3)) / 24).astype("f")
    exact = plain(x.astype(float), w.astype(float), 1)
    error = np.abs(kernels.conv2d(x, w, None, padding=(1, 1), **SQUARE) - exact).max() / np.abs(exact).max()
    assert 1e-8 < error < 4e-6


@pytest.mark.parametrize(
    ("channels", "options"),
    [(4, {}), (16, {"stride": (2, 1)}), (16, {"dilation": (1, 2)}), (16, {"groups": 2}), (16, {"padding": (1, 0)}),
     (16, {"padding": (3, 3)})],
)  # fmt: skip
def test_what_it_is_not_made_for_goes_by_patches(channels, options):
    w = np.zeros((16, channels // options.get("groups", 1), 3, 3))
    assert not cpu.winograd_pays(w, **{"padding": (1, 1), **SQUARE, **options})


def test_an_empty_batch_has_zero_gradients(kernels):
    x, w = np.zeros((0, 8, 4, 4), "f"), np.ones((8, 8, 3, 3), "f")
    gx, gw, gb = kernels.conv2d_backward(x, w, x, (True, True, True), padding=(1, 1), **SQUARE)
    assert gx.shape == x.shape and gw.shape == w.shape and not gw.any() and gb.shape == (8,) and not gb.any()


def test_the_compiled_exponential_and_gelu_are_good_to_float32():
    numba = pytest.importorskip("numba", reason="Numba is not installed: there are no compiled kernels to test")
    from scipy.special import ndtr

    from minidiff.kernels import numba as compiled

    exponential = numba.vectorize(["float32(float32)"])(lambda x: compiled._exp(x))
    x = np.linspace(-86, 0, 100_001, dtype=np.float32)
    np.testing.assert_allclose(exponential(x), np.exp(x.astype(float)), rtol=3e-7)
    u = np.linspace(-12, 12, 100_001, dtype=np.float32)
    exact = u.astype(float) * ndtr(u.astype(float))
    assert (np.abs(compiled.gelu(u, "none") - exact) <= 3e-7 * (1 + np.abs(u))).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_compiled_kernels_repeat_themselves_bit_for_bit(rng, threads):
    pytest.importorskip("numba", reason="Numba is not installed: there are no compiled kernels to test")
    from minidiff.kernels import numba as compiled

    x, w = rng.standard_normal((6, 16, 8, 8)).astype("f"), rng.standard_normal((16, 16, 3, 3)).astype("f")
    before = backend.get_num_threads()
    backend.set_num_threads(threads)
    try:
        runs = [compiled.conv2d_backward(x, w, x, (True, True, True), padding=(1, 1), **SQUARE) for _ in range(3)]
    finally:
        backend.set_num_threads(before)
    for run in runs[1:]:
        for a, b in zip(run, runs[0], strict=True):
            np.testing.assert_array_equal(a, b)
