"""A small multilayer perceptron in one pass, with its first and second derivatives: a few examples go through all layers,
forward and back, while what they leave on the way lies in a core's caches.

With h_0 = x, a_l = h_{l-1} W_l^T + b_l, h_l = f_l(a_l), and the gradient g of the last h:
    gradient   e_l = (e_{l+1} W_{l+1}) f_l'(a_l), from e_L = g f_L'(a_L) on; of W_l: e_l^T h_{l-1}, of b_l: the sums of e_l,
               of x: e_1 W_1
    second     for directions k of x and K, c of W and b, the gradients of S = the inner product of (k, K, c) with the above.
               S is <g, t_L>, where t is the derivative of h in that direction (Pearlmutter 1994, "Fast exact
               multiplication by the Hessian"): t_0 = k, u_l = t_{l-1} W_l^T + h_{l-1} K_l^T + c_l, t_l = u_l f_l'(a_l).
               So t_L is the gradient by g, and those by x, W and b come from going back through both h and t.
f' and f'' are computed from f(a), not from a: that takes neither exponentials nor more memory. So their absolute error is
that of f(a): in float32 6e-8, where a slope is 1 at most (for ELU both times alpha). A saturated unit's slope, below 6e-8,
may come out as 0. Beside it the sums over a batch have roundings of that size anyway. After `dense` the slopes are exact.
All weights lie in one array, layer after layer, each weight (out, in) before its bias. Neighbours in memory are examples,
always ROWS of them (behind the last one are zeros, which add nothing), so that all loops but those over features are whole
vectors, as many as the compiler knows. Each part of a task keeps sums of its own for the gradients of the weights, which the
caller adds up.
"""
from __future__ import annotations

from functools import cache, reduce
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from tinygan.kernels.activations import ELU, LEAKY_RELU, RELU, SIGMOID, SOFTPLUS, TANH
from tinygan.kernels.cpu.activations.compiled import tanh
from tinygan.kernels.cpu.matmul.microkernel import VECTOR_BYTES
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline, kernel
from tinygan.kernels.cpu.runtime.registers import Registers

ROWS = VECTOR_BYTES  # examples that go through all layers together
# What a task is told, by position: addresses of x (N, in), the weights, g (N, out), the directions of x and of the weights
# (0: all zeros); of the results by g or the forward one's, by x, and of the weights' for each part (0: not wanted); of each
# part's memory; then sizes.
(X, WEIGHTS, G, X_DIRECTION, DIRECTION, OUT, OUT_X, OUT_WEIGHTS, SCRATCH, SCRATCH_EACH, EXAMPLES, TABLE, LAYERS, SIZE,
 WIDTHS, WIDEST) = range(16)
WORDS = 16
# The table has a row for each layer, and after them one float64 each, the slope of its activation.
INPUTS, OUTPUTS, ACTIVATION, OFFSET, COLUMNS = range(5)


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    forward: int
    gradient: int
    second: int


def scratch_elements(inputs: int, widths: int, widest: int) -> int:
    """How much memory a part needs, for that many inputs, layers of those widths, in all and at most."""
    return ROWS * (2 * inputs + 3 * widths + 4 * widest)


def _make_rows(real: Any) -> tuple[Any, Any, Any]:
    """Three intrinsics for rows, which are what ROWS examples have of one feature; rows 0, 1, ... lie one behind the other.

    combine(target, adding, base, factors, step, rows, count): the row at `target` becomes base + the sum over i < count of
    the factor that stands i * step bytes behind `factors` times row i; or, adding, so much more than it was.
    add_products(sums, e, rows, count): the i-th of the sums, i < count, grows by the inner product of row i and the row e.
    add_up(total, e): a number grows by the sum of the row e.
    """
    item = real.bitwidth // 8
    row_bytes = ROWS * item
    parts = range(0, row_bytes, VECTOR_BYTES)

    @intrinsic
    def combine(typing: Any, target: Any, adding: Any, base: Any, factors: Any, step: Any, rows: Any, count: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            target, adding, base, factors, step, rows, count = args
            emit = Registers(builder, real)
            start, places = emit.everywhere(base), [emit.shift(target, part) for part in parts]
            totals = [builder.select(adding, emit.load(place), start) for place in places]

            def products(i: Any) -> list[Any]:
                factor = emit.load_everywhere(builder.add(factors, builder.mul(i, step)))
                return [(factor, emit.load(emit.after(rows, row_bytes, i, part))) for part in parts]

            for value, place in zip(emit.add_products(count, totals, products), places, strict=True):
                emit.store(value, place)
            return context.get_dummy_value()

        return types.void(types.int64, types.boolean, real, *[types.int64] * 4), code

    @intrinsic
    def add_products(typing: Any, sums: Any, e: Any, rows: Any, count: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sums, e, rows, count = args
            emit = Registers(builder, real)
            factors = [emit.load(emit.shift(e, part)) for part in parts]

            def add(i: Any, _: list[Any]) -> list[Any]:
                total = ir.Constant(emit.vector, [0.0] * emit.lanes)
                for part, factor in zip(parts, factors, strict=True):
                    row = emit.load(emit.after(rows, row_bytes, i, part))
                    total = builder.call(emit.fma, [factor, row, total])
                emit.add_to(emit.after(sums, item, i), total)
                return []

            emit.loop(count, [], add)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), code

    @intrinsic
    def add_up(typing: Any, total: Any, e: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            emit = Registers(builder, real)
            values = [emit.load(emit.shift(args[1], part)) for part in parts]
            emit.add_to(args[0], reduce(builder.fadd, values))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), code

    return combine, add_products, add_up


@cache
def make(real: Any) -> Tasks:
    """The tasks for elements of that type."""
    pointer, words_at, floats_at = pointer_to(real), pointer_to(types.int64), pointer_to(types.float64)
    item = real.bitwidth // 8
    row_bytes = ROWS * item
    tanh_of = tanh if real is types.float32 else inline(lambda x: np.tanh(x))
    combine, add_products, add_up = _make_rows(real)

    # Helpers take addresses, since an array is seven arguments of a call. A row is what ROWS examples have of one feature.

    @inline
    def at(address: Any, size: Any) -> Any:
        return carray(pointer(address), (size,))

    @inline
    def row(address: Any) -> Any:
        return carray(pointer(address), (ROWS,))

    @inline
    def fill(address: Any, size: Any, value: Any) -> None:
        values = at(address, size)
        for i in range(size):
            values[i] = value

    @inline
    def activate(address: Any, size: Any, activation: Any, slope: Any) -> None:
        values = at(address, size)
        if activation == RELU:
            for i in range(size):
                values[i] = 0 if values[i] <= 0 else values[i]
        elif activation == LEAKY_RELU:
            for i in range(size):
                values[i] *= real(1) if values[i] > 0 else slope
        elif activation == TANH:
            for i in range(size):
                values[i] = tanh_of(values[i])
        elif activation == SIGMOID:
            for i in range(size):
                tail = np.exp(-abs(values[i]))
                values[i] = (tail if values[i] < 0 else real(1)) / (real(1) + tail)
        elif activation == SOFTPLUS:
            for i in range(size):
                values[i] = max(values[i], real(0)) + np.log1p(np.exp(-abs(values[i])))
        elif activation == ELU:
            for i in range(size):
                values[i] = values[i] if values[i] > 0 else slope * np.expm1(values[i])

    @inline
    def descend(address: Any, results: Any, size: Any, activation: Any, slope: Any) -> None:
        """Multiply values by f'(a), where the results are f(a). (Always a product: where some values
        stay as they are, LLVM stores the others only, and what a masked store wrote is slow to load.)"""
        values, y = at(address, size), at(results, size)
        if activation == RELU:
            for i in range(size):
                values[i] *= (real(1) if y[i] > 0 else real(0))
        elif activation == LEAKY_RELU:
            for i in range(size):
                values[i] *= (real(1) if y[i] > 0 else slope)
        elif activation == TANH:
            for i in range(size):
                values[i] *= (real(1) - y[i] * y[i])
        elif activation == SIGMOID:
            for i in range(size):
                values[i] *= y[i] * (real(1) - y[i])
        elif activation == SOFTPLUS:
            for i in range(size):
                values[i] *= -np.expm1(-y[i])
        elif activation == ELU:
            for i in range(size):
                values[i] *= (real(1) if y[i] > 0 else y[i] + slope)

    @inline
    def copy(source: Any, size: Any, target: Any) -> None:
        a, out = at(source, size), at(target, size)
        for i in range(size):
            out[i] = a[i]

    @inline
    def bend(target: Any, gradients: Any, moved: Any, results: Any, size: Any, activation: Any, slope: Any) -> None:
        """target += gradient * moved * f''(a), where the results are f(a)."""
        out, v, u, y = at(target, size), at(gradients, size), at(moved, size), at(results, size)
        if activation == TANH:
            for i in range(size):
                out[i] -= v[i] * u[i] * 2 * y[i] * (real(1) - y[i] * y[i])
        elif activation == SIGMOID:
            for i in range(size):
                out[i] += v[i] * u[i] * y[i] * (real(1) - y[i]) * (real(1) - 2 * y[i])
        elif activation == SOFTPLUS:
            for i in range(size):
                out[i] -= v[i] * u[i] * np.expm1(-y[i]) * np.exp(-y[i])
        elif activation == ELU:
            for i in range(size):
                out[i] += real(0) if y[i] > 0 else v[i] * u[i] * (y[i] + slope)

    @inline
    def layer(t: Any, index: Any) -> Any:
        """inputs, outputs, activation, its slope, where the weights begin."""
        table = carray(words_at(t[TABLE]), (t[LAYERS] * COLUMNS,))
        slope = carray(floats_at(t[TABLE] + (t[LAYERS] * COLUMNS + index) * 8), (1,))[0]
        row = table[index * COLUMNS:(index + 1) * COLUMNS]
        return row[INPUTS], row[OUTPUTS], row[ACTIVATION], real(slope), row[OFFSET]

    @inline
    def turn_in(source: Any, first: Any, examples: Any, features: Any, target: Any) -> None:
        """The examples from `first` on, of (examples, features) -> a row a feature."""
        found = min(examples - first, ROWS)
        a = at(source + first * features * item, found * features)
        for j in range(features):
            out = row(target + j * row_bytes)
            for r in range(found):
                out[r] = a[r * features + j]
            for r in range(found, ROWS):
                out[r] = 0

    @inline
    def turn_out(source: Any, first: Any, examples: Any, features: Any, target: Any) -> None:
        found = min(examples - first, ROWS)
        out = at(target + first * features * item, found * features)
        for j in range(features):
            a = row(source + j * row_bytes)
            for r in range(found):
                out[r * features + j] = a[r]

    @inline
    def rise(t: Any, all_h: Any) -> Any:
        """Forward: with x at `all_h`, h_1 to h_L behind it. Returns where h_L begins."""
        before = all_h
        for index in range(t[LAYERS]):
            k, n, activation, slope, offset = layer(t, index)
            after, weights = before + k * row_bytes, t[WEIGHTS] + offset * item
            biases = at(weights + n * k * item, n)
            for j in range(n):
                combine(after + j * row_bytes, False, biases[j], weights + j * k * item, item, before, k)
            activate(after, n * ROWS, activation, slope)
            before = after
        return before

    @inline
    def share(t: Any, part: Any, parts: Any) -> Any:
        """The first example of the part, and the first that is not: whole blocks."""
        blocks = -(-t[EXAMPLES] // ROWS)
        return blocks * part // parts * ROWS, min(blocks * (part + 1) // parts * ROWS, t[EXAMPLES])

    @kernel(str(real))
    def forward(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (WORDS,))
        all_h = t[SCRATCH] + part * t[SCRATCH_EACH]
        inputs, outputs = layer(t, 0)[0], layer(t, t[LAYERS] - 1)[1]
        start, end = share(t, part, parts)
        for first in range(start, end, ROWS):
            turn_in(t[X], first, end, inputs, all_h)
            turn_out(rise(t, all_h), first, end, outputs, t[OUT])

    @kernel(str(real))
    def gradient(task: Any, part: Any, parts: Any) -> Any:
        """By x at OUT_X, by the weights at OUT_WEIGHTS."""
        t = carray(task, (WORDS,))
        inputs, outputs = layer(t, 0)[0], layer(t, t[LAYERS] - 1)[1]
        all_h = t[SCRATCH] + part * t[SCRATCH_EACH]
        e_at = all_h + (inputs + t[WIDTHS]) * row_bytes
        below_at = e_at + t[WIDEST] * row_bytes
        all_sums = t[OUT_WEIGHTS] + part * t[SIZE] * item
        if t[OUT_WEIGHTS]:
            fill(all_sums, t[SIZE], real(0))
        start, end = share(t, part, parts)
        for first in range(start, end, ROWS):
            turn_in(t[X], first, end, inputs, all_h)
            after = rise(t, all_h)
            turn_in(t[G], first, end, outputs, e_at)
            for index in range(t[LAYERS] - 1, -1, -1):
                k, n, activation, slope, offset = layer(t, index)
                before, sums = after - k * row_bytes, all_sums + offset * item
                descend(e_at, after, n * ROWS, activation, slope)
                if t[OUT_WEIGHTS]:
                    for j in range(n):
                        add_up(sums + (n * k + j) * item, e_at + j * row_bytes)
                        add_products(sums + j * k * item, e_at + j * row_bytes, before, k)
                if index or t[OUT_X]:
                    for i in range(k):
                        column = t[WEIGHTS] + (offset + i) * item
                        combine(below_at + i * row_bytes, False, real(0), column, k * item, e_at, n)
                after, e_at, below_at = before, below_at, e_at
            if t[OUT_X]:
                turn_out(e_at, first, end, inputs, t[OUT_X])

    @kernel(str(real))
    def second(task: Any, part: Any, parts: Any) -> Any:
        """By g at OUT, by x at OUT_X, by the weights at OUT_WEIGHTS."""
        t = carray(task, (WORDS,))
        inputs, outputs = layer(t, 0)[0], layer(t, t[LAYERS] - 1)[1]
        all_h = t[SCRATCH] + part * t[SCRATCH_EACH]
        all_t = all_h + (inputs + t[WIDTHS]) * row_bytes
        to_u = t[WIDTHS] * row_bytes  # from where t_l lies to where u_l lies
        e_at = all_t + (inputs + 2 * t[WIDTHS]) * row_bytes  # the gradients of t, and of h
        under_e = e_at + t[WIDEST] * row_bytes
        d_at, under_d = under_e + t[WIDEST] * row_bytes, under_e + 2 * t[WIDEST] * row_bytes
        all_sums = t[OUT_WEIGHTS] + part * t[SIZE] * item
        fill(all_sums, t[SIZE], real(0))
        start, end = share(t, part, parts)
        for first in range(start, end, ROWS):
            turn_in(t[X], first, end, inputs, all_h)
            if t[X_DIRECTION]:
                turn_in(t[X_DIRECTION], first, end, inputs, all_t)
            rise(t, all_h)
            before, moved = all_h, all_t
            for index in range(t[LAYERS]):
                k, n, activation, slope, offset = layer(t, index)
                after, moved_after = before + k * row_bytes, moved + k * row_bytes
                weights, turned = t[WEIGHTS] + offset * item, t[DIRECTION] + offset * item
                moves = index + t[X_DIRECTION] != 0
                for j in range(n):
                    u = moved_after + to_u + j * row_bytes
                    bias = at(turned + (n * k + j) * item, 1)[0] if t[DIRECTION] else real(0)
                    if moves:
                        combine(u, False, bias, weights + j * k * item, item, moved, k)
                    if t[DIRECTION]:
                        combine(u, moves, bias, turned + j * k * item, item, before, k)
                copy(moved_after + to_u, n * ROWS, moved_after)
                descend(moved_after, after, n * ROWS, activation, slope)
                before, moved = after, moved_after
            turn_out(moved, first, end, outputs, t[OUT])
            turn_in(t[G], first, end, outputs, e_at)
            fill(d_at, outputs * ROWS, real(0))
            after, moved_after = before, moved
            for index in range(t[LAYERS] - 1, -1, -1):
                k, n, activation, slope, offset = layer(t, index)
                before, moved, sums = after - k * row_bytes, moved_after - k * row_bytes, all_sums + offset * item
                descend(d_at, after, n * ROWS, activation, slope)
                bend(d_at, e_at, moved_after + to_u, after, n * ROWS, activation, slope)
                descend(e_at, after, n * ROWS, activation, slope)
                for j in range(n):
                    add_up(sums + (n * k + j) * item, d_at + j * row_bytes)
                    add_products(sums + j * k * item, d_at + j * row_bytes, before, k)
                    if index or t[X_DIRECTION]:
                        add_products(sums + j * k * item, e_at + j * row_bytes, moved, k)
                for i in range(k):
                    below, column = under_d + i * row_bytes, (offset + i) * item
                    combine(below, False, real(0), t[WEIGHTS] + column, k * item, d_at, n)
                    if t[DIRECTION]:
                        combine(below, True, real(0), t[DIRECTION] + column, k * item, e_at, n)
                    if index:
                        combine(under_e + i * row_bytes, False, real(0), t[WEIGHTS] + column, k * item, e_at, n)
                after, moved_after = before, moved
                e_at, under_e = under_e, e_at
                d_at, under_d = under_d, d_at
            turn_out(d_at, first, end, inputs, t[OUT_X])

    return Tasks(forward, gradient, second)
