"""Losses. Each is a mean over all elements (or rows). Cross-entropies take logits, never probabilities."""
from __future__ import annotations

__all__ = ["binary_cross_entropy_with_logits", "mean_absolute_error", "mean_squared_error", "softmax_cross_entropy"]

from typing import Any

import numpy as np

from tinygan.backends import backend_of
from tinygan.graph import op
from tinygan.making import Operand, X
from tinygan.ops.activations import activation_grad
from tinygan.ops.elementwise import abs as absolute
from tinygan.ops.elementwise import mul, neg, sub
from tinygan.ops.indexing import getitem, range_error
from tinygan.ops.reduce import mean
from tinygan.ops.reduce import sum as sum_over
from tinygan.ops.shape import broadcast_to
from tinygan.ops.softmax import log_softmax
from tinygan.pullback import pullback
from tinygan.tensor import as_array, shape_of


@op(saves=(0, 1))
def _bce_with_logits(B: Any, logits: Any, targets: Any, weight: float) -> Any:
    mean = B.bce_with_logits(logits, targets)
    return mean if weight == 1 else mean * weight


@_bce_with_logits.vjp
def _(needs: Any, g: Any, logits: Any, targets: Any, weight: float) -> Any:
    return (needs[0] and _bce_grad(g, logits, targets, weight=weight),
            needs[1] and neg(mul(broadcast_to(g, logits.shape), mul(logits, weight / logits.size))))


@op(saves=(0, 1, 2))
def _bce_grad(B: Any, g: Any, logits: Any, targets: Any, weight: float) -> Any:
    return B.bce_with_logits_grad(g if weight == 1 else g * weight, logits, targets)


@_bce_grad.vjp
def _(needs: Any, gg: Any, g: Any, logits: Any, targets: Any, weight: float) -> Any:
    return (needs[0] and sum_over(mul(gg, _bce_grad(1.0, logits, targets, weight=weight))),
            needs[1] and _bce_curvature(gg, g, logits, weight=weight),
            needs[2] and neg(mul(mul(gg, g), weight / logits.size)))


@op(saves=(0, 1, 2))
def _bce_curvature(B: Any, gg: Any, g: Any, logits: Any, weight: float) -> Any:
    """gg * g * weight / size * p * (1 - p), for p = sigmoid(logits); g is one number."""
    return B.bce_with_logits_curvature(gg, g if weight == 1 else g * weight, logits)


@_bce_curvature.vjp
def _(needs: Any, h: Any, gg: Any, g: Any, logits: Any, weight: float) -> Any:
    def definition(gg: Any, g: Any, logits: Any) -> Any:
        return activation_grad(mul(mul(gg, g), weight / logits.size), logits, activation="sigmoid", slope=0.0)

    return pullback(definition, (gg, g, logits), h, needs)


def binary_cross_entropy_with_logits(logits: X, targets: Operand, weight: float = 1.0) -> X:
    """weight * mean(softplus(logits) - targets * logits): -log likelihood of targets in [0, 1] under sigmoid(logits).

    targets: a number, or an array or Tensor of the shape of logits. The loss is finite for every finite logit. For an
    infinite logit it is the limit: 0 if the target agrees with the logit, otherwise infinite.
    """
    _check("binary_cross_entropy_with_logits", logits, targets)
    return _bce_with_logits(logits, targets, weight=weight)


def softmax_cross_entropy(logits: X, labels: Any) -> X:
    """Mean over rows of -log softmax(logits)[label]: logits (N, classes), labels (N,) integers -> a scalar.

    A number added to all logits of a row changes nothing. For infinite logits see `softmax`.
    """
    labels = np.asarray(labels) if isinstance(labels, list | tuple | range | int) else as_array(labels)
    shape_of("softmax_cross_entropy", logits), shape_of("softmax_cross_entropy", labels)
    if len(logits.shape) != 2 or labels.shape != logits.shape[:1] or not logits.size:
        raise ValueError(f"softmax_cross_entropy: logits (N, classes) and labels (N,) expected, got {logits.shape} and "
                         f"{labels.shape}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"softmax_cross_entropy: labels should be integers, got {labels.dtype} (a Tensor made from a list "
                        "is float32: give the list itself, or Tensor(list, dtype=int))")
    wrong = range_error(labels, logits.shape[1])
    if wrong:
        raise ValueError(f"softmax_cross_entropy: labels {wrong} (logits {logits.shape})")
    rows = backend_of(as_array(logits)).xp.arange(len(labels))
    return neg(mean(getitem(log_softmax(logits, 1), (rows, labels))))


def mean_squared_error(predictions: X, targets: Operand) -> X:
    """mean((predictions - targets)^2). targets: of the shape of predictions, or a number."""
    _check("mean_squared_error", predictions, targets)
    difference: Any = sub(predictions, targets)
    return mean(mul(difference, difference))


def mean_absolute_error(predictions: X, targets: Operand) -> X:
    """mean(|predictions - targets|). targets: of the shape of predictions, or a number."""
    _check("mean_absolute_error", predictions, targets)
    difference: Any = sub(predictions, targets)
    return mean(absolute(difference))


def _check(caller: str, x: Any, targets: Any) -> None:
    shape = shape_of(caller, x)
    other = shape if isinstance(targets, int | float | np.generic) else shape_of(caller, targets)
    if shape != other or not x.size:
        raise ValueError(f"{caller}: expected two inputs of the same shape, not empty, got {shape} and {other}")
