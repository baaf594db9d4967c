"""Convolutions with their bias and activation as one op. And convolutions that also measure the mean and the variance of
each channel of their result, for a batch normalisation after them."""
from __future__ import annotations

__all__ = ["Measured", "measured_convolution", "measured_transposed_convolution"]

from typing import Any, NamedTuple

from tinygan.backends import Array
from tinygan.fusion.activations import split
from tinygan.fusion.batch_norm import empty_statistics
from tinygan.graph import OUT, op
from tinygan.ops.activations import activation as activate
from tinygan.ops.activations import activation_grad
from tinygan.ops.conv import (
    _conv2d,
    _conv2d_input_grad,
    _conv2d_weight_grad,
    convolution,
    transposed_convolution,
)
from tinygan.ops.conv_geometry import Geometry
from tinygan.ops.reduce import sum as sum_over

# With bias and activation. `statistics`: two arrays (channels,) for the mean and the biased variance of the result, or None.


@op(saves=(0, 1, 2, OUT))  # (the bias is for `slopes`)
def _conv2d_fused(B: Any, x: Any, weight: Any, bias: Any, geometry: Geometry, activation: str, slope: float,
                  statistics: Any = None) -> Any:
    return B.conv2d(x, weight, geometry, bias, activation, slope, statistics)


@_conv2d_fused.vjp
def _(needs: Any, g: Any, x: Any, weight: Any, bias: Any, y: Any, geometry: Geometry, activation: str, slope: float,
      statistics: Any = None) -> Any:
    if activation != "identity":
        g = activation_grad(g, y, activation=activation, slope=slope)
    return (needs[0] and _conv2d_input_grad(g, weight, geometry=geometry),
            needs[1] and _conv2d_weight_grad(x, g, geometry=geometry), needs[2] and sum_over(g, (0, 2, 3)))


@op(saves=(0, 1, OUT))
def _conv_transpose2d_fused(B: Any, y: Any, weight: Any, bias: Any, geometry: Geometry, activation: str, slope: float,
                            statistics: Any = None) -> Any:
    return B.conv2d_input_grad(y, weight, geometry, bias, activation, slope, statistics)


@_conv_transpose2d_fused.vjp
def _(needs: Any, g: Any, y: Any, weight: Any, out: Any, geometry: Geometry, activation: str, slope: float,
      statistics: Any = None) -> Any:
    if activation != "identity":
        g = activation_grad(g, out, activation=activation, slope=slope)
    return (needs[0] and _conv2d(g, weight, geometry=geometry),
            needs[1] and _conv2d_weight_grad(g, y, geometry=geometry), needs[2] and sum_over(g, (0, 2, 3)))


@convolution.fused
def _(x: Any, weight: Any, bias: Any, geometry: Geometry, activation: str, slope: float) -> Any:
    if bias is None:
        return activate(_conv2d(x, weight, geometry=geometry), activation, slope)
    within, after = split(activation)
    y = _conv2d_fused(x, weight, bias, geometry=geometry, activation=within, slope=float(slope))
    return y if after == "identity" else activate(y, after, slope)


@transposed_convolution.fused
def _(y: Any, weight: Any, bias: Any, geometry: Geometry, activation: str, slope: float) -> Any:
    if bias is None:
        return activate(_conv2d_input_grad(y, weight, geometry=geometry), activation, slope)
    within, after = split(activation)
    x = _conv_transpose2d_fused(y, weight, bias, geometry=geometry, activation=within, slope=float(slope))
    return x if after == "identity" else activate(x, after, slope)


# With statistics


@op(saves=(0, 1))
def _conv2d_measured(B: Any, x: Any, weight: Any, geometry: Geometry, statistics: Any) -> Any:
    return B.conv2d(x, weight, geometry, statistics=statistics)


@_conv2d_measured.vjp
def _(needs: Any, g: Any, x: Any, weight: Any, geometry: Geometry, statistics: Any) -> Any:
    return (needs[0] and _conv2d_input_grad(g, weight, geometry=geometry),
            needs[1] and _conv2d_weight_grad(x, g, geometry=geometry))


@op(saves=(0, 1))
def _conv_transpose2d_measured(B: Any, y: Any, weight: Any, geometry: Geometry, statistics: Any) -> Any:
    return B.conv2d_input_grad(y, weight, geometry, statistics=statistics)


@_conv_transpose2d_measured.vjp
def _(needs: Any, g: Any, y: Any, weight: Any, geometry: Geometry, statistics: Any) -> Any:
    return (needs[0] and _conv2d(g, weight, geometry=geometry),
            needs[1] and _conv2d_weight_grad(g, y, geometry=geometry))


class Measured(NamedTuple):
    """A convolution's result (N, C, H, W), and the mean and the biased variance (C,) of its channels."""

    y: Any
    mean: Array
    variance: Array


def measured_convolution(x: Any, weight: Any, bias: Any, geometry: Geometry) -> Measured:
    """conv2d(x, weight) + bias, and its statistics; bias (K,) or None."""
    statistics = empty_statistics(x, weight.shape[0])
    if bias is None:
        y = _conv2d_measured(x, weight, geometry=geometry, statistics=statistics)
    else:
        y = _conv2d_fused(x, weight, bias, geometry=geometry, activation="identity", slope=0.0, statistics=statistics)
    return Measured(y, *statistics)


def measured_transposed_convolution(y: Any, weight: Any, bias: Any, geometry: Geometry) -> Measured:
    """The adjoint of conv2d, plus bias, and its statistics; bias (C,) or None."""
    statistics = empty_statistics(y, weight.shape[1] * geometry.groups)
    if bias is None:
        x = _conv_transpose2d_measured(y, weight, geometry=geometry, statistics=statistics)
    else:
        x = _conv_transpose2d_fused(y, weight, bias, geometry=geometry, activation="identity", slope=0.0,
                                    statistics=statistics)
    return Measured(x, *statistics)
