"""Convolutions on the device by tiles: transforms, and a matrix product for each point of a tile.

`tinygan.kernels.winograd` has the matrices, and tiled.cu explains how a stride becomes phases. Images are channels-last in
memory; there is one group and no dilation. The products are computed in float32 (or float64) even if TF32 is asked for:
after the transforms only two digits of a TF32 product would be right.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from tinygan.context import override
from tinygan.kernels.activations import CODES, FUSED
from tinygan.kernels.cuda.activations import activation
from tinygan.kernels.cuda.batchnorm import empty_moments, finish_moments
from tinygan.kernels.cuda.matmul.products import PRODUCTS_PER_KERNEL_START, batched
from tinygan.kernels.cuda.runtime.arrays import contiguous
from tinygan.kernels.cuda.runtime.columns import Cut, column_grid
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device
from tinygan.kernels.winograd import TILES, Tile, fitting, matrices
from tinygan.versions import derived

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

PRODUCTS_PER_MEMORY_ACCESS = 24  # multiplications in the time that it takes to read or write one number
EXTRA_KERNELS_TILED = 3  # tiles start four kernels; a direct convolution starts one
LAST_TRANSFORM = Cut(least_rows=1, most_blocks=24)


class Tiling(NamedTuple):
    """The sizes of a convolution on tiles. tiled.cu has a struct with the same names."""

    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    kernels: int
    kernel_height: int
    kernel_width: int
    stride: int
    padding_down: int
    padding_across: int
    down: int
    across: int


class Pieces(NamedTuple):
    """The work that the threads of a last transform share. tiled.cu has a struct with the same names."""

    total: int
    down: int
    across: int
    width: int


def _tiling(tile: Tile, g: Any, channels: int, kernels: int) -> Tiling:
    """The sizes of a convolution with the Geometry g."""
    down, across = tile.grid(g)
    return Tiling(
        height=g.input[0], width=g.input[1], channels=channels,
        out_height=g.output[0], out_width=g.output[1], kernels=kernels,
        kernel_height=g.kernel[0], kernel_width=g.kernel[1],
        stride=g.stride[0], padding_down=g.padding[0], padding_across=g.padding[1],
        down=down, across=across,
    )


@cache
def defines(tile: Tile) -> tuple[str, ...]:
    """The macros with which tiled.cu is compiled for a tile."""
    at, g, bt = matrices(*tile)
    return (f"TILE={tile.m}", f"TAPS={tile.r}", f"AT={_initializer(at)}", f"G={_initializer(g)}", f"BT={_initializer(bt)}")


def _initializer(x: float | Sequence[Any]) -> str:
    """A matrix in the notation of C++ for the initial values of an array."""
    return repr(x) if isinstance(x, float) else "{" + ",".join(map(_initializer, x)) + "}"


VARIANTS = tuple(defines(tile) for tile in TILES)
"""The sets of macros with which tiled.cu is compiled."""


@lru_cache(1024)
def cheapest_tile(sms: int, g: Any, images: int, channels: int, kernels: int) -> Tile | None:
    """The tile that takes the least time on `sms` multiprocessors, by an estimate of its products and its memory traffic.
    None if the direct algorithm takes less time. If g.algorithm is "tiled", None only if no tile can compute this
    convolution."""
    depth = g.stride[0] ** 2 * channels

    def sizes(tile: Tile) -> tuple[int, int, int]:
        """How many elements the images, the weights and the maps have at one point."""
        rows = images * math.prod(tile.grid(g))
        return rows * depth, depth * kernels, rows * kernels

    def is_possible(tile: Tile) -> bool:
        """Whether no array is empty, and each can be indexed by an int."""
        largest = max(images * math.prod(g.input) * channels, tile.points * max(sizes(tile)))
        return min(sizes(tile)) > 0 and largest < 2**31

    def time(tile: Tile) -> int:
        """The time, counted in multiplications. Every array is written once and read once."""
        products = images * math.prod(tile.grid(g)) * depth * kernels
        starts = EXTRA_KERNELS_TILED * PRODUCTS_PER_KERNEL_START * sms
        return tile.points * (products + 2 * PRODUCTS_PER_MEMORY_ACCESS * sum(sizes(tile))) + starts

    best = min(filter(is_possible, fitting(g)), key=time, default=None)
    direct = images * math.prod(g.output) * math.prod(g.kernel) * channels * kernels
    return best if best is not None and (g.algorithm == "tiled" or time(best) < direct) else None


def conv2d(device: Device, tile: Tile, x: Array, weight: Array, g: Any, bias: Array | None = None,
           activation_name: str = "identity", slope: float = 0.0, statistics: Any = None) -> Array:
    """activation(x * weight + bias): (N, C, H, W), (K, C, kH, kW), (K,) -> (N, K, OH, OW)."""
    kernels, channels = weight.shape[:2]
    tiling = _tiling(tile, g, channels, kernels)
    v, u = _image_points(device, tile, tiling, x), _kernel_points(device, tile, tiling, weight)
    products = _products(device, v, u.transpose(0, 2, 1))
    y = device.empty((x.shape[0], *g.output, kernels), x.dtype)
    _finished(device, tile, "points_to_map", products, bias, y, tiling, (tiling.down, tiling.across), 1, activation_name,
              slope, statistics)
    return _activated(device, y.transpose(0, 3, 1, 2), activation_name, slope)


def conv2d_input_grad(device: Device, tile: Tile, y: Array, weight: Array, g: Any, bias: Array | None = None,
                      activation_name: str = "identity", slope: float = 0.0, statistics: Any = None) -> Array:
    """The adjoint in x, with bias and activation: (N, K, OH, OW), (K, C, kH, kW), (C,) -> (N, C, H, W)."""
    kernels, channels = weight.shape[:2]
    tiling = _tiling(tile, g, channels, kernels)
    products = _products(device, _map_points(device, tile, tiling, y), _kernel_points(device, tile, tiling, weight))
    x = device.empty((y.shape[0], *g.input, channels), y.dtype)
    # The squares cover a phase from the corner of the padding to its last pixel. The last squares may be beyond the last
    # tile.
    down, across = ((g.input[i] - 1 + g.padding[i]) // g.stride[i] // tile.m + 1 for i in (0, 1))
    _finished(device, tile, "points_to_image", products, bias, x, tiling, (down, across), g.stride[0] ** 2, activation_name,
              slope, statistics)
    return _activated(device, x.transpose(0, 3, 1, 2), activation_name, slope)


def conv2d_weight_grad(device: Device, tile: Tile, x: Array, y: Array, g: Any) -> Array:
    """The adjoint in weight: (N, C, H, W), (N, K, OH, OW) -> (K, C, kH, kW)."""
    tiling = _tiling(tile, g, x.shape[1], y.shape[1])
    v = _image_points(device, tile, tiling, x)
    products = _products(device, _map_points(device, tile, tiling, y).transpose(0, 2, 1), v)
    weight = device.empty((y.shape[1], x.shape[1], *g.kernel), x.dtype)
    _transformed(device, tile, "points_to_kernel", tiling, products, weight, products[0].size)
    return weight


def _image_points(device: Device, tile: Tile, tiling: Tiling, x: Array) -> Array:
    """(N, C, H, W) -> (points, tiles, phases * C)."""
    x = device.xp.ascontiguousarray(x.transpose(0, 2, 3, 1))
    tiles = x.shape[0] * tiling.down * tiling.across
    v = device.empty((tile.points, tiles, tiling.stride**2 * tiling.channels), x.dtype)
    return _transformed(device, tile, "image_to_points", tiling, x, v, v[0].size)


def _map_points(device: Device, tile: Tile, tiling: Tiling, y: Array) -> Array:
    """(N, K, OH, OW) -> (points, tiles, K)."""
    y = device.xp.ascontiguousarray(y.transpose(0, 2, 3, 1))
    out = device.empty((tile.points, y.shape[0] * tiling.down * tiling.across, tiling.kernels), y.dtype)
    return _transformed(device, tile, "map_to_points", tiling, y, out, out[0].size)


def _kernel_points(device: Device, tile: Tile, tiling: Tiling, weight: Array) -> Array:
    """(K, C, kH, kW) -> (points, K, phases * C). If the weight is a Parameter, the result is kept until it changes."""
    def make() -> Array:
        source = device.xp.ascontiguousarray(weight)
        u = device.empty((tile.points, tiling.kernels, tiling.stride**2 * tiling.channels), source.dtype)
        return _transformed(device, tile, "kernel_to_points", tiling, source, u, u[0].size)

    key = device.name, device.address(weight), weight.shape, weight.strides, tile, tiling.stride
    return derived(weight, key, make)


def _transformed(device: Device, tile: Tile, kernel: str, tiling: Tiling, source: Array, out: Array, size: int) -> Array:
    """Start a transform from `source` to `out` with `size` threads. Returns `out`."""
    device.each("conv/tiled", kernel, size, source, out, size, tiling, dtype=source.dtype, defines=defines(tile))
    return out


def _products(device: Device, a: Array, b: Array) -> Array:
    """(points, M, K), (points, K, N) -> (points, M, N)."""
    with override(matmul_precision="float32"):
        return batched(device, a, b, device.empty((a.shape[0], a.shape[1], b.shape[2]), a.dtype))


def _finished(device: Device, tile: Tile, kernel: str, products: Array, bias: Array | None, out: Array, tiling: Tiling,
              pieces: tuple[int, int], phases: int, activation_name: str, slope: float, statistics: Any) -> None:
    """Start a last transform, which writes `out`, and also its mean and variance to `statistics`, if not None. pieces: how
    many tiles or squares, (down, across), each image and phase has. The threads share them."""
    channels, total = out.shape[-1], out.shape[0] * math.prod(pieces)
    width, grid = column_grid(device, (total, phases * channels), LAST_TRANSFORM)
    partial = None if statistics is None else empty_moments(device, grid[1] * phases, channels)
    device.launch("conv/tiled", kernel if partial is None else f"{kernel}_measured", grid, THREADS, products,
                  None if bias is None else contiguous(device, bias), out, partial, tiling, Pieces(total, *pieces, width),
                  CODES[_fused(activation_name)], float(slope), dtype=out.dtype, defines=defines(tile))
    if partial is not None:
        finish_moments(device, partial, *statistics)


def _fused(activation_name: str) -> str:
    """The activation that the kernels apply: the given one if it is fused, else the identity."""
    return activation_name if activation_name in FUSED else "identity"


def _activated(device: Device, y: Array, activation_name: str, slope: float) -> Array:
    """y with its activation, in place, if the kernels have not applied it."""
    if activation_name != _fused(activation_name):
        activation(device, y, activation_name, slope, out=y)
    return y
