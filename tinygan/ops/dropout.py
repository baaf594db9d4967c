"""Dropout."""
from __future__ import annotations

from typing import Any

from tinygan.backends import backend_of
from tinygan.ops.elementwise import mul
from tinygan.random import Key, next_key
from tinygan.tensor import as_array


def dropout(x: Any, rate: float = 0.5, key: Key | None = None) -> Any:
    """Each element zeroed with probability `rate`, the others divided by 1 - rate (Srivastava et al. 2014).

    key: where the draw comes from; None: the context's key.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate should be in [0, 1), got {rate}")
    if rate == 0:
        return x
    draws = (key or next_key()).uniform(x.shape, dtype=x.dtype, backend=backend_of(as_array(x)))
    return mul(x, (draws >= rate).astype(x.dtype) / x.dtype.type(1 - rate))
