"""The order of arrays in memory. An array is dense if its elements fill one piece of memory without gaps, in row-major or in
channels-last order."""
from __future__ import annotations

from tinygan.kernels.cuda.runtime.device import Array, Device


def contiguous(device: Device, x: Array) -> Array:
    """x, or a C-contiguous copy."""
    return x if x.flags.c_contiguous else device.xp.ascontiguousarray(x)


def is_dense(x: Array) -> bool:
    """Whether x is dense."""
    return bool(x.flags.c_contiguous or (x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous))


def empty_like(device: Device, x: Array) -> Array:
    """An uninitialised array with the shape, the dtype and the order of elements of x, which must be dense."""
    if x.flags.c_contiguous:
        return device.empty(x.shape, x.dtype)
    n, c, height, width = x.shape
    return device.empty((n, height, width, c), x.dtype).transpose(0, 3, 1, 2)


def aligned(device: Device, x: Array, like: Array) -> Array:
    """x, or a copy of it, with its elements in the order of `like`. `like` must be dense and have the shape of x."""
    if x.strides == like.strides:
        return x
    out = empty_like(device, like)
    out[...] = x
    return out
