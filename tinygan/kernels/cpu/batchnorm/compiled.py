"""Batch normalisation with the activation after it, and plain sums, over (rows, channels): channels-last images, or a batch
of vectors.

With z = (x - mean) / deviation * weight + bias the result is activation(z), relu, leaky_relu or the identity. Backward
finds the sign of z from x again, so the result need not be kept.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types

from tinygan.kernels.activations import LEAKY_RELU, RELU
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline, kernel

# What a task is told, by position. MEAN to BIAS: addresses of (channels,) each; INVERSE: 1 / deviation. FACTORS: several
# such rows. PARTIAL: `TOTALS` rows of float64 (channels,) for each part.
(X, GRADIENT, SECOND, OUT, OUT_X, COUNT, CHANNELS, MEAN, INVERSE, WEIGHT, BIAS, FACTORS, PARTIAL, ACTIVATION,
 SLOPE) = range(15)
WORDS = 15
TOTALS = 3  # sums that a task makes for each channel, at most
BLOCK = 256  # rows that are added by themselves: the error of a sum in float64 grows with their number, not with all rows


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    moments: int
    sums: int
    normalize: int
    gradient_sums: int
    input_gradient: int
    second_sums: int
    combine: int


@cache
def make(real: Any) -> Tasks:
    """The tasks for elements of that type."""
    pointer = pointer_to(real)
    wide = pointer_to(types.float64)
    item = real.bitwidth // 8

    @inline
    def rows_of(t: Any, part: Any, parts: Any) -> Any:
        return t[COUNT] * part // parts, t[COUNT] * (part + 1) // parts

    @inline
    def row(t: Any, which: Any, i: Any) -> Any:
        return carray(pointer(t[which] + i * t[CHANNELS] * item), (t[CHANNELS],))

    @inline
    def partial(t: Any, part: Any, which: Any) -> Any:
        total = carray(wide(t[PARTIAL] + (part * TOTALS + which) * t[CHANNELS] * 8), (t[CHANNELS],))
        for c in range(total.size):
            total[c] = 0
        return total

    @inline
    def slope_below(t: Any) -> Any:
        """The activation's slope where z is not positive."""
        if t[ACTIVATION] == LEAKY_RELU:
            return carray(pointer(t[SLOPE]), (1,))[0]
        return real(0) if t[ACTIVATION] == RELU else real(1)

    @kernel(str(real))
    def moments(task: Any, part: Any, parts: Any) -> Any:
        """The sums of x and of its square, both of x less what stands at MEAN, so that a large mean takes no digits."""
        t = carray(task, (WORDS,))
        first, end = rows_of(t, part, parts)
        total, squares = partial(t, part, 0), partial(t, part, 1)
        centre = row(t, MEAN, 0)
        quads = first + (end - first) // 4 * 4
        for i in range(first, quads, 4):  # four rows in the elements' own precision, the sums of those in float64
            x0, x1, x2, x3 = row(t, X, i), row(t, X, i + 1), row(t, X, i + 2), row(t, X, i + 3)
            for c in range(x0.size):
                d0, d1, d2, d3 = x0[c] - centre[c], x1[c] - centre[c], x2[c] - centre[c], x3[c] - centre[c]
                total[c] += np.float64((d0 + d1) + (d2 + d3))
                squares[c] += np.float64((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3))
        for i in range(quads, end):
            x0 = row(t, X, i)
            for c in range(x0.size):
                d0 = x0[c] - centre[c]
                total[c] += np.float64(d0)
                squares[c] += np.float64(d0 * d0)

    @kernel(str(real))
    def sums(task: Any, part: Any, parts: Any) -> Any:
        """The sums of x: of four in its own precision, of those in float64."""
        t = carray(task, (WORDS,))
        first, end = rows_of(t, part, parts)
        total, block = partial(t, part, 0), partial(t, part, 1)
        for start in range(first, end, BLOCK):
            stop = min(start + BLOCK, end)
            quads = start + (stop - start) // 4 * 4
            for c in range(block.size):
                block[c] = 0
            for i in range(start, quads, 4):
                x0, x1, x2, x3 = row(t, X, i), row(t, X, i + 1), row(t, X, i + 2), row(t, X, i + 3)
                for c in range(x0.size):
                    block[c] += np.float64((x0[c] + x1[c]) + (x2[c] + x3[c]))
            for i in range(quads, stop):
                x0 = row(t, X, i)
                for c in range(x0.size):
                    block[c] += np.float64(x0[c])
            for c in range(block.size):
                total[c] += block[c]

    @kernel(str(real))
    def normalize(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (WORDS,))
        first, end = rows_of(t, part, parts)
        mean, inverse, weight, bias = row(t, MEAN, 0), row(t, INVERSE, 0), row(t, WEIGHT, 0), row(t, BIAS, 0)
        below = slope_below(t)
        for i in range(first, end):
            x, out = row(t, X, i), row(t, OUT, i)
            if t[ACTIVATION] == RELU:  # not 0 * z, which an infinity makes NaN
                for c in range(x.size):
                    z = (x[c] - mean[c]) * inverse[c] * weight[c] + bias[c]
                    out[c] = 0 if z <= 0 else z
            else:
                for c in range(x.size):
                    z = (x[c] - mean[c]) * inverse[c] * weight[c] + bias[c]
                    out[c] = z if z > 0 else below * z

    @kernel(str(real))
    def gradient_sums(task: Any, part: Any, parts: Any) -> Any:
        """The sums of the gradient of z, and of that times the normalised x."""
        t = carray(task, (WORDS,))
        first, end = rows_of(t, part, parts)
        plain, weighted = partial(t, part, 0), partial(t, part, 1)
        mean, inverse, weight, bias = row(t, MEAN, 0), row(t, INVERSE, 0), row(t, WEIGHT, 0), row(t, BIAS, 0)
        below = slope_below(t)
        pairs = first + (end - first) // 2 * 2
        for i in range(first, pairs, 2):
            x0, x1, g0, g1 = row(t, X, i), row(t, X, i + 1), row(t, GRADIENT, i), row(t, GRADIENT, i + 1)
            for c in range(x0.size):
                normal0, normal1 = (x0[c] - mean[c]) * inverse[c], (x1[c] - mean[c]) * inverse[c]
                a = g0[c] if normal0 * weight[c] + bias[c] > 0 else below * g0[c]
                b = g1[c] if normal1 * weight[c] + bias[c] > 0 else below * g1[c]
                plain[c] += np.float64(a + b)
                weighted[c] += np.float64(a * normal0 + b * normal1)
        for i in range(pairs, end):
            x0, g0 = row(t, X, i), row(t, GRADIENT, i)
            for c in range(x0.size):
                normal0 = (x0[c] - mean[c]) * inverse[c]
                a = g0[c] if normal0 * weight[c] + bias[c] > 0 else below * g0[c]
                plain[c] += np.float64(a)
                weighted[c] += np.float64(a * normal0)

    @kernel(str(real))
    def input_gradient(task: Any, part: Any, parts: Any) -> Any:
        """weight / deviation * (g - FACTORS[0] - normalised x * FACTORS[1]), g the gradient of z."""
        t = carray(task, (WORDS,))
        first, end = rows_of(t, part, parts)
        mean, inverse, weight, bias = row(t, MEAN, 0), row(t, INVERSE, 0), row(t, WEIGHT, 0), row(t, BIAS, 0)
        plain, weighted = row(t, FACTORS, 0), row(t, FACTORS, 1)
        below = slope_below(t)
        for i in range(first, end):
            x, gradient, out = row(t, X, i), row(t, GRADIENT, i), row(t, OUT, i)
            for c in range(x.size):
                normal = (x[c] - mean[c]) * inverse[c]
                g = gradient[c] if normal * weight[c] + bias[c] > 0 else below * gradient[c]
                out[c] = weight[c] * inverse[c] * (g - plain[c] - normal * weighted[c])

    @kernel(str(real))
    def second_sums(task: Any, part: Any, parts: Any) -> Any:
        """The sums of h, the array at SECOND, of h times the normalised x, and of h times the gradient of z."""
        t = carray(task, (WORDS,))
        first, end = rows_of(t, part, parts)
        plain, weighted, products = partial(t, part, 0), partial(t, part, 1), partial(t, part, 2)
        mean, inverse, weight, bias = row(t, MEAN, 0), row(t, INVERSE, 0), row(t, WEIGHT, 0), row(t, BIAS, 0)
        below = slope_below(t)
        for i in range(first, end):
            x, gradient, h = row(t, X, i), row(t, GRADIENT, i), row(t, SECOND, i)
            for c in range(x.size):
                normal = (x[c] - mean[c]) * inverse[c]
                g = gradient[c] if normal * weight[c] + bias[c] > 0 else below * gradient[c]
                plain[c] += np.float64(h[c])
                weighted[c] += np.float64(h[c] * normal)
                products[c] += np.float64(h[c] * g)

    @kernel(str(real))
    def combine(task: Any, part: Any, parts: Any) -> Any:
        """With n the normalised x, h as above, g the gradient of z, k the FACTORS: at OUT (k0 + k1 n + k2 h) times the
        slope of the activation, at OUT_X k3 + k4 n + k5 h + k6 g."""
        t = carray(task, (WORDS,))
        first, end = rows_of(t, part, parts)
        mean, inverse, weight, bias = row(t, MEAN, 0), row(t, INVERSE, 0), row(t, WEIGHT, 0), row(t, BIAS, 0)
        k0, k1, k2, k3 = row(t, FACTORS, 0), row(t, FACTORS, 1), row(t, FACTORS, 2), row(t, FACTORS, 3)
        k4, k5, k6 = row(t, FACTORS, 4), row(t, FACTORS, 5), row(t, FACTORS, 6)
        below = slope_below(t)
        for i in range(first, end):
            x, gradient, h = row(t, X, i), row(t, GRADIENT, i), row(t, SECOND, i)
            by_g, by_x = row(t, OUT, i), row(t, OUT_X, i)
            for c in range(x.size):
                normal = (x[c] - mean[c]) * inverse[c]
                slope = real(1) if normal * weight[c] + bias[c] > 0 else below
                by_g[c] = (k0[c] + k1[c] * normal + k2[c] * h[c]) * slope
                by_x[c] = k3[c] + k4[c] * normal + k5[c] * h[c] + k6[c] * slope * gradient[c]

    return Tasks(moments, sums, normalize, gradient_sums, input_gradient, second_sums, combine)
