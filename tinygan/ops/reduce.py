"""Reductions. `axis` is None (all axes), an integer or a tuple. `keepdims` keeps the reduced axes, with size 1.

Each public function checks its arguments and calls a private op. The op's `shape` is that of x. The forward does not use it,
but the vjp does: it repeats the gradient to that shape (`_spread`)."""
from __future__ import annotations

__all__ = ["all", "any", "argmax", "argmin", "max", "mean", "min", "sum", "var"]

import math
from typing import Any

import numpy as np

from tinygan.graph import OUT, op
from tinygan.making import X
from tinygan.ops.elementwise import astype, mul
from tinygan.ops.shape import _broadcast_to, _reshape, checked_axes, checked_axis
from tinygan.tensor import FLOATS, Axis, shape_of

Axes = tuple[int, ...] | None  # what `_checked` returns


@op(integers=True)
def _sum(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return B.sum(x, axis, keepdims)


@_sum.vjp
def _(needs: Any, g: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return (_spread(g, axis, keepdims, shape),)


def sum(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The sum over `axis`. Booleans are counted, and the sum of integers is a 64-bit integer, as in NumPy."""
    shape = shape_of("sum", x)
    if axis is not None:
        axis = _checked("sum", x, axis)
    return _sum(x, axis=axis, keepdims=keepdims, shape=shape)


@op()
def _mean(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return B.mean(x, axis, keepdims)


@_mean.vjp
def _(needs: Any, g: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return (_spread(mul(g, 1 / _count(axis, shape)), axis, keepdims, shape),)


def mean(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The mean over `axis`; float32 for booleans and integers. Raises ValueError if there are no elements."""
    axis = _checked("mean", x, axis)
    if not _count(axis, x.shape):
        raise ValueError(f"mean: no elements along axis {axis} of the shape {x.shape}")
    if x.dtype.kind in "iub":
        return _mean_of_integers(x, axis=axis, keepdims=keepdims)
    return _mean(x, axis=axis, keepdims=keepdims, shape=x.shape)


@op()
def _mean_of_integers(B: Any, x: Any, axis: Axes, keepdims: bool) -> Any:
    return B.xp.mean(x, axis, dtype=np.float64, keepdims=keepdims).astype(np.float32)


def var(x: X, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> X:
    """The variance over `axis`: the sum of squared deviations from the mean, divided by (count - ddof). Raises ValueError
    if count is ddof or less."""
    axis = _checked("var", x, axis)
    count = _count(axis, x.shape)
    if count <= ddof:
        raise ValueError(f"var: {count} elements along axis {axis} of the shape {x.shape}, needs more than ddof={ddof}")
    deviation = centred("var", x, axis)
    return mul(mean(mul(deviation, deviation), axis, keepdims), count / (count - ddof))  # (a sum might overflow)


@op()
def _centred(B: Any, x: Any, axis: Axes) -> Any:
    for _ in range(2):
        x = B.subtract(x, B.mean(x, axis, True))
    return x


@_centred.vjp
def _(needs: Any, g: Any, axis: Axes) -> Any:
    return (_centred(g, axis=axis),)  # (centring is linear, and its matrix is symmetric)


def centred(caller: str, x: Any, axis: Axes) -> Any:
    """x minus its mean over the axes, which must not be empty. A mask counts as 0 and 1, in float32.

    The mean is subtracted twice, because a large mean has a rounding error, which the second subtraction removes. So a large
    offset common to all of x makes the result no less accurate than x itself.
    """
    if x.dtype.kind == "b":
        x = astype(x, np.float32)
    elif x.dtype not in FLOATS:
        raise TypeError(f"{caller}: needs float32 or float64, got {x.dtype}; convert with tinygan.astype first")
    return _centred(x, axis=axis)


@op()
def largest_magnitude(B: Any, x: Any, axis: Axes = None, keepdims: bool = False) -> Any:
    """The largest |x| over the axes, a constant to `grad`; NaN if x holds a NaN. Divide by it before squaring."""
    xp = B.xp
    return xp.maximum(xp.max(x, axis, keepdims=keepdims), -xp.min(x, axis, keepdims=keepdims))  # (|x| would be a copy)


@op(saves=(0, OUT), integers=True)
def _max(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return B.xp.max(x, axis, keepdims=keepdims)


@op(saves=(0, OUT), integers=True)
def _min(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return B.xp.min(x, axis, keepdims=keepdims)


@_max.vjp
@_min.vjp
def _(needs: Any, g: Any, x: Any, y: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    share = _share(x, _spread(y, axis, keepdims, shape), axis=axis)
    return (mul(_spread(g, axis, keepdims, shape), share),)


@op()
def _share(B: Any, x: Any, y: Any, axis: Axes) -> Any:
    """Each element's share of the gradient, where y is the extreme value: 1 for the one element that equals it, or 1/k for
    each of k. If there are NaNs, only they have shares."""
    ties = ((x == y) | (x != x)).astype(x.dtype)
    return ties / B.sum(ties, axis, True)


def max(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The largest element over `axis`, or NaN if there is one. Equally large elements share the gradient."""
    axis = _checked("max", x, axis)
    return _max(x, axis=axis, keepdims=keepdims, shape=x.shape)


def min(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The smallest element over `axis`, or NaN if there is one. Equally small elements share the gradient."""
    axis = _checked("min", x, axis)
    return _min(x, axis=axis, keepdims=keepdims, shape=x.shape)


@op()
def _argmax(B: Any, x: Any, axis: int | None) -> Any:
    return B.xp.argmax(x, axis)


@op()
def _argmin(B: Any, x: Any, axis: int | None) -> Any:
    return B.xp.argmin(x, axis)


def argmax(x: X, axis: int | None = None) -> X:
    """The index of the largest element along `axis` (None: of the flattened array); int64, no gradient."""
    return _argmax(x, axis=_checked_one("argmax", x, axis))


def argmin(x: X, axis: int | None = None) -> X:
    """The index of the smallest element along `axis` (None: of the flattened array); int64, no gradient."""
    return _argmin(x, axis=_checked_one("argmin", x, axis))


@op()
def _any(B: Any, x: Any, axis: Axes, keepdims: bool) -> Any:
    return B.xp.any(x, axis, keepdims=keepdims)


@op()
def _all(B: Any, x: Any, axis: Axes, keepdims: bool) -> Any:
    return B.xp.all(x, axis, keepdims=keepdims)


def any(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """Whether at least one element over `axis` is True or not 0, as booleans without a gradient. False if there are none."""
    return _any(x, axis=_checked("any", x, axis), keepdims=keepdims)


def all(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """Whether every element over `axis` is True or not 0, as booleans without a gradient. True if there are none."""
    return _all(x, axis=_checked("all", x, axis), keepdims=keepdims)


def _checked(name: str, x: Any, axis: Any) -> Axes:
    """`axis` as None or a tuple of distinct axes, counted from the front. An array without axes accepts axis 0, as in NumPy
    and PyTorch."""
    shape = shape_of(name, x)
    if axis is None:
        return None
    axes = checked_axes(name, axis, shape, len(shape) or 1)
    return axes if shape else None


def _checked_one(name: str, x: Any, axis: Any) -> int | None:
    """As `_checked`, for a single axis."""
    shape = shape_of(name, x)
    if axis is None:
        return None
    one = checked_axis(name, axis, shape, len(shape) or 1)
    return one if shape else None


def _reduced(axis: Axes, shape: tuple[int, ...]) -> list[bool]:
    """For every axis, whether the reduction runs over it."""
    return [axis is None or i in axis for i in range(len(shape))]


def _spread(g: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    """The result of a reduction, repeated to the shape before the reduction."""
    if axis is not None and not keepdims:
        kept = tuple([1 if i in axis else n for i, n in enumerate(shape)])
        g = _reshape(g, shape=kept, original=g.shape)
    return _broadcast_to(g, shape=shape, original=g.shape)


def _count(axis: Axes, shape: tuple[int, ...]) -> int:
    """How many elements go into one result."""
    return math.prod([n for n, k in zip(shape, _reduced(axis, shape), strict=True) if k])
