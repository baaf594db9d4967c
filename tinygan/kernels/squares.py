"""How large a gradient may be that enters a mean square, and how large the mean square may become.

Adam and RMSProp keep a running mean of squared gradients. A mean that overflowed would stay infinite, and its weight would
never move again. So a finite gradient whose square is too large enters as the largest gradient whose square is not. Both
rules divide the gradient by the root of its mean square, so the step is nearly the same. The mean stays finite and decays,
so the weight can move. Infinite and NaN gradients stay as they are.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

MARGIN = 0.999
"""The largest gradient is this share of the root of the largest square, so that rounding cannot make its square infinite."""


def largest_square(dtype: Any) -> float:
    """The largest mean square: the largest number of the dtype."""
    return float(np.finfo(dtype).max)


def largest_gradient(dtype: Any, share: float) -> float:
    """The largest gradient that may enter a mean square, which takes in `share` of the gradient's square."""
    return MARGIN * math.sqrt(largest_square(dtype)) / math.sqrt(share)
