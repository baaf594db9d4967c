"""Random numbers on the device. Element i depends only on the key and on i, and is the same as on the CPU. first: the block
of four words with which the numbers begin."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cuda.runtime.device import Array, Device, HostValue

__all__ = ["random_bits", "random_normal", "random_uniform"]


def _of_a_block(dtype: np.dtype[Any]) -> int:
    """How many numbers are made from the four words of a block."""
    return 2 if dtype.itemsize == 8 else 4


def random_bits(device: Device, key: HostValue, out: Array, first: int = 0) -> Array:
    """Fill `out` with uniform uint32 words."""
    device.each("random", "bits", -(-out.size // 4), device.feed(key), out, out.size, first, dtype=np.float32)
    return out


def random_uniform(device: Device, key: HostValue, out: Array, low: float, high: float, first: int = 0) -> Array:
    """Fill `out` with uniform numbers in [low, high)."""
    kind = out.dtype.type
    below = np.nextafter(kind(high), kind(low)) if high > low else kind(np.inf)
    device.each("random", "uniform", -(-out.size // _of_a_block(out.dtype)), device.feed(key), out, out.size, first,
                float(low), float(high - low), float(below), dtype=out.dtype)
    return out


def random_normal(device: Device, key: HostValue, out: Array, first: int = 0) -> Array:
    """Fill `out` with normal numbers of mean 0 and variance 1. Each pair is made from a pair of uniform numbers (Box, Muller
    1958)."""
    device.each("random", "normal", -(-out.size // _of_a_block(out.dtype)), device.feed(key), out, out.size, first,
                dtype=out.dtype)
    return out
