"""The matrices of fast convolution on tiles, and which tile to use.

A correlation of r taps that makes m outputs of n = m + r - 1 inputs is y = A^T [(G w) * (B^T x)], with n products instead
of m r (Toom 1963, Cook 1966; Winograd 1980). Evaluating at points p_0 .. p_{n-2} and at infinity, let V_k be the n x k
Vandermonde matrix whose last row picks the leading coefficient: A = V_m, G = V_r, B = V_n^-1. The points decide the
rounding error: small fractions, of either sign. In one dimension m = 1, r = 1 is plain multiplication.
"""
from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import NamedTuple

Matrix = tuple[tuple[float, ...], ...]

# The evaluation points beside infinity, by (outputs m, taps r) of a tile.
_HALF, _THIRD, _TWO_THIRDS = Fraction(1, 2), Fraction(1, 3), Fraction(2, 3)
POINTS: dict[tuple[int, int], tuple[Fraction | int, ...]] = {
    (1, 1): (),
    (2, 2): (1, -1),
    (4, 2): (_THIRD, -_THIRD, 4 * _THIRD, -4 * _THIRD),
    (7, 2): (0, 1, -1, 2, -2, _HALF, -_HALF),
    (2, 3): (0, 1, -1),
    (4, 3): (0, 3 * _HALF, -3 * _HALF, _TWO_THIRDS, -_TWO_THIRDS),
}

ERRORS = {(1, 1): 2e-6, (2, 2): 2e-6, (4, 2): 4e-6, (7, 2): 6e-5, (2, 3): 2e-6, (4, 3): 8e-6}
"""The largest float32 errors to expect of any of the three maps, relative to the result's largest element: twice what was
seen for normally distributed images and weights of 64 channels."""


class Matrices(NamedTuple):
    """y = at [(g w) * (bt x)]: at (m, n), g (n, r), bt (n, n)."""

    at: Matrix
    g: Matrix
    bt: Matrix


def _vandermonde(points: tuple[Fraction | int, ...], columns: int) -> list[list[Fraction]]:
    rows = [[Fraction(p) ** k for k in range(columns)] for p in points]
    return [*rows, [Fraction(int(k == columns - 1)) for k in range(columns)]]


def _inverse(rows: list[list[Fraction]]) -> list[list[Fraction]]:
    """Gauss and Jordan's, exact."""
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
    """Those of a tile of m outputs and r taps."""
    points = POINTS[m, r]
    n = m + r - 1
    a, g, b = _vandermonde(points, m), _vandermonde(points, r), _inverse(_vandermonde(points, n))
    return Matrices(transposed(_floats(a)), _floats(g), transposed(_floats(b)))


def _floats(rows: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(float(value) for value in row) for row in rows)


def transposed(matrix: Matrix) -> Matrix:
    """Rows for columns."""
    return tuple(zip(*matrix, strict=True))
