"""A small multilayer perceptron on the CPU, with all weights in one array. Each layer has the attributes inputs, outputs,
activation (its name) and slope."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.loading import loaded

__all__ = ["mlp", "mlp_grad", "mlp_second"]

Array = np.ndarray[Any, Any]
_COMPILED = "tinygan.kernels.cpu.perceptron.compiled"


def mlp(x: Array, weights: Array, layers: Any) -> Array:
    """x (N, in) through dense layers and activations: (N, out)."""
    return loaded(_COMPILED).multilayer("forward", x, weights, layers, True, (False, False)).reshape(len(x), -1)


def mlp_grad(g: Array, x: Array, weights: Array, layers: Any, by: tuple[bool, bool]) -> Array:
    """For g (N, out), the gradients by x and by the weights, one after another. by: which of the two are wanted."""
    return loaded(_COMPILED).multilayer("gradient", x, weights, layers, False, by, g)


def mlp_second(h: Array, g: Array, x: Array, weights: Array, layers: Any, by: tuple[bool, bool]) -> Array:
    """The gradients by g, x and the weights of the inner product of h and `mlp_grad`, one after another."""
    return loaded(_COMPILED).multilayer("second", x, weights, layers, True, (True, True), g, h, by)
