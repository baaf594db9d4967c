"""Plans a convolution in groups of few channels, with one channel in each lane of a vector. The thresholds are in `planner`.

`g` is a Geometry (see `ops.conv`). `channels` are those of the image, `kernels` are the channels of the map.
"""
from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from tinygan.kernels.cpu.conv import grouped, lanes, planner
from tinygan.kernels.cpu.conv.grouped_products import kernels_at_once
from tinygan.kernels.cpu.conv.grouped_tiles import GroupTiles, Patches
from tinygan.kernels.cpu.conv.tile_transforms import transform_by
from tinygan.kernels.cpu.runtime.arrays import REALS
from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES, lanes_of
from tinygan.kernels.winograd import DIRECT, Tile, matrices, transposed


class GroupPlan(NamedTuple):
    """How the kernels in `grouped` and `grouped_tiles` compute a convolution."""

    sizes: grouped.GroupSizes
    slot: int
    """The lanes of a group in a vector."""
    rows: int
    """The rows and pixels of the target that are computed at once, for each vector."""
    pixels: int
    taps: int
    """As for `grouped_products.tile_filter`."""
    packing: grouped.Packing
    """For the weight, or for its gradient. The addresses are still 0."""
    packed_bytes: int
    sums_each: int
    """The bytes of packed gradients, for each part."""
    tile: Tile
    """DIRECT, or the tile with which `grouped_tiles` computes the convolution."""
    tiles: GroupTiles | None = None
    """The sizes for `grouped_tiles`."""
    points_bytes: int = 0
    """The size of the transformed weights."""
    weight_transform: int = 0
    """Address of the transform from taps to points; for the gradient of a weight, from points to taps."""


@lru_cache(1024)
def plan_groups(dtype: Any, g: Any, images: int, channels: int, kernels: int, adjoint: bool, gradient: bool,
                parts: int) -> GroupPlan:
    """The plan for the map of an image; if `adjoint`, for the image of a map; if `gradient`, for the gradient of a weight.
    channels and kernels: those of all groups together."""
    width, tap_count = lanes_of(REALS[dtype]), g.kernel[0] * g.kernel[1]
    slot = _slot(max(channels, kernels) // g.groups, width)
    blocks = -(-g.groups // (width // slot))
    of_image, of_map = (grouped.Channels(count // g.groups, -(-(count // g.groups) // width) if slot == width else 1)
                        for count in (channels, kernels))
    source, target = lanes.ImageSize(g.input[0], g.input[1], channels), lanes.ImageSize(g.output[0], g.output[1], kernels)
    source_channels, target_channels, step, spacing, before = of_image, of_map, g.stride, (1, 1), g.padding
    if adjoint:
        source, target, source_channels, target_channels, step, spacing = target, source, of_map, of_image, (1, 1), g.stride
        before = [(k - 1) * d - p for k, d, p in zip(g.kernel, g.dilation, g.padding, strict=True)]
    taps = 3 if g.kernel[1] == 3 and step[1] == g.dilation[1] == 1 else 1
    rows, pixels = min(planner.BLOCKS_IN_GROUPS,
                       key=lambda b: -(-target.height // b[0]) * b[0] * -(-target.width // b[1]) * b[1])
    whole = slot == width
    depth = slot if not whole else width if source_channels.vectors > 1 else source_channels.group

    # The last rows and pixels that are computed at once may lie beyond the target.
    across, reach = -(-target.width // pixels) * pixels, [(k - 1) * d for k, d in zip(g.kernel, g.dilation, strict=True)]
    used = max((across - 1) * step[1] + reach[1] + 1, before[1] + (source.width - 1) * spacing[1] + 1)
    row = (used | 1) * VECTOR_BYTES

    def plane(high: int) -> int:
        """The bytes of a plane for that many rows of the target."""
        return ((-(-high // rows) * rows - 1) * step[0] + reach[0] + 1) * row

    bands = max(1, min(target.height, -(-parts // max(images * blocks, 1))))
    while plane(-(-target.height // bands)) * source_channels.vectors > planner.GROUPS_BYTES and bands < target.height:
        bands += 1
    high = -(-target.height // bands)
    tile = planner.tile_in_groups(g, images, (target.height, target.width), slot / width)
    at_once = kernels_at_once(slot, width) if tile == DIRECT else slot
    summed = -(-of_map.group // at_once) * at_once
    map_bytes = high * target.width * VECTOR_BYTES * target_channels.vectors
    sizes = grouped.GroupSizes(
        source=source, target=target, source_channels=source_channels, target_channels=target_channels, images=images,
        groups=g.groups, blocks=blocks, bands=bands, kernel_height=g.kernel[0], kernel_width=g.kernel[1], step_high=step[0],
        step_wide=step[1], spacing_high=spacing[0], spacing_wide=spacing[1], dilation_high=g.dilation[0],
        dilation_wide=g.dilation[1], top=before[0], left=before[1], row=row, width=used, plane=plane(high),
        source_each=plane(high) * source_channels.vectors, target_row=across * VECTOR_BYTES,
        target_each=map_bytes if gradient else rows * across * VECTOR_BYTES + VECTOR_BYTES, depth=depth)
    by_channel, by_kernel = tap_count, of_image.group * tap_count
    in_lanes = of_image if adjoint or gradient else of_map
    packing = grouped.Packing(
        weight=0, packed=0, groups=g.groups, blocks=blocks, lane_channels=in_lanes,
        depth_channels=of_map._replace(vectors=1) if gradient else source_channels, depth=summed if gradient else depth,
        taps_high=g.kernel[0], taps_wide=g.kernel[1], group_step=of_map.group * by_kernel,
        lane_step=by_channel if in_lanes is of_image else by_kernel,
        depth_step=by_kernel if in_lanes is of_image else by_channel, tap_step=-1 if adjoint else 1,
        first_tap=tap_count - 1 if adjoint else 0, summed=parts if gradient else 0, packed_each=0)
    vector_bytes = tap_count * VECTOR_BYTES
    plan = GroupPlan(
        sizes, slot, rows, pixels, taps, packing,
        packed_bytes=blocks * target_channels.vectors * source_channels.vectors * depth * vector_bytes,
        sums_each=blocks * of_image.vectors * summed * vector_bytes, tile=tile)
    if tile == DIRECT:
        return plan
    to_points = matrices(*tile).g
    return plan._replace(
        tiles=_tiles(REALS[dtype], plan, gradient), points_bytes=plan.packed_bytes // tap_count * tile.points,
        weight_transform=transform_by(REALS[dtype], transposed(to_points) if gradient else to_points))


def _tiles(real: Any, plan: GroupPlan, gradient: bool) -> GroupTiles:
    """The sizes for `grouped_tiles`."""
    s, (m, _), n, points = plan.sizes, plan.tile, plan.tile.n, plan.tile.points
    at, _, bt = matrices(*plan.tile)
    source = Patches(s.source, s.source_channels, size=n, top=s.top, left=s.left, transform=transform_by(real, bt))
    target = Patches(s.target, s.target_channels, size=m, top=0, left=0,
                     transform=transform_by(real, transposed(at) if gradient else at))
    plane = planner.plane_bytes(1, planner.GROUP_TILES_AT_ONCE * VECTOR_BYTES)
    # If a block is one vector on both sides, its products are written over V, from which they were computed.
    in_place = not gradient and s.source_channels.vectors == s.target_channels.vectors == 1
    second = 0 if in_place else s.source_channels.vectors * points * plane
    depth = plan.packing.depth
    return GroupTiles(
        source=source, target=target, images=s.images, groups=s.groups, blocks=s.blocks, high=-(-s.target.height // m),
        wide=-(-s.target.width // m), m=m, n=n, at_once=planner.GROUP_TILES_AT_ONCE, depth=depth, plane=plane, second=second,
        v_each=planner.whole_lines(second + s.target_channels.vectors * points * plane),
        patch_each=planner.whole_lines((3 * points + 1) * VECTOR_BYTES),
        points_each=s.blocks * s.source_channels.vectors * points * depth * VECTOR_BYTES, sums_each=plan.sums_each)


def _slot(channels: int, lanes: int) -> int:
    """The lanes for a group of so many channels: the next power of two, and at most a whole vector."""
    return min(1 << (channels - 1).bit_length(), lanes)
