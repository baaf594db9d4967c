"""Sums of columns on the device, in two stages where there are many rows, sums by an index, and softmax."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygan.kernels import exponentials
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device

__all__ = ["add_at", "log_softmax", "logsumexp", "mean", "softmax", "sum", "sums_along"]

SUMMED, MAPPED = (16, 6), (4, 24)
"""How sums and maps are cut into parts: rows that a thread has at least, where there are so many, and blocks for each
multiprocessor at most. The parts of a sum must be added, so they are as many as run at once."""
FEW = 128  # numbers that may be added in their own precision
FINISHED = 8  # columns that a block adds the parts of: so that it has 32 threads for each


def contiguous(device: Device, x: Array) -> Array:
    """x, or a C-contiguous copy."""
    return x if x.flags.c_contiguous else device.xp.ascontiguousarray(x)


def layout(device: Device, shape: tuple[int, ...], cut: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """(the columns of a block, the grid: blocks side by side, parts of the rows), see columns.cuh."""
    rows, columns = shape
    width = min(32, 1 << (columns - 1).bit_length())
    (least, most), blocks = cut, -(-columns // width)
    parts = min(-(-rows // (THREADS // width * least)), -(-most * device.sms // blocks))
    return width, (blocks, max(parts, 1))


def column_totals(device: Device, file: str, kernel: str, count: int, shape: tuple[int, ...], arguments: tuple[Any, ...],
                  dtype: Any, wide: bool = False) -> Array:
    """What a kernel finds that makes `count` sums for each column of matrices of that shape: (count, columns), in `dtype`
    or, wide, in float64. The kernel takes (*arguments, rows, columns, width, out, partial)."""
    rows, columns = shape
    out = device.empty((count, columns), np.float64 if wide else dtype)
    if not columns:
        return out
    width, grid = layout(device, shape, SUMMED)
    parts, size = grid[1], count * columns
    result = (None, out) if wide else (out, None)
    partial = device.empty((parts, size), np.float64) if parts > 1 else None
    device.launch(file, kernel, grid, THREADS, *arguments, rows, columns, width,
                  *(result if partial is None else (None, partial)), dtype=dtype)
    if partial is not None:
        device.launch("reductions", "finish_sums", -(-size // FINISHED), THREADS, partial, parts, size, FINISHED, *result,
                      dtype=dtype)
    return out


def column_sums(device: Device, rows: Array) -> Array:
    """The sums of the columns of a C-contiguous matrix: (R, C) -> (C,)."""
    return column_totals(device, "reductions", "column_sums", 1, rows.shape, (rows,), rows.dtype)[0]


def sum(device: Device, x: Array, axis: Any, keepdims: bool) -> Array:
    """The sum over the axes, a tuple (None: all). CuPy adds in the elements' own precision, in which many float32 numbers
    lose digits; so of more than FEW, `_total` adds."""
    if x.dtype.kind == "f" and (_count(x, axis) > FEW or _columns(x, axis) is not None):
        return _total(device, x, axis, keepdims, x.dtype)
    return device.xp.sum(x, axis, keepdims=keepdims)


def mean(device: Device, x: Array, axis: Any, keepdims: bool) -> Array:
    """The mean over the axes, of which there is something; that of equal float32 numbers is exactly their value."""
    total = _total(device, x, axis, keepdims, np.float64)
    return (total / max(_count(x, axis), 1)).astype(x.dtype, copy=False)


def _total(device: Device, x: Array, axis: Any, keepdims: bool, dtype: Any) -> Array:
    """The sum over the axes, added in float64: of channels-last images for each channel and of a matrix' columns by
    `column_totals`."""
    rows = _columns(x, axis)
    if rows is None:
        return device.xp.sum(x, axis, dtype=np.float64, keepdims=keepdims).astype(dtype, copy=False)
    total = column_totals(device, "reductions", "column_sums", 1, rows.shape, (rows,), x.dtype, wide=dtype != x.dtype)
    return total.reshape([1 if i in axis else n for i, n in enumerate(x.shape) if keepdims or i not in axis])


def _count(x: Array, axis: Any) -> int:
    """How many numbers go into one sum."""
    return x.size if axis is None else math.prod([x.shape[i] for i in axis])


def _columns(x: Array, axis: Any) -> Array | None:
    """x as a C-contiguous matrix whose columns' sums are those over the axes; None: it is not one as it lies."""
    if axis is None or not 0 < len(axis) < x.ndim:
        return None
    if x.ndim == 4 and sorted(axis) == [0, 2, 3]:
        x, axis = x.transpose(0, 2, 3, 1), (0, 1, 2)
    if max(axis) >= len(axis) or not x.flags.c_contiguous:
        return None
    return x.reshape(math.prod(x.shape[:len(axis)]), math.prod(x.shape[len(axis):]))


def add_at(device: Device, out: Array, index: Any, g: Array) -> None:
    """out[index] += g, where a place may be named several times. With one array of integers (an embedding's gradient) always
    in the same order; CuPy, which does the rest, adds in any."""
    kind = getattr(index, "dtype", np.dtype(object)).kind  # (a tuple of arrays has none)
    if kind not in "iu" or out.dtype.kind != "f" or not out.flags.c_contiguous:
        device.xp.add.at(out, index, g)
    elif g.size:
        rows, count = out.shape[0], index.size
        places, columns = (index.reshape(-1) % rows).astype(np.int32), out.size // rows
        device.launch("reductions", "add_rows_at", (rows, -(-columns // THREADS)), THREADS, contiguous(device, g), places,
                      out, count, columns, dtype=out.dtype)


def sums_along(device: Device, g: Array, index: Array, axis: int, count: int) -> Array:
    """The adjoint of `take_along_axis`: (outer, count, inner), where along the middle axis element j is the sum of those of
    g that `index`, of g's shape, says j for, always in the same order."""
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
    """log(sum(exp(x))) over the axes, which stay as axes of size 1."""
    return exponentials.logsumexp(device.xp, x, axes)
