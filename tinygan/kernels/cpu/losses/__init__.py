"""Binary cross-entropy of logits on the CPU: NumPy for a few logits, compiled loops for more."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cpu.activations.in_numpy import sigmoid, sigmoid_slope
from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.workspace import of_dtype

__all__ = ["bce_with_logits", "bce_with_logits_curvature", "bce_with_logits_grad"]

Array = np.ndarray[Any, Any]
_COMPILED = "tinygan.kernels.cpu.losses.compiled"
COMPILED_ABOVE = 32  # logits. (For fewer the compiled loop is as fast as NumPy, but NumPy needs no compiler.)


def bce_with_logits(logits: Array, targets: Any) -> Array:
    """mean(softplus(logits) - targets * logits), for an array of targets or one number.

    It is computed as mean(t |logits| + log(1 + exp(-|logits|))), where t = target for a negative logit, and t = 1 - target
    otherwise. If t = 0 the first term is 0, even for an infinite logit.
    """
    if logits.size > COMPILED_ABOVE:
        return loaded(_COMPILED).bce_with_logits(logits, targets)
    targets, sizes = of_dtype(targets, logits.dtype), np.abs(logits)
    factors = np.where(logits < 0, targets, 1 - targets)
    return np.mean(np.where(factors == 0, 0, sizes) * factors + np.log1p(np.exp(-sizes)))


def bce_with_logits_grad(g: Array, logits: Array, targets: Any) -> Array:
    """g * (sigmoid(logits) - targets) / size; g is one number."""
    if logits.size > COMPILED_ABOVE:
        return loaded(_COMPILED).bce_with_logits_grad(g, logits, targets)
    # The same as sigmoid(logits) - targets, but exact where these two are nearly equal.
    slopes = (1 - targets) * sigmoid(logits) - targets * sigmoid(-logits)
    return slopes * (g / logits.dtype.type(logits.size))


def bce_with_logits_curvature(gg: Array, g: Array, logits: Array) -> Array:
    """gg * g / size * p * (1 - p), where p = sigmoid(logits); g is one number."""
    if logits.size > COMPILED_ABOVE:
        return loaded(_COMPILED).bce_with_logits_curvature(gg, g, logits)
    return gg * (g / logits.dtype.type(logits.size)) * sigmoid_slope(logits)
