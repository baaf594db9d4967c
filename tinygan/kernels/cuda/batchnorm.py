"""Batch normalisation of (N, C, ...) on the device, followed by a piecewise linear activation."""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygan.kernels.activations import PIECEWISE_LINEAR
from tinygan.kernels.cuda.reductions import COLUMNS_FINISHED_BY_A_BLOCK, column_totals
from tinygan.kernels.cuda.runtime.arrays import contiguous
from tinygan.kernels.cuda.runtime.columns import MAP, SUM, column_grid
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device

__all__ = ["batch_norm", "batch_norm_input_grad", "batch_norm_input_grad_vjp", "batch_norm_statistics", "batch_norm_sums",
           "batch_norm_sums_vjp"]


def _rows(device: Device, x: Array) -> Array:
    """(N, C, ...) -> (N * ..., C), C-contiguous. A view if x is channels-last in memory, else a copy."""
    last = contiguous(device, device.xp.moveaxis(x, 1, -1))
    return last.reshape(math.prod(last.shape[:-1]), last.shape[-1])


def _images(device: Device, rows: Array, like: Array) -> Array:
    return device.xp.moveaxis(rows.reshape(like.shape[0], *like.shape[2:], like.shape[1]), -1, 1)


def _layer(device: Device, weight: Array, bias: Array, eps: float, mean: Array, var: Array, activation_name: str,
           slope: float) -> tuple[Any, ...]:
    """The arguments that describe the layer to the kernels. KeyError for an activation that is not piecewise linear."""
    weight, bias, mean, var = (contiguous(device, a) for a in (weight, bias, mean, var))
    return weight, bias, float(eps), mean, var, PIECEWISE_LINEAR[activation_name], float(slope)


def _map(device: Device, kernel: str, rows: Array, results: tuple[Array, ...], arguments: tuple[Any, ...],
         layer: tuple[Any, ...]) -> None:
    """Start a kernel that computes `results`. It goes through matrices of the shape of `rows` (R, C)."""
    if rows.size:
        width, grid = column_grid(device, rows.shape, MAP)
        device.launch("batchnorm", kernel, grid, THREADS, *arguments, *results, *rows.shape, width, *layer,
                      dtype=rows.dtype)


def batch_norm_statistics(device: Device, x: Array, mean: Array, var: Array) -> None:
    """Write the mean and the biased variance of each channel to `mean` and `var`."""
    rows = _rows(device, x)
    if not rows.size:
        return
    count, channels = rows.shape
    width, grid = column_grid(device, rows.shape, SUM)
    parts = grid[1]
    partial = empty_moments(device, parts, channels) if parts > 1 else None
    with _written(device, mean, var) as (to_mean, to_var):
        device.launch("batchnorm", "moments", grid, THREADS, rows, count, channels, width, to_mean, to_var, partial,
                      dtype=rows.dtype)
    if partial is not None:
        finish_moments(device, partial, mean, var)


@contextmanager
def _written(device: Device, *arrays: Array) -> Iterator[list[Array]]:
    """Arrays for the body to write to. Each is the given array, if that is C-contiguous. Otherwise it is a new one, which is
    copied to the given array after the body."""
    dense = [a if a.flags.c_contiguous else device.empty(a.shape, a.dtype) for a in arrays]
    yield dense
    for a, written in zip(arrays, dense, strict=True):
        if a is not written:
            a[...] = written


def empty_moments(device: Device, parts: int, channels: int) -> Array:
    """Memory for the moments of each part, (parts, 3, channels): count, mean and sum of squared deviations."""
    return device.empty((parts, 3, channels), np.float64)


def finish_moments(device: Device, partial: Array, mean: Array, var: Array) -> None:
    """Combine the moments of all parts, and write the mean and the biased variance of each channel."""
    parts, _, channels = partial.shape
    with _written(device, mean, var) as to:
        device.launch("batchnorm", "finish_moments", -(-channels // COLUMNS_FINISHED_BY_A_BLOCK), THREADS, partial, parts,
                      channels, COLUMNS_FINISHED_BY_A_BLOCK, *to, dtype=mean.dtype)


def batch_norm(device: Device, x: Array, weight: Array, bias: Array, eps: float, mean: Array, var: Array,
               activation_name: str, slope: float) -> Array:
    """x normalised per channel with mean and var, then scaled, shifted and activated."""
    rows = _rows(device, x)
    out = device.empty(rows.shape, x.dtype)
    _map(device, "batch_norm", rows, (out,), (rows,), _layer(device, weight, bias, eps, mean, var, activation_name, slope))
    return _images(device, out, x)


def batch_norm_sums(device: Device, g: Array, x: Array, *told: Any) -> Array:
    """Two sums for each channel, (2, C): of the gradient before the activation, and of this gradient times the normalised x.
    told: the arguments of `batch_norm` from weight to slope, here and in the functions below."""
    rows = _rows(device, x)
    arguments = (_rows(device, g), rows, *_layer(device, *told))
    return column_totals(device, "batchnorm", "gradient_sums", 2, rows.shape, arguments, x.dtype)


def batch_norm_input_grad(device: Device, g: Array, x: Array, sums: Array, *told: Any) -> Array:
    """The gradient of x: weight / deviation * (g - (sums[0] + normalised x * sums[1]) / count)."""
    rows = _rows(device, x)
    out = device.empty(rows.shape, x.dtype)
    _map(device, "input_gradient", rows, (out,), (_rows(device, g), rows, contiguous(device, sums)), _layer(device, *told))
    return _images(device, out, x)


def batch_norm_sums_vjp(device: Device, h: Array, g: Array, x: Array, sums: Array, *told: Any) -> tuple[Array, Array]:
    """The gradients of sum(h * batch_norm_sums) by g and x, for h (2, C)."""
    rows = _rows(device, x)
    by_g, by_x = device.empty(rows.shape, x.dtype), device.empty(rows.shape, x.dtype)
    _map(device, "gradient_sums_vjp", rows, (by_g, by_x),
         (contiguous(device, h), _rows(device, g), rows, contiguous(device, sums)), _layer(device, *told))
    return _images(device, by_g, x), _images(device, by_x, x)


def batch_norm_input_grad_vjp(device: Device, h: Array, g: Array, x: Array, sums: Array,
                              *told: Any) -> tuple[Array, Array, Array, Array]:
    """The gradients of sum(h * batch_norm_input_grad) by g, x, weight and sums, for h of the shape of x."""
    rows, rows_h, layer = _rows(device, x), _rows(device, h), _layer(device, *told)
    totals = column_totals(device, "batchnorm", "second_sums", 3, rows.shape, (rows_h, _rows(device, g), rows, *layer),
                           x.dtype, wide=True)
    by_g, by_x = device.empty(rows.shape, x.dtype), device.empty(rows.shape, x.dtype)
    by_weight, by_sums = device.empty(x.shape[1:2], x.dtype), device.empty((2, x.shape[1]), x.dtype)
    _map(device, "input_gradient_vjp", rows, (by_g, by_x, by_weight, by_sums),
         (rows_h, rows, contiguous(device, sums), totals), layer)
    return _images(device, by_g, x), _images(device, by_x, x), by_weight, by_sums
