"""Gradient clipping: functions of a list of gradients, without side effects and differentiable."""
from __future__ import annotations

__all__ = ["clip_by_norm", "clip_by_value"]

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygan.ops import add, clip, div, less_equal, maximum, mul, where
from tinygan.ops import sum as sum_over
from tinygan.ops.reduce import largest_magnitude
from tinygan.optim.rules import root


def clip_by_value(gradients: Sequence[Any], limit: float) -> list[Any]:
    """Every element limited to [-limit, limit]."""
    _check_limit("clip_by_value", limit)
    return [clip(g, -limit, limit) for g in gradients]


def clip_by_norm(gradients: Sequence[Any], limit: float) -> tuple[list[Any], Any]:
    """All gradients scaled by one factor, so that their joint L2 norm is at most `limit` (Pascanu et al. 2013, algorithm 1).

    Returns the gradients and their norm before scaling. A limit of infinity scales nothing. If a gradient holds infinity or
    NaN, everything returned is NaN. There is no error, because an error would have to wait for the GPU.
    """
    _check_limit("clip_by_norm", limit)
    scale = _largest(gradients)
    if scale is None:
        return list(gradients), 0.0
    # Divide by the largest magnitude before the norm is computed, and multiply by it afterwards: so no square overflows or
    # becomes 0.
    total: Any = 0.0
    for g in gradients:
        part = div(g, scale)
        total = add(total, sum_over(mul(part, part)))
    scaled_norm = root(total)
    norm = mul(scaled_norm, scale)
    limit = min(limit, float(np.finfo(np.dtype(norm.dtype)).max))  # the factor of infinity would be inf / inf
    inside = less_equal(norm, limit)
    # g * limit / norm, computed as (g / scale) * (limit / scaled_norm), because limit / norm might round to 0.
    divisor = where(inside, 1.0, scale)
    factor = where(inside, 1.0, div(limit, where(inside, 1.0, scaled_norm)))
    return [mul(div(g, divisor), factor) for g in gradients], norm


def _largest(gradients: Sequence[Any]) -> Any:
    """The largest magnitude among all gradients, a constant to `grad`; None if they have no elements. It is at least the
    smallest normal number, because we divide by it, and a GPU treats smaller numbers as 0."""
    scale: Any = None
    for g in gradients:
        if g.size:
            largest = largest_magnitude(g)
            scale = largest if scale is None else maximum(scale, largest)
    return scale if scale is None else maximum(scale, float(np.finfo(scale.dtype).tiny))


def _check_limit(caller: str, limit: float) -> None:
    if not limit > 0:
        raise ValueError(f"{caller}: limit should be positive, got {limit}")
