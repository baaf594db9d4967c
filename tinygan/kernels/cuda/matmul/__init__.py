"""Matrix products and the dense layer on the device. `products.py` computes them, for matrices with any strides."""
from __future__ import annotations

import math

import numpy as np

from tinygan.kernels.cuda.matmul.products import batched, column_sums
from tinygan.kernels.cuda.runtime.device import Array, Device

__all__ = ["dense", "dense_parameter_grads", "matmul"]


def matmul(device: Device, a: Array, b: Array, out: Array | None = None) -> Array:
    """a @ b. Leading axes are broadcast."""
    shape = (*_broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    y = device.empty(shape, a.dtype) if out is None or (out.ndim > 3 and not out.flags.c_contiguous) else out
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous and y.flags.c_contiguous:  # one product of many rows
        rows = math.prod(a.shape[:-1])
        batched(device, a.reshape(1, rows, a.shape[-1]), b[None], y.reshape(1, rows, shape[-1]))
    else:
        a, b = (_as_batch(device, x, shape[:-2]) for x in (a, b))
        batched(device, a, b, y[None] if y.ndim == 2 else y.reshape(math.prod(shape[:-2]), *shape[-2:]))
    if out is not None and y is not out:
        out[...] = y
    return y if out is None else out


def dense(device: Device, x: Array, weight: Array, bias: Array, activation_name: str, slope: float,
          out: Array | None = None) -> Array:
    """activation(x @ weight.T + bias): x (N, in), weight (out, in), bias (out,) -> (N, out)."""
    y = device.empty((x.shape[0], weight.shape[0]), x.dtype) if out is None else out
    batched(device, x[None], weight.T[None], y[None], device.xp.ascontiguousarray(bias), activation_name, slope)
    return y


def dense_parameter_grads(device: Device, x: Array, y: Array) -> Array:
    """The gradients of the weight and the bias in one array, y.T @ x followed by the sums of y's columns: x (N, in),
    y (N, out) -> (out * in + out,). (A view of either keeps the memory of both.)"""
    both = device.empty((y.shape[1] * (x.shape[1] + 1),), y.dtype)
    weight, bias = both[:y.shape[1] * x.shape[1]], both[y.shape[1] * x.shape[1]:]
    matmul(device, y.T, x, out=weight.reshape(y.shape[1], x.shape[1]))
    column_sums(device, device.xp.ascontiguousarray(y), bias)
    return both


def _broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    return first if first == second else np.broadcast_shapes(first, second)


def _as_batch(device: Device, x: Array, leading: tuple[int, ...]) -> Array:
    """x (..., rows, columns) as (P, rows, columns): its leading axes are broadcast to `leading`, and then merged."""
    if x.ndim == 2:
        return device.xp.broadcast_to(x, (math.prod(leading), *x.shape)) if leading else x[None]
    if x.shape[:-2] != leading:
        x = device.xp.broadcast_to(x, (*leading, *x.shape[-2:]))
    return x if x.ndim == 3 else x.reshape(math.prod(leading), *x.shape[-2:])
