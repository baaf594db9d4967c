"""The kernels for convolutions in groups of few channels: one channel in each lane of a vector register.

A convolution in groups of 8 channels as 8 x 8 matrix products would leave most lanes of the registers empty. Here a vector
has a *slot* of lanes for each of several groups: a block. The slot of a group has one lane for each of its channels. Vectors
of the image are multiplied by vectors of the weight:

    y[k] = sum over taps and d of spread(x under the tap, d)[k] * weights[tap, d][k]

where spread(x, d) has in all lanes of a slot the value of channel d of that group. This needs no more products than the
definition, for any number of groups. A large group takes several whole vectors, and a block is one group.

Before that, the channels of a block are copied from a band of rows of the image to scratch memory, where each pixel is one
vector, with zeros around the image. If a group needs several vectors, each has a *plane* of its own there. The adjoint in
the image is the same computation with another weight: zeros are between the pixels of the map, as many as the stride needs.

The source is read, and the target is written. They are the image and the map, or for the adjoint the map and the image. Both
are channels-last. Distances count bytes.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from tinygan.kernels.cpu.activations.functions import activate_fused
from tinygan.kernels.cpu.conv.grouped_products import kernels_at_once, prefetch, rows_at_once, tap_products, tile_filter
from tinygan.kernels.cpu.conv.lanes import ImageSize
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import array_at
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES, lanes_of, moves, vector_moves


class Channels(NamedTuple):
    """How the channels of the source or of the target lie in vectors."""

    group: int
    """The channels of a group."""
    vectors: int
    """The vectors of a block. More than one only if a slot is a whole vector."""


class GroupSizes(NamedTuple):
    """The sizes of a convolution in groups, for both tasks. `*_each` are the bytes of scratch memory for each part."""

    source: ImageSize
    target: ImageSize
    source_channels: Channels
    target_channels: Channels
    images: int
    groups: int
    blocks: int
    bands: int
    """How many bands of rows an image is cut into."""
    kernel_height: int
    kernel_width: int
    step_high: int
    """The rows and columns of scratch memory from one pixel of the target to the next."""
    step_wide: int
    spacing_high: int
    """The rows and columns of scratch memory from one pixel of the source to the next."""
    spacing_wide: int
    dilation_high: int
    """The rows and columns of scratch memory from one tap to the next."""
    dilation_wide: int
    top: int
    """Where the first row and column of the source lie in scratch memory. If negative, they are left out."""
    left: int
    row: int
    """The bytes of a row in scratch memory."""
    width: int
    """The pixels of a row that are used."""
    plane: int
    source_each: int
    target_row: int
    """The bytes of a row of the target in scratch memory."""
    target_each: int
    depth: int
    """The products for one tap and one vector of the source: the d of the formula."""

    # The packed weights of a vector are (source vectors, kernel height, depth, kernel width, lanes).


class ConvolveGroups(NamedTuple):
    """The arguments of the task `convolve`: sizes, addresses, the activation and its slope."""

    sizes: GroupSizes
    source: int
    target: int
    weights: int
    """The packed weights of all blocks and of all vectors of their target."""
    bias: int
    """One number for each channel of the target. 0 for no bias."""
    activation: int
    slope: float
    image: int
    """Scratch memory for a band of the source."""
    out: int
    """Scratch memory for rows of the target, and one vector more."""


class WeightGradGroups(NamedTuple):
    """The arguments of the task `weight_grad`. The source is the image. The target is the map, which is read here, too."""

    sizes: GroupSizes
    source: int
    target: int
    image: int
    map: int
    """Scratch memory for bands of the source and of the target."""
    sums: int
    """The sums of each part, in the order of packed weights, with the channels of the image in the lanes: (blocks, source
    vectors, kernel height, kernels, kernel width, lanes)."""
    sums_each: int
    kernels: int
    """How many kernels of each group there are sums for. The last ones may be unused."""


class Packing(NamedTuple):
    """The arguments of the task `pack`, which brings weights into the order of `convolve`, or back."""

    weight: int
    packed: int
    groups: int
    blocks: int
    lane_channels: Channels
    """The channels that lie in lanes, and those over which d runs."""
    depth_channels: Channels
    depth: int
    taps_high: int
    taps_wide: int
    group_step: int
    """The elements of the weight from group to group, from channel to channel, and from tap to tap."""
    lane_step: int
    depth_step: int
    tap_step: int
    first_tap: int
    summed: int
    """0: pack. Else: write the weight, as the sum of that many packed weights, whose bytes are `packed_each`."""
    packed_each: int


@cache
def copies(real: Any, slot: int) -> Any:
    """Functions for kernels that copy pixels between images and vectors."""
    item, lanes, at, move = real.bitwidth // 8, lanes_of(real), array_at(real), moves(real).move
    copy_vector, _ = vector_moves(real)
    per_block = lanes // slot

    @inline
    def runs_of(groups: Any, group: Any, block: Any, vector: Any) -> Any:
        """The channels in a vector of a block: (runs of neighbouring channels, their length, the first one)."""
        if slot == lanes:
            return 1, min(lanes, group - vector * lanes), block * group + vector * lanes
        here, first = min(per_block, groups - block * per_block), block * per_block * group
        if group == slot:
            return 1, here * slot, first
        return here, group, first

    @inline
    def copy(source: Any, source_pixel: Any, source_run: Any, target: Any, target_pixel: Any, target_run: Any, pixels: Any,
             runs: Any, length: Any) -> Any:
        """Copy some runs of each pixel. The other arguments are the bytes from pixel to pixel and from run to run."""
        if runs == 1 and length == lanes:
            for i in range(pixels):
                copy_vector(source + i * source_pixel, target + i * target_pixel)
            return
        for i in range(pixels):
            for run in range(runs):
                move(source + i * source_pixel + run * source_run, target + i * target_pixel + run * target_run, length,
                     False)

    @inline
    def fetch(place: Any, step: Any, pixels: Any) -> Any:
        """Prefetch a vector of each pixel. A pass over one block of channels touches a part of each pixel only, which the
        processor does not foresee."""
        for i in range(pixels):
            prefetch(place + i * step)

    @inline
    def lay_out(s: Any, source: Any, block: Any, first: Any, end: Any, image: Any) -> Any:
        """Copy a block of channels of a source image to scratch memory, for the rows `first` to `end` of the target. The
        columns around the image must be zero already."""
        pixel = s.source.channels * item
        top = first * s.step_high  # the row of the padded image that is the first in scratch memory
        rows = (end - 1 - first) * s.step_high + (s.kernel_height - 1) * s.dilation_high + 1
        begin = max(0, -(s.left // s.spacing_wide))
        stop = min(s.source.width, (s.width - 1 - s.left) // s.spacing_wide + 1)
        for vector in range(s.source_channels.vectors):
            runs, length, channel = runs_of(s.groups, s.source_channels.group, block, vector)
            for row in range(rows):
                place, found = image + vector * s.plane + row * s.row, top + row - s.top
                if found >= 0 and found % s.spacing_high == 0 and found // s.spacing_high < s.source.height:
                    copy(source + (found // s.spacing_high * s.source.width + begin) * pixel + channel * item, pixel,
                         s.source_channels.group * item, place + (begin * s.spacing_wide + s.left) * VECTOR_BYTES,
                         s.spacing_wide * VECTOR_BYTES, slot * item, stop - begin, runs, length)
                elif s.bands > 1:  # otherwise it is zero since the beginning
                    zero_row = at(place, s.row // item)
                    for i in range(zero_row.size):
                        zero_row[i] = 0

    @inline
    def unit_of(s: Any, unit: Any) -> Any:
        """A unit of work is one band of one block of one image. Returns (image, block, first row of the target, end)."""
        band, height = unit % s.bands, s.target.height
        return (unit // (s.bands * s.blocks), unit // s.bands % s.blocks, height * band // s.bands,
                height * (band + 1) // s.bands)

    return runs_of, copy, fetch, lay_out, unit_of


@cache
def make_convolve(real: Any, slot: int, rows: int, pixels: int, taps: int) -> int:
    """The address of the task for elements of that type and slots of that size. It computes target = activation(source *
    weights + bias). rows, pixels, taps: see `tile_filter`."""
    item, lanes, at, zero = real.bitwidth // 8, lanes_of(real), array_at(real), moves(real).zero
    runs_of, copy, fetch, lay_out, unit_of = copies(real, slot)
    filter_tile, activate = tile_filter(real, slot, rows, pixels, taps), activate_fused(real)

    @inline
    def filter_rows(s: Any, image: Any, weights: Any, bias: Any, out: Any) -> Any:
        """Compute one vector of all pixels in some rows of the target."""
        weights_row = s.depth * s.kernel_width * VECTOR_BYTES
        for q in range(0, s.target.width, pixels):
            for vector in range(s.source_channels.vectors):
                again, place = vector > 0, out + q * VECTOR_BYTES
                filter_tile(s.kernel_height, s.kernel_width, min(s.depth, s.source_channels.group - vector * lanes),
                            image + vector * s.plane + q * s.step_wide * VECTOR_BYTES, s.step_high * s.row,
                            s.step_wide * VECTOR_BYTES, s.dilation_high * s.row, s.dilation_wide * VECTOR_BYTES,
                            weights + vector * s.kernel_height * weights_row, weights_row, place if again else bias,
                            s.target_row if again else 0, VECTOR_BYTES if again else 0, place, s.target_row)

    @task(ConvolveGroups, f"{real}-{slot}-{rows}-{pixels}-{taps}")
    def convolve(t: Any, part: Any, parts: Any) -> Any:
        s, slope = t.sizes, real(t.slope)
        height, width, pixel = s.target.height, s.target.width, s.target.channels * item
        source_pixel = s.source.channels * item
        image, out = t.image + part * s.source_each, t.out + part * s.target_each
        bias = out + rows * s.target_row
        vector_bytes = s.source_channels.vectors * s.kernel_height * s.depth * s.kernel_width * VECTOR_BYTES
        zero(image, s.source_each // item)
        units = s.images * s.blocks * s.bands
        for unit in range(units * part // parts, units * (part + 1) // parts):
            n, block, first, end = unit_of(s, unit)
            source = t.source + n * s.source.height * s.source.width * s.source.channels * item
            lay_out(s, source, block, first, end, image)
            following = source + runs_of(s.groups, s.source_channels.group, block + 1, 0)[2] * item  # the next block of it
            for vector in range(s.target_channels.vectors):
                runs, length, channel = runs_of(s.groups, s.target_channels.group, block, vector)
                run = s.target_channels.group * item
                zero(bias, lanes)
                if t.bias:
                    copy(t.bias + channel * item, 0, run, bias, 0, slot * item, 1, runs, length)
                weights = t.weights + (block * s.target_channels.vectors + vector) * vector_bytes
                target = t.target + n * height * width * pixel + channel * item
                for row in range(first, end, rows):
                    fetch(target + (row + rows) * width * pixel, pixel, rows * width)
                    fetch(following + row * s.source.width * source_pixel, source_pixel, rows * s.source.width)
                    filter_rows(s, image + (row - first) * s.step_high * s.row, weights, bias, out)
                    activate(t.activation, at(out, rows * s.target_row // item), slope)
                    for r in range(min(rows, end - row)):
                        copy(out + r * s.target_row, VECTOR_BYTES, slot * item,
                             target + (row + r) * width * pixel, pixel, run, width, runs, length)

    return convolve


@cache
def make_weight_grad(real: Any, slot: int, height: int, taps: int) -> int:
    """The address of the task for elements of that type and slots of that size. Each part adds up image times map for each
    weight, over its share of the images. height: that of the kernel. taps: see `tap_products`."""
    item, lanes, zero = real.bitwidth // 8, lanes_of(real), moves(real).zero
    rows = rows_at_once(slot, height, taps)
    runs_of, copy, fetch, lay_out, unit_of = copies(real, slot)
    add_products = tap_products(real, slot, rows, taps)
    at_once = kernels_at_once(slot, lanes)

    @inline
    def add_block(s: Any, kernels: Any, count: Any, image: Any, maps: Any, map_plane: Any, sums: Any) -> Any:
        """Add the products of `count` rows of the target to the sums of a block."""
        depth_bytes = s.kernel_width * VECTOR_BYTES
        row_bytes = kernels * depth_bytes
        for vector in range(s.source_channels.vectors):
            for i in range(0, s.kernel_height, rows):
                for k in range(0, kernels, at_once):
                    for j in range(0, s.kernel_width, taps):
                        add_products(count, s.target.width, image + vector * s.plane + i * s.dilation_high * s.row
                                     + j * s.dilation_wide * VECTOR_BYTES, s.step_high * s.row, s.step_wide * VECTOR_BYTES,
                                     s.dilation_high * s.row, maps + k // lanes * map_plane + k % lanes * item,
                                     s.target.width * VECTOR_BYTES, sums + (vector * s.kernel_height + i) * row_bytes
                                     + k * depth_bytes + j * VECTOR_BYTES, row_bytes, depth_bytes)

    @task(WeightGradGroups, f"{real}-{slot}-{rows}-{taps}")
    def weight_grad(t: Any, part: Any, parts: Any) -> Any:
        s = t.sizes
        width, pixel, source_pixel = s.target.width, s.target.channels * item, s.source.channels * item
        image, maps, sums = t.image + part * s.source_each, t.map + part * s.target_each, t.sums + part * t.sums_each
        block_bytes = s.source_channels.vectors * s.kernel_height * t.kernels * s.kernel_width * VECTOR_BYTES
        map_plane = s.target_each // s.target_channels.vectors
        zero(sums, t.sums_each // item)
        zero(image, s.source_each // item)
        zero(maps, s.target_each // item)
        units = s.images * s.blocks * s.bands
        for unit in range(units * part // parts, units * (part + 1) // parts):
            n, block, first, end = unit_of(s, unit)
            source = t.source + n * s.source.height * s.source.width * source_pixel
            lay_out(s, source, block, first, end, image)
            following = source + runs_of(s.groups, s.source_channels.group, block + 1, 0)[2] * item  # the next block of it
            fetch(following, source_pixel, s.source.height * s.source.width // s.bands)
            for vector in range(s.target_channels.vectors):
                runs, length, channel = runs_of(s.groups, s.target_channels.group, block, vector)
                count = (end - first) * width
                place = t.target + (n * s.target.height + first) * width * pixel + channel * item
                copy(place, pixel, s.target_channels.group * item, maps + vector * map_plane, VECTOR_BYTES, slot * item,
                     count, runs, length)
                fetch(place + VECTOR_BYTES, pixel, count)  # the next block
            add_block(s, t.kernels, end - first, image, maps, map_plane, sums + block * block_bytes)

    return weight_grad


@cache
def make_pack(real: Any, slot: int) -> int:
    """The address of the task that packs weights, or adds up packed gradients of weights."""
    item, lanes, at, zero = real.bitwidth // 8, lanes_of(real), array_at(real), moves(real).zero
    per_block = lanes // slot

    @inline
    def pack_lanes(weight: Any, place: Any, group_step: Any, lane_step: Any, packed: Any, i: Any, groups: Any,
                   count: Any) -> Any:
        for group in range(groups):
            for lane in range(count):
                packed[i + group * slot + lane] = weight[place + group * group_step + lane * lane_step]

    @inline
    def sum_lanes(weight: Any, place: Any, group_step: Any, lane_step: Any, packed: Any, i: Any, groups: Any, count: Any,
                  summed: Any, each: Any) -> Any:
        for group in range(groups):
            for lane in range(count):
                total = packed[i + group * slot + lane]
                for p in range(1, summed):
                    total += packed[p * each + i + group * slot + lane]
                weight[place + group * group_step + lane * lane_step] = total

    @task(Packing, f"{real}-{slot}")
    def pack(t: Any, part: Any, parts: Any) -> Any:
        # (Local variables: after each write to memory the compiler would read the fields of t again.)
        lane_vectors, depth_vectors, depth, taps_high, taps_wide = (
            t.lane_channels.vectors, t.depth_channels.vectors, t.depth, t.taps_high, t.taps_wide)
        group_step, lane_step, depth_step, tap_step, summed = t.group_step, t.lane_step, t.depth_step, t.tap_step, t.summed
        each, depth_group, groups = t.packed_each // item, t.depth_channels.group, t.groups
        vector_size, units = depth_vectors * taps_high * depth * taps_wide * lanes, t.blocks * lane_vectors
        weight, packed = at(t.weight, groups * group_step), at(t.packed, units * vector_size + summed * each)
        for unit in range(units * part // parts, units * (part + 1) // parts):
            block, first_lane = unit // lane_vectors * per_block, unit % lane_vectors * lanes
            here, count = min(per_block, groups - block), min(slot, t.lane_channels.group - first_lane)
            first = block * group_step + first_lane * lane_step + t.first_tap
            if not summed:
                zero(t.packed + unit * vector_size * item, vector_size)
            for row in range(depth_vectors * taps_high):
                vector, high = row // taps_high, row % taps_high
                for d in range(min(depth, depth_group - vector * lanes)):
                    for wide in range(taps_wide):
                        place = first + (vector * lanes + d) * depth_step + (high * taps_wide + wide) * tap_step
                        i = unit * vector_size + ((row * depth + d) * taps_wide + wide) * lanes
                        if not summed:
                            pack_lanes(weight, place, group_step, lane_step, packed, i, here, count)
                        else:
                            sum_lanes(weight, place, group_step, lane_step, packed, i, here, count, summed, each)

    return pack
