"""The arguments that all kernels of batch normalisation share."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Normalized(NamedTuple):
    """What activation(z) depends on, where z = (x - mean) * inverse * weight + bias."""

    x: Array  # (rows, channels), C-contiguous
    mean: Array  # (channels,), like the next three
    inverse: Array  # 1 / deviation
    weight: Array
    bias: Array
    activation: str  # a name in PIECEWISE_LINEAR
    slope: float  # the parameter of the activation
