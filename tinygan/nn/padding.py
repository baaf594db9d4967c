"""Layers that put a frame around signals (N, C, L) or images (N, C, H, W): see `tinygan.pad`.

padding, as in PyTorch: one number for all sides, or (left, right), for images (left, right, top, bottom).
"""
from __future__ import annotations

__all__ = ["CircularPad1d", "CircularPad2d", "ConstantPad1d", "ConstantPad2d", "ReflectionPad1d", "ReflectionPad2d",
           "ReplicationPad1d", "ReplicationPad2d", "ZeroPad1d", "ZeroPad2d"]

from collections.abc import Sequence
from typing import Any, ClassVar

from tinygan import ops
from tinygan.nn.module import Module
from tinygan.ops.windows import is_whole

Padding = int | Sequence[int]


class _Pad(Module):
    """The base of all these layers."""

    couples_examples = False
    directions: ClassVar[int]
    mode: ClassVar[str] = "constant"

    def __init__(self, padding: Padding, value: float = 0.0) -> None:
        sides = tuple(padding) if isinstance(padding, Sequence) else (padding,) * (2 * self.directions)
        if len(sides) != 2 * self.directions or not all(is_whole(side) and side >= 0 for side in sides):
            raise ValueError(f"{type(self).__name__}: padding should be one or {2 * self.directions} whole numbers, 0 or "
                             f"more, got {padding!r}")
        self.padding, self.value = sides, float(value)

    def forward(self, x: Any) -> Any:
        if len(x.shape) != self.directions + 2:
            axes = "N, C, L" if self.directions == 1 else "N, C, H, W"
            raise ValueError(f"{type(self).__name__}: input should be of shape ({axes}), got {x.shape}")
        pairs = [(self.padding[i], self.padding[i + 1]) for i in range(0, len(self.padding), 2)]
        return ops.pad(x, [(0, 0), (0, 0), *pairs[::-1]], self.value, self.mode)

    def describe(self) -> str:
        sides = self.padding[:1] if len(set(self.padding)) == 1 else self.padding
        return ", ".join([*map(str, sides), *([f"value {self.value:g}"] if self.value else [])])


class _Filled(_Pad):
    """The base of those that fill the frame with what x holds."""

    def __init__(self, padding: Padding) -> None:
        super().__init__(padding)


class ConstantPad1d(_Pad):
    """A frame of `value`, around signals."""

    directions = 1

    def __init__(self, padding: Padding, value: float) -> None:
        super().__init__(padding, value)


class ZeroPad1d(_Filled):
    """A frame of zeros, around signals."""

    directions = 1


class ReflectionPad1d(_Filled):
    """A frame of what lies inside, mirrored at the edge, around signals."""

    directions = 1
    mode = "reflect"


class ReplicationPad1d(_Filled):
    """A frame of copies of the edge, around signals."""

    directions = 1
    mode = "replicate"


class CircularPad1d(_Filled):
    """A frame of what lies at the other end, around signals."""

    directions = 1
    mode = "circular"


class ConstantPad2d(_Pad):
    """A frame of `value`, around images."""

    directions = 2

    def __init__(self, padding: Padding, value: float) -> None:
        super().__init__(padding, value)


class ZeroPad2d(_Filled):
    """A frame of zeros, around images."""

    directions = 2


class ReflectionPad2d(_Filled):
    """A frame of what lies inside, mirrored at the edge, around images."""

    directions = 2
    mode = "reflect"


class ReplicationPad2d(_Filled):
    """A frame of copies of the edge, around images."""

    directions = 2
    mode = "replicate"


class CircularPad2d(_Filled):
    """A frame of what lies at the other end, around images."""

    directions = 2
    mode = "circular"
