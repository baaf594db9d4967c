"""What a step of training reports."""
from __future__ import annotations

__all__ = ["Stats", "mean_of", "mean_stats", "mean_stats_over_ranks", "number"]

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygan.backends import backend_of, cpu
from tinygan.devices import is_readable
from tinygan.ops.ranks import mean_numbers_over_ranks
from tinygan.tensor import as_array


class Stats(NamedTuple):
    """What one step reports: the losses of the discriminator (penalties included) and the generator, and what the
    discriminator said of real (d_real) and of generated images (d_fake) before its update. With a cost of `log_odds` that is
    the mean probability of being real. With any other cost (see `costs.COSTS`) there is no such probability, and it is the
    mean output: then d_real - d_fake is the Wasserstein critic's estimate of the distance. On a GPU each is an array of one
    number, and `float` waits until it is computed."""

    d_loss: float
    g_loss: float
    d_real: float
    d_fake: float


def number(value: Any) -> Any:
    """An array of one number as a float. On a GPU it stays an array, because reading it would have to wait for the step; and
    while a step is recorded it cannot be read."""
    array = as_array(value)
    return float(array) if backend_of(array) is cpu and is_readable(array) else array


def mean_stats(updates: Sequence[Stats]) -> Stats:
    """The means of several updates' statistics."""
    return Stats(*(mean_of(values) for values in zip(*updates, strict=True)))


def mean_stats_over_ranks(stats: Stats) -> Stats:
    """The means of several processes' statistics, in a step of a GAN that they train together."""
    found = mean_numbers_over_ranks(stats)
    return stats if found is stats else Stats(*map(number, found))


def mean_of(values: Sequence[Any]) -> Any:
    """The mean of numbers that `number` returned."""
    if all(isinstance(value, float) for value in values):
        return math.fsum(values) / len(values)
    wide = [value.astype(np.float64) for value in values]
    return sum(wide[1:], wide[0]) / len(wide)
