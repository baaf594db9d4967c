"""The compiled kernels behind Python functions. Importing this module compiles them, or loads them from the cache."""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from tinygan.kernels.cpu.optimizers import compiled as optimizers
from tinygan.kernels.cpu.runtime.arrays import REALS, address
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import empty

Array = np.ndarray[Any, Any]
ALONE = 32 * 1024  # elements of an elementwise task, below which sharing it costs more than it gives


@cache
def _optimizer(rule: str, dtype: Any) -> int:
    return optimizers.make(rule, REALS[dtype])


@cache
def _adam_grad(dtype: Any) -> int:
    return optimizers.make_adam_grad(REALS[dtype])


_NUMBERS: dict[tuple[float, Any], tuple[Array, int]] = {}


def number(value: float, dtype: Any) -> int:
    """The address of a constant."""
    if (value, dtype) not in _NUMBERS:
        array = np.array([value], dtype)
        _NUMBERS.setdefault((value, dtype), (array, address(array)))  # never replaced: another thread may be using it
    return _NUMBERS[value, dtype][1]


def optimizer_step(rule: str, settings: Array, parameters: Sequence[Array], gradients: Sequence[Array],
                   *slots: Sequence[Array]) -> None:
    """Update C-contiguous parameters and slots of one dtype in place. settings: float64, as the rule has them."""
    gradients = [np.ascontiguousarray(g) for g in gradients]
    second = slots[1] if len(slots) > 1 else slots[0]
    table = np.array([[address(p), address(g), address(a), address(b), p.size]
                      for p, g, a, b in zip(parameters, gradients, slots[0], second, strict=True)], np.int64)
    total = sum([p.size for p in parameters])
    pool.run(_optimizer(rule, parameters[0].dtype), (address(table), len(table), total, address(settings)),
             1 if total < ALONE else pool.size)


def adam_backward(g: Array, packed: Array, gradient: Array, settings: Array) -> Array:
    """See `backends.cpu.adam_grad`."""
    g, packed, gradient = np.ascontiguousarray(g), np.ascontiguousarray(packed), np.ascontiguousarray(gradient)
    out = empty((4, *packed.shape[1:]), packed.dtype)
    pool.run(_adam_grad(packed.dtype), (
        address(g), address(packed), address(gradient), address(out), gradient.size, address(settings)),
        1 if gradient.size < ALONE else pool.size)
    return out


# What every training needs.
_optimizer("adam", np.dtype(np.float32))
