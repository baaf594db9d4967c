"""The distributions of latent vectors: one table, used by the GANs, the settings of runs and the command line."""
from __future__ import annotations

__all__ = ["NOISES", "Noise"]

from collections.abc import Callable
from typing import Any, NamedTuple

from tinygan.random import Key, draw_examples


class Noise(NamedTuple):
    """A distribution of latent vectors, and its name.

    draw: a function of a key, a shape (N, latent_dim), a dtype and a backend, which returns an array. about: the
    distribution of one element. straight: whether the points on a straight line between two latent vectors are likely latent
    vectors (see `latent.interpolate`). why: the reason for that.
    """

    name: str
    draw: Callable[[Key, tuple[int, int], Any, Any], Any]
    about: str
    straight: bool
    why: str


def _normal(key: Key, shape: tuple[int, int], dtype: Any, backend: Any) -> Any:
    return draw_examples(key.normal, shape, dtype=dtype, backend=backend)


def _uniform(key: Key, shape: tuple[int, int], dtype: Any, backend: Any) -> Any:
    return draw_examples(key.uniform, shape, low=-1.0, high=1.0, dtype=dtype, backend=backend)


def _bernoulli(key: Key, shape: tuple[int, int], dtype: Any, backend: Any) -> Any:
    return (draw_examples(key.bits, shape, backend=backend) & 1).astype(dtype) * 2.0 - 1.0


_SPHERE = "they lie near a sphere, and straight lines leave it"
_CUBE = "they fill a cube, in which straight lines stay"

NOISES = {noise.name: noise for noise in (
    Noise("normal", _normal, "mean 0, variance 1", False, _SPHERE),
    Noise("uniform", _uniform, "in [-1, 1)", True, _CUBE),
    Noise("bernoulli", _bernoulli, "-1 or 1 with equal probability", False, _SPHERE),
)}
"""The distributions by name."""
