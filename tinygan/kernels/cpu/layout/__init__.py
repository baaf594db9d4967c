"""How images lie in memory: row-major (N, C, H, W), as the user's arrays do, or channels-last (N, H, W, C), as the kernels
want them."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.loading import loaded

__all__ = ["channels_last", "reshape"]

Array = np.ndarray[Any, Any]
COMPILED_ABOVE = 4096  # elements: more are copied faster by the compiled kernel than by NumPy


def channels_last(x: Array) -> Array:
    """(N, C, ...) -> (N, ..., C), C-contiguous: the same memory if it lies so."""
    last = x.transpose(0, 2, 3, 1) if x.ndim == 4 else np.moveaxis(x, 1, -1)
    if last.flags.c_contiguous:
        return last
    if x.size > COMPILED_ABOVE and x.flags.c_contiguous:
        return _transposed(x.reshape(*x.shape[:2], -1)).reshape(last.shape)
    return np.ascontiguousarray(last)


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """The elements in row-major order under another shape: a view where that can be. But a large batch of vectors becomes
    images that lie channels-last, as the kernels want them, and that is a copy."""
    if x.size <= COMPILED_ABOVE or x.dtype.kind != "f":  # labels have shapes, too
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
