"""The innermost loops of `grouped`: products of vectors with one channel in each lane. The sums stay in registers.

The vectors and images are those of `grouped`. A group has a slot of `slot` lanes in each vector. *Spreading* a vector by d
writes the element in lane d of each slot to all lanes of that slot. If a slot is a whole register, an element is loaded into
all lanes instead.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygan.kernels.cpu.runtime.registers import Registers
from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES, lanes_of

SUMS_HELD = 24 if VECTOR_BYTES == 64 else 12  # registers for sums in the gradient of a weight
TILES_MULTIPLIED = 16 if VECTOR_BYTES == 64 else 8  # at once: there are registers for so many sums

Sums = list[Any]


def kernels_at_once(slot: int, lanes: int) -> int:
    """How many kernels of a group the gradient of a weight computes at once."""
    return slot if slot < lanes else min(lanes, SUMS_HELD // 3)


def rows_at_once(slot: int, height: int, taps: int) -> int:
    """How many rows of a kernel of that height the gradient of a weight computes at once. Small slots need few sums."""
    return 3 if height == taps == 3 and 9 * slot <= SUMS_HELD else 1


@intrinsic
def prefetch(typing: Any, address: Any) -> Any:
    """For kernels: have the cache line at an address brought into the second-level cache."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, small = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, small, small, small]), "llvm.prefetch.p0")
        builder.call(function, [builder.inttoptr(args[0], byte), small(0), small(2), small(1)])
        return context.get_dummy_value()

    return types.void(types.int64), code


def _for_each_lane(emit: Registers, slot: int, places: list[Any], depth: Any, sums: Sums,
                   add: Callable[[Any, list[Any], Sums], Sums]) -> Sums:
    """sums = add(d, operands, sums) for each lane d of a slot, or for d < depth if a slot is a whole register. operands: the
    vectors at `places`, spread by d."""
    if slot == emit.lanes:
        return emit.loop(depth, sums, lambda d, totals: add(
            d, [emit.load_everywhere(emit.after(place, emit.align, d)) for place in places], totals))
    vectors, nothing, kind = [emit.load(place) for place in places], ir.Constant(emit.vector, ir.Undefined), ir.IntType(32)
    for d in range(slot):
        lanes = ir.Constant(ir.VectorType(kind, emit.lanes), [lane // slot * slot + d for lane in range(emit.lanes)])
        spread = [vector if slot == 1 else emit.builder.shuffle_vector(vector, nothing, lanes) for vector in vectors]
        sums = add(ir.Constant(emit.word, d), spread, sums)
    return sums


def tile_filter(real: Any, slot: int, rows: int, pixels: int, taps: int) -> Any:
    """A function for kernels that computes one vector of `pixels` neighbouring pixels in each of `rows` rows of the target.

    filter_tile(height, width, depth, x, x_row, x_pixel, tap_row, tap_pixel, weights, weights_row, start, start_row,
    start_pixel, out, out_row) computes out[r, q] = start[r, q] + the sum over i < height, j < width and d of
    spread(x[r, q, i, j], d) * weights[i, d, j]. x[r, q, i, j] is at x + r * x_row + q * x_pixel + i * tap_row +
    j * tap_pixel. depth: as for `_for_each_lane`. taps: 3 if width is 3, and x_pixel and tap_pixel are both one vector;
    then a vector is spread once for all products with it. Otherwise 1.
    """
    together = taps == 3

    @intrinsic
    def filter_tile(typing: Any, height: Any, width: Any, depth: Any, x: Any, x_row: Any, x_pixel: Any, tap_row: Any,
                    tap_pixel: Any, weights: Any, weights_row: Any, start: Any, start_row: Any, start_pixel: Any, out: Any,
                    out_row: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (height, width, depth, x, x_row, x_pixel, tap_row, tap_pixel, weights, weights_row, start, start_row,
             start_pixel, out, out_row) = args
            emit = Registers(builder, real)
            places = [(r, q) for r in range(rows) for q in range(pixels)]

            def add_taps(x: Any, weights: Any, sums: Sums) -> Sums:
                """Add the products with one tap, or with all three of a row."""
                across = pixels + taps - 1
                operands = [emit.shift(emit.place(x, x_row, r), q * VECTOR_BYTES) if together else
                            builder.add(emit.place(x, x_row, r), emit.place(ir.Constant(emit.word, 0), x_pixel, q))
                            for r in range(rows) for q in range(across)]

                def add(d: Any, spread: list[Any], sums: Sums) -> Sums:
                    row = (emit.after(weights, 3 * VECTOR_BYTES, d) if together else
                           builder.add(weights, builder.mul(d, emit.place(ir.Constant(emit.word, 0), width, VECTOR_BYTES))))
                    for j in range(taps):
                        weight = emit.load(emit.shift(row, j * VECTOR_BYTES))
                        sums = [builder.call(emit.fma, [spread[r * across + q + j], weight, total])
                                for (r, q), total in zip(places, sums, strict=True)]
                    return sums

                return _for_each_lane(emit, slot, operands, depth, sums, add)

            def add_row(i: Any, sums: Sums) -> Sums:
                row, kernel = builder.add(x, builder.mul(i, tap_row)), builder.add(weights, builder.mul(i, weights_row))
                if together:
                    return add_taps(row, kernel, sums)
                return emit.loop(width, sums, lambda j, totals: add_taps(
                    builder.add(row, builder.mul(j, tap_pixel)), emit.after(kernel, VECTOR_BYTES, j), totals))

            first = [emit.load(emit.place(emit.place(start, start_row, r), start_pixel, q)) for r, q in places]
            for (r, q), total in zip(places, emit.loop(height, first, add_row), strict=True):
                emit.store(total, emit.place(out, out_row, r, q * VECTOR_BYTES))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 15), code

    return filter_tile


def tap_products(real: Any, slot: int, rows: int, taps: int) -> Any:
    """A function for kernels that adds up the gradient of `rows` rows and `taps` columns of a kernel.

    add_products(height, width, x, x_row, x_pixel, tap_row, y, y_row, sums, sums_row, sums_depth) computes
    sums[i, d, j] += the sum over r < height and q < width of spread(y[r, q], d) * x[r, q, i, j], for i < rows, j < taps and
    d < kernels_at_once. x[r, q, i, j] is at x + r * x_row + q * x_pixel + i * tap_row + j vectors, and sums[i, d, j] at
    sums + i * sums_row + d * sums_depth + j vectors. taps: as for `tile_filter`. height and width must be positive.
    """
    lanes, item = lanes_of(real), real.bitwidth // 8
    depth = kernels_at_once(slot, lanes)

    @intrinsic
    def add_products(typing: Any, height: Any, width: Any, x: Any, x_row: Any, x_pixel: Any, tap_row: Any, y: Any,
                     y_row: Any, sums: Any, sums_row: Any, sums_depth: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            height, width, x, x_row, x_pixel, tap_row, y, y_row, sums, sums_row, sums_depth = args
            emit = Registers(builder, real)
            if taps == 3:
                x_pixel = ir.Constant(emit.word, VECTOR_BYTES)

            def add_pixel(x: Any, y: Any, totals: Sums) -> Sums:
                columns = [emit.load(emit.place(x, tap_row, i, j * VECTOR_BYTES)) for i in range(rows) for j in range(taps)]
                many = len(columns)

                def add(d: int, operand: Any, totals: Sums) -> Sums:
                    return totals[:d * many] + [
                        builder.call(emit.fma, [operand, column, total])
                        for column, total in zip(columns, totals[d * many:(d + 1) * many], strict=True)
                    ] + totals[(d + 1) * many:]

                if slot == lanes:
                    for d in range(depth):
                        totals = add(d, emit.load_everywhere(emit.shift(y, d * item)), totals)
                    return totals
                return _for_each_lane(emit, slot, [y], None, totals,
                                      lambda d, spread, totals: add(d.constant, spread[0], totals))

            def add_row(r: Any, totals: Sums) -> Sums:
                x_of, y_of = builder.add(x, builder.mul(r, x_row)), builder.add(y, builder.mul(r, y_row))
                return emit.loop(width, totals, lambda q, totals: add_pixel(
                    builder.add(x_of, builder.mul(q, x_pixel)), emit.after(y_of, VECTOR_BYTES, q), totals))

            zero = ir.Constant(emit.vector, [0.0] * lanes)
            found = emit.loop(height, [zero] * (depth * rows * taps), add_row)
            places = [emit.place(emit.place(sums, sums_depth, d), sums_row, i, j * VECTOR_BYTES)
                      for d in range(depth) for i in range(rows) for j in range(taps)]
            for total, place in zip(found, places, strict=True):
                emit.store(builder.fadd(emit.load(place), total), place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), code

    return add_products


def multiply_tiles(real: Any, slot: int) -> Any:
    """A function for kernels that multiplies one slot of TILES_MULTIPLIED tiles, at one point, by weights.

    multiply(vectors, depth, x, x_vector, weights, weights_vector, out) computes out[t][k] = the sum over d < depth of
    x[t, d] * weights[d][k], for all lanes k of a slot. x[t, d] is element d % lanes of the vector x + t vectors +
    d // lanes * x_vector. weights[d] is vector d % lanes at weights + d // lanes * weights_vector. out[t] is t vectors after
    out, where x may be, too. Only if a slot is a whole register there may be several `vectors`.
    """
    item = real.bitwidth // 8

    @intrinsic
    def multiply(typing: Any, vectors: Any, depth: Any, x: Any, x_vector: Any, weights: Any, weights_vector: Any,
                 out: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors, depth, x, x_vector, weights, weights_vector, out = args
            emit = Registers(builder, real, slot)
            width, zero = ir.Constant(emit.word, slot), ir.Constant(emit.vector, [0.0] * slot)

            def add_vector(vector: Any, sums: Sums) -> Sums:
                values = builder.add(x, builder.mul(vector, x_vector))
                rows = builder.add(weights, builder.mul(vector, weights_vector))
                rest = builder.sub(depth, builder.mul(vector, width))
                count = builder.select(builder.icmp_signed("<", rest, width), rest, width)

                def add(d: Any, sums: Sums) -> Sums:
                    row, value = emit.load(emit.after(rows, VECTOR_BYTES, d)), emit.after(values, item, d)
                    return [builder.call(emit.fma, [emit.load_everywhere(emit.shift(value, t * VECTOR_BYTES)), row, total])
                            for t, total in enumerate(sums)]

                return emit.loop(count, sums, add)

            for t, total in enumerate(emit.loop(vectors, [zero] * TILES_MULTIPLIED, add_vector)):
                emit.store(total, emit.shift(out, t * VECTOR_BYTES))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), code

    return multiply


def multiply_points(real: Any, slot: int) -> Any:
    """A function for kernels that adds up the products of one vector of some tiles at one point.

    add_products(tiles, x, y, sums) computes sums[d] += the sum over t < tiles of spread(y[t], d) * x[t], for d < slot. x[t],
    y[t] and sums[d] are t and d vectors after the addresses. tiles must be positive.
    """
    lanes, item = lanes_of(real), real.bitwidth // 8

    @intrinsic
    def add_products(typing: Any, tiles: Any, x: Any, y: Any, sums: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            tiles, x, y, sums = args
            emit = Registers(builder, real, slot)
            slots = range(0, lanes, slot)  # each has its own registers, so that no sum has to wait for the last one

            def add(t: Any, totals: Sums) -> Sums:
                x_of, y_of = emit.after(x, VECTOR_BYTES, t), emit.after(y, VECTOR_BYTES, t)
                factors = [(emit.load_everywhere(emit.shift(y_of, (first + d) * item)), row)
                           for first in slots for row in [emit.load(emit.shift(x_of, first * item))] for d in range(slot)]
                return [builder.call(emit.fma, [value, row, total])
                        for (value, row), total in zip(factors, totals, strict=True)]

            found = emit.loop(tiles, [ir.Constant(emit.vector, [0.0] * slot)] * lanes, add)
            places = [emit.shift(sums, d * VECTOR_BYTES + first * item) for first in slots for d in range(slot)]
            for total, place in zip(found, places, strict=True):
                emit.store(builder.fadd(emit.load(place), total), place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), code

    return add_products
