"""A dense layer with its bias and activation as one op. In the backward pass, the gradients of weight and bias are one op
too."""
from __future__ import annotations

__all__: list[str] = []

import math
from typing import Any

from tinygan.fusion.activations import split
from tinygan.graph import OUT, op
from tinygan.ops.activations import activation as activate
from tinygan.ops.activations import activation_grad
from tinygan.ops.matmul import _linear, _linear_input_grad, _linear_weight_grad, affine
from tinygan.ops.packing import unpacked
from tinygan.ops.reduce import sum as sum_over


@op(saves=(0, 1, 2, OUT))  # (the bias is for `slopes`)
def _dense(B: Any, x: Any, weight: Any, bias: Any, activation: str, slope: float) -> Any:
    return B.dense(x, weight, bias, activation, slope)


@_dense.vjp
def _(needs: Any, g: Any, x: Any, weight: Any, bias: Any, y: Any, activation: str, slope: float) -> Any:
    if activation != "identity":
        g = activation_grad(g, y, activation=activation, slope=slope)
    gx = needs[0] and _linear_input_grad(g, weight)
    if not (needs[1] and needs[2]):
        return gx, needs[1] and _linear_weight_grad(x, g), needs[2] and sum_over(g, 0)
    both = _dense_parameter_grads(x, g)
    return gx, unpacked(both, 0, weight.shape), unpacked(both, math.prod(weight.shape), weight.shape[:1])


@op(saves=(0, 1))
def _dense_parameter_grads(B: Any, x: Any, y: Any) -> Any:
    """The gradients of weight and bias, joined into one array. So the gradient of this op is a dense layer again."""
    return B.dense_parameter_grads(x, y)


@_dense_parameter_grads.vjp
def _(needs: Any, g: Any, x: Any, y: Any) -> Any:
    shape = y.shape[1], x.shape[1]
    weight = unpacked(g, 0, shape)
    return (needs[0] and _linear_input_grad(y, weight),
            needs[1] and _dense(x, weight, unpacked(g, math.prod(shape), shape[:1]), activation="identity", slope=0.0))


@affine.fused
def _(x: Any, weight: Any, bias: Any, activation: str, slope: float) -> Any:
    """activation(x @ weight.T + bias)."""
    if bias is None:
        return activate(_linear(x, weight), activation, slope)
    within, after = split(activation)
    y = _dense(x, weight, bias, activation=within, slope=float(slope))
    return y if after == "identity" else activate(y, after, slope)
