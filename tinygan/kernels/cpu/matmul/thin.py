"""The dense layer of a few features, activation(A @ B + bias) for A (m, k) with a small k: each row of the result is
made, and activated, while it lies in the first-level cache. Blocks of a general product would be nearly empty."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from numba import carray

from tinygan.kernels.cpu.activations.functions import activate_fused
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import pointer_to


class ThinProduct(NamedTuple):
    """What the task is told. A (m, k), B (k, n) and the result (m, n) are C-contiguous."""

    a: int
    b: int
    bias: int  # address of n elements, or 0
    out: int
    m: int
    k: int
    n: int
    activation: int
    slope: float


@cache
def make(real: Any) -> int:
    """The address of the task for elements of that type."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    activate = activate_fused(real)

    @task(ThinProduct, str(real))
    def thin(t: Any, part: Any, parts: Any) -> None:
        n, k = t.n, t.k
        a = carray(pointer(t.a), (t.m * k,))
        b = carray(pointer(t.b), (n,))
        slope = real(t.slope)
        for i in range(t.m * part // parts, t.m * (part + 1) // parts):
            out = carray(pointer(t.out + i * n * item), (n,))
            first = a[i * k]
            if t.bias:
                bias = carray(pointer(t.bias), (n,))
                for j in range(n):
                    out[j] = first * b[j] + bias[j]
            else:
                for j in range(n):
                    out[j] = first * b[j]
            for more in range(1, k):
                value = a[i * k + more]
                row = carray(pointer(t.b + more * n * item), (n,))
                for j in range(n):
                    out[j] += value * row[j]
            activate(t.activation, out, slope)

    return thin
