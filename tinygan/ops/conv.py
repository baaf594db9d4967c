"""The convolution triangle: three bilinear ops whose gradients are each other.

    conv2d               images x, weight w  ->  images y
    conv2d_input_grad    images y, weight w  ->  images x     (the transposed convolution is this one)
    conv2d_weight_grad   images x, images y  ->  weight w

For fixed sizes, sum(y * conv(x, w)) = sum(x * input_grad(y, w)) = sum(w * weight_grad(x, y)); hence their gradients, of
any order, need nothing else. `Geometry` holds the sizes, which the result's shape alone would not tell.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tinygan.context import CONTEXT, override
from tinygan.graph import OUT, op
from tinygan.ops.activations import activation as activate
from tinygan.ops.activations import activation_grad, checked_activation
from tinygan.ops.reduce import sum as sum_over
from tinygan.ops.shape import pad
from tinygan.tensor import shape_of

Pair = tuple[int, int]
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
    ones by up to about 3e-5 of the largest element (direct: 1e-6), however small an element itself is.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"conv_algorithm: unknown algorithm {name!r}, expected one of {', '.join(ALGORITHMS)}")
    return override(conv_algorithm=name)


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


# With bias and activation in the same pass


@op(saves=(0, 1, OUT))
def _conv2d_fused(B: Any, x: Any, weight: Any, bias: Any, geometry: Geometry, activation: str, slope: float) -> Any:
    return B.conv2d(x, weight, geometry, bias, activation, slope)


@_conv2d_fused.vjp
def _(needs: Any, g: Any, x: Any, weight: Any, y: Any, geometry: Geometry, activation: str, slope: float) -> Any:
    if activation != "identity":
        g = activation_grad(g, y, activation=activation, slope=slope)
    return (needs[0] and _conv2d_input_grad(g, weight, geometry=geometry),
            needs[1] and _conv2d_weight_grad(x, g, geometry=geometry), needs[2] and sum_over(g, (0, 2, 3)))


@op(saves=(0, 1, OUT))
def _conv_transpose2d_fused(B: Any, y: Any, weight: Any, bias: Any, geometry: Geometry, activation: str,
                            slope: float) -> Any:
    return B.conv2d_input_grad(y, weight, geometry, bias, activation, slope)


@_conv_transpose2d_fused.vjp
def _(needs: Any, g: Any, y: Any, weight: Any, out: Any, geometry: Geometry, activation: str, slope: float) -> Any:
    if activation != "identity":
        g = activation_grad(g, out, activation=activation, slope=slope)
    return (needs[0] and _conv2d(g, weight, geometry=geometry),
            needs[1] and _conv2d_weight_grad(g, y, geometry=geometry), needs[2] and sum_over(g, (0, 2, 3)))


# What a user calls


def conv2d(x: Any, weight: Any, bias: Any = None, stride: int | Sequence[int] = 1, padding: int | str | Sequence[int] = 0,
           dilation: int | Sequence[int] = 1, groups: int = 1, activation: str = "identity", slope: float = 0.2) -> Any:
    """activation(x * weight + bias), * the cross-correlation, as in PyTorch: x (N, C, H, W), weight (K, C / groups, kH, kW),
    bias (K,) or None -> (N, K, OH, OW), OH = (H + 2 padding - dilation (kH - 1) - 1) // stride + 1.

    stride, padding, dilation: one number or (vertical, horizontal); padding may be "valid" (none) or "same" (the
    output has the input's size; stride 1). activation: as for `dense`. Raises ValueError for sizes that don't fit.
    """
    name = "conv2d"
    _, channels, height, width = _image_shape(name, "input", x)
    kernels, per_group, *kernel = _image_shape(name, "weight", weight)
    _check_groups(name, groups, kernels, "kernels", x, weight)
    if channels != per_group * groups:
        raise ValueError(f"{name}: input has {channels} channels, weight expects {per_group * groups}{_shapes(x, weight)}")
    _check_kernel(name, kernel, x, weight)
    stride, dilation = _pair(name, "stride", stride, 1), _pair(name, "dilation", dilation, 1)
    if isinstance(padding, str):
        x, padding = _named_padding(padding, x, kernel, stride, dilation)
        height, width = x.shape[2:]
    padding = _pair(name, "padding", padding, 0)
    output = []
    for i, size in enumerate((height, width)):
        room = size + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1
        if room < 0:
            raise ValueError(f"{name}: the kernel is larger than the input with its padding of {padding}"
                             f"{_shapes(x, weight)}")
        output.append(room // stride[i] + 1)
    geometry = Geometry((height, width), _two(kernel), _two(output), stride, padding, dilation, groups,
                        CONTEXT.get().conv_algorithm)
    return _with_bias(name, _conv2d, _conv2d_fused, x, weight, bias, kernels, geometry, activation, slope)


def conv_transpose2d(x: Any, weight: Any, bias: Any = None, stride: int | Sequence[int] = 1,
                     padding: int | Sequence[int] = 0, output_padding: int | Sequence[int] = 0, groups: int = 1,
                     dilation: int | Sequence[int] = 1, activation: str = "identity", slope: float = 0.2) -> Any:
    """The transposed convolution, activation(adjoint of conv2d + bias), as in PyTorch: x (N, C, H, W), weight
    (C, K / groups, kH, kW), bias (K,) or None -> (N, K, OH, OW), with
    OH = (H - 1) stride - 2 padding + dilation (kH - 1) + output_padding + 1.

    output_padding: rows and columns that a strided convolution to x's size would have passed over; less than stride or
    dilation. The rest as for `conv2d`.
    """
    name = "conv_transpose2d"
    _, channels, height, width = _image_shape(name, "input", x)
    rows, per_group, *kernel = _image_shape(name, "weight", weight)
    _check_groups(name, groups, rows, "input channels", x, weight)
    if channels != rows:
        raise ValueError(f"{name}: input has {channels} channels, weight expects {rows}{_shapes(x, weight)}")
    _check_kernel(name, kernel, x, weight)
    stride, dilation = _pair(name, "stride", stride, 1), _pair(name, "dilation", dilation, 1)
    padding, extra = _pair(name, "padding", padding, 0), _pair(name, "output_padding", output_padding, 0)
    output = []
    for i, size in enumerate((height, width)):
        if extra[i] >= max(stride[i], dilation[i]):
            raise ValueError(f"{name}: output_padding {extra} should be smaller than stride {stride} or dilation {dilation}"
                             f"{_shapes(x, weight)}")
        output.append((size - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1)
    if min(output) < 1:
        raise ValueError(f"{name}: nothing is left of the output, {output[0]} x {output[1]}{_shapes(x, weight)}")
    geometry = Geometry(_two(output), _two(kernel), (height, width), stride, padding, dilation, groups,
                        CONTEXT.get().conv_algorithm)
    return _with_bias(name, _conv2d_input_grad, _conv_transpose2d_fused, x, weight, bias, per_group * groups, geometry,
                      activation, slope)


def conv2d_weight_grad(x: Any, y: Any, kernel_size: int | Sequence[int], stride: int | Sequence[int] = 1,
                       padding: int | Sequence[int] = 0, dilation: int | Sequence[int] = 1, groups: int = 1) -> Any:
    """The gradient of `conv2d`'s weight: the input x (N, C, H, W) of the convolution and the gradient y (N, K, OH, OW) of
    its output -> (K, C / groups, kH, kW). It is bilinear, and itself differentiable in both."""
    name = "conv2d_weight_grad"
    n, channels, *size = _image_shape(name, "input", x)
    m, kernels, *output = _image_shape(name, "output's gradient", y)
    kernel, stride = _pair(name, "kernel_size", kernel_size, 1), _pair(name, "stride", stride, 1)
    padding, dilation = _pair(name, "padding", padding, 0), _pair(name, "dilation", dilation, 1)
    if not isinstance(groups, int) or groups < 1 or channels % groups or kernels % groups:
        raise ValueError(f"{name}: groups ({groups}) should divide both numbers of channels (input {x.shape}, "
                         f"output's gradient {y.shape})")
    expected = [(size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    if n != m or expected != list(output) or min(expected) < 1:
        raise ValueError(f"{name}: the output's gradient should be ({n}, K, {expected[0]}, {expected[1]}) (input {x.shape}, "
                         f"output's gradient {y.shape})")
    geometry = Geometry(_two(size), kernel, _two(output), stride, padding, dilation, groups, CONTEXT.get().conv_algorithm)
    return _conv2d_weight_grad(x, y, geometry=geometry)


def _with_bias(name: str, plain: Any, fused: Any, x: Any, weight: Any, bias: Any, channels: int, geometry: Geometry,
               activation: str, slope: float) -> Any:
    checked_activation(name, activation, slope)
    if bias is None:
        return activate(plain(x, weight, geometry=geometry), activation, slope)
    if shape_of(name, bias) != (channels,):
        raise ValueError(f"{name}: bias has shape {bias.shape}, expected ({channels},){_shapes(x, weight)}")
    return fused(x, weight, bias, geometry=geometry, activation=activation, slope=float(slope))


def _named_padding(padding: str, x: Any, kernel: Sequence[int], stride: Pair, dilation: Pair) -> tuple[Any, Pair]:
    """The (padded) input and what to pad it by further. "same" pads one more at the end where it can't halve."""
    if padding not in ("same", "valid"):
        raise ValueError(f'conv2d: unknown padding {padding!r}, expected numbers, "same" or "valid"')
    if padding == "valid":
        return x, (0, 0)
    if stride != (1, 1):
        raise ValueError(f'conv2d: padding "same" needs stride 1, got {stride}')
    total = [dilation[i] * (kernel[i] - 1) for i in (0, 1)]
    half = (total[0] // 2, total[1] // 2)
    if total[0] % 2 or total[1] % 2:
        x = pad(x, ((0, 0), (0, 0), (0, total[0] % 2), (0, total[1] % 2)))
    return x, half


def _image_shape(name: str, what: str, x: Any) -> tuple[int, ...]:
    shape = shape_of(name, x)
    if len(shape) != 4:
        axes = "(N, C, H, W)" if what != "weight" else "(channels, channels, kH, kW)"
        raise ValueError(f"{name}: {what} should have four axes, {axes}, got shape {shape}")
    return shape


def _check_groups(name: str, groups: int, channels: int, what: str, x: Any, weight: Any) -> None:
    if not isinstance(groups, int) or groups < 1 or channels % groups:
        raise ValueError(f"{name}: groups should divide the {channels} {what}, got {groups}{_shapes(x, weight)}")


def _check_kernel(name: str, kernel: Sequence[int], x: Any, weight: Any) -> None:
    if min(kernel) < 1:
        raise ValueError(f"{name}: the kernel has no element{_shapes(x, weight)}")


def _shapes(x: Any, weight: Any) -> str:
    return f" (input {x.shape}, weight {weight.shape})"


def _two(values: Sequence[int]) -> Pair:
    return int(values[0]), int(values[1])


def _pair(name: str, what: str, value: Any, least: int) -> Pair:
    """One whole number for both directions, or two."""
    values = [value, value] if not isinstance(value, Sequence) else list(value) * (2 if len(value) == 1 else 1)
    try:
        whole = [int(v) for v in values if int(v) == v]
    except (TypeError, ValueError):
        whole = []
    if len(whole) != 2 or len(values) != 2 or min(whole) < least:
        raise ValueError(f"{name}: {what} should be one or two whole numbers, {least} or more, got {value!r}")
    return whole[0], whole[1]
