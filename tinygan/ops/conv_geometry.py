"""The sizes of a convolution: computed from the arguments that a user gives, and checked."""
from __future__ import annotations

__all__ = ["Geometry", "conv2d_geometry", "conv_algorithm", "conv_transpose2d_geometry", "conv_weight_grad_geometry"]

from collections.abc import Sequence
from typing import Any, NamedTuple

from tinygan.context import CONTEXT, override
from tinygan.ops.padding import pad
from tinygan.ops.windows import Pair, is_whole, pair, two
from tinygan.tensor import shape_of

ALGORITHMS = ("auto", "direct", "tiled")

Size = int | Sequence[int]


class Geometry(NamedTuple):
    """The sizes of a convolution, each (vertical, horizontal), and the number of groups that its channels form."""

    input: Pair
    kernel: Pair
    output: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    algorithm: str = "auto"


def conv_algorithm(name: str) -> Any:
    """`with conv_algorithm("direct"):` chooses how the convolutions in the body, and their gradients, are computed.

    "auto" (the default) chooses by shape. "direct" multiplies and adds as the definition says. "tiled" splits strided
    convolutions into phases and multiplies transformed tiles (Winograd 1980; Lavin, Gray 2016), which takes fewer
    multiplications. Convolutions with dilation and with some kernels stay direct; with groups, those on a GPU do, and on the
    CPU all but those of at most 32 channels with kernels of 3x3 and stride 1. The error of "tiled" in float32, even of a
    small element, is up to 6e-5 of the largest element for 64 channels (direct: 2e-6; see `kernels.winograd.ERRORS`). It
    grows with the square root of the number of channels. A NaN or an infinity spreads over its tile.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"conv_algorithm: unknown algorithm {name!r}, expected one of {', '.join(ALGORITHMS)}")
    return override(conv_algorithm=name)


def conv2d_geometry(x: Any, weight: Any, bias: Any, stride: Size, padding: Size | str, dilation: Size,
                    groups: int) -> tuple[Any, Geometry]:
    """The input and the geometry of a convolution. The input has the row or column that padding="same" adds to one side."""
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
    if not min(size) and n and channels:  # the images would be padding only
        raise ValueError(f"{name}: the images have no pixels{shapes}")
    output = _output_size(size, kernel_size, stride, padding, dilation)
    if min(output) < 1:
        raise ValueError(f"{name}: the kernel is larger than the input with its padding of {padding}{shapes}")
    _check_bias(name, bias, kernels, shapes)
    return x, Geometry(two(size), kernel_size, output, stride, padding, dilation, groups, CONTEXT.get().conv_algorithm)


def conv_transpose2d_geometry(x: Any, weight: Any, bias: Any, stride: Size, padding: Size, output_padding: Size,
                              groups: int, dilation: Size) -> Geometry:
    """The geometry of a transposed convolution: that of the convolution whose adjoint it is."""
    name = "conv_transpose2d"
    (n, channels, *size), (rows, per_group, *kernel), shapes = _two_images(name, x, weight, "weight")
    groups = _checked_groups(name, groups, rows, "input channels", shapes)
    if channels != rows:
        raise ValueError(f"{name}: input has {channels} channels, weight expects {rows}{shapes}")
    if not per_group:
        raise ValueError(f"{name}: the weight has no output channels{shapes}")
    kernel_size = pair(name, "the weight's kernel", kernel, 1, shapes)
    stride, dilation = pair(name, "stride", stride, 1, shapes), pair(name, "dilation", dilation, 1, shapes)
    padding, extra = pair(name, "padding", padding, 0, shapes), pair(name, "output_padding", output_padding, 0, shapes)
    if any(extra[i] >= max(stride[i], dilation[i]) for i in (0, 1)):
        raise ValueError(f"{name}: output_padding {extra} should be smaller than stride {stride} or dilation {dilation}"
                         f"{shapes}")
    output = two([(size[i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1
                   for i in (0, 1)])
    if min(*size, *output) < (1 if n else 0):  # images of an empty batch may have size 0, but not a negative size
        raise ValueError(f"{name}: expected at least one pixel, got an input of {size[0]} x {size[1]} and an output of "
                         f"{output[0]} x {output[1]}{shapes}")
    _check_bias(name, bias, per_group * groups, shapes)
    return Geometry(output, kernel_size, two(size), stride, padding, dilation, groups, CONTEXT.get().conv_algorithm)


def conv_weight_grad_geometry(x: Any, y: Any, kernel_size: Size, stride: Size, padding: Size, dilation: Size,
                              groups: int) -> Geometry:
    """The geometry of a convolution, from its input x and the gradient y of its output."""
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
    return Geometry(two(size), kernel, output, stride, padding, dilation, groups, CONTEXT.get().conv_algorithm)


def _check_bias(name: str, bias: Any, channels: int, shapes: str) -> None:
    if bias is not None and shape_of(name, bias) != (channels,):
        raise ValueError(f"{name}: bias has shape {bias.shape}, expected ({channels},){shapes}")


def _named_padding(name: str, padding: str, x: Any, kernel: Pair, stride: Pair, dilation: Pair,
                   shapes: str) -> tuple[Any, Pair]:
    """The input and its padding. If "same" needs an odd number of rows or columns, one is added to the end of the input
    here. The padding is half of the others."""
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
    """The size of a convolution's output. It is less than 1 if the kernel does not fit into the input."""
    return two([(size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)])


def _two_images(name: str, x: Any, other: Any, what: str) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """The shapes of x and other, which must have four axes each, and a text that quotes them in error messages."""
    first, second = shape_of(name, x), shape_of(name, other)
    shapes = f" (input {first}, {what} {second})"
    if len(first) != 4 or len(second) != 4:
        raise ValueError(f"{name}: input and {what} should have four axes each, (N, C, H, W) and "
                         f"({'K, C' if what == 'weight' else 'N, K'}, height, width){shapes}")
    return first, second, shapes


def _checked_groups(name: str, groups: int, channels: int, what: str, shapes: str) -> int:
    if not is_whole(groups) or groups < 1 or channels < 1 or channels % groups:
        raise ValueError(f"{name}: groups should divide the {channels} {what}, and both should be at least 1, got {groups}"
                         f"{shapes}")
    return int(groups)
