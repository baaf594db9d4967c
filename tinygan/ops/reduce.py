"""Reductions. `axis` is None (all axes), an integer or a tuple; `keepdims` leaves axes of size 1 behind."""
from __future__ import annotations

import math
from typing import Any

from tinygan.graph import OUT, op
from tinygan.ops.elementwise import exp, mul, sub
from tinygan.ops.shape import _broadcast_to, _reshape, checked_axes, checked_axis
from tinygan.tensor import Axis, shape_of

Axes = tuple[int, ...] | None  # what `_checked` makes of an Axis


@op()
def _sum(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return B.sum(x, axis, keepdims)


@_sum.vjp
def _(needs: Any, g: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return (_spread(g, axis, keepdims, shape),)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The sum over `axis`."""
    shape = shape_of("sum", x)
    if axis is not None:
        axis = checked_axes("sum", axis, shape)
    return _sum(x, axis=axis, keepdims=keepdims, shape=shape)


@op()
def _mean(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return B.mean(x, axis, keepdims)


@_mean.vjp
def _(needs: Any, g: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return (_spread(mul(g, 1 / _count(axis, shape)), axis, keepdims, shape),)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The mean over `axis`. Raises ValueError for the mean of nothing."""
    axis = _checked("mean", x, axis)
    if not _count(axis, x.shape):
        raise ValueError(f"mean: no elements along axis {axis} of the shape {x.shape}")
    return _mean(x, axis=axis, keepdims=keepdims, shape=x.shape)


def var(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Any:
    """The variance over `axis`: the sum of squared deviations from the mean, divided by (count - ddof)."""
    axis = _checked("var", x, axis)
    count = _count(axis, x.shape)
    if count <= ddof:
        raise ValueError(f"var: {count} elements along axis {axis} of the shape {x.shape}, needs more than ddof={ddof}")
    deviation = sub(x, mean(x, axis, keepdims=True))
    return mul(mean(mul(deviation, deviation), axis, keepdims), count / (count - ddof))  # (a sum might overflow)


@op()
def largest_magnitude(B: Any, x: Any, axis: Axes = None, keepdims: bool = False) -> Any:
    """The largest |x| over the axes, to divide by before squaring; a constant to `grad`, NaN where x has a NaN."""
    xp = B.xp
    return xp.maximum(xp.max(x, axis, keepdims=keepdims), -xp.min(x, axis, keepdims=keepdims))  # (|x| would be a copy)


@op(saves=(0, OUT))
def _max(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return B.xp.max(x, axis, keepdims=keepdims)


@op(saves=(0, OUT))
def _min(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return B.xp.min(x, axis, keepdims=keepdims)


@_max.vjp
@_min.vjp
def _(needs: Any, g: Any, x: Any, y: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    chosen = _share(x, _spread(y, axis, keepdims, shape), axis=axis)
    return (mul(_spread(g, axis, keepdims, shape), chosen),)


@op()
def _share(B: Any, x: Any, y: Any, axis: Axes) -> Any:
    """Which elements are the extreme ones: 1, or 1/k each where k of them tie."""
    ties = (x == y).astype(x.dtype)
    return ties / B.xp.sum(ties, axis, keepdims=True)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The largest element over `axis`; where several tie they share the gradient."""
    axis = _checked("max", x, axis)
    return _max(x, axis=axis, keepdims=keepdims, shape=x.shape)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The smallest element over `axis`; where several tie they share the gradient."""
    axis = _checked("min", x, axis)
    return _min(x, axis=axis, keepdims=keepdims, shape=x.shape)


@op(saves=(0, OUT))
def _logsumexp(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    high = B.xp.max(x, axis, keepdims=True)
    high = B.xp.where(B.xp.isfinite(high), high, 0)  # an infinite maximum would make inf - inf
    total = B.xp.log(B.xp.sum(B.xp.exp(x - high), axis, keepdims=True)) + high
    if keepdims:
        return total
    return total.reshape(tuple([n for n, k in zip(shape, _reduced(axis, shape), strict=True) if not k]))


@_logsumexp.vjp
def _(needs: Any, g: Any, x: Any, y: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return (mul(_spread(g, axis, keepdims, shape), exp(sub(x, _spread(y, axis, keepdims, shape)))),)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over `axis`, without overflow."""
    axis = _checked("logsumexp", x, axis)
    return _logsumexp(x, axis=axis, keepdims=keepdims, shape=x.shape)


@op(saves=(OUT,))
def _softmax(B: Any, x: Any, axis: int) -> Any:
    return B.softmax(x, axis)


@_softmax.vjp
def _(needs: Any, g: Any, y: Any, axis: int) -> Any:
    gy = mul(g, y)
    return (sub(gy, mul(y, sum(gy, axis, keepdims=True))),)


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along `axis`, without overflow."""
    return _softmax(x, axis=checked_axis("softmax", axis, shape_of("softmax", x)))


@op(saves=(OUT,))
def _log_softmax(B: Any, x: Any, axis: int) -> Any:
    return B.log_softmax(x, axis)


@_log_softmax.vjp
def _(needs: Any, g: Any, y: Any, axis: int) -> Any:
    return (sub(g, mul(exp(y), sum(g, axis, keepdims=True))),)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)) along `axis`, without overflow."""
    return _log_softmax(x, axis=checked_axis("log_softmax", axis, shape_of("log_softmax", x)))


@op()
def _argmax(B: Any, x: Any, axis: int | None) -> Any:
    return B.xp.argmax(x, axis)


@op()
def _argmin(B: Any, x: Any, axis: int | None) -> Any:
    return B.xp.argmin(x, axis)


def argmax(x: Any, axis: int | None = None) -> Any:
    """The index of the largest element along `axis` (None: of the flattened array); int64, no gradient."""
    return _argmax(x, axis=axis if axis is None else checked_axis("argmax", axis, shape_of("argmax", x)))


def argmin(x: Any, axis: int | None = None) -> Any:
    """The index of the smallest element along `axis` (None: of the flattened array); int64, no gradient."""
    return _argmin(x, axis=axis if axis is None else checked_axis("argmin", axis, shape_of("argmin", x)))


def _checked(name: str, x: Any, axis: Any) -> Axes:
    """`axis` as None or a tuple of distinct axes, counted from the front."""
    shape = shape_of(name, x)
    return None if axis is None else checked_axes(name, axis, shape)


def _reduced(axis: Axes, shape: tuple[int, ...]) -> list[bool]:
    """For every axis, whether the reduction runs over it."""
    return [axis is None or i in axis for i in range(len(shape))]


def _spread(g: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    """The result of a reduction, repeated over the shape that was reduced."""
    if axis is not None and not keepdims:
        kept = tuple([1 if i in axis else n for i, n in enumerate(shape)])
        g = _reshape(g, shape=kept, original=g.shape)
    return _broadcast_to(g, shape=shape, original=g.shape)


def _count(axis: Axes, shape: tuple[int, ...]) -> int:
    """How many elements go into one result."""
    return math.prod([n for n, k in zip(shape, _reduced(axis, shape), strict=True) if k])
