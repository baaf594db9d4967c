"""The convolution layers. Each takes images (N, C, H, W), a Tensor or an array, and returns a Tensor."""
from __future__ import annotations

__all__ = ["Conv2d", "ConvTranspose2d"]

import math
from collections.abc import Sequence
from typing import Any

from tinygan import ops
from tinygan.nn import initializers
from tinygan.nn.initializers import Initializer
from tinygan.nn.module import Module
from tinygan.parameters import Parameter

Size = int | Sequence[int]


class _Convolution(Module):
    """The base of the convolution and the transposed convolution: a weight, a bias, and arguments as in PyTorch."""

    couples_examples = False
    taken = 1, "channels"

    def __init__(self, shape: Sequence[int], channels: int, bias: bool, initializer: Initializer | None) -> None:
        bound = 1 / math.sqrt(max(math.prod(shape[1:]), 1))
        self.weight = Parameter(shape=tuple(shape), initializer=initializer or initializers.fan_in_uniform)
        self.bias = Parameter(shape=(channels,), initializer=initializers.zeros if initializer
                              else initializers.uniform(-bound, bound)) if bias else None

    def _described(self, channels: str, **options: Any) -> str:
        kernel = "x".join(map(str, self.weight.shape[2:]))
        others = [f"{name} {value}" for name, value in options.items() if value != _DEFAULTS[name]]
        return ", ".join([channels, kernel, *others, *(["no bias"] if self.bias is None else [])])


_DEFAULTS = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}


def _kernel_size(size: Size) -> tuple[int, int]:
    values = (size, size) if isinstance(size, int) else tuple(size)
    if len(values) != 2 or not all(isinstance(v, int) and v > 0 for v in values):
        raise ValueError(f"kernel_size should be one or two positive whole numbers, got {size!r}")
    return values


def _check_channels(name: str, in_channels: int, out_channels: int, groups: int) -> None:
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(f"{name}: groups ({groups}) should divide in_channels ({in_channels}) and out_channels "
                         f"({out_channels})")


class Conv2d(_Convolution):
    """conv2d(x, weight) + bias: (N, in_channels, H, W) -> (N, out_channels, OH, OW). See `tinygan.conv2d`.

    weight (out_channels, in_channels / groups, kH, kW), bias (out_channels,); initializer: as for Dense.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size | str = 0,
                 dilation: Size = 1, groups: int = 1, bias: bool = True, initializer: Initializer | None = None) -> None:
        _check_channels("Conv2d", in_channels, out_channels, groups)
        super().__init__((out_channels, in_channels // groups, *_kernel_size(kernel_size)), out_channels, bias, initializer)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Any) -> Any:
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def describe(self) -> str:
        out_channels, per_group = self.weight.shape[:2]
        return self._described(f"{per_group * self.groups} -> {out_channels}", stride=self.stride, padding=self.padding,
                               dilation=self.dilation, groups=self.groups)


class ConvTranspose2d(_Convolution):
    """conv_transpose2d(x, weight) + bias: (N, in_channels, H, W) -> (N, out_channels, OH, OW). See
    `tinygan.conv_transpose2d`.

    weight (in_channels, out_channels / groups, kH, kW), bias (out_channels,); initializer: as for Dense.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
                 output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1,
                 initializer: Initializer | None = None) -> None:
        _check_channels("ConvTranspose2d", in_channels, out_channels, groups)
        super().__init__((in_channels, out_channels // groups, *_kernel_size(kernel_size)), out_channels, bias, initializer)
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.groups, self.dilation = groups, dilation

    def forward(self, x: Any) -> Any:
        return ops.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups,
                                    self.dilation)

    def describe(self) -> str:
        in_channels, per_group = self.weight.shape[:2]
        return self._described(f"{in_channels} -> {per_group * self.groups}", stride=self.stride, padding=self.padding,
                               output_padding=self.output_padding, dilation=self.dilation, groups=self.groups)
