"""The convolution triangle: three bilinear ops whose gradients are each other.

    conv2d               images x, weight w  ->  images y
    conv2d_input_grad    images y, weight w  ->  images x     (the transposed convolution is this one)
    conv2d_weight_grad   images x, images y  ->  weight w

For fixed sizes, sum(y * conv(x, w)) = sum(x * input_grad(y, w)) = sum(w * weight_grad(x, y)). So the gradients of these ops,
of any order, need no other op. `Geometry` holds the sizes, because the shapes of two inputs do not determine them.

`@Composite` marks the definition of a function, written in ops. `fusion/` may register a faster function that computes the
same up to rounding, and then this one runs. With `tg.fusion(False)` the definition runs.
"""
from __future__ import annotations

__all__ = ["Geometry", "conv2d", "conv2d_weight_grad", "conv_algorithm", "conv_transpose2d"]

from typing import Any

from tinygan.graph import op
from tinygan.making import weighted
from tinygan.ops.activations import activation as activate
from tinygan.ops.activations import checked_activation
from tinygan.ops.composite import Composite
from tinygan.ops.conv_geometry import (
    Geometry,
    Size,
    conv2d_geometry,
    conv_algorithm,
    conv_transpose2d_geometry,
    conv_weight_grad_geometry,
)
from tinygan.ops.elementwise import add
from tinygan.ops.shape import reshape

# The triangle


@op(saves=(0, 1))
def _conv2d(B: Any, x: Any, weight: Any, geometry: Geometry) -> Any:
    return B.conv2d(x, weight, geometry)


@_conv2d.vjp
def _(needs: Any, g: Any, x: Any, weight: Any, geometry: Geometry) -> Any:
    return (needs[0] and _conv2d_input_grad(g, weight, geometry=geometry),
            needs[1] and _conv2d_weight_grad(x, g, geometry=geometry))


@op(saves=(0, 1))
def _conv2d_input_grad(B: Any, y: Any, weight: Any, geometry: Geometry) -> Any:
    return B.conv2d_input_grad(y, weight, geometry)


@_conv2d_input_grad.vjp
def _(needs: Any, g: Any, y: Any, weight: Any, geometry: Geometry) -> Any:
    return (needs[0] and _conv2d(g, weight, geometry=geometry),
            needs[1] and _conv2d_weight_grad(g, y, geometry=geometry))


@op(saves=(0, 1))
def _conv2d_weight_grad(B: Any, x: Any, y: Any, geometry: Geometry) -> Any:
    return B.conv2d_weight_grad(x, y, geometry)


@_conv2d_weight_grad.vjp
def _(needs: Any, g: Any, x: Any, y: Any, geometry: Geometry) -> Any:
    return (needs[0] and _conv2d_input_grad(y, g, geometry=geometry),
            needs[1] and _conv2d(x, g, geometry=geometry))


# With a bias and an activation


@Composite
def convolution(x: Any, weight: Any, bias: Any, geometry: Geometry, activation: str, slope: float) -> Any:
    """activation(conv2d(x, weight) + bias); bias (K,) or None."""
    return _with_bias_and_activation(_conv2d(x, weight, geometry=geometry), bias, activation, slope)


@Composite
def transposed_convolution(y: Any, weight: Any, bias: Any, geometry: Geometry, activation: str, slope: float) -> Any:
    """activation(conv2d_input_grad(y, weight) + bias); bias (C,) or None."""
    return _with_bias_and_activation(_conv2d_input_grad(y, weight, geometry=geometry), bias, activation, slope)


def _with_bias_and_activation(y: Any, bias: Any, activation: str, slope: float) -> Any:
    if bias is not None:
        y = add(y, reshape(bias, (1, -1, 1, 1)))
    return activate(y, activation, slope)


# What a user calls


@weighted
def conv2d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size | str = 0, dilation: Size = 1,
           groups: int = 1, activation: str = "identity", slope: float = 0.2) -> Any:
    """activation(x * weight + bias), where * is cross-correlation, as in PyTorch.

    x (N, C, H, W), weight (K, C / groups, kH, kW), bias (K,) or None -> (N, K, OH, OW), with
    OH = (H + 2 padding - dilation (kH - 1) - 1) // stride + 1.

    stride, padding, dilation: one number or (vertical, horizontal). padding may also be "valid" (none) or "same" (the output
    has the input's size; stride 1 only). activation, slope: as for `dense`. Raises ValueError for sizes that don't fit.
    """
    x, geometry = conv2d_geometry(x, weight, bias, stride, padding, dilation, groups)
    checked_activation("conv2d", activation, slope)
    return convolution(x, weight, bias, geometry, activation, slope)


@weighted
def conv_transpose2d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size = 0, output_padding: Size = 0,
                     groups: int = 1, dilation: Size = 1, activation: str = "identity", slope: float = 0.2) -> Any:
    """The transposed convolution, as in PyTorch: activation(y + bias), where y is the adjoint of `conv2d` applied to x.

    x (N, C, H, W), weight (C, K / groups, kH, kW), bias (K,) or None -> (N, K, OH, OW), with
    OH = (H - 1) stride - 2 padding + dilation (kH - 1) + output_padding + 1.

    output_padding: how many rows and columns to add at the end. A strided convolution from the output back to x's size does
    not reach them. It must be less than stride or dilation. The other arguments are those of `conv2d`.
    """
    geometry = conv_transpose2d_geometry(x, weight, bias, stride, padding, output_padding, groups, dilation)
    checked_activation("conv_transpose2d", activation, slope)
    return transposed_convolution(x, weight, bias, geometry, activation, slope)


def conv2d_weight_grad(x: Any, y: Any, kernel_size: Size, stride: Size = 1, padding: Size = 0, dilation: Size = 1,
                       groups: int = 1) -> Any:
    """The gradient of `conv2d`'s weight: the convolution's input x (N, C, H, W) and the gradient y (N, K, OH, OW) of its
    output -> (K, C / groups, kH, kW). It is bilinear, and differentiable in x and y."""
    geometry = conv_weight_grad_geometry(x, y, kernel_size, stride, padding, dilation, groups)
    return _conv2d_weight_grad(x, y, geometry=geometry)
