"""The compiled convolutions behind Python functions: which tile to use, sizes to task words, scratch memory. Importing
this module compiles them, or loads them from the cache.

`g` is a Geometry (see `ops.conv`): input, kernel, output, stride, padding, dilation, groups, algorithm.
"""
from __future__ import annotations

import ctypes
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels import winograd as tiles
from tinygan.kernels.activations import IDENTITY
from tinygan.kernels.cpu.batchnorm import compiled as normalization
from tinygan.kernels.cpu.conv import lanes
from tinygan.kernels.cpu.conv import tiled as conv
from tinygan.kernels.cpu.layout import compiled as layout
from tinygan.kernels.cpu.matmul import gemm, microkernel
from tinygan.kernels.cpu.native import number
from tinygan.kernels.cpu.runtime import simd as transform
from tinygan.kernels.cpu.runtime.arrays import REALS, address
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import Scratch, empty
from tinygan.versions import derived

Array = np.ndarray[Any, Any]
TILES_AT_ONCE = 36  # and with less depth more of them, as many as make
V_BYTES = 256 * 1024  # of V, which so stays in the second-level cache
SHARED_TILES = 16  # for each part; with fewer the parts share the channels of the result
PACKED_TILES = 40  # for each part; with fewer, weights
KEPT_WEIGHTS = 16 * 2**20  # of more bytes than this are packed as needed, and not kept; the parts share channels, too
GRADIENT_BYTES = 16 * 2**20  # of V at a time, in the gradient of a weight, but a whole image
PANELS_AT_ONCE = 4  # of V in the gradient of a weight, in all its phases
GRADIENT_PRODUCTS_BYTES = 512 * 1024  # of their products with some rows of the map's, which so stay in the cache
PRODUCTS_BYTES = 4 * 2**20  # of products in the direct gradient of a weight, or little more
ROWS_AT_ONCE = 512  # of V that a product sums over, likewise


class Tile(NamedTuple):
    """Tiles of m x m outputs and r x r taps a phase; (1, 1) is the direct algorithm."""

    m: int
    r: int

    @property
    def planes(self) -> int:
        """How many points a tile in two dimensions has; V has a plane for each."""
        return (self.m + self.r - 1) ** 2


DIRECT = Tile(1, 1)


@lru_cache(1024)
def best_tile(g: Any, channels: int, kernels: int) -> Tile:
    """What computes a convolution of that many channels of the image and of the map fastest."""
    if g.algorithm == "direct" or g.groups != 1 or g.dilation != (1, 1) or g.stride[0] != g.stride[1]:
        return DIRECT
    taps = {-(-k // g.stride[0]) for k in g.kernel}
    fitting = [Tile(m, r) for m, r in tiles.POINTS if {r} == taps and r > 1]

    def products(tile: Tile) -> int:
        """How many a channel pair needs, the tiles' overhang counted."""
        high, wide = _tiles(g, tile)
        return high * wide * tile.planes

    if not fitting:
        return DIRECT
    best = min(fitting, key=products)
    direct = g.output[0] * g.output[1] * g.kernel[0] * g.kernel[1] / g.stride[0] ** 2  # of each phase, as above
    if g.algorithm == "tiled":
        return best
    # Transforming takes the time of some products, the more so where each value meets few others.
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
        "map_to_points": transform.make(real, rows(at)), "points_to_image": transform.make(real, rows(bt)),
        "points_added_to_image": transform.make(real, rows(bt), add=True), "points_to_map": transform.make(real, at),
        "kernel_to_points": transform.make(real, g), "points_to_kernel": transform.make(real, rows(g)),
    }


_PLACES = {name.lower(): place for name, place in vars(conv).items() if name.isupper() and isinstance(place, int)}


def _run(task: int, words: dict[str, int], places: dict[str, int] = _PLACES) -> None:
    """Run a task of `conv`'s, or of the module whose places of words these are."""
    values = [0] * places["words"]
    for name, value in words.items():
        values[places[name]] = value
    pool.run(task, tuple(values), pool.size)


@lru_cache(1024)
def _words(real: Any, g: Any, tile: Tile, images: int, image_pixel: int, map_pixel: int) -> dict[str, int]:
    """What all tasks are told of a convolution's sizes (to be copied). *_pixel: the number of channels."""
    high, wide = _tiles(g, tile)
    phases, s = _phases(g, tile), g.stride
    phase = g.dilation if tile == DIRECT else (1, 1)
    return {
        **_transforms(real, tile), "image_height": g.input[0], "image_width": g.input[1],
        "image_channels": image_pixel // g.groups, "image_pixel": image_pixel, "map_height": g.output[0],
        "map_width": g.output[1],
        "map_channels": map_pixel // g.groups, "map_pixel": map_pixel, "images": images, "tiles_high": high,
        "tiles_wide": wide, "phases_high": phases[0], "phases_wide": phases[1], "phase_high": phase[0],
        "phase_wide": phase[1], "step_high": s[0] * tile.m, "step_wide": s[1] * tile.m,
        "spacing": 1 if tile == DIRECT else s[0],
        "top": g.padding[0], "left": g.padding[1], "kernel_height": g.kernel[0], "kernel_width": g.kernel[1],
    }


def _packed(whole: Array, weight: Array, words: dict[str, int], tile: Tile, adjoint: bool) -> Array:
    """weight (K, C, kH, kW), a group of the `whole` weight, transformed and packed. That of a parameter is kept until it
    changes."""
    def pack() -> Array:
        columns = words["image_channels"] if adjoint else words["map_channels"]
        u = empty((_weights_bytes(words, -(-columns // gemm.columns(weight.dtype))),), np.uint8)
        source = np.ascontiguousarray(weight)
        with Scratch(pool.size * words["patch_each"]) as (patch,):
            _run(conv.make(REALS[weight.dtype]).pack,
                 {**words, "kernel": address(source), "weights": address(u), "adjoint": adjoint, "patch": patch})
        return u

    key = (address(weight), weight.shape, weight.strides, tile, adjoint, words["phases_high"], words["phases_wide"])
    return derived(whole, key, pack)


def _weights_bytes(words: dict[str, int], blocks: int) -> int:
    """The size of some blocks of the packed weights."""
    return words["points"] ** 2 * words["weights_plane"] * blocks


@lru_cache(1024)
def _chunk(rows: int, wide: int, depth_bytes: int) -> int:
    """How many rows of tiles at once, of those of a part: such that the matrix products have little waste in their last
    blocks, for which `multiply` takes as long as for full ones, and such that few chunks read the weights."""
    tiles_at_once = max(TILES_AT_ONCE, min(V_BYTES // max(depth_bytes, 1), 512))
    most = max(1, min(rows, -(-tiles_at_once // wide)))

    def cost(count: int) -> int:
        whole, rest = divmod(rows, count)
        tiles = [count * wide] * whole + [rest * wide] * (rest > 0)
        return sum(-(-tile // microkernel.ROWS) * microkernel.ROWS + 4 for tile in tiles)

    return min(range((most + 1) // 2, most + 1), key=lambda count: (cost(count), -count))


def _convolve(source: Array, weight: Array, g: Any, adjoint: bool, bias: Array | None, activation: int,
              slope: float) -> Array:
    """The map of an image (N, H, W, C), or, `adjoint`, the image of a map."""
    kernels, channels = weight.shape[0], weight.shape[1] * g.groups
    if _suits_lanes(g, channels, kernels, source, adjoint):
        return _convolve_lanes(source, weight, g, adjoint, bias, activation, slope)
    tile = best_tile(g, channels, kernels)
    images, dtype, item = source.shape[0], source.dtype, source.itemsize
    real, width = REALS[dtype], gemm.columns(dtype)
    words = dict(_words(real, g, tile, images, channels, kernels))
    words["adjoint"] = adjoint
    high, wide, phases = words["tiles_high"], words["tiles_wide"], words["phases_high"] * words["phases_wide"]
    target = empty((images, *(g.input if adjoint else g.output), channels if adjoint else kernels), dtype)
    rows, columns = words["image_channels"], words["map_channels"]
    if adjoint:
        rows, columns = columns, rows
    depth, blocks = rows * (1 if adjoint else phases), -(-columns // width)
    # With few tiles every part would read all the weights for a few of them, so the parts share the channels instead.
    part_tiles = -(-images * high * wide // pool.size)
    words["weights_plane"] = conv.plane_bytes(phases * rows, width * item)
    as_needed = part_tiles <= PACKED_TILES and _weights_bytes(words, blocks) > KEPT_WEIGHTS
    share = (as_needed or part_tiles <= SHARED_TILES) and blocks >= pool.size
    as_needed = as_needed and share
    if as_needed:
        words["weights_plane"] = conv.plane_bytes(rows, width * item)
    part_rows = -(-images // pool.size) * high if adjoint else -(-images * high // pool.size)
    words["chunk"] = images * high if share else _chunk(part_rows, wide, depth * item * tile.planes)
    tiles_at_once = words["chunk"] * wide
    row = conv.row_bytes(depth * item)
    words["v_row"], words["v_plane"] = row, conv.plane_bytes(tiles_at_once, row)
    whole_rows = -(-tiles_at_once // conv.ROWS) * conv.ROWS
    words["products_row"] = conv.row_bytes(width * item * (1 if as_needed else blocks))
    words["products_plane"] = conv.plane_bytes(whole_rows, words["products_row"])
    words["patch_each"] = _patch_bytes(words, tile, item)
    row_elements = phases * tile.r ** 2 * width * item
    image, result = (target, source) if adjoint else (source, target)
    per_group = kernels // g.groups
    result_channels = words["image_channels"] if adjoint else per_group
    for i in range(g.groups):
        some = weight[i * per_group:(i + 1) * per_group]
        kernel = np.ascontiguousarray(some) if as_needed else some
        u = None if as_needed else _packed(weight, some, words, tile, adjoint)
        v_bytes = tile.planes * words["v_plane"] + conv.ROWS * row  # rows beyond the tiles are read, whatever they hold
        products_each = _lines(tile.planes * words["products_plane"])
        v_each, weights_each, elements_each = 0 if share else _lines(v_bytes), 0, 0
        if as_needed:
            weights_each, elements_each = _lines(_weights_bytes(words, 1)), _lines(rows * row_elements)
        with Scratch(v_bytes if share else pool.size * v_each, pool.size * products_each, pool.size * weights_each,
                     pool.size * elements_each, pool.size * words["patch_each"]) as (v, products, weights, elements, patch):
            words.update({
                "image": address(image) + i * words["image_channels"] * item, "map": address(result) + i * per_group * item,
                "kernel": address(kernel), "weights": weights if u is None else address(u), "weights_each": weights_each,
                "elements": elements, "elements_each": elements_each,
                "bias": 0 if bias is None else address(bias) + i * result_channels * item,
                "activation": activation, "slope": number(slope, dtype), "v": v, "v_each": v_each, "products": products,
                "products_each": products_each, "patch": patch})
            if share:
                _run(conv.make(real).gather, words)
            _run(conv.make(real).convolve, words)
    return target


# Few channels


FEW, VERY_FEW = 256, 4  # pairs of channels, or channels of a side, up to which an image a lane is faster


def _suits_lanes(g: Any, channels: int, kernels: int, source: Array, adjoint: bool) -> bool:
    if g.groups != 1 or g.dilation[1] != 1 or g.algorithm == "tiled":
        return False
    # Without an image for every lane; but matrix products whose results have next to no columns are slower still.
    if source.shape[0] < transform.lanes_of(REALS[source.dtype]):
        return adjoint and channels <= VERY_FEW and source.shape[0] > 1
    return channels * kernels <= FEW or min(channels, kernels) <= VERY_FEW


_LANES = {name.lower(): place for name, place in vars(lanes).items() if name.isupper() and isinstance(place, int)}


def _lanes_words(source: Array, target: Array, g: Any, adjoint: bool) -> dict[str, int]:
    """What the tasks of `lanes` are told of a convolution's sizes, and of the memory that each part needs."""
    (images, height, width, channels), (_, target_height, target_width, target_channels) = source.shape, target.shape
    vector = microkernel.VECTOR_BYTES
    lane_count = vector // source.itemsize
    beyond = lanes.PIXELS_AT_ONCE  # pixels that are done because they come with others
    if adjoint:
        before = -(-g.kernel[1] // g.stride[1]) - 1
        pixels = before + max(width, (target_width + g.padding[1]) // g.stride[1] + 1 + beyond)
        ring_rows = (g.kernel[0] - 1) * g.dilation[0] // g.stride[0] + 1
    else:
        before = g.padding[1]
        pixels = max(before + width, (target_width + beyond) * g.stride[1] + g.kernel[1])
        ring_rows = (g.kernel[0] - 1) * g.dilation[0] + 1
    row = (pixels * channels + lanes.ROWS_AT_ONCE) * vector
    blocks = -(-images // lane_count)
    return {
        "source": address(source), "source_height": height, "source_width": width, "source_channels": channels,
        "target": address(target), "target_height": target_height, "target_width": target_width,
        "target_channels": target_channels, "images": images, "adjoint": adjoint, "stride_high": g.stride[0],
        "stride_wide": g.stride[1], "top": g.padding[0], "left": g.padding[1], "spacing": g.dilation[0],
        "kernel_height": g.kernel[0], "kernel_width": g.kernel[1], "bands": max(1, min(target_height, pool.size // blocks)),
        "before": before, "ring_rows": ring_rows, "ring_row": row, "ring_each": ring_rows * row,
        "table_each": _lines(16 * g.kernel[0]), "row_each": (target_width + beyond * g.stride[1]) * target_channels * vector,
    }


def _convolve_lanes(source: Array, weight: Array, g: Any, adjoint: bool, bias: Array | None, activation: int,
                    slope: float) -> Array:
    """`_convolve` for few channels."""
    dtype = source.dtype
    target = empty((source.shape[0], *(g.input if adjoint else g.output), weight.shape[1 if adjoint else 0]), dtype)
    rows = weight.transpose(2, 3, 0, 1) if adjoint else weight.transpose(2, 3, 1, 0)
    if adjoint:  # phase after phase, each backward
        rows = rows[:, [tap for phase in range(g.stride[1]) for tap in reversed(range(phase, g.kernel[1], g.stride[1]))]]
    rows = np.ascontiguousarray(rows)
    words = _lanes_words(source, target, g, adjoint)
    sizes = [pool.size * words[each] for each in ("ring_each", "row_each", "table_each")]
    with Scratch(*sizes) as (ring, row, table):
        _run(lanes.make(REALS[dtype]).convolve, {
            **words, "weights": address(rows), "bias": 0 if bias is None else address(bias), "activation": activation,
            "slope": number(slope, dtype), "ring": ring, "row": row, "table": table}, _LANES)
    return target


def _weight_grad_lanes(x: Array, y: Array, g: Any) -> Array:
    channels, kernels, (height, width) = x.shape[3], y.shape[3], g.kernel
    words = _lanes_words(x, y, g, False)
    rows, count = width * channels + lanes.ROWS_AT_ONCE, microkernel.VECTOR_BYTES // x.itemsize
    plane = rows * kernels * microkernel.VECTOR_BYTES
    sizes = [pool.size * each for each in (words["ring_each"], words["row_each"], height * plane)]
    with Scratch(*sizes) as (ring, row, sums):
        _run(lanes.make(REALS[x.dtype]).weight_grad, {
            **words, "ring": ring, "row": row, "sums": sums, "sums_each": height * plane, "sums_plane": plane,
            "sums_columns": kernels}, _LANES)
        found = np.ctypeslib.as_array(_pointer(sums, x.dtype), (pool.size, height, rows, kernels, count))
        gradient = found[:, :, :width * channels].sum((0, 4)).reshape(height, width, channels, kernels)
    return np.ascontiguousarray(gradient.transpose(3, 2, 0, 1))


def _lines(size: int) -> int:
    """That many bytes, in whole cache lines."""
    return -(-size // conv.LINE) * conv.LINE


def _patch_bytes(words: dict[str, int], tile: Tile, item: int) -> int:
    """Room for a patch of the image, or for the elements of the kernel that a block of the weights has in a row."""
    phases = words["phases_high"] * words["phases_wide"]
    return _lines(max(tile.planes * microkernel.VECTOR_BYTES, phases * tile.r ** 2 * microkernel.columns(item) * item))


def conv2d(x: Array, weight: Array, g: Any, bias: Array | None, activation: int, slope: float) -> Array:
    """activation(x * weight + bias), channels-last as all images here; activation: a code of `gemm`'s."""
    return _convolve(x, weight, g, False, None if bias is None else np.ascontiguousarray(bias), activation, slope)


def conv2d_input_grad(y: Array, weight: Array, g: Any, bias: Array | None = None) -> Array:
    """The adjoint in x, plus bias."""
    return _convolve(y, weight, g, True, None if bias is None else np.ascontiguousarray(bias), IDENTITY, 0.0)


def conv2d_weight_grad(x: Array, y: Array, g: Any) -> Array:
    """The adjoint in weight: for each point a product that sums over all tiles."""
    if _suits_lanes(g, x.shape[3], y.shape[3], x, False):
        return _weight_grad_lanes(x, y, g)
    tile = best_tile(g, x.shape[3], y.shape[3])
    dtype, item, real = x.dtype, x.itemsize, REALS[x.dtype]
    words = dict(_words(real, g, tile, x.shape[0], x.shape[3], y.shape[3]))
    words["patch_each"] = _patch_bytes(words, tile, item)
    kernels, channels = words["map_channels"], words["image_channels"]
    depth, tiles_each = words["phases_high"] * words["phases_wide"] * channels, words["tiles_high"] * words["tiles_wide"]
    x_row, y_row = conv.row_bytes(depth * item), conv.row_bytes(kernels * item)
    out = empty((y.shape[3], channels, *g.kernel), dtype)
    each = tile.planes * tiles_each * (x_row + y_row)
    chunks = max(1, min(x.shape[0], -(-x.shape[0] * each // GRADIENT_BYTES)))
    for group in range(g.groups):
        for chunk in range(chunks):
            begin, end = x.shape[0] * chunk // chunks, x.shape[0] * (chunk + 1) // chunks
            words.update({"images": end - begin, "image": address(x[begin:]) + group * channels * item,
                          "map": address(y[begin:]) + group * kernels * item,
                          "kernel": address(out) + group * kernels * out.strides[0], "accumulate": chunk > 0})
            _add_weight_grad(words, tile, dtype, (x_row, y_row), y.shape[3] * item)
    return out


def _add_weight_grad(words: dict[str, int], tile: Tile, dtype: Any, rows: tuple[int, int], map_pixel: int) -> None:
    """The gradient from some images of a batch, to what `words` says."""
    tasks, item = conv.make(REALS[dtype]), dtype.itemsize
    count = words["images"] * words["tiles_high"] * words["tiles_wide"]
    planes = [conv.plane_bytes(count, row) for row in rows]
    words = {**words, "v_row": rows[0], "v_plane": planes[0]}
    if tile == DIRECT:
        _sum_products(words, dtype, planes[0], map_pixel)
        return
    phases, width = words["phases_high"] * words["phases_wide"], microkernel.columns(item)
    words["panels"] = max(1, PANELS_AT_ONCE // phases)
    columns = min(phases * words["panels"], -(-phases * words["image_channels"] // width)) * width
    words["products_row"] = conv.row_bytes(columns * item)
    blocks = GRADIENT_PRODUCTS_BYTES // (tile.planes * words["products_row"] * conv.ROWS)  # of rows
    words["chunk"] = max(1, blocks) * conv.ROWS
    words["products_plane"] = conv.plane_bytes(words["chunk"], words["products_row"])
    words["products_each"] = tile.planes * words["products_plane"]
    beyond = conv.ROWS * item + width * item  # what a block of rows or of columns reads beyond its matrix
    with Scratch(tile.planes * planes[0] + beyond, tile.planes * planes[1] + beyond, pool.size * words["products_each"],
                 pool.size * words["patch_each"]) as (vx, vy, products, patch):
        words.update(patch=patch, v=vx, map_v=vy, map_v_row=rows[1], map_v_plane=planes[1], products=products)
        _run(tasks.gather, {**words, "adjoint": 0})
        _run(tasks.gather, {**words, "adjoint": 1, "v": vy, "v_row": rows[1], "v_plane": planes[1]})
        _run(tasks.weight_grad, words)


def _sum_products(words: dict[str, int], dtype: Any, v_bytes: int, map_pixel: int) -> None:
    """The same for the direct algorithm, where the sum over all pixels is what takes the time: it is cut into pieces."""
    item, real = dtype.itemsize, REALS[dtype]
    kernels, first_kernel = words["map_channels"], words["kernel"]
    kernel_bytes = words["image_channels"] * words["kernel_height"] * words["kernel_width"] * item
    depth = words["phases_high"] * words["phases_wide"] * words["image_channels"]
    count = words["images"] * words["tiles_high"] * words["tiles_wide"]
    pieces = max(1, count // ROWS_AT_ONCE)
    passes = -(-kernels * pieces * depth * item // PRODUCTS_BYTES)
    at_once = min(kernels, -(-kernels // passes // microkernel.ROWS) * microkernel.ROWS)  # whole blocks of rows
    starts = np.arange(pieces + 1) * count // pieces
    longest = int(np.diff(starts).max())
    products_bytes = pieces * (at_once * depth * item + conv.LINE) + conv.LINE  # vectors are read to the end
    panels = _lines(gemm.scratch_elements(at_once, depth, longest, False, False, dtype) * item)
    with Scratch(v_bytes, products_bytes, pool.size * panels,
                 pool.size * words["patch_each"]) as (v, products, memory, patch):
        words.update(patch=patch, v=v, adjoint=0)
        _run(conv.make(real).gather, words)
        table = np.zeros((pieces, gemm.WORDS), np.int64)
        table[:, gemm.A_ROW], table[:, gemm.A_STEP] = 1, map_pixel // item
        table[:, gemm.B], table[:, gemm.B_STEP] = v + starts[:-1] * words["v_row"], words["v_row"] // item
        table[:, gemm.B_COLUMN], table[:, gemm.C_STRIDE], table[:, gemm.SPLIT_ROWS] = 1, depth, 1
        table[:, gemm.N], table[:, gemm.K] = depth, np.diff(starts)
        for k in range(0, kernels, at_once):
            some = min(at_once, kernels - k)
            plane = conv.plane_bytes(some, depth * item)
            table[:, gemm.A] = words["map"] + starts[:-1] * map_pixel + k * item  # what would be gathered of the map
            table[:, gemm.C] = products + np.arange(pieces) * plane
            table[:, gemm.M] = some
            pool.run(gemm.make_batch(real), (pieces, address(table), _shares(pieces), memory, panels // item), pool.size)
            if pieces > 1:
                each = np.ctypeslib.as_array(_pointer(products, dtype), (pieces, plane // item))[:, :some * depth]
                np.sum(each[1:], axis=0, out=each[1])
                each[0] += each[1]
            _run(conv.make(real).untile_weights, {
                **words, "map_channels": some, "kernel": first_kernel + k * kernel_bytes, "products": products,
                "products_plane": plane})


@lru_cache(1024)
def _shares(products: int) -> int:
    """Into how many shares each product is cut, each of which packs the same again, so that no part has much more to do
    than another."""
    size = pool.size
    return next(shares for shares in range(1, size + 1)
                if shares == size or -(-products * shares // size) * size <= 1.1 * products * shares)


def _pointer(place: int, dtype: Any) -> Any:
    """A C pointer to elements of that type."""
    return ctypes.cast(place, ctypes.POINTER(ctypes.c_float if dtype == np.float32 else ctypes.c_double))


# What every training with convolutions needs.
for _make in (conv.make, gemm.make_batch, layout.make, normalization.make):
    _make(REALS[np.dtype(np.float32)])
