"""Fast convolution on tiles: the sizes of tiles, and the matrices that transform them.

A correlation with r taps that makes m outputs reads n = m + r - 1 inputs x and needs m r multiplications. Computed as

    y = A^T [(G w) * (B^T x)]

it needs only n (Toom 1963, Cook 1966; Winograd 1980). The transforms evaluate polynomials at n points: the points
p_0 .. p_{n-2} in POINTS, and infinity. Let V_k be the n x k Vandermonde matrix of these points. Its last row, for infinity,
picks the leading coefficient. Then A = V_m, G = V_r and B = V_n^-1. Points that are small fractions, in pairs p and -p, keep
the rounding error low.

In two dimensions the transforms are applied to both axes: Y = A^T [(G W G^T) * (B^T X B)] A (Lavin, Gray 2016).

A convolution of stride s is the sum of s x s convolutions of stride 1, one for each phase of the image. A phase consists of
every s-th row and every s-th column; it begins at one of the first s rows and one of the first s columns. The kernel is
divided in the same way, so each of its phases has 1/s of the taps along an axis.
"""
from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

Matrix = tuple[tuple[float, ...], ...]


class Tile(NamedTuple):
    """A square of m x m outputs, computed with r x r taps from each phase of the kernel."""

    m: int
    r: int

    @property
    def n(self) -> int:
        """The number of inputs along each side, which is also the number of points in one dimension."""
        return self.m + self.r - 1

    @property
    def points(self) -> int:
        """The number of points in two dimensions. A tile needs one multiplication for each."""
        return self.n**2

    def grid(self, g: Any) -> tuple[int, int]:
        """How many tiles, down and across, cover the map of a convolution. g: its Geometry."""
        return -(-g.output[0] // self.m), -(-g.output[1] // self.m)


DIRECT = Tile(1, 1)
"""The direct algorithm: a tile of one pixel and one tap is a plain product."""

_HALF, _THIRD, _TWO_THIRDS = Fraction(1, 2), Fraction(1, 3), Fraction(2, 3)
# The points p_0 .. p_{n-2} of each tile; the last point is infinity.
POINTS: dict[Tile, tuple[Fraction | int, ...]] = {
    DIRECT: (),
    Tile(2, 2): (1, -1),
    Tile(4, 2): (_THIRD, -_THIRD, 4 * _THIRD, -4 * _THIRD),
    Tile(7, 2): (0, 1, -1, 2, -2, _HALF, -_HALF),
    Tile(2, 3): (0, 1, -1),
    Tile(4, 3): (0, 3 * _HALF, -3 * _HALF, _TWO_THIRDS, -_TWO_THIRDS),
}
TILES = tuple(tile for tile in POINTS if tile != DIRECT)
"""The tiles that need fewer multiplications than the direct algorithm."""

ERRORS = {DIRECT: 2e-6, Tile(2, 2): 2e-6, Tile(4, 2): 4e-6, Tile(7, 2): 6e-5, Tile(2, 3): 2e-6, Tile(4, 3): 8e-6}
"""The largest float32 error to expect from any of the three maps of the convolution triangle, relative to the largest
element of the result. It is twice the error measured for normally distributed images and weights with 64 channels."""


def fitting(g: Any) -> tuple[Tile, ...]:
    """The tiles that can compute a convolution. g: its Geometry. There are none if `g.algorithm` is "direct", if the
    convolution has several groups or a dilation, or if its two axes differ in stride or in taps of a phase."""
    if g.algorithm == "direct" or g.groups != 1 or g.dilation != (1, 1) or g.stride[0] != g.stride[1]:
        return ()
    taps = {-(-k // g.stride[0]) for k in g.kernel}
    return tuple(tile for tile in TILES if {tile.r} == taps)


class Matrices(NamedTuple):
    """y = at [(g w) * (bt x)] in one dimension: at (m, n), g (n, r), bt (n, n)."""

    at: Matrix
    g: Matrix
    bt: Matrix


def _vandermonde(points: tuple[Fraction | int, ...], columns: int) -> list[list[Fraction]]:
    """One row for each point: its powers 0 to columns - 1. The last row, for infinity, picks the highest power alone."""
    rows = [[Fraction(p) ** k for k in range(columns)] for p in points]
    return [*rows, [Fraction(int(k == columns - 1)) for k in range(columns)]]


def _inverse(rows: list[list[Fraction]]) -> list[list[Fraction]]:
    """The exact inverse of a matrix, by Gauss-Jordan elimination."""
    n = len(rows)
    work = [row + [Fraction(int(i == j)) for j in range(n)] for i, row in enumerate(rows)]
    for i in range(n):
        pivot = next(j for j in range(i, n) if work[j][i])
        work[i], work[pivot] = work[pivot], work[i]
        work[i] = [value / work[i][i] for value in work[i]]
        for j in range(n):
            if j != i:
                work[j] = [a - work[j][i] * b for a, b in zip(work[j], work[i], strict=True)]
    return [row[n:] for row in work]


@cache
def matrices(m: int, r: int) -> Matrices:
    """The matrices of a tile of m outputs and r taps."""
    tile = Tile(m, r)
    points = POINTS[tile]
    a, g, b = _vandermonde(points, m), _vandermonde(points, r), _inverse(_vandermonde(points, tile.n))
    return Matrices(transposed(_floats(a)), _floats(g), transposed(_floats(b)))


def _floats(rows: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(float(value) for value in row) for row in rows)


def transposed(matrix: Matrix) -> Matrix:
    """The matrix with rows and columns exchanged."""
    return tuple(zip(*matrix, strict=True))
