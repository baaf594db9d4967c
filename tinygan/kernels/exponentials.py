"""Softmax and its kin in the functions of an array namespace, NumPy's or one with the same names.

All begin with x less its largest number, so that nothing overflows. The largest element's exponential is then 1, and the
others are summed beside it: so log(1 + a little) is not lost. An infinite maximum takes all the weight: [inf, 1] is to
softmax as [1, 0] is, and two infinities share. In a row of -inf nothing has a weight: zeros.
"""
from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
Axes = tuple[int, ...] | None


def _centred(xp: Any, x: Array, axes: Axes) -> tuple[Array, Array, Array]:
    """x less its largest number; that number; and the sum of all exponentials but one of the largest, in float64. (Without
    branches: for those a GPU would have to be waited for.)"""
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
    """log(sum(exp(x))) over the axes, which stay as axes of size 1."""
    if not x.size:
        return xp.full([1 if axes is None or i in axes else n for i, n in enumerate(x.shape)], -np.inf, x.dtype)
    _, high, others = _centred(xp, x, axes)
    return (high + xp.log1p(others)).astype(x.dtype)
