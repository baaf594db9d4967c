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

from tinygan.kernels.activations import LEAKY_RELU, RELU
from tinygan.kernels.cpu.conv.tile_transforms import apply_transform as call
from tinygan.kernels.cpu.matmul import microkernel
from tinygan.kernels.cpu.runtime import simd as transform
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline, kernel

# What a task is told, by position. *_PIXEL: elements from one pixel to the next (more than the channels, where the
# convolution sees a group of them).
# PHASE: from phase to phase, STEP: from tile to tile, SPACING: from element to element of a patch, all in pixels of the
# image. TILE, POINTS, TAPS: m, n and r; from IMAGE_TO_POINTS on: the addresses of transforms. WEIGHTS, V, PRODUCTS: with a
# plane for each point, and so many bytes from row to row and from plane to plane. Of *_EACH, every part has so many bytes
# for itself. ELEMENTS: a block of the weights before its transform.
(IMAGE, IMAGE_HEIGHT, IMAGE_WIDTH, IMAGE_CHANNELS, IMAGE_PIXEL, MAP, MAP_HEIGHT, MAP_WIDTH, MAP_CHANNELS, MAP_PIXEL,
 IMAGES, KERNEL, KERNEL_HEIGHT, KERNEL_WIDTH, ADJOINT, BIAS, ACTIVATION, SLOPE, TILES_HIGH, TILES_WIDE, PHASES_HIGH,
 PHASES_WIDE, PHASE_HIGH, PHASE_WIDE, STEP_HIGH, STEP_WIDE, SPACING, TOP, LEFT, TILE, POINTS, TAPS, IMAGE_TO_POINTS,
 MAP_TO_POINTS, POINTS_TO_IMAGE, POINTS_ADDED_TO_IMAGE, POINTS_TO_MAP, KERNEL_TO_POINTS, POINTS_TO_KERNEL, CHUNK, WEIGHTS,
 WEIGHTS_EACH, WEIGHTS_PLANE, V, V_EACH, V_ROW, V_PLANE, MAP_V, MAP_V_ROW, MAP_V_PLANE,
 PANELS, PRODUCTS, PRODUCTS_EACH, PRODUCTS_ROW, PRODUCTS_PLANE, PATCH,
 PATCH_EACH, ELEMENTS, ELEMENTS_EACH, ACCUMULATE) = range(60)
WORDS = 60
ROWS = microkernel.ROWS
LINE = 64  # bytes of a cache line


def row_bytes(size: int) -> int:
    """The stride of rows of that many bytes: one cache line more than a multiple of some power of two, so that rows
    that are used together don't compete for one place in the cache."""
    return -(-size // LINE) * LINE + LINE


def plane_bytes(rows: int, row: int) -> int:
    """The stride of planes of that many rows, an odd number of cache lines for the same reason."""
    return rows * row + LINE if rows * row // LINE % 2 == 0 else rows * row


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

    gather: int
    pack: int
    convolve: int
    weight_grad: int
    untile_weights: int


@cache
def make(real: Any) -> Tasks:
    """The tasks for images of that type."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    lanes = transform.lanes_of(real)
    vector = lanes * item
    width = microkernel.columns(item)
    multiply = microkernel.make(real)
    square = transform.square_transpose(real)

    @inline
    def at(address: Any, size: Any) -> Any:
        return carray(pointer(address), (size,))

    copy_vector, add_vector = transform.vector_moves(real)

    @inline
    def move(source: Any, target: Any, count: Any, adding: Any) -> Any:
        """Copy, or add, up to a vector of channels."""
        if count == lanes:
            if adding:
                add_vector(source, target)
            else:
                copy_vector(source, target)
            return
        a, b = at(source, count), at(target, count)
        for i in range(count):
            b[i] = b[i] + a[i] if adding else a[i]

    @inline
    def copy(source: Any, target: Any, count: Any) -> Any:
        a, b = at(source, count), at(target, count)
        for i in range(count):
            b[i] = a[i]

    @inline
    def add(source: Any, target: Any, count: Any) -> Any:
        a, b = at(source, count), at(target, count)
        for i in range(count):
            b[i] += a[i]

    @inline
    def within(first: Any, spacing: Any, size: Any, end: Any) -> Any:
        """Which of the `size` elements of a patch, from `first` on, lie from 0 up to `end`: from which to which."""
        low = np.int64(0) if first >= 0 else min(size, (spacing - 1 - first) // spacing)
        return low, max(low, min(size, (end - first + spacing - 1) // spacing))

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
        phase. Pixels beyond the image are zero. Vectors that reach beyond a phase's channels reach into what is written
        next, or into the end of the row, which is padding."""
        (image, height, image_width, channels, pixel_bytes, high, wide, phase_high, phase_wide, step_high, step_wide,
         spacing, top, left, size) = _side(t, of_map, item)
        row = image_width * pixel_bytes
        last = image + t[IMAGES] * height * row - pixel_bytes + channels * item - vector  # a vector may lie there
        to_points = t[MAP_TO_POINTS] if of_map else t[IMAGE_TO_POINTS]
        n, tiles_high, tiles_wide = t[POINTS], t[TILES_HIGH], t[TILES_WIDE]
        for i in range(first, end):
            base = image + i // tiles_high * height * row
            for phase in range(high * wide):
                y = i % tiles_high * step_high + phase // wide * phase_high - top
                x = phase % wide * phase_wide - left
                top_row, bottom_row = within(y, spacing, size, height)
                target = v + (i - first) * tiles_wide * v_row + phase * channels * item
                pixel = base + y * row + x * pixel_bytes
                if n == 1:
                    begin, stop = within(x, step_wide, tiles_wide, image_width)
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
                            _zero(at(target, channels))
                        pixel += step_wide * pixel_bytes
                        target += v_row
                    continue
                for tx in range(tiles_wide):
                    left_column, right_column = within(x + tx * step_wide, spacing, size, image_width)
                    inside = bottom_row - top_row == size and right_column - left_column == size
                    for c in range(0, channels, lanes):
                        count = min(np.int64(lanes), channels - c)
                        if inside and count == lanes:
                            call(to_points, pixel + c * item, spacing * row, spacing * pixel_bytes, target + c * item,
                                 n * plane, plane)
                            continue
                        _zero(at(patch, size * size * lanes))
                        for j in range(top_row, bottom_row):
                            for k in range(left_column, right_column):
                                move(pixel + (j * row + k * pixel_bytes) * spacing + c * item,
                                     patch + (j * size + k) * vector, count, False)
                        call(to_points, patch, size * vector, np.int64(vector), target + c * item, n * plane, plane)
                    pixel += step_wide * pixel_bytes
                    target += v_row

    @inline
    def scatter(t: Any, of_map: Any, first: Any, end: Any, phase: Any, products: Any, low: Any, high_channel: Any,
                slope: Any, patch: Any) -> Any:
        """The other way, for a phase and its channels from low to high, whose products these are: the tiles of a map are
        written, with bias and activation, those of an image overlap and add up."""
        (image, height, image_width, _, pixel_bytes, _, wide, phase_high, phase_wide, step_high, step_wide,
         spacing, top, left, size) = _side(t, of_map, item)
        row = image_width * pixel_bytes
        n, plane, bias, activation = t[POINTS], t[PRODUCTS_PLANE], t[BIAS], t[ACTIVATION]
        tiles_high, tiles_wide, products_row = t[TILES_HIGH], t[TILES_WIDE], t[PRODUCTS_ROW]
        from_points, added = t[POINTS_TO_MAP] if of_map else t[POINTS_TO_IMAGE], t[POINTS_ADDED_TO_IMAGE]
        many = high_channel - low
        x = phase % wide * phase_wide - left
        for i in range(first, end):
            y = i % tiles_high * step_high + phase // wide * phase_high - top
            top_row, bottom_row = within(y, spacing, size, height)
            source = products + (i - first) * tiles_wide * products_row
            pixel = image + i // tiles_high * height * row + low * item + y * row + x * pixel_bytes
            if n == 1 and bottom_row == top_row:
                continue
            for tx in range(tiles_wide):
                left_column, right_column = within(x + tx * step_wide, spacing, size, image_width)
                inside = bottom_row - top_row == size and right_column - left_column == size
                if n == 1 and not of_map:
                    if inside:
                        add(source, pixel, many)
                elif n == 1 and bias:
                    finish(source, pixel, bias + low * item, many, activation, slope)
                elif n == 1:
                    copy(source, pixel, many)
                for c in range(0, many if n > 1 else np.int64(0), lanes):
                    count = min(np.int64(lanes), many - c)
                    if inside and count == lanes and not (of_map and bias):
                        call(from_points if of_map else added, source + c * item, n * plane, plane, pixel + c * item,
                             spacing * row, spacing * pixel_bytes)
                        continue
                    call(from_points, source + c * item, n * plane, plane, patch, size * vector, np.int64(vector))
                    for j in range(top_row, bottom_row):
                        for k in range(left_column, right_column):
                            place = patch + (j * size + k) * vector
                            target = pixel + (j * row + k * pixel_bytes) * spacing + c * item
                            if of_map and bias:
                                finish(place, target, bias + (low + c) * item, count, activation, slope)
                            else:
                                move(place, target, count, not of_map)
                pixel += step_wide * pixel_bytes
                source += products_row

    @inline
    def collect(t: Any, block: Any, i: Any, target: Any) -> Any:
        """Row i of a block of the weights, which is not transformed yet: the elements of all phases, of each so many as the
        block has columns.

        The weights lie at KERNEL, (K, C, kH, kW), K being MAP_CHANNELS and C IMAGE_CHANNELS. A block is some columns of
        U, as many as the micro-kernel takes: forward of k, and its rows are those of c; for the adjoint the other way.
        """
        kernels, channels, height, kernel_width = t[MAP_CHANNELS], t[IMAGE_CHANNELS], t[KERNEL_HEIGHT], t[KERNEL_WIDTH]
        taps, side = height * kernel_width, t[PHASES_WIDE] * t[TAPS]
        columns, row_step, column_step = kernels, taps, channels * taps
        if t[ADJOINT]:
            columns, row_step, column_step = channels, channels * taps, taps
        source, elements = at(t[KERNEL], kernels * channels * taps), at(target, t[PHASES_HIGH] * t[TAPS] * side * width)
        begin, many = i * row_step + block * width * column_step, min(np.int64(width), columns - block * width)
        if side == kernel_width and taps % lanes == 0 and many == width:
            for k in range(0, width, lanes):
                for tap in range(0, taps, lanes):
                    square(t[KERNEL] + (begin + k * column_step + tap) * item, column_step * item,
                           target + (tap * width + k) * item, np.int64(width * item))
            return
        _zero(elements)  # what lies beyond the kernel, or beyond the columns
        for k in range(many):
            start = begin + k * column_step
            if side == kernel_width:
                for tap in range(taps):
                    elements[tap * width + k] = source[start + tap]
            else:
                for y in range(height):
                    for x in range(kernel_width):
                        elements[(y * side + x) * width + k] = source[start + y * kernel_width + x]

    @inline
    def transform_row(t: Any, phase: Any, elements: Any, target: Any, plane: Any) -> Any:
        """One row of a phase, from its elements to all points, which are `plane` bytes apart."""
        high, wide, n, r = t[PHASES_HIGH], t[PHASES_WIDE], t[POINTS], t[TAPS]
        side = wide * r
        corner = elements + (phase // wide * side + phase % wide) * width * item
        for k in range(0, width, lanes):
            call(t[KERNEL_TO_POINTS], corner + k * item, high * side * width * item, wide * width * item, target + k * item,
                 n * plane, plane)

    @kernel(str(real))
    def gather_all(task: Any, part: Any, parts: Any) -> Any:
        """V of all images, or (ADJOINT) of all maps."""
        t = carray(task, (WORDS,))
        rows = t[IMAGES] * t[TILES_HIGH]
        begin, end = rows * part // parts, rows * (part + 1) // parts
        v = t[V] + begin * t[TILES_WIDE] * t[V_ROW]
        gather(t, t[ADJOINT] != 0, begin, end, v, t[V_ROW], t[V_PLANE], t[PATCH] + part * t[PATCH_EACH])

    @kernel(str(real))
    def pack(task: Any, part: Any, parts: Any) -> Any:
        """All blocks of the weights, at WEIGHTS: each is laid out as (points, phases, rows, columns)."""
        t = carray(task, (WORDS,))
        rows, columns = t[IMAGE_CHANNELS], t[MAP_CHANNELS]
        if t[ADJOINT]:
            rows, columns = columns, rows
        elements = t[PATCH] + part * t[PATCH_EACH]
        units = (columns + width - 1) // width * rows
        for unit in range(units * part // parts, units * (part + 1) // parts):
            block, i = unit // rows, unit % rows
            collect(t, block, i, elements)
            for phase in range(t[PHASES_HIGH] * t[PHASES_WIDE]):
                place = t[WEIGHTS] + block * t[POINTS] * t[POINTS] * t[WEIGHTS_PLANE] + (phase * rows + i) * width * item
                transform_row(t, phase, elements, place, t[WEIGHTS_PLANE])

    @kernel(str(real))
    def convolve(task: Any, part: Any, parts: Any) -> Any:
        """map = activation(image * weights + bias), or with ADJOINT the image from the map (without activation).

        Without V_EACH, V has been gathered, and the parts share the channels of the result; otherwise each gathers a
        CHUNK of rows of tiles at a time. Without WEIGHTS_EACH all weights have been packed, otherwise each part packs a
        phase of a block of them at a time, which then never leaves the cache. The products of a phase of an image are
        transformed back before those of the next are made.
        """
        t = carray(task, (WORDS,))
        zero, one, line = np.int64(0), np.int64(1), np.int64(LINE // item)
        adjoint, as_needed = t[ADJOINT] != 0, t[WEIGHTS_EACH] != 0
        phases, points, wide = t[PHASES_HIGH] * t[PHASES_WIDE], t[POINTS] * t[POINTS], t[TILES_WIDE]
        rows, channels = (t[MAP_CHANNELS], t[IMAGE_CHANNELS]) if adjoint else (t[IMAGE_CHANNELS], t[MAP_CHANNELS])
        # A block of the weights has `panels` of `depth` rows, which are made and multiplied in `pieces`.
        panels, depth = (phases, rows) if adjoint else (one, phases * rows)
        pieces = phases if as_needed and not adjoint else one
        piece = depth // pieces
        plane, block = t[WEIGHTS_PLANE], points * t[WEIGHTS_PLANE]
        first, last = zero, (channels + width - 1) // width
        if t[V_EACH] == 0:
            begin, end = zero, t[IMAGES] * t[TILES_HIGH]
            first, last = last * part // parts, last * (part + 1) // parts
        elif adjoint:  # the tiles of an image overlap, so one part does all of them
            begin, end = t[IMAGES] * part // parts * t[TILES_HIGH], t[IMAGES] * (part + 1) // parts * t[TILES_HIGH]
        else:
            begin, end = t[IMAGES] * t[TILES_HIGH] * part // parts, t[IMAGES] * t[TILES_HIGH] * (part + 1) // parts
        v, v_row, v_plane = t[V] + part * t[V_EACH], t[V_ROW], t[V_PLANE]
        product, product_row, product_plane = t[PRODUCTS] + part * t[PRODUCTS_EACH], t[PRODUCTS_ROW], t[PRODUCTS_PLANE]
        patch = t[PATCH] + part * t[PATCH_EACH]
        elements = t[ELEMENTS] + part * t[ELEMENTS_EACH]
        row_elements = phases * t[TAPS] * t[TAPS] * width * item
        slope = at(t[SLOPE], one)[0]
        at_once = one if as_needed else max(last - first, one)

        if adjoint:  # the tiles will be added up, to the bias
            low = first * width
            pixels, many = t[IMAGE_HEIGHT] * t[IMAGE_WIDTH], min(last * width, channels) - low
            for i in range(begin // t[TILES_HIGH] * pixels, end // t[TILES_HIGH] * pixels):
                pixel = t[IMAGE] + (i * t[IMAGE_PIXEL] + low) * item
                if t[BIAS]:
                    copy(t[BIAS] + low * item, pixel, many)
                else:
                    _zero(at(pixel, many))
        for i in range(begin, end, t[CHUNK]):
            stop = min(i + t[CHUNK], end)
            tiles = (stop - i) * wide
            if t[V_EACH]:
                gather(t, adjoint, i, stop, v, v_row, v_plane, patch)
            for j0 in range(first, last, at_once):
                j1 = min(j0 + at_once, last)
                weights = t[WEIGHTS] + j0 * block
                if as_needed:
                    weights = t[WEIGHTS] + part * t[WEIGHTS_EACH]
                    for r in range(rows):
                        collect(t, j0, r, elements + r * row_elements)
                for q in range(panels):
                    for d in range(pieces):
                        if as_needed:
                            for r in range(rows):
                                transform_row(t, q + d, elements + r * row_elements, weights + r * width * item, plane)
                        for p in range(points):
                            for j in range(j1 - j0):
                                panel = weights + j * block + p * plane + (zero if as_needed else q * depth * width * item)
                                following = panel + block if j + 1 < j1 - j0 else panel - j * block + plane
                                for k in range(0, tiles, ROWS):  # the last block of rows may reach beyond the tiles
                                    source = v + p * v_plane + k * v_row + d * piece * item
                                    # Meanwhile the next panel is fetched, half of it with the first rows, half with the
                                    # second, and with the first panel the next rows.
                                    half = k // ROWS
                                    then = source + ROWS * v_row
                                    if k + ROWS >= tiles:
                                        then = v + (p + 1) * v_plane + d * piece * item
                                    multiply(piece, source, v_row // item, one, panel, np.int64(width),
                                             product + p * product_plane + k * product_row + j * width * item,
                                             product_row // item, d, following + half * piece * LINE,
                                             line if half * LINE < width * item else zero, then, line if j == 0 else zero)
                    scatter(t, not adjoint, i, stop, q, product, j0 * width, min(j1 * width, channels), slope, patch)

    @inline
    def write_weights(t: Any, source: Any, phase_step: Any, plane: Any, k: Any, c: Any, patch: Any) -> Any:
        """The gradient by kernel k of a vector of channels, from c on: its products, whose phases and points lie so many
        bytes apart, transformed back and written to (K, C, kH, kW) at KERNEL, or added to it (ACCUMULATE)."""
        high, wide, height, kernel_width = t[PHASES_HIGH], t[PHASES_WIDE], t[KERNEL_HEIGHT], t[KERNEL_WIDTH]
        n, r, adding = t[POINTS], t[TAPS], t[ACCUMULATE] != 0
        side, taps = wide * r, height * kernel_width
        count = min(np.int64(lanes), t[IMAGE_CHANNELS] - c)
        target = t[KERNEL] + (k * t[IMAGE_CHANNELS] + c) * taps * item
        for q in range(high * wide):
            corner = patch + (q // wide * side + q % wide) * vector
            call(t[POINTS_TO_KERNEL], source + q * phase_step, n * plane, plane, corner, high * side * vector, wide * vector)
        if side == kernel_width and taps % lanes == 0 and count == lanes:
            squares = patch + high * r * side * vector
            for tap in range(0, taps, lanes):
                square(patch + tap * vector, np.int64(vector), squares, np.int64(vector))
                for b in range(lanes):
                    move(squares + b * vector, target + (b * taps + tap) * item, np.int64(lanes), adding)
            return
        values, weights = at(patch, high * r * side * lanes), at(target, count * taps)
        for y in range(height):
            for x in range(kernel_width):
                element, place = (y * side + x) * lanes, y * kernel_width + x
                for b in range(count):
                    weights[b * taps + place] = values[element + b] + (weights[b * taps + place] if adding else real(0))

    @kernel(str(real))
    def weight_grad(task: Any, part: Any, parts: Any) -> Any:
        """The gradient of the weights: for each point a product of what two gathers made, at V of the images and at MAP_V of
        the maps, that sums over all tiles.

        A block of CHUNK kernels and some channels, PANELS of each phase, is done with all its points and phases, so that
        its products never leave the cache.
        """
        t = carray(task, (WORDS,))
        zero, one = np.int64(0), np.int64(1)
        kernels, channels, phases = t[MAP_CHANNELS], t[IMAGE_CHANNELS], t[PHASES_HIGH] * t[PHASES_WIDE]
        points, tiles = t[POINTS] * t[POINTS], t[IMAGES] * t[TILES_HIGH] * t[TILES_WIDE]
        product, row, plane = t[PRODUCTS] + part * t[PRODUCTS_EACH], t[PRODUCTS_ROW], t[PRODUCTS_PLANE]
        x_row, y_row, patch = t[V_ROW], t[MAP_V_ROW], t[PATCH] + part * t[PATCH_EACH]
        # A panel of columns lies in one phase, but where all phases are a block the next may begin in it.
        together = t[PANELS]
        block = together * width
        whole = channels <= block
        panels, phase_step = phases * together, block
        if whole:
            panels, phase_step = (phases * channels + width - 1) // width, channels
        high = (kernels + t[CHUNK] - 1) // t[CHUNK]
        units = (channels + block - 1) // block * high
        for unit in range(units * part // parts, units * (part + 1) // parts):
            k0, c0 = unit % high * t[CHUNK], unit // high * block
            k1, c1 = min(k0 + t[CHUNK], kernels), min(c0 + block, channels)
            for p in range(points):
                x, y = t[V] + p * t[V_PLANE], t[MAP_V] + p * t[MAP_V_PLANE]
                for j in range(panels):
                    column = j * width
                    if not whole:
                        column = j // together * channels + c0 + j % together * width
                    for k in range(k0, k1, ROWS):
                        # Meanwhile the same of the next point is fetched, as in `convolve`.
                        half = (k - k0) // ROWS
                        source, beside = x + column * item, y + k * item
                        multiply(tiles, beside, one, y_row // item, source, x_row // item,
                                 product + p * plane + (k - k0) * row + j * width * item, row // item, zero,
                                 source + t[V_PLANE] + half * LINE, x_row // item if half * LINE < width * item else zero,
                                 beside + t[MAP_V_PLANE], y_row // item if j == 0 else zero)
            for k in range(k0, k1):
                for c in range(c0, c1, lanes):
                    write_weights(t, product + (k - k0) * row + (c - c0) * item, phase_step * item, plane, k, c, patch)

    @kernel(str(real))
    def untile_weights(task: Any, part: Any, parts: Any) -> Any:
        """The PRODUCTS of the points, (K, channels of all phases), as the gradient of the weights."""
        t = carray(task, (WORDS,))
        channels, phases, patch = t[IMAGE_CHANNELS], t[PHASES_HIGH] * t[PHASES_WIDE], t[PATCH] + part * t[PATCH_EACH]
        for k in range(t[MAP_CHANNELS] * part // parts, t[MAP_CHANNELS] * (part + 1) // parts):
            for c in range(0, channels, lanes):
                write_weights(t, t[PRODUCTS] + (k * phases * channels + c) * item, channels * item, t[PRODUCTS_PLANE], k, c,
                              patch)

    return Tasks(gather_all, pack, convolve, weight_grad, untile_weights)
