"""Reductions. `axis` is None (all axes), an integer or a tuple; `keepdims` leaves axes of size 1 behind."""
from __future__ import annotations

__all__ = ["all", "any", "argmax", "argmin", "log_softmax", "logsumexp", "max", "mean", "min", "softmax", "sum", "var"]

import math
from typing import Any

import numpy as np

from tinygan.graph import OUT, op
from tinygan.making import X
from tinygan.ops.elementwise import astype, exp, mul, neg, sub
from tinygan.ops.shape import _broadcast_to, _reshape, checked_axes, checked_axis
from tinygan.tensor import FLOATS, Axis, shape_of

Axes = tuple[int, ...] | None  # what `_checked` makes of an Axis


@op(integers=True)
def _sum(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return B.sum(x, axis, keepdims)


@_sum.vjp
def _(needs: Any, g: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return (_spread(g, axis, keepdims, shape),)


def sum(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The sum over `axis`. Of booleans it is how many are True, and of integers an integer of 64 bits, as in NumPy."""
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
    """The mean over `axis`; of booleans or integers in float32, the default. Raises ValueError for the mean of nothing."""
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
    where count is ddof or less."""
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
    return (_centred(g, axis=axis),)


def centred(caller: str, x: Any, axis: Axes) -> Any:
    """x less its mean over the axes, of which there is something; a mask is 0 and 1, in float32.

    A large mean has few digits behind the point, and what its rounding leaves is taken off by a second mean: so the result
    depends on a common offset of x no more than x itself does.
    """
    if x.dtype.kind == "b":
        x = astype(x, np.float32)
    elif x.dtype not in FLOATS:
        raise TypeError(f"{caller}: needs float32 or float64, got {x.dtype}; convert with tinygan.astype first")
    return _centred(x, axis=axis)


@op()
def largest_magnitude(B: Any, x: Any, axis: Axes = None, keepdims: bool = False) -> Any:
    """The largest |x| over the axes, to divide by before squaring; a constant to `grad`, NaN where x has a NaN."""
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
    chosen = _share(x, _spread(y, axis, keepdims, shape), axis=axis)
    return (mul(_spread(g, axis, keepdims, shape), chosen),)


@op()
def _share(B: Any, x: Any, y: Any, axis: Axes) -> Any:
    """Which elements are the extreme ones: 1, or 1/k each where k of them tie. Beside a NaN there is no other."""
    ties = ((x == y) | (x != x)).astype(x.dtype)
    return ties / B.sum(ties, axis, True)


def max(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The largest element over `axis`; where several tie they share the gradient. A NaN wins, and takes it all."""
    axis = _checked("max", x, axis)
    return _max(x, axis=axis, keepdims=keepdims, shape=x.shape)


def min(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The smallest element over `axis`; where several tie they share the gradient. A NaN wins, and takes it all."""
    axis = _checked("min", x, axis)
    return _min(x, axis=axis, keepdims=keepdims, shape=x.shape)


@op(saves=(0,))
def _logsumexp(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    total = B.logsumexp(x, axis)
    if keepdims:
        return total
    return total.reshape(tuple([n for n, k in zip(shape, _reduced(axis, shape), strict=True) if not k]))


@_logsumexp.vjp
def _(needs: Any, g: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return (mul(_spread(g, axis, keepdims, shape), _softmax(x, axis=axis)),)  # (exp(x - y) would round y first)


def logsumexp(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """log(sum(exp(x))) over `axis`, without overflow: -inf where there is nothing to sum, or -inf only. Its gradient is
    `softmax`, with the shares of infinite numbers as there."""
    axis = _checked("logsumexp", x, axis)
    return _logsumexp(x, axis=axis, keepdims=keepdims, shape=x.shape)


@op(saves=(OUT,))
def _softmax(B: Any, x: Any, axis: Axes) -> Any:
    return B.softmax(x, axis)


@_softmax.vjp
def _(needs: Any, g: Any, y: Any, axis: Axes) -> Any:
    # The same number off all of g changes nothing. With that of the likeliest element it gets what the others leave it, the
    # sum of small numbers rather than 1 - y.
    g = sub(g, sum(mul(g, _likeliest(y, axis=axis)), axis, keepdims=True))
    gy = mul(g, y)
    return (sub(gy, mul(y, sum(gy, axis, keepdims=True))),)


@op()
def _likeliest(B: Any, y: Any, axis: Axes) -> Any:
    """1 at the largest element of probabilities, or 1/k each where k of them tie; no gradient."""
    if not y.size:
        return y
    ties = (y == B.xp.max(y, axis, keepdims=True)).astype(y.dtype)
    return ties / B.xp.maximum(B.xp.sum(ties, axis, keepdims=True), 1)  # (a NaN is equal to nothing)


def softmax(x: X, axis: int = -1) -> X:
    """exp(x) / sum(exp(x)) along `axis`, without overflow.

    An infinite number takes all the weight, as in the limit, and several share it: [inf, 1] gives [1, 0], [inf, inf] gives
    [0.5, 0.5]. Where all are -inf nothing has a weight: zeros.
    """
    return _softmax(x, axis=_along("softmax", x, axis))


@op(saves=(OUT,))
def _log_softmax(B: Any, x: Any, axis: Axes) -> Any:
    return B.log_softmax(x, axis)


@_log_softmax.vjp
def _(needs: Any, g: Any, y: Any, axis: Axes) -> Any:
    # g - exp(y) sum(g), in a form that keeps a small 1 - exp(y).
    others = sub(sum(g, axis, keepdims=True), g)
    return (sub(mul(g, _one_minus_exp(y)), mul(exp(y), others)),)


@op(saves=(0,))
def _one_minus_exp(B: Any, x: Any) -> Any:
    return -B.xp.expm1(x)


@_one_minus_exp.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (neg(mul(g, exp(x))),)


def log_softmax(x: X, axis: int = -1) -> X:
    """log(softmax(x)) along `axis`, without overflow and exact near 0; infinite numbers as in `softmax`."""
    return _log_softmax(x, axis=_along("log_softmax", x, axis))


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
    """Whether one element over `axis` is True, or is not 0; booleans, no gradient. Of nothing: False."""
    return _any(x, axis=_checked("any", x, axis), keepdims=keepdims)


def all(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """Whether every element over `axis` is True, or is not 0; booleans, no gradient. Of nothing: True."""
    return _all(x, axis=_checked("all", x, axis), keepdims=keepdims)


def _checked(name: str, x: Any, axis: Any) -> Axes:
    """`axis` as None or a tuple of distinct axes, counted from the front. A single number has an axis 0, too, as NumPy and
    PyTorch have it."""
    shape = shape_of(name, x)
    if axis is None:
        return None
    axes = checked_axes(name, axis, shape, len(shape) or 1)
    return axes if shape else None


def _checked_one(name: str, x: Any, axis: Any) -> int | None:
    """The same for a single axis."""
    shape = shape_of(name, x)
    if axis is None:
        return None
    one = checked_axis(name, axis, shape, len(shape) or 1)
    return one if shape else None


def _along(name: str, x: Any, axis: Any) -> Axes:
    """The one axis of a softmax as a tuple; None, all axes, for a single number."""
    shape = shape_of(name, x)
    axis = checked_axis(name, axis, shape, len(shape) or 1)
    return (axis,) if shape else None


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
