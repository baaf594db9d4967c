"""Matrix products: C = A @ B, and the dense layer C = activation(A @ B + bias), for float32 and float64.

The scheme is Goto's ("Anatomy of high-performance matrix multiplication", 2008): blocks of B, as large as half of a
core's second-level cache, are packed into panels that the micro-kernel reads in order; A is read where it lies if its
rows are contiguous or there are few panels to multiply it by, and transposed before otherwise. Every part of the task does
its own columns (or rows) of C, packs what it needs for them and waits for nobody. The micro-kernel writes rows of C; where
C's columns are the contiguous ones (a dense layer computes C^T = W x^T, because then W need not be packed) a strip of them
stays in the cache until it has been transposed. Whatever is transposed is so by squares that fit into the registers.
"""
from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import carray, types

from tinygan.kernels.activations import LEAKY_RELU, RELU
from tinygan.kernels.cpu.matmul import microkernel
from tinygan.kernels.cpu.runtime import simd as transform
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline, kernel

ROWS = microkernel.ROWS
STRIP = 48 // ROWS  # row blocks that are staged together
FEW_PANELS = 6
BLOCK_BYTES = 256 * 1024

# What a task is told, by position.
(A, A_ROW, A_STEP, B, B_STEP, B_COLUMN, C, C_STRIDE, STAGED, M, N, K, SPLIT_ROWS, BIAS, ACTIVATION, SLOPE, SCRATCH,
 SCRATCH_WORDS) = range(18)
WORDS = 18


address_of_words = pointer_to(types.int64)


def transposer(real: Any) -> Any:
    """A function for kernels, (source, stride, rows, columns, target, target_stride): write the columns of a matrix as rows,
    by squares that fit into the registers where it is large enough. Addresses; strides count elements."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    side, square = transform.lanes_of(real), transform.square_transpose(real)

    @inline
    def transpose(source: Any, stride: Any, rows: Any, columns: Any, target: Any, target_stride: Any) -> Any:
        if rows >= side and columns >= side:
            for i in range(0, rows, side):
                row = min(i, rows - side)  # the last squares do some elements once more
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


def columns(dtype: Any) -> int:
    """The columns of the micro-kernel's block."""
    return microkernel.columns(np.dtype(dtype).itemsize)


@cache
def scratch_elements(m: int, n: int, k: int, direct: bool, staged: bool, dtype: Any) -> int:
    """How many elements of scratch memory one part of a task needs."""
    width = columns(dtype)
    panels = max(BLOCK_BYTES // np.dtype(dtype).itemsize, width * k)
    packed_rows = ROWS * k if direct else (m + ROWS) * k
    stage = STRIP * ROWS * (n + 2 * width) if staged else 0
    return panels + packed_rows + width * ROWS + stage


@cache
def _share(real: Any) -> Any:
    """The function that does one part's share of a product."""
    pointer = pointer_to(real)
    multiply = microkernel.make(real)
    multiply_and_pack = microkernel.make(real, packing=True)
    item = real.bitwidth // 8
    width = microkernel.columns(item)
    transpose = transposer(real)
    block = BLOCK_BYTES // item
    strip = STRIP * ROWS

    @inline
    def at(address: Any, size: Any) -> Any:
        return carray(pointer(address), (size,))

    @inline
    def pack_columns(source: Any, row_stride: Any, first: Any, count: Any, k: Any, panels: Any) -> Any:
        """Pack `count` columns, from the first on, of a row-major matrix into panels."""
        full = count // width
        rest = count - full * width
        for p in range(k):
            row = source[p * row_stride + first:p * row_stride + first + count]
            for q in range(full):
                panel = panels[(q * k + p) * width:(q * k + p) * width + width]
                for j in range(width):
                    panel[j] = row[q * width + j]
            if rest:
                panel = panels[(full * k + p) * width:(full * k + p) * width + width]
                for j in range(rest):
                    panel[j] = row[full * width + j]
                for j in range(rest, width):
                    panel[j] = 0

    @inline
    def pack_transposed(source: Any, column_stride: Any, first: Any, count: Any, k: Any, panels: Any) -> Any:
        """The same of a column-major matrix. Addresses."""
        for j in range(0, count, width):
            columns, panel = min(np.int64(width), count - j), panels + j * k * item
            transpose(source + (first + j) * column_stride * item, column_stride, columns, k, panel, np.int64(width))
            if columns < width:
                last = at(panel, k * width)
                for p in range(k):
                    for jj in range(columns, width):
                        last[p * width + jj] = 0

    @inline
    def flush(stage: Any, rows: Any, first_row: Any, columns: Any, first_column: Any, c: Any, c_stride: Any, bias: Any,
              activation: Any, slope: Any) -> Any:
        """Write a staged strip to C, whose columns are contiguous, with bias and activation."""
        for j in range(columns):
            start = (first_column + j) * c_stride + first_row
            out = c[start:start + rows]
            values = stage[j * strip:j * strip + rows]
            if bias.size:
                b = bias[first_row:first_row + rows]
                if activation == LEAKY_RELU:
                    for i in range(rows):
                        z = values[i] + b[i]
                        out[i] = z if z > 0 else slope * z
                elif activation == RELU:
                    for i in range(rows):
                        z = values[i] + b[i]
                        out[i] = 0 if z <= 0 else z
                else:
                    for i in range(rows):
                        out[i] = values[i] + b[i]
            else:
                for i in range(rows):
                    out[i] = values[i]

    @inline
    def share(t: Any, part: Any, parts: Any, scratch: Any) -> Any:
        zero, k, a_row, c_stride, b_step = np.int64(0), t[K], t[A_ROW], t[C_STRIDE], np.int64(width)
        top, bottom, left, right = np.int64(0), t[M], np.int64(0), t[N]
        if t[SPLIT_ROWS]:
            units = (t[M] + ROWS - 1) // ROWS
            top, bottom = units * part // parts * ROWS, min(t[M], units * (part + 1) // parts * ROWS)
        else:
            units = (t[N] + width - 1) // width
            left, right = units * part // parts * width, min(t[N], units * (part + 1) // parts * width)
        if top >= bottom or left >= right:
            return
        huge = np.int64(1) << 40  # the arrays' ends are the caller's business
        a, b, c = at(t[A], huge), at(t[B], huge), at(t[C], huge)
        bias = at(t[BIAS], t[M] if t[BIAS] else np.int64(0))
        slope = at(t[SLOPE], np.int64(1))[0] if t[SLOPE] else real(0)
        staged = t[STAGED] != 0

        panels_address = scratch
        panel_elements = max(np.int64(block), width * k)
        rows_address = panels_address + panel_elements * item
        # (Columns of A that are read for many panels compete for a few places of the cache.)
        direct = t[A_STEP] == 1 or t[N] <= FEW_PANELS * width
        b_rows_contiguous = t[B_COLUMN] == 1
        tile_address = rows_address + ((np.int64(0) if direct else bottom - top) + ROWS) * k * item
        stage_address = tile_address + width * ROWS * item
        strip_address = stage_address + strip * width * item
        panels, packed, tile = at(panels_address, huge), at(rows_address, huge), at(tile_address, huge)
        stage = at(stage_address, huge)

        last = (bottom - top) // ROWS * ROWS + top  # the first row of an incomplete block
        if not direct:
            transpose(t[A] + top * item, t[A_STEP], k, bottom - top, rows_address, k)
        elif last < bottom and (staged or bottom - top < ROWS):
            for i in range(ROWS):
                source = a[min(last + i, bottom - 1) * a_row:]
                for p in range(k):
                    packed[i * k + p] = source[p * t[A_STEP]]

        per_block = max(np.int64(1), block // (width * k) if k else np.int64(1)) * width
        for j0 in range(left, right, per_block):
            j1 = min(j0 + per_block, right)
            if b_rows_contiguous:
                whole = (j1 - j0) // width * width  # these columns the first block of rows packs as it goes
                pack_columns(b, t[B_STEP], j0 + whole, j1 - j0 - whole, k, panels[whole * k:])
            else:
                pack_transposed(t[B], t[B_COLUMN], j0, j1 - j0, k, panels_address)
            for i0 in range(top, bottom, strip if staged else ROWS):
                i1 = min(i0 + (strip if staged else ROWS), bottom)
                for i in range(i0, i1, ROWS):
                    rows, row = min(np.int64(ROWS), bottom - i), i
                    if not direct:
                        a_address, a_stride, a_step = rows_address + (i - top) * k * item, k, np.int64(1)
                    elif rows == ROWS or (not staged and bottom - top >= ROWS):
                        rows, row = np.int64(ROWS), min(i, bottom - ROWS)  # the last block does some rows once more
                        a_address, a_stride, a_step = t[A] + row * a_row * item, a_row, t[A_STEP]
                    else:
                        a_address, a_stride, a_step = rows_address, k, np.int64(1)
                    # With the first panel the next rows of A are fetched, and with the first rows the next panel.
                    following = np.int64(0)
                    if direct and (a_row == 1 or a_row < 2 * k):  # not where they are far apart
                        following = a_step if a_row == 1 else np.int64(ROWS)
                    for j in range(j0, j1, width):
                        columns = min(np.int64(width), j1 - j)
                        b_address = panels_address + (j - j0) * k * item
                        if staged:
                            c_address = strip_address + ((j - j0) * strip + (i - i0) * width) * item
                            c_step = np.int64(width)
                        elif rows == ROWS and columns == width:
                            c_address, c_step = t[C] + (row * c_stride + j) * item, c_stride
                        else:
                            c_address, c_step = tile_address, np.int64(width)
                        next_rows, next_step = a_address + ROWS * a_row * item, following if j == j0 else np.int64(0)
                        if i == top and b_rows_contiguous and columns == width:
                            panel = t[B] + j * item
                            multiply_and_pack(k, a_address, a_stride, a_step, b_address, b_step, c_address, c_step, zero,
                                              panel, t[B_STEP], panel + width * item, t[B_STEP])
                        else:
                            multiply(k, a_address, a_stride, a_step, b_address, b_step, c_address, c_step, zero, next_rows,
                                     next_step, a_address, zero)
                        if c_address != tile_address:
                            continue
                        for ii in range(rows):
                            for jj in range(columns):
                                c[(row + ii) * c_stride + j + jj] = tile[ii * width + jj]
                if staged:
                    for j in range(j0, j1, width):
                        transpose(strip_address + (j - j0) * strip * item, np.int64(width), np.int64(strip), np.int64(width),
                                  stage_address, np.int64(strip))
                        flush(stage, i1 - i0, i0, min(np.int64(width), j1 - j), j, c, c_stride, bias, t[ACTIVATION], slope)

    return share


@cache
def make(real: Any) -> int:
    """The address of the task C = activation(A @ B + bias) for elements of that type."""
    share = _share(real)
    item = real.bitwidth // 8

    @kernel(str(real))
    def gemm(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (WORDS,))
        share(t, part, parts, t[SCRATCH] + part * t[SCRATCH_WORDS] * item)

    return gemm


@cache
def make_batch(real: Any) -> int:
    """The address of the task that does many products: how many, the address of their words (WORDS each), into how many
    shares each is cut, the address of the parts' scratch memory, and the elements of it that each part has."""
    share = _share(real)
    item = real.bitwidth // 8

    @kernel(str(real))
    def batch(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (5,))
        products, shares = carray(address_of_words(t[1]), (t[0], WORDS)), t[2]
        units = t[0] * shares
        for unit in range(units * part // parts, units * (part + 1) // parts):
            share(products[unit // shares], unit % shares, shares, t[3] + part * t[4] * item)

    return batch
