"""Values that the host decides anew in every step, such as keys and learning rates, as arguments of kernels."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.context import CONTEXT

__all__ = ["feed"]

Array = np.ndarray[Any, Any]
HostValue = Any
"""An array or a tuple of numbers; or a function that returns one and is called again before every replay."""


def feed(value: Array | Callable[[], Array]) -> Array:
    """The value as an array, or the result of calling it."""
    listener = CONTEXT.get().listener
    if listener is not None:
        return listener.feed(value)
    return value() if callable(value) else value


def fed(value: HostValue, pack: Callable[..., bytes]) -> bytes | Callable[[], bytes]:
    """`pack` of the numbers in `value`, for `Pool.run`. While a step is recorded it is a function, because the numbers
    change from replay to replay."""
    if callable(value) and CONTEXT.get().listener is not None:
        slot = feed(lambda: np.asarray(value())).view(np.ndarray)
        return lambda: pack(*slot.tolist())
    numbers = value() if callable(value) else value
    return pack(*(numbers.tolist() if isinstance(numbers, np.ndarray) else numbers))
