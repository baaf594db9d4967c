"""Sums over axes, sums by an index, and softmax on the device. If a matrix has many rows, its columns are summed in two
stages."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygan.kernels import exponentials
from tinygan.kernels.cuda.runtime.arrays import contiguous
from tinygan.kernels.cuda.runtime.columns import SUM, column_grid
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device

__all__ = ["add_at", "log_softmax", "logsumexp", "mean", "softmax", "sum", "sums_along"]

MOST_ADDED_IN_THEIR_PRECISION = 128  # numbers; more are added in float64, so that no digits are lost
COLUMNS_FINISHED_BY_A_BLOCK = 8  # so 32 of the block's 256 threads add the parts of each column


def column_totals(device: Device, file: str, kernel: str, count: int, shape: tuple[int, ...], arguments: tuple[Any, ...],
                  dtype: Any, wide: bool = False) -> Array:
    """Run a kernel that computes `count` sums for each column of matrices with that shape. Returns (count, columns), in
    `dtype` or, if `wide`, in float64. The kernel takes (*arguments, rows, columns, width, out, partial)."""
    rows, columns = shape
    out = device.empty((count, columns), np.float64 if wide else dtype)
    if not columns:
        return out
    width, grid = column_grid(device, shape, SUM)
    parts, size = grid[1], count * columns
    result = (None, out) if wide else (out, None)
    partial = device.empty((parts, size), np.float64) if parts > 1 else None
    device.launch(file, kernel, grid, THREADS, *arguments, rows, columns, width,
                  *(result if partial is None else (None, partial)), dtype=dtype)
    if partial is not None:
        device.launch("reductions", "finish_sums", -(-size // COLUMNS_FINISHED_BY_A_BLOCK), THREADS, partial, parts, size,
                      COLUMNS_FINISHED_BY_A_BLOCK, *result, dtype=dtype)
    return out


def column_sums(device: Device, rows: Array) -> Array:
    """The sums of the columns of a C-contiguous matrix: (R, C) -> (C,)."""
    return column_totals(device, "reductions", "column_sums", 1, rows.shape, (rows,), rows.dtype)[0]


def sum(device: Device, x: Array, axis: Any, keepdims: bool) -> Array:
    """The sum over the axes, a tuple (None: all). CuPy adds float32 numbers in float32. If there are many, this loses
    digits, so `_total` adds them instead."""
    if x.dtype.kind == "f" and (_count(x, axis) > MOST_ADDED_IN_THEIR_PRECISION or _columns(x, axis) is not None):
        return _total(device, x, axis, keepdims, x.dtype)
    return device.xp.sum(x, axis, keepdims=keepdims)


def mean(device: Device, x: Array, axis: Any, keepdims: bool) -> Array:
    """The mean over the axes. The mean of equal float32 numbers is exactly their value."""
    total = _total(device, x, axis, keepdims, np.float64)
    return (total / max(_count(x, axis), 1)).astype(x.dtype, copy=False)


def _total(device: Device, x: Array, axis: Any, keepdims: bool, dtype: Any) -> Array:
    """The sum over the axes, added in float64. `column_totals` computes it if x can be seen as a matrix (see `_columns`),
    else CuPy."""
    rows = _columns(x, axis)
    if rows is None:
        return device.xp.sum(x, axis, dtype=np.float64, keepdims=keepdims).astype(dtype, copy=False)
    total = column_totals(device, "reductions", "column_sums", 1, rows.shape, (rows,), x.dtype, wide=dtype != x.dtype)
    return total.reshape([1 if i in axis else n for i, n in enumerate(x.shape) if keepdims or i not in axis])


def _count(x: Array, axis: Any) -> int:
    """How many numbers each sum over the axes has."""
    return x.size if axis is None else math.prod([x.shape[i] for i in axis])


def _columns(x: Array, axis: Any) -> Array | None:
    """A view of x as a C-contiguous matrix whose column sums are the sums over the axes; None if there is no such view."""
    if axis is None or not 0 < len(axis) < x.ndim:
        return None
    if x.ndim == 4 and sorted(axis) == [0, 2, 3]:
        x, axis = x.transpose(0, 2, 3, 1), (0, 1, 2)
    if max(axis) >= len(axis) or not x.flags.c_contiguous:
        return None
    return x.reshape(math.prod(x.shape[:len(axis)]), math.prod(x.shape[len(axis):]))


def add_at(device: Device, out: Array, index: Any, g: Array) -> None:
    """out[index] += g. The index may contain a place several times; all its numbers are added. If the index is one array of
    integers (as for the gradient of an embedding), they are always added in the same order. For any other index CuPy adds
    them, in any order."""
    kind = getattr(index, "dtype", np.dtype(object)).kind  # (a tuple of arrays has no dtype)
    if kind not in "iu" or out.dtype.kind != "f" or not out.flags.c_contiguous:
        device.xp.add.at(out, index, g)
    elif g.size:
        rows, count = out.shape[0], index.size
        places, columns = (index.reshape(-1) % rows).astype(np.int32), out.size // rows
        device.launch("reductions", "add_rows_at", (rows, -(-columns // THREADS)), THREADS, contiguous(device, g), places,
                      out, count, columns, dtype=out.dtype)


def sums_along(device: Device, g: Array, index: Array, axis: int, count: int) -> Array:
    """The adjoint of `take_along_axis`: an array (outer, count, inner). `index` has the shape of g. Element j of the middle
    axis is the sum of those elements of g along `axis` whose index is j. They are always added in the same order."""
    outer, picks, inner = math.prod(g.shape[:axis]), g.shape[axis], math.prod(g.shape[axis + 1:])
    out = device.empty((outer, count, inner), g.dtype)
    device.each("reductions", "sums_along", out.size, contiguous(device, g), contiguous(device, index.astype(np.int32)), out,
                out.size, picks, count, inner, dtype=g.dtype)
    return out


def _softmax(device: Device, x: Array, axes: exponentials.Axes, logarithm: bool) -> Array:
    over = range(x.ndim) if axes is None else axes
    order = (*[i for i in range(x.ndim) if i not in over], *over)
    last = contiguous(device, x.transpose(order))
    out = device.empty(last.shape, x.dtype)
    if out.size:
        length = math.prod([x.shape[i] for i in over])
        threads = 32 if length <= 512 else THREADS
        device.launch("reductions", "softmax", x.size // length, threads, last, out, length, int(logarithm), dtype=x.dtype)
    return out.transpose([order.index(i) for i in range(x.ndim)])


def softmax(device: Device, x: Array, axes: exponentials.Axes) -> Array:
    """exp(x) / sum(exp(x)) over the axes."""
    return _softmax(device, x, axes, False)


def log_softmax(device: Device, x: Array, axes: exponentials.Axes) -> Array:
    """log(softmax(x)) over the axes."""
    return _softmax(device, x, axes, True)


def logsumexp(device: Device, x: Array, axes: exponentials.Axes) -> Array:
    """log(sum(exp(x))) over the axes, which are kept with size 1."""
    return exponentials.logsumexp(device.xp, x, axes)
