"""PReLU: a ReLU whose slope for negative inputs is learnt."""
from __future__ import annotations

__all__ = ["prelu"]

from typing import Any

from tinygan.making import weighted
from tinygan.ops.choosing import greater, where
from tinygan.ops.elementwise import add, mul
from tinygan.ops.normalization import per_channel
from tinygan.ops.shape import reshape
from tinygan.tensor import shape_of


@weighted
def prelu(x: Any, weight: Any) -> Any:
    """x where positive, weight * x elsewhere: x (N, C, ...), weight (C,) or (1,) (He et al. 2015, equation 1). A weight of
    one number fits an x of any shape. At 0 the slope is the weight, as in PyTorch."""
    shape, numbers = shape_of("prelu", x), shape_of("prelu", weight)
    if numbers != (1,) and numbers != shape[1:2]:
        expected = f"(1,) or {shape[1:2]}" if len(shape) > 1 else "(1,)"
        raise ValueError(f"prelu: weight should be of shape {expected}, got {numbers} (input {shape})")
    positive = greater(x, 0)
    factors = reshape(weight, ()) if numbers == (1,) else per_channel(weight, x)
    # The weight is multiplied by 0 where x is positive: x itself may be infinite there.
    return add(where(positive, x, 0.0), mul(where(positive, 0.0, x), factors))
