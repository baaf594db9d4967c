"""Kernels between pixels and points: `gather` transforms the patches of all tiles, `scatter` transforms products back.

A patch has the pixels of one phase that a tile needs: n x n pixels of the image (see `winograd`), s pixels apart if the
stride is s. On the side of the map a patch is the tile itself, m x m pixels. V holds the transformed patches. It has a
matrix (tiles, channels of all phases) for each of the n x n points, and its rows are multiplied by the transformed weights.

The direct algorithm has tiles of one pixel. Each tap of the kernel is a phase of its own, and nothing is transformed. Then V
is the matrix that is known as im2col.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.activations import FUSED
from tinygan.kernels.cpu.activations.functions import chosen, formula
from tinygan.kernels.cpu.conv.tile_transforms import apply_transform
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import array_at
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.simd import lanes_of, moves, vector_moves

LINE = 64  # the bytes of a cache line


class Side(NamedTuple):
    """One side of a convolution, the images or the maps, (N, height, width, channels), and the places of its patches.
    Distances are in pixels of this side, except where they are in bytes."""

    height: int
    width: int
    channels: int
    """The channels of one group."""
    pixel_bytes: int
    """The bytes from one pixel to the next, that is the channels of all groups."""
    phases_high: int
    """The number of phases from top to bottom; 1 on the side of the map."""
    phases_wide: int
    """The number of phases from left to right; 1 on the side of the map."""
    phase_high: int
    """The distance from one phase to the next, down."""
    phase_wide: int
    """The distance from one phase to the next, across."""
    step_high: int
    """The distance from one tile to the next, down."""
    step_wide: int
    """The distance from one tile to the next, across."""
    spacing: int
    """The distance from one pixel of a patch to the next."""
    top: int
    """How far the first patch reaches beyond the upper edge: the padding."""
    left: int
    """How far the first patch reaches beyond the left edge: the padding."""
    size: int
    """The pixels along one side of a patch: n for images, m for maps."""
    overlap: int
    """1 for images: their patches overlap, so `scatter` adds them up. 0 for maps."""
    to_points: int
    """Address of the transform from a patch to its points."""
    from_points: int
    """Address of the transform from points to a patch."""
    onto_pixels: int
    """The same for a patch that is completely inside; with `overlap` it adds to the pixels."""


class Tiles(NamedTuple):
    """The tiles of a batch."""

    images: int
    high: int
    """The number of tiles from top to bottom of a map."""
    wide: int
    """The number of tiles from left to right of a map."""
    n: int
    """The number of points in one dimension; 1 for the direct algorithm."""


class Gather(NamedTuple):
    """The arguments of the task `gather`."""

    side: Side
    tiles: Tiles
    pixels: int
    """Address of the first pixel."""
    v: int
    """Address of V."""
    v_row: int
    """Bytes from row to row of V."""
    v_plane: int
    """Bytes from point to point of V."""
    patch: int
    """Address of scratch memory for patches."""
    patch_each: int
    """Bytes of this memory for each part."""


@inline
def within(first: Any, spacing: Any, size: Any, end: Any) -> Any:
    """The range (low, high) of those numbers i < size for which 0 <= first + i * spacing < end."""
    low = np.int64(0) if first >= 0 else min(size, (spacing - 1 - first) // spacing)
    return low, max(low, min(size, (end - first + spacing - 1) // spacing))


@cache
def gatherer(real: Any) -> Any:
    """The function `gather` for elements of that type."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    vector = lanes * item
    copy, _, move, zero = moves(real)
    copy_vector, _ = vector_moves(real)

    @inline
    def gather(side: Any, tiles: Any, pixels: Any, first: Any, end: Any, v: Any, v_row: Any, plane: Any, patch: Any) -> Any:
        """Write V for the rows of tiles from first to end. Row t of plane p is tile t at point p. It has the channels of the
        first phase, then those of the next, and so on. Pixels outside the image are zero. The last vector of a phase may
        be longer than its channels. It then writes into the next phase, which is overwritten later, or into the padding at
        the end of the row."""
        height, width, channels, pixel_bytes = side.height, side.width, side.channels, side.pixel_bytes
        wide, step_wide, spacing, size = side.phases_wide, side.step_wide, side.spacing, side.size
        row, to_points, n = width * pixel_bytes, side.to_points, tiles.n
        last = pixels + tiles.images * height * row - pixel_bytes + channels * item - vector  # the last address for a vector
        tiles_high, tiles_wide = tiles.high, tiles.wide
        for i in range(first, end):
            base = pixels + i // tiles_high * height * row
            for phase in range(side.phases_high * wide):
                y = i % tiles_high * side.step_high + phase // wide * side.phase_high - side.top
                x = phase % wide * side.phase_wide - side.left
                top_row, bottom_row = within(y, spacing, size, height)
                target = v + (i - first) * tiles_wide * v_row + phase * channels * item
                pixel = base + y * row + x * pixel_bytes
                if n == 1:
                    begin, stop = within(x, step_wide, tiles_wide, width)
                    if bottom_row == top_row:
                        begin, stop = np.int64(0), np.int64(0)
                    for tx in range(tiles_wide):
                        if begin <= tx < stop:
                            if pixel + (channels - 1) // lanes * vector <= last:
                                for c in range(0, channels, lanes):
                                    copy_vector(pixel + c * item, target + c * item)
                            else:
                                copy(pixel, target, channels)
                        else:
                            zero(target, channels)
                        pixel += step_wide * pixel_bytes
                        target += v_row
                    continue
                for tx in range(tiles_wide):
                    left_column, right_column = within(x + tx * step_wide, spacing, size, width)
                    inside = bottom_row - top_row == size and right_column - left_column == size
                    for c in range(0, channels, lanes):
                        count = min(np.int64(lanes), channels - c)
                        if inside and count == lanes:
                            apply_transform(to_points, pixel + c * item, spacing * row, spacing * pixel_bytes,
                                            target + c * item, n * plane, plane)
                            continue
                        zero(patch, size * size * lanes)
                        for j in range(top_row, bottom_row):
                            for k in range(left_column, right_column):
                                move(pixel + (j * row + k * pixel_bytes) * spacing + c * item,
                                     patch + (j * size + k) * vector, count, False)
                        apply_transform(to_points, patch, size * vector, np.int64(vector), target + c * item, n * plane,
                                        plane)
                    pixel += step_wide * pixel_bytes
                    target += v_row

    return gather


@cache
def make_gather(real: Any) -> int:
    """The address of the task that computes V of one side."""
    gather = gatherer(real)

    @task(Gather, str(real))
    def gather_all(t: Any, part: Any, parts: Any) -> Any:
        rows = t.tiles.images * t.tiles.high
        begin, end = rows * part // parts, rows * (part + 1) // parts
        gather(t.side, t.tiles, t.pixels, begin, end, t.v + begin * t.tiles.wide * t.v_row, t.v_row, t.v_plane,
               t.patch + part * t.patch_each)

    return gather_all


@cache
def finisher(real: Any) -> Any:
    """A function for kernels, (activation, source, target, bias, count, slope): target = activation(source + bias)."""
    at = array_at(real)

    def loop(name: str) -> Any:
        value = formula(name, "value", real)

        @inline
        def finish(source: Any, target: Any, bias: Any, count: Any, slope: Any) -> Any:
            a, b, shift = at(source, count), at(target, count), at(bias, count)
            for i in range(count):
                b[i] = value(a[i] + shift[i], slope)

        return finish

    return chosen(FUSED, loop)


@cache
def scatterer(real: Any) -> Any:
    """The function `scatter` for elements of that type."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    vector = lanes * item
    copy, add, move, _ = moves(real)
    finish = finisher(real)

    @inline
    def scatter(side: Any, tiles: Any, pixels: Any, first: Any, end: Any, phase: Any, products: Any, products_row: Any,
                plane: Any, low: Any, many: Any, bias: Any, activation: Any, slope: Any, patch: Any) -> Any:
        """Write the pixels for the rows of tiles from first to end, in `many` channels of a phase from channel `low` on.
        `products` is the address of their products at all points. Tiles of a map are written with bias (its address, or 0)
        and activation. Patches of an image overlap, so they are added to the pixels."""
        height, width, pixel_bytes, wide = side.height, side.width, side.pixel_bytes, side.phases_wide
        step_wide, spacing, size, overlap = side.step_wide, side.spacing, side.size, side.overlap != 0
        row, n, tiles_high, tiles_wide = width * pixel_bytes, tiles.n, tiles.high, tiles.wide
        from_points, onto_pixels = side.from_points, side.onto_pixels
        finishing = bias != 0 and not overlap
        x = phase % wide * side.phase_wide - side.left
        for i in range(first, end):
            y = i % tiles_high * side.step_high + phase // wide * side.phase_high - side.top
            top_row, bottom_row = within(y, spacing, size, height)
            source = products + (i - first) * tiles_wide * products_row
            pixel = pixels + i // tiles_high * height * row + low * item + y * row + x * pixel_bytes
            if n == 1 and bottom_row == top_row:
                continue
            for tx in range(tiles_wide):
                left_column, right_column = within(x + tx * step_wide, spacing, size, width)
                inside = bottom_row - top_row == size and right_column - left_column == size
                if n == 1 and overlap:
                    if inside:
                        add(source, pixel, many)
                elif n == 1 and finishing:
                    finish(activation, source, pixel, bias + low * item, many, slope)
                elif n == 1:
                    copy(source, pixel, many)
                for c in range(0, many if n > 1 else np.int64(0), lanes):
                    count = min(np.int64(lanes), many - c)
                    if inside and count == lanes and not finishing:
                        apply_transform(onto_pixels, source + c * item, n * plane, plane, pixel + c * item, spacing * row,
                                        spacing * pixel_bytes)
                        continue
                    apply_transform(from_points, source + c * item, n * plane, plane, patch, size * vector, np.int64(vector))
                    for j in range(top_row, bottom_row):
                        for k in range(left_column, right_column):
                            place = patch + (j * size + k) * vector
                            target = pixel + (j * row + k * pixel_bytes) * spacing + c * item
                            if finishing:
                                finish(activation, place, target, bias + (low + c) * item, count, slope)
                            else:
                                move(place, target, count, overlap)
                pixel += step_wide * pixel_bytes
                source += products_row

    return scatter
