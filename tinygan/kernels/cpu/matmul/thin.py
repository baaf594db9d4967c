"""The dense layer with few input features, activation(A @ B + bias) for A (m, k) with a small k.

Each row of the result is computed and activated while it is in the first-level cache. In `gemm`, whose innermost loop runs
over k, packing and writing blocks would take more time than such a short loop.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from numba import carray

from tinygan.kernels.activations import FUSED
from tinygan.kernels.cpu.activations.functions import chosen, formula
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline


class ThinProduct(NamedTuple):
    """The arguments of the task. A (m, k), B (k, n) and the result (m, n) are C-contiguous; `a`, `b` and `out` are their
    addresses."""

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

    def multiplier(name: str) -> Any:
        value, has_activation = formula(name, "value", real), name != "identity"

        @inline
        def multiply(t: Any, i: Any, end: Any) -> None:
            n, k, slope = t.n, t.k, real(t.slope)
            a, b = carray(pointer(t.a), (t.m * k,)), carray(pointer(t.b), (n,))
            for row in range(i, end):
                out = carray(pointer(t.out + row * n * item), (n,))
                first = a[row * k]
                if t.bias:
                    bias = carray(pointer(t.bias), (n,))
                    for j in range(n):
                        out[j] = first * b[j] + bias[j]
                else:
                    for j in range(n):
                        out[j] = first * b[j]
                for more in range(1, k):
                    factor, others = a[row * k + more], carray(pointer(t.b + more * n * item), (n,))
                    for j in range(n):
                        out[j] += factor * others[j]
                if has_activation:
                    for j in range(n):
                        out[j] = value(out[j], slope)

        return multiply

    multiply = chosen(FUSED, multiplier)

    @task(ThinProduct, str(real))
    def thin(t: Any, part: Any, parts: Any) -> None:
        multiply(t.activation, t, t.m * part // parts, t.m * (part + 1) // parts)

    return thin
