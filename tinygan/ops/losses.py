"""Losses. Each is a mean over all elements (or rows), unless `reduction` says otherwise. Cross-entropies take logits, never
probabilities."""
from __future__ import annotations

__all__ = ["binary_cross_entropy_with_logits", "mean_absolute_error", "mean_squared_error", "softmax_cross_entropy"]

from typing import Any

import numpy as np

from tinygan.backends import backend_of
from tinygan.graph import op
from tinygan.listening import is_recording_step
from tinygan.making import Operand, X
from tinygan.ops.activations import activation_grad, softplus
from tinygan.ops.elementwise import abs as absolute
from tinygan.ops.elementwise import add, div, mul, neg, sub
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


@op(saves=(0, 1))
def _weighed(B: Any, a: Any, b: Any) -> Any:
    """a * b, where 0 times infinity is 0. a and b have one shape."""
    xp = B.xp
    zero = a.dtype.type(0)
    return xp.where((b == 0) & xp.isinf(a), zero, a) * xp.where((a == 0) & xp.isinf(b), zero, b)


@_weighed.vjp
def _(needs: Any, g: Any, a: Any, b: Any) -> Any:
    return needs[0] and _weighed(g, b), needs[1] and _weighed(g, a)


REDUCTIONS = ("mean", "sum", "none")


def _reduced(values: Any, reduction: str) -> Any:
    return values if reduction == "none" else sum_over(values) if reduction == "sum" else mean(values)


def _check_reduction(caller: str, reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"{caller}: unknown reduction {reduction!r}, expected one of {', '.join(REDUCTIONS)}")


def binary_cross_entropy_with_logits(logits: X, targets: Operand, weight: Operand = 1.0, reduction: str = "mean",
                                     pos_weight: Operand | None = None) -> X:
    """weight * mean(softplus(logits) - targets * logits): -log likelihood of targets in [0, 1] under sigmoid(logits).

    targets: a number, or an array or Tensor of the shape of logits. The loss is finite for every finite logit. For an
    infinite logit it is the limit: 0 if the target agrees with the logit, otherwise infinite.

    weight: a number, or the weight of every logit. pos_weight: how often a target of 1 counts, targets * pos_weight *
    softplus(-logits) + (1 - targets) * softplus(logits). Both are numbers, or broadcast to the shape of logits. reduction:
    "mean", "sum", or "none" for the loss of every logit. The mean divides by the number of logits, whatever the weights.
    """
    name = "binary_cross_entropy_with_logits"
    _check(name, logits, targets)
    _check_reduction(name, reduction)
    if isinstance(weight, int | float | np.generic) and reduction != "none" and pos_weight is None:
        return _bce_with_logits(logits, targets, weight=float(weight) * (logits.size if reduction == "sum" else 1))
    for what, value in (("weight", weight), ("pos_weight", pos_weight)):
        if value is not None and not isinstance(value, int | float | np.generic):
            _check_broadcast(name, what, shape_of(name, value), logits.shape)
    if isinstance(targets, int | float | np.generic):
        array = as_array(logits)
        targets = backend_of(array).xp.full_like(array, float(targets))
    ones: Any = _weighed(targets, softplus(neg(logits)))
    zeros: Any = _weighed(sub(1.0, targets), softplus(logits))
    loss = add(ones if pos_weight is None else mul(ones, pos_weight), zeros)
    return _reduced(loss if isinstance(weight, int | float) and weight == 1 else mul(loss, weight), reduction)


def _check_broadcast(caller: str, what: str, small: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if len(small) > len(shape) or any(n not in (1, m) for n, m in zip(small[::-1], shape[::-1], strict=False)):
        raise ValueError(f"{caller}: {what} should broadcast to the logits, got {small} (logits {shape})")


def softmax_cross_entropy(logits: X, labels: Any, weight: Any = None, reduction: str = "mean",
                          label_smoothing: float = 0.0) -> X:
    """Mean over rows of -log softmax(logits)[label]: logits (N, classes), labels (N,) integers -> a scalar.

    A number added to all logits of a row changes nothing. For infinite logits see `softmax`.

    weight: (classes,), how often each class counts; the mean is then weighted by the labels' classes. reduction: "mean",
    "sum", or "none" for the loss (N,) of every row. label_smoothing: the share s, from 0 to 1, of the target that is spread
    evenly over all classes (Szegedy et al. 2016, section 7): each class has the target s / classes, the label 1 - s more.
    All as PyTorch's. Raises ValueError if the weights of all labels are 0 and a mean is asked for.
    """
    name = "softmax_cross_entropy"
    labels = _checked_labels(name, logits, labels)
    _check_reduction(name, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing should be from 0 to 1, got {label_smoothing}")
    if weight is not None and shape_of(name, weight) != logits.shape[1:]:
        raise ValueError(f"{name}: weight should be of shape {logits.shape[1:]}, got {weight.shape} (logits {logits.shape})")
    rows = backend_of(as_array(logits)).xp.arange(len(labels))
    surprise: Any = neg(log_softmax(logits, 1))
    loss: Any = getitem(surprise, (rows, labels))
    of_rows = None if weight is None else getitem(weight, labels)
    if of_rows is not None:
        loss = _weighed(loss, of_rows)
    if label_smoothing:
        every = surprise if weight is None else _weighed(surprise, broadcast_to(weight, surprise.shape))
        loss = add(mul(loss, 1 - label_smoothing), mul(mean(every, 1), label_smoothing))
    if of_rows is None or reduction != "mean":
        return _reduced(loss, reduction)
    total = sum_over(of_rows)
    if not is_recording_step() and float(as_array(total)) == 0:
        raise ValueError(f"{name}: the weights of all labels are 0, so they have no mean (logits {logits.shape})")
    return div(sum_over(loss), total)


def _checked_labels(name: str, logits: Any, labels: Any) -> Any:
    """The labels as an array of integers, one for each row of the logits, in range."""
    labels = np.asarray(labels) if isinstance(labels, list | tuple | range | int) else as_array(labels)
    shape_of(name, logits), shape_of(name, labels)
    if len(logits.shape) != 2 or labels.shape != logits.shape[:1] or not logits.size:
        raise ValueError(f"{name}: logits (N, classes) and labels (N,) expected, got {logits.shape} and {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name}: labels should be integers, got {labels.dtype} (a Tensor made from a list "
                        "is float32: give the list itself, or Tensor(list, dtype=int))")
    wrong = range_error(labels, logits.shape[1])
    if wrong:
        raise ValueError(f"{name}: labels {wrong} (logits {logits.shape})")
    return labels


def mean_squared_error(predictions: X, targets: Operand, reduction: str = "mean") -> X:
    """mean((predictions - targets)^2). targets: of the shape of predictions, or a number. reduction: "mean", "sum", or
    "none" for the error of every prediction."""
    _check("mean_squared_error", predictions, targets)
    _check_reduction("mean_squared_error", reduction)
    difference: Any = sub(predictions, targets)
    return _reduced(mul(difference, difference), reduction)


def mean_absolute_error(predictions: X, targets: Operand, reduction: str = "mean") -> X:
    """mean(|predictions - targets|). targets: of the shape of predictions, or a number. reduction: as for
    `mean_squared_error`."""
    _check("mean_absolute_error", predictions, targets)
    _check_reduction("mean_absolute_error", reduction)
    difference: Any = sub(predictions, targets)
    return _reduced(absolute(difference), reduction)


def _check(caller: str, x: Any, targets: Any) -> None:
    shape = shape_of(caller, x)
    other = shape if isinstance(targets, int | float | np.generic) else shape_of(caller, targets)
    if shape != other or not x.size:
        raise ValueError(f"{caller}: expected two inputs of the same shape, not empty, got {shape} and {other}")
