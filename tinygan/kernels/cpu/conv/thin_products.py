"""The innermost loops of `thin`: products of numbers with vectors that have one kernel in each lane. The sums stay in
registers."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygan.kernels.cpu.runtime.registers import Registers
from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES

# A block of sums that fits into the registers: pixels times vectors of kernels, or taps times vectors of kernels. Where
# several numbers are given, the sizes decide which. A block leaves registers for its vectors of factors and for one number.
PIXEL_VECTORS, PIXELS_AT_ONCE = 2, ((8, 4, 1) if VECTOR_BYTES == 64 else (4, 1))
TAP_VECTORS, TAPS_AT_ONCE = (4 if VECTOR_BYTES == 64 else 2), (6, 5, 4, 3)
PREFETCHED_FROM_TAPS = 32  # with fewer taps, prefetching the pixels of the map takes longer than it saves


def _function(name: str, real: Any, count: int, define: Callable[[Registers, list[Any]], None]) -> Any:
    """A function for kernels of `count` whole numbers, whose instructions `define` emits.

    It is compiled as a function of its own. Inside a task with its many variables, the compiler would not keep all variables
    of the loop in registers.
    """
    word = ir.IntType(64)

    @intrinsic
    def call(typing: Any, arguments: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            function = builder.module.globals.get(name)
            if function is None:
                function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [word] * count), name)
                function.linkage = "internal"
                function.attributes.add("noinline")
                function.attributes.add("nounwind")
                inside = ir.IRBuilder(function.append_basic_block("entry"))
                define(Registers(inside, real), list(function.args))
                inside.ret_void()
            builder.call(function, [builder.extract_value(args[0], i) for i in range(count)])
            return context.get_dummy_value()

        return types.void(types.UniTuple(types.int64, count)), code

    return call


def _products(emit: Registers, rows: Any, count: Any, sums: list[Any], factors: Callable[[Any, Any], Any]) -> list[Any]:
    """Add to the sums the products factors(row, p), for each row and each p < count."""
    return emit.loop(rows, sums, lambda row, totals: emit.add_products(count, totals, lambda p: factors(row, p)))


def _prefetch(emit: Registers, address: Any) -> None:
    """Have the cache line at an address brought into the first-level cache, where it will be written."""
    b, small, byte = emit.builder, ir.IntType(32), ir.IntType(8).as_pointer()
    fetch = cgutils.get_or_insert_function(b.module, ir.FunctionType(ir.VoidType(), [byte, small, small, small]),
                                           "llvm.prefetch.p0")
    b.call(fetch, [b.inttoptr(address, byte), small(1), small(3), small(1)])


def pixel_products(real: Any, pixels: int, vectors: int) -> Any:
    """A function for kernels that computes `vectors` vectors of kernels for `pixels` neighbouring pixels of the map. Its
    argument is a tuple:

    (rows, count, x, x_row, x_pixel, weights, weights_row, bias, y, y_pixel)

    y[q, v] = bias[v] + sum over row < rows, p < count of x[row, q, p] * weights[row * count + p, v]. x[row, q, p] is at
    x + row * x_row + q * x_pixel, p elements on. rows and count must be positive.
    """
    item = real.bitwidth // 8

    def define(emit: Registers, arguments: list[Any]) -> None:
        rows, count, x, x_row, x_pixel, weights, weights_row, bias, y, y_pixel = arguments
        b = emit.builder
        w_step = b.mul(count, weights_row)

        def factors(row: Any, p: Any) -> list[Any]:
            left, right = b.add(x, b.mul(row, x_row)), b.add(weights, b.mul(row, w_step))
            left = emit.after(left, item, p)
            right = b.add(right, b.mul(p, weights_row))
            values = [emit.load_everywhere(emit.place(left, x_pixel, q)) for q in range(pixels)]
            return list(itertools.product(values, [emit.load(emit.shift(right, v * VECTOR_BYTES)) for v in range(vectors)]))

        def places() -> list[Any]:
            return [emit.place(y, y_pixel, q, v * VECTOR_BYTES) for q in range(pixels) for v in range(vectors)]

        with b.if_then(b.icmp_signed(">=", b.mul(rows, count), ir.Constant(emit.word, PREFETCHED_FROM_TAPS))):
            for place in places():
                _prefetch(emit, place)
        first = [emit.load(emit.shift(bias, v * VECTOR_BYTES)) for v in range(vectors)]
        totals = _products(emit, rows, count, first * pixels, factors)
        for total, place in zip(totals, places(), strict=True):
            emit.store(total, place)

    return _function(f"pixel_products_{item}_{pixels}_{vectors}", real, 10, define)


def tap_products(real: Any, taps: int, vectors: int) -> Any:
    """A function for kernels that sums over the pixels of some rows of the map, for `taps` neighbouring taps and `vectors`
    vectors of kernels. Its argument is a tuple:

    (rows, count, x, x_row, x_pixel, y, y_pixel, sums, sums_row)

    sums[t, v] += sum over row < rows, p < count of x[row, p, t] * y[row * count + p, v]. x[row, p, t] is at
    x + row * x_row + p * x_pixel, t elements on. rows and count must be positive.
    """
    item = real.bitwidth // 8

    def define(emit: Registers, arguments: list[Any]) -> None:
        rows, count, x, x_row, x_pixel, y, y_pixel, sums, sums_row = arguments
        b = emit.builder
        y_row = b.mul(count, y_pixel)

        def factors(row: Any, p: Any) -> list[Any]:
            left = b.add(b.add(x, b.mul(row, x_row)), b.mul(p, x_pixel))
            right = b.add(b.add(y, b.mul(row, y_row)), b.mul(p, y_pixel))
            values = [emit.load_everywhere(emit.shift(left, t * item)) for t in range(taps)]
            return list(itertools.product(values, [emit.load(emit.shift(right, v * VECTOR_BYTES)) for v in range(vectors)]))

        places = [emit.place(sums, sums_row, t, v * VECTOR_BYTES) for t in range(taps) for v in range(vectors)]
        # The sum over these rows begins at zero, and is added last: long sums in steps of similar size round less.
        nothing = ir.Constant(emit.vector, [0.0] * emit.lanes)
        totals = _products(emit, rows, count, [nothing] * len(places), factors)
        for total, place in zip(totals, places, strict=True):
            emit.store(b.fadd(emit.load(place), total), place)

    return _function(f"tap_products_{item}_{taps}_{vectors}", real, 9, define)
