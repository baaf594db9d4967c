"""Sums and means over axes, sums by an index, and softmax.

NumPy adds pairwise along contiguous axes, which keeps the rounding error small. Along other axes it adds one number after
another. This loses digits: the error in float32 grows to 1e-7 times the number of terms. So many terms are added in float64
here.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygan.kernels import exponentials
from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.workspace import is_dense, zeros

__all__ = ["add_at", "log_softmax", "logsumexp", "mean", "softmax", "sum", "sums_along"]

Array = np.ndarray[Any, Any]
COMPILED_ABOVE = 4096  # elements: the compiled kernel adds more than this faster than NumPy
MOST_ADDED_IN_SEQUENCE = 128  # terms that may be added one after another in their own precision
# To sum all elements of an array, the compiled kernel sees it as a matrix with a number of columns in this range.
LEAST_COLUMNS = 32  # with fewer columns, vector instructions gain nothing
MOST_COLUMNS = 1024
COMPILED_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def sum(x: Array, axis: Any, keepdims: bool) -> Array:
    """The sum over the axes, a tuple (None: all)."""
    reduce: Any = np.add.reduce  # for a small array np.sum takes three times as long, because of its checks
    if x.size <= MOST_ADDED_IN_SEQUENCE or not _is_sequential(x, axis):
        return reduce(x, axis, keepdims=keepdims)
    if axis is not None and x.ndim - 1 in axis and x.flags.c_contiguous:  # first the axes along which NumPy adds pairwise
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
    """Whether NumPy would add more than MOST_ADDED_IN_SEQUENCE floating-point numbers of x one after another."""
    if x.dtype.kind != "f":
        return False
    if axis is None:
        return not (is_dense(x) or x.flags.f_contiguous)
    count = 1
    for i in axis:
        count *= x.shape[i]
    return count > MOST_ADDED_IN_SEQUENCE and not (x.flags.c_contiguous and min(axis) == x.ndim - len(axis))


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
    if x.dtype == np.float64 and x.size > MOST_ADDED_IN_SEQUENCE:
        for i in axes:
            x = _folded(x, i)
    return reduce(x, axis, np.float64, keepdims=keepdims)


def _columns(x: Array, axes: tuple[int, ...]) -> Array | None:
    """x as a C-contiguous matrix. The sums of its columns are the sums over the axes. If these are all axes of x, the sums
    of the columns still have to be added. None if there is no such matrix without a copy."""
    if not x.size or x.dtype not in COMPILED_DTYPES or not is_dense(x):
        return None
    if len(axes) == x.ndim:
        width = math.gcd(x.size, MOST_COLUMNS)
        last = x if x.flags.c_contiguous else x.transpose(0, 2, 3, 1)
        return last.reshape(-1, width) if width >= LEAST_COLUMNS else None
    if not x.flags.c_contiguous:  # channels-last images
        return x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1]) if sorted(axes) == [0, 2, 3] else None
    return x.reshape(-1, math.prod(x.shape[len(axes):])) if max(axes) < len(axes) else None


def _folded(x: Array, axis: int) -> Array:
    """x with groups of neighbours along the axis replaced by their sums, again and again, until at most
    MOST_ADDED_IN_SEQUENCE numbers are left along the axis."""
    reduce: Any = np.add.reduce
    group = MOST_ADDED_IN_SEQUENCE
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
    """out[index] += g. The index may contain a place several times; all its numbers are added. Many float32 numbers are
    added in float64, so that no digits are lost."""
    if out.dtype != np.float32 or g.size <= MOST_ADDED_IN_SEQUENCE:
        np.add.at(out, index, g)
    else:
        wide = zeros(out.shape, np.float64)
        np.add.at(wide, index, g.astype(np.float64))  # (with two different dtypes it would take five times as long)
        out += wide


def sums_along(g: Array, index: Array, axis: int, count: int) -> Array:
    """The adjoint of `take_along_axis`: an array (outer, count, inner). `index` has the shape of g. Element j of the middle
    axis is the sum of those elements of g along `axis` whose index is j. They are added in float64, in memory order."""
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
    """log(sum(exp(x))) over the axes, which are kept with size 1."""
    return exponentials.logsumexp(np, x, axes)
