"""A small multilayer perceptron as one op: dense layers and their activations, with all weights in one array.

The results are those of the layers one by one. Only the slopes of saturated activations differ: they have an absolute error
of one rounding (see `kernels/cpu/perceptron/kernels.py`). Layer by layer, a small network spends most of its time between
its kernels. If it is differentiated twice, it also spends much time on writing and reading intermediate results.
"""
from __future__ import annotations

__all__ = ["MLPLayer", "mlp"]

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from tinygan.backends import backend_of
from tinygan.graph import op
from tinygan.kernels.activations import KNOWN_FROM_RESULT
from tinygan.ops.activations import checked_activation
from tinygan.ops.matmul import dense
from tinygan.ops.packing import cut, pack, unpacked
from tinygan.ops.shape import reshape
from tinygan.pullback import pullback
from tinygan.tensor import as_array, shape_of


class MLPLayer(NamedTuple):
    """A dense layer with a weight (outputs, inputs), a bias and an activation: see `dense`."""

    inputs: int
    outputs: int
    activation: str = "identity"
    slope: float = 0.0

    @property
    def size(self) -> int:
        """The number of elements of weight and bias together."""
        return self.outputs * (self.inputs + 1)


Layers = tuple[MLPLayer, ...]


@op(saves=(0, 1))
def _mlp(B: Any, x: Any, weights: Any, layers: Layers) -> Any:
    return B.mlp(x, weights, layers)


@_mlp.vjp
def _(needs: Any, g: Any, x: Any, weights: Any, layers: Layers) -> Any:
    by = bool(needs[0]), bool(needs[1])
    found = _mlp_grad(g, x, weights, layers=layers, by=by)
    return (by[0] and cut(found, 0, x.shape),
            by[1] and (cut(found, math.prod(x.shape), weights.shape) if by[0] else found))


@op(saves=(0, 1, 2))
def _mlp_grad(B: Any, g: Any, x: Any, weights: Any, layers: Layers, by: tuple[bool, bool]) -> Any:
    """The gradients with respect to x and to the weights, joined into one array. `by` says which of the two are wanted."""
    return B.mlp_grad(g, x, weights, layers, by)


@_mlp_grad.vjp
def _(needs: Any, h: Any, g: Any, x: Any, weights: Any, layers: Layers, by: tuple[bool, bool]) -> Any:
    every = _mlp_second(h, g, x, weights, layers=layers, by=by)
    ends = math.prod(g.shape), math.prod(g.shape) + math.prod(x.shape)
    return (needs[0] and cut(every, 0, g.shape), needs[1] and cut(every, ends[0], x.shape),
            needs[2] and cut(every, ends[1], weights.shape))


@op(saves=(0, 1, 2, 3))
def _mlp_second(B: Any, h: Any, g: Any, x: Any, weights: Any, layers: Layers, by: tuple[bool, bool]) -> Any:
    """The gradients of <h, _mlp_grad(g, x, weights)> with respect to g, x and the weights, joined into one array."""
    return B.mlp_second(h, g, x, weights, layers, by)


@_mlp_second.vjp
def _(needs: Any, q: Any, h: Any, g: Any, x: Any, weights: Any, layers: Layers, by: tuple[bool, bool]) -> Any:
    """Computed from the definition in dense layers, which have derivatives of every order."""
    def layer_by_layer(x: Any, weights: Any) -> Any:
        start = 0
        for inputs, outputs, activation, slope in layers:
            bias = start + outputs * inputs
            x = dense(x, unpacked(weights, start, (outputs, inputs)), unpacked(weights, bias, (outputs,)), activation, slope)
            start = bias + outputs
        return x

    def gradient(g: Any, x: Any, weights: Any) -> Any:
        found = pullback(layer_by_layer, (x, weights), g, by)
        return pack([part for part, wanted in zip(found, by, strict=True) if wanted])

    def second(h: Any, g: Any, x: Any, weights: Any) -> Any:
        inputs = g, x, weights
        found = pullback(gradient, inputs, h, (True, True, True))
        return pack([_zeros(each) if part is None else part for each, part in zip(inputs, found, strict=True)])

    return pullback(second, (h, g, x, weights), q, needs)


def _zeros(x: Any) -> Any:
    """An array of zeros like x: the gradient with respect to an x that does not matter. (The gradient of a piecewise linear
    network with respect to its input does not change with the input.)"""
    array = as_array(x)
    return backend_of(array).xp.zeros(array.shape, array.dtype)


def mlp(x: Any, weights: Any, layers: Sequence[MLPLayer]) -> Any:
    """All layers applied to x (..., inputs of the first) -> (..., outputs of the last).

    weights: one array (total,). For one layer after the other, it holds the weight (outputs, inputs) in row-major order,
    then the bias (outputs,). Raises ValueError if layers, input and weights do not fit each other."""
    layers, shape = tuple(layers), shape_of("mlp", x)
    if not layers:
        raise ValueError("mlp: needs at least one layer")
    for layer, after in pairwise(layers):
        if layer.outputs != after.inputs:
            raise ValueError(f"mlp: a layer of {layer.outputs} outputs is followed by one of {after.inputs} inputs")
    for layer in layers:
        if min(layer.inputs, layer.outputs) < 1:
            raise ValueError(f"mlp: a layer should have inputs and outputs, got {layer.inputs} and {layer.outputs}")
        checked_activation("mlp", layer.activation, layer.slope)
        if layer.activation not in KNOWN_FROM_RESULT:
            raise ValueError(f"mlp: the result of {layer.activation!r} does not tell its derivatives; expected one of "
                             f"{', '.join(KNOWN_FROM_RESULT)}")
    if not shape or shape[-1] != layers[0].inputs or not math.prod(shape):
        raise ValueError(f"mlp: expected an input of shape (..., {layers[0].inputs}) that is not empty, got {shape}")
    size = sum(layer.size for layer in layers)
    if shape_of("mlp", weights) != (size,):
        raise ValueError(f"mlp: the layers have {size} weights, got an array of shape {weights.shape}")
    if len(shape) != 2:
        x = reshape(x, (math.prod(shape[:-1]), shape[-1]))
    y = _mlp(x, weights, layers=layers)
    return y if len(shape) == 2 else reshape(y, (*shape[:-1], layers[-1].outputs))
