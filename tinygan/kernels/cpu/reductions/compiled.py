"""The compiled sums of a matrix' columns, and what all kernels share that make sums for each column."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types

from tinygan.kernels.cpu.runtime.arguments import packer, task
from tinygan.kernels.cpu.runtime.arrays import REALS, address, pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.pool import pool

Array = np.ndarray[Any, Any]
SHORT = 32  # numbers: rows that are shorter are summed as rows of SHORT times the length, so that loops become vectors
BLOCK = 256  # rows that are added by themselves: so the error of a sum grows with this number, not with all rows


def fold(rows: int, columns: int) -> int:
    """How many short rows of a matrix to see as one."""
    return SHORT if columns < SHORT and rows % SHORT == 0 else 1


def unfolded(partial: Array, fold: int) -> Array:
    """From the sums of parts, of folded rows, those of each column: (parts, totals, fold * columns) -> (totals, columns)."""
    _, totals, columns = partial.shape
    return partial.sum(0).reshape(totals, fold, columns // fold).sum(1)


class Sums(NamedTuple):
    """What the task is told: a matrix, C-contiguous, and two rows of float64 for each part: its sums, and room to work."""

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
    """(address, i, columns): row i of a matrix of float64, all 0."""


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
    """The address of the task that adds the rows of a matrix: four in their own precision, the sums of those in float64."""
    row, zeros = rows_of(real)

    @task(Sums, str(real))
    def sums(t: Any, part: Any, parts: Any) -> Any:
        n, at_x = t.columns, t.x
        first, end = t.rows * part // parts, t.rows * (part + 1) // parts
        total, block = zeros(t.partial, 2 * part, n), zeros(t.partial, 2 * part + 1, n)
        for start in range(first, end, BLOCK):
            stop = min(start + BLOCK, end)
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
    """The sums over the rows of x (rows, columns), C-contiguous: (columns,), float64."""
    rows, columns = x.shape
    folded, parts = fold(rows, columns), pool.parts(x.size)
    partial = np.empty((parts, 2, folded * columns))
    pool.run(make(REALS[x.dtype]), _packed(address(x), rows // folded, folded * columns, address(partial)), parts)
    return unfolded(partial[:, :1], folded)[0]
