"""The convolution triangle on the CPU: the map y of an image x, and its adjoints in the image x and in the weight w.

    y[n, k, i, j] = sum over c, a, b of x[n, c, s i + a - p, s j + b - p] w[k, c, a, b]        stride s, padding p

Seven algorithms compute it.

1. NumPy, for small convolutions. The patches of x become the rows of a matrix (im2col; Chellapilla, Puri, Simard 2006).
2. One image in each lane of a vector register, for few channels. The sum is computed as written above, for many images at
   once.
3. Tiles of many pixels. The patches are transformed, there is a matrix product for each point, and its result is transformed
   back. This needs fewer multiplications than the sum (Winograd 1980; Lavin, Gray 2016).
4. Tiles of one pixel, the direct algorithm. It is like 3, but the transforms do nothing.
5. One channel in each lane, for groups of few channels. The sum is computed as written above, for all groups in a register
   at once. For kernels of 3 x 3 with stride 1 it is computed on tiles like those of 3.
6. One kernel in each lane, for few channels and many kernels. The sum is computed as written above. The rows of the image
   are read as they lie in memory.
7. One matrix product, for kernels of one pixel: the images in memory are a matrix, with a row for each pixel.

The same code computes 3 and 4. Let U be the transformed weights. At each point

    y = scatter(gather(x) U),     x = scatter(gather(y) U^T),     w = transform back(gather(y)^T gather(x)).

The modules, in the order in which to read them:

    im2col            algorithm 1
    planner           chooses the algorithm, the tile and the shares of the threads; has all thresholds of algorithms 2 to 7
    compiled          Python functions for algorithms 2 to 7: they provide memory and run the kernels
    tiled             kernel: the convolution by tiles, and its adjoint in the image
    patches           kernels: from patches of pixels to points (gather), from products back to pixels (scatter)
    weights           kernels: from weights to points, from products back to the gradient of weights
    weight_grad       kernels: the gradient of the weight by tiles
    tile_transforms   generated code: multiplies by the small constant matrices between pixels and points
    lanes             kernels: algorithm 2
    lane_products     generated code: the innermost loops of `lanes`
    group_plans       plans algorithm 5
    grouped           kernels: algorithm 5
    grouped_tiles     kernels: algorithm 5 on tiles
    grouped_products  generated code: the innermost loops of both
    thin              kernels: algorithm 6
    thin_products     generated code: the innermost loops of `thin`

`tinygan.kernels.winograd` explains tiles, points and phases, and has the matrices. `g` is a Geometry (see `ops.conv`).
The caller's images have the axes (N, C, H, W). In memory the kernels want them channels-last, and the results are.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.activations import FUSED, IDENTITY
from tinygan.kernels.cpu.activations import activation
from tinygan.kernels.cpu.batchnorm import batch_norm_statistics
from tinygan.kernels.cpu.conv import im2col
from tinygan.kernels.cpu.layout import channels_last
from tinygan.kernels.cpu.runtime.loading import loaded

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

Array = np.ndarray[Any, Any]
COMPILED_ABOVE = 2**18  # multiplications: for more, the compiled kernels are faster than NumPy
COMPILED_ABOVE_IN_GROUPS = 2**15  # the same for several groups, whose matrices are small


def conv2d(x: Array, weight: Array, g: Any, bias: Array | None = None, activation_name: str = "identity", slope: float = 0.0,
           statistics: Any = None) -> Array:
    """activation(x * weight + bias): (N, C, H, W), (K, C / groups, kH, kW), (K,) -> (N, K, OH, OW). statistics: None, or two
    arrays for the mean and the biased variance of each channel of the result. With statistics there is no activation."""
    if not _is_large(x.shape[0], weight.size, g):
        return _finished(im2col.conv2d(x, weight, g), bias, activation_name, slope, statistics)
    fused = bias is not None and activation_name in FUSED
    code = FUSED[activation_name] if fused else IDENTITY
    y = _compiled().conv2d(channels_last(x), weight, g, bias, code, slope)
    return _finished(y.transpose(0, 3, 1, 2), None, "identity" if fused else activation_name, slope, statistics)


def conv2d_input_grad(y: Array, weight: Array, g: Any, bias: Array | None = None, activation_name: str = "identity",
                      slope: float = 0.0, statistics: Any = None) -> Array:
    """The adjoint in x, with bias, activation and statistics: (N, K, OH, OW), (K, C / groups, kH, kW), (C,) ->
    (N, C, H, W)."""
    if _is_large(y.shape[0], weight.size, g):
        x = _compiled().conv2d_input_grad(channels_last(y), weight, g, bias).transpose(0, 3, 1, 2)
        bias = None
    else:
        x = im2col.conv2d_input_grad(y, weight, g)
    return _finished(x, bias, activation_name, slope, statistics)


def conv2d_weight_grad(x: Array, y: Array, g: Any) -> Array:
    """The adjoint in weight: (N, C, H, W), (N, K, OH, OW) -> (K, C / groups, kH, kW)."""
    size = y.shape[1] * x.shape[1] // g.groups * g.kernel[0] * g.kernel[1]
    if _is_large(x.shape[0], size, g):
        return _compiled().conv2d_weight_grad(channels_last(x), channels_last(y), g)
    return im2col.conv2d_weight_grad(x, y, g)


def _is_large(images: int, weight_size: int, g: Any) -> bool:
    """Whether the compiled kernels are faster than NumPy."""
    least = COMPILED_ABOVE if g.groups == 1 else COMPILED_ABOVE_IN_GROUPS
    return images * g.output[0] * g.output[1] * weight_size > least


def _compiled() -> Any:
    return loaded("tinygan.kernels.cpu.conv.compiled")


def _finished(y: Array, bias: Array | None, activation_name: str, slope: float, statistics: Any) -> Array:
    """Adds to y what the kernels have not applied: the bias and the activation. Also writes the statistics."""
    if bias is not None:
        y += bias[:, None, None]
    if statistics is not None:
        batch_norm_statistics(y, *statistics)
    return y if activation_name == "identity" else activation(y, activation_name, slope, out=y)
