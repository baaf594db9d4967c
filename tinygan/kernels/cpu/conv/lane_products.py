"""The innermost loops of `lanes`: products of vectors with one image in each lane. The sums stay in registers."""
from __future__ import annotations

import itertools
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygan.kernels.cpu.runtime.registers import Registers
from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES

SUMS_HELD = 16 if VECTOR_BYTES == 64 else 8  # registers for sums; the other registers are for the factors
CHANNELS_AT_ONCE = SUMS_HELD // 2  # channels of the target
PIXELS_AT_ONCE = 8  # pixels of the target
KERNELS_AT_ONCE = 4  # in the gradient of a weight
ROWS_AT_ONCE = 8  # in the gradient of a weight; a row is one tap of a kernel's row in one channel
ENTRY_BYTES = 16  # of an entry in the table of rows: the address of a row of pixels and the address of its weights


def row_filter(real: Any, channels: int) -> Any:
    """(apply_filter, pixels): a function for kernels that computes `channels` channels of `pixels` neighbouring pixels.

    apply_filter(rows, table, count, x, x_pixel, weights, weights_row, y, y_pixel) computes, for vectors x and y,
    y[q, j] += sum of x[q, p] * weights[p, j] over the `rows` entries of the table and over p < count. Each entry has the
    address of a row of pixels and the address of its weights; x and weights are distances from there.
    """
    pixels = min(PIXELS_AT_ONCE, SUMS_HELD // channels)
    item = real.bitwidth // 8

    @intrinsic
    def apply_filter(typing: Any, rows: Any, table: Any, count: Any, x: Any, x_pixel: Any, weights: Any, weights_row: Any,
                     y: Any, y_pixel: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows, table, count, x, x_pixel, weights, weights_row, y, y_pixel = args
            emit = Registers(builder, real)
            places = [emit.place(y, y_pixel, q, j * VECTOR_BYTES) for q in range(pixels) for j in range(channels)]

            def add_row(r: Any, sums: list[Any]) -> list[Any]:
                entry = builder.add(table, builder.mul(r, ir.Constant(emit.word, ENTRY_BYTES)))
                x_row, w_row = (
                    builder.add(base, builder.load(builder.inttoptr(emit.place(entry, r, 0, 8 * i), emit.word.as_pointer())))
                    for i, base in enumerate((x, weights)))

                def factors(p: Any) -> list[Any]:
                    row = builder.add(w_row, builder.mul(p, weights_row))
                    at_once = [emit.load_everywhere(emit.place(row, p, 0, j * item)) for j in range(channels)]
                    column = builder.add(x_row, builder.mul(p, ir.Constant(emit.word, VECTOR_BYTES)))
                    values = [emit.load(emit.place(column, x_pixel, q)) for q in range(pixels)]
                    return list(itertools.product(values, at_once))

                return emit.add_products(count, sums, factors)

            totals = emit.loop(rows, [emit.load(place) for place in places], add_row)
            for total, place in zip(totals, places, strict=True):
                emit.store(total, place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), code

    return apply_filter, pixels


def outer_products(real: Any, kernels: int) -> Any:
    """(add_outer, rows): a function for kernels that adds outer products of vectors to a block of `rows` rows.

    add_outer(count, x, x_pixel, y, y_pixel, sums, sums_row) computes sums[i, j] += sum of x[i] * y[j] over `count` pixels,
    for i < rows and j < kernels. count must be positive.
    """
    rows = min(ROWS_AT_ONCE, SUMS_HELD // kernels)

    @intrinsic
    def add_outer(typing: Any, count: Any, x: Any, x_pixel: Any, y: Any, y_pixel: Any, sums: Any, sums_row: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            count, x, x_pixel, y, y_pixel, sums, sums_row = args
            emit = Registers(builder, real)

            def factors(p: Any) -> list[Any]:
                left, right = builder.add(x, builder.mul(p, x_pixel)), builder.add(y, builder.mul(p, y_pixel))
                columns = [emit.load(emit.place(right, p, 0, j * VECTOR_BYTES)) for j in range(kernels)]
                values = [emit.load(emit.place(left, p, 0, i * VECTOR_BYTES)) for i in range(rows)]
                return list(itertools.product(values, columns))

            places = [emit.place(sums, sums_row, i, j * VECTOR_BYTES) for i in range(rows) for j in range(kernels)]
            totals = emit.add_products(count, [emit.load(place) for place in places], factors)
            for total, place in zip(totals, places, strict=True):
                emit.store(total, place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), code

    return add_outer, rows
