"""The convolution layers for signals (N, C, L), such as sound. Each takes a Tensor or an array, and returns a Tensor."""
from __future__ import annotations

__all__ = ["Conv1d", "ConvTranspose1d"]

from collections.abc import Sequence
from typing import Any

from tinygan import ops
from tinygan.nn.conv import _check_channels, _Convolution
from tinygan.nn.initializers import Initializer
from tinygan.ops.conv1d import one

Size = int | Sequence[int]


class Conv1d(_Convolution):
    """conv1d(x, weight) + bias: (N, in_channels, L) -> (N, out_channels, OL). See `tinygan.conv1d`.

    weight (out_channels, in_channels / groups, k), bias (out_channels,); initializer: as for Dense.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size | str = 0,
                 dilation: Size = 1, groups: int = 1, bias: bool = True, initializer: Initializer | None = None) -> None:
        _check_channels("Conv1d", in_channels, out_channels, groups)
        kernel = one("Conv1d", "kernel_size", kernel_size, 1)
        super().__init__((out_channels, in_channels // groups, kernel), out_channels, bias, initializer)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Any) -> Any:
        return ops.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def describe(self) -> str:
        out_channels, per_group = self.weight.shape[:2]
        return self._described(f"{per_group * self.groups} -> {out_channels}", stride=self.stride, padding=self.padding,
                               dilation=self.dilation, groups=self.groups)


class ConvTranspose1d(_Convolution):
    """conv_transpose1d(x, weight) + bias: (N, in_channels, L) -> (N, out_channels, OL). See `tinygan.conv_transpose1d`.

    weight (in_channels, out_channels / groups, k), bias (out_channels,); initializer: as for Dense.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
                 output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1,
                 initializer: Initializer | None = None) -> None:
        _check_channels("ConvTranspose1d", in_channels, out_channels, groups)
        kernel = one("ConvTranspose1d", "kernel_size", kernel_size, 1)
        super().__init__((in_channels, out_channels // groups, kernel), out_channels, bias, initializer)
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.groups, self.dilation = groups, dilation

    def forward(self, x: Any) -> Any:
        return ops.conv_transpose1d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups,
                                    self.dilation)

    def describe(self) -> str:
        in_channels, per_group = self.weight.shape[:2]
        return self._described(f"{in_channels} -> {per_group * self.groups}", stride=self.stride, padding=self.padding,
                               output_padding=self.output_padding, dilation=self.dilation, groups=self.groups)
