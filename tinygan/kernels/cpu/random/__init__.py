"""Random numbers by Philox. Element i depends only on i and on the key, which is two uint32 words.

first: the block of four words with which the numbers begin. (A number takes one word, or two if it is a float64.)"""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.feeding import HostValue
from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.workspace import empty

__all__ = ["random_bits", "random_normal", "random_uniform"]

Array = np.ndarray[Any, Any]


def random_bits(key: HostValue, out: Array, first: int = 0) -> Array:
    """Fill `out` with uniform uint32 words."""
    return loaded("tinygan.kernels.cpu.random.compiled").random_bits(key, out, first)


def _unit(key: HostValue, shape: tuple[int, ...], dtype: Any, first: int) -> Array:
    """Uniform numbers in [0, 1), from 24 random bits each for float32 and 53 for float64."""
    if dtype == np.float32:
        bits = random_bits(key, empty(shape, np.uint32), first) >> np.uint32(8)
        return bits.astype(np.float32) * np.float32(2.0**-24)
    words = random_bits(key, empty((*shape, 2), np.uint32), first).astype(np.uint64)
    bits = (words[..., 0] << np.uint64(32) | words[..., 1]) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def random_uniform(key: HostValue, out: Array, low: float, high: float, first: int = 0) -> Array:
    """Fill `out` with uniform numbers in [low, high)."""
    kind = out.dtype.type
    np.multiply(_unit(key, out.shape, out.dtype, first), kind(high - low), out=out)
    out += kind(low)
    if high > low:
        np.minimum(out, np.nextafter(kind(high), kind(low)), out=out)  # rounding may give `high` itself
    return out


def random_normal(key: HostValue, out: Array, first: int = 0) -> Array:
    """Fill `out` with normal numbers of mean 0 and variance 1. Each pair is made from a pair of uniform numbers (Box, Muller
    1958)."""
    if out.dtype == np.float32 and out.flags.c_contiguous:
        return loaded("tinygan.kernels.cpu.random.compiled").random_normal(key, out, first)
    kind = out.dtype.type
    pairs = _unit(key, ((out.size + 1) // 2, 2), out.dtype, first)
    radius = np.sqrt(kind(-2) * np.log(kind(1) - pairs[:, 0]))  # 1 - u is in (0, 1], so the logarithm is finite
    angle = pairs[:, 1] * kind(2 * np.pi)
    normal = np.empty_like(pairs)
    np.multiply(radius, np.cos(angle), out=normal[:, 0])
    np.multiply(radius, np.sin(angle), out=normal[:, 1])
    out.reshape(-1)[...] = normal.reshape(-1)[:out.size]
    return out
