"""A linear classifier: softmax regression with an L2 penalty on its weights, trained with tinygan."""
from __future__ import annotations

__all__ = ["LinearClassifier", "balanced_subset", "fit_classifier", "select_classifier"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.graph import grad
from tinygan.ops import add, mul, softmax_cross_entropy
from tinygan.ops import sum as sum_over
from tinygan.optim import Adam, cosine_decay
from tinygan.random import Key, as_key

STRENGTHS = tuple(10.0**k for k in range(-3, 2))
"""The strengths of the L2 penalty that `select_classifier` tries."""
_RATE = 0.01
Array = npt.NDArray[Any]


class LinearClassifier(NamedTuple):
    """logits = (x - mean) / scale @ weight.T + bias; mean and scale (F,), weight (classes, F), bias (classes,).

    strength: that of the L2 penalty in its training.
    """

    mean: Array
    scale: Array
    weight: Array
    bias: Array
    strength: float

    def logits(self, features: Array) -> Array:
        """Features (N, F) -> logits (N, classes)."""
        return (features - self.mean) / self.scale @ self.weight.T + self.bias

    def accuracy(self, features: Array, labels: Array) -> float:
        """The share of features (N, F) whose largest logit is that of their label (N,)."""
        return float((self.logits(features).argmax(axis=1) == labels).mean())


def fit_classifier(features: Array, labels: Array, strength: float, *, classes: int | None = None,
                   steps: int = 150) -> LinearClassifier:
    """Minimise mean cross-entropy + strength / 2 * sum(weight^2) by full-batch Adam. features (N, F) are normalised to mean
    0 and variance 1 (a constant feature only to 0). labels (N,) are from 0 to classes - 1.

    The problem is convex, and the weights start from zero, so nothing is random.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1] or not features.size:
        raise ValueError(f"fit_classifier: expected features (N, F) and labels (N,), not empty, got {features.shape} and "
                         f"{labels.shape}")
    mean = features.mean(axis=0, dtype=np.float64).astype(features.dtype)
    deviation = features.std(axis=0, dtype=np.float64).astype(features.dtype)
    scale = np.where(deviation > 1e-6 * np.abs(mean), deviation, 1).astype(features.dtype)
    x = (features - mean) / scale
    zeros = nn.initializers.zeros
    layer = nn.Dense(x.shape[1], classes or int(labels.max()) + 1, initializer=zeros).initialize(Key(0)).astype(x.dtype)
    optimizer = Adam(cosine_decay(_RATE, 0.0, steps), betas=(0.9, 0.999))
    optimizer.bind(layer)
    for _ in range(steps):
        penalty = mul(sum_over(mul(layer.weight, layer.weight)), strength / 2)
        optimizer.step(grad(add(softmax_cross_entropy(layer(x), labels), penalty), layer.parameters()))
    state = layer.state_dict()
    return LinearClassifier(mean, scale, state["weight"], state["bias"], strength)


def select_classifier(features: Array, labels: Array, key: Key, *, strengths: Sequence[float] = STRENGTHS,
                      held_out: float = 0.2, steps: int = 150) -> LinearClassifier:
    """Choose the strength of the penalty, then train on all data. A part of every class (at least one example, drawn with
    `key`) is held out, and the strength with the lowest cross-entropy on it is chosen."""
    classes = int(labels.max()) + 1
    per_class = max(1, round(held_out * len(labels) / classes))
    out = balanced_subset(labels, per_class * classes, key)
    kept = np.setdiff1d(np.arange(len(labels)), out)
    losses = []
    for strength in strengths:
        classifier = fit_classifier(features[kept], labels[kept], strength, classes=classes, steps=steps)
        losses.append(float(softmax_cross_entropy(classifier.logits(features[out]), labels[out])))
    return fit_classifier(features, labels, strengths[int(np.argmin(losses))], classes=classes, steps=steps)


def balanced_subset(labels: Array, n: int, key: Key) -> Array:
    """n indices of labels (N,), equally many of every class. The classes take turns, so the first m indices are balanced
    too. The order within a class depends only on `key`, so a smaller subset is part of a larger one."""
    values = np.unique(labels)
    per_class, rest = divmod(n, len(values))
    members = [np.flatnonzero(labels == value) for value in values]
    fewest = min(map(len, members))
    if rest or not 1 <= per_class <= fewest:
        raise ValueError(f"balanced_subset: {n} labels of {len(values)} classes, the smallest with {fewest}: n should be a "
                         f"multiple of {len(values)}, from {len(values)} to {fewest * len(values)}")
    key = as_key("balanced_subset", key)
    chosen = [indices[key.fold(int(value)).permutation(len(indices))[:per_class]]
              for value, indices in zip(values, members, strict=True)]
    return np.stack(chosen, axis=1).ravel()
