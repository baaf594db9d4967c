"""Functions on rows, for the kernels of a perceptron. A row has the values of one feature for EXAMPLES_AT_ONCE examples.

The functions take addresses, because Numba passes an array as seven arguments.
"""
from __future__ import annotations

from functools import cache, reduce
from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from tinygan.kernels.activations import BY_NAME, KNOWN_FROM_RESULT
from tinygan.kernels.cpu.activations.functions import chosen, formula
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.registers import Registers
from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES

EXAMPLES_AT_ONCE = VECTOR_BYTES  # as many examples as a vector register has bytes: whole registers for every dtype


@cache
def sums_of_products(real: Any) -> tuple[Any, Any, Any]:
    """Three intrinsics for rows. `rows` is the address of row 0; row i + 1 follows row i.

    combine(target, adding, base, factors, step, rows, count): the sum over i < count of row i times the number at the
    address factors + i * step. The row at `target` becomes base + this sum. If `adding`, the sum is added to it instead.
    add_products(sums, e, rows, count): for each i < count, add the inner product of row i and the row e to number i of sums.
    add_up(total, e): add the sum of the row e to the number at `total`.
    """
    item = real.bitwidth // 8
    row_bytes = EXAMPLES_AT_ONCE * item
    parts = range(0, row_bytes, VECTOR_BYTES)

    @intrinsic
    def combine(typing: Any, target: Any, adding: Any, base: Any, factors: Any, step: Any, rows: Any, count: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            target, adding, base, factors, step, rows, count = args
            emit = Registers(builder, real)
            start, places = emit.everywhere(base), [emit.shift(target, part) for part in parts]
            totals = [builder.select(adding, emit.load(place), start) for place in places]

            def products(i: Any) -> list[Any]:
                factor = emit.load_everywhere(builder.add(factors, builder.mul(i, step)))
                return [(factor, emit.load(emit.after(rows, row_bytes, i, part))) for part in parts]

            for value, place in zip(emit.add_products(count, totals, products), places, strict=True):
                emit.store(value, place)
            return context.get_dummy_value()

        return types.void(types.int64, types.boolean, real, *[types.int64] * 4), code

    @intrinsic
    def add_products(typing: Any, sums: Any, e: Any, rows: Any, count: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sums, e, rows, count = args
            emit = Registers(builder, real)
            factors = [emit.load(emit.shift(e, part)) for part in parts]

            def add(i: Any, _: list[Any]) -> list[Any]:
                total = ir.Constant(emit.vector, [0.0] * emit.lanes)
                for part, factor in zip(parts, factors, strict=True):
                    row = emit.load(emit.after(rows, row_bytes, i, part))
                    total = builder.call(emit.fma, [factor, row, total])
                emit.add_to(emit.after(sums, item, i), total)
                return []

            emit.loop(count, [], add)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), code

    @intrinsic
    def add_up(typing: Any, total: Any, e: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            emit = Registers(builder, real)
            values = [emit.load(emit.shift(args[1], part)) for part in parts]
            emit.add_to(args[0], reduce(builder.fadd, values))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), code

    return combine, add_products, add_up


@cache
def moves(real: Any) -> tuple[Any, Any, Any, Any]:
    """Four functions for kernels.

    fill(address, size, value): write one value `size` times.
    copy(source, size, target): copy `size` numbers.
    turn_in(source, first, examples, features, target): read at most EXAMPLES_AT_ONCE examples, from `first` on, from a
    matrix (examples, features), and write one row for each feature. Missing examples become zeros.
    turn_out(source, first, examples, features, target): write such rows back to a matrix (examples, features).
    """
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    row_bytes = EXAMPLES_AT_ONCE * item

    @inline
    def at(address: Any, size: Any) -> Any:
        return carray(pointer(address), (size,))

    @inline
    def fill(address: Any, size: Any, value: Any) -> None:
        values = at(address, size)
        for i in range(size):
            values[i] = value

    @inline
    def copy(source: Any, size: Any, target: Any) -> None:
        a, out = at(source, size), at(target, size)
        for i in range(size):
            out[i] = a[i]

    @inline
    def turn_in(source: Any, first: Any, examples: Any, features: Any, target: Any) -> None:
        found = min(examples - first, EXAMPLES_AT_ONCE)
        a = at(source + first * features * item, found * features)
        for j in range(features):
            out = at(target + j * row_bytes, EXAMPLES_AT_ONCE)
            for r in range(found):
                out[r] = a[r * features + j]
            for r in range(found, EXAMPLES_AT_ONCE):
                out[r] = 0

    @inline
    def turn_out(source: Any, first: Any, examples: Any, features: Any, target: Any) -> None:
        found = min(examples - first, EXAMPLES_AT_ONCE)
        out = at(target + first * features * item, found * features)
        for j in range(features):
            a = at(source + j * row_bytes, EXAMPLES_AT_ONCE)
            for r in range(found):
                out[r * features + j] = a[r]

    return fill, copy, turn_in, turn_out


@cache
def activations(real: Any) -> tuple[Any, Any, Any]:
    """Three functions for kernels that apply an activation f to `size` numbers. code and slope: those of f.

    activate(code, values, size, slope): values = f(values).
    descend(code, values, results, size, slope): values *= f'(a), where results = f(a).
    bend(code, target, gradients, moved, results, size, slope): target += gradients * moved * f''(a), where results = f(a).
    """
    pointer = pointer_to(real)

    @inline
    def at(address: Any, size: Any) -> Any:
        return carray(pointer(address), (size,))

    def value_loop(name: str) -> Any:
        if name == "identity":
            return inline(lambda address, size, slope: None)
        value = formula(name, "value", real)

        @inline
        def activate(address: Any, size: Any, slope: Any) -> None:
            values = at(address, size)
            for i in range(size):
                values[i] = value(values[i], slope)

        return activate

    def slope_loop(name: str) -> Any:
        if name == "identity":
            return inline(lambda address, results, size, slope: None)
        slope_from = formula(name, "slope_from_result", real)

        @inline
        def descend(address: Any, results: Any, size: Any, slope: Any) -> None:
            # Multiply always, also by 1. If some values were left alone LLVM would store only the others, by a masked
            # store, and it is slow to load what a masked store has just written.
            values, y = at(address, size), at(results, size)
            for i in range(size):
                values[i] *= slope_from(y[i], slope)

        return descend

    def curvature_loop(name: str) -> Any:
        if BY_NAME[name].is_piecewise_linear:
            return inline(lambda target, gradients, moved, results, size, slope: None)
        curvature_from = formula(name, "curvature_from_result", real)

        @inline
        def bend(target: Any, gradients: Any, moved: Any, results: Any, size: Any, slope: Any) -> None:
            out, v, u, y = at(target, size), at(gradients, size), at(moved, size), at(results, size)
            for i in range(size):
                out[i] += v[i] * u[i] * curvature_from(y[i], slope)

        return bend

    names = KNOWN_FROM_RESULT
    return chosen(names, value_loop), chosen(names, slope_loop), chosen(names, curvature_loop)
