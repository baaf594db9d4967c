"""Dropout."""
from __future__ import annotations

__all__ = ["dropout"]


from tinygan.backends import backend_of
from tinygan.making import X
from tinygan.ops.elementwise import mul
from tinygan.random import Key, as_key, draw_examples, next_key
from tinygan.tensor import FLOATS, as_array, shape_of


def dropout(x: X, rate: float = 0.5, key: Key | None = None) -> X:
    """x with each element set to 0 with probability `rate`, and the others divided by 1 - rate (Srivastava et al. 2014).

    key: the key to draw from; None: the next key of the context.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate should be in [0, 1), got {rate}")
    shape = shape_of("dropout", x)
    if x.dtype not in FLOATS:
        raise TypeError(f"dropout: needs float32 or float64, got {x.dtype}; convert with tinygan.astype first")
    if rate == 0:
        return x
    key = next_key() if key is None else as_key("dropout", key)
    draws = draw_examples(key.uniform, shape, dtype=x.dtype, backend=backend_of(as_array(x)))
    return mul(x, (draws >= rate).astype(x.dtype) / x.dtype.type(1 - rate))
