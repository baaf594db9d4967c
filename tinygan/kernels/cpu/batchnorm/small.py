"""What the kernels of batch normalisation are told, and the same kernels in NumPy, for arrays too small to gain from
compiled ones (`native` has those, under the same names)."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.activations import IDENTITY, RELU

Array = np.ndarray[Any, Any]


class Normalized(NamedTuple):
    """z = (x - mean) * inverse * weight + bias of x (rows, channels), inverse = 1 / deviation, and the activation of z."""

    x: Array
    mean: Array
    inverse: Array
    weight: Array
    bias: Array
    activation: int
    slope: float

    @property
    def normal(self) -> Array:
        """x normalised."""
        return (self.x - self.mean) * self.inverse

    def slopes(self, normal: Array) -> Any:
        """The slope of the activation at z."""
        if self.activation == IDENTITY:
            return normal.dtype.type(1)
        below = 0.0 if self.activation == RELU else self.slope
        return np.where(normal * self.weight + self.bias > 0, normal.dtype.type(1), normal.dtype.type(below))


def moments(x: Array) -> tuple[Array, Array]:
    """Mean and variance over the rows of x (rows, channels)."""
    wide = x.astype(np.float64)  # sums over a large batch lose digits in float32
    return wide.mean(0).astype(x.dtype), wide.var(0).astype(x.dtype)


def batch_norm(n: Normalized, out: Array) -> Array:
    """activation(z)."""
    z = np.add(n.normal * n.weight, n.bias, out=out)
    if n.activation == RELU:
        return np.maximum(z, 0, out=out)
    return z if n.activation == IDENTITY else np.multiply(z, n.slopes(n.normal), out=out)


def batch_norm_sums(g: Array, n: Normalized) -> Array:
    """The sums over the rows of the gradient of z, and of that times the normalised x: (2, channels)."""
    normal = n.normal
    by_z = g * n.slopes(normal)
    return np.array([by_z.sum(0, dtype=np.float64), (by_z * normal).sum(0, dtype=np.float64)], g.dtype)


def batch_norm_input_grad(g: Array, n: Normalized, sums: Array, out: Array) -> Array:
    """The gradient of x, from that of the result and the sums above."""
    normal, means = n.normal, sums / g.dtype.type(len(g))
    return np.multiply(g * n.slopes(normal) - (means[0] + normal * means[1]), n.weight * n.inverse, out=out)


def batch_norm_second_sums(h: Array, g: Array, n: Normalized) -> Array:
    """The sums over the rows of h, of h times the normalised x, and of h times the gradient of z: (3, channels), float64."""
    normal, h = n.normal, h.astype(np.float64)
    return np.array([h.sum(0), (h * normal).sum(0), (h * (g * n.slopes(normal))).sum(0)])


def batch_norm_combine(h: Array, g: Array, n: Normalized, factors: Array) -> tuple[Array, Array]:
    """With k the factors (7, channels), n the normalised x, s the activation's slopes: (k0 + k1 n + k2 h) s, and
    k3 + k4 n + k5 h + k6 s g."""
    k, normal = factors, n.normal
    slopes = n.slopes(normal)
    return (k[0] + k[1] * normal + k[2] * h) * slopes, k[3] + k[4] * normal + k[5] * h + k[6] * (slopes * g)
