"""A small multilayer perceptron in one pass, with its first and second derivatives: a few examples go through all layers,
forward and back, while what they leave on the way lies in a core's caches.

With h_0 = x, a_l = h_{l-1} W_l^T + b_l, h_l = f_l(a_l), and the gradient g of the last h:
    gradient   e_l = (e_{l+1} W_{l+1}) f_l'(a_l), from e_L = g f_L'(a_L) on; of W_l: e_l^T h_{l-1}, of b_l: the sums of e_l,
               of x: e_1 W_1
    second     for directions k of x and K, c of W and b, the gradients of S = the inner product of (k, K, c) with the above.
               S is <g, t_L>, where t is the derivative of h in that direction (Pearlmutter 1994, "Fast exact
               multiplication by the Hessian"): t_0 = k, u_l = t_{l-1} W_l^T + h_{l-1} K_l^T + c_l, t_l = u_l f_l'(a_l).
               So t_L is the gradient by g, and those by x, W and b come from going back through both h and t.
All weights lie in one array, layer after layer, each weight (out, in) before its bias. Neighbours in memory are examples, so
that all loops but those over features are whole vectors, however narrow a layer is. Each part of a task keeps sums of its
own for the gradients of the weights, which the caller adds up.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types

from tinygan.kernels.compiling import inline, kernel
from tinygan.kernels.elementwise import ELU, LEAKY_RELU, RELU, SIGMOID, SOFTPLUS, TANH, tanh
from tinygan.kernels.gemm import pointer_to

MOST_ROWS = 512  # examples that go through all layers together, if what they leave is no more than
CACHED_BYTES = 2**21
# What a task is told, by position: addresses of x (N, in), the weights, g (N, out), the direction (x's, then the weights');
# of the results by g or the forward one's, by x, and of the weights' for each part; of each part's memory, for so
# many rows; then sizes.
(X, WEIGHTS, G, DIRECTION, OUT, OUT_X, OUT_WEIGHTS, SCRATCH, SCRATCH_EACH, ROWS, EXAMPLES, TABLE, LAYERS, SIZE,
 WIDTHS, WIDEST) = range(16)
WORDS = 16
# The table has a row for each layer, and after them one float64 each, the slope of its activation.
INPUTS, OUTPUTS, ACTIVATION, OFFSET, COLUMNS = range(5)


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    forward: int
    gradient: int
    second: int


def blocks(inputs: int, widths: int, widest: int, itemsize: int) -> tuple[int, int]:
    """How many examples go through all layers together, for that many inputs and layers of those widths, in all and at
    most; and the bytes of memory that a part needs for it."""
    each = (2 * inputs + 3 * widths + 4 * widest) * itemsize
    rows = max(64, min(MOST_ROWS, CACHED_BYTES // each // 16 * 16))
    return rows, rows * each


@cache
def make(real: Any) -> Tasks:
    """The tasks for elements of that type."""
    pointer, words_at, floats_at = pointer_to(real), pointer_to(types.int64), pointer_to(types.float64)
    item = real.bitwidth // 8
    tanh_of = tanh if real is types.float32 else inline(lambda x: np.tanh(x))

    @inline
    def at(address: Any, first: Any, size: Any) -> Any:
        return carray(pointer(address + first * item), (size,))

    @inline
    def row(address: Any, index: Any, rows: Any) -> Any:
        """What some examples have of one feature."""
        return carray(pointer(address + index * rows * item), (rows,))

    @inline
    def combine(out: Any, factors: Any, first: Any, step: Any, address: Any, count: Any) -> None:
        """out += the sum over i of factors[first + i * step] times row i."""
        i = 0
        while i + 4 <= count:
            f0, f1 = factors[first + i * step], factors[first + (i + 1) * step]
            f2, f3 = factors[first + (i + 2) * step], factors[first + (i + 3) * step]
            a0, a1 = row(address, i, out.size), row(address, i + 1, out.size)
            a2, a3 = row(address, i + 2, out.size), row(address, i + 3, out.size)
            for r in range(out.size):
                out[r] += f0 * a0[r] + f1 * a1[r] + (f2 * a2[r] + f3 * a3[r])
            i += 4
        if i + 2 <= count:
            f0, f1 = factors[first + i * step], factors[first + (i + 1) * step]
            a0, a1 = row(address, i, out.size), row(address, i + 1, out.size)
            for r in range(out.size):
                out[r] += f0 * a0[r] + f1 * a1[r]
            i += 2
        if i < count:
            f0, a0 = factors[first + i * step], row(address, i, out.size)
            for r in range(out.size):
                out[r] += f0 * a0[r]

    @inline
    def add_dots(sums: Any, e: Any, address: Any) -> None:
        """sums[i] += the inner product of e and row i."""
        for i in range(sums.size):
            a, total = row(address, i, e.size), real(0)
            for r in range(e.size):
                total += e[r] * a[r]
            sums[i] += total

    @inline
    def total_of(values: Any) -> Any:
        total = real(0)
        for r in range(values.size):
            total += values[r]
        return total

    @inline
    def activate(values: Any, activation: Any, slope: Any) -> None:
        if activation == RELU:
            for i in range(values.size):
                values[i] = 0 if values[i] <= 0 else values[i]
        elif activation == LEAKY_RELU:
            for i in range(values.size):
                values[i] = values[i] if values[i] > 0 else slope * values[i]
        elif activation == TANH:
            for i in range(values.size):
                values[i] = tanh_of(values[i])
        elif activation == SIGMOID:
            for i in range(values.size):
                tail = np.exp(-abs(values[i]))
                values[i] = (tail if values[i] < 0 else real(1)) / (real(1) + tail)
        elif activation == SOFTPLUS:
            for i in range(values.size):
                values[i] = max(values[i], real(0)) + np.log1p(np.exp(-abs(values[i])))
        elif activation == ELU:
            for i in range(values.size):
                values[i] = values[i] if values[i] > 0 else slope * np.expm1(values[i])

    @inline
    def descend(v: Any, y: Any, activation: Any, slope: Any) -> None:
        """v *= f'(a), for y = f(a)."""
        if activation == RELU:
            for i in range(v.size):
                v[i] = v[i] if y[i] > 0 else 0 * v[i]
        elif activation == LEAKY_RELU:
            for i in range(v.size):
                v[i] = v[i] if y[i] > 0 else slope * v[i]
        elif activation == TANH:
            for i in range(v.size):
                v[i] *= real(1) - y[i] * y[i]
        elif activation == SIGMOID:
            for i in range(v.size):
                v[i] *= y[i] * (real(1) - y[i])
        elif activation == SOFTPLUS:
            for i in range(v.size):
                v[i] *= -np.expm1(-y[i])
        elif activation == ELU:
            for i in range(v.size):
                v[i] = v[i] if y[i] > 0 else v[i] * (y[i] + slope)

    @inline
    def bend(out: Any, v: Any, u: Any, y: Any, activation: Any, slope: Any) -> None:
        """out += v u f''(a), for y = f(a)."""
        if activation == TANH:
            for i in range(v.size):
                out[i] -= v[i] * u[i] * 2 * y[i] * (real(1) - y[i] * y[i])
        elif activation == SIGMOID:
            for i in range(v.size):
                out[i] += v[i] * u[i] * y[i] * (real(1) - y[i]) * (real(1) - 2 * y[i])
        elif activation == SOFTPLUS:
            for i in range(v.size):
                out[i] -= v[i] * u[i] * np.expm1(-y[i]) * np.exp(-y[i])
        elif activation == ELU:
            for i in range(v.size):
                out[i] += real(0) if y[i] > 0 else v[i] * u[i] * (y[i] + slope)

    @inline
    def layer(t: Any, index: Any) -> Any:
        """inputs, outputs, activation, its slope, where the weights begin."""
        table = carray(words_at(t[TABLE]), (t[LAYERS] * COLUMNS,))
        slope = carray(floats_at(t[TABLE] + (t[LAYERS] * COLUMNS + index) * 8), (1,))[0]
        row = table[index * COLUMNS:(index + 1) * COLUMNS]
        return row[INPUTS], row[OUTPUTS], row[ACTIVATION], real(slope), row[OFFSET]

    @inline
    def turn_in(source: Any, rows: Any, features: Any, target: Any) -> None:
        """(rows, features) -> a row a feature."""
        a = at(source, 0, rows * features)
        for j in range(features):
            out = row(target, j, rows)
            for r in range(rows):
                out[r] = a[r * features + j]

    @inline
    def turn_out(source: Any, rows: Any, features: Any, target: Any) -> None:
        out = at(target, 0, rows * features)
        for j in range(features):
            a = row(source, j, rows)
            for r in range(rows):
                out[r * features + j] = a[r]

    @inline
    def fill(values: Any, value: Any) -> None:
        for i in range(values.size):
            values[i] = value

    @inline
    def rise(t: Any, rows: Any, all_h: Any) -> Any:
        """Forward: with x at `all_h`, h_1 to h_L behind it. Returns where h_L begins."""
        before, weights = all_h, at(t[WEIGHTS], 0, t[SIZE])
        for index in range(t[LAYERS]):
            k, n, activation, slope, offset = layer(t, index)
            after = before + k * rows * item
            for j in range(n):
                h = row(after, j, rows)
                fill(h, weights[offset + n * k + j])
                combine(h, weights, offset + j * k, 1, before, k)
                activate(h, activation, slope)
            before = after
        return before

    @kernel(str(real))
    def forward(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (WORDS,))
        all_h = t[SCRATCH] + part * t[SCRATCH_EACH]
        inputs, outputs = layer(t, 0)[0], layer(t, t[LAYERS] - 1)[1]
        end = t[EXAMPLES] * (part + 1) // parts
        for first in range(t[EXAMPLES] * part // parts, end, t[ROWS]):
            rows = min(t[ROWS], end - first)
            turn_in(t[X] + first * inputs * item, rows, inputs, all_h)
            turn_out(rise(t, rows, all_h), rows, outputs, t[OUT] + first * outputs * item)

    @kernel(str(real))
    def gradient(task: Any, part: Any, parts: Any) -> Any:
        """By x at OUT_X, by the weights at OUT_WEIGHTS."""
        t = carray(task, (WORDS,))
        inputs, outputs = layer(t, 0)[0], layer(t, t[LAYERS] - 1)[1]
        all_h = t[SCRATCH] + part * t[SCRATCH_EACH]
        e_at = all_h + t[ROWS] * (inputs + t[WIDTHS]) * item
        below_at = e_at + t[ROWS] * t[WIDEST] * item
        weights, sums = at(t[WEIGHTS], 0, t[SIZE]), at(t[OUT_WEIGHTS] + part * t[SIZE] * item, 0, t[SIZE])
        fill(sums, real(0))
        end = t[EXAMPLES] * (part + 1) // parts
        for first in range(t[EXAMPLES] * part // parts, end, t[ROWS]):
            rows = min(t[ROWS], end - first)
            turn_in(t[X] + first * inputs * item, rows, inputs, all_h)
            after = rise(t, rows, all_h)
            turn_in(t[G] + first * outputs * item, rows, outputs, e_at)
            for index in range(t[LAYERS] - 1, -1, -1):
                k, n, activation, slope, offset = layer(t, index)
                before = after - rows * k * item
                for j in range(n):
                    e = row(e_at, j, rows)
                    descend(e, row(after, j, rows), activation, slope)
                    sums[offset + n * k + j] += total_of(e)
                    add_dots(sums[offset + j * k:offset + (j + 1) * k], e, before)
                for i in range(k):
                    below = row(below_at, i, rows)
                    fill(below, real(0))
                    combine(below, weights, offset + i, k, e_at, n)
                after, e_at, below_at = before, below_at, e_at
            turn_out(e_at, rows, inputs, t[OUT_X] + first * inputs * item)

    @kernel(str(real))
    def second(task: Any, part: Any, parts: Any) -> Any:
        """By g at OUT, by x at OUT_X, by the weights at OUT_WEIGHTS."""
        t = carray(task, (WORDS,))
        inputs, outputs = layer(t, 0)[0], layer(t, t[LAYERS] - 1)[1]
        all_h = t[SCRATCH] + part * t[SCRATCH_EACH]
        all_t = all_h + t[ROWS] * (inputs + t[WIDTHS]) * item
        to_u = t[ROWS] * t[WIDTHS] * item  # from where t_l lies to where u_l lies
        e_at = all_t + t[ROWS] * (inputs + 2 * t[WIDTHS]) * item  # the gradients of t, and of h
        under_e = e_at + t[ROWS] * t[WIDEST] * item
        d_at, under_d = under_e + t[ROWS] * t[WIDEST] * item, under_e + 2 * t[ROWS] * t[WIDEST] * item
        weights, sums = at(t[WEIGHTS], 0, t[SIZE]), at(t[OUT_WEIGHTS] + part * t[SIZE] * item, 0, t[SIZE])
        turned = at(t[DIRECTION], t[EXAMPLES] * inputs, t[SIZE])  # the direction of the weights
        fill(sums, real(0))
        end = t[EXAMPLES] * (part + 1) // parts
        for first in range(t[EXAMPLES] * part // parts, end, t[ROWS]):
            rows = min(t[ROWS], end - first)
            turn_in(t[X] + first * inputs * item, rows, inputs, all_h)
            turn_in(t[DIRECTION] + first * inputs * item, rows, inputs, all_t)
            rise(t, rows, all_h)
            before, moved = all_h, all_t
            for index in range(t[LAYERS]):
                k, n, activation, slope, offset = layer(t, index)
                after, moved_after = before + k * rows * item, moved + k * rows * item
                for j in range(n):
                    u, out = row(moved_after + to_u, j, rows), row(moved_after, j, rows)
                    fill(u, turned[offset + n * k + j])
                    combine(u, weights, offset + j * k, 1, moved, k)
                    combine(u, turned, offset + j * k, 1, before, k)
                    for r in range(rows):
                        out[r] = u[r]
                    descend(out, row(after, j, rows), activation, slope)
                before, moved = after, moved_after
            turn_out(moved, rows, outputs, t[OUT] + first * outputs * item)
            turn_in(t[G] + first * outputs * item, rows, outputs, e_at)
            for j in range(outputs):
                fill(row(d_at, j, rows), real(0))
            after, moved_after = before, moved
            for index in range(t[LAYERS] - 1, -1, -1):
                k, n, activation, slope, offset = layer(t, index)
                before, moved = after - rows * k * item, moved_after - rows * k * item
                for j in range(n):
                    h, e, d = row(after, j, rows), row(e_at, j, rows), row(d_at, j, rows)
                    descend(d, h, activation, slope)
                    bend(d, e, row(moved_after + to_u, j, rows), h, activation, slope)
                    descend(e, h, activation, slope)
                    own = sums[offset + j * k:offset + (j + 1) * k]
                    sums[offset + n * k + j] += total_of(d)
                    add_dots(own, d, before)
                    add_dots(own, e, moved)
                for i in range(k):
                    below = row(under_d, i, rows)
                    fill(below, real(0))
                    combine(below, weights, offset + i, k, d_at, n)
                    combine(below, turned, offset + i, k, e_at, n)
                    if index:
                        below = row(under_e, i, rows)
                        fill(below, real(0))
                        combine(below, weights, offset + i, k, e_at, n)
                after, moved_after = before, moved
                e_at, under_e = under_e, e_at
                d_at, under_d = under_d, d_at
            turn_out(d_at, rows, inputs, t[OUT_X] + first * inputs * item)

    return Tasks(forward, gradient, second)
