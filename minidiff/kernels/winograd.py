"""3x3 convolution with a quarter of the multiplications: Winograd's minimal filtering, F(4x4, 3x3).

A polynomial of degree 5 is known by its values at 6 points. Let g(s) = g₀ + g₁ s + g₂ s² be a filter
and e(s) = e₀ + … + e₃ s³ four numbers; their product has degree 5, so 6 multiplications, one at each
point, give all of its coefficients, where the school method takes 12:

    spread(g, e) = B [(G g) ⊙ (A e)]           G, A: values at the points   (6,3) (6,4)
                                               B: from values back to coefficients   (6,6)

The product of polynomials spreads each eᵢ over three places: it is convolution's transpose. So the
convolution of 6 numbers d with g, 4 numbers out, is its transpose in e, and the gradient of g is
that in g (Winograd 1980; Lavin & Gray 2016, eq. 5–8):

    convolve     y  = Aᵀ [(G g) ⊙ (Bᵀ d)]
    backward     gd = B  [(G g) ⊙ (A gy)]         each step's transpose, in the opposite order
                 gg = Gᵀ [(A gy) ⊙ (Bᵀ d)]

In two dimensions the same is done to rows and columns of a 6x6 tile: 36 multiplications for 4x4
pixels instead of 144. Summed over channels, ⊙ becomes 36 products of matrices, one for each pair
of points, and that is where the time goes.

The price is rounding: values at large points are large. The points 0, 1, −1, ½, −2, ∞ keep the
error at about 5 times that of the plain sum (Barabasz et al. 2020 look for such points; ∞ stands
for the highest coefficient).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

HALF = Fraction(1, 2)
POINTS = (Fraction(0), Fraction(1), Fraction(-1), HALF, Fraction(-2))  # and ∞
OUTPUTS, TAPS = 4, 3
SIZE = OUTPUTS + TAPS - 1

Matrix = list[list[Fraction]]


def _powers(n: int) -> Matrix:
    """Row k: the powers of point k below the n-th; of ∞, only the highest counts."""
    finite = [[p**j for j in range(n)] for p in POINTS]
    return [*finite, [Fraction(int(j == n - 1)) for j in range(n)]]


def _times_linear(a: list[Fraction], root: Fraction) -> list[Fraction]:
    """The coefficients of a(s) (s − root)."""
    return [low - root * high for low, high in zip([Fraction(0), *a], [*a, Fraction(0)], strict=True)]


def matrices() -> tuple[Matrix, Matrix, Matrix]:
    """A (6,4), G (6,3) and B (6,6), exactly.

    Column k of B holds Lagrange's polynomial Π (s − pⱼ) over the points other than k: the only one
    of degree 4 that is zero at all of them. Its value at pₖ itself is divided out of row k of G,
    where it costs nothing because filters are transformed once. The column of ∞ is Π (s − pⱼ) over
    all the points: it carries the highest coefficient and disturbs no value.
    """
    a, g = _powers(OUTPUTS), _powers(TAPS)
    columns = []
    for k, point in enumerate(POINTS):
        polynomial = [Fraction(1)]
        for other in POINTS[:k] + POINTS[k + 1 :]:
            polynomial = _times_linear(polynomial, other)
            g[k] = [x / (point - other) for x in g[k]]
        columns.append([*polynomial, Fraction(0)])
    polynomial = [Fraction(1)]
    for point in POINTS:
        polynomial = _times_linear(polynomial, point)
    columns.append(polynomial)
    return a, g, [list(row) for row in zip(*columns, strict=True)]


A, G, B = (np.array([[float(x) for x in row] for row in matrix]) for matrix in matrices())


def transform_tiles(
    matrix: np.ndarray, tiles: np.ndarray, half: np.ndarray | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """matrix tile matrixᵀ for many tiles: first to their columns, then to their rows.            # (k,k,n) -> (m,m,n)

    half (m,k,n), where given, is working memory.
    """
    m, k = matrix.shape
    half = np.matmul(matrix, tiles.reshape(k, -1), out=None if half is None else half.reshape(m, -1))
    return np.matmul(matrix, half.reshape(m, k, -1), out=None if out is None else out.reshape(m, m, -1))


def transform_filters(w: np.ndarray) -> np.ndarray:
    """G w Gᵀ for every pair of channels.            # (O,C,3,3) -> (36,O,C)"""
    o, c = w.shape[:2]
    filters = np.ascontiguousarray(w.reshape(o * c, 9).T)
    return transform_tiles(G.astype(w.dtype), filters.reshape(3, 3, -1)).reshape(SIZE * SIZE, o, c)


def filter_gradient(gu: np.ndarray) -> np.ndarray:
    """Gᵀ gu G: the gradient of w from that of `transform_filters(w)`.            # (36,O,C) -> (O,C,3,3)"""
    o, c = gu.shape[1:]
    gw = transform_tiles(np.ascontiguousarray(G.T, gu.dtype), gu.reshape(SIZE, SIZE, -1))
    return np.ascontiguousarray(gw.reshape(9, -1).T).reshape(o, c, 3, 3)
