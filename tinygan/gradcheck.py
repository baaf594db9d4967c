"""`check_gradients` compares the engine's gradients with finite differences, for any function."""
from __future__ import annotations

__all__ = ["GradientError", "check_gradients"]

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygan.graph import grad
from tinygan.ops import mul
from tinygan.ops import sum as sum_over
from tinygan.random import Key, use_key
from tinygan.tensor import Tensor, as_array


class GradientError(AssertionError):
    """A gradient disagrees with the finite difference."""


def check_gradients(fn: Callable[..., Tensor], *inputs: Any, order: int = 2, step: float = 1e-5, rtol: float = 1e-5,
                    atol: float = 1e-7) -> float:
    """Compare the gradient of fn at `inputs` (arrays or Tensors, converted to float64) with central differences of width
    `step`.

    fn: a function of Tensors that returns a Tensor of any shape. Its elements are weighted by fixed random numbers and added
    up. Random draws inside fn are the same at every call. order=2 also checks the gradient of the gradient
    (`create_graph=True`), with respect to the inputs and these weights. A difference of up to atol + rtol * |largest
    derivative| passes. Returns the largest difference. Raises a GradientError that names the input, the element, both values
    and their difference. At a kink, such as 0 for `abs`, the two disagree even if the gradient is right, so choose inputs
    away from it. A function that changes an input in place is a GradientError, too.
    """
    arrays = [np.array(as_array(x), dtype=np.float64) for x in inputs]
    if order not in (1, 2):
        raise ValueError(f"check_gradients: order should be 1 or 2, got {order}")

    def run(*tensors: Tensor) -> Tensor:
        before = [x.numpy().copy() for x in tensors]
        with use_key(Key(1)):
            y = fn(*tensors)
        for i, (x, old) in enumerate(zip(tensors, before, strict=True)):
            if not np.array_equal(x.numpy(), old, equal_nan=True):
                raise GradientError(f"the function changes input {i} in place, but an op must leave its inputs as they are")
        return y

    worst = _compare(run, arrays, "the gradient", step, rtol, atol)
    if order == 2:
        shape = run(*[Tensor(a) for a in arrays]).shape
        weights = Key(2).normal(shape, dtype=np.float64)

        def gradient(*tensors: Tensor) -> Tensor:
            *leaves, g = [t if t.requires_grad else Tensor(t, requires_grad=True) for t in tensors]
            y = run(*leaves)
            if not y.requires_grad:
                return sum_over(mul(g, 0.0))
            return _project(grad(y, leaves, g, create_graph=any(t.requires_grad for t in tensors)), Key(3))

        worst = max(worst, _compare(gradient, [*arrays, weights], "the gradient of the gradient", step, rtol, atol,
                                    last="the weights of the output"))
    return worst


def _project(tensors: Sequence[Tensor], key: Key) -> Tensor:
    """One number that depends on every element of `tensors`: their sum with fixed random weights."""
    total: Any = 0.0
    for i, x in enumerate(tensors):
        total = total + sum_over(mul(x, Tensor(key.fold(i).normal(x.shape, dtype=np.float64))))
    return total


def _compare(fn: Callable[..., Tensor], arrays: list[Any], what: str, step: float, rtol: float, atol: float,
             last: str | None = None) -> float:
    def scalar(*tensors: Tensor) -> Tensor:
        return _project([fn(*tensors)], Key(4))

    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    y = scalar(*leaves)
    gradients = [g.numpy() for g in grad(y, leaves)] if y.requires_grad else [np.zeros_like(a) for a in arrays]
    worst = 0.0
    for i, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        numeric = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            values = []
            for sign in (1, -1):
                moved = array.copy()
                moved[index] += sign * step
                values.append(scalar(*[Tensor(moved if j == i else a) for j, a in enumerate(arrays)]).item())
            numeric[index] = (values[0] - values[1]) / (2 * step)
        if not array.size:
            continue
        difference = np.abs(numeric - gradient)
        difference = np.where(np.isnan(difference), np.inf, difference)
        bound = atol + rtol * np.abs(numeric).max()
        worst = max(worst, float(difference.max()))
        if not difference.max() <= bound:  # (also if the bound is NaN)
            index = np.unravel_index(difference.argmax(), array.shape)
            where = last if last and i == len(arrays) - 1 else f"input {i}"
            raise GradientError(f"{what} with respect to {where} at element {tuple(map(int, index))}: grad gives "
                                f"{gradient[index]:.10g}, the central difference {numeric[index]:.10g} (they differ by "
                                f"{difference[index]:.3g}; {int((~(difference <= bound)).sum())} "
                                f"of {array.size} elements disagree)")
    return worst
