"""Convolutions of few channels, by their definition, with an image in each lane of a vector register.

Where images have few channels, nothing in a convolution is worth a block of a matrix product, and a vector of channels is
mostly empty. But a batch has many images: with as many of them side by side as a register has lanes, a convolution is one
multiply-add after the other, whatever its stride and padding.

`lift` brings a row of pixels of some images into this order, `lower` a row of results back; both transpose squares in
registers. Lifted rows lie in a ring that holds those under a kernel, so that all of it stays in the cache. As in `conv`,
"image" is the side that is strided over and "map" the result; both are channels-last. Addresses and strides count bytes.
"""
from __future__ import annotations

import itertools
from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from tinygan.kernels.activations import LEAKY_RELU, RELU
from tinygan.kernels.cpu.matmul.microkernel import VECTOR_BYTES
from tinygan.kernels.cpu.runtime import simd as transform
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline, kernel
from tinygan.kernels.cpu.runtime.registers import Registers

address_of_words = pointer_to(types.int64)
SUMS_HELD = 16 if VECTOR_BYTES == 64 else 8  # in registers; the others are for what is multiplied
CHANNELS_AT_ONCE = SUMS_HELD // 2
PIXELS_AT_ONCE = 8
KERNELS_AT_ONCE, ROWS_AT_ONCE = 4, 8  # of a map, and of weights, in their gradient

# What a task is told, by position. SOURCE is what TARGET is made of: the image and the map, or with ADJOINT the map and the
# image; in the gradient of the weights they are image and map. WEIGHTS: (KERNEL_HEIGHT, KERNEL_WIDTH, the source's channels,
# the target's), for the adjoint the columns phase by phase, each phase backward. SPACING: between rows under a kernel.
# BANDS: a block of images is done in so many bands of rows. RING: lifted rows of the source, each with BEFORE zero pixels,
# its own, and zeros; ROW: a row of the target. TABLE: where rows under a kernel
# lie, and their weights. SUMS: (KERNEL_HEIGHT, rows, SUMS_COLUMNS, lanes), what the gradient is
# summed of. *_EACH: every part has so many bytes for itself.
(SOURCE, SOURCE_HEIGHT, SOURCE_WIDTH, SOURCE_CHANNELS, TARGET, TARGET_HEIGHT, TARGET_WIDTH, TARGET_CHANNELS, IMAGES,
 ADJOINT, STRIDE_HIGH, STRIDE_WIDE, TOP, LEFT, SPACING, KERNEL_HEIGHT, KERNEL_WIDTH, WEIGHTS, BIAS, ACTIVATION, SLOPE, BANDS,
 RING, RING_EACH, RING_ROWS, RING_ROW, BEFORE, ROW, ROW_EACH, TABLE, TABLE_EACH, SUMS, SUMS_EACH, SUMS_PLANE,
 SUMS_COLUMNS) = range(35)
WORDS = 35


class Tasks(NamedTuple):
    """The addresses of the tasks."""

    convolve: int
    weight_grad: int


def _make_filter(real: Any, channels: int) -> Any:
    """(rows, table, count, x, x_pixel, weights, weights_row, y, y_pixel): some channels of some pixels next to each other,
    y[q, j] += sum over the rows under the kernel and p < count of x[q, p] * weights[p, j], for vectors x and y; and how many
    pixels that is. The table has for each row the addresses of its pixels and of its weights, to which x and weights are
    added."""
    pixels = min(PIXELS_AT_ONCE, SUMS_HELD // channels)
    item = real.bitwidth // 8

    @intrinsic
    def apply_filter(typing: Any, rows: Any, table: Any, count: Any, x: Any, x_pixel: Any, weights: Any, weights_row: Any,
                     y: Any, y_pixel: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows, table, count, x, x_pixel, weights, weights_row, y, y_pixel = args
            emit = Registers(builder, real)
            places = [emit.place(y, y_pixel, q, j * VECTOR_BYTES) for q in range(pixels) for j in range(channels)]

            def add_row(r: Any, sums: list[Any]) -> list[Any]:
                entry = builder.add(table, builder.mul(r, ir.Constant(emit.word, 16)))
                x_row, w_row = (
                    builder.add(base, builder.load(builder.inttoptr(emit.place(entry, r, 0, 8 * i), emit.word.as_pointer())))
                    for i, base in enumerate((x, weights)))

                def factors(p: Any) -> list[Any]:
                    row = builder.add(w_row, builder.mul(p, weights_row))
                    at_once = [emit.load_everywhere(emit.place(row, p, 0, j * item)) for j in range(channels)]
                    column = builder.add(x_row, builder.mul(p, ir.Constant(emit.word, VECTOR_BYTES)))
                    values = [emit.load(emit.place(column, x_pixel, q)) for q in range(pixels)]
                    return list(itertools.product(values, at_once))

                return emit.add_products(count, sums, factors)

            totals = emit.loop(rows, [emit.load(place) for place in places], add_row)
            for total, place in zip(totals, places, strict=True):
                emit.store(total, place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), code

    return apply_filter, pixels


def _make_outer(real: Any, kernels: int) -> Any:
    """(count, x, x_pixel, y, y_pixel, sums, sums_row): for a block of vectors sums[i, j] += sum over count (positive) pixels
    of x[i] * y[j]; and how many rows the block has."""
    rows = min(ROWS_AT_ONCE, SUMS_HELD // kernels)

    @intrinsic
    def add_outer(typing: Any, count: Any, x: Any, x_pixel: Any, y: Any, y_pixel: Any, sums: Any, sums_row: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            count, x, x_pixel, y, y_pixel, sums, sums_row = args
            emit = Registers(builder, real)

            def factors(p: Any) -> list[Any]:
                left, right = builder.add(x, builder.mul(p, x_pixel)), builder.add(y, builder.mul(p, y_pixel))
                columns = [emit.load(emit.place(right, p, 0, j * VECTOR_BYTES)) for j in range(kernels)]
                values = [emit.load(emit.place(left, p, 0, i * VECTOR_BYTES)) for i in range(rows)]
                return list(itertools.product(values, columns))

            places = [emit.place(sums, sums_row, i, j * VECTOR_BYTES) for i in range(rows) for j in range(kernels)]
            totals = emit.add_products(count, [emit.load(place) for place in places], factors)
            for total, place in zip(totals, places, strict=True):
                emit.store(total, place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), code

    return add_outer, rows


@cache
def make(real: Any) -> Tasks:
    """The tasks for images of that type."""
    pointer = pointer_to(real)
    item = real.bitwidth // 8
    lanes = transform.lanes_of(real)
    square = transform.square_transpose(real)

    @inline
    def at(address: Any, size: Any) -> Any:
        return carray(pointer(address), (size,))

    @inline
    def fill(address: Any, size: Any, value: Any) -> Any:
        values = at(address, size)
        for i in range(size):
            values[i] = value

    @inline
    def lift(source: Any, step: Any, images: Any, size: Any, target: Any) -> Any:
        """`size` elements of each of some images, which are `step` apart, to vectors. Lanes without an image stay."""
        if images == lanes and size >= lanes:
            for i in range(0, size, lanes):
                first = min(i, size - lanes)  # the last squares do some elements once more
                square(source + first * item, step, target + first * VECTOR_BYTES, VECTOR_BYTES)
            return
        for lane in range(images):
            a, b = at(source + lane * step, size), at(target + lane * item, size * lanes)
            for i in range(size):
                b[i * lanes] = a[i]

    @inline
    def lower(source: Any, size: Any, target: Any, step: Any, images: Any) -> Any:
        """The other way."""
        if images == lanes and size >= lanes:
            for i in range(0, size, lanes):
                first = min(i, size - lanes)
                square(source + first * VECTOR_BYTES, VECTOR_BYTES, target + first * item, step)
            return
        for lane in range(images):
            a, b = at(source + lane * item, size * lanes), at(target + lane * step, size)
            for i in range(size):
                b[i] = a[i * lanes]

    @inline
    def activate(values: Any, activation: Any, slope: Any) -> Any:
        if activation == LEAKY_RELU:
            for i in range(values.size):
                z = values[i]
                values[i] = z if z > 0 else slope * z
        elif activation == RELU:
            for i in range(values.size):
                z = values[i]
                values[i] = 0 if z <= 0 else z

    @inline
    def under(t: Any, row: Any, tap: Any) -> Any:
        """The row of the source that a tap of the kernel has over a row of the target; -1 where there is none."""
        if not t[ADJOINT]:
            found = row * t[STRIDE_HIGH] - t[TOP] + tap * t[SPACING]
            return found if 0 <= found < t[SOURCE_HEIGHT] else -1
        found = row + t[TOP] - tap * t[SPACING]
        if found < 0 or found % t[STRIDE_HIGH] or found // t[STRIDE_HIGH] >= t[SOURCE_HEIGHT]:
            return -1
        return found // t[STRIDE_HIGH]

    @inline
    def lift_rows(t: Any, row: Any, lifted: Any, images: Any, source: Any, ring: Any) -> Any:
        """Lift what a row of the target needs, and was not lifted before. Returns the row after the last lifted one."""
        size = t[SOURCE_WIDTH] * t[SOURCE_CHANNELS]
        first, end = t[SOURCE_HEIGHT], lifted
        for tap in range(t[KERNEL_HEIGHT]):
            found = under(t, row, tap)
            if found >= 0:
                first, end = min(first, found), max(end, found + 1)
        for i in range(max(first, lifted), end):
            lift(source + i * size * item, t[SOURCE_HEIGHT] * size * item, images, size,
                 ring + i % t[RING_ROWS] * t[RING_ROW] + t[BEFORE] * t[SOURCE_CHANNELS] * VECTOR_BYTES)
        return end

    @inline
    def unit_of(t: Any, unit: Any) -> Any:
        """A unit of the work, some rows of a block of images: how many images, where they begin in source and target, and
        from which row of the target to which."""
        block, band, height = unit // t[BANDS], unit % t[BANDS], t[TARGET_HEIGHT]
        source_size = t[SOURCE_HEIGHT] * t[SOURCE_WIDTH] * t[SOURCE_CHANNELS]
        target_size = height * t[TARGET_WIDTH] * t[TARGET_CHANNELS]
        return (min(lanes, t[IMAGES] - block * lanes), t[SOURCE] + block * lanes * source_size * item,
                t[TARGET] + block * lanes * target_size * item, height * band // t[BANDS], height * (band + 1) // t[BANDS])

    def filters(channels: int) -> Any:
        """apply_filter for all pixels of a row and so many channels, or fewer."""
        apply_filter, pixels = _make_filter(real, channels)
        fewer = filters(channels - 1) if channels > 1 else None

        @inline
        def along(many: Any, width: Any, rows: Any, table: Any, count: Any, x: Any, x_pixel: Any, w: Any, w_row: Any, y: Any,
                  y_pixel: Any) -> Any:
            if many == channels:
                for i in range(0, width, pixels):
                    apply_filter(rows, table, count, x + i * x_pixel, x_pixel, w, w_row, y + i * y_pixel, y_pixel)
            elif fewer is not None:
                fewer(many, width, rows, table, count, x, x_pixel, w, w_row, y, y_pixel)

        return along

    filter_row = filters(CHANNELS_AT_ONCE)

    @kernel(str(real))
    def convolve(task: Any, part: Any, parts: Any) -> Any:
        """target = activation(source * weights + bias); with ADJOINT without activation."""
        t = carray(task, (WORDS,))
        channels, many = t[SOURCE_CHANNELS], t[TARGET_CHANNELS]
        width, source_pixel, target_pixel = t[TARGET_WIDTH], channels * VECTOR_BYTES, many * VECTOR_BYTES
        ring, out = t[RING] + part * t[RING_EACH], t[ROW] + part * t[ROW_EACH]
        table = carray(address_of_words(t[TABLE] + part * t[TABLE_EACH]), (2 * t[KERNEL_HEIGHT],))
        slope = at(t[SLOPE], 1)[0]
        phases = t[STRIDE_WIDE] if t[ADJOINT] else 1
        units = (t[IMAGES] + lanes - 1) // lanes * t[BANDS]
        for unit in range(units * part // parts, units * (part + 1) // parts):
            images, source, target, first_row, end_row = unit_of(t, unit)
            fill(ring, t[RING_EACH] // item, 0)
            lifted = 0
            for row in range(first_row, end_row):
                lifted = lift_rows(t, row, lifted, images, source, ring)
                if t[BIAS]:
                    bias = at(t[BIAS], many)
                    for i in range(width):
                        for j in range(many):
                            fill(out + (i * many + j) * VECTOR_BYTES, lanes, bias[j])
                else:
                    fill(out, width * many * lanes, 0)
                rows = 0
                for tap in range(t[KERNEL_HEIGHT]):
                    found = under(t, row, tap)
                    if found >= 0:
                        table[2 * rows] = ring + found % t[RING_ROWS] * t[RING_ROW]
                        table[2 * rows + 1] = t[WEIGHTS] + tap * t[KERNEL_WIDTH] * channels * many * item
                        rows += 1
                weights = 0  # of the phase, beyond where a row of them begins
                for phase in range(phases if rows else 0):
                    taps, first, end, begin, step, place = t[KERNEL_WIDTH], 0, width, 0, t[STRIDE_WIDE], 0
                    if t[ADJOINT]:
                        # Pixel i of a phase is i * stride + phase - LEFT, and sees pixels i, i - 1, ... of the map.
                        taps = (t[KERNEL_WIDTH] - phase + phases - 1) // phases
                        if taps <= 0:
                            continue
                        first = max(0, (t[LEFT] - phase + phases - 1) // phases)
                        end = (width - 1 + t[LEFT] - phase) // phases + 1
                        step, place = 1, first * phases + phase - t[LEFT]
                        begin = first - (taps - 1) + t[BEFORE]
                    for j in range(0, many, CHANNELS_AT_ONCE):
                        filter_row(min(CHANNELS_AT_ONCE, many - j), end - first, rows, t[TABLE] + part * t[TABLE_EACH],
                                   taps * channels, begin * source_pixel, step * source_pixel, weights + j * item,
                                   many * item, out + place * target_pixel + j * VECTOR_BYTES, phases * target_pixel)
                    weights += taps * channels * many * item
                activate(at(out, width * many * lanes), t[ACTIVATION], slope)
                lower(out, width * many, target + row * width * many * item, t[TARGET_HEIGHT] * width * many * item, images)

    def outer_products(kernels: int) -> Any:
        """add_outer for all rows of sums, of so many columns or fewer."""
        add_outer, rows = _make_outer(real, kernels)
        fewer = outer_products(kernels - 1) if kernels > 1 else None

        @inline
        def over(many: Any, run: Any, count: Any, x: Any, x_pixel: Any, y: Any, y_pixel: Any, sums: Any,
                 sums_row: Any) -> Any:
            if many == kernels:
                for i in range(0, run, rows):
                    add_outer(count, x + i * VECTOR_BYTES, x_pixel, y, y_pixel, sums + i * sums_row, sums_row)
            elif fewer is not None:
                fewer(many, run, count, x, x_pixel, y, y_pixel, sums, sums_row)

        return over

    add_row = outer_products(KERNELS_AT_ONCE)

    @kernel(str(real))
    def weight_grad(task: Any, part: Any, parts: Any) -> Any:
        """For each part the sums over its images and rows of image times map, a vector for each weight."""
        t = carray(task, (WORDS,))
        channels, kernels = t[SOURCE_CHANNELS], t[TARGET_CHANNELS]
        width, at_once = t[TARGET_WIDTH], min(kernels, KERNELS_AT_ONCE)
        ring, y, sums = t[RING] + part * t[RING_EACH], t[ROW] + part * t[ROW_EACH], t[SUMS] + part * t[SUMS_EACH]
        sums_row = t[SUMS_COLUMNS] * VECTOR_BYTES
        fill(sums, t[SUMS_EACH] // item, 0)
        units = (t[IMAGES] + lanes - 1) // lanes * t[BANDS]
        for unit in range(units * part // parts, units * (part + 1) // parts):
            images, source, target, first_row, end_row = unit_of(t, unit)
            fill(ring, t[RING_EACH] // item, 0)
            fill(y, t[ROW_EACH] // item, 0)
            lifted = 0
            for row in range(first_row, end_row):
                lifted = lift_rows(t, row, lifted, images, source, ring)
                size = width * kernels
                lift(target + row * size * item, t[TARGET_HEIGHT] * size * item, images, size, y)
                for tap in range(t[KERNEL_HEIGHT]):
                    found = under(t, row, tap)
                    if found < 0:
                        continue
                    for k in range(0, kernels, at_once):
                        add_row(min(at_once, kernels - k), t[KERNEL_WIDTH] * channels, width,
                                ring + found % t[RING_ROWS] * t[RING_ROW], t[STRIDE_WIDE] * channels * VECTOR_BYTES,
                                y + k * VECTOR_BYTES, kernels * VECTOR_BYTES,
                                sums + tap * t[SUMS_PLANE] + k * VECTOR_BYTES, sums_row)

    return Tasks(convolve, weight_grad)
