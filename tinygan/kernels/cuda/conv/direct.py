"""Convolutions on the device, each as one matrix product. Its operands are read directly from the images."""
from __future__ import annotations

import math
from typing import Any, NamedTuple

from tinygan.kernels.activations import CODES, IDENTITY
from tinygan.kernels.cuda.matmul.products import MOST_BLOCKS_ALONG_Z, Plan, add_parts, batched, plan, precision_defines, wide
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device
from tinygan.versions import derived

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

VARIANTS = (("WIDTH=1",), ("WIDTH=4",))
"""The sets of macros with which direct.cu is compiled. TF32=1 may be added."""


class Convolution(NamedTuple):
    """The sizes of a convolution. direct.cu has a struct with the same names."""

    images: int
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    kernels: int
    kernel_height: int
    kernel_width: int
    stride_down: int
    stride_across: int
    padding_down: int
    padding_across: int
    dilation_down: int
    dilation_across: int
    groups: int
    part_stride: int


def _convolution(g: Any, images: int, channels: int, kernels: int, part_stride: int) -> Convolution:
    """The sizes of a convolution with the Geometry g. part_stride: the elements of the result. Raises ValueError if an array
    is too large."""
    largest = max(images * channels * math.prod(g.input), images * kernels * math.prod(g.output),
                  kernels * channels // g.groups * math.prod(g.kernel))
    if largest >= 2**31:
        raise ValueError(f"conv2d: an array of {largest} elements, expected at most 2^31 - 1 (what an int indexes); "
                         "split the batch")
    return Convolution(
        images=images, height=g.input[0], width=g.input[1], channels=channels,
        out_height=g.output[0], out_width=g.output[1], kernels=kernels,
        kernel_height=g.kernel[0], kernel_width=g.kernel[1],
        stride_down=g.stride[0], stride_across=g.stride[1],
        padding_down=g.padding[0], padding_across=g.padding[1],
        dilation_down=g.dilation[0], dilation_across=g.dilation[1],
        groups=g.groups, part_stride=part_stride,
    )


def conv2d(device: Device, x: Array, weight: Array, g: Any, bias: Array | None = None,
           activation_name: str = "identity", slope: float = 0.0) -> Array:
    """activation(x * weight + bias): (N, C, H, W), (K, C / groups, kH, kW), (K,) -> (N, K, OH, OW)."""
    n, kernels = x.shape[0], weight.shape[0]
    y = device.empty((n, *g.output, kernels), x.dtype)
    x, weight = _channels_last(device, x), _laid_out(device, weight)
    if _is_product(g):
        rows, columns = y.size // kernels, weight.size // kernels
        batched(device, x.reshape(1, rows, columns), weight.reshape(1, kernels, columns).transpose(0, 2, 1),
                y.reshape(1, rows, kernels), _contiguous(device, bias), activation_name, slope)
    else:
        planned = plan(device, x.dtype, g.groups, y.size // kernels, kernels // g.groups, weight.size // kernels)
        width = wide(device, (weight.shape[3],), x, weight)
        _finished(device, "conv2d", planned, width, x, weight, y, bias, _convolution(g, n, x.shape[3], kernels, y.size),
                  g.groups, activation_name, slope)
    return y.transpose(0, 3, 1, 2)


def conv2d_input_grad(device: Device, y: Array, weight: Array, g: Any, bias: Array | None = None,
                      activation_name: str = "identity", slope: float = 0.0) -> Array:
    """The adjoint in x, with bias and activation: (N, K, OH, OW), (K, C / groups, kH, kW), (C,) -> (N, C, H, W)."""
    n, (kernels, depth) = y.shape[0], weight.shape[:2]
    x = device.empty((n, *g.input, depth * g.groups), y.dtype)
    y, weight = _channels_last(device, y), _laid_out(device, weight)
    if _is_product(g):
        rows, columns = y.size // kernels, weight.size // kernels
        if bias is not None:  # repeat it for each pixel of the kernel
            bias = device.xp.broadcast_to(bias, (*g.kernel, depth)).reshape(columns)
        batched(device, y.reshape(1, rows, kernels), weight.reshape(1, kernels, columns), x.reshape(1, rows, columns),
                _contiguous(device, bias), activation_name, slope)
    else:
        phases = g.stride[0] * g.stride[1]
        rows = n * -(-g.input[0] // g.stride[0]) * -(-g.input[1] // g.stride[1])
        taps = -(-g.kernel[0] // g.stride[0]) * -(-g.kernel[1] // g.stride[1])
        planned = plan(device, y.dtype, g.groups * phases, rows, depth, taps * kernels // g.groups)
        width = wide(device, (depth, kernels // g.groups), y, weight)
        _finished(device, "input_grad", planned, width, y, weight, x, bias,
                  _convolution(g, n, depth * g.groups, kernels, x.size), g.groups * phases, activation_name, slope)
    return x.transpose(0, 3, 1, 2)


def conv2d_weight_grad(device: Device, x: Array, y: Array, g: Any) -> Array:
    """The adjoint in weight: (N, C, H, W), (N, K, OH, OW) -> (K, C / groups, kH, kW)."""
    kernels, channels, taps = y.shape[1], x.shape[1], g.kernel[0] * g.kernel[1]
    depth = channels // g.groups
    out = device.empty((kernels, depth, *g.kernel), x.dtype)
    x, y = _channels_last(device, x), _channels_last(device, y)
    if not out.size:
        return out
    if _is_product(g):
        parts = out if taps == 1 or depth == 1 else device.empty((1, *out.shape), x.dtype)
        rows = y.size // kernels
        batched(device, y.reshape(1, rows, kernels).transpose(0, 2, 1), x.reshape(1, rows, taps * depth),
                parts.reshape(1, kernels, taps * depth))
    else:
        tile, tiles, count = plan(device, x.dtype, g.groups, kernels // g.groups, taps * depth, y.size // kernels)
        parts = device.empty((count, *out.shape), x.dtype)
        width = wide(device, (depth, kernels // g.groups), x, y)
        grid = (tiles, count, min(g.groups, MOST_BLOCKS_ALONG_Z))
        device.launch("conv/direct", f"weight_grad_{tile}", grid, THREADS, x, y, parts,
                      _convolution(g, x.shape[0], channels, kernels, out.size), dtype=x.dtype,
                      defines=_defines(device, x.dtype, width))
    if parts is not out:
        device.each("conv/direct", "add_weights", out.size, parts, out, parts.shape[0], out.size, taps, depth, dtype=x.dtype)
    return out


def _finished(device: Device, kernel: str, planned: Plan, width: int, images: Array, weight: Array, out: Array,
              bias: Array | None, convolution: Convolution, batch: int, activation_name: str, slope: float) -> None:
    """Run a kernel on `batch` products with the planned tiles and parts, and add up the parts."""
    if not out.size:
        return
    tile, tiles, count = planned
    bias, finish = _contiguous(device, bias), (CODES[activation_name], float(slope))
    to = out if count == 1 else device.empty((count, *out.shape), out.dtype)
    grid = (tiles, count, min(batch, MOST_BLOCKS_ALONG_Z))
    device.launch("conv/direct", f"{kernel}_{tile}", grid, THREADS, images, weight, bias if count == 1 else None, to,
                  convolution, *(finish if count == 1 else (IDENTITY, 0.0)), dtype=out.dtype,
                  defines=_defines(device, out.dtype, width))
    if count > 1:
        pixels, channels = out.size // out.shape[-1], out.shape[-1]
        add_parts(device, to, out, bias, (pixels, channels), (0, channels), *finish)


def _defines(device: Device, dtype: Any, width: int) -> tuple[str, ...]:
    return (f"WIDTH={width}", *precision_defines(device, dtype))


def _is_product(g: Any) -> bool:
    """Whether the images in memory already are the matrix of a product. This is so if no two outputs depend on the same
    pixel, and the pixels that an output depends on follow each other in memory."""
    if g.groups > 1 or g.padding != (0, 0):
        return False
    return (g.output == (1, 1) and g.input == g.kernel and g.dilation == (1, 1)) or g.kernel == g.stride == (1, 1)


def _channels_last(device: Device, x: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C), C-contiguous."""
    last = x.transpose(0, 2, 3, 1)
    return last if last.flags.c_contiguous else device.xp.ascontiguousarray(last)


def _laid_out(device: Device, weight: Array) -> Array:
    """(K, C, kH, kW) -> (K, kH, kW, C), C-contiguous. If the weight is a Parameter, the copy is kept until it changes."""
    if weight.transpose(0, 2, 3, 1).flags.c_contiguous:
        return _channels_last(device, weight)
    key = device.name, device.address(weight), weight.shape, weight.strides
    return derived(weight, key, lambda: _channels_last(device, weight))


def _contiguous(device: Device, bias: Array | None) -> Array | None:
    return bias if bias is None or bias.flags.c_contiguous else device.xp.ascontiguousarray(bias)
