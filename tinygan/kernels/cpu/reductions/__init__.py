"""Sums and means over axes, sums by an index, and softmax.

NumPy adds pairwise along contiguous axes. Along others it adds one number after another. That loses digits: in float32 the
error grows to 1e-7 times the count of numbers. So where there are many, they are added in float64 here.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygan.kernels import exponentials
from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.workspace import is_dense

__all__ = ["add_at", "log_softmax", "logsumexp", "mean", "softmax", "sum", "sums_along"]

Array = np.ndarray[Any, Any]
COMPILED_ABOVE = 4096  # elements: more are added faster by the compiled kernel than by NumPy
MOST_IN_A_ROW = 128  # numbers that may be added one after another in their own precision
NARROWEST = 32  # columns of the matrix that an array is seen as, to be summed as a whole; fewer are no use as vectors
WIDEST = 1024  # such columns
COMPILED_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def sum(x: Array, axis: Any, keepdims: bool) -> Array:
    """The sum over the axes, a tuple (None: all)."""
    reduce: Any = np.add.reduce  # np.sum checks more, at three times the cost of a small sum
    if x.size <= MOST_IN_A_ROW or not _is_sequential(x, axis):
        return reduce(x, axis, keepdims=keepdims)
    if axis is not None and x.ndim - 1 in axis and x.flags.c_contiguous:  # first the axes along which it adds pairwise
        inner = x.ndim - 1
        while inner - 1 in axis:
            inner -= 1
        parts, outer = reduce(x, tuple(range(inner, x.ndim))), tuple([i for i in axis if i < inner])
        y = _total(parts, outer, keepdims).astype(x.dtype, copy=False)
        return y.reshape(*y.shape, *[1] * (x.ndim - inner)) if keepdims else y
    return _total(x, axis, keepdims).astype(x.dtype, copy=False)


def mean(x: Array, axis: Any, keepdims: bool) -> Array:
    """The mean over the axes, none of which is empty. The mean of equal float32 numbers is exactly their value."""
    total = _total(x, axis, keepdims)
    return (total / (x.size // total.size if total.size else 1)).astype(x.dtype, copy=False)


def _is_sequential(x: Array, axis: Any) -> bool:
    """Whether NumPy would add more than MOST_IN_A_ROW floating-point numbers of x one after another."""
    if x.dtype.kind != "f":
        return False
    if axis is None:
        return not (is_dense(x) or x.flags.f_contiguous)
    count = 1
    for i in axis:
        count *= x.shape[i]
    return count > MOST_IN_A_ROW and not (x.flags.c_contiguous and min(axis) == x.ndim - len(axis))


def _total(x: Array, axis: Any, keepdims: bool) -> Array:
    """The sum over the axes, a tuple (None: all), in float64."""
    reduce: Any = np.add.reduce
    axes = tuple(range(x.ndim)) if axis is None else axis
    rows = _columns(x, axes) if x.size > COMPILED_ABOVE and axes else None
    if rows is not None:
        total = loaded("tinygan.kernels.cpu.reductions.compiled").column_sums(rows)
        if len(axes) == x.ndim:
            total = reduce(total, keepdims=True)
        return total.reshape([1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes])
    if x.dtype == np.float64 and x.size > MOST_IN_A_ROW:
        for i in axes:
            x = _folded(x, i)
    return reduce(x, axis, np.float64, keepdims=keepdims)


def _columns(x: Array, axes: tuple[int, ...]) -> Array | None:
    """x as a C-contiguous matrix whose columns add up to the sums over the axes. Over all axes they add up to parts of the
    sum. None: x does not lie so that there is one."""
    if not x.size or x.dtype not in COMPILED_DTYPES or not is_dense(x):
        return None
    if len(axes) == x.ndim:
        width = math.gcd(x.size, WIDEST)
        last = x if x.flags.c_contiguous else x.transpose(0, 2, 3, 1)
        return last.reshape(-1, width) if width >= NARROWEST else None
    if not x.flags.c_contiguous:  # images that lie channels-last
        return x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1]) if sorted(axes) == [0, 2, 3] else None
    return x.reshape(-1, math.prod(x.shape[len(axes):])) if max(axes) < len(axes) else None


def _folded(x: Array, axis: int) -> Array:
    """x with groups of neighbours along the axis replaced by their sums, until MOST_IN_A_ROW or fewer are left."""
    reduce: Any = np.add.reduce
    group = MOST_IN_A_ROW
    while x.shape[axis] > group:
        before, n, behind = x.shape[:axis], x.shape[axis], x.shape[axis + 1:]
        whole = n // group * group
        cut = (slice(None),) * axis
        parts = [reduce(x[*cut, :whole].reshape(*before, n // group, group, *behind), axis + 1)]
        if whole < n:
            parts.append(reduce(x[*cut, whole:], axis, keepdims=True))
        x = np.concatenate(parts, axis)
    return x


def add_at(out: Array, index: Any, g: Array) -> None:
    """out[index] += g, where the index may name a place several times. float32 is added in float64, so that digits are kept
    where many numbers meet."""
    if out.dtype != np.float32 or g.size <= MOST_IN_A_ROW:
        np.add.at(out, index, g)
    else:
        wide = np.zeros(out.shape)
        np.add.at(wide, index, g.astype(np.float64))  # (of two dtypes it would take five times as long)
        out += wide


def sums_along(g: Array, index: Array, axis: int, count: int) -> Array:
    """The adjoint of `take_along_axis`, (outer, count, inner): element j of the middle axis is the sum of the elements of g
    whose `index`, an array of g's shape, is j. Added in float64, in the order in which they lie."""
    outer, inner = math.prod(g.shape[:axis]), math.prod(g.shape[axis + 1:])
    blocks = index.reshape(outer, index.shape[axis], inner)
    places = (np.arange(outer)[:, None, None] * count + blocks) * inner + np.arange(inner)
    sums = np.bincount(places.reshape(-1), g.reshape(-1), outer * count * inner)
    return sums.astype(g.dtype).reshape(outer, count, inner)


def softmax(x: Array, axes: exponentials.Axes) -> Array:
    """exp(x) / sum(exp(x)) over the axes."""
    return exponentials.softmax(np, x, axes)


def log_softmax(x: Array, axes: exponentials.Axes) -> Array:
    """log(softmax(x)) over the axes."""
    return exponentials.log_softmax(np, x, axes)


def logsumexp(x: Array, axes: exponentials.Axes) -> Array:
    """log(sum(exp(x))) over the axes, which stay as axes of size 1."""
    return exponentials.logsumexp(np, x, axes)
