"""Activations and their gradients on the CPU: NumPy for small arrays, compiled loops for large ones."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.activations import CODES, PIECEWISE_LINEAR
from tinygan.kernels.cpu.activations.in_numpy import KEPT_SLOPES, VALUES
from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.workspace import empty_like, is_dense

__all__ = ["activation", "activation_grad"]

Array = np.ndarray[Any, Any]
_COMPILED = "tinygan.kernels.cpu.activations.compiled"
COMPILED_ABOVE = 4096  # elements: for more, the compiled loop is faster than NumPy
COMPILED_ABOVE_COSTLY = 32
"""The same for costly functions, for which NumPy computes exponentials in several passes. (For fewer elements the compiled
loop is as fast, but NumPy needs no compiler.)"""
COSTLY_VALUES = ("sigmoid", "silu", "gelu", "gelu_tanh")
"""The activations with costly values. All slopes that are not piecewise constant are costly."""
LEFT_TO_NUMPY = ("identity", "softplus", "elu")  # activations whose values NumPy computes at every size


def activation(x: Array, activation_name: str, slope: float, out: Array | None = None) -> Array:
    """The activation of that name; leaky_relu and elu use `slope`."""
    if x.size > (COMPILED_ABOVE_COSTLY if activation_name in COSTLY_VALUES else COMPILED_ABOVE) and is_dense(x) and not (
            activation_name in LEFT_TO_NUMPY or (activation_name == "tanh" and x.dtype != np.float32)):
        if out is None:
            out = empty_like(x)
        if out.strides == x.strides:
            return loaded(_COMPILED).activation_forward(x, CODES[activation_name], slope, out)
    return VALUES[activation_name](x, slope, out)


def activation_grad(g: Array, x: Array, activation_name: str, slope: float, out: Array | None = None) -> Array:
    """g times the activation's slope. x: what backward keeps, the result of a fused activation or the input of any other."""
    least = COMPILED_ABOVE if activation_name in PIECEWISE_LINEAR else COMPILED_ABOVE_COSTLY
    if g.size > least and activation_name != "identity" and is_dense(x):
        if out is None:
            out = empty_like(x)
        if out.strides == x.strides:
            if g.strides != x.strides:
                aligned = empty_like(x)
                aligned[...] = g
                g = aligned
            return loaded(_COMPILED).activation_backward(g, x, CODES[activation_name], slope, out)
    return np.multiply(g, KEPT_SLOPES[activation_name](x, slope), out=out)
