"""Convolutions on the device by tiles: transforms, and a matrix product for each of a tile's points.

`tinygan.kernels.winograd` has the matrices, and tiled.cu says how strides become phases. Channels-last, one group, no
dilation. The products are computed in float32 (or float64) even where TF32 is asked for, of which the transforms would
leave two digits.
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
from tinygan.kernels.cuda.matmul.products import KERNEL_START, batched
from tinygan.kernels.cuda.reductions import layout
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device
from tinygan.kernels.winograd import POINTS, matrices
from tinygan.versions import derived

MOVED = 24  # multiplications in the time that it takes to write or read a number
MORE_KERNELS = 3  # than a direct convolution starts
TRANSFORMED = (1, 24)  # how the last transform is cut into parts, as `reductions.layout` takes it

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]


class Tile(NamedTuple):
    """Tiles of m x m outputs and r x r taps a phase."""

    m: int
    r: int

    @property
    def points(self) -> int:
        """In two dimensions."""
        return (self.m + self.r - 1) ** 2

    @property
    def defines(self) -> tuple[str, ...]:
        """What tiled.cu is compiled with."""
        return _defines(self)

    def grid(self, g: Any) -> tuple[int, int]:
        """How many tiles cover a map, down and across."""
        return -(-g.output[0] // self.m), -(-g.output[1] // self.m)


@cache
def _defines(tile: Tile) -> tuple[str, ...]:
    at, g, bt = matrices(*tile)
    return (f"TILE={tile.m}", f"TAPS={tile.r}", f"AT={_initializer(at)}", f"G={_initializer(g)}", f"BT={_initializer(bt)}")


def _initializer(x: float | Sequence[Any]) -> str:
    """As C has it."""
    return repr(x) if isinstance(x, float) else "{" + ",".join(map(_initializer, x)) + "}"


TILES = tuple(Tile(*sizes) for sizes in POINTS if sizes != (1, 1))
VARIANTS = tuple(tile.defines for tile in TILES)
"""What tiled.cu is compiled with."""


@lru_cache(1024)
def best_tile(sms: int, g: Any, images: int, channels: int, kernels: int) -> Tile | None:
    """What computes a convolution of so many images of so many channels, and maps of so many, on so many multiprocessors
    faster than the direct algorithm does; None: nothing. Where g.algorithm is "tiled", the fastest of what can."""
    if g.algorithm == "direct" or g.groups != 1 or g.dilation != (1, 1) or g.stride[0] != g.stride[1]:
        return None
    taps, depth = {-(-k // g.stride[0]) for k in g.kernel}, g.stride[0] ** 2 * channels

    def sizes(tile: Tile) -> tuple[int, int, int]:
        """The elements that the images, the weights and the maps have at one point."""
        rows = images * math.prod(tile.grid(g))
        return rows * depth, depth * kernels, rows * kernels

    def is_possible(tile: Tile) -> bool:
        """Whether there is something to compute, and an index can tell it all."""
        largest = max(images * math.prod(g.input) * channels, tile.points * max(sizes(tile)))
        return {tile.r} == taps and min(sizes(tile)) > 0 and largest < 2**31

    def time(tile: Tile) -> int:
        """Counted in multiplications. Every array is written once and read once."""
        products = images * math.prod(tile.grid(g)) * depth * kernels
        return tile.points * (products + 2 * MOVED * sum(sizes(tile))) + MORE_KERNELS * KERNEL_START * sms

    best = min(filter(is_possible, TILES), key=time, default=None)
    direct = images * math.prod(g.output) * math.prod(g.kernel) * channels * kernels
    return best if best is not None and (g.algorithm == "tiled" or time(best) < direct) else None


def conv2d(device: Device, tile: Tile, x: Array, weight: Array, g: Any, bias: Array | None = None,
           activation_name: str = "identity", slope: float = 0.0, statistics: Any = None) -> Array:
    """activation(x * weight + bias): (N, C, H, W), (K, C, kH, kW), (K,) -> (N, K, OH, OW)."""
    images, kernels = x.shape[0], weight.shape[0]
    v = _image_points(device, tile, x, g)
    u = _kernel_points(device, tile, weight, g)
    products = _products(device, v, u.transpose(0, 2, 1))
    y = device.empty((images, *g.output, kernels), x.dtype)
    _finished(device, tile, "points_to_map", products, bias, y, products.shape[1], 1, (*g.output, kernels, *tile.grid(g)),
              activation_name, slope, statistics)
    return _activated(device, y.transpose(0, 3, 1, 2), activation_name, slope)


def conv2d_input_grad(device: Device, tile: Tile, y: Array, weight: Array, g: Any,
                      bias: Array | None = None, activation_name: str = "identity", slope: float = 0.0,
                      statistics: Any = None) -> Array:
    """The adjoint in x, with bias and activation: (N, K, OH, OW), (K, C, kH, kW), (C,) -> (N, C, H, W)."""
    images, channels = y.shape[0], weight.shape[1]
    products = _products(device, _map_points(device, tile, y, g), _kernel_points(device, tile, weight, g))
    x = device.empty((images, *g.input, channels), y.dtype)
    # Squares of a phase, from the padding's corner on, to the last pixel: not all of them need begin with a tile.
    down, across = ((g.input[i] - 1 + g.padding[i]) // g.stride[i] // tile.m + 1 for i in (0, 1))
    _finished(device, tile, "points_to_image", products, bias, x, images * down * across, g.stride[0] ** 2,
              (*g.input, channels, g.stride[0], *g.padding, *tile.grid(g), down, across), activation_name, slope, statistics)
    return _activated(device, x.transpose(0, 3, 1, 2), activation_name, slope)


def conv2d_weight_grad(device: Device, tile: Tile, x: Array, y: Array, g: Any) -> Array:
    """The adjoint in weight: (N, C, H, W), (N, K, OH, OW) -> (K, C, kH, kW)."""
    v = _image_points(device, tile, x, g)
    products = _products(device, _map_points(device, tile, y, g).transpose(0, 2, 1), v)
    weight = device.empty((y.shape[1], x.shape[1], *g.kernel), x.dtype)
    size = products[0].size
    device.each("conv/tiled", "points_to_kernel", size, products, weight, size, x.shape[1], *g.kernel, g.stride[0],
                dtype=x.dtype, defines=tile.defines)
    return weight


def _image_points(device: Device, tile: Tile, x: Array, g: Any) -> Array:
    """(N, C, H, W) -> (points, tiles, phases * C)."""
    x = device.xp.ascontiguousarray(x.transpose(0, 2, 3, 1))
    high, wide = tile.grid(g)
    v = device.empty((tile.points, x.shape[0] * high * wide, g.stride[0] ** 2 * x.shape[3]), x.dtype)
    device.each("conv/tiled", "image_to_points", v[0].size, x, v, v[0].size, *g.input, x.shape[3], g.stride[0], *g.padding,
                high, wide, dtype=x.dtype, defines=tile.defines)
    return v


def _map_points(device: Device, tile: Tile, y: Array, g: Any) -> Array:
    """(N, K, OH, OW) -> (points, tiles, K)."""
    y = device.xp.ascontiguousarray(y.transpose(0, 2, 3, 1))
    high, wide = tile.grid(g)
    out = device.empty((tile.points, y.shape[0] * high * wide, y.shape[3]), y.dtype)
    device.each("conv/tiled", "map_to_points", out[0].size, y, out, out[0].size, *g.output, y.shape[3], high, wide,
                dtype=y.dtype, defines=tile.defines)
    return out


def _kernel_points(device: Device, tile: Tile, weight: Array, g: Any) -> Array:
    """(K, C, kH, kW) -> (points, K, phases * C). That of a parameter is kept until it changes."""
    def transformed() -> Array:
        source = device.xp.ascontiguousarray(weight)
        kernels, channels = source.shape[:2]
        u = device.empty((tile.points, kernels, g.stride[0] ** 2 * channels), source.dtype)
        device.each("conv/tiled", "kernel_to_points", u[0].size, source, u, u[0].size, channels, *g.kernel, g.stride[0],
                    dtype=source.dtype, defines=tile.defines)
        return u

    key = device.name, device.address(weight), weight.shape, weight.strides, tile, g.stride
    return derived(weight, key, transformed)


def _products(device: Device, a: Array, b: Array) -> Array:
    """(points, M, K), (points, K, N) -> (points, M, N)."""
    with override(matmul_precision="float32"):
        return batched(device, a, b, device.empty((a.shape[0], a.shape[1], b.shape[2]), a.dtype))


def _finished(device: Device, tile: Tile, kernel: str, products: Array, bias: Array | None, out: Array, rows: int,
              phases: int, sizes: tuple[int, ...], activation_name: str, slope: float, statistics: Any) -> None:
    """Start the transform at the end, in which each thread has some of `rows` pieces of a phase's channel, and write the
    statistics of what it makes, if they are wanted."""
    channels = out.shape[-1]
    width, grid = layout(device, (rows, phases * channels), TRANSFORMED)
    partial = None if statistics is None else empty_moments(device, grid[1] * phases, channels)
    device.launch("conv/tiled", kernel if partial is None else f"{kernel}_measured", grid, THREADS, products,
                  _contiguous(device, bias), out, partial, rows, *sizes, width, CODES[_fused(activation_name)], float(slope),
                  dtype=out.dtype, defines=tile.defines)
    if partial is not None:
        finish_moments(device, partial, *statistics)


def _contiguous(device: Device, bias: Array | None) -> Array | None:
    return bias if bias is None else device.xp.ascontiguousarray(bias)


def _fused(activation_name: str) -> str:
    """What the kernels apply of it."""
    return activation_name if activation_name in FUSED else "identity"


def _activated(device: Device, y: Array, activation_name: str, slope: float) -> Array:
    """What the kernels have left, in place."""
    if activation_name != _fused(activation_name):
        activation(device, y, activation_name, slope, out=y)
    return y
