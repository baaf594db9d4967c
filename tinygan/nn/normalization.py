"""Batch and layer normalisation as layers."""
from __future__ import annotations

__all__ = ["BatchNorm", "LayerNorm"]

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygan import ops
from tinygan.nn import initializers
from tinygan.nn.initializers import Initializer
from tinygan.nn.module import Module
from tinygan.parameters import Buffer, Parameter


class BatchNorm(Module):
    """Normalises each channel of (N, C, ...), then multiplies by weight (C,) and adds bias (C,) (Ioffe, Szegedy 2015). In
    training it uses the statistics of the batch, otherwise the running statistics.

    momentum: the weight of a new batch in the running statistics. The running variance is unbiased, as in PyTorch.
    """

    taken = 1, "channels"

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1,
                 initializer: Initializer = initializers.ones) -> None:
        self.weight = Parameter(shape=(channels,), initializer=initializer)
        self.bias = Parameter(shape=(channels,), initializer=initializers.zeros)
        self.running_mean = Buffer(np.zeros(channels, np.float32))
        self.running_var = Buffer(np.ones(channels, np.float32))
        self.num_batches_tracked = Buffer(np.array(0, np.int64))
        self.eps = eps
        self.momentum = momentum

    def forward(self, x: Any) -> Any:
        if not self.training:
            return ops.batch_norm_inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        y, mean, variance = ops.batch_norm_with_statistics(x, self.weight, self.bias, self.eps)
        self.track(mean, variance, x.size // x.shape[1])
        return y

    def track(self, mean: Any, variance: Any, count: int) -> None:
        """Move the running statistics towards those of a batch, if `updates_buffers` is true. mean, variance: arrays (C,);
        the variance is biased. count: the number of values per channel."""
        if not self.updates_buffers:
            return
        for buffer, value in ((self.running_mean, mean), (self.running_var, variance * (count / (count - 1)))):
            running = buffer.writable()
            running += (value - running) * running.dtype.type(self.momentum)
        batches = self.num_batches_tracked.writable()
        batches += 1

    def describe(self) -> str:
        return f"{self.weight.size}"


class LayerNorm(Module):
    """Normalises each example over its last axes, which have the given shape, then multiplies by weight and adds bias (Ba et
    al. 2016)."""

    couples_examples = False

    def __init__(self, shape: int | Sequence[int], eps: float = 1e-5) -> None:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.weight = Parameter(shape=shape, initializer=initializers.ones)
        self.bias = Parameter(shape=shape, initializer=initializers.zeros)
        self.eps = eps

    def forward(self, x: Any) -> Any:
        return ops.layer_norm(x, self.weight, self.bias, self.eps)

    def describe(self) -> str:
        return ", ".join(map(str, self.weight.shape))
