"""The three convolution maps in plain NumPy. The patches of the image become the rows of a matrix, which is then multiplied.

These functions serve small convolutions, for which compiled kernels would not be faster. Images are (N, C, H, W); results
are channels-last in memory.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.workspace import contiguous, zeros

Array = np.ndarray[Any, Any]


def _channels_last(x: Array) -> Array:
    return contiguous(x.transpose(0, 2, 3, 1))


def _padded_size(g: Any) -> tuple[int, int]:
    return g.input[0] + 2 * g.padding[0], g.input[1] + 2 * g.padding[1]


def _patches(x: Array, g: Any) -> Array:
    """x (N, C, H, W) -> its patches (N, OH, OW, kH, kW, C), a view of the padded image."""
    n, c = x.shape[:2]
    (height, width), (top, left) = _padded_size(g), g.padding
    padded = zeros((n, height, width, c), x.dtype)
    padded[:, top:top + g.input[0], left:left + g.input[1]] = x.transpose(0, 2, 3, 1)
    s0, s1, s2, s3 = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded, (n, *g.output, *g.kernel, c),
        (s0, s1 * g.stride[0], s2 * g.stride[1], s1 * g.dilation[0], s2 * g.dilation[1], s3), subok=True, writeable=False)


def _rows(images: Array, groups: int) -> Array:
    """(..., C) -> (groups, pixels, C / groups)."""
    size = images.shape[-1] // groups
    return np.moveaxis(images.reshape(math.prod(images.shape[:-1]), groups, size), 1, 0)


def _patch_rows(x: Array, g: Any) -> Array:
    """x (N, C, H, W) -> (groups, N * OH * OW, kH * kW * C / groups)."""
    patches = _patches(x, g)
    size = patches.shape[-1] // g.groups
    count = patches.shape[0] * g.output[0] * g.output[1]
    split = patches.reshape(*patches.shape[:-1], g.groups, size)
    return np.moveaxis(split, 5, 0).reshape(g.groups, count, g.kernel[0] * g.kernel[1] * size)


def _weight_rows(weight: Array, g: Any) -> Array:
    """weight (K, C / groups, kH, kW) -> (groups, K / groups, kH * kW * C / groups)."""
    kernels, size = weight.shape[:2]
    return weight.transpose(0, 2, 3, 1).reshape(g.groups, kernels // g.groups, g.kernel[0] * g.kernel[1] * size)


def conv2d(x: Array, weight: Array, g: Any) -> Array:
    """(N, C, H, W), (K, C / groups, kH, kW) -> (N, K, OH, OW)."""
    y = np.matmul(_patch_rows(x, g), _weight_rows(weight, g).transpose(0, 2, 1))  # (groups, pixels, K / groups)
    return np.moveaxis(y, 0, 1).reshape(x.shape[0], *g.output, weight.shape[0]).transpose(0, 3, 1, 2)


def conv2d_input_grad(y: Array, weight: Array, g: Any) -> Array:
    """(N, K, OH, OW), (K, C / groups, kH, kW) -> (N, C, H, W)."""
    n, channels = y.shape[0], weight.shape[1] * g.groups
    rows = np.matmul(_rows(_channels_last(y), g.groups), _weight_rows(weight, g))
    patches = np.moveaxis(rows.reshape(g.groups, n, *g.output, *g.kernel, weight.shape[1]), 0, 5)
    patches = patches.reshape(n, *g.output, *g.kernel, channels)
    (height, width), (top, left) = _padded_size(g), g.padding
    padded = zeros((n, height, width, channels), y.dtype)
    for i in range(g.kernel[0]):
        for j in range(g.kernel[1]):
            first, side = i * g.dilation[0], j * g.dilation[1]
            padded[:, first:first + (g.output[0] - 1) * g.stride[0] + 1:g.stride[0],
                   side:side + (g.output[1] - 1) * g.stride[1] + 1:g.stride[1]] += patches[:, :, :, i, j]
    x = padded[:, top:top + g.input[0], left:left + g.input[1]]
    return contiguous(x).transpose(0, 3, 1, 2)


def conv2d_weight_grad(x: Array, y: Array, g: Any) -> Array:
    """(N, C, H, W), (N, K, OH, OW) -> (K, C / groups, kH, kW)."""
    rows = np.matmul(_rows(_channels_last(y), g.groups).transpose(0, 2, 1), _patch_rows(x, g))
    size = x.shape[1] // g.groups
    return contiguous(rows.reshape(y.shape[1], *g.kernel, size).transpose(0, 3, 1, 2))
