"""Convolutions: matrix products between two cheap passes over the images, on tiles of many pixels or of one.

A convolution of stride s is one of stride 1 over the s x s phases of its image: with a = s p + q,
    y[i] = sum_a x[s i + a] w[a] = sum_q sum_p x_q[i + p] w_q[p],   x_q[i] = x[s i + q],  w_q[p] = w[s p + q].
`gather` transforms the n x n patches of all phases under every tile of y (see `tiles`), point by point, to matrices V of
(tiles, channels of all phases); each is multiplied by the transformed weights U, and `scatter` transforms the products
back to pixels. The adjoint in the image is the same with gather and scatter in each other's places, and the adjoint in
the weight multiplies what two gathers made.

The direct algorithm is the case of tiles of one pixel, with every element of the kernel a phase of its own: nothing is
transformed, and V is what others call im2col.

"image" is the side that is strided over, (N, height, width, channels), and "map" the convolution's result. Both are
channels-last. A task does some rows of tiles at a time, so that V and the products stay in the cache. Addresses and
strides count bytes where nothing else is said.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray

from tinygan.kernels import microkernel, transform
from tinygan.kernels.compiling import inline, kernel
from tinygan.kernels.gemm import LEAKY_RELU, RELU, pointer_to

# What a task is told, by position. *_PIXEL: elements from one pixel to the next (more than the channels, where the
# convolution sees a group of them). PHASE: from phase to phase, STEP: from tile to tile, SPACING: from element to
# element of a patch, all in pixels of the image. TILE, POINTS: m and n; from IMAGE_TO_POINTS on: transforms' addresses.
(IMAGE, IMAGE_HEIGHT, IMAGE_WIDTH, IMAGE_CHANNELS, IMAGE_PIXEL, MAP, MAP_HEIGHT, MAP_WIDTH, MAP_CHANNELS, MAP_PIXEL,
 IMAGES, TILES_HIGH, TILES_WIDE, PHASES_HIGH, PHASES_WIDE, PHASE_HIGH, PHASE_WIDE, STEP_HIGH, STEP_WIDE, SPACING, TOP, LEFT,
 WEIGHTS, CHUNK, SHARE_CHANNELS, CLEAR, SCRATCH, SCRATCH_BYTES, BIAS, ACTIVATION, SLOPE, KERNEL_HEIGHT, KERNEL_WIDTH,
 ADJOINT, TILE, POINTS, TAPS, IMAGE_TO_POINTS, MAP_TO_POINTS, POINTS_TO_IMAGE, POINTS_TO_MAP, WEIGHTS_TO_POINTS,
 POINTS_TO_WEIGHTS) = range(43)
WORDS = 43
ROWS = microkernel.ROWS
LINE = 64  # bytes of a cache line


@inline
def row_bytes(size: Any) -> Any:
    """The stride of rows of that many bytes: one cache line more than a multiple of some power of two, so that rows
    that are used together don't compete for one place in the cache."""
    return (size + LINE - 1) // LINE * LINE + LINE


@inline
def plane_bytes(rows: Any, row: Any) -> Any:
    """The stride of planes of that many rows, an odd number of cache lines for the same reason."""
    size = rows * row
    return size + LINE if size // LINE % 2 == 0 else size


def scratch_bytes(points: int, tiles_at_once: int, depth: int, columns: int, item: int) -> int:
    """What one part of a task needs: V and the products of a chunk, and a patch."""
    rows = -(-tiles_at_once // ROWS) * ROWS
    v = points * plane_bytes.py_func(rows, row_bytes.py_func(depth * item))
    m = points * plane_bytes.py_func(rows, row_bytes.py_func(columns * item))
    return int(v + m + points * microkernel.VECTOR_BYTES + 2 * LINE)


@inline
def _side(t: Any, of_map: Any, item: Any) -> Any:
    """The image, or the map, and where the patches of its tiles lie: address, height, width, channels, bytes of a pixel,
    phases (high, wide), steps from phase to phase, from tile to tile, and in a patch, the first patch's corner, its size."""
    zero, one = np.int64(0), np.int64(1)
    if of_map:
        return (t[MAP], t[MAP_HEIGHT], t[MAP_WIDTH], t[MAP_CHANNELS], t[MAP_PIXEL] * item, one, one, zero, zero, t[TILE],
                t[TILE], one, zero, zero, t[TILE])
    return (t[IMAGE], t[IMAGE_HEIGHT], t[IMAGE_WIDTH], t[IMAGE_CHANNELS], t[IMAGE_PIXEL] * item, t[PHASES_HIGH],
            t[PHASES_WIDE], t[PHASE_HIGH], t[PHASE_WIDE], t[STEP_HIGH], t[STEP_WIDE], t[SPACING], t[TOP], t[LEFT], t[POINTS])


@inline
def _zero(values: Any) -> Any:
    for i in range(values.size):
        values[i] = 0


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    convolve: int
    gather: int
    weights: int
    weight_grad: int


@cache
def make(real: Any) -> Tasks:
    """The tasks for images of that type."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    lanes = transform.lanes_of(real)
    vector = lanes * item
    width = microkernel.columns(item)
    multiply = microkernel.make(real)
    call = transform.call

    @inline
    def at(address: Any, size: Any) -> Any:
        return carray(pointer(address), (size,))

    @inline
    def move(source: Any, target: Any, count: Any) -> Any:
        """Copy up to a vector of channels."""
        a, b = at(source, lanes), at(target, lanes)
        if count == lanes:
            for i in range(lanes):
                b[i] = a[i]
        else:
            for i in range(count):
                b[i] = a[i]

    @inline
    def add(source: Any, target: Any, count: Any) -> Any:
        a, b = at(source, count), at(target, count)
        for i in range(count):
            b[i] += a[i]

    @inline
    def finish(source: Any, target: Any, bias: Any, count: Any, activation: Any, slope: Any) -> Any:
        """Copy with bias and activation."""
        a, b, shift = at(source, count), at(target, count), at(bias, count)
        if activation == LEAKY_RELU:
            for i in range(count):
                z = a[i] + shift[i]
                b[i] = z if z > 0 else slope * z
        elif activation == RELU:
            for i in range(count):
                z = a[i] + shift[i]
                b[i] = 0 if z <= 0 else z
        else:
            for i in range(count):
                b[i] = a[i] + shift[i]

    @inline
    def gather(t: Any, of_map: Any, first: Any, end: Any, v: Any, v_row: Any, plane: Any, patch: Any) -> Any:
        """V of the rows of tiles from first to end: row t of plane p is tile t at point p, the channels of phase after
        phase. Pixels beyond the image are zero."""
        (image, height, image_width, channels, pixel_bytes, high, wide, phase_high, phase_wide, step_high, step_wide,
         spacing, top, left, size) = _side(t, of_map, item)
        row = image_width * pixel_bytes
        extent = (size - 1) * spacing
        to_points = t[MAP_TO_POINTS] if of_map else t[IMAGE_TO_POINTS]
        n = t[POINTS]
        for i in range(first, end):
            base = image + i // t[TILES_HIGH] * height * row
            for tx in range(t[TILES_WIDE]):
                for q in range(high * wide):
                    y = i % t[TILES_HIGH] * step_high + q // wide * phase_high - top
                    x = tx * step_wide + q % wide * phase_wide - left
                    inside = y >= 0 and x >= 0 and y + extent < height and x + extent < image_width
                    pixel = base + y * row + x * pixel_bytes
                    target = v + ((i - first) * t[TILES_WIDE] + tx) * v_row + q * channels * item
                    if n == 1:
                        values = at(target, channels)
                        if inside:
                            source = at(pixel, channels)
                            for c in range(channels):
                                values[c] = source[c]
                        else:
                            _zero(values)
                        continue
                    for c in range(0, channels, lanes):
                        count = min(np.int64(lanes), channels - c)
                        if inside and count == lanes:
                            call(to_points, pixel + c * item, spacing * row, spacing * pixel_bytes, target + c * item,
                                 n * plane, plane)
                            continue
                        for k in range(size * size):
                            yy, xx = y + k // size * spacing, x + k % size * spacing
                            place = patch + k * vector
                            _zero(at(place, lanes))
                            if 0 <= yy < height and 0 <= xx < image_width:
                                move(base + yy * row + xx * pixel_bytes + c * item, place, count)
                        # Where a phase's channels end, the lanes left over reach into what is written next.
                        call(to_points, patch, size * vector, np.int64(vector), target + c * item, n * plane, plane)

    @inline
    def scatter(t: Any, of_map: Any, first: Any, end: Any, products: Any, products_row: Any, plane: Any, low_column: Any,
                high_column: Any, phase_columns: Any, slope: Any, patch: Any) -> Any:
        """The other way, for the columns of the products from low to high, of which each phase has `phase_columns`: the
        tiles of a map are written, with bias and activation, those of an image overlap and add up."""
        (image, height, image_width, channels, pixel_bytes, high, wide, phase_high, phase_wide, step_high, step_wide,
         spacing, top, left, size) = _side(t, of_map, item)
        row = image_width * pixel_bytes
        extent = (size - 1) * spacing
        n, bias, activation = t[POINTS], t[BIAS], t[ACTIVATION]
        from_points = t[POINTS_TO_MAP] if of_map else t[POINTS_TO_IMAGE]
        for i in range(first, end):
            base = image + i // t[TILES_HIGH] * height * row
            for tx in range(t[TILES_WIDE]):
                for q in range(high * wide):
                    y = i % t[TILES_HIGH] * step_high + q // wide * phase_high - top
                    x = tx * step_wide + q % wide * phase_wide - left
                    inside = y >= 0 and x >= 0 and y + extent < height and x + extent < image_width
                    pixel = base + y * row + x * pixel_bytes
                    source = products + ((i - first) * t[TILES_WIDE] + tx) * products_row + q * phase_columns * item
                    low = max(low_column - q * phase_columns, np.int64(0))
                    end_channel = min(high_column - q * phase_columns, channels)
                    if n == 1:
                        if inside and low < end_channel:
                            where, target, count = source + low * item, pixel + low * item, end_channel - low
                            if not of_map:
                                add(where, target, count)
                            elif bias:
                                finish(where, target, bias + low * item, count, activation, slope)
                            else:
                                values, result = at(where, count), at(target, count)
                                for c in range(count):
                                    result[c] = values[c]
                        continue
                    for c in range(low, end_channel, lanes):
                        count = min(np.int64(lanes), end_channel - c)
                        if inside and count == lanes and not (of_map and bias):
                            call(from_points, source + c * item, n * plane, plane, pixel + c * item, spacing * row,
                                 spacing * pixel_bytes)
                            continue
                        if not of_map:
                            _zero(at(patch, size * size * lanes))  # it is added to
                        call(from_points, source + c * item, n * plane, plane, patch, size * vector, np.int64(vector))
                        for k in range(size * size):
                            yy, xx = y + k // size * spacing, x + k % size * spacing
                            if 0 <= yy < height and 0 <= xx < image_width:
                                place, target = patch + k * vector, base + yy * row + xx * pixel_bytes + c * item
                                if not of_map:
                                    add(place, target, count)
                                elif bias:
                                    finish(place, target, bias + c * item, count, activation, slope)
                                else:
                                    move(place, target, count)

    @kernel(str(real))
    def convolve(task: Any, part: Any, parts: Any) -> Any:
        """map = activation(image * weights + bias), or with ADJOINT the image from the map (without bias and activation).

        WEIGHTS: as `weights` makes them. CHUNK: rows of tiles at once. With SHARE_CHANNELS the parts share the channels of
        the result instead of its rows. An adjoint's image must be zero to begin with, or be cleared here (CLEAR), which
        does not go with SHARE_CHANNELS or groups.
        """
        t = carray(task, (WORDS,))
        zero = np.int64(0)
        adjoint = t[ADJOINT] != 0
        phases = t[PHASES_HIGH] * t[PHASES_WIDE]
        points = t[POINTS] * t[POINTS]
        depth = t[MAP_CHANNELS] if adjoint else phases * t[IMAGE_CHANNELS]
        phase_columns = ((t[IMAGE_CHANNELS] if adjoint else t[MAP_CHANNELS]) + width - 1) // width * width
        panels = (phases if adjoint else np.int64(1)) * phase_columns // width
        high, wide = t[TILES_HIGH], t[TILES_WIDE]

        first, last = zero, panels
        if t[SHARE_CHANNELS]:
            begin, end = zero, t[IMAGES] * high
            first, last = panels * part // parts, panels * (part + 1) // parts
        elif adjoint:  # the tiles of an image overlap, so one part does all of them
            begin, end = t[IMAGES] * part // parts * high, t[IMAGES] * (part + 1) // parts * high
        else:
            begin, end = t[IMAGES] * high * part // parts, t[IMAGES] * high * (part + 1) // parts
        most = (t[CHUNK] * wide + ROWS - 1) // ROWS * ROWS
        v_row, m_row = row_bytes(depth * item), row_bytes(panels * width * item)
        v_plane, m_plane = plane_bytes(most, v_row), plane_bytes(most, m_row)
        v = (t[SCRATCH] + part * t[SCRATCH_BYTES] + LINE - 1) // LINE * LINE
        product = v + points * v_plane
        patch = product + points * m_plane
        slope = at(t[SLOPE], np.int64(1))[0]
        if t[CLEAR]:
            image = t[IMAGE_HEIGHT] * t[IMAGE_WIDTH] * t[IMAGE_PIXEL]
            _zero(at(t[IMAGE] + begin // high * image * item, (end - begin) // high * image))

        for i in range(begin, end, t[CHUNK]):
            stop = min(i + t[CHUNK], end)
            count = (stop - i) * wide
            rows = (count + ROWS - 1) // ROWS * ROWS
            gather(t, adjoint, i, stop, v, v_row, v_plane, patch)
            for p in range(points):
                for k in range(count, rows):  # these fill the last block: any numbers, but no denormal ones, which are slow
                    _zero(at(v + p * v_plane + k * v_row, depth))
                for j in range(first, last):
                    panel = t[WEIGHTS] + (p * panels + j) * depth * width * item
                    for k in range(0, rows, ROWS):
                        ahead = np.int64(width if k == 0 else 0)  # with the first rows the next panel is fetched
                        multiply(depth, v + p * v_plane + k * v_row, v_row // item, np.int64(1), panel,
                                 product + p * m_plane + k * m_row + j * width * item, m_row // item,
                                 panel + depth * width * item, ahead)
            scatter(t, not adjoint, i, stop, product, m_row, m_plane, first * width, last * width, phase_columns, slope,
                    patch)

    @kernel(str(real))
    def gather_all(task: Any, part: Any, parts: Any) -> Any:
        """V of a whole batch, of images or (ADJOINT) of maps, at WEIGHTS."""
        t = carray(task, (WORDS,))
        of_map = t[ADJOINT] != 0
        depth = t[MAP_CHANNELS] if of_map else t[PHASES_HIGH] * t[PHASES_WIDE] * t[IMAGE_CHANNELS]
        row = row_bytes(depth * item)
        rows = t[IMAGES] * t[TILES_HIGH]
        plane = plane_bytes(rows * t[TILES_WIDE], row)
        begin, end = rows * part // parts, rows * (part + 1) // parts
        v, patch = t[WEIGHTS] + begin * t[TILES_WIDE] * row, t[SCRATCH] + part * t[SCRATCH_BYTES]
        gather(t, of_map, begin, end, v, row, plane, patch)

    @kernel(str(real))
    def weights(task: Any, part: Any, parts: Any) -> Any:
        """The weights (K, C, kH, kW) at IMAGE, transformed and packed, to WEIGHTS; K is MAP_CHANNELS and C IMAGE_CHANNELS.

        Panels of a few columns, point by point: forward the rows are (phase, c) and the columns k, for the adjoint rows k
        and columns (phase, c).
        """
        t = carray(task, (WORDS,))
        adjoint = t[ADJOINT] != 0
        high, wide, kernels, channels = t[PHASES_HIGH], t[PHASES_WIDE], t[MAP_CHANNELS], t[IMAGE_CHANNELS]
        n, r = t[POINTS], t[TAPS]
        phases, taps, side = high * wide, t[KERNEL_HEIGHT] * t[KERNEL_WIDTH], wide * r
        rows, columns = (kernels, channels) if adjoint else (channels, kernels)
        row_step, column_step = (channels * taps, taps) if adjoint else (taps, channels * taps)
        blocks = (columns + width - 1) // width
        depth = rows if adjoint else phases * rows
        plane = (phases * blocks if adjoint else blocks) * depth * width * item
        source = at(t[IMAGE], kernels * channels * taps)
        block_address = t[SCRATCH] + part * t[SCRATCH_BYTES]
        block = at(block_address, phases * r * r * width)
        _zero(block)  # what lies beyond the kernel stays so
        units = rows * blocks
        for unit in range(units * part // parts, units * (part + 1) // parts):
            j, row = unit // rows, unit % rows
            many = min(np.int64(width), columns - j * width)
            for k in range(width):
                start = row * row_step + (j * width + k) * column_step
                for y in range(t[KERNEL_HEIGHT]):
                    for x in range(t[KERNEL_WIDTH]):
                        block[(y * side + x) * width + k] = source[start + y * t[KERNEL_WIDTH] + x] if k < many else 0
            for q in range(phases):
                if adjoint:
                    target = t[WEIGHTS] + ((q * blocks + j) * depth + row) * width * item
                else:
                    target = t[WEIGHTS] + (j * depth + q * rows + row) * width * item
                for k in range(0, width, lanes):
                    corner = block_address + ((q // wide * side + q % wide) * width + k) * item
                    call(t[WEIGHTS_TO_POINTS], corner, high * side * width * item, wide * width * item, target + k * item,
                         n * plane, plane)

    @kernel(str(real))
    def weight_grad(task: Any, part: Any, parts: Any) -> Any:
        """The products of the points at WEIGHTS, (K, channels of all phases), transformed back to the gradient of the
        weights (K, C, kH, kW) at IMAGE."""
        t = carray(task, (WORDS,))
        high, wide, kernels, channels = t[PHASES_HIGH], t[PHASES_WIDE], t[MAP_CHANNELS], t[IMAGE_CHANNELS]
        height, kernel_width, phases = t[KERNEL_HEIGHT], t[KERNEL_WIDTH], high * wide
        n, r = t[POINTS], t[TAPS]
        plane = kernels * phases * channels * item
        patch_address = t[SCRATCH] + part * t[SCRATCH_BYTES]
        patch = at(patch_address, r * r * lanes)
        target = at(t[IMAGE], kernels * channels * height * kernel_width)
        for k in range(kernels * part // parts, kernels * (part + 1) // parts):
            for c in range(0, channels, lanes):
                for q in range(phases):
                    call(t[POINTS_TO_WEIGHTS], t[WEIGHTS] + ((k * phases + q) * channels + c) * item, n * plane, plane,
                         patch_address, r * vector, np.int64(vector))
                    for i in range(r):
                        y = i * high + q // wide
                        for j in range(r):
                            x = j * wide + q % wide
                            if y < height and x < kernel_width:
                                for b in range(min(np.int64(lanes), channels - c)):
                                    target[((k * channels + c + b) * height + y) * kernel_width + x] = patch[
                                        (i * r + j) * lanes + b]

    return Tasks(convolve, gather_all, weights, weight_grad)
