"""Batch normalisation of (N, C, ...), followed by a piecewise linear activation.

`small` (NumPy) and `compiled` have the same functions, which treat x as a matrix (rows, channels). The functions here build
on them.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.activations import PIECEWISE_LINEAR
from tinygan.kernels.cpu.batchnorm import small
from tinygan.kernels.cpu.batchnorm.normalized import Array, Normalized
from tinygan.kernels.cpu.layout import channels_last
from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.workspace import contiguous

__all__ = ["batch_norm", "batch_norm_input_grad", "batch_norm_input_grad_vjp", "batch_norm_statistics", "batch_norm_sums",
           "batch_norm_sums_vjp"]

COMPILED_ABOVE = 4096  # elements of x: for more, compiled kernels are faster than NumPy


def _kernels(x: Array) -> Any:
    """The module, `compiled` or `small`, for an array of this size."""
    return loaded("tinygan.kernels.cpu.batchnorm.compiled") if x.size > COMPILED_ABOVE else small


def _rows(x: Array) -> Array:
    """(N, C, ...) -> (N * ..., C), C-contiguous. A view if x is channels-last in memory, else a copy."""
    return channels_last(x).reshape(-1, x.shape[1])


def _images(rows: Array, like: Array) -> Array:
    """The reverse of `_rows`: (N * ..., C) -> the shape of `like`."""
    return np.moveaxis(rows.reshape(like.shape[0], *like.shape[2:], like.shape[1]), -1, 1)


def _normalized(x: Array, weight: Array, bias: Array, eps: float, mean: Array, var: Array, activation_name: str,
                slope: float) -> Normalized:
    """x and the layer as the kernels take them. Raises ValueError for an activation that is not piecewise linear."""
    if activation_name not in PIECEWISE_LINEAR:
        raise ValueError(f"batch_norm: activation {activation_name!r}, expected one of {', '.join(PIECEWISE_LINEAR)}")
    mean, inverse, weight, bias = map(contiguous, (mean, 1 / np.sqrt(var + var.dtype.type(eps)), weight, bias))
    return Normalized(_rows(x), mean, inverse, weight, bias, activation_name, slope)


def batch_norm_statistics(x: Array, mean: Array, var: Array) -> None:
    """Write the mean and the biased variance of each channel to `mean` and `var`."""
    if x.size:
        mean[...], var[...] = _kernels(x).moments(_rows(x))


def batch_norm(x: Array, weight: Array, bias: Array, eps: float, mean: Array, var: Array, activation_name: str,
               slope: float) -> Array:
    """x normalised per channel with mean and var, then scaled, shifted and activated."""
    n = _normalized(x, weight, bias, eps, mean, var, activation_name, slope)
    return _images(_kernels(x).normalize(n), x)


def batch_norm_sums(g: Array, x: Array, *told: Any) -> Array:
    """Two sums for each channel, (2, C): of the gradient before the activation, and of this gradient times the normalised x.
    told: the arguments of `batch_norm` from weight to slope, here and in the functions below."""
    return _kernels(x).gradient_sums(_rows(g), _normalized(x, *told))


def batch_norm_input_grad(g: Array, x: Array, sums: Array, *told: Any) -> Array:
    """The gradient of x: weight / deviation * (g - (sums[0] + normalised x * sums[1]) / count)."""
    return _images(_kernels(x).input_gradient(_rows(g), _normalized(x, *told), sums), x)


def batch_norm_sums_vjp(h: Array, g: Array, x: Array, sums: Array, *told: Any) -> tuple[Array, Array]:
    """The gradients of sum(h * batch_norm_sums) by g and x, for h (2, C)."""
    n = _normalized(x, *told)
    count, nothing, scale = len(n.x), np.zeros_like(h[0]), h[1] * n.inverse
    factors = [h[0], h[1], nothing, -scale * sums[0] / count, -scale * sums[1] / count, nothing, scale]
    rows = _rows(g)
    by_g, by_x = _kernels(x).combine(rows, rows, n, np.stack(factors).astype(x.dtype, copy=False))
    return _images(by_g, x), _images(by_x, x)


def batch_norm_input_grad_vjp(h: Array, g: Array, x: Array, sums: Array, *told: Any) -> tuple[Array, Array, Array, Array]:
    """The gradients of sum(h * batch_norm_input_grad) by g, x, weight and sums, for h of the shape of x.

    Let r = 1 / deviation, n = (x - mean) r and c = weight r. Let g' be the gradient before the activation, s0 and s1 the two
    sums, and u = g' - (s0 + n s1) / count. Then batch_norm_input_grad is c u. It depends on x in two ways: through n, whose
    gradient is a = -(c s1 / count) h, and through r, whose derivative by x is -r^2 n / count. So the gradient by x is
    r (a - mean(a) - n mean(a n)) - weight sum(h u) r^2 n / count.
    """
    n, kernels = _normalized(x, *told), _kernels(x)
    rows, rows_h, count, r = _rows(g), _rows(h), len(n.x), n.inverse
    total, weighted, products = kernels.second_sums(rows_h, rows, n)
    of_u = products - (sums[0] * total + sums[1] * weighted) / count
    c, nothing = n.weight * r, np.zeros_like(r)
    of_a = -r * c * sums[1] / count
    factors = [nothing, nothing, c, -of_a * total / count, -of_a * weighted / count - n.weight * of_u * r * r / count, of_a,
               nothing]
    by_g, by_x = kernels.combine(rows_h, rows, n, np.stack(factors).astype(x.dtype, copy=False))
    by_sums = np.stack([total, weighted]) * (-c / count)
    return _images(by_g, x), _images(by_x, x), (r * of_u).astype(x.dtype), by_sums.astype(x.dtype)
