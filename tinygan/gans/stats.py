"""What a step of training reports."""
from __future__ import annotations

__all__ = ["Stats", "mean_stats", "number"]

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tinygan.backends import backend_of
from tinygan.tensor import as_array


class Stats(NamedTuple):
    """What one step reports: both players' losses, and the mean probability that the discriminator gave to real and
    to generated images before its update. On a GPU these are arrays of one number, and `float` waits for them."""

    d_loss: float
    g_loss: float
    d_real: float
    d_fake: float


def number(value: Any) -> Any:
    """An array of one number as a float. On a GPU it stays an array, since reading it would wait for the step."""
    array = as_array(value)
    return array if backend_of(array).name != "cpu" else float(array)


def mean_stats(updates: Sequence[Stats]) -> Stats:
    """The means of several updates' statistics."""
    return Stats(*(_mean(values) for values in zip(*updates, strict=True)))


def _mean(values: Sequence[Any]) -> Any:
    if all(isinstance(value, float) for value in values):
        return math.fsum(values) / len(values)
    return sum(values[1:], values[0]) / len(values)
