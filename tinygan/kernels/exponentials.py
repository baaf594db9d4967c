"""softmax, log_softmax and logsumexp for any array namespace: NumPy, or one with the same function names.

All three first subtract the maximum from x, so that nothing overflows. The exponential of the maximum is then exactly 1. The
other exponentials are added up, and log1p adds the 1. So a tiny sum of them is not lost. If the maximum is infinite it takes
all the weight: softmax of [inf, 1] is [1, 0], and two infinities get 1/2 each. If all numbers are -inf, softmax is 0
everywhere.
"""
from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
Axes = tuple[int, ...] | None


def _centred(xp: Any, x: Array, axes: Axes) -> tuple[Array, Array, Array]:
    """(x - maximum, the maximum, the sum of all exponentials except one of the largest, in float64). There are no branches:
    to decide one, the CPU would have to wait for the GPU."""
    zero, high = x.dtype.type(0), xp.max(x, axes, keepdims=True)
    nothing = high == -np.inf
    largest = (x == high) & ~nothing
    shifted = xp.where(largest, zero, x) - xp.where(largest | nothing, zero, high)  # (never inf - inf)
    others = xp.sum(xp.where(largest, zero, xp.exp(shifted)), axes, dtype=np.float64, keepdims=True)
    ties = xp.maximum(xp.sum(largest, axes, dtype=np.float64, keepdims=True) - 1, 0)
    return shifted, high, others + ties


def softmax(xp: Any, x: Array, axes: Axes) -> Array:
    """exp(x) / sum(exp(x)) over the axes."""
    if not x.size:
        return xp.empty(x.shape, x.dtype)
    shifted, _, others = _centred(xp, x, axes)
    return xp.exp(shifted) / (others + 1).astype(x.dtype)


def log_softmax(xp: Any, x: Array, axes: Axes) -> Array:
    """log(softmax(x)) over the axes."""
    if not x.size:
        return xp.empty(x.shape, x.dtype)
    shifted, _, others = _centred(xp, x, axes)
    return shifted - xp.log1p(others).astype(x.dtype)


def logsumexp(xp: Any, x: Array, axes: Axes) -> Array:
    """log(sum(exp(x))) over the axes, which are kept with size 1."""
    if not x.size:
        return xp.full([1 if axes is None or i in axes else n for i, n in enumerate(x.shape)], -np.inf, x.dtype)
    _, high, others = _centred(xp, x, axes)
    return (high + xp.log1p(others)).astype(x.dtype)
