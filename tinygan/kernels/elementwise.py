"""Activations and their gradients over flat arrays, one pass each, for float32 and float64."""
from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from tinygan.kernels.compiling import inline, kernel
from tinygan.kernels.gemm import pointer_to

# What a task is told, by position: the addresses of three arrays (the second is unused by `forward`), how many
# elements they have, which activation, and the address of the slope.
X, Y, OUT, COUNT, ACTIVATION, SLOPE = range(6)
RELU, LEAKY_RELU, TANH, SIGMOID, SOFTPLUS, ELU = range(1, 7)
GRAIN = 16  # elements; parts begin at multiples of it, so that no two share a cache line


@inline
def share(count: Any, part: Any, parts: Any) -> Any:
    """(first, end) of the part-th share of `count` elements."""
    units = (count + GRAIN - 1) // GRAIN
    return min(count, units * part // parts * GRAIN), min(count, units * (part + 1) // parts * GRAIN)


def make_forward(real: Any) -> int:
    """The address of the task out = activation(x), for relu and leaky_relu (NumPy's own loops serve the others)."""
    pointer = pointer_to(real)

    @kernel(real)
    def forward(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (8,))
        start, end = share(t[COUNT], part, parts)
        x = carray(pointer(t[X]), (t[COUNT],))[start:end]
        out = carray(pointer(t[OUT]), (t[COUNT],))[start:end]
        slope = carray(pointer(t[SLOPE]), (1,))[0]
        if t[ACTIVATION] == LEAKY_RELU:
            for i in range(x.size):
                out[i] = x[i] if x[i] > 0 else slope * x[i]
        else:
            for i in range(x.size):
                out[i] = 0 if x[i] <= 0 else x[i]

    return forward


def make_backward(real: Any) -> int:
    """The address of the task out = g * (the activation's slope where its output is y)."""
    pointer = pointer_to(real)

    @kernel(real)
    def backward(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (8,))
        start, end = share(t[COUNT], part, parts)
        g = carray(pointer(t[X]), (t[COUNT],))[start:end]
        y = carray(pointer(t[Y]), (t[COUNT],))[start:end]
        out = carray(pointer(t[OUT]), (t[COUNT],))[start:end]
        slope = carray(pointer(t[SLOPE]), (1,))[0]
        one = real(1)
        if t[ACTIVATION] == LEAKY_RELU:
            for i in range(g.size):
                out[i] = g[i] if y[i] > 0 else slope * g[i]
        elif t[ACTIVATION] == RELU:
            for i in range(g.size):
                out[i] = g[i] if y[i] > 0 else 0 * g[i]
        elif t[ACTIVATION] == TANH:
            for i in range(g.size):
                out[i] = g[i] * (one - y[i] * y[i])
        elif t[ACTIVATION] == SIGMOID:
            for i in range(g.size):
                out[i] = g[i] * (y[i] * (one - y[i]))
        elif t[ACTIVATION] == SOFTPLUS:
            for i in range(g.size):
                out[i] = g[i] * -np.expm1(-y[i])
        else:
            for i in range(g.size):
                out[i] = g[i] if y[i] > 0 else g[i] * (y[i] + slope)

    return backward
