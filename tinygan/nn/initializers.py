"""Initial values: functions `(key, shape, dtype) -> array`, most of them made by a function that takes the settings.

fan_in and fan_out of a weight (out, in, ...) are the numbers of inputs and outputs that one weight's place connects.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.random import Key

Shape = tuple[int, ...]
Initializer = Callable[[Key, Shape, Any], np.ndarray[Any, Any]]


def constant(value: float) -> Initializer:
    """The same value everywhere."""
    return lambda key, shape, dtype: np.full(shape, value, dtype)


zeros = constant(0.0)
ones = constant(1.0)


def normal(std: float = 1.0, mean: float = 0.0) -> Initializer:
    """Normal."""
    def draw(key: Key, shape: Shape, dtype: Any) -> np.ndarray[Any, Any]:
        values = key.normal(shape, dtype)
        values *= std
        values += mean
        return values

    return draw


def uniform(low: float, high: float) -> Initializer:
    """Uniform in [low, high)."""
    return lambda key, shape, dtype: key.uniform(shape, low, high, dtype)


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of that shape."""
    if len(shape) < 2:
        raise ValueError(f"initializers: a weight with fans needs two axes or more, got shape {shape}")
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def _uniform_of_std(std: float) -> Initializer:
    return uniform(-math.sqrt(3) * std, math.sqrt(3) * std)


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Variance gain^2 * 2 / (fan_in + fan_out), uniform (Glorot, Bengio 2010, equation 16)."""
    return lambda key, shape, dtype: _uniform_of_std(gain * math.sqrt(2 / sum(fans(shape))))(key, shape, dtype)


def glorot_normal(gain: float = 1.0) -> Initializer:
    """Variance gain^2 * 2 / (fan_in + fan_out), normal (Glorot, Bengio 2010)."""
    return lambda key, shape, dtype: normal(gain * math.sqrt(2 / sum(fans(shape))))(key, shape, dtype)


def he_uniform(slope: float = 0.0) -> Initializer:
    """Variance 2 / ((1 + slope^2) fan_in), uniform, for (leaky) ReLU of that slope (He et al. 2015, equation 15)."""
    return lambda key, shape, dtype: _uniform_of_std(math.sqrt(2 / ((1 + slope**2) * fans(shape)[0])))(key, shape, dtype)


def he_normal(slope: float = 0.0) -> Initializer:
    """Variance 2 / ((1 + slope^2) fan_in), normal, for (leaky) ReLU of that slope (He et al. 2015, equation 15)."""
    return lambda key, shape, dtype: normal(math.sqrt(2 / ((1 + slope**2) * fans(shape)[0])))(key, shape, dtype)


def fan_in_uniform(key: Key, shape: Shape, dtype: Any) -> np.ndarray[Any, Any]:
    """Uniform within 1 / sqrt(fan_in): PyTorch's default for linear and convolution layers."""
    bound = 1 / math.sqrt(max(fans(shape)[0], 1))
    return key.uniform(shape, -bound, bound, dtype)


def orthogonal(gain: float = 1.0) -> Initializer:
    """gain times a matrix (out, in * ...) with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014)."""
    def draw(key: Key, shape: Shape, dtype: Any) -> np.ndarray[Any, Any]:
        rows, columns = shape[0], fans(shape)[0]
        q, r = np.linalg.qr(key.normal((max(rows, columns), min(rows, columns)), np.float64))
        q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # the signs that make the distribution uniform
        return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)

    return draw


dcgan = normal(0.02)
"""N(0, 0.02), for every weight of a DCGAN (Radford, Metz, Chintala 2015, section 4)."""
