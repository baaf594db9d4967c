"""The compiled kernels of batch normalisation followed by an activation. They treat channels-last images, or a batch of
vectors, as a matrix (rows, channels).

The result is activation(z), where z = (x - mean) / deviation * weight + bias. The activation is piecewise linear, so its
second derivative is 0. Backward computes z again from x, so the result need not be kept.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.activations import PIECEWISE_LINEAR
from tinygan.kernels.cpu.activations.functions import chosen, formula
from tinygan.kernels.cpu.batchnorm.normalized import Array, Normalized
from tinygan.kernels.cpu.reductions.compiled import fold, rows_of, unfolded
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import REALS, address
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import contiguous, empty


class Normalization(NamedTuple):
    """The arguments of a task: addresses (0 for arrays that it does not use), sizes, and the activation's code and slope."""

    x: int  # (rows, channels), like the next four
    gradient: int  # the gradient of the result
    second: int  # h, the gradient of a gradient
    out: int
    out_x: int
    mean: int  # (channels,), like the next three
    inverse: int  # 1 / deviation
    weight: int
    bias: int
    factors: int  # several rows (channels,); each task says which
    partial: int  # for each part, `totals` rows (channels,) of float64
    totals: int
    rows: int
    channels: int
    activation: int
    slope: float


class Matrices(NamedTuple):
    """Functions for kernels that go through matrices row by row."""

    share: Any
    """(t, part, parts): (first, end) of the rows of a part."""
    row: Any
    """(matrix, i, channels): row i of the matrix at that address."""
    sums: Any
    """(t, part, i): row i of the sums of a part, set to 0."""


@cache
def _matrices(real: Any) -> Matrices:
    row, zeros = rows_of(real)

    @inline
    def share(t: Any, part: Any, parts: Any) -> Any:
        return t.rows * part // parts, t.rows * (part + 1) // parts

    @inline
    def sums(t: Any, part: Any, i: Any) -> Any:
        return zeros(t.partial, part * t.totals + i, t.channels)

    return Matrices(share, row, sums)


def _task(name: str, real: Any, rows: Any) -> int:
    """The address of a task. rows(name of an activation) returns the loop for that activation, (t, part, first, end)."""
    share, *_ = _matrices(real)
    loop = chosen(PIECEWISE_LINEAR, rows)

    @task(Normalization, f"{name}-{real}")
    def whole(t: Any, part: Any, parts: Any) -> Any:
        first, end = share(t, part, parts)
        loop(t.activation, t, part, first, end)

    return whole


def _descend(activation: str, real: Any) -> Any:
    """A function for kernels, (g, z, slope): g times the activation's slope at z. The product is rounded before anything is
    added. With a fused multiply-add the last digits would depend on the activation."""
    slope_at = formula(activation, "slope", real)
    return inline(lambda g, z, slope: g * slope_at(z, slope), rounded=True)


def _moments(real: Any) -> int:
    """The sums of x - c and of (x - c)^2, where c is at `mean`. If c is near the mean, a large mean takes no digits."""
    share, row, sums = _matrices(real)

    @task(Normalization, str(real))
    def moments(t: Any, part: Any, parts: Any) -> Any:
        first, end = share(t, part, parts)
        total, squares = sums(t, part, 0), sums(t, part, 1)
        n, at_x = t.channels, t.x
        centre = row(t.mean, 0, n)
        quads = first + (end - first) // 4 * 4
        for i in range(first, quads, 4):  # four rows are added in their own precision, and their sum in float64
            x0, x1, x2, x3 = row(at_x, i, n), row(at_x, i + 1, n), row(at_x, i + 2, n), row(at_x, i + 3, n)
            for c in range(n):
                d0, d1, d2, d3 = x0[c] - centre[c], x1[c] - centre[c], x2[c] - centre[c], x3[c] - centre[c]
                total[c] += np.float64((d0 + d1) + (d2 + d3))
                squares[c] += np.float64((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3))
        for i in range(quads, end):
            x0 = row(at_x, i, n)
            for c in range(n):
                d0 = x0[c] - centre[c]
                total[c] += np.float64(d0)
                squares[c] += np.float64(d0 * d0)

    return moments


def _normalize(real: Any) -> int:
    """Writes activation(z) to `out`."""
    _, row, _ = _matrices(real)

    def rows(activation: str) -> Any:
        activate = formula(activation, "value", real)

        @inline
        def normalize(t: Any, part: Any, first: Any, end: Any) -> None:
            n = t.channels
            mean, inverse, weight, bias = row(t.mean, 0, n), row(t.inverse, 0, n), row(t.weight, 0, n), row(t.bias, 0, n)
            slope = real(t.slope)
            at_x, at_out = t.x, t.out
            for i in range(first, end):
                x, out = row(at_x, i, n), row(at_out, i, n)
                for c in range(n):
                    out[c] = activate((x[c] - mean[c]) * inverse[c] * weight[c] + bias[c], slope)

        return normalize

    return _task("normalize", real, rows)


def _gradient_sums(real: Any) -> int:
    """The sums of the gradient of z, and of this gradient times the normalised x."""
    _, row, sums = _matrices(real)

    def rows(activation: str) -> Any:
        descend = _descend(activation, real)

        @inline
        def gradient_sums(t: Any, part: Any, first: Any, end: Any) -> None:
            plain, weighted = sums(t, part, 0), sums(t, part, 1)
            n = t.channels
            mean, inverse, weight, bias = row(t.mean, 0, n), row(t.inverse, 0, n), row(t.weight, 0, n), row(t.bias, 0, n)
            slope = real(t.slope)
            at_x, at_gradient = t.x, t.gradient
            pairs = first + (end - first) // 2 * 2
            for i in range(first, pairs, 2):
                x0, x1, g0, g1 = row(at_x, i, n), row(at_x, i + 1, n), row(at_gradient, i, n), row(at_gradient, i + 1, n)
                for c in range(n):
                    normal0, normal1 = (x0[c] - mean[c]) * inverse[c], (x1[c] - mean[c]) * inverse[c]
                    a = descend(g0[c], normal0 * weight[c] + bias[c], slope)
                    b = descend(g1[c], normal1 * weight[c] + bias[c], slope)
                    plain[c] += np.float64(a + b)
                    weighted[c] += np.float64(a * normal0 + b * normal1)
            for i in range(pairs, end):
                x0, g0 = row(at_x, i, n), row(at_gradient, i, n)
                for c in range(n):
                    normal0 = (x0[c] - mean[c]) * inverse[c]
                    a = descend(g0[c], normal0 * weight[c] + bias[c], slope)
                    plain[c] += np.float64(a)
                    weighted[c] += np.float64(a * normal0)

        return gradient_sums

    return _task("gradient_sums", real, rows)


def _input_gradient(real: Any) -> int:
    """Writes weight / deviation * (g - factors[0] - normalised x * factors[1]) to `out`, where g is the gradient of z."""
    _, row, _ = _matrices(real)

    def rows(activation: str) -> Any:
        descend = _descend(activation, real)

        @inline
        def input_gradient(t: Any, part: Any, first: Any, end: Any) -> None:
            n = t.channels
            mean, inverse, weight, bias = row(t.mean, 0, n), row(t.inverse, 0, n), row(t.weight, 0, n), row(t.bias, 0, n)
            plain, weighted = row(t.factors, 0, n), row(t.factors, 1, n)
            slope = real(t.slope)
            at_x, at_gradient, at_out = t.x, t.gradient, t.out
            for i in range(first, end):
                x, gradient, out = row(at_x, i, n), row(at_gradient, i, n), row(at_out, i, n)
                for c in range(n):
                    normal = (x[c] - mean[c]) * inverse[c]
                    g = descend(gradient[c], normal * weight[c] + bias[c], slope)
                    out[c] = weight[c] * inverse[c] * (g - plain[c] - normal * weighted[c])

        return input_gradient

    return _task("input_gradient", real, rows)


def _second_sums(real: Any) -> int:
    """The sums of h (the array at `second`), of h times the normalised x, and of h times the gradient of z."""
    _, row, sums = _matrices(real)

    def rows(activation: str) -> Any:
        descend = _descend(activation, real)

        @inline
        def second_sums(t: Any, part: Any, first: Any, end: Any) -> None:
            plain, weighted, products = sums(t, part, 0), sums(t, part, 1), sums(t, part, 2)
            n = t.channels
            mean, inverse, weight, bias = row(t.mean, 0, n), row(t.inverse, 0, n), row(t.weight, 0, n), row(t.bias, 0, n)
            slope = real(t.slope)
            at_x, at_gradient, at_second = t.x, t.gradient, t.second
            for i in range(first, end):
                x, gradient, h = row(at_x, i, n), row(at_gradient, i, n), row(at_second, i, n)
                for c in range(n):
                    normal = (x[c] - mean[c]) * inverse[c]
                    g = descend(gradient[c], normal * weight[c] + bias[c], slope)
                    plain[c] += np.float64(h[c])
                    weighted[c] += np.float64(h[c] * normal)
                    products[c] += np.float64(h[c] * g)

        return second_sums

    return _task("second_sums", real, rows)


def _combine(real: Any) -> int:
    """Let n be the normalised x, h the array at `second`, g the gradient of z, and k0 .. k6 the rows of the factors. Writes
    (k0 + k1 n + k2 h) times the slope of the activation to `out`, and k3 + k4 n + k5 h + k6 g to `out_x`."""
    _, row, _ = _matrices(real)

    def rows(activation: str) -> Any:
        slope_at = formula(activation, "slope", real)

        @inline
        def combine(t: Any, part: Any, first: Any, end: Any) -> None:
            n = t.channels
            mean, inverse, weight, bias = row(t.mean, 0, n), row(t.inverse, 0, n), row(t.weight, 0, n), row(t.bias, 0, n)
            k0, k1, k2, k3 = row(t.factors, 0, n), row(t.factors, 1, n), row(t.factors, 2, n), row(t.factors, 3, n)
            k4, k5, k6 = row(t.factors, 4, n), row(t.factors, 5, n), row(t.factors, 6, n)
            slope = real(t.slope)
            at_x, at_gradient, at_second, at_out, at_out_x = t.x, t.gradient, t.second, t.out, t.out_x
            for i in range(first, end):
                x, gradient, h = row(at_x, i, n), row(at_gradient, i, n), row(at_second, i, n)
                by_g, by_x = row(at_out, i, n), row(at_out_x, i, n)
                for c in range(n):
                    normal = (x[c] - mean[c]) * inverse[c]
                    slope_here = slope_at(normal * weight[c] + bias[c], slope)
                    by_g[c] = (k0[c] + k1[c] * normal + k2[c] * h[c]) * slope_here
                    by_x[c] = k3[c] + k4[c] * normal + k5[c] * h[c] + k6[c] * slope_here * gradient[c]

        return combine

    return _task("combine", real, rows)


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


def _run(task: str, x: Array, vectors: Sequence[Array], activation: str = "identity", slope: float = 0.0,
         gradient: Array | None = None, second: Array | None = None, out: Array | None = None, out_x: Array | None = None,
         factors: Array | None = None, totals: int = 0) -> Array:
    """Run a task on x (rows, channels). All arrays are C-contiguous. vectors: mean, 1 / deviation, weight and bias. Returns
    the sums that the task computes, (totals, channels) in float64, or an empty array if there are none."""
    rows, channels = x.shape
    folded, parts = fold(rows, channels), pool.parts(x.size)
    if folded > 1:
        vectors = [v[None].repeat(folded, 0) for v in vectors]  # (np.tile is many times slower)
        factors = factors if factors is None else factors[:, None].repeat(folded, 1)
    mean, inverse, weight, bias = map(address, vectors)
    sums = empty((parts, totals, folded * channels), np.float64) if totals else None
    pool.run(getattr(make(REALS[x.dtype]), task), Normalization(
        x=address(x), gradient=_address(gradient), second=_address(second), out=_address(out), out_x=_address(out_x),
        mean=mean, inverse=inverse, weight=weight, bias=bias, factors=_address(factors),
        partial=_address(sums), totals=totals, rows=rows // folded, channels=folded * channels,
        activation=PIECEWISE_LINEAR[activation], slope=slope), parts)
    return np.zeros(0) if sums is None else unfolded(sums, folded)


def _address(array: Array | None) -> int:
    return 0 if array is None else address(array)


def moments(x: Array) -> tuple[Array, Array]:
    """See `small`, which describes this function and those below."""
    # Subtract something near the mean first, so that a large mean takes no digits from the variance.
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
    out, means = empty(g.shape, g.dtype), contiguous(sums / g.dtype.type(len(g)))
    _run("input_gradient", n.x, n[1:5], n.activation, n.slope, gradient=g, out=out, factors=means)
    return out


def second_sums(h: Array, g: Array, n: Normalized) -> Array:
    return _run("second_sums", n.x, n[1:5], n.activation, n.slope, gradient=g, second=h, totals=3)


def combine(h: Array, g: Array, n: Normalized, factors: Array) -> tuple[Array, Array]:
    by_g, by_x = empty(g.shape, g.dtype), empty(g.shape, g.dtype)
    _run("combine", n.x, n[1:5], n.activation, n.slope, gradient=g, second=h, out=by_g, out_x=by_x, factors=factors)
    return by_g, by_x
