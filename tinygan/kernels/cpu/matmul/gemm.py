"""Matrix products: C = A @ B, and the dense layer C = activation(A @ B + bias), for float32 and float64.

The scheme is Goto's ("Anatomy of high-performance matrix multiplication", 2008). A block of B, as large as half of a core's
second-level cache, is packed into panels, which the micro-kernel reads in order. A is read in place if its rows are
contiguous, or if there are few panels to multiply it by. Otherwise it is transposed first. Every part of the task computes
its own columns (or rows) of C, packs what it needs for them and waits for no other part.

The micro-kernel writes rows of C. But a dense layer computes C^T = W x^T, because then W need not be packed. Then the
columns of the computed matrix are contiguous in memory, not its rows. So a strip of its rows is first written to a stage,
which stays in the cache, and from there transposed to its place, in squares that fit into the registers.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray

from tinygan.kernels.activations import FUSED
from tinygan.kernels.cpu.activations.functions import chosen, formula
from tinygan.kernels.cpu.matmul import microkernel
from tinygan.kernels.cpu.matmul.packing import packers, transposer
from tinygan.kernels.cpu.runtime.arguments import dtype_of, record_at, task
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline

ROWS = microkernel.ROWS
STRIP_ROWS = 48  # rows of C that are staged together, rounded down to whole blocks of the micro-kernel
STRIP_ROWS -= STRIP_ROWS % ROWS
MOST_PANELS_IN_PLACE = 6  # with more panels of B, an A with contiguous columns is transposed before it is read
BLOCK_BYTES = 256 * 1024  # the bytes of B that are packed at once


class Product(NamedTuple):
    """The arguments of the task. Strides count elements."""

    a: int
    """Address of A (m, k)."""
    a_row: int
    """The stride from row to row of A."""
    a_step: int
    """The stride from column to column of A."""
    b: int
    """Address of B (k, n)."""
    b_step: int
    """The stride from row to row of B."""
    b_column: int
    """The stride from column to column of B."""
    c: int
    """Address of C (m, n), or of its transpose (n, m) if `staged`. The rows of the array there are contiguous."""
    c_stride: int
    """The stride from row to row of the array at `c`."""
    staged: int
    m: int
    n: int
    k: int
    split_rows: int
    """1: the parts share the rows of C. 0: its columns."""
    bias: int = 0
    """Address of one number for each row of C if `staged`, for each column of C otherwise. 0 for none."""
    activation: int = 0
    """The code of a fused activation. Only with a bias."""
    slope: float = 0.0
    scratch: int = 0
    """Address of the scratch memory of all parts. Unused in a batch, which has its own."""
    scratch_elements: int = 0
    """Elements of scratch memory for each part."""


class Batch(NamedTuple):
    """The arguments of the task that computes many products."""

    products: int
    """Address of an array of PRODUCTS."""
    size: int
    """The number of products."""
    shares: int
    """How many shares each product is cut into."""
    scratch: int
    scratch_elements: int


PRODUCTS = dtype_of(Product)
"""The dtype of an array of products."""


def columns(dtype: Any) -> int:
    """How many columns a block of the micro-kernel has."""
    return microkernel.columns(np.dtype(dtype).itemsize)


@cache
def scratch_elements(m: int, n: int, k: int, direct: bool, staged: bool, dtype: Any) -> int:
    """How many elements of scratch memory a part of the task needs. direct: whether A is read in place."""
    width = columns(dtype)
    panels = max(BLOCK_BYTES // np.dtype(dtype).itemsize, width * k)
    packed_rows = ROWS * k if direct else (m + ROWS) * k
    stage = STRIP_ROWS * (n + 2 * width) if staged else 0
    return panels + packed_rows + width * ROWS + stage


@cache
def _flusher(real: Any) -> Any:
    """A function for kernels, (t, stage, rows, first_row, columns, first_column): write a staged strip to C, whose columns
    are contiguous, and apply bias and activation.

    One loop does it all, because C is not in the cache. Each activation has its own loop over all columns, because a call
    for each column would take as long as the column itself.
    """
    pointer = pointer_to(real)
    item = real.bitwidth // 8

    @inline
    def column(t: Any, j: Any, stage: Any, rows: Any, first_row: Any, first_column: Any) -> Any:
        out = carray(pointer(t.c + ((first_column + j) * t.c_stride + first_row) * item), (rows,))
        return out, carray(pointer(stage + j * STRIP_ROWS * item), (rows,))

    def finisher(name: str) -> Any:
        value = formula(name, "value", real)

        @inline
        def finish(t: Any, stage: Any, rows: Any, first_row: Any, columns: Any, first_column: Any) -> None:
            slope, bias = real(t.slope), carray(pointer(t.bias + first_row * item), (rows,))
            for j in range(columns):
                out, values = column(t, j, stage, rows, first_row, first_column)
                for i in range(rows):
                    out[i] = value(values[i] + bias[i], slope)

        return finish

    finish = chosen(FUSED, finisher)

    @inline
    def flush(t: Any, stage: Any, rows: Any, first_row: Any, columns: Any, first_column: Any) -> None:
        if t.bias:
            finish(t.activation, t, stage, rows, first_row, columns, first_column)
            return
        for j in range(columns):
            out, values = column(t, j, stage, rows, first_row, first_column)
            for i in range(rows):
                out[i] = values[i]

    return flush


@cache
def _finisher(real: Any) -> Any:
    """A function for kernels, (t, first row, end, first column, end): apply bias and activation to a block of C in its
    place, whose rows are contiguous."""
    pointer, item = pointer_to(real), real.bitwidth // 8

    def finisher(name: str) -> Any:
        value = formula(name, "value", real)

        @inline
        def finish(t: Any, i0: Any, i1: Any, j0: Any, j1: Any) -> None:
            slope, bias = real(t.slope), carray(pointer(t.bias + j0 * item), (j1 - j0,))
            for i in range(i0, i1):
                out = carray(pointer(t.c + (i * t.c_stride + j0) * item), (j1 - j0,))
                for j in range(out.size):
                    out[j] = value(out[j] + bias[j], slope)

        return finish

    return chosen(FUSED, finisher)


@cache
def _row_packer(real: Any) -> Any:
    """A function for kernels, (t, top, bottom, direct, packed): copy the rows of A that the micro-kernel cannot read in
    place. If `direct` these are only the rows of an incomplete last block, else all rows."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    transpose = transposer(real)

    @inline
    def pack_rows(t: Any, top: Any, bottom: Any, direct: Any, packed: Any) -> None:
        last = (bottom - top) // ROWS * ROWS + top  # the first row of an incomplete block
        if not direct:
            transpose(t.a + top * item, t.a_step, t.k, bottom - top, packed, t.k)
        elif last < bottom and (t.staged or bottom - top < ROWS):
            for i in range(ROWS):
                target = carray(pointer(packed + i * t.k * item), (t.k,))
                source = carray(pointer(t.a + min(last + i, bottom - 1) * t.a_row * item), (t.k * t.a_step,))
                for p in range(t.k):
                    target[p] = source[p * t.a_step]

    return pack_rows


@cache
def _multiplier(real: Any) -> Any:
    """A function for kernels: compute rows i0 to i1 of C in its columns j0 to j1. The panels of B have been packed before;
    if B is row-major, the first block of rows packs them while it multiplies. The result goes to C or, if staged, to
    `strip`. Blocks that reach beyond the edge of C are first written to `tile`."""
    pointer = pointer_to(real)
    multiply = microkernel.make(real)
    multiply_and_pack = microkernel.make(real, packing=True)
    item = real.bitwidth // 8
    width = microkernel.columns(item)

    @inline
    def multiply_rows(t: Any, i0: Any, i1: Any, top: Any, bottom: Any, j0: Any, j1: Any, direct: Any, panels: Any,
                      packed: Any, tile: Any, strip: Any) -> None:
        zero, one, k, b_step = np.int64(0), np.int64(1), t.k, np.int64(width)
        for i in range(i0, i1, ROWS):
            rows, row = min(np.int64(ROWS), bottom - i), i
            a, a_stride, a_step = packed, k, one
            if not direct:
                a = packed + (i - top) * k * item
            elif rows == ROWS or (not t.staged and bottom - top >= ROWS):
                rows, row = np.int64(ROWS), min(i, bottom - ROWS)  # the last block computes some rows a second time
                a, a_stride, a_step = t.a + row * t.a_row * item, t.a_row, t.a_step
            # The first panel prefetches the next rows of A, and the first block of rows prefetches the next panel.
            following = zero
            if direct and (t.a_row == 1 or t.a_row < 2 * k):  # not if the rows are far apart
                following = a_step if t.a_row == 1 else np.int64(ROWS)
            for j in range(j0, j1, width):
                columns = min(np.int64(width), j1 - j)
                b = panels + (j - j0) * k * item
                if t.staged:
                    c, c_step = strip + ((j - j0) * STRIP_ROWS + (i - i0) * width) * item, np.int64(width)
                elif rows == ROWS and columns == width:
                    c, c_step = t.c + (row * t.c_stride + j) * item, t.c_stride
                else:
                    c, c_step = tile, np.int64(width)
                if i == top and t.b_column == 1 and columns == width:
                    panel = t.b + j * item
                    multiply_and_pack(k, a, a_stride, a_step, b, b_step, c, c_step, zero, panel, t.b_step,
                                      panel + width * item, t.b_step)
                else:
                    multiply(k, a, a_stride, a_step, b, b_step, c, c_step, zero, a + ROWS * t.a_row * item,
                             following if j == j0 else zero, a, zero)
                if c != tile:
                    continue
                for ii in range(rows):
                    source = carray(pointer(tile + ii * width * item), (columns,))
                    target = carray(pointer(t.c + ((row + ii) * t.c_stride + j) * item), (columns,))
                    for jj in range(columns):
                        target[jj] = source[jj]

    return multiply_rows


@cache
def _share(real: Any) -> Any:
    """A function for kernels, (t, part, parts, scratch): compute the share of one part of a product."""
    item = real.bitwidth // 8
    width = microkernel.columns(item)
    block = BLOCK_BYTES // item
    transpose = transposer(real)
    pack_columns, pack_transposed = packers(real)
    pack_rows, multiply_rows = _row_packer(real), _multiplier(real)
    flush, finish = _flusher(real), _finisher(real)

    @inline
    def cut(t: Any, part: Any, parts: Any) -> Any:
        """The share of a part, in whole blocks of the micro-kernel: (first row, end, first column, end)."""
        if t.split_rows:
            units = (t.m + ROWS - 1) // ROWS
            return units * part // parts * ROWS, min(t.m, units * (part + 1) // parts * ROWS), np.int64(0), t.n
        units = (t.n + width - 1) // width
        return np.int64(0), t.m, units * part // parts * width, min(t.n, units * (part + 1) // parts * width)

    @inline
    def share(t: Any, part: Any, parts: Any, scratch: Any) -> None:
        top, bottom, left, right = cut(t, part, parts)
        if top >= bottom or left >= right:
            return
        k = t.k
        # (Reading contiguous columns of A for many panels would be slow: they compete for the same lines of the cache.)
        direct = t.a_step == 1 or t.n <= MOST_PANELS_IN_PLACE * width
        panels = scratch
        packed = panels + max(np.int64(block), width * k) * item
        tile = packed + ((np.int64(0) if direct else bottom - top) + ROWS) * k * item
        stage = tile + width * ROWS * item
        strip = stage + STRIP_ROWS * width * item
        pack_rows(t, top, bottom, direct, packed)
        per_block = max(np.int64(1), block // (width * k) if k else np.int64(1)) * width
        for j0 in range(left, right, per_block):
            j1 = min(j0 + per_block, right)
            if t.b_column == 1:
                whole = (j1 - j0) // width * width  # the first block of rows packs these columns while it multiplies
                pack_columns(t.b, t.b_step, j0 + whole, j1 - j0 - whole, k, panels + whole * k * item)
            else:
                pack_transposed(t.b, t.b_column, j0, j1 - j0, k, panels)
            rows_at_once = STRIP_ROWS if t.staged or t.bias else ROWS
            for i0 in range(top, bottom, rows_at_once):
                i1 = min(i0 + rows_at_once, bottom)
                multiply_rows(t, i0, i1, top, bottom, j0, j1, direct, panels, packed, tile, strip)
                if t.bias and not t.staged:
                    # (The last block may have computed rows before i0 again.)
                    again = min(i0, bottom - ROWS) if bottom - top >= ROWS else i0
                    finish(t.activation, t, again, i1, j0, j1)
                if t.staged:
                    for j in range(j0, j1, width):
                        transpose(strip + (j - j0) * STRIP_ROWS * item, np.int64(width), np.int64(STRIP_ROWS),
                                  np.int64(width), stage, np.int64(STRIP_ROWS))
                        flush(t, stage, i1 - i0, i0, min(np.int64(width), j1 - j), j)

    return share


@cache
def make(real: Any) -> int:
    """The address of the task that computes one `Product`, for elements of that type."""
    share = _share(real)
    item = real.bitwidth // 8

    @task(Product, str(real))
    def gemm(t: Any, part: Any, parts: Any) -> None:
        share(t, part, parts, t.scratch + part * t.scratch_elements * item)

    return gemm


@cache
def make_batch(real: Any) -> int:
    """The address of the task that computes a `Batch`, for elements of that type."""
    share, product_at = _share(real), record_at(Product)
    item, record_bytes = real.bitwidth // 8, PRODUCTS.itemsize

    @task(Batch, str(real))
    def batch(t: Any, part: Any, parts: Any) -> None:
        units = t.size * t.shares
        for unit in range(units * part // parts, units * (part + 1) // parts):
            product = product_at(t.products + unit // t.shares * record_bytes)
            share(product, unit % t.shares, t.shares, t.scratch + part * t.scratch_elements * item)

    return batch
