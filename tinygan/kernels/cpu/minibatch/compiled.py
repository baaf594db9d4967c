"""Minibatch discrimination: how near each example of a batch is to the others, and the derivatives of that.

With e_ijb = exp(-sum_c |m_icb - m_jcb|) and s_ijcb the sign of m_icb - m_jcb, all sums over j being over the other examples,
    similarity   o_ib  = sum_j e_ijb
    gradient     d_icb = -sum_j (g_ib + g_jb) e_ijb s_ijcb,                     g the gradient of o
    and of h . d, for a given h like m, with q_ijb = sum_c (h_icb - h_jcb) s_ijcb (the sign is piecewise constant):
        by g     -sum_j q_ijb e_ijb
        by m      sum_j (g_ib + g_jb) q_ijb e_ijb s_ijcb.
Everything lies as (kernels, dimensions, examples), so that neighbours in memory are examples and loops over them are whole
vectors; nothing of N x N examples is ever in memory. Each pair is computed twice, once for each of the two, so that parts
need not wait for one another.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from numba import carray

from tinygan.kernels.cpu.activations.compiled import exp_of_negative
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline, kernel

# What a task is told, by position: addresses of m (B, C, N), g (B, N), h (B, C, N), the results, (B, N) and (B, C, N), and
# two rows (N,) for each part; then the sizes.
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
        return carray(pointer(t[which] + i * t[EXAMPLES] * item), (t[EXAMPLES],))

    @inline
    def share(t: Any, part: Any, parts: Any) -> Any:
        return t[EXAMPLES] * part // parts, t[EXAMPLES] * (part + 1) // parts

    @inline
    def nearness(t: Any, b: Any, i: Any, near: Any) -> None:
        """e_ijb for all j."""
        for j in range(near.size):
            near[j] = 0
        for c in range(t[DIMENSIONS]):
            x = row(t, M, b * t[DIMENSIONS] + c)
            own = x[i]
            for j in range(near.size):
                near[j] += abs(own - x[j])
        for j in range(near.size):
            near[j] = exponential(near[j])
        near[i] = 0

    @inline
    def push(t: Any, b: Any, i: Any, weights: Any) -> None:
        """The sums over j of weights times s_ijcb, into the result."""
        for c in range(t[DIMENSIONS]):
            x = row(t, M, b * t[DIMENSIONS] + c)
            own, total = x[i], real(0)
            for j in range(weights.size):
                total += weights[j] if own > x[j] else (-weights[j] if own < x[j] else real(0))
            row(t, OUT_M, b * t[DIMENSIONS] + c)[i] = total

    @kernel(str(real))
    def similarity(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (WORDS,))
        first, end = share(t, part, parts)
        near = row(t, ROWS, 2 * part)
        for b in range(t[KERNELS]):
            for i in range(first, end):
                nearness(t, b, i, near)
                total = real(0)
                for j in range(near.size):
                    total += near[j]
                row(t, OUT, b)[i] = total

    @kernel(str(real))
    def gradient(task: Any, part: Any, parts: Any) -> Any:
        t = carray(task, (WORDS,))
        first, end = share(t, part, parts)
        near = row(t, ROWS, 2 * part)
        for b in range(t[KERNELS]):
            g = row(t, G, b)
            for i in range(first, end):
                nearness(t, b, i, near)
                own = g[i]
                for j in range(near.size):
                    near[j] *= -(own + g[j])
                push(t, b, i, near)

    @kernel(str(real))
    def second(task: Any, part: Any, parts: Any) -> Any:
        """The gradients of h . d: by g at OUT, by m at OUT_M."""
        t = carray(task, (WORDS,))
        first, end = share(t, part, parts)
        near, q = row(t, ROWS, 2 * part), row(t, ROWS, 2 * part + 1)
        for b in range(t[KERNELS]):
            g = row(t, G, b)
            for i in range(first, end):
                nearness(t, b, i, near)
                for j in range(q.size):
                    q[j] = 0
                for c in range(t[DIMENSIONS]):
                    x, h = row(t, M, b * t[DIMENSIONS] + c), row(t, H, b * t[DIMENSIONS] + c)
                    own, own_h = x[i], h[i]
                    for j in range(q.size):
                        difference = own_h - h[j]
                        q[j] += difference if own > x[j] else (-difference if own < x[j] else real(0))
                own, total = g[i], real(0)
                for j in range(q.size):
                    q[j] *= near[j]
                    total -= q[j]
                    q[j] *= own + g[j]
                row(t, OUT, b)[i] = total
                push(t, b, i, q)

    return Tasks(similarity, gradient, second)
