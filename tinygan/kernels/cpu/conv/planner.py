"""Plans a convolution: the algorithm, the tile, and how the threads share the work.

All thresholds are here, and were found by measuring. Plans are cached by the sizes. A plan includes all arguments of the
kernels that depend on sizes, so each call only has to add addresses.

`g` is a Geometry (see `ops.conv`). Images and maps are channels-last. A *part* is the share of one thread. `channels` are
those of the image, `kernels` are the channels of the map.
"""
from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.cpu.conv import lanes, thin
from tinygan.kernels.cpu.conv.grouped_products import TILES_MULTIPLIED
from tinygan.kernels.cpu.conv.lane_products import ENTRY_BYTES, PIXELS_AT_ONCE, ROWS_AT_ONCE
from tinygan.kernels.cpu.conv.patches import LINE, Side, Tiles
from tinygan.kernels.cpu.conv.thin_products import TAPS_AT_ONCE
from tinygan.kernels.cpu.conv.tile_transforms import transform_by
from tinygan.kernels.cpu.conv.tiled import Sizes
from tinygan.kernels.cpu.conv.weights import Weight
from tinygan.kernels.cpu.matmul import microkernel
from tinygan.kernels.cpu.runtime.arrays import REALS
from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES, lanes_of
from tinygan.kernels.winograd import DIRECT, Tile, fitting, matrices, transposed

# Which algorithm
MOST_CHANNEL_PAIRS_IN_LANES = 256  # channels * kernels: with at most so many, one image in each lane is fastest
MOST_CHANNELS_IN_LANES = 4  # with at most so many channels it is fastest for any number of kernels, and vice versa
MOST_CHANNELS_IN_GROUPS = 32  # in a group: with at most so many, one channel in each lane is fastest
LEAST_CHANNELS_TILED = 16  # with fewer channels or kernels, transforms take longer than they save
MOST_PRODUCTS_TILED = 0.75  # of those of the direct algorithm: with a larger share, transforms take longer than they save
MOST_PRODUCTS_TILED_IN_GROUPS = 0.6  # the same in groups of few channels
LEAST_LANES_TILED_IN_GROUPS = 0.5  # of a register, for each group: with fewer, transforms take longer than they save

# How a part computes groups of few channels
BLOCKS_IN_GROUPS = ((1, 8), (2, 4), (2, 7) if VECTOR_BYTES == 64 else (1, 7))  # rows and pixels; for all there are registers
GROUPS_BYTES = 256 * 1024  # of a band of the source in scratch memory, for the second-level cache
GROUP_TILES_AT_ONCE = 16  # so that V of one block nearly fits into the first-level cache

# How parts share the work
MOST_TILES_TO_SHARE_CHANNELS = 16  # tiles for each part: with more, the parts share the tiles
MOST_TILES_TO_PACK_AS_NEEDED = 40  # tiles for each part: with more, weights are packed once for all tiles
MOST_PACKED_BYTES_TO_KEEP = 16 * 2**20  # larger packed weights are packed as needed, and not kept

# How much is computed at once, so that it stays in a cache
V_BYTES = 256 * 1024  # the size of V, for the second-level cache
LEAST_TILES_AT_ONCE = 36  # even if their V is larger
MOST_TILES_AT_ONCE = 512  # even if their V is smaller
THIN_BAND_BYTES = 128 * 1024  # the size of a band of the map, with one kernel in each lane
THIN_LEAST_BANDS = 4  # for each part, so that the parts share them evenly
GRADIENT_V_BYTES = 16 * 2**20  # the size of V of images and maps, for the gradient of a weight; at least one image is taken
GRADIENT_PRODUCTS_BYTES = 512 * 1024  # the products of a part, for the second-level cache
GRADIENT_PANELS_AT_ONCE = 4  # panels of a block, over all phases; a panel is as wide as the micro-kernel
DIRECT_GRADIENT_PRODUCTS_BYTES = 4 * 2**20  # the products of all parts
DIRECT_GRADIENT_LEAST_TERMS = 512  # a sum over pixels is cut into pieces with at least so many terms


# Which algorithm


def suits_lanes(g: Any, channels: int, kernels: int, source: np.ndarray[Any, Any], adjoint: bool) -> bool:
    """Whether one image in each lane is the fastest algorithm. source: the image, or for the adjoint the map."""
    if g.groups != 1 or g.dilation[1] != 1 or g.algorithm == "tiled":
        return False
    # If there are too few images to fill the lanes, matrix products are faster, unless their results have very few columns.
    if source.shape[0] < lanes_of(REALS[source.dtype]):
        return adjoint and channels <= MOST_CHANNELS_IN_LANES and source.shape[0] > 1
    return channels * kernels <= MOST_CHANNEL_PAIRS_IN_LANES or min(channels, kernels) <= MOST_CHANNELS_IN_LANES


def suits_thin(g: Any, channels: int, kernels: int, dtype: Any) -> bool:
    """Whether one kernel in each lane is the fastest algorithm for the map of an image, or the gradient of the weight."""
    if g.groups != 1 or g.dilation[1] != 1 or g.algorithm == "tiled":
        return False
    return channels <= MOST_CHANNELS_IN_LANES and kernels % lanes_of(REALS[dtype]) == 0


def is_product(g: Any) -> bool:
    """Whether each kernel covers the whole image once, so that the image in memory is the row of a matrix product."""
    return g.output == (1, 1) and g.kernel == g.input and g.padding == (0, 0) and g.groups == 1


def is_pixelwise(g: Any) -> bool:
    """Whether the kernels cover one pixel and meet each pixel once, so that the images in memory are one matrix, with a row
    for each pixel."""
    sizes = g.kernel, g.stride, g.padding, g.groups
    return sizes == ((1, 1), (1, 1), (0, 0), 1) and g.input == g.output and g.algorithm != "tiled"


def suits_groups(g: Any, channels: int, kernels: int) -> bool:
    """Whether one channel in each lane is the fastest algorithm."""
    if g.groups == 1 or max(channels, kernels) > MOST_CHANNELS_IN_GROUPS * g.groups:
        return False
    return g.algorithm != "tiled" or fits_tiles_in_groups(g)


def fits_tiles_in_groups(g: Any) -> bool:
    """Whether the kernels in `grouped_tiles` can compute a convolution in groups."""
    return (g.kernel, g.stride, g.dilation) == ((3, 3), (1, 1), (1, 1)) and g.algorithm != "direct"


def tile_in_groups(g: Any, images: int, size: tuple[int, int], lanes_used: float) -> Tile:
    """The fastest tile for a convolution in groups of few channels. size: of the side that is computed, or for the gradient
    of the weight of the map. lanes_used: the share of a register that a group's slot takes."""
    def products(tile: Tile) -> int:
        """For each channel and kernel. The last tiles that are multiplied at once count fully."""
        tiles = images * -(-size[0] // tile.m) * -(-size[1] // tile.m)
        return -(-tiles // TILES_MULTIPLIED) * TILES_MULTIPLIED * tile.points

    if not fits_tiles_in_groups(g):
        return DIRECT
    best = min((Tile(2, 3), Tile(4, 3)), key=products)
    if g.algorithm == "tiled":
        return best
    direct = images * size[0] * size[1] * g.kernel[0] * g.kernel[1]
    is_faster = lanes_used >= LEAST_LANES_TILED_IN_GROUPS and products(best) < MOST_PRODUCTS_TILED_IN_GROUPS * direct
    return best if is_faster else DIRECT


@lru_cache(1024)
def tile_on_cpu(g: Any, channels: int, kernels: int) -> Tile:
    """The fastest tile for a convolution."""
    def products(tile: Tile) -> int:
        """Multiplications for each image, pair of channel and kernel, and phase. Tiles that reach beyond the map count
        fully."""
        high, wide = tile.grid(g)
        return high * wide * tile.points

    best = min(fitting(g), key=products, default=DIRECT)
    if best == DIRECT or g.algorithm == "tiled":
        return best
    direct = g.output[0] * g.output[1] * g.kernel[0] * g.kernel[1] / g.stride[0] ** 2  # counted in the same way
    is_faster = min(channels, kernels) >= LEAST_CHANNELS_TILED and products(best) < MOST_PRODUCTS_TILED * direct
    return best if is_faster else DIRECT


# Sizes in memory


def whole_lines(size: int) -> int:
    """`size` bytes rounded up to whole cache lines."""
    return -(-size // LINE) * LINE


def row_bytes(size: int) -> int:
    """The bytes from row to row, for rows of `size` bytes. One cache line is added: rows at distances that are powers of two
    would compete for the same place in the cache."""
    return whole_lines(size) + LINE


def plane_bytes(rows: int, row: int) -> int:
    """The bytes from plane to plane, for planes with that many rows. It is an odd number of cache lines, for the same
    reason."""
    return rows * row + LINE if rows * row // LINE % 2 == 0 else rows * row


# By tiles


class Convolution(NamedTuple):
    """The sizes of a convolution, or of one of its groups, as the kernels take them."""

    image: Side
    map: Side
    tiles: Tiles
    weight: Weight
    """Its `plane` is still 0; the plan sets it."""

    @property
    def phases(self) -> int:
        return self.weight.phases_high * self.weight.phases_wide


@cache
def _transforms(real: Any, tile: Tile) -> dict[str, int]:
    """The addresses of a tile's transforms (see `winograd`)."""
    at, g, bt = matrices(*tile)
    a, gt, b = transposed(at), transposed(g), transposed(bt)
    return {"image_to_points": transform_by(real, bt), "map_to_points": transform_by(real, a),
            "points_to_image": transform_by(real, b), "points_added_to_image": transform_by(real, b, add=True),
            "points_to_map": transform_by(real, at), "kernel_to_points": transform_by(real, g),
            "points_to_kernel": transform_by(real, gt)}


@lru_cache(1024)
def convolution(real: Any, g: Any, tile: Tile, images: int, channels: int, kernels: int,
                adjoint: bool = False) -> Convolution:
    """The sizes of a convolution as the kernels take them. channels and kernels: those of all groups together."""
    item, transforms = real.bitwidth // 8, _transforms(real, tile)
    (high, wide), (s_high, s_wide), m, n = tile.grid(g), g.stride, tile.m, tile.n
    # In the direct algorithm each tap of the kernel is a phase of its own.
    phases, phase, spacing = (g.kernel, g.dilation, 1) if tile == DIRECT else (g.stride, (1, 1), g.stride[0])
    image = Side(
        height=g.input[0], width=g.input[1], channels=channels // g.groups, pixel_bytes=channels * item,
        phases_high=phases[0], phases_wide=phases[1], phase_high=phase[0], phase_wide=phase[1], step_high=s_high * m,
        step_wide=s_wide * m, spacing=spacing, top=g.padding[0], left=g.padding[1], size=n, overlap=1,
        to_points=transforms["image_to_points"], from_points=transforms["points_to_image"],
        onto_pixels=transforms["points_added_to_image"])
    to_map = transforms["points_to_map"]
    y = Side(
        height=g.output[0], width=g.output[1], channels=kernels // g.groups, pixel_bytes=kernels * item, phases_high=1,
        phases_wide=1, phase_high=0, phase_wide=0, step_high=m, step_wide=m, spacing=1, top=0, left=0, size=m, overlap=0,
        to_points=transforms["map_to_points"], from_points=to_map, onto_pixels=to_map)
    weight = Weight(
        kernels=y.channels, channels=image.channels, height=g.kernel[0], width=g.kernel[1], phases_high=phases[0],
        phases_wide=phases[1], taps=tile.r, n=n, adjoint=int(adjoint), plane=0, to_points=transforms["kernel_to_points"],
        from_points=transforms["points_to_kernel"])
    return Convolution(image, y, Tiles(images, high, wide, n), weight)


class TiledPlan(NamedTuple):
    """How tiles compute a convolution, or its adjoint in the image."""

    sizes: Sizes
    packs_as_needed: bool
    """Each part packs the weights while it computes, and they are not kept."""
    shares_channels: bool
    """V is gathered first, and then the parts share the channels of the target."""
    packed_bytes: int
    """The size of the packed weights."""
    key: tuple[Any, ...]
    """What the packed weights depend on, besides the weight."""
    memory: tuple[int, ...]
    """The bytes of scratch memory for V, products, weights, their elements, and patches."""


@lru_cache(1024)
def plan_tiles(dtype: Any, g: Any, tile: Tile, images: int, channels: int, kernels: int, adjoint: bool,
               parts: int) -> TiledPlan:
    """The plan for that number of parts. channels and kernels: those of all groups together."""
    item, width, rows_of_kernel = dtype.itemsize, microkernel.columns(dtype.itemsize), microkernel.ROWS
    c = convolution(REALS[dtype], g, tile, images, channels, kernels, adjoint)
    source, target, (_, high, wide, _) = *((c.map, c.image) if adjoint else (c.image, c.map)), c.tiles
    rows, blocks = source.channels, -(-target.channels // width)
    depth = rows * source.phases_high * source.phases_wide
    weights_plane = plane_bytes(c.phases * rows, width * item)
    packed = tile.points * weights_plane * blocks

    # If there are few tiles and the parts shared them, each part would read all weights for only a few tiles. So the parts
    # share the channels instead.
    tiles_each = -(-images * high * wide // parts)
    as_needed = tiles_each <= MOST_TILES_TO_PACK_AS_NEEDED and packed > MOST_PACKED_BYTES_TO_KEEP
    share = (as_needed or tiles_each <= MOST_TILES_TO_SHARE_CHANNELS) and blocks >= parts
    as_needed = as_needed and share
    if as_needed:
        weights_plane = plane_bytes(rows, width * item)
    rows_each = -(-images // parts) * high if adjoint else -(-images * high // parts)
    at_once = images * high if share else _rows_at_once(rows_each, wide, depth * item * tile.points)
    tiles = at_once * wide

    v_row = row_bytes(depth * item)
    v_plane = plane_bytes(tiles, v_row)
    v_bytes = tile.points * v_plane + rows_of_kernel * v_row  # the micro-kernel also reads some rows after the last tile
    products_row = row_bytes(width * item * (1 if as_needed else blocks))
    products_plane = plane_bytes(-(-tiles // rows_of_kernel) * rows_of_kernel, products_row)
    sizes = Sizes(
        source=source, target=target, tiles=c.tiles, weight=c.weight._replace(plane=weights_plane), rows_at_once=at_once,
        v_row=v_row, v_plane=v_plane, v_each=0 if share else whole_lines(v_bytes),
        weights_each=whole_lines(tile.points * weights_plane) if as_needed else 0,
        elements_each=whole_lines(rows * c.phases * tile.r**2 * width * item) if as_needed else 0,
        products_row=products_row, products_plane=products_plane, products_each=whole_lines(tile.points * products_plane),
        patch_each=patch_bytes(c, tile, item))
    each = (sizes.products_each, sizes.weights_each, sizes.elements_each, sizes.patch_each)
    memory = (v_bytes if share else parts * sizes.v_each, *(parts * size for size in each))
    return TiledPlan(sizes, as_needed, share, packed, (tile, adjoint, c.weight.phases_high, c.weight.phases_wide), memory)


def _rows_at_once(rows: int, wide: int, tile_bytes: int) -> int:
    """How many rows of tiles a part computes at once. rows: those of the part. tile_bytes: the bytes of V for one tile.

    With more rows at once the weights are read less often. But an incomplete block of the micro-kernel takes as long as a
    complete one, so few tiles should be left over.
    """
    tiles_at_once = max(LEAST_TILES_AT_ONCE, min(V_BYTES // max(tile_bytes, 1), MOST_TILES_AT_ONCE))
    most = max(1, min(rows, -(-tiles_at_once // wide)))

    def cost(count: int) -> int:
        whole, rest = divmod(rows, count)
        tiles = [count * wide] * whole + [rest * wide] * (rest > 0)
        return sum(-(-tile // microkernel.ROWS) * microkernel.ROWS + 4 for tile in tiles)

    return min(range((most + 1) // 2, most + 1), key=lambda count: (cost(count), -count))


def patch_bytes(c: Convolution, tile: Tile, item: int) -> int:
    """The bytes of a patch, or of the taps in one row of a block of weights, whichever is larger."""
    taps = c.phases * tile.r**2
    return whole_lines(max(tile.points * VECTOR_BYTES, taps * microkernel.columns(item) * item))


# With an image in each lane


@lru_cache(1024)
def plan_lanes(dtype: Any, g: Any, images: int, channels: int, kernels: int, adjoint: bool, parts: int) -> lanes.LaneSizes:
    """The sizes of a convolution as the kernels in `lanes` take them."""
    source, target = lanes.ImageSize(g.input[0], g.input[1], channels), lanes.ImageSize(g.output[0], g.output[1], kernels)
    if adjoint:
        source, target = target, source
    vector = VECTOR_BYTES
    blocks = -(-images // (vector // dtype.itemsize))
    # The kernels compute PIXELS_AT_ONCE pixels at a time, so they read and write some pixels after the last one.
    if adjoint:
        before = -(-g.kernel[1] // g.stride[1]) - 1
        pixels = before + max(source.width, (target.width + g.padding[1]) // g.stride[1] + 1 + PIXELS_AT_ONCE)
        ring_rows = (g.kernel[0] - 1) * g.dilation[0] // g.stride[0] + 1
    else:
        before = g.padding[1]
        pixels = max(before + source.width, (target.width + PIXELS_AT_ONCE) * g.stride[1] + g.kernel[1])
        ring_rows = (g.kernel[0] - 1) * g.dilation[0] + 1
    row = (pixels * source.channels + ROWS_AT_ONCE) * vector
    return lanes.LaneSizes(
        source=source, target=target, images=images, adjoint=int(adjoint), stride_high=g.stride[0], stride_wide=g.stride[1],
        top=g.padding[0], left=g.padding[1], dilation=g.dilation[0], kernel_height=g.kernel[0], kernel_width=g.kernel[1],
        bands=max(1, min(target.height, parts // max(blocks, 1))), before=before, ring_rows=ring_rows, ring_row=row,
        ring_each=ring_rows * row, row_each=(target.width + PIXELS_AT_ONCE * g.stride[1]) * target.channels * vector)


def table_bytes(g: Any) -> int:
    """The bytes of the table with one entry for each row of the kernel."""
    return whole_lines(ENTRY_BYTES * g.kernel[0])


# With one kernel in each lane


@lru_cache(1024)
def plan_thin(dtype: Any, g: Any, images: int, channels: int, kernels: int, parts: int) -> thin.ThinSizes:
    """The sizes of a convolution as the kernels in `thin` take them."""
    item, run = dtype.itemsize, g.kernel[1] * channels
    taps = min(TAPS_AT_ONCE, key=lambda taps: -(-run // taps) * taps)
    band = max(1, min(g.output[0], THIN_BAND_BYTES // (g.output[1] * kernels * item)))
    band = min(band, max(1, images * g.output[0] // (THIN_LEAST_BANDS * parts)))
    columns = max(g.padding[1] + g.input[1], (g.output[1] - 1) * g.stride[1] + g.kernel[1])
    row, rows = columns * channels * item, (band - 1) * g.stride[0] + (g.kernel[0] - 1) * g.dilation[0] + 1
    return thin.ThinSizes(
        images=images, height=g.input[0], width=g.input[1], channels=channels, map_height=g.output[0], map_width=g.output[1],
        kernels=kernels, stride_high=g.stride[0], stride_wide=g.stride[1], top=g.padding[0], left=g.padding[1],
        dilation=g.dilation[0], kernel_height=g.kernel[0], run=run, band=band, row=row,
        copy_each=whole_lines(rows * row + taps * item), taps=taps)
