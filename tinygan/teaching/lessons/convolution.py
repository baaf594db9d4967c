"""The checks of lesson 8: the three ops of `tinygan.ops.conv` for one image and one kernel."""
from __future__ import annotations

__all__ = ["EXERCISES"]

from typing import Any

from tinygan.graph import grad
from tinygan.ops import conv2d
from tinygan.random import Key
from tinygan.tensor import Tensor

from .judging import Array, Exercise, close, function

_CASES = (((4, 4), (3, 3), 1), ((5, 6), (2, 3), 1), ((7, 7), (3, 3), 2), ((8, 7), (3, 2), 2))
"""Shapes of x and of w, and the stride. In the last one the kernel does not reach all rows and columns."""


def _random(name: str, shape: tuple[int, ...]) -> Array:
    return Key(8).fold(name).normal(shape, dtype="float64").round(1)


def _all(shape: tuple[int, int], kernel: tuple[int, int], s: int) -> tuple[Array, Array, Array, Array, Array, Array]:
    """x, w, y, a gradient of y, and the gradients of x and w."""
    x, w = _random("x", shape), _random("w", kernel)
    leaves = [Tensor(a[None, None], requires_grad=True) for a in (x, w)]
    y = conv2d(leaves[0], leaves[1], stride=s)
    g = _random("g", y.shape[2:])
    by_x, by_w = (t.numpy()[0, 0] for t in grad(y, leaves, g[None, None]))
    return x, w, y.numpy()[0, 0], g, by_x, by_w


def _forward(value: Any) -> None:
    answer = function("forward(x, w, s)", value)
    for shape, kernel, s in _CASES:
        x, w, y, *_ = _all(shape, kernel, s)
        close(f"forward of x {shape} and w {kernel} with stride {s}", answer(x, w, s), y)


def _input_gradient(value: Any) -> None:
    answer = function("input_gradient(g, w, shape, s)", value)
    for shape, kernel, s in _CASES:
        _, w, _, g, by_x, _ = _all(shape, kernel, s)
        close(f"input_gradient of g {g.shape} and w {kernel} with stride {s}", answer(g, w, shape, s), by_x)


def _weight_gradient(value: Any) -> None:
    answer = function("weight_gradient(x, g, shape, s)", value)
    for shape, kernel, s in _CASES:
        x, _, _, g, _, by_w = _all(shape, kernel, s)
        close(f"weight_gradient of x {shape} and g {g.shape} with stride {s}", answer(x, g, kernel, s), by_w)


EXERCISES = (Exercise("forward", "forward(x, w, s)", _forward),
             Exercise("input_gradient", "input_gradient(g, w, shape, s)", _input_gradient),
             Exercise("weight_gradient", "weight_gradient(x, g, shape, s)", _weight_gradient))
