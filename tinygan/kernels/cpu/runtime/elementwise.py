"""Tasks that compute simple functions of NumPy: copies, and sums, differences, products, quotients and roots of elements.
They round as NumPy does."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray

from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.shares import share

FILL, ADD, SUBTRACT, MULTIPLY, DIVIDE, NEGATE, ROOT = range(7)
BLOCK_ELEMENTS = 1024  # as many elements as stay in the first-level cache


class Copy(NamedTuple):
    """The arguments of the task that copies a matrix of `rows` x `columns` elements, perhaps to another precision."""

    source: int
    """Address. Strides count elements."""
    source_row: int
    source_step: int
    target: int
    target_row: int
    target_step: int
    rows: int
    columns: int


class Loop(NamedTuple):
    """The arguments of the task: out = a (operation) b, for matrices of `rows` x `columns` elements whose rows are
    contiguous. The result may be in the place of a or of b."""

    operation: int
    a: int
    """Address, or 0: `number` is a. The operations of one matrix read this one only; FILL reads none."""
    a_row: int
    """The elements from row to row; 0: every row is the same."""
    a_step: int
    """The elements from column to column: 1, or 0 if all of them are the same."""
    b: int
    b_row: int
    b_step: int
    out: int
    out_row: int
    rows: int
    columns: int
    number: float
    """The number of FILL, and a or b where their address is 0."""


@inline
def cut(t: Any, part: Any, parts: Any) -> Any:
    """What a part computes: (first row, end, first column, end). The parts share the rows, or the columns of the only
    row."""
    if t.rows > 1:
        return t.rows * part // parts, t.rows * (part + 1) // parts, np.int64(0), t.columns
    left, right = share(t.columns, part, parts)
    return np.int64(0), np.int64(1), left, right


@cache
def make_copy(source: Any, target: Any) -> int:
    """The address of the task that copies elements of one type to another."""
    pointer, out_pointer = pointer_to(source), pointer_to(target)
    item, out_item = source.bitwidth // 8, target.bitwidth // 8

    @task(Copy, f"{source}-{target}")
    def copy(t: Any, part: Any, parts: Any) -> None:
        top, bottom, left, right = cut(t, part, parts)
        step, out_step = t.source_step, t.target_step
        for row in range(top, bottom):
            x = carray(pointer(t.source + (row * t.source_row + left * step) * item), ((right - left) * max(step, 1) + 1,))
            out = carray(out_pointer(t.target + (row * t.target_row + left * out_step) * out_item),
                         ((right - left) * max(out_step, 1) + 1,))
            if step == 1 and out_step == 1:
                for i in range(right - left):
                    out[i] = target(x[i])
            else:
                for i in range(right - left):
                    out[i * out_step] = target(x[i * step])

    return copy


@inline
def combine(operation: Any, out: Any, x: Any) -> None:
    """out = out (operation) x, for arrays."""
    if operation == ADD:
        for i in range(out.size):
            out[i] += x[i]
    elif operation == SUBTRACT:
        for i in range(out.size):
            out[i] -= x[i]
    elif operation == MULTIPLY:
        for i in range(out.size):
            out[i] *= x[i]
    else:
        for i in range(out.size):
            out[i] /= x[i]


@inline
def combine_number(operation: Any, out: Any, value: Any) -> None:
    """out = out (operation) value, for a number."""
    if operation == ADD:
        for i in range(out.size):
            out[i] += value
    elif operation == SUBTRACT:
        for i in range(out.size):
            out[i] -= value
    elif operation == MULTIPLY:
        for i in range(out.size):
            out[i] *= value
    else:
        for i in range(out.size):
            out[i] /= value


@inline
def apply(operation: Any, out: Any) -> None:
    """out = the function of out."""
    if operation == NEGATE:
        for i in range(out.size):
            out[i] = -out[i]
    else:
        for i in range(out.size):
            out[i] = np.sqrt(out[i])


@inline
def fill(out: Any, value: Any) -> None:
    for i in range(out.size):
        out[i] = value


@inline
def copy_all(out: Any, x: Any) -> None:
    for i in range(out.size):
        out[i] = x[i]


@cache
def make_elementwise(real: Any) -> int:
    """The address of the task of `Loop`, for elements of that type."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8

    @inline
    def at(place: Any, first: Any, size: Any) -> Any:
        return carray(pointer(place + first * item), (size,))

    @inline
    def piece(t: Any, row: Any, first: Any, end: Any) -> None:
        """The elements from `first` to `end` of a row. a is first copied to its place, and the rest works in place: a loop
        that reads two arrays and writes a third would not become vector instructions, because two may be the same."""
        out = at(t.out, row * t.out_row + first, end - first)
        a, b = t.a + row * t.a_row * item, t.b + row * t.b_row * item
        if not t.a:
            fill(out, real(t.number))
        elif not t.a_step:
            fill(out, at(a, 0, 1)[0])
        elif a != t.out + row * t.out_row * item:
            copy_all(out, at(a, first, out.size))
        if t.operation >= NEGATE:
            apply(t.operation, out)
        elif t.operation > FILL:
            if not t.b:
                combine_number(t.operation, out, real(t.number))
            elif t.b_step:
                combine(t.operation, out, at(b, first, out.size))
            else:
                combine_number(t.operation, out, at(b, 0, 1)[0])

    @task(Loop, str(real))
    def elementwise(t: Any, part: Any, parts: Any) -> None:
        top, bottom, left, right = cut(t, part, parts)
        for row in range(top, bottom):
            for first in range(left, right, BLOCK_ELEMENTS):
                piece(t, row, first, min(first + BLOCK_ELEMENTS, right))

    return elementwise
