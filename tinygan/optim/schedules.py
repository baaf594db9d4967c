"""Learning-rate schedules: functions from the index of an update (0, 1, ...) to the learning rate."""
from __future__ import annotations

__all__ = ["Schedule", "cosine_decay", "exponential_decay", "linear_decay", "step_decay", "warmup"]

import math
from collections.abc import Callable

Schedule = Callable[[int], float]
"""The index of an update (0, 1, ...) -> the learning rate."""


def step_decay(start: float, factor: float, every: int) -> Schedule:
    """start, multiplied by `factor` once after each `every` updates (at least 1)."""
    _check_count("step_decay", "every", every)
    return lambda count: start * factor ** (count // every)


def exponential_decay(start: float, factor: float) -> Schedule:
    """start * factor^count."""
    return lambda count: start * factor**count


def linear_decay(start: float, end: float, updates: int) -> Schedule:
    """From start to end in a straight line over that many updates (at least 1), then end."""
    _check_count("linear_decay", "updates", updates)
    return lambda count: _between(start, end, min(count / updates, 1.0))


def cosine_decay(start: float, end: float, updates: int) -> Schedule:
    """From start to end along half a cosine over that many updates (at least 1), then end (Loshchilov, Hutter 2017)."""
    _check_count("cosine_decay", "updates", updates)
    return lambda count: _between(start, end, (1 - math.cos(math.pi * min(count / updates, 1.0))) / 2)


def warmup(schedule: float | Schedule, updates: int) -> Schedule:
    """A straight line from near 0 up to `schedule` over the first `updates` updates (at least 1), then `schedule`."""
    _check_count("warmup", "updates", updates)
    return lambda count: (schedule(count) if callable(schedule) else schedule) * min((count + 1) / updates, 1.0)


def _between(start: float, end: float, share: float) -> float:
    """The point at this share of the way from start to end. (start + share * (end - start) would lose a small end.)"""
    return (1 - share) * start + share * end


def _check_count(caller: str, name: str, value: int) -> None:
    if not value >= 1:
        raise ValueError(f"{caller}: {name} should be at least 1, got {value}")
