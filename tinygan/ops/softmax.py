"""`softmax`, `log_softmax` and `logsumexp`. They do not overflow, and their gradients keep small differences."""
from __future__ import annotations

__all__ = ["log_softmax", "logsumexp", "softmax"]

from typing import Any

from tinygan.graph import OUT, op
from tinygan.making import X
from tinygan.ops.elementwise import exp, mul, neg, sub
from tinygan.ops.reduce import Axes, _checked, _reduced, _spread, sum
from tinygan.ops.shape import checked_axis
from tinygan.tensor import Axis, shape_of


@op(saves=(0,))
def _logsumexp(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    total = B.logsumexp(x, axis)
    if keepdims:
        return total
    return total.reshape(tuple([n for n, k in zip(shape, _reduced(axis, shape), strict=True) if not k]))


@_logsumexp.vjp
def _(needs: Any, g: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    return (mul(_spread(g, axis, keepdims, shape), _softmax(x, axis=axis)),)  # (exp(x - y) is less exact)


def logsumexp(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """log(sum(exp(x))) over `axis`, without overflow. It is -inf if there are no elements or all are -inf. Its gradient is
    `softmax(x)`, which says what infinite elements get."""
    axis = _checked("logsumexp", x, axis)
    return _logsumexp(x, axis=axis, keepdims=keepdims, shape=x.shape)


@op(saves=(OUT,))
def _softmax(B: Any, x: Any, axis: Axes) -> Any:
    return B.softmax(x, axis)


@_softmax.vjp
def _(needs: Any, g: Any, y: Any, axis: Axes) -> Any:
    # Subtracting one number from all of g changes nothing. We subtract g of the likeliest element. So this element's
    # gradient is a sum over the other, small probabilities, which is more exact than 1 - y.
    g = sub(g, sum(mul(g, _likeliest(y, axis=axis)), axis, keepdims=True))
    gy = mul(g, y)
    return (sub(gy, mul(y, sum(gy, axis, keepdims=True))),)


@op()
def _likeliest(B: Any, y: Any, axis: Axes) -> Any:
    """1 at the largest probability, or 1/k at each of k equal ones; no gradient."""
    if not y.size:
        return y
    ties = (y == B.xp.max(y, axis, keepdims=True)).astype(y.dtype)
    return ties / B.xp.maximum(B.xp.sum(ties, axis, keepdims=True), 1)  # (a NaN is equal to nothing)


def softmax(x: X, axis: int = -1) -> X:
    """exp(x) / sum(exp(x)) along `axis`, without overflow.

    An element of inf gets the probability 1, as in the limit, and several share it: [inf, 1] gives [1, 0], [inf, inf] gives
    [0.5, 0.5]. If all elements are -inf, the result is zeros.
    """
    return _softmax(x, axis=_along("softmax", x, axis))


@op(saves=(OUT,))
def _log_softmax(B: Any, x: Any, axis: Axes) -> Any:
    return B.log_softmax(x, axis)


@_log_softmax.vjp
def _(needs: Any, g: Any, y: Any, axis: Axes) -> Any:
    # This is g - exp(y) sum(g), in a form that is exact when 1 - exp(y) is small.
    others = sub(sum(g, axis, keepdims=True), g)
    return (sub(mul(g, _one_minus_exp(y)), mul(exp(y), others)),)


@op(saves=(0,))
def _one_minus_exp(B: Any, x: Any) -> Any:
    return -B.xp.expm1(x)


@_one_minus_exp.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (neg(mul(g, exp(x))),)


def log_softmax(x: X, axis: int = -1) -> X:
    """log(softmax(x)) along `axis`, without overflow and exact near 0. For infinite elements see `softmax`."""
    return _log_softmax(x, axis=_along("log_softmax", x, axis))


def _along(name: str, x: Any, axis: Any) -> Axes:
    """The axis of a softmax as a tuple. None for an array without axes."""
    shape = shape_of(name, x)
    axis = checked_axis(name, axis, shape, len(shape) or 1)
    return (axis,) if shape else None
