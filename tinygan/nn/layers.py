"""Dense layers, and layers for dropout, shapes and embeddings. Each takes a Tensor or an array."""
from __future__ import annotations

__all__ = ["Dense", "Dropout", "Embedding", "Flatten", "Reshape"]

import math
from typing import Any

from tinygan import ops
from tinygan.nn import initializers
from tinygan.nn.initializers import Initializer
from tinygan.nn.module import Module
from tinygan.parameters import Parameter


class Dense(Module):
    """x @ weight.T + bias: (..., in_features) -> (..., out_features).

    weight (out_features, in_features), bias (out_features,). By default both are uniform between -1 / sqrt(in_features) and
    1 / sqrt(in_features), as in PyTorch. initializer: draws the weight instead; the bias then starts at zero.
    """

    couples_examples = False
    taken = -1, "features"

    def __init__(self, in_features: int, out_features: int, bias: bool = True,
                 initializer: Initializer | None = None) -> None:
        bound = 1 / math.sqrt(max(in_features, 1))
        self.weight = Parameter(shape=(out_features, in_features), initializer=initializer or initializers.fan_in_uniform)
        self.bias = Parameter(shape=(out_features,), initializer=initializers.zeros if initializer
                              else initializers.uniform(-bound, bound)) if bias else None

    def forward(self, x: Any) -> Any:
        return ops.dense(x, self.weight, self.bias)

    def describe(self) -> str:
        out_features, in_features = self.weight.shape
        return f"{in_features} -> {out_features}{'' if self.bias is not None else ', no bias'}"


class Dropout(Module):
    """In training, each element is set to 0 with probability `rate`, and the others are divided by 1 - rate. The draws come
    from the context's key."""

    couples_examples = False

    def __init__(self, rate: float = 0.5) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout: rate should be in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Any) -> Any:
        return ops.dropout(x, self.rate) if self.training else x

    def describe(self) -> str:
        return f"{self.rate:g}"


class Flatten(Module):
    """(N, ...) -> (N, the product of the other sizes)."""

    couples_examples = False

    def forward(self, x: Any) -> Any:
        return ops.reshape(x, (x.shape[0], math.prod(x.shape[1:])))


class Reshape(Module):
    """(N, ...) -> (N, *shape)."""

    couples_examples = False

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def forward(self, x: Any) -> Any:
        return ops.reshape(x, (x.shape[0], *self.shape))

    def describe(self) -> str:
        return ", ".join(map(str, self.shape))


class Embedding(Module):
    """Integers of any shape -> the rows of weight (count, dimension) with these numbers: (*shape, dimension)."""

    couples_examples = False

    def __init__(self, count: int, dimension: int, initializer: Initializer | None = None) -> None:
        self.weight = Parameter(shape=(count, dimension), initializer=initializer or initializers.normal(1.0))

    def forward(self, x: Any) -> Any:
        return ops.embedding(self.weight, x)

    def describe(self) -> str:
        return " -> ".join(map(str, self.weight.shape))
