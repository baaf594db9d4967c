"""Schedules: functions from the index of an update (0, 1, ...) to a learning rate, a beta of Adam, or another setting.

A schedule may also be stated in images. `by_images` makes it one of updates:

    burn_in = 2_000_000  # images
    beta2 = by_images(cosine_decay(0.9, 0.99, burn_in), batch_size)
    optimizer = Adam(2e-4, betas=(0.0, beta2))
    ema = half_life(cosine_decay(0, 500_000, burn_in), batch_size)

They are `partial`s of functions of this module, so that an optimiser or a GAN that has one can be pickled.
"""
from __future__ import annotations

__all__ = ["Schedule", "by_images", "cosine_decay", "exponential_decay", "half_life", "linear_decay", "step_decay", "warmup"]

import math
from collections.abc import Callable
from functools import partial

Schedule = Callable[[int], float]
"""The index of an update (0, 1, ...) -> the learning rate, or another setting. It depends on nothing else, so that a resumed
training computes the same."""


def step_decay(start: float, factor: float, every: int) -> Schedule:
    """start, multiplied by `factor` once after each `every` updates (at least 1)."""
    _check_count("step_decay", "every", every)
    return partial(_in_steps, start, factor, every)


def exponential_decay(start: float, factor: float) -> Schedule:
    """start * factor^count."""
    return partial(_in_steps, start, factor, 1)


def linear_decay(start: float, end: float, updates: int) -> Schedule:
    """From start to end in a straight line over that many updates (at least 1), then end."""
    _check_count("linear_decay", "updates", updates)
    return partial(_along_a_line, start, end, updates)


def cosine_decay(start: float, end: float, updates: int) -> Schedule:
    """From start to end along half a cosine over that many updates (at least 1), then end (Loshchilov, Hutter 2017). The end
    may be above the start, as in R3GAN's burn-in (Huang et al. 2024, table 9)."""
    _check_count("cosine_decay", "updates", updates)
    return partial(_along_a_cosine, start, end, updates)


def warmup(schedule: float | Schedule, updates: int) -> Schedule:
    """A straight line from near 0 up to `schedule` over the first `updates` updates (at least 1), then `schedule`."""
    _check_count("warmup", "updates", updates)
    return partial(_warming_up, schedule, updates)


def by_images(schedule: Schedule, images: int) -> Schedule:
    """`schedule`, a function of the number of images seen before an update, as a function of the update's index.

    images: how many each update adds (at least 1): the batch size. For a generator that is updated once in `d_steps` updates
    of the discriminator, d_steps * batch size."""
    _check_count("by_images", "images", images)
    return partial(_seen, schedule, images)


def half_life(images: float | Schedule, batch_size: int) -> float | Schedule:
    """The decay per step of an average whose half-life is stated in images, as in R3GAN (Huang et al. 2024, table 9): 0.5 **
    (batch_size / images), and 0 if `images` is 0, so that the average equals the weights.

    images: the half-life, a number of images of at least 0, or a schedule: the number of images seen -> the half-life.
    batch_size: how many images each step takes (at least 1). Returns a number or a schedule, for
    `ExponentialMovingAverage` and the `ema` of a GAN."""
    _check_count("half_life", "batch_size", batch_size)
    if callable(images):
        return by_images(partial(_half_life_at, images, batch_size), batch_size)
    return _decay_of(images, batch_size)


# What the schedules are partials of: the last argument is the count.


def _in_steps(start: float, factor: float, every: int, count: int) -> float:
    return start * factor ** (count // every)


def _along_a_line(start: float, end: float, updates: int, count: int) -> float:
    return _between(start, end, min(count / updates, 1.0))


def _along_a_cosine(start: float, end: float, updates: int, count: int) -> float:
    return _between(start, end, (1 - math.cos(math.pi * min(count / updates, 1.0))) / 2)


def _warming_up(schedule: float | Schedule, updates: int, count: int) -> float:
    return (schedule(count) if callable(schedule) else schedule) * min((count + 1) / updates, 1.0)


def _seen(schedule: Schedule, images: int, count: int) -> float:
    return schedule(count * images)


def _half_life_at(images: Schedule, batch_size: int, seen: int) -> float:
    return _decay_of(images(seen), batch_size)


def _decay_of(half: float, batch_size: int) -> float:
    if not 0 <= half < math.inf:
        raise ValueError(f"half_life: images should be a number of at least 0, got {half}")
    return float(0.5 ** (batch_size / half)) if half else 0.0


def _between(start: float, end: float, share: float) -> float:
    """The point at this share of the way from start to end. (start + share * (end - start) would lose a small end.)"""
    return (1 - share) * start + share * end


def _check_count(caller: str, name: str, value: int) -> None:
    if not value >= 1:
        raise ValueError(f"{caller}: {name} should be at least 1, got {value}")
