"""Matrix products: `matmul`, and `dense`, the fully connected layer.

`@Composite` marks the definition of a function, written in ops: `affine` is one. `fusion/` may register a faster function
that computes the same up to rounding, and then this one runs. With `tg.fusion(False)` the definition runs."""
from __future__ import annotations

__all__ = ["dense", "matmul"]

import math
from typing import Any, overload

from tinygan.graph import op
from tinygan.making import NumPyArray, weighted
from tinygan.ops.activations import activation as activate
from tinygan.ops.activations import checked_activation
from tinygan.ops.composite import Composite
from tinygan.ops.elementwise import add
from tinygan.ops.shape import reshape, swap_last
from tinygan.tensor import Tensor, shape_of


@op(saves=(0, 1), broadcasts=True)
def _matmul(B: Any, a: Any, b: Any) -> Any:
    return B.matmul(a, b)


@_matmul.vjp
def _(needs: Any, g: Any, a: Any, b: Any) -> Any:  # (swap_last transposes each matrix of a stack)
    return needs[0] and _matmul(g, swap_last(b)), needs[1] and _matmul(swap_last(a), g)


@overload
def matmul(a: Tensor, b: Tensor | NumPyArray) -> Tensor: ...


@overload
def matmul(a: NumPyArray, b: Tensor) -> Tensor: ...


@overload
def matmul(a: NumPyArray, b: NumPyArray) -> NumPyArray: ...


def matmul(a: Any, b: Any) -> Any:
    """a @ b: (..., n, k) times (..., k, m) -> (..., n, m). Leading axes broadcast. A 1-D `a` is a row and a 1-D `b` a
    column; the result then lacks that axis."""
    left, right = shape_of("matmul", a), shape_of("matmul", b)
    if not left or not right:
        raise ValueError(f"matmul: each input should have an axis or more, got shapes {left} and {right}")
    row, column = len(left) == 1, len(right) == 1
    if left[-1] != right[-1 if column else -2]:
        raise ValueError(f"matmul: {left} @ {right}: {left[-1]} columns meet {right[-1 if column else -2]} rows")
    if left[:-2] != right[:-2] and not _broadcast(left[:-2], right[:-2]):
        raise ValueError(f"matmul: {left} @ {right}: the leading axes {left[:-2]} and {right[:-2]} do not broadcast")
    if row:
        a = reshape(a, (1, *left))
    if column:
        b = reshape(b, (*right, 1))
    y = _matmul(a, b)
    if row or column:
        y = reshape(y, y.shape[:-2] + (() if row else y.shape[-2:-1]) + (() if column else y.shape[-1:]))
    return y


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether the shapes broadcast against each other."""
    return all(m == n or m == 1 or n == 1 for m, n in zip(a[::-1], b[::-1], strict=False))


# x @ weight.T is one of three bilinear ops whose gradients are each other, a triangle like that of the convolution. So a
# derivative of any order needs no transposed array in the graph.


@op(saves=(0, 1))
def _linear(B: Any, x: Any, weight: Any) -> Any:
    return B.matmul(x, weight.T)


@_linear.vjp
def _(needs: Any, g: Any, x: Any, weight: Any) -> Any:
    return needs[0] and _linear_input_grad(g, weight), needs[1] and _linear_weight_grad(x, g)


@op(saves=(0, 1))
def _linear_input_grad(B: Any, y: Any, weight: Any) -> Any:
    return B.matmul(y, weight)


@_linear_input_grad.vjp
def _(needs: Any, g: Any, y: Any, weight: Any) -> Any:
    return needs[0] and _linear(g, weight), needs[1] and _linear_weight_grad(g, y)


@op(saves=(0, 1))
def _linear_weight_grad(B: Any, x: Any, y: Any) -> Any:
    return B.matmul(y.T, x)


@_linear_weight_grad.vjp
def _(needs: Any, g: Any, x: Any, y: Any) -> Any:
    return needs[0] and _linear_input_grad(y, g), needs[1] and _linear(x, g)


@Composite
def affine(x: Any, weight: Any, bias: Any, activation: str, slope: float) -> Any:
    """activation(x @ weight.T + bias) for x (N, in); bias (out,) or None."""
    y = _linear(x, weight)
    return activate(y if bias is None else add(y, bias), activation, slope)


@weighted
def dense(x: Any, weight: Any, bias: Any = None, activation: str = "identity", slope: float = 0.2) -> Any:
    """activation(x @ weight.T + bias): x (..., in), weight (out, in), bias (out,) or None -> (..., out).

    activation: identity, relu, leaky_relu, elu, tanh, sigmoid or softplus. slope: that of leaky_relu, or alpha of elu.
    """
    checked_activation("dense", activation, slope)
    for value in (x, weight) if bias is None else (x, weight, bias):
        shape_of("dense", value)
    if len(weight.shape) != 2 or not x.shape or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"dense: the last axis of the input should match the second of the weight (input {x.shape}, "
                         f"weight {weight.shape})")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"dense: bias has shape {bias.shape}, expected {weight.shape[:1]} (weight {weight.shape})")
    leading = x.shape[:-1]
    if len(leading) != 1:
        x = reshape(x, (math.prod(leading), weight.shape[1]))
    y = affine(x, weight, bias, activation, slope)
    return y if len(leading) == 1 else reshape(y, (*leading, weight.shape[0]))
