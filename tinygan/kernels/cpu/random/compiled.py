"""The compiled kernels of random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

Philox scrambles a counter with a key. Block i of four words depends only on the key and on i, so threads need not wait for
each other. The normal numbers overwrite the words that they are made from. Importing this module compiles the kernels, or
loads them from the cache.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from tinygan.kernels.cpu.runtime.arguments import packer, task
from tinygan.kernels.cpu.runtime.arrays import address, pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.feeding import HostValue, fed
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.shares import share
from tinygan.kernels.cpu.runtime.workspace import empty

Array = np.ndarray[Any, Any]
NUMBERS_AT_ONCE = 1024
"""How many numbers `normal` makes at a time. All its loops have this length, so no number depends on where a loop ends."""
COST_IN_ELEMENTS = 4  # a random number takes as long as this many elements of a simple loop


class Stream(NamedTuple):
    """The arguments of a task: the two words of the key, the block with which the numbers begin, and the address and number
    of the elements to fill."""

    key_low: int
    key_high: int
    first: int
    out: int
    size: int


_packed = packer(Stream)


@inline
def block_of_words(counter: Any, k0: Any, k1: Any) -> Any:
    """The four words of the block with this counter, each in a uint64."""
    low32 = np.uint64(0xFFFFFFFF)
    c0, c1 = np.uint64(counter) & low32, np.uint64(counter) >> np.uint64(32)
    c2, c3 = np.uint64(0), np.uint64(0)
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (product1 >> np.uint64(32) ^ c1 ^ k0, product1 & low32,
                          product0 >> np.uint64(32) ^ c3 ^ k1, product0 & low32)
        k0, k1 = k0 + np.uint64(0x9E3779B9) & low32, k1 + np.uint64(0xBB67AE85) & low32
    return c0, c1, c2, c3


@cache
def make_bits() -> int:
    """The address of the task that fills uint32 arrays. Word i is word i % 4 of the block with counter first + i // 4."""
    pointer = pointer_to(types.uint32)

    @task(Stream)
    def bits(t: Any, part: Any, parts: Any) -> Any:
        out = carray(pointer(t.out), (t.size,))
        start, end = share(t.size, part, parts)
        for block in range(start // 4, (end + 3) // 4):
            first = block * 4
            for word, value in enumerate(block_of_words(t.first + block, np.uint64(t.key_low), np.uint64(t.key_high))):
                if first + word < end:
                    out[first + word] = np.uint32(value)

    return bits


# Coefficients of P, S and C, fitted by least squares at 4,000 Chebyshev nodes:
# log(1 + f) = f - f^2 / 2 + f^3 P(f) for f from sqrt(1/2) - 1 to sqrt(2) - 1,
# sin(r) = r + r^3 S(r^2) and cos(r) = 1 - r^2 / 2 + r^4 C(r^2) for |r| <= pi / 4.
LOG_COEFFICIENTS = (0.33333354, -0.250008519, 0.199998266, -0.166213699, 0.14227114, -0.132021042, 0.126203275,
                    -0.0736286787)
SIN_COEFFICIENTS = (-0.166666547, 0.00833216576, -0.000195159528)
COS_COEFFICIENTS = (0.0416666462, -0.00138873418, 2.44358844e-05)
ROOT_HALF = 0x3F3504F3  # the bits of sqrt(1/2)


def _reinterpret(source: Any, target: Any, kind: Any) -> Any:
    @intrinsic
    def reinterpret(typing: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], kind)

        return target(source), code

    return reinterpret


float_of = _reinterpret(types.int32, types.float32, ir.FloatType())
bits_of = _reinterpret(types.float32, types.int32, ir.IntType(32))


@inline
def polynomial(x: Any, coefficients: Any) -> Any:
    """The sum over i of coefficients[i] * x^i, in float32."""
    total = np.float32(coefficients[-1])
    for i in range(len(coefficients) - 2, -1, -1):
        total = total * x + np.float32(coefficients[i])
    return total


@inline
def log(x: Any) -> Any:
    """The logarithm of a float32 x in (0, 1], without a branch: x = 2^n (1 + f), so log(x) = n log(2) + log(1 + f)."""
    real = np.float32
    bits = bits_of(x)
    n = (bits - np.int32(ROOT_HALF)) >> np.int32(23)
    f = float_of(np.int32(bits - (n << np.int32(23)))) - real(1)
    small = f * f * (f * polynomial(f, LOG_COEFFICIENTS) - real(0.5)) + f
    return real(np.int32(n)) * real(0.6931471805599453) + small


@cache
def make_normal() -> int:
    """The address of the task that fills an array with normal float32 numbers. The formula of Box and Muller makes numbers
    2 i and 2 i + 1 from words 2 i and 2 i + 1. The size must be a multiple of NUMBERS_AT_ONCE."""
    pointer = pointer_to(types.float32)

    @task(Stream)
    def normal(t: Any, part: Any, parts: Any) -> Any:
        k0, k1 = np.uint64(t.key_low), np.uint64(t.key_high)
        chunks = t.size // NUMBERS_AT_ONCE
        real = np.float32
        for chunk in range(chunks * part // parts, chunks * (part + 1) // parts):
            out = carray(pointer(t.out), (t.size,))[chunk * NUMBERS_AT_ONCE:(chunk + 1) * NUMBERS_AT_ONCE]
            first = t.first + chunk * (NUMBERS_AT_ONCE // 4)
            for i in range(NUMBERS_AT_ONCE // 4):
                w0, w1, w2, w3 = block_of_words(first + i, k0, k1)
                # The upper 24 bits of each word, as a whole number.
                out[4 * i] = real(np.int32(w0 >> np.uint64(8)))
                out[4 * i + 1] = real(np.int32(w1 >> np.uint64(8)))
                out[4 * i + 2] = real(np.int32(w2 >> np.uint64(8)))
                out[4 * i + 3] = real(np.int32(w3 >> np.uint64(8)))
            for i in range(NUMBERS_AT_ONCE // 2):
                u, quarters = out[2 * i], out[2 * i + 1] * real(2.0**-22)
                radius = np.sqrt(real(-2) * log((real(2.0**24) - u) * real(2.0**-24)))
                # The angle is a whole number of quarter turns plus r, which is between -1/8 and 1/8 of a turn.
                nearest = np.floor(quarters + real(0.5))
                r = (quarters - nearest) * real(np.pi / 2)
                turn = np.int32(nearest)
                square = r * r
                sine = r + r * square * polynomial(square, SIN_COEFFICIENTS)
                cosine = real(1) - real(0.5) * square + square * square * polynomial(square, COS_COEFFICIENTS)
                odd = turn & np.int32(1)
                x, y = (sine, cosine) if odd else (cosine, sine)
                out[2 * i] = radius * (-x if (turn + np.int32(1)) & np.int32(2) else x)
                out[2 * i + 1] = radius * (-y if turn & np.int32(2) else y)

    return normal


def random_bits(key: HostValue, out: Array, first: int = 0) -> Array:
    """Fill a contiguous uint32 array with the random words that belong to a key, from block `first` on."""
    out_at, size = address(out), out.size
    pool.run(make_bits(), fed(key, lambda low, high: _packed(key_low=low, key_high=high, first=first, out=out_at,
                                                             size=size)), pool.parts(COST_IN_ELEMENTS * size))
    return out


def random_normal(key: HostValue, out: Array, first: int = 0) -> Array:
    """Fill a contiguous float32 array with normal numbers, made from the words that `random_bits` gives for the same key."""
    whole = -(-out.size // NUMBERS_AT_ONCE) * NUMBERS_AT_ONCE
    target = out if out.size == whole else empty((whole,), out.dtype)
    target_at = address(target)
    pool.run(make_normal(), fed(key, lambda low, high: _packed(key_low=low, key_high=high, first=first, out=target_at,
                                                               size=whole)), pool.parts(COST_IN_ELEMENTS * whole))
    if target is not out:
        out.reshape(-1)[...] = target[:out.size]
    return out


make_bits()  # every training needs both
make_normal()
