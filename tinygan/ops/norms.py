"""The L2 norm and the standard deviation: square roots of sums of squares, whose gradient at 0 is 0."""
from __future__ import annotations

__all__ = ["norm", "std"]

import math
from typing import Any

import numpy as np

from tinygan.graph import OUT, op
from tinygan.making import X
from tinygan.ops.choosing import equal, where
from tinygan.ops.elementwise import div, mul
from tinygan.ops.reduce import Axes, _checked, _count, _reduced, _spread, centred, largest_magnitude
from tinygan.tensor import Axis


@op(saves=(0, OUT))
def _norm(B: Any, x: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    xp = B.xp
    if x.dtype == np.float32 or not x.size:  # float64 holds the square of every float32
        return xp.sqrt(B.sum(xp.square(x, dtype=np.float64), axis, keepdims)).astype(x.dtype)
    # Divide by a power of two, which is exact. Then the largest square is between 1 and 4.
    high = largest_magnitude.forward(B, x, axis, True)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = xp.where(xp.isfinite(high) & (high > 0), xp.exp2(xp.floor(xp.log2(high))), 1.0)
    y = scale * xp.sqrt(B.sum(xp.square(x / scale), axis, True))
    return y if keepdims else y.reshape(tuple([n for n, k in zip(shape, _reduced(axis, shape), strict=True) if not k]))


@_norm.vjp
def _(needs: Any, g: Any, x: Any, y: Any, axis: Axes, keepdims: bool, shape: tuple[int, ...]) -> Any:
    # The gradient is the unit vector x / y. If y is 0, x / inf is used: it is 0, and so are its derivatives.
    y = where(equal(y, 0.0), math.inf, y)
    return (mul(_spread(g, axis, keepdims, shape), div(x, _spread(y, axis, keepdims, shape))),)


def norm(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The L2 norm over `axis`, sqrt(sum(x * x)), without overflow or underflow of the squares.

    If the norm is 0, its gradient is 0, and so are all higher derivatives. So a gradient penalty can be differentiated even
    where the gradient is 0. (`sqrt(sum(x * x))` gives NaN there.) The norm of no elements is 0.
    """
    axis = _checked("norm", x, axis)
    return _norm(x, axis=axis, keepdims=keepdims, shape=x.shape)


def std(x: X, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> X:
    """The standard deviation over `axis`, the square root of `var`. If it is 0, its gradient is 0; that of `sqrt(var(x))`
    would be NaN."""
    axis = _checked("std", x, axis)
    count = _count(axis, x.shape)
    if count <= ddof:
        raise ValueError(f"std: {count} elements along axis {axis} of the shape {x.shape}, needs more than ddof={ddof}")
    return mul(norm(centred("std", x, axis), axis, keepdims), 1 / math.sqrt(count - ddof))
