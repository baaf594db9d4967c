"""The activations and their gradients over flat arrays, one pass each, for float32 and float64. Importing this module
compiles the tasks for float32, or loads them from the cache."""
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
BLOCK = 1024  # elements that stay in the first-level cache


class Elementwise(NamedTuple):
    """What the tasks are told: addresses of arrays of `size` elements, and the activation's code."""

    x: int
    g: int
    """0 in `forward`."""
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
            for first in range(start, end, BLOCK):
                # In place: of two arrays that may be the same no loop would become vector instructions.
                out = carray(pointer(t.out), (t.size,))[first:min(first + BLOCK, end)]
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
    """The address of the task out = g * (the activation's slope, from what backward keeps). (The slope of an activation that
    is not fused cannot be read off the result: where that rounds to 1 or to -1, the slope is small, not 0.)"""
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
    """The activation of a contiguous array, into `out`."""
    pool.run(_forward(x.dtype), _packed(address(x), 0, address(out), x.size, code, slope), pool.parts(x.size))
    return out


def activation_backward(g: Array, x: Array, code: int, slope: float, out: Array) -> Array:
    """g times the activation's slope; all contiguous, in the same order."""
    pool.run(_backward(g.dtype), _packed(address(x), address(g), address(out), g.size, code, slope), pool.parts(g.size))
    return out


for _task in (_forward, _backward):
    _task(np.dtype(np.float32))
