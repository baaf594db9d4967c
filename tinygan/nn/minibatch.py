"""Layers by which a discriminator sees the other examples of a batch."""
from __future__ import annotations

__all__ = ["MinibatchDiscrimination", "MinibatchStd"]

from typing import Any

import numpy as np

from tinygan import ops
from tinygan.nn import initializers
from tinygan.nn.initializers import Initializer
from tinygan.nn.module import Module
from tinygan.ops.ranks import of_all_ranks, own_examples
from tinygan.parameters import Parameter


class MinibatchDiscrimination(Module):
    """Appends to each example's features how similar the example is to the others of its batch: (N, in_features) ->
    (N, in_features + kernels). So a discriminator sees it when a generator always makes the same image (Salimans et al.
    2016, section 3.2).

    Each kernel projects the features to `dimensions` numbers and sums exp(-L1 distance) over the other examples. weight
    (kernels * dimensions, in_features): T in the paper. average: take the mean over the others instead of the sum; it is at
    most 1 for a batch of any size. The result depends on the whole batch, in evaluation too.
    """

    taken = -1, "features"

    def __init__(self, in_features: int, kernels: int = 50, dimensions: int = 5,
                 initializer: Initializer = initializers.normal(0.05), average: bool = False) -> None:  # noqa: B008
        if kernels < 1 or dimensions < 1:
            raise ValueError(f"MinibatchDiscrimination: kernels and dimensions should be at least 1, got {kernels} and "
                             f"{dimensions}")
        self.weight = Parameter(shape=(kernels * dimensions, in_features), initializer=initializer)
        self.kernels = kernels
        self.average = average

    def forward(self, x: Any) -> Any:
        projected = of_all_ranks(ops.dense(x, self.weight))
        near = ops.minibatch_similarity(ops.reshape(projected, (projected.shape[0], self.kernels, -1)))
        if self.average:
            near = ops.mul(near, 1 / max(projected.shape[0] - 1, 1))
        near = own_examples(near)
        return ops.concatenate([x, near], 1)

    def describe(self) -> str:
        rows, in_features = self.weight.shape
        return f"{in_features} -> {in_features + self.kernels}, {rows // self.kernels} dimensions"


class MinibatchStd(Module):
    """One more channel, with the standard deviation over the examples, averaged over channels and pixels: (N, C, ...) ->
    (N, C + 1, ...) (Karras et al. 2018, section 3). See `tinygan.minibatch_std`.

    group_size: the number of examples that are compared, or None for the whole batch. The result depends on the whole group,
    in evaluation too."""

    couples_examples = True

    def __init__(self, group_size: int | None = None) -> None:
        ops.minibatch_std(np.zeros((1, 1), np.float32), group_size)  # raises the error for what is no size
        self.group_size = group_size

    def forward(self, x: Any) -> Any:
        return own_examples(ops.minibatch_std(of_all_ranks(x), self.group_size))

    def describe(self) -> str:
        return "" if self.group_size is None else f"groups of {self.group_size}"
