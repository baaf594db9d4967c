"""Vector instructions for kernels: the size of a register, multiply-adds, copies, and transposition in registers."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygan.kernels.cpu.runtime.arrays import array_at
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.processor import target

VECTOR_BYTES = target().vector_bytes  # the size of a vector register


def lanes_of(real: Any) -> int:
    """How many elements of that type a vector register holds."""
    return VECTOR_BYTES * 8 // int(real.bitwidth)


def multiply_add(module: Any, vector: Any) -> Any:
    """The function (x, y, z) -> x * y + z of vectors: one instruction if the processor has it, else two. (LLVM's `fma` must
    round only once. On a processor without this instruction it calls the C library for each element.)"""
    name = f"llvm.fmuladd.v{vector.count}{vector.element.intrinsic_name}"
    return cgutils.get_or_insert_function(module, ir.FunctionType(vector, [vector] * 3), name)


def square_transpose(real: Any) -> Any:
    """A function for kernels, (source, source_row, target, target_row): transpose a square with as many rows and columns as
    a register has elements. source and target are addresses; source_row and target_row are the bytes from row to row."""
    lanes, align = lanes_of(real), real.bitwidth // 8
    vector = ir.VectorType(ir.FloatType() if align == 4 else ir.DoubleType(), lanes)
    word, small = ir.IntType(64), ir.IntType(32)

    @intrinsic
    def transpose(typing: Any, source: Any, source_row: Any, target: Any, target_row: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def row(base: Any, step: Any, i: int) -> Any:
                return builder.inttoptr(builder.add(base, builder.mul(step, ir.Constant(word, i))), vector.as_pointer())

            def pick(a: Any, b: Any, places: list[int]) -> Any:
                return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(small, lanes), places))

            rows = [builder.load(row(args[0], args[1], i), align=align) for i in range(lanes)]
            half = 1
            while half < lanes:  # in each square of side 2 * half, swap the two off-diagonal squares of side `half`
                for i in range(lanes):
                    if not i & half:
                        a, b = rows[i], rows[i + half]
                        rows[i] = pick(a, b, [lanes + j - half if j & half else j for j in range(lanes)])
                        rows[i + half] = pick(a, b, [lanes + j if j & half else j + half for j in range(lanes)])
                half *= 2
            for i, value in enumerate(rows):
                builder.store(value, row(args[2], args[3], i), align=align)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), code

    return transpose


def vector_moves(real: Any) -> tuple[Any, Any]:
    """Two functions for kernels, (source, target), both addresses. The first copies a vector to the target. The second adds
    it to the vector there."""
    vector = ir.VectorType(ir.FloatType() if real.bitwidth == 32 else ir.DoubleType(), lanes_of(real))
    align = real.bitwidth // 8

    def make_move(adding: bool) -> Any:
        @intrinsic
        def move(typing: Any, source: Any, target: Any) -> Any:
            def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                source, target = (builder.inttoptr(arg, vector.as_pointer()) for arg in args)
                value = builder.load(source, align=align)
                if adding:
                    value = builder.fadd(builder.load(target, align=align), value)
                builder.store(value, target, align=align)
                return context.get_dummy_value()

            return types.void(types.int64, types.int64), code

        return move

    return make_move(False), make_move(True)


class Moves(NamedTuple):
    """Functions for kernels that write `count` elements. source and target are addresses."""

    copy: Any
    """(source, target, count): copy the elements."""
    add: Any
    """(source, target, count): add the elements to those at the target."""
    move: Any
    """(source, target, count, adding): copy, or add if `adding`. It is fast if `count` fills exactly one register."""
    zero: Any
    """(target, count): write zeros."""


@cache
def moves(real: Any) -> Moves:
    """The functions for elements of that type."""
    lanes, at = lanes_of(real), array_at(real)
    copy_vector, add_vector = vector_moves(real)

    @inline
    def copy(source: Any, target: Any, count: Any) -> Any:
        a, b = at(source, count), at(target, count)
        for i in range(count):
            b[i] = a[i]

    @inline
    def add(source: Any, target: Any, count: Any) -> Any:
        a, b = at(source, count), at(target, count)
        for i in range(count):
            b[i] += a[i]

    @inline
    def move(source: Any, target: Any, count: Any, adding: Any) -> Any:
        if count == lanes:
            if adding:
                add_vector(source, target)
            else:
                copy_vector(source, target)
            return
        a, b = at(source, count), at(target, count)
        for i in range(count):
            b[i] = b[i] + a[i] if adding else a[i]

    @inline
    def zero(target: Any, count: Any) -> Any:
        values = at(target, count)
        for i in range(count):
            values[i] = 0

    return Moves(copy, add, move, zero)
