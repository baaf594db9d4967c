"""The order of images in memory: row-major (N, C, H, W), as in users' arrays, or channels-last (N, H, W, C), which the
kernels prefer."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.workspace import contiguous

__all__ = ["channels_last", "reshape"]

Array = np.ndarray[Any, Any]
COMPILED_ABOVE = 4096  # elements: the compiled kernel copies more than this faster than NumPy


def channels_last(x: Array) -> Array:
    """(N, C, ...) -> (N, ..., C), C-contiguous. A view if x is in this order already, else a copy."""
    last = x.transpose(0, 2, 3, 1) if x.ndim == 4 else np.moveaxis(x, 1, -1)
    if last.flags.c_contiguous:
        return last
    if x.size > COMPILED_ABOVE and x.flags.c_contiguous:
        return _transposed(x.reshape(*x.shape[:2], -1)).reshape(last.shape)
    return contiguous(last)


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """x with another shape and its elements in row-major order: a view if possible. But a large batch of vectors that
    becomes images is copied, so that the images are channels-last in memory, which the kernels prefer."""
    if x.size <= COMPILED_ABOVE or x.dtype.kind != "f":  # (integer labels are reshaped, too)
        return x.reshape(shape)
    if x.ndim == 2 and len(shape) == 4 and x.shape[0] == shape[0] and shape[1] > 1 and x.flags.c_contiguous:
        images = _transposed(x.reshape(*shape[:2], -1))
        return images.reshape(shape[0], *shape[2:], shape[1]).transpose(0, 3, 1, 2)
    if x.ndim == 4 and not x.flags.c_contiguous and x.transpose(0, 2, 3, 1).flags.c_contiguous:
        rows = x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])
        return _transposed(rows).reshape(shape)
    return x.reshape(shape)


def _transposed(matrices: Array) -> Array:
    return loaded("tinygan.kernels.cpu.layout.compiled").transposed(matrices)
