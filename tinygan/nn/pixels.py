"""Layers that turn channels into pixels and back."""
from __future__ import annotations

__all__ = ["PixelShuffle", "PixelUnshuffle"]

from typing import Any

from tinygan import ops
from tinygan.nn.module import Module
from tinygan.ops.pixels import check_factor


class PixelShuffle(Module):
    """(N, C r^2, H, W) -> (N, C, r H, r W), for r = factor (Shi et al. 2016): see `tinygan.pixel_shuffle`."""

    couples_examples = False

    def __init__(self, factor: int) -> None:
        check_factor("PixelShuffle", factor)
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return ops.pixel_shuffle(x, self.factor)

    def describe(self) -> str:
        return f"{self.factor}"


class PixelUnshuffle(Module):
    """(N, C, r H, r W) -> (N, C r^2, H, W), for r = factor: see `tinygan.pixel_unshuffle`."""

    couples_examples = False

    def __init__(self, factor: int) -> None:
        check_factor("PixelUnshuffle", factor)
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return ops.pixel_unshuffle(x, self.factor)

    def describe(self) -> str:
        return f"{self.factor}"
