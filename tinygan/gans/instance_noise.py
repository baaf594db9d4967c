"""Instance noise: normal noise that is added to all images for the discriminator, so that real and generated ones overlap.

Sønderby et al. 2017, "Amortised MAP inference for image super-resolution"; Arjovsky, Bottou 2017, "Towards principled
methods for training generative adversarial networks".
"""
from __future__ import annotations

__all__ = ["check_deviation", "noisy"]

from typing import Any

from tinygan.backends import backend_of, cpu
from tinygan.counting import Count
from tinygan.devices import is_readable
from tinygan.gans.scheduled import now
from tinygan.ops import add, mul
from tinygan.optim import Schedule
from tinygan.random import draw_examples, next_key
from tinygan.tensor import as_array


def check_deviation(caller: str, deviation: float | Schedule) -> None:
    """Raise ValueError for a negative standard deviation. A schedule is not checked."""
    if not callable(deviation) and not deviation >= 0:
        raise ValueError(f"{caller}: instance_noise should not be negative, got {deviation}")


def noisy(images: Any, deviation: float | Schedule, steps: Count) -> Any:
    """images (N, ...) plus normal noise, which is drawn from the context's key. deviation: its standard deviation, a number
    or a function of the number of steps made so far."""
    if not callable(deviation) and not deviation:
        return images
    backend, key = backend_of(as_array(images)), next_key()
    scale = now(deviation, steps, images)
    # (On a GPU, reading the schedule's value would have to wait.)
    if callable(deviation) and backend is cpu and is_readable(scale) and not scale:
        return images
    return add(images, mul(draw_examples(key.normal, images.shape, dtype=images.dtype, backend=backend), scale))
