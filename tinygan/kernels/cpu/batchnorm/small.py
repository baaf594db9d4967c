"""Batch normalisation in NumPy, for arrays that are too small for compiled kernels to be faster. `compiled` has the same
functions. z is the value before the activation, as in `normalized`."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cpu.activations.in_numpy import formula
from tinygan.kernels.cpu.batchnorm.normalized import Array, Normalized


def moments(x: Array) -> tuple[Array, Array]:
    """Mean and variance over the rows of x (rows, channels)."""
    wide = x.astype(np.float64)  # in float32 the sums over a large batch would lose digits
    return wide.mean(0).astype(x.dtype), wide.var(0).astype(x.dtype)


def _normal(n: Normalized) -> Array:
    """The normalised x."""
    return (n.x - n.mean) * n.inverse


def _slopes(n: Normalized, normal: Array) -> Any:
    """The slope of the activation at z."""
    if n.activation == "identity":
        return normal.dtype.type(1)
    return formula(n.activation, "slope")(normal * n.weight + n.bias, n.slope)


def normalize(n: Normalized) -> Array:
    """activation(z)."""
    z = _normal(n) * n.weight + n.bias
    return z if n.activation == "identity" else formula(n.activation, "value")(z, n.slope, out=z)


def gradient_sums(g: Array, n: Normalized) -> Array:
    """The sums over the rows of the gradient of z, and of this gradient times the normalised x: (2, channels)."""
    normal = _normal(n)
    by_z = g * _slopes(n, normal)
    return np.stack([by_z.sum(0, dtype=np.float64), (by_z * normal).sum(0, dtype=np.float64)]).astype(g.dtype)


def input_gradient(g: Array, n: Normalized, sums: Array) -> Array:
    """The gradient of x. g: the gradient of the result. sums: what `gradient_sums` returns."""
    normal, means = _normal(n), sums / g.dtype.type(len(g))
    return (g * _slopes(n, normal) - (means[0] + normal * means[1])) * (n.weight * n.inverse)


def second_sums(h: Array, g: Array, n: Normalized) -> Array:
    """The sums over the rows of h, of h times the normalised x, and of h times the gradient of z: (3, channels), float64."""
    normal, h = _normal(n), h.astype(np.float64)
    return np.stack([h.sum(0), (h * normal).sum(0), (h * (g * _slopes(n, normal))).sum(0)])


def combine(h: Array, g: Array, n: Normalized, factors: Array) -> tuple[Array, Array]:
    """(k0 + k1 n + k2 h) s and k3 + k4 n + k5 h + k6 s g, where k are the factors (7, channels), n is the normalised x and s
    are the slopes of the activation."""
    k, normal = factors, _normal(n)
    slopes = _slopes(n, normal)
    return (k[0] + k[1] * normal + k[2] * h) * slopes, k[3] + k[4] * normal + k[5] * h + k[6] * (slopes * g)
