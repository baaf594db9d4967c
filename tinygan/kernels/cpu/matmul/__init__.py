"""Matrix products and the dense layer on the CPU: NumPy's BLAS for small arrays, compiled kernels for large ones."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.activations import CODES, FUSED
from tinygan.kernels.cpu.activations import activation
from tinygan.kernels.cpu.reductions import MOST_ADDED_IN_SEQUENCE, sum
from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.workspace import empty

__all__ = ["dense", "dense_parameter_grads", "matmul"]

Array = np.ndarray[Any, Any]
_COMPILED = "tinygan.kernels.cpu.matmul.compiled"
# Above these sizes the compiled kernels are faster than NumPy.
COMPILED_ABOVE = 64 * 4096  # multiplications of a product
COMPILED_ABOVE_THIN = 4096  # elements of a thin product
COMPILED_ABOVE_SUMS = 4096  # elements of a matrix whose columns are summed
# A product is thin if its sums have few terms and it has many columns.
MOST_TERMS_THIN = 4
LEAST_COLUMNS_THIN = 16


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """a @ b. Leading axes are broadcast."""
    if a.ndim == 2 and b.ndim == 2 and (out is None or out.flags.c_contiguous):
        if _is_thin(a, b.shape[1]):
            return loaded(_COMPILED).thin_product(a, b, out)
        if a.size * b.shape[1] > COMPILED_ABOVE:
            return loaded(_COMPILED).product(a, b, out)
        if a.shape[1] == 1:  # an outer product: np.matmul would take four times as long
            return np.multiply(a, b, out=out)
    return np.matmul(a, b, out=out)


def dense(x: Array, weight: Array, bias: Array, activation_name: str, slope: float, out: Array | None = None) -> Array:
    """activation(x @ weight.T + bias): x (N, in), weight (out, in), bias (out,) -> (N, out)."""
    code = FUSED.get(activation_name, CODES["identity"])  # the activation that the kernel applies itself
    after = "identity" if activation_name in FUSED else activation_name
    if out is not None and not out.flags.c_contiguous:
        return _plain_dense(x, weight, bias, activation_name, slope, out)
    if _is_thin(x, weight.shape[0]):
        y = loaded(_COMPILED).thin_product(x, weight.T, out, bias, code, slope)
    elif x.size * weight.shape[0] > COMPILED_ABOVE:
        y = loaded(_COMPILED).dense_product(x, weight, bias, code, slope, out)
    else:
        return _plain_dense(x, weight, bias, activation_name, slope, out)
    return y if after == "identity" else activation(y, after, slope, out=y)


def _plain_dense(x: Array, weight: Array, bias: Array, activation_name: str, slope: float, out: Array | None) -> Array:
    y = np.matmul(x, weight.T, out=out)
    y += bias
    return y if activation_name == "identity" else activation(y, activation_name, slope, out=y)


def dense_parameter_grads(x: Array, y: Array) -> Array:
    """The gradients of the weight and the bias in one array, y.T @ x followed by the sums of y's columns: x (N, in),
    y (N, out) -> (out * in + out,). (A view of either keeps the memory of both.)"""
    both = empty((y.shape[1] * (x.shape[1] + 1),), y.dtype)
    weight, bias = both[:y.shape[1] * x.shape[1]], both[y.shape[1] * x.shape[1]:]
    matmul(y.T, x, out=weight.reshape(y.shape[1], x.shape[1]))
    if y.size > COMPILED_ABOVE_SUMS and y.flags.c_contiguous:
        bias[...] = loaded("tinygan.kernels.cpu.reductions.compiled").column_sums(y)
    elif len(y) > MOST_ADDED_IN_SEQUENCE:
        bias[...] = sum(y, (0,), False)
    else:
        np.add.reduce(y, 0, out=bias)
    return both


def _is_thin(a: Array, columns: int) -> bool:
    """Whether the product of a (N, terms) and a matrix with that many columns is thin, and large enough for its kernel."""
    return 0 < a.shape[1] <= MOST_TERMS_THIN and columns >= LEAST_COLUMNS_THIN and a.shape[0] * columns > COMPILED_ABOVE_THIN
