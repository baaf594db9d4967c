"""Activations and their gradients over flat arrays, one pass each, for float32 and float64."""
from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from tinygan.kernels.activations import LEAKY_RELU, RELU, SIGMOID, SOFTPLUS, TANH
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline, kernel

# What a task is told, by position: the addresses of three arrays (`forward` has no GRADIENT), how many elements they have,
# which activation, and the address of the slope.
X, GRADIENT, OUT, COUNT, ACTIVATION, SLOPE = range(6)
BLOCK = 1024  # elements that stay in the first-level cache
GRAIN = 16  # elements; parts begin at multiples of it, so that no two share a cache line


@inline
def share(count: Any, part: Any, parts: Any) -> Any:
    """(first, end) of the part-th share of `count` elements."""
    units = (count + GRAIN - 1) // GRAIN
    return min(count, units * part // parts * GRAIN), min(count, units * (part + 1) // parts * GRAIN)


# tanh(x) / x as a polynomial in x^2 for |x| < 0.625, and exp(r) for |r| < log(2) / 2: least squares at 4,000 Chebyshev
# nodes. The float32 tanh made of them is within 2 units in the last place of the true one.
TANH_COEFFICIENTS = (1.0, -0.33333230, 0.13330448, -0.05366739, 0.02042085, -0.00547360)
EXP_COEFFICIENTS = (1.0, 1.0, 0.5, 0.16666405, 0.04166620, 0.00837598, 0.00139498)


@intrinsic
def power_of_two(typing: Any, exponent: Any) -> Any:
    """2 to an int32 from -126 to 127, as float32: the exponent goes where the number keeps it."""
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.add(args[0], word(127)), word(23)), ir.FloatType())

    return types.float32(types.int32), code


@partial(inline, in_order=True)
def exp_in_parts(x: Any) -> Any:
    """(e, n), exp(x) = e 2^n, for a float32 x: x = n log(2) + r, log(2) subtracted in two pieces, and e = exp(r)."""
    real = np.float32
    n = np.floor(x * real(1.44269504) + real(0.5))
    r = x - n * real(0.693359375) + n * real(2.12194440e-4)
    e = real(EXP_COEFFICIENTS[6])
    for i in (5, 4, 3, 2, 1, 0):
        e = e * r + real(EXP_COEFFICIENTS[i])
    return e, np.int32(n)


@inline
def exp(x: Any) -> Any:
    """exp of a float32 from -87 to 88, without a branch, so that loops over it become vector instructions."""
    e, n = exp_in_parts(x)
    return e * power_of_two(n)


def exp_of_negative(real: Any) -> Any:
    """The function exp(-x) for x >= 0: in float32 for vector loops. It is right down to the smallest numbers of all."""
    if real is not types.float32:
        return inline(lambda x: np.exp(-x))

    @inline
    def exp_of_negative_float32(x: Any) -> Any:
        inside = x < np.float32(104)  # from there on the result is 0
        e, n = exp_in_parts(-x if inside else np.float32(0))
        half = n >> 1  # in two steps, for 2^n alone may be too small for a float32 of full precision
        result = e * power_of_two(half) * power_of_two(n - half)
        return result if inside else (np.float32(0) if x == x else x)

    return exp_of_negative_float32


def sigmoid_of(real: Any) -> Any:
    """The function 1 / (1 + exp(-x)); nothing overflows, and a small tail survives."""
    exponential = exp_of_negative(real)

    @inline
    def sigmoid(x: Any) -> Any:
        tail = exponential(abs(x))
        return (tail if x < 0 else real(1)) / (real(1) + tail)

    return sigmoid


def log1p_of(real: Any) -> Any:
    """The function log(1 + t) for t from 0 to 1: in float32 for vectors, 2 artanh(s), s = t / (2 + t), by its series."""
    if real is not types.float32:
        return inline(lambda t: np.log1p(t))

    @inline
    def log1p(t: Any) -> Any:
        s = t / (t + real(2))
        square = s * s
        series = real(1 / 15)
        for odd in (13, 11, 9, 7, 5, 3, 1):
            series = series * square + real(1 / odd)
        return real(2) * s * series

    return log1p


@inline
def tanh(x: Any) -> Any:
    """tanh of a float32, without a branch as `exp`."""
    real = np.float32
    size = abs(x)
    square = x * x
    near = real(TANH_COEFFICIENTS[5])
    for i in (4, 3, 2, 1, 0):
        near = near * square + real(TANH_COEFFICIENTS[i])
    near *= x
    # Further out 1 - 2 / (exp(2|x|) + 1), which is 1 from 9 on.
    t = real(2) * size
    far = real(1) - real(2) / (exp(t if t < real(18.5) else real(18.5)) + real(1))
    result = near if size < real(0.625) else (far if x > real(0) else -far)
    return result if x == x else x


def make_forward(real: Any) -> int:
    """The address of the task out = activation(x), for relu, leaky_relu, sigmoid and, in float32, tanh; NumPy's loops serve
    the others."""
    pointer = pointer_to(real)
    in_float32 = real is types.float32
    logistic = sigmoid_of(real)

    @kernel(str(real))
    def forward(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (8,))
        start, end = share(t[COUNT], part, parts)
        slope = carray(pointer(t[SLOPE]), (1,))[0]
        for first in range(start, end, BLOCK):
            # In place: of two arrays that may be the same no loop would become vector instructions.
            out = carray(pointer(t[OUT]), (t[COUNT],))[first:min(first + BLOCK, end)]
            if t[X] != t[OUT]:
                x = carray(pointer(t[X]), (t[COUNT],))[first:first + out.size]
                for i in range(out.size):
                    out[i] = x[i]
            if t[ACTIVATION] == LEAKY_RELU:
                for i in range(out.size):
                    out[i] = out[i] if out[i] > 0 else slope * out[i]
            elif in_float32 and t[ACTIVATION] == TANH:
                for i in range(out.size):
                    out[i] = tanh(out[i])
            elif t[ACTIVATION] == SIGMOID:
                for i in range(out.size):
                    out[i] = logistic(out[i])
            else:
                for i in range(out.size):
                    out[i] = 0 if out[i] <= 0 else out[i]

    return forward


def make_backward(real: Any) -> int:
    """The address of the task out = g * (the activation's slope at x). (It cannot be read off the result: where that rounds
    to 1 or to -1, the slope is small, not 0.)"""
    pointer = pointer_to(real)
    exponential, logistic = exp_of_negative(real), sigmoid_of(real)

    @kernel(str(real))
    def backward(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (8,))
        start, end = share(t[COUNT], part, parts)
        g = carray(pointer(t[GRADIENT]), (t[COUNT],))[start:end]
        x = carray(pointer(t[X]), (t[COUNT],))[start:end]
        out = carray(pointer(t[OUT]), (t[COUNT],))[start:end]
        slope = carray(pointer(t[SLOPE]), (1,))[0]
        one = real(1)
        if t[ACTIVATION] == LEAKY_RELU:
            for i in range(g.size):
                out[i] = g[i] if x[i] > 0 else slope * g[i]
        elif t[ACTIVATION] == RELU:
            for i in range(g.size):
                out[i] = g[i] if x[i] > 0 else 0 * g[i]
        elif t[ACTIVATION] == TANH:
            for i in range(g.size):
                tail = exponential(real(2) * abs(x[i]))
                out[i] = g[i] * (real(4) * tail / ((one + tail) * (one + tail)))
        elif t[ACTIVATION] == SIGMOID:
            for i in range(g.size):
                tail = exponential(abs(x[i]))
                out[i] = g[i] * (tail / ((one + tail) * (one + tail)))
        elif t[ACTIVATION] == SOFTPLUS:
            for i in range(g.size):
                out[i] = g[i] * logistic(x[i])
        else:
            for i in range(g.size):
                out[i] = g[i] * (one if x[i] > 0 else slope * exponential(abs(x[i])))

    return backward


# What the tasks of the loss are told, by position: the addresses of logits, targets, g (one number) and the result, and how
# many logits there are.
LOGITS, TARGETS, G, RESULT, LOGIT_COUNT = range(5)  # (TARGETS: in the curvature the gradient of the gradient)


def make_bce(real: Any) -> tuple[int, int, int]:
    """The addresses of the tasks that `backends.cpu` calls bce_with_logits, _grad and _curvature, each in one part. The
    result of the first is one float64."""
    pointer, double = pointer_to(real), pointer_to(types.float64)
    exponential, log1p = exp_of_negative(real), log1p_of(real)

    @kernel(str(real))
    def bce(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (5,))
        logits, targets = carray(pointer(t[LOGITS]), (t[LOGIT_COUNT],)), carray(pointer(t[TARGETS]), (t[LOGIT_COUNT],))
        total, tails = 0.0, 0.0  # apart, so that a small loss is not lost in a large logit
        for i in range(logits.size):
            size = abs(logits[i])
            factor = targets[i] if logits[i] < 0 else real(1) - targets[i]
            total += np.float64(factor * size if factor != 0 else real(0))  # (0 times infinity is 0 here)
            tails += np.float64(log1p(exponential(size)))
        carray(double(t[RESULT]), (1,))[0] = (total + tails) / logits.size

    @kernel(str(real))
    def bce_grad(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (5,))
        logits, targets = carray(pointer(t[LOGITS]), (t[LOGIT_COUNT],)), carray(pointer(t[TARGETS]), (t[LOGIT_COUNT],))
        out = carray(pointer(t[RESULT]), (t[LOGIT_COUNT],))
        scale = carray(pointer(t[G]), (1,))[0] / real(logits.size)
        one = real(1)
        for i in range(out.size):  # (1 - target) sigmoid(x) - target sigmoid(-x), where no small difference is lost
            tail = exponential(abs(logits[i]))
            above, below = (tail if logits[i] < 0 else one), (one if logits[i] < 0 else tail)
            out[i] = ((one - targets[i]) * above - targets[i] * below) / (one + tail) * scale

    @kernel(str(real))
    def bce_curvature(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (5,))
        logits, gg = carray(pointer(t[LOGITS]), (t[LOGIT_COUNT],)), carray(pointer(t[TARGETS]), (t[LOGIT_COUNT],))
        out = carray(pointer(t[RESULT]), (t[LOGIT_COUNT],))
        scale = carray(pointer(t[G]), (1,))[0] / real(logits.size)
        for i in range(out.size):
            tail = exponential(abs(logits[i]))
            out[i] = gg[i] * scale * (tail / ((real(1) + tail) * (real(1) + tail)))  # (1 - p would lose a small p (1 - p))

    return bce, bce_grad, bce_curvature
