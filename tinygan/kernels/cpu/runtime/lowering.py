"""Functions of NumPy as tasks of the pool.

In a replayed step a call of NumPy for a few numbers takes a microsecond, most of it in Python. As a task it is one more row
in a table. Only functions that NumPy and a plain loop round alike are lowered: copies, sums, differences, products and
quotients of elements, and square roots. (A sum over many elements depends on the order in which they are added.)
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.arguments import packed
from tinygan.kernels.cpu.runtime.arrays import REALS, Array, address
from tinygan.kernels.cpu.runtime.elementwise import (
    ADD,
    DIVIDE,
    FILL,
    MULTIPLY,
    NEGATE,
    ROOT,
    SUBTRACT,
    Copy,
    Loop,
    make_copy,
    make_elementwise,
)
from tinygan.kernels.cpu.runtime.pool import pool

BINARY = {np.add: ADD, np.subtract: SUBTRACT, np.multiply: MULTIPLY, np.divide: DIVIDE}
UNARY = {np.negative: NEGATE, np.sqrt: ROOT}
SUMS = (np.add.reduce, np.ndarray.sum, np.sum)
NUMBERS = (int, float, np.integer, np.floating, np.bool_)
MOST_ROWS = 8  # of a matrix whose rows are added

Made = tuple[int, bytes, int]
"""A task: its address, its arguments and its number of parts."""


def lowered(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any], out: Array) -> list[Made]:
    """Tasks that write to `out` what the function does; an empty list if there are none for it."""
    if out.dtype not in REALS:
        return []
    try:
        if function in BINARY and len(args) == 2 and not options:
            return _binary(BINARY[function], *args, out)
        if function in UNARY and len(args) == 1 and not options and isinstance(args[0], np.ndarray):
            return [_loop(UNARY[function], args[0], None, out)]
        if function is np.copyto and not options:
            return [_copy(out, args[1])]
        if function is np.concatenate and set(options) <= {"axis"}:
            return [_copy(target, source) for target, source in _pieces(out, *args, **options)]
        if function is np.stack and len(args) == 1 and not options:
            return [_copy(out[i, ...], x) for i, x in enumerate(args[0])]
        if function in SUMS and set(options) <= {"axis", "keepdims", "dtype"}:
            return _sum(out, *args, **options)
    except NotLoweredError:
        return []
    return []


class NotLoweredError(Exception):
    """There is no task for a function of these arrays."""


def _copy(target: Array, source: Any) -> Made:
    if isinstance(source, NUMBERS):
        return _loop(FILL, None, None, target, float(source))
    if not isinstance(source, np.ndarray) or source.dtype not in REALS or np.may_share_memory(source, target):
        raise NotLoweredError
    rows, columns, (outer, inner) = _as_matrices(target, source)
    arguments = Copy(source=address(source), source_row=outer[1], source_step=inner[1], target=address(target),
                     target_row=outer[0], target_step=inner[0], rows=rows, columns=columns)
    return make_copy(REALS[source.dtype], REALS[target.dtype]), packed(arguments), pool.parts(target.size)


def _binary(operation: int, a: Any, b: Any, out: Array) -> list[Made]:
    before = []
    if np.result_type(a, b) != out.dtype:  # NumPy computes in the type of a and b, and rounds at the end
        raise NotLoweredError
    if (isinstance(b, np.ndarray) and b.dtype != out.dtype) or _same_place(b, out):
        a, b = b, a  # b is converted first, or b is overwritten
        if operation not in (ADD, MULTIPLY):
            raise NotLoweredError
    if isinstance(a, np.ndarray) and a.dtype != out.dtype:
        before = [_copy(out, a)]
        if isinstance(b, np.ndarray) and np.may_share_memory(b, out):
            raise NotLoweredError
        a = out
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return [*before, _loop(operation, a, b, out)]
    number = b if isinstance(a, np.ndarray) else a
    if not (type(number) in (int, float) or type(number) is out.dtype.type):
        raise NotLoweredError
    if isinstance(a, np.ndarray):
        return [*before, _loop(operation, a, None, out, float(number))]
    return [_loop(operation, None, b, out, float(number))]


def _sum(out: Array, x: Array, axis: Any = None, *others: Any, **options: Any) -> list[Made]:
    """The sum over the first axis, or over one of size 1. NumPy adds the rows of a matrix one after another, and a sum of
    -0.0 alone is 0.0."""
    axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    if others or any(options.values()) or not isinstance(axis, int) or not isinstance(x, np.ndarray) or x.dtype != out.dtype:
        raise NotLoweredError
    if np.may_share_memory(x, out):  # a row might be overwritten before it is added
        raise NotLoweredError
    if x.shape[axis] == 1:
        return [_loop(ADD, np.squeeze(x, axis) if out.ndim < x.ndim else x, None, out, 0.0)]
    if axis != 0 or not 2 <= len(x) <= MOST_ROWS or out.size == 1 or x.strides[0] < max(x.strides):
        raise NotLoweredError
    made = [_loop(ADD, x[0] if i == 1 else out, x[i], out) for i in range(1, len(x))]
    return [*made, _loop(ADD, out, None, out, 0.0)]


def _loop(operation: int, a: Array | None, b: Array | None, out: Array, number: float = 0.0) -> Made:
    """The task for arrays that are matrices with contiguous rows. Raises NotLoweredError if they are not, or overlap."""
    arrays = [x for x in (a, b) if x is not None]
    if any(x.dtype != out.dtype or (np.may_share_memory(x, out) and not _same_place(x, out)) for x in arrays):
        raise NotLoweredError
    rows, columns, (outer, inner) = _as_matrices(out, *arrays)
    if any(step not in (0, 1) for step in inner) or (columns > 1 and inner[0] != 1):
        raise NotLoweredError
    places = {"a": 0, "a_row": 0, "a_step": 0, "b": 0, "b_row": 0, "b_step": 0}
    number_of = 1
    for name, x in (("a", a), ("b", b)):
        if x is not None:
            places |= {name: address(x), f"{name}_row": outer[number_of], f"{name}_step": inner[number_of]}
            number_of += 1
    arguments = Loop(operation=operation, out=address(out), out_row=outer[0], rows=rows, columns=columns, number=number,
                     **places)
    return make_elementwise(REALS[out.dtype]), packed(arguments), pool.parts(out.size)


def _same_place(x: Any, out: Array) -> bool:
    return (isinstance(x, np.ndarray) and address(x) == address(out) and x.shape == out.shape and x.strides == out.strides
            and x.dtype == out.dtype)


def _as_matrices(out: Array, *arrays: Array) -> tuple[int, int, tuple[list[int], list[int]]]:
    """(rows, columns, (the strides from row to row, those from column to column)), in elements of each array, if `out` and
    the arrays, broadcast to its shape, are matrices with that many rows and columns. Else raises NotLoweredError."""
    every = [out, *(np.broadcast_to(x, out.shape) for x in arrays)]
    axes = sorted((axis for axis in range(out.ndim) if out.shape[axis] > 1), key=lambda axis: -out.strides[axis])
    merged: list[tuple[int, list[int]]] = []  # (size, the strides), the outermost axis first
    for axis in axes:
        size, steps = out.shape[axis], [x.strides[axis] // x.itemsize for x in every]
        if any(x.strides[axis] % x.itemsize or x.strides[axis] < 0 for x in every):
            raise NotLoweredError
        if merged and merged[-1][1] == [step * size for step in steps]:
            merged[-1] = merged[-1][0] * size, steps
        else:
            merged.append((size, steps))
    if len(merged) > 2 or not out.size:
        raise NotLoweredError
    (rows, outer), (columns, inner) = [(1, [0] * len(every))] * (2 - len(merged)) + merged
    return rows, columns, (outer, inner)


def _pieces(out: Array, arrays: Sequence[Array], axis: int | None = 0) -> Iterator[tuple[Array, Array]]:
    """The parts of `out` that `np.concatenate` fills, each with the array that it copies there."""
    if not all(isinstance(x, np.ndarray) and (axis is not None or x.flags.c_contiguous) for x in arrays):
        raise NotLoweredError  # (those that are not contiguous would be copied to be flat)
    if axis is None:
        arrays, axis = [x.reshape(-1) for x in arrays], 0
    start = 0
    for x in arrays:
        end = start + x.shape[axis]
        yield out[(slice(None),) * (axis % out.ndim) + (slice(start, end),)], x
        start = end
