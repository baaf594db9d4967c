"""The kernels for convolutions in groups of few channels by tiles, with one channel in each lane of a vector register.

Blocks, slots and vectors are those of `grouped`; tiles and points are those of `winograd`. A patch of vectors is transformed
to its points as a patch of numbers would be. At each point there are no taps left, so the products are

    y[k] = sum over d of spread(x, d)[k] * weights[d][k]

for the map of an image. The adjoint in the image is the same computation with another weight. For the gradient of the
weight, the products of all tiles are added up at each point. A 3 x 3 kernel needs 9 products for each pixel and d, and 36
for a tile of 4 x 4 pixels.

A unit of work is one block in a few tiles. V has their points: for each point it has a row, with one vector of each tile.
The next unit is the next block of the same tiles. Its channels lie beside these in memory, and are prefetched meanwhile.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.cpu.conv.grouped import Channels, copies
from tinygan.kernels.cpu.conv.grouped_products import TILES_MULTIPLIED, multiply_points, multiply_tiles, prefetch
from tinygan.kernels.cpu.conv.lanes import ImageSize
from tinygan.kernels.cpu.conv.patches import finisher, within
from tinygan.kernels.cpu.conv.tile_transforms import apply_transform
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES, lanes_of, moves


class Patches(NamedTuple):
    """The source or the target, and the places of its patches."""

    image: ImageSize
    channels: Channels
    size: int
    """The pixels along one side of a patch."""
    top: int
    """How far the first patch reaches beyond the upper edge."""
    left: int
    transform: int
    """Address of the transform from a patch to its points. For a target that is written: from points to a patch."""


class GroupTiles(NamedTuple):
    """The sizes of a convolution in groups by tiles, for all tasks. `*_each` are the bytes of scratch memory for each
    part."""

    source: Patches
    target: Patches
    images: int
    groups: int
    blocks: int
    high: int
    """The number of tiles from top to bottom of the target."""
    wide: int
    m: int
    """The pixels along one side of a tile."""
    n: int
    """The number of points in one dimension."""
    at_once: int
    """How many tiles a unit of work has."""
    depth: int
    """The rows of weights for one vector of the source, or the kernels that have sums. The last ones may be unused."""
    plane: int
    """The bytes of V from point to point. V has all points of the first vector of a block, then those of the next."""
    second: int
    """Where, after V of the source, that of the products begins, or that of a map which is read. 0: in the same place."""
    v_each: int
    patch_each: int
    """For three patches (read or written, finished, and of the bias) and one vector of zeros."""
    points_each: int
    """For the gradient of a weight: sums at points, for all blocks."""
    sums_each: int
    """For the gradient of a weight: sums for taps, as `grouped` has them."""


class ConvolveTiles(NamedTuple):
    """The arguments of the task `convolve`: sizes, addresses, the activation and its slope."""

    sizes: GroupTiles
    source: int
    target: int
    weights: int
    """The transformed weights: (blocks, target vectors, points, source vectors, depth, lanes)."""
    bias: int
    """One number for each channel of the target. 0 for no bias."""
    finishes: int
    """Whether there is a bias or an activation."""
    activation: int
    slope: float
    v: int
    patch: int


class WeightGradTiles(NamedTuple):
    """The arguments of the task `weight_grad`. The source is the image. The target is the map, which is read here, too."""

    sizes: GroupTiles
    source: int
    target: int
    v: int
    patch: int
    points: int
    """The sums at points: (blocks, source vectors, points, kernels, lanes) for each part."""
    sums: int
    """The sums for taps, as in `grouped.WeightGradGroups`."""
    transform: int
    """Address of the transform from points to taps."""


class WeightPoints(NamedTuple):
    """The arguments of the task `transform_weights`."""

    packed: int
    """The weights as `grouped` has them."""
    weights: int
    """The weights as in `ConvolveTiles`."""
    vectors: int
    """The vectors of the target, in all blocks."""
    source_vectors: int
    depth: int
    taps: int
    """The taps along one side of the kernel."""
    n: int
    transform: int
    """Address of the transform from taps to points."""


@cache
def _places(real: Any, slot: int) -> Any:
    """Functions for kernels that go from tile to tile."""
    item = real.bitwidth // 8
    runs_of, _, _, _, _ = copies(real, slot)

    @inline
    def place_of(s: Any, tile: Any) -> Any:
        """A tile of the batch: its image, and the first row and column of its pixels in the target."""
        rest = tile % (s.high * s.wide)
        return tile // (s.high * s.wide), rest // s.wide * s.m, rest % s.wide * s.m

    @inline
    def place_after(s: Any, image: Any, y: Any, x: Any) -> Any:
        """The same for the next tile. (A division takes as long as many vector instructions.)"""
        if x + s.m < s.wide * s.m:
            return image, y, x + s.m
        if y + s.m < s.high * s.m:
            return image, y + s.m, np.int64(0)
        return image + 1, np.int64(0), np.int64(0)

    @inline
    def fetch(s: Any, side: Any, pixels: Any, block: Any, image: Any, y: Any, x: Any) -> Any:
        """Prefetch a block of channels of a tile's pixels. They are a part of each pixel only, which the processor does not
        foresee. If they are on two cache lines, the block before them has already read the first."""
        pixel = side.image.channels * item
        channel = runs_of(s.groups, side.channels.group, block, 0)[2]
        place = pixels + ((image * side.image.height + y) * side.image.width + x) * pixel + channel * item
        for r in range(s.m):
            for q in range(s.m):
                prefetch(place + (r * side.image.width + q) * pixel + VECTOR_BYTES - item)

    return place_of, place_after, fetch


@cache
def _gatherer(real: Any, slot: int) -> Any:
    """The function `gather` for kernels."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    runs_of, copy, _, _, _ = copies(real, slot)
    place_of, place_after, _ = _places(real, slot)

    @inline
    def gather(s: Any, side: Any, pixels: Any, block: Any, first: Any, end: Any, v: Any, patch: Any) -> Any:
        """Write V of a block for the tiles from `first` to `end`. Pixels outside the image are zero."""
        height, width, size, zeros = side.image.height, side.image.width, side.size, patch + s.patch_each - VECTOR_BYTES
        pixel, run, line = side.image.channels * item, side.channels.group * item, side.size * VECTOR_BYTES
        for vector in range(side.channels.vectors):
            runs, length, channel = runs_of(s.groups, side.channels.group, block, vector)
            whole = runs == 1 and length == lanes
            image, target_y, target_x = place_of(s, first)
            for tile in range(first, end):
                y, x = target_y - side.top, target_x - side.left
                source = pixels + ((image * height + y) * width + x) * pixel + channel * item
                points = v + vector * s.n * s.n * s.plane + (tile - first) * VECTOR_BYTES
                if whole and y >= 0 and x >= 0 and y + size <= height and x + size <= width:
                    apply_transform(side.transform, source, width * pixel, pixel, points, s.n * s.plane, s.plane)
                else:
                    (top, bottom), (left, right) = within(y, 1, size, height), within(x, 1, size, width)
                    for r in range(size):
                        place = patch + r * line
                        if top <= r < bottom:
                            copy(zeros, 0, 0, place, VECTOR_BYTES, 0, left, 1, lanes)
                            copy(source + (r * width + left) * pixel, pixel, run, place + left * VECTOR_BYTES, VECTOR_BYTES,
                                 slot * item, right - left, runs, length)
                            copy(zeros, 0, 0, place + right * VECTOR_BYTES, VECTOR_BYTES, 0, size - right, 1, lanes)
                        else:
                            copy(zeros, 0, 0, place, VECTOR_BYTES, 0, size, 1, lanes)
                    apply_transform(side.transform, patch, line, VECTOR_BYTES, points, s.n * s.plane, s.plane)
                image, target_y, target_x = place_after(s, image, target_y, target_x)

    return gather


@cache
def _scatterer(real: Any, slot: int) -> Any:
    """The function `scatter` for kernels."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    runs_of, copy, _, _, _ = copies(real, slot)
    place_of, place_after, _ = _places(real, slot)
    finish = finisher(real)

    @inline
    def scatter(t: Any, s: Any, block: Any, vector: Any, first: Any, end: Any, products: Any, patch: Any, slope: Any) -> Any:
        """Write the pixels of one vector of the target, for the tiles from `first` to `end`."""
        side, m, n, plane, height, width = s.target, s.m, s.n, s.plane, s.target.image.height, s.target.image.width
        pixel, run, line = side.image.channels * item, side.channels.group * item, s.m * VECTOR_BYTES
        finished, bias = patch + n * n * VECTOR_BYTES, patch + 2 * n * n * VECTOR_BYTES
        runs, length, channel = runs_of(s.groups, side.channels.group, block, vector)
        if t.bias:
            copy(t.bias + channel * item, 0, run, bias, VECTOR_BYTES, slot * item, m * m, runs, length)
        whole = not t.finishes and runs == 1 and length == lanes
        image, y, x = place_of(s, first)
        for tile in range(first, end):
            points = products + (tile - first) * VECTOR_BYTES
            target = t.target + ((image * height + y) * width + x) * pixel + channel * item
            if whole and y + m <= height and x + m <= width:
                apply_transform(side.transform, points, n * plane, plane, target, width * pixel, pixel)
            else:
                apply_transform(side.transform, points, n * plane, plane, patch, line, VECTOR_BYTES)
                if t.finishes:
                    finish(t.activation, patch, finished, bias, m * m * lanes, slope)
                found = finished if t.finishes else patch
                for r in range(min(m, height - y)):
                    copy(found + r * line, VECTOR_BYTES, slot * item, target + r * width * pixel, pixel, run,
                         min(m, width - x), runs, length)
            image, y, x = place_after(s, image, y, x)

    return scatter


@cache
def make_convolve(real: Any, slot: int) -> int:
    """The address of the task for elements of that type and slots of that size. It computes target = activation(source *
    weights + bias)."""
    item, lanes, zero = real.bitwidth // 8, lanes_of(real), moves(real).zero
    (place_of, place_after, fetch), gather, scatter = _places(real, slot), _gatherer(real, slot), _scatterer(real, slot)
    multiply = multiply_tiles(real, slot)

    @task(ConvolveTiles, f"{real}-{slot}")
    def convolve(t: Any, part: Any, parts: Any) -> Any:
        s, slope = t.sizes, real(t.slope)
        v, patch, points, total = t.v + part * s.v_each, t.patch + part * s.patch_each, s.n * s.n, s.images * s.high * s.wide
        sources, targets, depth = s.source.channels.vectors, s.target.channels.vectors, s.source.channels.group
        row, products = s.depth * VECTOR_BYTES, v + s.second
        zero(v, s.v_each // item)  # the last of the tiles that are multiplied at once may be unused
        zero(patch, s.patch_each // item)
        units = -(-total // s.at_once) * s.blocks
        for unit in range(units * part // parts, units * (part + 1) // parts):
            block, first = unit % s.blocks, unit // s.blocks * s.at_once
            end = min(first + s.at_once, total)
            gather(s, s.source, t.source, block, first, end, v, patch)
            image, y, x = place_of(s, (unit + 1) // s.blocks * s.at_once)  # of the next unit
            for vector in range(targets):
                weights = t.weights + (block * targets + vector) * points * sources * row
                for point in range(points):
                    if vector == 0 and point < end - first:
                        fetch(s, s.source, t.source, (unit + 1) % s.blocks, image, y, x)
                        fetch(s, s.target, t.target, (unit + 1) % s.blocks, image, y, x)
                        image, y, x = place_after(s, image, y, x)
                    for tile in range(0, end - first, TILES_MULTIPLIED):
                        for lane in range(0, lanes, slot):
                            place = point * s.plane + tile * VECTOR_BYTES + lane * item
                            multiply(sources, depth, v + place, points * s.plane,
                                     weights + point * sources * row + lane * item, row, products + place)
                scatter(t, s, block, vector, first, end, products, patch, slope)

    return convolve


@cache
def make_weight_grad(real: Any, slot: int) -> int:
    """The address of the task for elements of that type and slots of that size. It adds up the gradients of packed
    weights."""
    item, lanes, zero = real.bitwidth // 8, lanes_of(real), moves(real).zero
    (place_of, place_after, fetch), gather = _places(real, slot), _gatherer(real, slot)
    add_products = multiply_points(real, slot)

    @task(WeightGradTiles, f"{real}-{slot}")
    def weight_grad(t: Any, part: Any, parts: Any) -> Any:
        s = t.sizes
        v, patch, points, total = t.v + part * s.v_each, t.patch + part * s.patch_each, s.n * s.n, s.images * s.high * s.wide
        found, sums = t.points + part * s.points_each, t.sums + part * s.sums_each
        row, vectors, map_v, taps = s.depth * VECTOR_BYTES, s.source.channels.vectors, v + s.second, s.n - s.m + 1
        zero(patch, s.patch_each // item)
        zero(found, s.points_each // item)
        units = -(-total // s.at_once) * s.blocks
        for unit in range(units * part // parts, units * (part + 1) // parts):
            block, first = unit % s.blocks, unit // s.blocks * s.at_once
            end = min(first + s.at_once, total)
            gather(s, s.source, t.source, block, first, end, v, patch)
            gather(s, s.target, t.target, block, first, end, map_v, patch)
            image, y, x = place_of(s, (unit + 1) // s.blocks * s.at_once)  # of the next unit
            for point in range(points):
                if point < end - first:
                    fetch(s, s.source, t.source, (unit + 1) % s.blocks, image, y, x)
                    fetch(s, s.target, t.target, (unit + 1) % s.blocks, image, y, x)
                    image, y, x = place_after(s, image, y, x)
                for vector in range(vectors):
                    place = found + ((block * vectors + vector) * points + point) * row
                    for kernels in range(s.target.channels.vectors):
                        add_products(end - first, v + (vector * points + point) * s.plane,
                                     map_v + (kernels * points + point) * s.plane, place + kernels * lanes * VECTOR_BYTES)
        for vector in range(s.blocks * vectors):
            for kernel in range(s.depth):
                apply_transform(t.transform, found + vector * points * row + kernel * VECTOR_BYTES, s.n * row, row,
                                sums + (vector * taps * s.depth + kernel) * taps * VECTOR_BYTES, taps * row, VECTOR_BYTES)

    return weight_grad


@cache
def make_transform_weights(real: Any) -> int:
    """The address of the task that transforms packed weights to points."""
    @task(WeightPoints, str(real))
    def transform_weights(t: Any, part: Any, parts: Any) -> Any:
        row, points, taps, sources = t.depth * VECTOR_BYTES, t.n * t.n, t.taps, t.source_vectors
        for vector in range(t.vectors * part // parts, t.vectors * (part + 1) // parts):
            for source in range(sources):
                for d in range(t.depth):
                    packed = t.packed + (((vector * sources + source) * taps * t.depth + d) * taps) * VECTOR_BYTES
                    weights = t.weights + (vector * points * sources + source) * row + d * VECTOR_BYTES
                    apply_transform(t.transform, packed, taps * row, VECTOR_BYTES, weights, t.n * sources * row,
                                    sources * row)

    return transform_weights
