"""The convolution triangle: three bilinear ops whose gradients are each other.

    conv2d               images x, weight w  ->  images y
    conv2d_input_grad    images y, weight w  ->  images x     (the transposed convolution is this one)
    conv2d_weight_grad   images x, images y  ->  weight w

For fixed sizes, sum(y * conv(x, w)) = sum(x * input_grad(y, w)) = sum(w * weight_grad(x, y)); hence their gradients, of
any order, need nothing else. `Geometry` holds the sizes, which the result's shape alone would not tell.
"""
from __future__ import annotations

__all__ = ["Geometry", "conv2d", "conv2d_weight_grad", "conv_algorithm", "conv_transpose2d"]

from collections.abc import Sequence
from typing import Any, NamedTuple

from tinygan.context import CONTEXT, override
from tinygan.graph import OUT, op
from tinygan.ops.activations import activation as activate
from tinygan.ops.activations import activation_grad, checked_activation, split_activation
from tinygan.ops.normalization import Statistics, check_statistics
from tinygan.ops.reduce import sum as sum_over
from tinygan.ops.shape import pad
from tinygan.ops.windows import Pair, is_whole, pair, two
from tinygan.tensor import Tensor, shape_of
from tinygan.versions import Version

ALGORITHMS = ("auto", "direct", "tiled")


class Geometry(NamedTuple):
    """The sizes of a convolution, each (vertical, horizontal), and how many groups its channels fall into."""

    input: Pair
    kernel: Pair
    output: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    algorithm: str = "auto"


def conv_algorithm(name: str) -> Any:
    """`with conv_algorithm("direct"):` how the convolutions of the body are computed, and their gradients whenever.

    "auto" (the default) chooses by shape. "direct" multiplies and adds as the definition has it. "tiled" splits strided
    convolutions into phases and multiplies transformed tiles (Winograd 1980; Lavin, Gray 2016), with fewer products;
    what it does not serve (dilation, groups, some kernels) goes on being direct. Its float32 results differ from exact
    ones by up to 6e-5 of the largest element for 64 channels (direct: 2e-6; see `kernels.tiles.ERRORS`), however small an
    element is, and by about the square root more for more channels; a NaN or an infinity spreads over its tile.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"conv_algorithm: unknown algorithm {name!r}, expected one of {', '.join(ALGORITHMS)}")
    return override(conv_algorithm=name)


# `version` is that of a weight which is a Parameter: what a backend derives from its values it may keep as long as the
# version's count stays.


@op(saves=(0, 1))
def _conv2d(B: Any, x: Any, weight: Any, geometry: Geometry, version: Version | None = None,
            statistics: Statistics | None = None) -> Any:
    return B.conv2d(x, weight, geometry, version, statistics=statistics)


@_conv2d.vjp
def _(needs: Any, g: Any, x: Any, weight: Any, geometry: Geometry, version: Version | None = None,
      statistics: Statistics | None = None) -> Any:
    return (needs[0] and _conv2d_input_grad(g, weight, geometry=geometry, version=version),
            needs[1] and _conv2d_weight_grad(x, g, geometry=geometry))


@op(saves=(0, 1))
def _conv2d_input_grad(B: Any, y: Any, weight: Any, geometry: Geometry, version: Version | None = None,
                       statistics: Statistics | None = None) -> Any:
    return B.conv2d_input_grad(y, weight, geometry, version, statistics=statistics)


@_conv2d_input_grad.vjp
def _(needs: Any, g: Any, y: Any, weight: Any, geometry: Geometry, version: Version | None = None,
      statistics: Statistics | None = None) -> Any:
    return (needs[0] and _conv2d(g, weight, geometry=geometry, version=version),
            needs[1] and _conv2d_weight_grad(g, y, geometry=geometry))


@op(saves=(0, 1))
def _conv2d_weight_grad(B: Any, x: Any, y: Any, geometry: Geometry) -> Any:
    return B.conv2d_weight_grad(x, y, geometry)


@_conv2d_weight_grad.vjp
def _(needs: Any, g: Any, x: Any, y: Any, geometry: Geometry) -> Any:
    return (needs[0] and _conv2d_input_grad(y, g, geometry=geometry),
            needs[1] and _conv2d(x, g, geometry=geometry))


# With bias and activation in the same pass


@op(saves=(0, 1, OUT))
def _conv2d_fused(B: Any, x: Any, weight: Any, bias: Any, geometry: Geometry, version: Version | None, activation: str,
                  slope: float, statistics: Statistics | None) -> Any:
    return B.conv2d(x, weight, geometry, version, bias, activation, slope, statistics)


@_conv2d_fused.vjp
def _(needs: Any, g: Any, x: Any, weight: Any, y: Any, geometry: Geometry, version: Version | None, activation: str,
      slope: float, statistics: Statistics | None) -> Any:
    if activation != "identity":
        g = activation_grad(g, y, activation=activation, slope=slope)
    return (needs[0] and _conv2d_input_grad(g, weight, geometry=geometry, version=version),
            needs[1] and _conv2d_weight_grad(x, g, geometry=geometry), needs[2] and sum_over(g, (0, 2, 3)))


@op(saves=(0, 1, OUT))
def _conv_transpose2d_fused(B: Any, y: Any, weight: Any, bias: Any, geometry: Geometry, version: Version | None,
                            activation: str, slope: float, statistics: Statistics | None) -> Any:
    return B.conv2d_input_grad(y, weight, geometry, version, bias, activation, slope, statistics)


@_conv_transpose2d_fused.vjp
def _(needs: Any, g: Any, y: Any, weight: Any, out: Any, geometry: Geometry, version: Version | None, activation: str,
      slope: float, statistics: Statistics | None) -> Any:
    if activation != "identity":
        g = activation_grad(g, out, activation=activation, slope=slope)
    return (needs[0] and _conv2d(g, weight, geometry=geometry, version=version),
            needs[1] and _conv2d_weight_grad(g, y, geometry=geometry), needs[2] and sum_over(g, (0, 2, 3)))


# What a user calls


def conv2d(x: Any, weight: Any, bias: Any = None, stride: int | Sequence[int] = 1, padding: int | str | Sequence[int] = 0,
           dilation: int | Sequence[int] = 1, groups: int = 1, activation: str = "identity", slope: float = 0.2,
           statistics: Statistics | None = None) -> Any:
    """activation(x * weight + bias), * the cross-correlation, as in PyTorch: x (N, C, H, W), weight (K, C / groups, kH, kW),
    bias (K,) or None -> (N, K, OH, OW), OH = (H + 2 padding - dilation (kH - 1) - 1) // stride + 1.

    stride, padding, dilation: one number or (vertical, horizontal); padding may be "valid" (none) or "same" (the
    output has the input's size; stride 1). activation: as for `dense`. statistics: two arrays (K,) of the result's dtype,
    into which the mean and the (biased) variance of each of its channels are written, for a `batch_norm` that follows; it
    has no activation then. Raises ValueError for sizes that don't fit.
    """
    name = "conv2d"
    (n, channels, *size), (kernels, per_group, *kernel), shapes = _two_images(name, x, weight, "weight")
    groups = _checked_groups(name, groups, kernels, "kernels", shapes)
    if channels != per_group * groups:
        raise ValueError(f"{name}: input has {channels} channels, weight expects {per_group * groups}{shapes}")
    kernel_size = pair(name, "the weight's kernel", kernel, 1, shapes)
    stride, dilation = pair(name, "stride", stride, 1, shapes), pair(name, "dilation", dilation, 1, shapes)
    if isinstance(padding, str):
        x, padding = _named_padding(name, padding, x, kernel_size, stride, dilation, shapes)
        size = x.shape[2:]
    padding = pair(name, "padding", padding, 0, shapes)
    if not min(size) and n and channels:  # an image of padding only
        raise ValueError(f"{name}: the images hold no pixel{shapes}")
    output = _output_size(size, kernel_size, stride, padding, dilation)
    if min(output) < 1:
        raise ValueError(f"{name}: the kernel is larger than the input with its padding of {padding}{shapes}")
    geometry = Geometry(two(size), kernel_size, output, stride, padding, dilation, groups, CONTEXT.get().conv_algorithm)
    return _with_bias(name, _conv2d, _conv2d_fused, x, weight, bias, kernels, geometry, activation, slope, statistics,
                      shapes)


def conv_transpose2d(x: Any, weight: Any, bias: Any = None, stride: int | Sequence[int] = 1,
                     padding: int | Sequence[int] = 0, output_padding: int | Sequence[int] = 0, groups: int = 1,
                     dilation: int | Sequence[int] = 1, activation: str = "identity", slope: float = 0.2,
                     statistics: Statistics | None = None) -> Any:
    """The transposed convolution, activation(adjoint of conv2d + bias), as in PyTorch: x (N, C, H, W), weight
    (C, K / groups, kH, kW), bias (K,) or None -> (N, K, OH, OW), with
    OH = (H - 1) stride - 2 padding + dilation (kH - 1) + output_padding + 1.

    output_padding: rows and columns that a strided convolution to x's size would have passed over; less than stride or
    dilation. The rest as for `conv2d`.
    """
    name = "conv_transpose2d"
    (n, channels, *size), (rows, per_group, *kernel), shapes = _two_images(name, x, weight, "weight")
    groups = _checked_groups(name, groups, rows, "input channels", shapes)
    if channels != rows:
        raise ValueError(f"{name}: input has {channels} channels, weight expects {rows}{shapes}")
    if not per_group:
        raise ValueError(f"{name}: the weight makes no channel{shapes}")
    kernel_size = pair(name, "the weight's kernel", kernel, 1, shapes)
    stride, dilation = pair(name, "stride", stride, 1, shapes), pair(name, "dilation", dilation, 1, shapes)
    padding, extra = pair(name, "padding", padding, 0, shapes), pair(name, "output_padding", output_padding, 0, shapes)
    if any(extra[i] >= max(stride[i], dilation[i]) for i in (0, 1)):
        raise ValueError(f"{name}: output_padding {extra} should be smaller than stride {stride} or dilation {dilation}"
                         f"{shapes}")
    output = two([(size[i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1
                   for i in (0, 1)])
    if min(*size, *output) < (1 if n else 0):  # of no images, even of size zero, nothing is left
        raise ValueError(f"{name}: expected a pixel or more, got an input of {size[0]} x {size[1]} and an output of "
                         f"{output[0]} x {output[1]}{shapes}")
    geometry = Geometry(output, kernel_size, two(size), stride, padding, dilation, groups, CONTEXT.get().conv_algorithm)
    return _with_bias(name, _conv2d_input_grad, _conv_transpose2d_fused, x, weight, bias, per_group * groups, geometry,
                      activation, slope, statistics, shapes)


def conv2d_weight_grad(x: Any, y: Any, kernel_size: int | Sequence[int], stride: int | Sequence[int] = 1,
                       padding: int | Sequence[int] = 0, dilation: int | Sequence[int] = 1, groups: int = 1) -> Any:
    """The gradient of `conv2d`'s weight: the input x (N, C, H, W) of the convolution and the gradient y (N, K, OH, OW) of
    its output -> (K, C / groups, kH, kW). It is bilinear, and itself differentiable in both."""
    name = "conv2d_weight_grad"
    (n, channels, *size), (m, kernels, *given), shapes = _two_images(name, x, y, "output's gradient")
    kernel, stride = pair(name, "kernel_size", kernel_size, 1, shapes), pair(name, "stride", stride, 1, shapes)
    padding, dilation = pair(name, "padding", padding, 0, shapes), pair(name, "dilation", dilation, 1, shapes)
    groups = _checked_groups(name, groups, kernels, "channels of the output", shapes)
    if channels % groups:
        raise ValueError(f"{name}: groups should divide the {channels} channels of the input, got {groups}{shapes}")
    output = _output_size(size, kernel, stride, padding, dilation)
    if min(output) < 1:
        raise ValueError(f"{name}: the kernel {kernel} is larger than the input with its padding of {padding}{shapes}")
    if n != m or list(output) != given:
        raise ValueError(f"{name}: the output's gradient should be of shape ({n}, K, {output[0]}, {output[1]}){shapes}")
    geometry = Geometry(two(size), kernel, output, stride, padding, dilation, groups, CONTEXT.get().conv_algorithm)
    return _conv2d_weight_grad(x, y, geometry=geometry)


def _with_bias(name: str, plain: Any, fused: Any, x: Any, weight: Any, bias: Any, channels: int, geometry: Geometry,
               activation: str, slope: float, statistics: Statistics | None, shapes: str) -> Any:
    checked_activation(name, activation, slope)
    if statistics is not None:
        check_statistics(name, statistics, channels, x.dtype, shapes)
        if activation != "identity":
            raise ValueError(f"{name}: statistics are those of the convolution; apply {activation} after the normalisation")
    version = weight.version if isinstance(weight, Tensor) else None
    if bias is None:
        return activate(plain(x, weight, geometry=geometry, version=version, statistics=statistics), activation, slope)
    if shape_of(name, bias) != (channels,):
        raise ValueError(f"{name}: bias has shape {bias.shape}, expected ({channels},){shapes}")
    within, after = split_activation(activation)
    return activate(fused(x, weight, bias, geometry=geometry, version=version, activation=within, slope=float(slope),
                          statistics=statistics), after, slope)


def _named_padding(name: str, padding: str, x: Any, kernel: Pair, stride: Pair, dilation: Pair,
                   shapes: str) -> tuple[Any, Pair]:
    """The (padded) input and what to pad it by further. "same" pads one more at the end where it can't halve."""
    if padding not in ("same", "valid"):
        raise ValueError(f'{name}: unknown padding {padding!r}, expected numbers, "same" or "valid"{shapes}')
    if padding == "valid":
        return x, (0, 0)
    if stride != (1, 1):
        raise ValueError(f'{name}: padding "same" needs stride 1, got {stride}{shapes}')
    total = [dilation[i] * (kernel[i] - 1) for i in (0, 1)]
    if total[0] % 2 or total[1] % 2:
        x = pad(x, ((0, 0), (0, 0), (0, total[0] % 2), (0, total[1] % 2)))
    return x, (total[0] // 2, total[1] // 2)


def _output_size(size: Sequence[int], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """Of a convolution; less than 1 where the kernel does not fit."""
    return two([(size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)])


def _two_images(name: str, x: Any, other: Any, what: str) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """Two shapes of four axes each, and how errors quote them."""
    first, second = shape_of(name, x), shape_of(name, other)
    shapes = f" (input {first}, {what} {second})"
    if len(first) != 4 or len(second) != 4:
        raise ValueError(f"{name}: input and {what} should have four axes each, (N, C, H, W) and "
                         f"({'K, C' if what == 'weight' else 'N, K'}, height, width){shapes}")
    return first, second, shapes


def _checked_groups(name: str, groups: int, channels: int, what: str, shapes: str) -> int:
    if not is_whole(groups) or groups < 1 or channels < 1 or channels % groups:
        raise ValueError(f"{name}: groups should be 1 or more and divide the {channels} {what}, of which there should be "
                         f"one or more, got {groups}{shapes}")
    return int(groups)
