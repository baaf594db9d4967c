"""The compiled kernels of minibatch discrimination, which measures how near each example of a batch is to the others.

Let e_ijb = exp(-sum_c |m_icb - m_jcb|), and let s_ijcb be the sign of m_icb - m_jcb. Sums over j are over all examples other
than i. g is the gradient of o, and h has the shape of m.
    similarity   o_ib  = sum_j e_ijb
    gradient     d_icb = -sum_j (g_ib + g_jb) e_ijb s_ijcb
    second       the gradients of <h, d>. The signs are piecewise constant. With q_ijb = sum_c (h_icb - h_jcb) s_ijcb:
        by g     -sum_j q_ijb e_ijb
        by m     sum_j (g_ib + g_jb) q_ijb e_ijb s_ijcb
All arrays are stored as (kernels, dimensions, examples). So examples are neighbours in memory, and loops over them become
vector instructions. No array of N x N examples is ever stored. Each pair of examples is computed twice, once for each of
them, so that parts need not wait for each other.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray

from tinygan.kernels.cpu.activations.functions import function
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import REALS, address, pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import contiguous, empty

Array = np.ndarray[Any, Any]


class Pairs(NamedTuple):
    """The arguments of a task: addresses of the arrays, and their sizes."""

    m: int  # (kernels, dimensions, examples); h and out_m have the same shape
    g: int  # (kernels, examples); out has the same shape
    h: int
    out: int
    out_m: int
    scratch: int  # two rows of `examples` for each part
    examples: int
    dimensions: int
    kernels: int


class Helpers(NamedTuple):
    """Functions for the kernels. t: the arguments of the task."""

    share: Any
    """(t, part, parts): (first, end) of the examples i of a part."""
    row: Any
    """(t, matrix, i): row i of the matrix (..., examples) at that address."""
    nearness: Any
    """(t, b, i, near): write e_ijb for all j to `near`."""
    push: Any
    """(t, b, i, weights): for all c, write the sum over j of weights[j] * s_ijcb to `out_m`."""


@cache
def _helpers(real: Any) -> Helpers:
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    exponential = function("decay", real)

    @inline
    def row(t: Any, matrix: Any, i: Any) -> Any:
        return carray(pointer(matrix + i * t.examples * item), (t.examples,))

    @inline
    def share(t: Any, part: Any, parts: Any) -> Any:
        return t.examples * part // parts, t.examples * (part + 1) // parts

    @inline
    def nearness(t: Any, b: Any, i: Any, near: Any) -> None:
        for j in range(near.size):
            near[j] = 0
        for c in range(t.dimensions):
            x = row(t, t.m, b * t.dimensions + c)
            own = x[i]
            for j in range(near.size):
                near[j] += abs(own - x[j])
        for j in range(near.size):
            near[j] = exponential(near[j])
        near[i] = 0

    @inline
    def push(t: Any, b: Any, i: Any, weights: Any) -> None:
        for c in range(t.dimensions):
            x = row(t, t.m, b * t.dimensions + c)
            own, total = x[i], real(0)
            for j in range(weights.size):
                total += weights[j] if own > x[j] else (-weights[j] if own < x[j] else real(0))
            row(t, t.out_m, b * t.dimensions + c)[i] = total

    return Helpers(share, row, nearness, push)


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    similarity: int
    gradient: int
    second: int


@cache
def make(real: Any) -> Tasks:
    """The tasks for elements of that type."""
    share, row, nearness, push = _helpers(real)

    @task(Pairs, str(real))
    def similarity(t: Any, part: Any, parts: Any) -> Any:
        first, end = share(t, part, parts)
        near = row(t, t.scratch, 2 * part)
        for b in range(t.kernels):
            for i in range(first, end):
                nearness(t, b, i, near)
                total = real(0)
                for j in range(near.size):
                    total += near[j]
                row(t, t.out, b)[i] = total

    @task(Pairs, str(real))
    def gradient(t: Any, part: Any, parts: Any) -> Any:
        first, end = share(t, part, parts)
        near = row(t, t.scratch, 2 * part)
        for b in range(t.kernels):
            g = row(t, t.g, b)
            for i in range(first, end):
                nearness(t, b, i, near)
                own = g[i]
                for j in range(near.size):
                    near[j] *= -(own + g[j])
                push(t, b, i, near)

    @task(Pairs, str(real))
    def second(t: Any, part: Any, parts: Any) -> Any:
        """The gradients of <h, d>: by g at `out`, by m at `out_m`."""
        first, end = share(t, part, parts)
        near, q = row(t, t.scratch, 2 * part), row(t, t.scratch, 2 * part + 1)
        for b in range(t.kernels):
            g = row(t, t.g, b)
            for i in range(first, end):
                nearness(t, b, i, near)
                for j in range(q.size):
                    q[j] = 0
                for c in range(t.dimensions):
                    x, h = row(t, t.m, b * t.dimensions + c), row(t, t.h, b * t.dimensions + c)
                    own, own_h = x[i], h[i]
                    for j in range(q.size):
                        difference = own_h - h[j]
                        q[j] += difference if own > x[j] else (-difference if own < x[j] else real(0))
                own, total = g[i], real(0)
                for j in range(q.size):
                    q[j] *= near[j]
                    total -= q[j]
                    q[j] *= own + g[j]
                row(t, t.out, b)[i] = total
                push(t, b, i, q)

    return Tasks(similarity, gradient, second)


def _run(task: str, m: Array, g: Array | None = None, h: Array | None = None) -> tuple[Array, Array]:
    """Run a task on m (N, B, C), g (N, B) and h (N, B, C). Returns arrays (N, B) and (N, B, C); the task has written one or
    both of them."""
    n, kernels, dimensions = m.shape
    parts = pool.parts(n * m.size)
    inputs = [None if a is None else contiguous(np.moveaxis(a, 0, -1)) for a in (m, g, h)]
    out, out_m, scratch = (empty(shape, m.dtype) for shape in ((kernels, n), (kernels, dimensions, n), (2 * parts, n)))
    at_m, at_g, at_h = (0 if a is None else address(a) for a in inputs)
    pool.run(getattr(make(REALS[m.dtype]), task), Pairs(
        m=at_m, g=at_g, h=at_h, out=address(out), out_m=address(out_m), scratch=address(scratch),
        examples=n, dimensions=dimensions, kernels=kernels), parts)
    return out.T, out_m.transpose(2, 0, 1)


def similarity(m: Array) -> Array:
    """See `minibatch_similarity`."""
    return _run("similarity", m)[0]


def gradient(g: Array, m: Array) -> Array:
    """See `minibatch_similarity_grad`."""
    return _run("gradient", m, g)[1]


def second(h: Array, g: Array, m: Array) -> tuple[Array, Array]:
    """See `minibatch_similarity_second`."""
    return _run("second", m, g, h)
