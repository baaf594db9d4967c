"""Numbers that may be schedules: functions of the number of training steps made so far."""
from __future__ import annotations

__all__ = ["now"]

from typing import Any

import numpy as np

from tinygan.backends import backend_of
from tinygan.counting import Count
from tinygan.optim import Schedule
from tinygan.tensor import as_array


def now(value: float | Schedule, steps: Count, like: Any) -> Any:
    """The value at this step: the number itself or, of a schedule, an array () on the device and in the precision of `like`.
    (Every replay of a captured step calls the schedule again.)"""
    if not callable(value):
        return value
    schedule, array = value, as_array(like)
    return backend_of(array).feed(lambda: np.array(schedule(steps.value), array.dtype))
