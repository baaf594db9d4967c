"""Checks of arguments that convolution, pooling and upsampling share: sizes for one or two directions, and images."""
from __future__ import annotations

__all__ = ["image_shape", "is_whole", "pair"]

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygan.tensor import shape_of

Pair = tuple[int, int]


def is_whole(value: Any) -> bool:
    """Whether value is an integer and not a boolean."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def two(values: Sequence[int]) -> Pair:
    return int(values[0]), int(values[1])


def pair(caller: str, what: str, value: Any, least: int, shapes: str) -> Pair:
    """value, one whole number for both directions or (vertical, horizontal), as a pair. shapes: a text for the error, which
    quotes the shapes of the inputs."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(values) == 1:
        values *= 2
    if len(values) != 2 or not all(is_whole(v) and v >= least for v in values):
        raise ValueError(f"{caller}: {what} should be one or two whole numbers, {least} or more, got {value!r}{shapes}")
    return two(values)


def image_shape(caller: str, x: Any) -> tuple[int, ...]:
    """The shape of images (N, C, H, W). They must have channels and pixels, but the batch may be empty."""
    shape = shape_of(caller, x)
    if len(shape) != 4 or not all(shape[1:]):
        raise ValueError(f"{caller}: input should be images (N, C, H, W) with at least one channel and one pixel, got shape "
                         f"{shape}")
    return shape
