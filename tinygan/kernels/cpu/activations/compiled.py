"""Compiled loops that apply activations and their gradients to flat arrays, in one pass, for float32 and float64. Importing
this module compiles the tasks for float32, or loads them from the cache."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray

from tinygan.kernels.activations import BY_NAME
from tinygan.kernels.cpu.activations.functions import chosen, formula
from tinygan.kernels.cpu.runtime.arguments import packer, task
from tinygan.kernels.cpu.runtime.arrays import REALS, address, pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.shares import share

Array = np.ndarray[Any, Any]
BLOCK_ELEMENTS = 1024  # as many elements as stay in the first-level cache


class Elementwise(NamedTuple):
    """The arguments of the tasks: addresses of arrays with `size` elements, and the code and slope of the activation."""

    x: int
    g: int
    """For `forward`: 0."""
    out: int
    size: int
    activation: int
    slope: float


_packed = packer(Elementwise)


def _make_forward(real: Any) -> int:
    """The address of the task out = activation(x)."""
    pointer = pointer_to(real)

    def loop(name: str) -> Any:
        value = formula(name, "value", real)

        @inline
        def activate(t: Any, start: Any, end: Any) -> None:
            slope = real(t.slope)
            for first in range(start, end, BLOCK_ELEMENTS):
                # Copy x first and work in place. A loop that reads one array and writes another would not become vector
                # instructions, because the two may be the same array.
                out = carray(pointer(t.out), (t.size,))[first:min(first + BLOCK_ELEMENTS, end)]
                if t.x != t.out:
                    x = carray(pointer(t.x), (t.size,))[first:first + out.size]
                    for i in range(out.size):
                        out[i] = x[i]
                for i in range(out.size):
                    out[i] = value(out[i], slope)

        return activate

    activate = chosen(BY_NAME, loop)

    @task(Elementwise, str(real))
    def forward(t: Any, part: Any, parts: Any) -> None:
        start, end = share(t.size, part, parts)
        activate(t.activation, t, start, end)

    return forward


def _make_backward(real: Any) -> int:
    """The address of the task out = g * slope. x is what backward keeps: the result of a fused activation, the input of any
    other. (For example, the slope of tanh cannot be computed from its result: where the result is rounded to 1 or -1, the
    slope is small, but not 0.)"""
    pointer = pointer_to(real)

    def loop(name: str) -> Any:
        slope_at = formula(name, BY_NAME[name].kept_slope, real)

        @inline
        def descend(g: Any, x: Any, out: Any, slope: Any) -> None:
            for i in range(g.size):
                out[i] = g[i] * slope_at(x[i], slope)

        return descend

    descend = chosen(BY_NAME, loop)

    @task(Elementwise, str(real))
    def backward(t: Any, part: Any, parts: Any) -> None:
        start, end = share(t.size, part, parts)
        g, x = carray(pointer(t.g), (t.size,))[start:end], carray(pointer(t.x), (t.size,))[start:end]
        out = carray(pointer(t.out), (t.size,))[start:end]
        descend(t.activation, g, x, out, real(t.slope))

    return backward


@cache
def _forward(dtype: Any) -> int:
    return _make_forward(REALS[dtype])


@cache
def _backward(dtype: Any) -> int:
    return _make_backward(REALS[dtype])


def activation_forward(x: Array, code: int, slope: float, out: Array) -> Array:
    """Write the activation of a contiguous array to `out`."""
    pool.run(_forward(x.dtype), _packed(
        x=address(x), g=0, out=address(out), size=x.size, activation=code, slope=slope), pool.parts(x.size))
    return out


def activation_backward(g: Array, x: Array, code: int, slope: float, out: Array) -> Array:
    """Write g times the activation's slope to `out`. All arrays are contiguous, in the same order."""
    pool.run(_backward(g.dtype), _packed(
        x=address(x), g=address(g), out=address(out), size=g.size, activation=code, slope=slope), pool.parts(g.size))
    return out


for _task in (_forward, _backward):
    _task(np.dtype(np.float32))
