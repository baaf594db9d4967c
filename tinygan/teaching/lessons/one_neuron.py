"""The checks of lesson 1. What is right, `grad` says."""
from __future__ import annotations

__all__ = ["EXERCISES"]

from typing import Any

import numpy as np

from tinygan.graph import grad
from tinygan.ops import mul, sigmoid, tanh
from tinygan.ops import sum as sum_over
from tinygan.tensor import Tensor

from .judging import Exercise, array_of, close, function, listed


def _leaf(values: Any) -> Tensor:
    return Tensor(values, dtype=np.float64, requires_grad=True)


def _sigmoid_vjp(value: Any) -> None:
    answer = function("sigmoid_vjp(g, y)", value)
    for g, a in ((1.0, 0.0), (1.0, 2.0), (-3.0, -1.0)):
        leaf = _leaf(a)
        y = sigmoid(leaf)
        close(f"sigmoid_vjp(g={g:g}, y={y.item():.4f})", answer(g, y.item()), grad(mul(y, g), leaf),
              hint="(Is the result multiplied by g?)" if g != 1 else "")


def _neuron_gradients(value: Any) -> None:
    answer = function("neuron_gradients(w, x, b, t)", value)
    for w, x, b, t in (((0.5, -1.0), (2.0, 0.3), 0.1, 1.0), ((-0.7, 0.2), (0.4, -1.5), -0.6, 0.0)):
        leaves = [_leaf(values) for values in (w, x, b)]
        error = sigmoid(sum_over(leaves[0] * leaves[1]) + leaves[2]) - t
        call = f"neuron_gradients(w={list(w)}, x={list(x)}, b={b}, t={t})"
        found = listed(call, answer(np.array(w), np.array(x), b, t), ("dL/dw", "dL/dx", "dL/db"))
        for name, ours, right in zip(("dL/dw", "dL/dx", "dL/db"), found, grad(error * error / 2, leaves), strict=True):
            close(f"{call}: {name}", ours, right)


def _twice(value: Any) -> None:
    answer = function("twice(w, x)", value)
    for w, x in ((0.9, 0.6), (-1.2, 0.5)):
        leaf = _leaf(w)
        inner, constant = tanh(leaf * x), Tensor(w, dtype=np.float64)
        parts = grad(tanh(constant * inner), leaf).item(), grad(tanh(leaf * inner.detach()), leaf).item()
        found = array_of(f"twice(w={w}, x={x})", answer(w, x))
        one = found.shape == () and np.isclose(found, parts).any()
        hint = "This is the part of one of the two places only." if one else ""
        close(f"twice(w={w}, x={x})", found, sum(parts), hint=hint)


EXERCISES = (Exercise("sigmoid_vjp", "sigmoid_vjp(g, y)", _sigmoid_vjp),
             Exercise("neuron_gradients", "neuron_gradients(w, x, b, t)", _neuron_gradients),
             Exercise("twice", "twice(w, x)", _twice))
