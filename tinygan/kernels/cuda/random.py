"""Random numbers on the device: element i depends on the key and on i alone, and is the CPU's."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cuda.runtime.device import Array, Device, HostValue

__all__ = ["random_bits", "random_normal", "random_uniform"]


def _of_a_block(dtype: np.dtype[Any]) -> int:
    """How many numbers are made of the four words of a block."""
    return 2 if dtype.itemsize == 8 else 4


def random_bits(device: Device, key: HostValue, out: Array) -> Array:
    """Uniform uint32."""
    device.each("random", "bits", -(-out.size // 4), device.feed(key), out, out.size, dtype=np.float32)
    return out


def random_uniform(device: Device, key: HostValue, out: Array, low: float, high: float) -> Array:
    """Uniform in [low, high)."""
    kind = out.dtype.type
    below = np.nextafter(kind(high), kind(low)) if high > low else kind(np.inf)
    device.each("random", "uniform", -(-out.size // _of_a_block(out.dtype)), device.feed(key), out, out.size, float(low),
                float(high - low), float(below), dtype=out.dtype)
    return out


def random_normal(device: Device, key: HostValue, out: Array) -> Array:
    """Normal with mean 0 and variance 1 (Box, Muller 1958): pairs of uniform numbers to pairs of normal ones."""
    device.each("random", "normal", -(-out.size // _of_a_block(out.dtype)), device.feed(key), out, out.size, dtype=out.dtype)
    return out
