"""Normalisation as layers: over the batch, an example, groups of channels, or the channels of a pixel."""
from __future__ import annotations

__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm2d", "LayerNorm", "PixelNorm"]

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygan import ops
from tinygan.context import CONTEXT
from tinygan.nn import initializers
from tinygan.nn.initializers import Initializer
from tinygan.nn.module import Module
from tinygan.ops.windows import is_whole
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
        the variance is biased. count: the number of values per channel here. (With several processes, the batch is that of
        all.)"""
        if not self.updates_buffers:
            return
        part = CONTEXT.get().part
        count *= 1 if part is None else part.world.size
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


class GroupNorm(Module):
    """Normalises each of `groups` groups of neighbouring channels of each example of (N, channels, ...), then multiplies by
    weight (channels,) and adds bias (channels,) (Wu, He 2018). affine=False: without weight and bias."""

    couples_examples = False
    taken = 1, "channels"

    def __init__(self, groups: int, channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        if not is_whole(groups) or not is_whole(channels) or groups < 1 or channels < 1 or channels % groups:
            raise ValueError(f"GroupNorm: groups should divide channels, and both should be at least 1, got {groups} and "
                             f"{channels}")
        self.weight, self.bias = _scale_and_shift(channels, affine)
        self.groups, self.channels, self.eps = groups, channels, _checked_eps("GroupNorm", eps)

    def forward(self, x: Any) -> Any:
        _check_channels(self, x)
        return ops.group_norm(x, self.groups, self.weight, self.bias, self.eps)

    def describe(self) -> str:
        return f"{self.channels} in {self.groups} groups{'' if self.weight is not None else ', not affine'}"


class InstanceNorm2d(Module):
    """Normalises each channel of each image of (N, channels, H, W) (Ulyanov et al. 2016). affine=True: then multiplies by
    weight (channels,) and adds bias (channels,). It has no running statistics: evaluation is as training."""

    couples_examples = False
    taken = 1, "channels"

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = False) -> None:
        if not is_whole(channels) or channels < 1:
            raise ValueError(f"InstanceNorm2d: channels should be a whole number, 1 or more, got {channels!r}")
        self.weight, self.bias = _scale_and_shift(channels, affine)
        self.channels, self.eps = channels, _checked_eps("InstanceNorm2d", eps)

    def forward(self, x: Any) -> Any:
        if len(x.shape) != 4:
            raise ValueError(f"InstanceNorm2d: input should be images (N, C, H, W), got shape {x.shape}")
        _check_channels(self, x)
        return ops.instance_norm(x, self.weight, self.bias, self.eps)

    def describe(self) -> str:
        return f"{self.channels}{', affine' if self.weight is not None else ''}"


class PixelNorm(Module):
    """Divides the channels of each pixel of (N, C, ...) by the root of their mean square (Karras et al. 2018, section 4.2).
    See `tinygan.pixel_norm`."""

    couples_examples = False

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = _checked_eps("PixelNorm", eps)

    def forward(self, x: Any) -> Any:
        return ops.pixel_norm(x, self.eps)


def _scale_and_shift(channels: int, affine: bool) -> tuple[Parameter | None, Parameter | None]:
    """The weight and the bias (channels,), or None and None."""
    if not affine:
        return None, None
    return (Parameter(shape=(channels,), initializer=initializers.ones),
            Parameter(shape=(channels,), initializer=initializers.zeros))


def _checked_eps(caller: str, eps: float) -> float:
    if not eps > 0:
        raise ValueError(f"{caller}: eps should be positive, got {eps}")
    return float(eps)


def _check_channels(layer: GroupNorm | InstanceNorm2d, x: Any) -> None:
    if len(x.shape) < 2 or x.shape[1] != layer.channels:
        raise ValueError(f"{type(layer).__name__}: expected input (N, {layer.channels}, ...), got shape {x.shape}")
