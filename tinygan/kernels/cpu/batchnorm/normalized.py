"""What all kernels of batch normalisation are told."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Normalized(NamedTuple):
    """z = (x - mean) * inverse * weight + bias, and the activation of z."""

    x: Array  # (rows, channels), C-contiguous
    mean: Array  # (channels,), as the next three
    inverse: Array  # 1 / deviation
    weight: Array
    bias: Array
    activation: str  # one of PIECEWISE_LINEAR
    slope: float  # its parameter
