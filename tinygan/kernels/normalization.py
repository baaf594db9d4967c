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

from tinygan.kernels.compiling import inline, kernel
from tinygan.kernels.gemm import LEAKY_RELU, RELU, pointer_to

# What a task is told, by position. MEAN to BIAS and SUMS: addresses of (channels,) each; INVERSE: 1 / deviation.
# PARTIAL: two rows of float64 (channels,) for each part.
X, GRADIENT, OUT, COUNT, CHANNELS, MEAN, INVERSE, WEIGHT, BIAS, SUMS, PARTIAL, ACTIVATION, SLOPE = range(13)
WORDS = 13


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    moments: int
    sums: int
    normalize: int
    gradient_sums: int
    input_gradient: int


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
    def partial(t: Any, part: Any) -> Any:
        first = t[PARTIAL] + part * 2 * t[CHANNELS] * 8
        sums = carray(wide(first), (t[CHANNELS],)), carray(wide(first + t[CHANNELS] * 8), (t[CHANNELS],))
        for c in range(t[CHANNELS]):
            sums[0][c] = 0
            sums[1][c] = 0
        return sums

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
        total, squares = partial(t, part)
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
        """The sums of x."""
        t = carray(task, (WORDS,))
        first, end = rows_of(t, part, parts)
        total, _ = partial(t, part)
        quads = first + (end - first) // 4 * 4
        for i in range(first, quads, 4):
            x0, x1, x2, x3 = row(t, X, i), row(t, X, i + 1), row(t, X, i + 2), row(t, X, i + 3)
            for c in range(x0.size):
                total[c] += np.float64((x0[c] + x1[c]) + (x2[c] + x3[c]))
        for i in range(quads, end):
            x0 = row(t, X, i)
            for c in range(x0.size):
                total[c] += np.float64(x0[c])

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
        plain, weighted = partial(t, part)
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
        """weight / deviation * (g - SUMS[0] - normalised x * SUMS[1]), g the gradient of z."""
        t = carray(task, (WORDS,))
        first, end = rows_of(t, part, parts)
        mean, inverse, weight, bias = row(t, MEAN, 0), row(t, INVERSE, 0), row(t, WEIGHT, 0), row(t, BIAS, 0)
        plain, weighted = row(t, SUMS, 0), row(t, SUMS, 1)
        below = slope_below(t)
        for i in range(first, end):
            x, gradient, out = row(t, X, i), row(t, GRADIENT, i), row(t, OUT, i)
            for c in range(x.size):
                normal = (x[c] - mean[c]) * inverse[c]
                g = gradient[c] if normal * weight[c] + bias[c] > 0 else below * gradient[c]
                out[c] = weight[c] * inverse[c] * (g - plain[c] - normal * weighted[c])

    return Tasks(moments, sums, normalize, gradient_sums, input_gradient)
