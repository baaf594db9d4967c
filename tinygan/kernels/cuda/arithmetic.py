"""Elementwise sums, differences and products on the device. CuPy computes them."""
from __future__ import annotations

from typing import Any

from tinygan.kernels.cuda.runtime.device import Array, Device

__all__ = ["add", "multiply", "subtract"]


def add(device: Device, a: Any, b: Any) -> Array:
    return device.xp.add(a, b)


def subtract(device: Device, a: Any, b: Any) -> Array:
    return device.xp.subtract(a, b)


def multiply(device: Device, a: Any, b: Any) -> Array:
    return device.xp.multiply(a, b)
