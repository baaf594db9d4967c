"""Initialisers: functions `(key, shape, dtype) -> array`. Most are made by a function that takes settings.

They are `partial`s of functions of this module, so that a network can be copied and pickled before it has values. For a
weight (out, in, ...), fan_in is the number of inputs of one output, and fan_out the number of outputs of one input.
"""
from __future__ import annotations

__all__ = ["constant", "zeros", "ones", "normal", "uniform", "fans", "glorot_uniform", "glorot_normal", "he_uniform",
           "he_normal", "fan_in_uniform", "orthogonal", "dcgan"]

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tinygan.random import Key

Shape = tuple[int, ...]
Values = np.ndarray[Any, Any]
Initializer = Callable[[Key, Shape, Any], Values]


def constant(value: float) -> Initializer:
    """The same value everywhere."""
    return partial(_constant, value)


def _constant(value: float, key: Key, shape: Shape, dtype: Any) -> Values:
    return np.full(shape, value, dtype)


zeros = constant(0.0)
"""0 everywhere."""

ones = constant(1.0)
"""1 everywhere."""


def normal(std: float = 1.0, mean: float = 0.0) -> Initializer:
    """Normal, with that mean and standard deviation."""
    return partial(_normal, std, mean)


def _normal(std: float, mean: float, key: Key, shape: Shape, dtype: Any) -> Values:
    values = key.normal(shape, dtype)
    values *= std
    values += mean
    return values


def uniform(low: float, high: float) -> Initializer:
    """Uniform in [low, high)."""
    return partial(_uniform, low, high)


def _uniform(low: float, high: float, key: Key, shape: Shape, dtype: Any) -> Values:
    return key.uniform(shape, low, high, dtype)


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight with that shape."""
    if len(shape) < 2:
        raise ValueError(f"initializers: fan_in and fan_out need a weight with two axes or more, got shape {shape}")
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def _draw(kind: str, std: float, key: Key, shape: Shape, dtype: Any) -> Values:
    if kind == "normal":
        return _normal(std, 0.0, key, shape, dtype)
    return _uniform(-math.sqrt(3) * std, math.sqrt(3) * std, key, shape, dtype)


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Variance gain^2 * 2 / (fan_in + fan_out), uniform (Glorot, Bengio 2010, equation 16)."""
    return partial(_glorot, "uniform", gain)


def glorot_normal(gain: float = 1.0) -> Initializer:
    """Variance gain^2 * 2 / (fan_in + fan_out), normal (Glorot, Bengio 2010)."""
    return partial(_glorot, "normal", gain)


def _glorot(kind: str, gain: float, key: Key, shape: Shape, dtype: Any) -> Values:
    return _draw(kind, gain * math.sqrt(2 / sum(fans(shape))), key, shape, dtype)


def he_uniform(slope: float = 0.0) -> Initializer:
    """Variance 2 / ((1 + slope^2) fan_in), uniform, for (leaky) ReLU with that slope (He et al. 2015, equation 15)."""
    return partial(_he, "uniform", slope)


def he_normal(slope: float = 0.0) -> Initializer:
    """Variance 2 / ((1 + slope^2) fan_in), normal, for (leaky) ReLU with that slope (He et al. 2015, equation 15)."""
    return partial(_he, "normal", slope)


def _he(kind: str, slope: float, key: Key, shape: Shape, dtype: Any) -> Values:
    return _draw(kind, math.sqrt(2 / ((1 + slope**2) * fans(shape)[0])), key, shape, dtype)


def fan_in_uniform(key: Key, shape: Shape, dtype: Any) -> Values:
    """Uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in): PyTorch's default for linear and convolution layers."""
    bound = 1 / math.sqrt(max(fans(shape)[0], 1))
    return key.uniform(shape, -bound, bound, dtype)


def orthogonal(gain: float = 1.0) -> Initializer:
    """gain times a matrix (out, in * ...) with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014)."""
    return partial(_orthogonal, gain)


def _orthogonal(gain: float, key: Key, shape: Shape, dtype: Any) -> Values:
    rows, columns = shape[0], fans(shape)[0]
    q, r = np.linalg.qr(key.normal((max(rows, columns), min(rows, columns)), np.float64))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # with these signs, all orthogonal matrices are equally likely
    return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)


dcgan = normal(0.02)
"""N(0, 0.02), the initialiser of all weights in a DCGAN (Radford, Metz, Chintala 2015, section 4)."""
