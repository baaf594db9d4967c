"""Elementwise sums, differences and products: NumPy computes them, and large results reuse memory."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.workspace import REUSED_FROM_BYTES, Array, empty_like, is_dense

__all__ = ["add", "multiply", "subtract"]


def _binary(ufunc: Any) -> Callable[[Any, Any], Array]:
    """The NumPy function. If both arrays have the same order in memory, a large result gets memory from the workspace."""
    def compute(a: Any, b: Any) -> Array:
        if type(a) is np.ndarray and a.nbytes >= REUSED_FROM_BYTES and (
                type(b) is float or (type(b) is np.ndarray and a.strides == b.strides and a.shape == b.shape
                                     and a.dtype is b.dtype)) and is_dense(a):
            return ufunc(a, b, out=empty_like(a))
        return ufunc(a, b)

    return compute


add = _binary(np.add)
subtract = _binary(np.subtract)
multiply = _binary(np.multiply)
