"""The compiled sums of the columns of a matrix, and helpers for all kernels that compute a sum for each column."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types

from tinygan.kernels.cpu.runtime.arguments import packer, task
from tinygan.kernels.cpu.runtime.arrays import REALS, address, pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import empty

Array = np.ndarray[Any, Any]
SHORT_ROW = 32
"""A row with fewer numbers than this is short. SHORT_ROW short rows are treated as one long row (folded), so that loops over
rows become vector instructions."""
BLOCK_ROWS = 256
"""How many rows are added up before their sum is added to the total. This keeps the rounding error of a long sum small."""


def fold(rows: int, columns: int) -> int:
    """How many rows of a matrix to treat as one: SHORT_ROW if they are short, else 1."""
    return SHORT_ROW if columns < SHORT_ROW and rows % SHORT_ROW == 0 else 1


def unfolded(partial: Array, fold: int) -> Array:
    """Adds up the sums of all parts and unfolds the rows: (parts, totals, fold * columns) -> (totals, columns)."""
    _, totals, columns = partial.shape
    return partial.sum(0).reshape(totals, fold, columns // fold).sum(1)


class Sums(NamedTuple):
    """The arguments of the task. x: the address of a C-contiguous matrix. partial: the address of two rows of float64 for
    each part; the first gets the sums, the second is scratch memory."""

    x: int
    rows: int
    columns: int
    partial: int


_packed = packer(Sums)


class Rows(NamedTuple):
    """Functions for kernels that go through matrices by rows."""

    row: Any
    """(matrix, i, columns): row i of the C-contiguous matrix at that address."""
    zeros: Any
    """(matrix, i, columns): row i of the float64 matrix at that address, set to 0."""


@cache
def rows_of(real: Any) -> Rows:
    """The functions for elements of that type."""
    pointer, wide = pointer_to(real), pointer_to(types.float64)
    item = real.bitwidth // 8

    @inline
    def row(matrix: Any, i: Any, columns: Any) -> Any:
        return carray(pointer(matrix + i * columns * item), (columns,))

    @inline
    def zeros(matrix: Any, i: Any, columns: Any) -> Any:
        total = carray(wide(matrix + i * columns * 8), (columns,))
        for c in range(total.size):
            total[c] = 0
        return total

    return Rows(row, zeros)


@cache
def make(real: Any) -> int:
    """The address of the task that adds the rows of a matrix. Four rows are added in their own precision, and the sums of
    four in float64."""
    row, zeros = rows_of(real)

    @task(Sums, str(real))
    def sums(t: Any, part: Any, parts: Any) -> Any:
        n, at_x = t.columns, t.x
        first, end = t.rows * part // parts, t.rows * (part + 1) // parts
        total, block = zeros(t.partial, 2 * part, n), zeros(t.partial, 2 * part + 1, n)
        for start in range(first, end, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, end)
            quads = start + (stop - start) // 4 * 4
            for c in range(n):
                block[c] = 0
            for i in range(start, quads, 4):
                x0, x1, x2, x3 = row(at_x, i, n), row(at_x, i + 1, n), row(at_x, i + 2, n), row(at_x, i + 3, n)
                for c in range(n):
                    block[c] += np.float64((x0[c] + x1[c]) + (x2[c] + x3[c]))
            for i in range(quads, stop):
                x0 = row(at_x, i, n)
                for c in range(n):
                    block[c] += np.float64(x0[c])
            for c in range(n):
                total[c] += block[c]

    return sums


def column_sums(x: Array) -> Array:
    """The sums of the columns of a C-contiguous matrix: (rows, columns) -> (columns,) in float64."""
    rows, columns = x.shape
    folded, parts = fold(rows, columns), pool.parts(x.size)
    partial = empty((parts, 2, folded * columns), np.float64)
    pool.run(make(REALS[x.dtype]), _packed(
        x=address(x), rows=rows // folded, columns=folded * columns, partial=address(partial)), parts)
    return unfolded(partial[:, :1], folded)[0]
