"""Layers without weights that change the size of images. Each takes images (N, C, H, W) and returns a Tensor."""
from __future__ import annotations

__all__ = ["AvgPool2d", "MaxPool2d", "Upsample"]

from collections.abc import Sequence
from typing import Any

from tinygan import ops
from tinygan.nn.module import Module

Size = int | Sequence[int]


class MaxPool2d(Module):
    """The largest element of every window: see `tinygan.max_pool2d`."""

    couples_examples = False

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
                 ceil_mode: bool = False) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: Any) -> Any:
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def describe(self) -> str:
        return _described(self.kernel_size, self.stride, padding=self.padding, dilation=self.dilation,
                          ceil_mode=self.ceil_mode)


class AvgPool2d(Module):
    """The mean of every window: see `tinygan.avg_pool2d`."""

    couples_examples = False

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Any) -> Any:
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def describe(self) -> str:
        return _described(self.kernel_size, self.stride, padding=self.padding, ceil_mode=self.ceil_mode,
                          count_include_pad=self.count_include_pad)


class Upsample(Module):
    """Images at another size, given by `size` or `scale_factor`: see `tinygan.upsample`."""

    couples_examples = False

    def __init__(self, size: Size | None = None, scale_factor: float | Sequence[float] | None = None,
                 mode: str = "nearest", align_corners: bool = False) -> None:
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, x: Any) -> Any:
        return ops.upsample(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def describe(self) -> str:
        target = f"times {self.scale_factor}" if self.size is None else f"to {self.size}"
        return f"{target}, {self.mode}{', align_corners' if self.align_corners else ''}"


_DEFAULTS = {"padding": 0, "dilation": 1, "ceil_mode": False, "count_include_pad": True}


def _described(kernel_size: Size, stride: Size | None, **options: Any) -> str:
    others = [f"{name} {value}" for name, value in options.items() if value != _DEFAULTS[name]]
    return ", ".join([f"{kernel_size}", *([] if stride is None else [f"stride {stride}"]), *others])
