"""A multilayer perceptron on the device, layer by layer, with its first and second derivatives.

`kernels/cpu/perceptron/kernels.py` derives them. The names here are those of its formulas.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinygan.kernels.activations import BY_NAME
from tinygan.kernels.cuda.activations import activation_grad_from_result, curvature_from_result
from tinygan.kernels.cuda.matmul import dense, dense_parameter_grads, matmul
from tinygan.kernels.cuda.runtime.device import Array, Device

__all__ = ["mlp", "mlp_grad", "mlp_second"]


def _pieces(weights: Array, layers: Any) -> Iterator[tuple[Any, Array, Array]]:
    """(layer, its weight, its bias) for each layer. In `weights` they follow one after another."""
    start = 0
    for layer in layers:
        bias = start + layer.outputs * layer.inputs
        yield layer, weights[start:bias].reshape(layer.outputs, layer.inputs), weights[bias:bias + layer.outputs]
        start = bias + layer.outputs


def _outputs(device: Device, x: Array, weights: Array, layers: Any) -> list[Array]:
    """h_0 .. h_L, where h_0 = x."""
    every = [x]
    for layer, weight, bias in _pieces(weights, layers):
        every.append(dense(device, every[-1], weight, bias, layer.activation, layer.slope))
    return every


def _descend(device: Device, v: Array, y: Array, layer: Any) -> Array:
    """v f'(a), where y = f(a)."""
    return v if layer.activation == "identity" else activation_grad_from_result(device, v, y, layer.activation, layer.slope)


def _curvature(device: Device, y: Array, layer: Any) -> Array | None:
    """f''(a), where y = f(a). None stands for 0."""
    if BY_NAME[layer.activation].is_piecewise_linear:
        return None
    return curvature_from_result(device, y, layer.activation, layer.slope)


def mlp(device: Device, x: Array, weights: Array, layers: Any) -> Array:
    """x (N, in) through dense layers and activations: (N, out)."""
    return _outputs(device, x, weights, layers)[-1]


def mlp_grad(device: Device, g: Array, x: Array, weights: Array, layers: Any, by: tuple[bool, bool]) -> Array:
    """For g (N, out), the gradients by x and by the weights, one after another. by: which of the two are wanted."""
    h, e, found = _outputs(device, x, weights, layers), g, []
    for index, (layer, weight, _) in reversed(list(enumerate(_pieces(weights, layers)))):
        e = _descend(device, e, h[index + 1], layer)
        if by[1]:
            found.append(dense_parameter_grads(device, h[index], e))
        if index or by[0]:
            e = matmul(device, e, weight)
    return device.xp.concatenate([*[e.reshape(-1)] * by[0], *reversed(found)])


def mlp_second(device: Device, h: Array, g: Array, x: Array, weights: Array, layers: Any, by: tuple[bool, bool]) -> Array:
    """The gradients by g, x and the weights of the inner product of h and `mlp_grad`, one after another."""
    split = x.size if by[0] else 0
    moved: list[Any] = [h[:split].reshape(x.shape) if by[0] else None]
    directions: list[Any] = [(None, None)] * len(layers)
    if by[1]:
        directions = [(weight, bias) for _, weight, bias in _pieces(h[split:], layers)]
    pieces, every, bent = list(_pieces(weights, layers)), _outputs(device, x, weights, layers), []
    for index, (layer, weight, _) in enumerate(pieces):
        direction, bias = directions[index]
        u = _sum(None if moved[-1] is None else matmul(device, moved[-1], weight.T),
                 None if direction is None else dense(device, every[index], direction, bias, "identity", 0.0))
        bent.append((u, _curvature(device, every[index + 1], layer)))
        moved.append(_descend(device, u, every[index + 1], layer))
    e, d, found = g, device.xp.zeros_like(g), []
    for index in reversed(range(len(layers))):
        (layer, weight, _), (u, curvature), y = pieces[index], bent[index], every[index + 1]
        d = _descend(device, d, y, layer)
        if curvature is not None:
            d = d + e * u * curvature
        e = _descend(device, e, y, layer)
        by_pieces = dense_parameter_grads(device, every[index], d)
        if moved[index] is not None:
            by_pieces[:weight.size] += matmul(device, e.T, moved[index]).reshape(-1)
        found.append(by_pieces)
        direction = directions[index][0]
        d = _sum(matmul(device, d, weight), None if direction is None else matmul(device, e, direction))
        if index:
            e = matmul(device, e, weight)
    return device.xp.concatenate([part.reshape(-1) for part in (moved[-1], d, *reversed(found))])


def _sum(a: Any, b: Any) -> Any:
    """a + b. None stands for 0."""
    return b if a is None else a if b is None else a + b
