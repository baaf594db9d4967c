"""Limits for optimisers: the largest gradient that a mean square takes in, and the largest mean square.

Adam and RMSProp keep a running mean of squared gradients. A mean that overflowed would stay infinite, and its weight would
never move again. So every finite gradient is limited: if its square would overflow, the largest gradient whose square does
not overflow takes its place. Both rules divide the gradient by the root of its mean square, so the step is nearly the same.
The mean stays finite and decays, so the weight can move. Infinite and NaN gradients are not changed.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

MARGIN = 0.999
"""The largest gradient is a little less than the root of the largest number: rounding must not make its square infinite."""


def largest_square(dtype: Any) -> float:
    """The largest value of a mean square: the largest finite number of the dtype."""
    return float(np.finfo(dtype).max)


def largest_gradient(dtype: Any, share: float) -> float:
    """The largest gradient that a mean square takes in, where the mean adds `share` times the squared gradient."""
    return MARGIN * math.sqrt(largest_square(dtype)) / math.sqrt(share)
