"""How large the mean squares of gradients may become that Adam and RMSProp keep.

A mean square that overflowed would be infinite for ever, and its weight would never move again. So a finite gradient, if its
square is too large, enters as the largest one whose square is not. Adam and RMSProp divide the gradient by its own size: the
step is nearly the same. And the mean square stays finite, decays, and lets the weight move. Infinite and NaN gradients stay
what they are.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

MARGIN = 0.999  # for rounding


def largest_square(dtype: Any) -> float:
    """The largest mean square: the largest number of the dtype."""
    return float(np.finfo(dtype).max)


def largest_gradient(dtype: Any, share: float) -> float:
    """How large a gradient may enter a mean square, which gets `share` of its square."""
    return MARGIN * math.sqrt(largest_square(dtype)) / math.sqrt(share)
