"""Copies parts of matrices into the order in which the micro-kernel reads them."""
from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import carray

from tinygan.kernels.cpu.matmul import microkernel
from tinygan.kernels.cpu.runtime import simd
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline


@cache
def transposer(real: Any) -> Any:
    """A function for kernels, (source, stride, rows, columns, target, target_stride): write the transpose of a matrix (rows,
    columns). If the matrix is large enough it is transposed by squares that fit into the registers. source and target are
    addresses; strides count elements."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    side, square = simd.lanes_of(real), simd.square_transpose(real)

    @inline
    def transpose(source: Any, stride: Any, rows: Any, columns: Any, target: Any, target_stride: Any) -> Any:
        if rows >= side and columns >= side:
            for i in range(0, rows, side):
                row = min(i, rows - side)  # the last squares copy some elements a second time
                for j in range(0, columns, side):
                    column = min(j, columns - side)
                    square(source + (row * stride + column) * item, stride * item,
                           target + (column * target_stride + row) * item, target_stride * item)
            return
        for i in range(rows):
            row_of = carray(pointer(source + i * stride * item), (columns,))
            column_of = carray(pointer(target + i * item), (columns * target_stride,))
            for j in range(columns):
                column_of[j * target_stride] = row_of[j]

    return transpose


def packers(real: Any) -> tuple[Any, Any]:
    """Two functions for kernels, (source, stride, first, count, k, panels): pack `count` columns of a matrix with k rows,
    from column `first` on, into panels as wide as the micro-kernel's block. The last panel is filled up with zeros. The
    first function is for row-major matrices, and `stride` counts the elements from row to row. The second is for
    column-major matrices, and `stride` counts the elements from column to column. source and panels are addresses."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    width = microkernel.columns(item)
    transpose = transposer(real)

    @inline
    def at(address: Any, size: Any) -> Any:
        return carray(pointer(address), (size,))

    @inline
    def pack_columns(source: Any, stride: Any, first: Any, count: Any, k: Any, panels: Any) -> Any:
        full = count // width
        rest = count - full * width
        for p in range(k):
            row = at(source + (p * stride + first) * item, count)
            for q in range(full):
                panel = at(panels + (q * k + p) * width * item, np.int64(width))
                for j in range(width):
                    panel[j] = row[q * width + j]
            if rest:
                panel = at(panels + (full * k + p) * width * item, np.int64(width))
                for j in range(rest):
                    panel[j] = row[full * width + j]
                for j in range(rest, width):
                    panel[j] = 0

    @inline
    def pack_transposed(source: Any, stride: Any, first: Any, count: Any, k: Any, panels: Any) -> Any:
        for j in range(0, count, width):
            columns, panel = min(np.int64(width), count - j), panels + j * k * item
            transpose(source + (first + j) * stride * item, stride, columns, k, panel, np.int64(width))
            if columns < width:
                last = at(panel, k * width)
                for p in range(k):
                    for jj in range(columns, width):
                        last[p * width + jj] = 0

    return pack_columns, pack_transposed
