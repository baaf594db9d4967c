"""The dense layer of a few features, activation(A @ B + bias) for A (M, K) with K up to `MOST`: each row of the result is
made, and activated, while it lies in the first-level cache. Blocks of a general product would be nearly empty."""
from __future__ import annotations

from functools import cache
from typing import Any

from numba import carray

from tinygan.kernels.activations import LEAKY_RELU, RELU
from tinygan.kernels.compiling import kernel
from tinygan.kernels.gemm import pointer_to

MOST = 4  # columns of A
# What a task is told, by position: A (M, K), B (K, N) and the result (M, N) are C-contiguous; BIAS may be 0.
A, B, BIAS, OUT, M, K, N, ACTIVATION, SLOPE = range(9)
WORDS = 9


@cache
def make(real: Any) -> int:
    """The address of the task for elements of that type."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8

    @kernel(str(real))
    def thin(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (WORDS,))
        n, k = t[N], t[K]
        a = carray(pointer(t[A]), (t[M] * k,))
        b = carray(pointer(t[B]), (n,))
        slope = carray(pointer(t[SLOPE]), (1,))[0]
        for i in range(t[M] * part // parts, t[M] * (part + 1) // parts):
            out = carray(pointer(t[OUT] + i * n * item), (n,))
            first = a[i * k]
            if t[BIAS]:
                bias = carray(pointer(t[BIAS]), (n,))
                for j in range(n):
                    out[j] = first * b[j] + bias[j]
            else:
                for j in range(n):
                    out[j] = first * b[j]
            for more in range(1, k):
                value = a[i * k + more]
                row = carray(pointer(t[B] + more * n * item), (n,))
                for j in range(n):
                    out[j] += value * row[j]
            if t[ACTIVATION] == RELU:
                for j in range(n):
                    out[j] = out[j] if not out[j] <= 0 else 0
            elif t[ACTIVATION] == LEAKY_RELU:
                for j in range(n):
                    out[j] = out[j] if out[j] > 0 else slope * out[j]

    return thin
