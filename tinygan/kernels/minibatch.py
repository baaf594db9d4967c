"""Minibatch discrimination: how near each example of a batch is to the others, and the derivatives of that.

With e_ijb = exp(-sum_c |m_icb - m_jcb|) and s_ijcb the sign of m_icb - m_jcb, all sums over j being over the other examples,
    similarity   o_ib  = sum_j e_ijb
    gradient     d_icb = -sum_j (g_ib + g_jb) e_ijb s_ijcb,                     g the gradient of o
    and of h . d, for a given h like m, with q_ijb = sum_c (h_icb - h_jcb) s_ijcb (the sign is piecewise constant):
        by g     -sum_j q_ijb e_ijb
        by m      sum_j (g_ib + g_jb) q_ijb e_ijb s_ijcb.
Everything lies as (examples, dimensions, kernels), so that neighbours in memory do the same; nothing of N x N examples is
ever in memory. Each pair is computed twice, once for each of the two, so that parts need not wait for one another.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from numba import carray

from tinygan.kernels.compiling import inline, kernel
from tinygan.kernels.elementwise import exp_of_negative
from tinygan.kernels.gemm import pointer_to

# What a task is told, by position: addresses of m (N, C, B), g (N, B), h (N, C, B), the results, (N, B) and (N, C, B), and
# two rows (B,) for each part; then the sizes.
M, G, H, OUT, OUT_M, ROWS, EXAMPLES, DIMENSIONS, KERNELS = range(9)
WORDS = 9


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    similarity: int
    gradient: int
    second: int


@cache
def make(real: Any) -> Tasks:
    """The tasks for elements of that type."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    exponential = exp_of_negative(real)

    @inline
    def row(t: Any, which: Any, i: Any) -> Any:
        return carray(pointer(t[which] + i * t[KERNELS] * item), (t[KERNELS],))

    @inline
    def share(t: Any, part: Any, parts: Any) -> Any:
        return t[EXAMPLES] * part // parts, t[EXAMPLES] * (part + 1) // parts

    @inline
    def nearness(t: Any, i: Any, j: Any, near: Any) -> None:
        """e_ij."""
        for b in range(near.size):
            near[b] = 0
        for c in range(t[DIMENSIONS]):
            x, y = row(t, M, i * t[DIMENSIONS] + c), row(t, M, j * t[DIMENSIONS] + c)
            for b in range(near.size):
                near[b] += abs(x[b] - y[b])
        for b in range(near.size):
            near[b] = exponential(near[b])

    @inline
    def push(t: Any, i: Any, j: Any, weights: Any) -> None:
        """Add weights times s_ij to the result of example i."""
        for c in range(t[DIMENSIONS]):
            x, y = row(t, M, i * t[DIMENSIONS] + c), row(t, M, j * t[DIMENSIONS] + c)
            out = row(t, OUT_M, i * t[DIMENSIONS] + c)
            for b in range(weights.size):
                out[b] += weights[b] if x[b] > y[b] else (-weights[b] if x[b] < y[b] else real(0))

    @inline
    def clear(values: Any) -> None:
        for b in range(values.size):
            values[b] = 0

    @kernel(str(real))
    def similarity(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (WORDS,))
        first, end = share(t, part, parts)
        near = row(t, ROWS, 2 * part)
        for i in range(first, end):
            out = row(t, OUT, i)
            clear(out)
            for j in range(t[EXAMPLES]):
                if j != i:
                    nearness(t, i, j, near)
                    for b in range(near.size):
                        out[b] += near[b]

    @kernel(str(real))
    def gradient(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (WORDS,))
        first, end = share(t, part, parts)
        near = row(t, ROWS, 2 * part)
        for i in range(first, end):
            for c in range(t[DIMENSIONS]):
                clear(row(t, OUT_M, i * t[DIMENSIONS] + c))
            own = row(t, G, i)
            for j in range(t[EXAMPLES]):
                if j != i:
                    nearness(t, i, j, near)
                    other = row(t, G, j)
                    for b in range(near.size):
                        near[b] *= -(own[b] + other[b])
                    push(t, i, j, near)

    @kernel(str(real))
    def second(task: Any, part: Any, parts: Any) -> Any:
        """The gradients of h . d: by g at OUT, by m at OUT_M."""
        t = carray(task, (WORDS,))
        first, end = share(t, part, parts)
        near, q = row(t, ROWS, 2 * part), row(t, ROWS, 2 * part + 1)
        for i in range(first, end):
            for c in range(t[DIMENSIONS]):
                clear(row(t, OUT_M, i * t[DIMENSIONS] + c))
            own, out = row(t, G, i), row(t, OUT, i)
            clear(out)
            for j in range(t[EXAMPLES]):
                if j == i:
                    continue
                nearness(t, i, j, near)
                clear(q)
                for c in range(t[DIMENSIONS]):
                    x, y = row(t, M, i * t[DIMENSIONS] + c), row(t, M, j * t[DIMENSIONS] + c)
                    hx, hy = row(t, H, i * t[DIMENSIONS] + c), row(t, H, j * t[DIMENSIONS] + c)
                    for b in range(q.size):
                        difference = hx[b] - hy[b]
                        q[b] += difference if x[b] > y[b] else (-difference if x[b] < y[b] else real(0))
                other = row(t, G, j)
                for b in range(q.size):
                    q[b] *= near[b]
                    out[b] -= q[b]
                    q[b] *= own[b] + other[b]
                push(t, i, j, q)

    return Tasks(similarity, gradient, second)
