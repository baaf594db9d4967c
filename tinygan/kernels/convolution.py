"""The compiled convolutions behind Python functions: which tile to use, sizes to task words, scratch memory.

`g` is a Geometry (see `ops.conv`): input, kernel, output, stride, padding, dilation, groups, algorithm.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels import conv, gemm, microkernel, tiles, transform
from tinygan.kernels.native import REALS, address, number
from tinygan.kernels.pool import pool
from tinygan.kernels.workspace import empty

Array = np.ndarray[Any, Any]
TILES_AT_ONCE = 64  # and with less depth more of them, as many as make
V_BYTES = 256 * 1024  # of V, which so stays in the second-level cache
K_AT_ONCE = 2048  # pixels that a product in a weight's gradient sums over


class Tile(NamedTuple):
    """Tiles of m x m outputs and r x r taps a phase; (1, 1) is the direct algorithm."""

    m: int
    r: int

    @property
    def points(self) -> int:
        return (self.m + self.r - 1) ** 2


DIRECT = Tile(1, 1)
THIN = 4  # channels of an image up to which the pixels under a row of the kernel are read as one


@cache
def best_tile(g: Any, channels: int, kernels: int) -> Tile:
    """What computes a convolution of that many channels of the image and of the map fastest."""
    if g.algorithm == "direct" or g.groups != 1 or g.dilation != (1, 1) or g.stride[0] != g.stride[1]:
        return DIRECT
    taps = {-(-k // g.stride[0]) for k in g.kernel}
    fitting = [Tile(m, r) for m, r in tiles.POINTS if {r} == taps and r > 1]

    def products(tile: Tile) -> int:
        """How many a channel pair needs, the tiles' overhang counted."""
        high, wide = _tiles(g, tile)
        return high * wide * tile.points

    if not fitting:
        return DIRECT
    best = min(fitting, key=products)
    direct = g.output[0] * g.output[1] * g.kernel[0] * g.kernel[1] / g.stride[0] ** 2
    if g.algorithm == "tiled":
        return best
    return best if min(channels, kernels) >= 16 and products(best) < 0.75 * direct else DIRECT


def _tiles(g: Any, tile: Tile) -> tuple[int, int]:
    return -(-g.output[0] // tile.m), -(-g.output[1] // tile.m)


def _phases(g: Any, tile: Tile) -> tuple[int, int]:
    return g.kernel if tile == DIRECT else g.stride


@cache
def _transforms(real: Any, tile: Tile) -> dict[str, int]:
    """The words about a tile: its sizes, and the addresses of its transforms."""
    at, g, bt = tiles.matrices(*tile)
    rows = tiles.transposed
    return {
        "tile": tile.m, "taps": tile.r, "points": len(bt), "image_to_points": transform.make(real, bt),
        "map_to_points": transform.make(real, rows(at)), "points_to_image": transform.make(real, rows(bt), add=True),
        "points_to_map": transform.make(real, at), "weights_to_points": transform.make(real, g),
        "points_to_weights": transform.make(real, rows(g)),
    }


def channels_last(images: Array) -> Array:
    """(N, C, H, W) -> (N, H, W, C), C-contiguous: the same memory if it lies so."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _scratch(size: int) -> tuple[Array, dict[str, int]]:
    """That many bytes for each part of a task, and the words that say where."""
    size = -(-size // conv.LINE) * conv.LINE
    memory = empty((pool.size * size,), np.uint8)
    return memory, {"scratch": address(memory), "scratch_bytes": size}


def _run(task: int, words: dict[str, int]) -> None:
    values = [0] * conv.WORDS
    for name, value in words.items():
        values[getattr(conv, name.upper())] = value
    pool.run(task, tuple(values), pool.size)


def _words(real: Any, g: Any, tile: Tile, images: int, image_pixel: int, map_pixel: int) -> dict[str, int]:
    """What all tasks are told of a convolution's sizes. *_pixel: the number of channels."""
    high, wide = _tiles(g, tile)
    phases, s = _phases(g, tile), g.stride
    phase = g.dilation if tile == DIRECT else (1, 1)
    return {
        **_transforms(real, tile), "image_height": g.input[0], "image_width": g.input[1],
        "image_channels": image_pixel // g.groups, "image_pixel": image_pixel, "map_height": g.output[0],
        "map_width": g.output[1],
        "map_channels": map_pixel // g.groups, "map_pixel": map_pixel, "images": images, "tiles_high": high,
        "tiles_wide": wide, "phases_high": phases[0], "phases_wide": phases[1], "phase_high": phase[0],
        "phase_wide": phase[1], "step_high": s[0] * tile.m, "step_wide": s[1] * tile.m, "spacing": s[0],
        "top": g.padding[0], "left": g.padding[1], "kernel_height": g.kernel[0], "kernel_width": g.kernel[1],
    }


def _packed(weight: Array, words: dict[str, int], tile: Tile, adjoint: bool, version: Any) -> Array:
    """weight (K, C, kH, kW), transformed and packed; kept until the parameter that it is changes."""
    key = (address(weight), weight.shape, weight.strides, tile, adjoint, words["phases_high"], words["phases_wide"])
    if version is not None:
        count, u = version.derived.get(key, (-1, None))
        if count == version.count:
            return u
        version.derived.pop(key, None)  # its memory is free for the next
        u = None
    width, item = gemm.columns(weight.dtype), weight.itemsize
    kernels, channels = weight.shape[:2]
    phases = words["phases_high"] * words["phases_wide"]
    if adjoint:
        panels, depth = phases * -(-channels // width), kernels
    else:
        panels, depth = -(-kernels // width), phases * channels
    u = empty((tile.points, panels, depth, width), weight.dtype)
    source = np.ascontiguousarray(weight)
    _patch, where = _scratch(phases * tile.r ** 2 * width * item)
    _run(conv.make(REALS[weight.dtype]).weights,
         {**words, **where, "image": address(source), "weights": address(u), "adjoint": adjoint})
    if version is not None:
        version.derived[key] = (version.count, u)
    return u


def _chunk(rows: int, wide: int, depth_bytes: int) -> int:
    """How many rows of tiles at once: a share for every part, and little waste in the blocks of the matrix products."""
    tiles_at_once = max(TILES_AT_ONCE, min(V_BYTES // max(depth_bytes, 1), 512))
    most = max(1, min(-(-rows // pool.size), -(-tiles_at_once // wide)))

    def waste(count: int) -> float:
        tiles = count * wide
        return round((-(-tiles // microkernel.ROWS) * microkernel.ROWS + 4) / tiles, 2)

    return min(range((most + 1) // 2, most + 1), key=lambda count: (waste(count), -count))


def _is_thin(g: Any, tile: Tile, channels: int) -> bool:
    return tile == DIRECT and channels <= THIN and g.groups == 1 and g.dilation[1] == 1 and g.kernel[1] > 1


def _thin(g: Any, channels: int) -> tuple[Any, int]:
    """The same convolution of an image with its padding, where the pixels under a row of the kernel are one long pixel
    (the next one overlaps with it), and the size of that."""
    height, width = (g.input[i] + 2 * g.padding[i] for i in (0, 1))
    return g._replace(input=(height, width), kernel=(g.kernel[0], 1), padding=(0, 0)), g.kernel[1] * channels


def _padded(image: Array, g: Any) -> Array:
    n, height, width, channels = image.shape
    top, left = g.padding
    padded = empty((n, height + 2 * top, width + 2 * left, channels), image.dtype)
    padded[:, :top] = padded[:, height + top:] = 0
    padded[:, :, :left] = padded[:, :, width + left:] = 0
    padded[:, top:height + top, left:width + left] = image
    return padded


def _convolve(source: Array, weight: Array, g: Any, adjoint: bool, version: Any, bias: Array | None, activation: int,
              slope: float) -> Array:
    """The map of an image (N, H, W, C), or, `adjoint`, the image of a map."""
    kernels, channels = weight.shape[0], weight.shape[1] * g.groups
    tile = best_tile(g, channels, kernels)
    images, dtype, item = source.shape[0], source.dtype, source.itemsize
    real = REALS[dtype]
    crop = None
    pixel = channels
    if _is_thin(g, tile, channels):
        if adjoint:
            crop = (slice(None), *[slice(pad, pad + size) for pad, size in zip(g.padding, g.input, strict=True)])
        else:
            source = _padded(source, g)
        g, channels = _thin(g, channels)
        weight = np.ascontiguousarray(weight.transpose(0, 3, 1, 2)).reshape(kernels, channels, g.kernel[0], 1)
        version = None
    words = _words(real, g, tile, images, channels, kernels)
    words["image_pixel"] = pixel
    high, wide = words["tiles_high"], words["tiles_wide"]
    target = empty((images, *(g.input if adjoint else g.output), pixel if adjoint else kernels), dtype)
    width = gemm.columns(dtype)
    phases = words["phases_high"] * words["phases_wide"]
    padded = -(-(words["image_channels"] if adjoint else words["map_channels"]) // width) * width
    depth, columns = (words["map_channels"], phases * padded) if adjoint else (phases * words["image_channels"], padded)
    # With few tiles every part would read all the weights for a few of them, so the parts share the channels. (Where
    # tiles of one pixel overlap they must not: a channel of the image has many places among the products then.)
    share = images * high * wide <= 32 * pool.size and not (adjoint and tile == DIRECT and high * wide > 1)
    words["chunk"] = images * high if share else _chunk(images * high, wide, depth * item * tile.points)
    words["share_channels"] = share
    words["clear"] = clear = adjoint and g.groups == 1 and not share
    if adjoint and not clear:
        target[...] = 0
    _memory, where = _scratch(conv.scratch_bytes(tile.points, words["chunk"] * wide, depth, columns, item))
    words.update(where, activation=activation, slope=number(slope, dtype), adjoint=adjoint)
    image, result = (target, source) if adjoint else (source, target)
    per_group = kernels // g.groups
    for i in range(g.groups):
        u = _packed(weight[i * per_group:(i + 1) * per_group], words, tile, adjoint, version)
        _run(conv.make(real).convolve, {
            **words, "image": address(image) + i * words["image_channels"] * item, "weights": address(u),
            "map": address(result) + i * per_group * item,
            "bias": 0 if bias is None else address(bias) + i * per_group * item})
    return target if crop is None else np.ascontiguousarray(target[crop])


def conv2d(x: Array, weight: Array, g: Any, version: Any, bias: Array | None, activation: int, slope: float) -> Array:
    """activation(x * weight + bias); activation: a code of `gemm`'s."""
    if bias is not None:
        bias = np.ascontiguousarray(bias)
    return _convolve(channels_last(x), weight, g, False, version, bias, activation, slope).transpose(0, 3, 1, 2)


def conv2d_input_grad(y: Array, weight: Array, g: Any, version: Any) -> Array:
    """The adjoint in x."""
    return _convolve(channels_last(y), weight, g, True, version, None, gemm.IDENTITY, 0.0).transpose(0, 3, 1, 2)


def _gathered(words: dict[str, int], tile: Tile, of_map: bool, real: Any, item: int, **where: int) -> tuple[Array, int, int]:
    """V of all images or maps, with the strides of its planes and rows in bytes."""
    count = words["images"] * words["tiles_high"] * words["tiles_wide"]
    depth = words["map_channels"] if of_map else words["phases_high"] * words["phases_wide"] * words["image_channels"]
    row = conv.row_bytes.py_func(depth * item)
    plane = conv.plane_bytes.py_func(count, row)
    v = empty((tile.points * plane,), np.uint8)
    _patch, scratch = _scratch(tile.points * microkernel.VECTOR_BYTES)
    _run(conv.make(real).gather, {**words, **scratch, **where, "weights": address(v), "adjoint": of_map})
    return v, plane, row


def conv2d_weight_grad(x: Array, y: Array, g: Any) -> Array:
    """The adjoint in weight: for each point a product that sums over all tiles."""
    tile = best_tile(g, x.shape[1], y.shape[1])
    x, y = channels_last(x), channels_last(y)
    if _is_thin(g, tile, x.shape[3]):
        channels = x.shape[3]
        x = _padded(x, g)
        thin, size = _thin(g, channels)
        gradient = _weight_grad(x, y, thin, tile, size).reshape(y.shape[3], g.kernel[1], channels, g.kernel[0])
        return np.ascontiguousarray(gradient.transpose(0, 2, 3, 1))
    return _weight_grad(x, y, g, tile, x.shape[3])


def _weight_grad(x: Array, y: Array, g: Any, tile: Tile, channels: int) -> Array:
    dtype, item, real = x.dtype, x.itemsize, REALS[x.dtype]
    words = _words(real, g, tile, x.shape[0], channels, y.shape[3])
    words["image_pixel"] = x.shape[3]
    kernels, channels = words["map_channels"], words["image_channels"]
    depth = words["phases_high"] * words["phases_wide"] * channels
    count = x.shape[0] * words["tiles_high"] * words["tiles_wide"]
    pieces = max(1, count // K_AT_ONCE) if tile == DIRECT else 1
    points, starts = np.arange(tile.points), np.arange(pieces + 1) * count // pieces
    first = starts[:-1, None]
    out = empty((y.shape[3], channels, *g.kernel), dtype)
    for i in range(g.groups):
        vx, x_plane, x_row = _gathered(words, tile, False, real, item, image=address(x) + i * channels * item)
        if tile == DIRECT:  # the map is what would be gathered
            vy, y_plane, y_row, y_address = y, 0, y.shape[3] * item, address(y) + i * kernels * item
        else:
            vy, y_plane, y_row = _gathered(words, tile, True, real, item, map=address(y) + i * kernels * item)
            y_address = address(vy)
        # The last vector of channels may be read past its end.
        memory = empty((pieces * tile.points * kernels * depth + 64,), dtype)
        products = memory[:-64].reshape(pieces, -1)
        table = np.zeros((pieces, tile.points, gemm.WORDS), np.int64)
        table[..., gemm.A], table[..., gemm.A_ROW], table[..., gemm.A_STEP] = (
            y_address + points * y_plane + first * y_row, 1, y_row // item)
        table[..., gemm.B], table[..., gemm.B_STEP], table[..., gemm.B_COLUMN] = (
            address(vx) + points * x_plane + first * x_row, x_row // item, 1)
        table[..., gemm.C], table[..., gemm.C_STRIDE] = (
            address(products) + np.arange(pieces * tile.points).reshape(pieces, -1) * kernels * depth * item, depth)
        table[..., gemm.M], table[..., gemm.N], table[..., gemm.SPLIT_ROWS] = kernels, depth, 1
        table[..., gemm.K] = np.diff(starts)[:, None]
        size = gemm.scratch_elements(kernels, depth, int(np.diff(starts).max()), False, False, dtype)
        _panels, where = _scratch(size * item)
        pool.run(gemm.make_batch(real), (pieces * tile.points, address(table), pool.size, where["scratch"],
                                         where["scratch_bytes"] // item), pool.size)
        if pieces > 1:
            np.sum(products[1:], axis=0, out=products[1])
            products[0] += products[1]
        _patch, where = _scratch(tile.r ** 2 * microkernel.VECTOR_BYTES)
        _run(conv.make(real).weight_grad, {**words, **where, "weights": address(products),
                                           "image": address(out) + i * kernels * out.strides[0]})
    return out
