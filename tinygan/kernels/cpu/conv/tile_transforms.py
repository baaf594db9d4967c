"""The transforms of a tile in vector instructions: functions that apply a small constant matrix to both axes of a patch.

A product with a constant matrix takes a few multiply-adds for each row. It takes fewer if two columns, or two rows, differ
only in signs, as for the evaluation points p and -p. Then their sum and their difference are computed once and used twice.
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygan.kernels.cpu.runtime.compiling import compiled
from tinygan.kernels.cpu.runtime.simd import lanes_of, multiply_add

Row = tuple[float, ...]


def _mirrored(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two rows or columns differ only in signs: some elements are equal, the others are opposite."""
    same = [u == v for u, v in zip(a, b, strict=True) if u or v]
    return all(abs(u) == abs(v) for u, v in zip(a, b, strict=True)) and True in same and False in same


def _pairs(lines: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """The mirrored pairs among some rows or columns. No line is in two pairs."""
    free, found = list(range(len(lines))), []
    while free:
        i = free.pop(0)
        partner = next((j for j in free if _mirrored(lines[i], lines[j])), None)
        if partner is not None:
            free.remove(partner)
            found.append((i, partner))
    return found


class _Emitter:
    """Emits the arithmetic of a product of a constant matrix and a vector. Each element of the vector is a register."""

    def __init__(self, builder: Any, vector: Any) -> None:
        self.builder = builder
        self.vector = vector
        self.fma = multiply_add(builder.module, vector)

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.vector.count)

    def dot(self, coefficients: Sequence[float], values: Sequence[Any]) -> Any:
        """The sum of coefficients times values."""
        total = None
        # Coefficients 1 and -1 come first, because they need no multiplication.
        for c, x in sorted(zip(coefficients, values, strict=True), key=lambda term: abs(term[0]) != 1):
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


@cache
def transform_by(real: Any, matrix: tuple[Row, ...], add: bool = False) -> int:
    """The address of a function (source, source_row, source_column, target, target_row, target_column) that writes
    matrix @ patch @ matrix^T to the target. With `add` it adds this to the target.

    Each element of a patch is a vector of channels. The element in row i and column j is at the address
    source + i * source_row + j * source_column. Addresses in the target are computed in the same way.
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


@intrinsic
def apply_transform(typing: Any, function: Any, source: Any, source_row: Any, source_column: Any, target: Any,
                    target_row: Any, target_column: Any) -> Any:
    """Call the transform at the address `function`."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word] * 6)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), code
