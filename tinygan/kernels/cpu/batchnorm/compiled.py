"""The compiled kernels of batch normalisation with the activation after it. They see channels-last images, or a batch of
vectors, as a matrix (rows, channels).

With z = (x - mean) / deviation * weight + bias the result is activation(z), relu, leaky_relu or the identity. Backward
finds the sign of z from x again, so the result need not be kept.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.activations import LEAKY_RELU, RELU
from tinygan.kernels.cpu.batchnorm.normalized import Array, Normalized
from tinygan.kernels.cpu.reductions.compiled import fold, rows_of, unfolded
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import REALS, address
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import empty


class Normalization(NamedTuple):
    """What a task is told: addresses, 0 for what it does not use, and sizes."""

    x: int  # (rows, channels), as the next four
    gradient: int  # of the result
    second: int
    out: int
    out_x: int
    mean: int  # (channels,), as the next three
    inverse: int  # 1 / deviation
    weight: int
    bias: int
    factors: int  # several rows (channels,)
    partial: int  # `totals` rows (channels,) of float64 for each part
    totals: int
    rows: int
    channels: int
    activation: int
    slope: float


class Helpers(NamedTuple):
    """Functions for the kernels."""

    share: Any
    """(t, part, parts): first and end of the rows that are a part's."""
    row: Any
    """(t, matrix, i): row i of the matrix at that address."""
    sums: Any
    """(t, part, i): row i of a part's sums, all 0."""
    slope_below: Any
    """(t): the activation's slope where z is not positive."""


@cache
def _helpers(real: Any) -> Helpers:
    row_of, zeros = rows_of(real)

    @inline
    def share(t: Any, part: Any, parts: Any) -> Any:
        return t.rows * part // parts, t.rows * (part + 1) // parts

    @inline
    def row(t: Any, matrix: Any, i: Any) -> Any:
        return row_of(matrix, i, t.channels)

    @inline
    def sums(t: Any, part: Any, i: Any) -> Any:
        return zeros(t.partial, part * t.totals + i, t.channels)

    @inline
    def slope_below(t: Any) -> Any:
        if t.activation == LEAKY_RELU:
            return real(t.slope)
        return real(0) if t.activation == RELU else real(1)

    return Helpers(share, row, sums, slope_below)


def _moments(real: Any) -> int:
    share, row, sums, _ = _helpers(real)

    @task(Normalization, str(real))
    def moments(t: Any, part: Any, parts: Any) -> Any:
        """The sums of x and of its square, of x less what lies at `mean`: so a large mean takes no digits."""
        first, end = share(t, part, parts)
        total, squares = sums(t, part, 0), sums(t, part, 1)
        centre = row(t, t.mean, 0)
        quads = first + (end - first) // 4 * 4
        for i in range(first, quads, 4):  # four rows in the elements' own precision, the sums of those in float64
            x0, x1, x2, x3 = row(t, t.x, i), row(t, t.x, i + 1), row(t, t.x, i + 2), row(t, t.x, i + 3)
            for c in range(x0.size):
                d0, d1, d2, d3 = x0[c] - centre[c], x1[c] - centre[c], x2[c] - centre[c], x3[c] - centre[c]
                total[c] += np.float64((d0 + d1) + (d2 + d3))
                squares[c] += np.float64((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3))
        for i in range(quads, end):
            x0 = row(t, t.x, i)
            for c in range(x0.size):
                d0 = x0[c] - centre[c]
                total[c] += np.float64(d0)
                squares[c] += np.float64(d0 * d0)

    return moments


def _normalize(real: Any) -> int:
    share, row, _, slope_below = _helpers(real)

    @task(Normalization, str(real))
    def normalize(t: Any, part: Any, parts: Any) -> Any:
        """activation(z), at `out`."""
        first, end = share(t, part, parts)
        mean, inverse, weight, bias = row(t, t.mean, 0), row(t, t.inverse, 0), row(t, t.weight, 0), row(t, t.bias, 0)
        below = slope_below(t)
        for i in range(first, end):
            x, out = row(t, t.x, i), row(t, t.out, i)
            if t.activation == RELU:  # not 0 * z, which an infinity makes NaN
                for c in range(x.size):
                    z = (x[c] - mean[c]) * inverse[c] * weight[c] + bias[c]
                    out[c] = 0 if z <= 0 else z
            else:
                for c in range(x.size):
                    z = (x[c] - mean[c]) * inverse[c] * weight[c] + bias[c]
                    out[c] = z if z > 0 else below * z

    return normalize


def _gradient_sums(real: Any) -> int:
    share, row, sums, slope_below = _helpers(real)

    @task(Normalization, str(real))
    def gradient_sums(t: Any, part: Any, parts: Any) -> Any:
        """The sums of the gradient of z, and of that times the normalised x."""
        first, end = share(t, part, parts)
        plain, weighted = sums(t, part, 0), sums(t, part, 1)
        mean, inverse, weight, bias = row(t, t.mean, 0), row(t, t.inverse, 0), row(t, t.weight, 0), row(t, t.bias, 0)
        below = slope_below(t)
        pairs = first + (end - first) // 2 * 2
        for i in range(first, pairs, 2):
            x0, x1, g0, g1 = row(t, t.x, i), row(t, t.x, i + 1), row(t, t.gradient, i), row(t, t.gradient, i + 1)
            for c in range(x0.size):
                normal0, normal1 = (x0[c] - mean[c]) * inverse[c], (x1[c] - mean[c]) * inverse[c]
                a = g0[c] if normal0 * weight[c] + bias[c] > 0 else below * g0[c]
                b = g1[c] if normal1 * weight[c] + bias[c] > 0 else below * g1[c]
                plain[c] += np.float64(a + b)
                weighted[c] += np.float64(a * normal0 + b * normal1)
        for i in range(pairs, end):
            x0, g0 = row(t, t.x, i), row(t, t.gradient, i)
            for c in range(x0.size):
                normal0 = (x0[c] - mean[c]) * inverse[c]
                a = g0[c] if normal0 * weight[c] + bias[c] > 0 else below * g0[c]
                plain[c] += np.float64(a)
                weighted[c] += np.float64(a * normal0)

    return gradient_sums


def _input_gradient(real: Any) -> int:
    share, row, _, slope_below = _helpers(real)

    @task(Normalization, str(real))
    def input_gradient(t: Any, part: Any, parts: Any) -> Any:
        """weight / deviation * (g - factors[0] - normalised x * factors[1]), g the gradient of z."""
        first, end = share(t, part, parts)
        mean, inverse, weight, bias = row(t, t.mean, 0), row(t, t.inverse, 0), row(t, t.weight, 0), row(t, t.bias, 0)
        plain, weighted = row(t, t.factors, 0), row(t, t.factors, 1)
        below = slope_below(t)
        for i in range(first, end):
            x, gradient, out = row(t, t.x, i), row(t, t.gradient, i), row(t, t.out, i)
            for c in range(x.size):
                normal = (x[c] - mean[c]) * inverse[c]
                g = gradient[c] if normal * weight[c] + bias[c] > 0 else below * gradient[c]
                out[c] = weight[c] * inverse[c] * (g - plain[c] - normal * weighted[c])

    return input_gradient


def _second_sums(real: Any) -> int:
    share, row, sums, slope_below = _helpers(real)

    @task(Normalization, str(real))
    def second_sums(t: Any, part: Any, parts: Any) -> Any:
        """The sums of h, the array at `second`, of h times the normalised x, and of h times the gradient of z."""
        first, end = share(t, part, parts)
        plain, weighted, products = sums(t, part, 0), sums(t, part, 1), sums(t, part, 2)
        mean, inverse, weight, bias = row(t, t.mean, 0), row(t, t.inverse, 0), row(t, t.weight, 0), row(t, t.bias, 0)
        below = slope_below(t)
        for i in range(first, end):
            x, gradient, h = row(t, t.x, i), row(t, t.gradient, i), row(t, t.second, i)
            for c in range(x.size):
                normal = (x[c] - mean[c]) * inverse[c]
                g = gradient[c] if normal * weight[c] + bias[c] > 0 else below * gradient[c]
                plain[c] += np.float64(h[c])
                weighted[c] += np.float64(h[c] * normal)
                products[c] += np.float64(h[c] * g)

    return second_sums


def _combine(real: Any) -> int:
    share, row, _, slope_below = _helpers(real)

    @task(Normalization, str(real))
    def combine(t: Any, part: Any, parts: Any) -> Any:
        """With n the normalised x, h as above, g the gradient of z, k the factors: at `out` (k0 + k1 n + k2 h) times the
        slope of the activation, at `out_x` k3 + k4 n + k5 h + k6 g."""
        first, end = share(t, part, parts)
        mean, inverse, weight, bias = row(t, t.mean, 0), row(t, t.inverse, 0), row(t, t.weight, 0), row(t, t.bias, 0)
        k0, k1, k2, k3 = row(t, t.factors, 0), row(t, t.factors, 1), row(t, t.factors, 2), row(t, t.factors, 3)
        k4, k5, k6 = row(t, t.factors, 4), row(t, t.factors, 5), row(t, t.factors, 6)
        below = slope_below(t)
        for i in range(first, end):
            x, gradient, h = row(t, t.x, i), row(t, t.gradient, i), row(t, t.second, i)
            by_g, by_x = row(t, t.out, i), row(t, t.out_x, i)
            for c in range(x.size):
                normal = (x[c] - mean[c]) * inverse[c]
                slope = real(1) if normal * weight[c] + bias[c] > 0 else below
                by_g[c] = (k0[c] + k1[c] * normal + k2[c] * h[c]) * slope
                by_x[c] = k3[c] + k4[c] * normal + k5[c] * h[c] + k6[c] * slope * gradient[c]

    return combine


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    moments: int
    normalize: int
    gradient_sums: int
    input_gradient: int
    second_sums: int
    combine: int


@cache
def make(real: Any) -> Tasks:
    """The tasks for elements of that type."""
    return Tasks(_moments(real), _normalize(real), _gradient_sums(real), _input_gradient(real), _second_sums(real),
                 _combine(real))


def _run(task: str, x: Array, vectors: Sequence[Array], activation: int = 0, slope: float = 0.0,
         gradient: Array | None = None, second: Array | None = None, out: Array | None = None, out_x: Array | None = None,
         factors: Array | None = None, totals: int = 0) -> Array:
    """Run a task on x (rows, channels), which is C-contiguous, as are all the others. vectors: mean, 1 / deviation, weight
    and bias. Returns the sums that it makes: (totals, channels), float64."""
    rows, channels = x.shape
    folded, parts = fold(rows, channels), pool.parts(x.size)
    mean, inverse, weight, bias = [v[None].repeat(folded, 0) for v in vectors]  # (np.tile takes many times as long)
    if factors is not None:
        factors = factors[:, None].repeat(folded, 1)
    partial = np.empty((parts, totals, folded * channels))
    pool.run(getattr(make(REALS[x.dtype]), task), Normalization(
        x=address(x), gradient=_address(gradient), second=_address(second), out=_address(out), out_x=_address(out_x),
        mean=address(mean), inverse=address(inverse), weight=address(weight), bias=address(bias), factors=_address(factors),
        partial=address(partial), totals=totals, rows=rows // folded, channels=folded * channels, activation=activation,
        slope=slope), parts)
    return unfolded(partial, folded)


def _address(array: Array | None) -> int:
    return 0 if array is None else address(array)


def moments(x: Array) -> tuple[Array, Array]:
    """See `small`, and so below."""
    # Sums around something near the mean, in float64: a large mean takes no digits from the variance.
    centre = x[::max(1, len(x) // 16)].mean(0)
    first, second = _run("moments", x, [centre] * 4, totals=2) / x.shape[0]
    return (centre + first).astype(x.dtype), np.maximum(second - first * first, 0).astype(x.dtype)


def normalize(n: Normalized) -> Array:
    out = empty(n.x.shape, n.x.dtype)
    _run("normalize", n.x, n[1:5], n.activation, n.slope, out=out)
    return out


def gradient_sums(g: Array, n: Normalized) -> Array:
    return _run("gradient_sums", n.x, n[1:5], n.activation, n.slope, gradient=g, totals=2).astype(g.dtype)


def input_gradient(g: Array, n: Normalized, sums: Array) -> Array:
    out = empty(g.shape, g.dtype)
    _run("input_gradient", n.x, n[1:5], n.activation, n.slope, gradient=g, out=out, factors=sums / g.dtype.type(len(g)))
    return out


def second_sums(h: Array, g: Array, n: Normalized) -> Array:
    return _run("second_sums", n.x, n[1:5], n.activation, n.slope, gradient=g, second=h, totals=3)


def combine(h: Array, g: Array, n: Normalized, factors: Array) -> tuple[Array, Array]:
    by_g, by_x = empty(g.shape, g.dtype), empty(g.shape, g.dtype)
    _run("combine", n.x, n[1:5], n.activation, n.slope, gradient=g, second=h, out=by_g, out_x=by_x, factors=factors)
    return by_g, by_x
