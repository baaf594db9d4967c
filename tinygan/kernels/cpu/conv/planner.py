"""The decisions of a convolution: by which algorithm, with which tile, and how the threads share the work.

Every threshold stands here, and was found by measuring. What is decided for some sizes is kept, together with all that
kernels are told of these sizes, so that a call has to add only addresses.

`g` is a Geometry (see `ops.conv`). Images and maps are channels-last. A *part* is the share of one thread.
"""
from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.cpu.conv import lanes
from tinygan.kernels.cpu.conv.lane_products import ENTRY_BYTES, PIXELS_AT_ONCE, ROWS_AT_ONCE
from tinygan.kernels.cpu.conv.patches import LINE, Side, Tiles
from tinygan.kernels.cpu.conv.tile_transforms import transform_by
from tinygan.kernels.cpu.conv.tiled import Sizes
from tinygan.kernels.cpu.conv.weights import Weight
from tinygan.kernels.cpu.matmul import microkernel
from tinygan.kernels.cpu.runtime.arrays import REALS
from tinygan.kernels.cpu.runtime.simd import lanes_of
from tinygan.kernels.winograd import DIRECT, Tile, fitting, matrices, transposed

# Thresholds of which algorithm
MOST_CHANNEL_PAIRS_IN_LANES = 256  # channels times kernels, up to which an image a lane is fastest
MOST_CHANNELS_IN_LANES = 4  # of the image or of the map, up to which it is fastest whatever the other has
LEAST_CHANNELS_TILED = 16  # of image and map: with fewer, transforms take longer than they save
MOST_PRODUCTS_TILED = 0.75  # of those of the direct algorithm: with more, transforms take longer than they save

# Thresholds of how parts share the work
MOST_TILES_TO_SHARE_CHANNELS = 16  # tiles a part: with more, the parts share the tiles
MOST_TILES_TO_PACK_AS_NEEDED = 40  # tiles a part: with more, weights are packed once for all tiles
MOST_PACKED_BYTES_TO_KEEP = 16 * 2**20  # packed weights: larger ones are packed as needed, and not kept

# How much is done at once, so that it stays in a cache
V_BYTES = 256 * 1024  # of V, for the second-level cache
LEAST_TILES_AT_ONCE = 36  # even where their V is larger
MOST_TILES_AT_ONCE = 512
GRADIENT_V_BYTES = 16 * 2**20  # of V of images and maps in a weight's gradient (but at least of one image)
GRADIENT_PRODUCTS_BYTES = 512 * 1024  # of products of a part, for the second-level cache
GRADIENT_PANELS_AT_ONCE = 4  # columns of a block in all phases, in widths of the micro-kernel
DIRECT_GRADIENT_PRODUCTS_BYTES = 4 * 2**20  # of products of all parts
DIRECT_GRADIENT_TERMS = 512  # of a sum over pixels, at least: longer sums are cut into pieces


# Which algorithm


def suits_lanes(g: Any, channels: int, kernels: int, source: np.ndarray[Any, Any], adjoint: bool) -> bool:
    """Whether a convolution of so many channels of the image and of the map is fastest with an image in each lane."""
    if g.groups != 1 or g.dilation[1] != 1 or g.algorithm == "tiled":
        return False
    # With too few images for all lanes matrix products are faster, unless their results have next to no columns.
    if source.shape[0] < lanes_of(REALS[source.dtype]):
        return adjoint and channels <= MOST_CHANNELS_IN_LANES and source.shape[0] > 1
    return channels * kernels <= MOST_CHANNEL_PAIRS_IN_LANES or min(channels, kernels) <= MOST_CHANNELS_IN_LANES


@lru_cache(1024)
def tile_on_cpu(g: Any, channels: int, kernels: int) -> Tile:
    """The tile by which a convolution of so many channels of the image and of the map is fastest."""
    def products(tile: Tile) -> int:
        """How many a pair of channels needs, with those of tiles that reach beyond the map."""
        high, wide = tile.grid(g)
        return high * wide * tile.points

    best = min(fitting(g), key=products, default=DIRECT)
    if best == DIRECT or g.algorithm == "tiled":
        return best
    direct = g.output[0] * g.output[1] * g.kernel[0] * g.kernel[1] / g.stride[0] ** 2  # of one phase, as above
    is_faster = min(channels, kernels) >= LEAST_CHANNELS_TILED and products(best) < MOST_PRODUCTS_TILED * direct
    return best if is_faster else DIRECT


# Sizes in memory


def whole_lines(size: int) -> int:
    """That many bytes or a little more, in whole cache lines."""
    return -(-size // LINE) * LINE


def row_bytes(size: int) -> int:
    """The distance of rows of that many bytes, one cache line more than they need: rows that lie a power of two apart would
    compete for one place in the cache."""
    return whole_lines(size) + LINE


def plane_bytes(rows: int, row: int) -> int:
    """The distance of planes of that many rows: an odd number of cache lines, for the same reason."""
    return rows * row + LINE if rows * row // LINE % 2 == 0 else rows * row


# By tiles


class Convolution(NamedTuple):
    """A convolution of some sizes, or one group of it, as kernels see it."""

    image: Side
    map: Side
    tiles: Tiles
    weight: Weight
    """Its `plane` is not decided yet, and 0."""

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
    """What kernels are told of a convolution; channels and kernels: those of all groups."""
    item, transforms = real.bitwidth // 8, _transforms(real, tile)
    (high, wide), (s_high, s_wide), m, n = tile.grid(g), g.stride, tile.m, tile.n
    # Directly each tap of the kernel is a phase of its own.
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
    """How a convolution, or its adjoint in the image, is computed by tiles."""

    sizes: Sizes
    packs_as_needed: bool
    """Each part packs weights while it computes; they are not kept."""
    shares_channels: bool
    """V is gathered first, and the parts share the channels of the target."""
    packed_bytes: int
    """Of the packed weights."""
    key: tuple[Any, ...]
    """What the packed weights depend on."""
    memory: tuple[int, ...]
    """Bytes of scratch memory: V, products, weights, their elements, patches."""


@lru_cache(1024)
def plan_tiles(dtype: Any, g: Any, tile: Tile, images: int, channels: int, kernels: int, adjoint: bool,
               parts: int) -> TiledPlan:
    """The plan for so many parts. channels and kernels: those of all groups."""
    item, width, rows_of_kernel = dtype.itemsize, microkernel.columns(dtype.itemsize), microkernel.ROWS
    c = convolution(REALS[dtype], g, tile, images, channels, kernels, adjoint)
    source, target, (_, high, wide, _) = *((c.map, c.image) if adjoint else (c.image, c.map)), c.tiles
    rows, blocks = source.channels, -(-target.channels // width)
    depth = rows * source.phases_high * source.phases_wide
    weights_plane = plane_bytes(c.phases * rows, width * item)
    packed = tile.points * weights_plane * blocks

    # With few tiles every part would read all the weights for a few of them, so the parts share the channels instead.
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
    v_bytes = tile.points * v_plane + rows_of_kernel * v_row  # rows beyond the tiles are read, whatever they hold
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
    """How many rows of tiles are done at once, of those of a part. tile_bytes: what a tile takes of V.

    More of them read the weights less often. But a product takes as long for an incomplete block of rows as for a complete
    one, so few should be left over.
    """
    tiles_at_once = max(LEAST_TILES_AT_ONCE, min(V_BYTES // max(tile_bytes, 1), MOST_TILES_AT_ONCE))
    most = max(1, min(rows, -(-tiles_at_once // wide)))

    def cost(count: int) -> int:
        whole, rest = divmod(rows, count)
        tiles = [count * wide] * whole + [rest * wide] * (rest > 0)
        return sum(-(-tile // microkernel.ROWS) * microkernel.ROWS + 4 for tile in tiles)

    return min(range((most + 1) // 2, most + 1), key=lambda count: (cost(count), -count))


def patch_bytes(c: Convolution, tile: Tile, item: int) -> int:
    """Memory for a patch, or for the taps that a block of weights has in a row."""
    taps = c.phases * tile.r**2
    return whole_lines(max(tile.points * microkernel.VECTOR_BYTES, taps * microkernel.columns(item) * item))


# With an image in each lane


@lru_cache(1024)
def plan_lanes(dtype: Any, g: Any, images: int, channels: int, kernels: int, adjoint: bool, parts: int) -> lanes.LaneSizes:
    """What the kernels in `lanes` are told of a convolution of so many channels of the image and of the map."""
    source, target = lanes.ImageSize(g.input[0], g.input[1], channels), lanes.ImageSize(g.output[0], g.output[1], kernels)
    if adjoint:
        source, target = target, source
    vector = microkernel.VECTOR_BYTES
    blocks = -(-images // (vector // dtype.itemsize))
    # Some pixels beyond the last are computed, because they come with others.
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
    """Memory for the table of rows under a kernel."""
    return whole_lines(ENTRY_BYTES * g.kernel[0])
