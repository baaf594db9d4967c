"""Small constant matrices applied to vectors of channels: the transforms of `tiles`, written in vector instructions.

Multiplying by a fixed matrix is a handful of multiply-adds per row, fewer where two columns or two rows agree but for
signs, as they do for evaluation points p and -p.
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygan.kernels.cpu.matmul.microkernel import VECTOR_BYTES, multiply_add
from tinygan.kernels.cpu.runtime.compiling import compiled

Row = tuple[float, ...]


def _mirrored(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two rows or columns agree but for the signs of some elements, and do both somewhere."""
    same = [u == v for u, v in zip(a, b, strict=True) if u or v]
    return all(abs(u) == abs(v) for u, v in zip(a, b, strict=True)) and True in same and False in same


def _pairs(lines: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    free, found = list(range(len(lines))), []
    while free:
        i = free.pop(0)
        partner = next((j for j in free if _mirrored(lines[i], lines[j])), None)
        if partner is not None:
            free.remove(partner)
            found.append((i, partner))
    return found


class _Emitter:
    """Writes vector arithmetic into a function."""

    def __init__(self, builder: Any, vector: Any) -> None:
        self.builder = builder
        self.vector = vector
        self.fma = multiply_add(builder.module, vector)

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.vector.count)

    def dot(self, coefficients: Sequence[float], values: Sequence[Any]) -> Any:
        """The sum of coefficient times value."""
        total = None
        for c, x in sorted(zip(coefficients, values, strict=True), key=lambda term: abs(term[0]) != 1):  # plain ones first
            if c == 0:
                continue
            if total is None:
                total = x if c == 1 else self.builder.fmul(self.constant(c), x)
            elif c == 1:
                total = self.builder.fadd(total, x)
            elif c == -1:
                total = self.builder.fsub(total, x)
            else:
                total = self.builder.call(self.fma, [self.constant(c), x, total])
        return self.constant(0.0) if total is None else total

    def product(self, matrix: Sequence[Row], values: Sequence[Any]) -> list[Any]:
        """matrix @ values."""
        values, rows = list(values), [list(row) for row in matrix]
        for a, b in _pairs(list(zip(*matrix, strict=True))):
            total, difference = self.builder.fadd(values[a], values[b]), self.builder.fsub(values[a], values[b])
            values[a], values[b] = total, difference
            for row in rows:
                row[a], row[b] = (row[a], 0.0) if row[a] == row[b] else (0.0, row[a])
        results: list[Any] = [None] * len(rows)
        for i, j in _pairs(rows):
            same = [u if u == v else 0.0 for u, v in zip(rows[i], rows[j], strict=True)]
            other = [u if u != v else 0.0 for u, v in zip(rows[i], rows[j], strict=True)]
            even, odd = self.dot(same, values), self.dot(other, values)
            results[i], results[j] = self.builder.fadd(even, odd), self.builder.fsub(even, odd)
        return [self.dot(row, values) if result is None else result for row, result in zip(rows, results, strict=True)]


def lanes_of(real: Any) -> int:
    """The elements of that type in a vector register."""
    return VECTOR_BYTES * 8 // int(real.bitwidth)


@cache
def make(real: Any, matrix: tuple[Row, ...], add: bool = False) -> int:
    """The address of a function (source, source_row, source_column, target, target_row, target_column) that writes
    matrix @ patch @ matrix^T to the target, or adds it there.

    An element of a patch is a vector of as many channels as a register holds; the one in row i and column j lies at
    source + i * source_row + j * source_column, in bytes.
    """
    lanes, align = lanes_of(real), real.bitwidth // 8
    element = ir.FloatType() if real.bitwidth == 32 else ir.DoubleType()
    vector = ir.VectorType(element, lanes)
    size = len(matrix[0])

    @intrinsic
    def both_axes(typing: Any, source: Any, source_row: Any, source_column: Any, target: Any, target_row: Any,
                  target_column: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def place(base: Any, row_step: Any, i: int, column_step: Any, j: int) -> Any:
                word = ir.IntType(64)
                row = builder.add(base, builder.mul(row_step, ir.Constant(word, i)))
                column = builder.mul(column_step, ir.Constant(word, j))
                return builder.inttoptr(builder.add(row, column), vector.as_pointer())

            emitter = _Emitter(builder, vector)
            columns = [emitter.product(matrix, [builder.load(place(args[0], args[1], i, args[2], j), align=align)
                                                for i in range(size)]) for j in range(size)]
            for i, row in enumerate(zip(*columns, strict=True)):
                for j, value in enumerate(emitter.product(matrix, row)):
                    where = place(args[3], args[4], i, args[5], j)
                    if add:
                        value = builder.fadd(builder.load(where, align=align), value)
                    builder.store(value, where, align=align)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), code

    @compiled(types.void(*[types.int64] * 6), f"{real}-{hashlib.sha256(repr(matrix).encode()).hexdigest()[:16]}-{add}")
    def transform(source: Any, source_row: Any, source_column: Any, target: Any, target_row: Any, target_column: Any) -> Any:
        both_axes(source, source_row, source_column, target, target_row, target_column)

    return transform


def square_transpose(real: Any) -> Any:
    """A function for kernels, (source, source_row, target, target_row): transpose a square of as many rows and columns as a
    vector register holds elements. Addresses; rows are so many bytes apart."""
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
            while half < lanes:  # blocks of half x half that lie across the diagonal of a larger one change places
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
    """Functions for kernels, (source, target): copy one vector of channels from address to address, or add it there."""
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


@intrinsic
def call(typing: Any, function: Any, source: Any, source_row: Any, source_column: Any, target: Any, target_row: Any,
         target_column: Any) -> Any:
    """Call the function at an address."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word] * 6)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), code
