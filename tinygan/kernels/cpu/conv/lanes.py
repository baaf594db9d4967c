"""The kernels for convolutions with few channels. They compute the sum of the definition, with one image in each lane of a
vector register.

If images have few channels, the blocks of a matrix product would be nearly empty, and so would vectors of channels. But a
batch has many images. With one image in each lane a convolution is a sequence of multiply-adds of vectors, for any stride
and padding.

`lift` brings a row of pixels of some images into this order, and `lower` brings a row of results back. Both transpose
squares in registers. The lifted rows are stored in a ring buffer, which has as many rows as a kernel covers and stays in the
cache.

The source is read, and the target is written. They are the image and the map, or for the adjoint the map and the image. Both
are channels-last. Distances count bytes.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from numba import carray, types

from tinygan.kernels.cpu.activations.functions import activate_fused
from tinygan.kernels.cpu.conv.lane_products import CHANNELS_AT_ONCE, KERNELS_AT_ONCE, outer_products, row_filter
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import array_at, pointer_to
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES, lanes_of, square_transpose


class ImageSize(NamedTuple):
    """The size of an image, or of a map."""

    height: int
    width: int
    channels: int


class LaneSizes(NamedTuple):
    """The sizes of a convolution, for both tasks. `*_each` are the bytes of scratch memory for each part."""

    source: ImageSize
    target: ImageSize
    images: int
    adjoint: int
    stride_high: int
    stride_wide: int
    top: int
    """The padding above the image."""
    left: int
    """The padding to the left of the image."""
    dilation: int
    """The rows of the image from one row of the kernel to the next."""
    kernel_height: int
    kernel_width: int
    bands: int
    """How many bands of rows a block of images is cut into. The parts share the bands."""
    before: int
    """How many zero pixels precede the pixels of a lifted row. There are also zeros after them."""
    ring_rows: int
    """The number of lifted rows in the ring buffer."""
    ring_row: int
    """The bytes of a lifted row."""
    ring_each: int
    row_each: int
    """The bytes of a row of the target."""


class ConvolveLanes(NamedTuple):
    """The arguments of the task `convolve`: sizes, addresses, the activation and its slope."""

    sizes: LaneSizes
    source: int
    target: int
    weights: int
    """(kernel height, kernel width, channels of the source, channels of the target). For the adjoint the columns of the
    kernel are sorted by phase, and the columns of each phase are in reverse order."""
    bias: int
    """One number for each channel of the target. 0 for no bias."""
    activation: int
    """The code of the activation. For the adjoint: identity."""
    slope: float
    ring: int
    row: int
    table: int
    """Scratch memory for one entry for each row of the kernel: the addresses of the pixels under it and of its weights."""
    table_each: int


class WeightGradLanes(NamedTuple):
    """The arguments of the task `weight_grad`. The source is the image. The target is the map, which is read here, too."""

    sizes: LaneSizes
    source: int
    target: int
    ring: int
    row: int
    sums: int
    """Address of the sums, (kernel height, rows, kernels, lanes) for each part. A row is one tap of a kernel's row in one
    channel. Some more rows follow, which are not used."""
    sums_each: int
    sums_plane: int
    """The bytes from one row of the kernel to the next."""


class _Rows(NamedTuple):
    """Functions for kernels that move rows of pixels. They work on a block of images, one for each lane."""

    fill: Any
    lift: Any
    lower: Any
    lift_rows: Any
    unit_of: Any


@inline
def under(s: Any, row: Any, tap: Any) -> Any:
    """The row of the source that row `tap` of the kernel covers when row `row` of the target is computed; -1 if there is
    none."""
    if not s.adjoint:
        found = row * s.stride_high - s.top + tap * s.dilation
        return found if 0 <= found < s.source.height else -1
    found = row + s.top - tap * s.dilation
    if found < 0 or found % s.stride_high or found // s.stride_high >= s.source.height:
        return -1
    return found // s.stride_high


@cache
def _rows(real: Any) -> _Rows:
    """The functions for elements of that type."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    square, at = square_transpose(real), array_at(real)

    @inline
    def fill(address: Any, size: Any, value: Any) -> Any:
        values = at(address, size)
        for i in range(size):
            values[i] = value

    @inline
    def lift(source: Any, step: Any, images: Any, size: Any, target: Any) -> Any:
        """Turn `size` elements of each of some images into `size` vectors. step: the bytes from image to image. Lanes
        without an image are not written."""
        if images == lanes and size >= lanes:
            for i in range(0, size, lanes):
                first = min(i, size - lanes)  # the last square copies some elements a second time
                square(source + first * item, step, target + first * VECTOR_BYTES, VECTOR_BYTES)
            return
        for lane in range(images):
            a, b = at(source + lane * step, size), at(target + lane * item, size * lanes)
            for i in range(size):
                b[i * lanes] = a[i]

    @inline
    def lower(source: Any, size: Any, target: Any, step: Any, images: Any) -> Any:
        """The reverse of `lift`: turn `size` vectors into `size` elements of each image."""
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
    def lift_rows(s: Any, row: Any, lifted: Any, images: Any, source: Any, ring: Any) -> Any:
        """Lift the rows of the source that a row of the target needs. The first `lifted` rows have been lifted before.
        Returns the new value of `lifted`."""
        channels, height = s.source.channels, s.source.height
        size = s.source.width * channels
        first, end = height, lifted
        for tap in range(s.kernel_height):
            found = under(s, row, tap)
            if found >= 0:
                first, end = min(first, found), max(end, found + 1)
        for i in range(max(first, lifted), end):
            lift(source + i * size * item, height * size * item, images, size,
                 ring + i % s.ring_rows * s.ring_row + s.before * channels * VECTOR_BYTES)
        return end

    @inline
    def unit_of(s: Any, source: Any, target: Any, unit: Any) -> Any:
        """A unit of work is one band of one block of images. Returns the number of images, their addresses in source and
        target, and (first, end) of the rows of the target."""
        block, band, height = unit // s.bands, unit % s.bands, s.target.height
        source_size = s.source.height * s.source.width * s.source.channels
        target_size = height * s.target.width * s.target.channels
        return (min(lanes, s.images - block * lanes), source + block * lanes * source_size * item,
                target + block * lanes * target_size * item, height * band // s.bands, height * (band + 1) // s.bands)

    return _Rows(fill, lift, lower, lift_rows, unit_of)


@cache
def _row_filter(real: Any, channels: int = CHANNELS_AT_ONCE) -> Any:
    """A function for kernels: apply_filter for all pixels of a row, and for 1 to `channels` channels."""
    apply_filter, pixels = row_filter(real, channels)
    fewer = _row_filter(real, channels - 1) if channels > 1 else None

    @inline
    def along(many: Any, width: Any, rows: Any, table: Any, count: Any, x: Any, x_pixel: Any, w: Any, w_row: Any, y: Any,
              y_pixel: Any) -> Any:
        if many == channels:
            for i in range(0, width, pixels):
                apply_filter(rows, table, count, x + i * x_pixel, x_pixel, w, w_row, y + i * y_pixel, y_pixel)
        elif fewer is not None:
            fewer(many, width, rows, table, count, x, x_pixel, w, w_row, y, y_pixel)

    return along


@cache
def _row_outer(real: Any, kernels: int = KERNELS_AT_ONCE) -> Any:
    """A function for kernels: add_outer for all rows of sums, and for 1 to `kernels` kernels."""
    add_outer, rows = outer_products(real, kernels)
    fewer = _row_outer(real, kernels - 1) if kernels > 1 else None

    @inline
    def over(many: Any, run: Any, count: Any, x: Any, x_pixel: Any, y: Any, y_pixel: Any, sums: Any, sums_row: Any) -> Any:
        if many == kernels:
            for i in range(0, run, rows):
                add_outer(count, x + i * VECTOR_BYTES, x_pixel, y, y_pixel, sums + i * sums_row, sums_row)
        elif fewer is not None:
            fewer(many, run, count, x, x_pixel, y, y_pixel, sums, sums_row)

    return over


@cache
def make_convolve(real: Any) -> int:
    """The address of the task for elements of that type. It computes target = activation(source * weights + bias); the
    adjoint has no activation."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    fill, _, lower, lift_rows, unit_of = _rows(real)
    at, words_at, filter_row, activate = array_at(real), pointer_to(types.int64), _row_filter(real), activate_fused(real)

    @inline
    def start_row(bias: Any, pixels: Any, many: Any, out: Any) -> Any:
        """Set a row of the target to the bias."""
        if not bias:
            fill(out, pixels * many * lanes, 0)
            return
        values = at(bias, many)
        for i in range(pixels):
            for j in range(many):
                fill(out + (i * many + j) * VECTOR_BYTES, lanes, values[j])

    @inline
    def filter_phases(s: Any, rows: Any, table: Any, out: Any) -> Any:
        """Add to a row of the target the products with all rows of the table."""
        channels, many, width = s.source.channels, s.target.channels, s.target.width
        source_pixel, target_pixel = channels * VECTOR_BYTES, many * VECTOR_BYTES
        phases = s.stride_wide if s.adjoint else 1
        weights = 0  # the distance from the beginning of a row of weights to those of the phase
        for phase in range(phases if rows else 0):
            taps, first, end, begin, step, place = s.kernel_width, 0, width, 0, s.stride_wide, 0
            if s.adjoint:
                # Pixel i of a phase is pixel i * stride + phase - left of the image. It depends on pixels i, i - 1, ... of
                # the map.
                taps = (s.kernel_width - phase + phases - 1) // phases
                if taps <= 0:
                    continue
                first = max(0, (s.left - phase + phases - 1) // phases)
                end = (width - 1 + s.left - phase) // phases + 1
                step, place = 1, first * phases + phase - s.left
                begin = first - (taps - 1) + s.before
            for j in range(0, many, CHANNELS_AT_ONCE):
                filter_row(min(CHANNELS_AT_ONCE, many - j), end - first, rows, table, taps * channels, begin * source_pixel,
                           step * source_pixel, weights + j * item, many * item,
                           out + place * target_pixel + j * VECTOR_BYTES, phases * target_pixel)
            weights += taps * channels * many * item

    @task(ConvolveLanes, str(real))
    def convolve(t: Any, part: Any, parts: Any) -> Any:
        s = t.sizes
        many, width = s.target.channels, s.target.width
        weights_row = s.kernel_width * s.source.channels * many * item
        ring, out, table = t.ring + part * s.ring_each, t.row + part * s.row_each, t.table + part * t.table_each
        entries = carray(words_at(table), (2 * s.kernel_height,))
        slope = real(t.slope)
        units = (s.images + lanes - 1) // lanes * s.bands
        for unit in range(units * part // parts, units * (part + 1) // parts):
            images, source, target, first_row, end_row = unit_of(s, t.source, t.target, unit)
            fill(ring, s.ring_each // item, 0)
            lifted = 0
            for row in range(first_row, end_row):
                lifted = lift_rows(s, row, lifted, images, source, ring)
                start_row(t.bias, width, many, out)
                rows = 0
                for tap in range(s.kernel_height):
                    found = under(s, row, tap)
                    if found >= 0:
                        entries[2 * rows] = ring + found % s.ring_rows * s.ring_row
                        entries[2 * rows + 1] = t.weights + tap * weights_row
                        rows += 1
                filter_phases(s, rows, table, out)
                activate(t.activation, at(out, width * many * lanes), slope)
                lower(out, width * many, target + row * width * many * item, s.target.height * width * many * item, images)

    return convolve


@cache
def make_weight_grad(real: Any) -> int:
    """The address of the task for elements of that type. Each part computes, for each weight, the sum of image times map
    over its images and rows. The sums are vectors: their lanes still have to be added."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    fill, lift, _, lift_rows, unit_of = _rows(real)
    add_row = _row_outer(real)

    @task(WeightGradLanes, str(real))
    def weight_grad(t: Any, part: Any, parts: Any) -> Any:
        s = t.sizes
        channels, kernels = s.source.channels, s.target.channels
        width, at_once = s.target.width, min(kernels, KERNELS_AT_ONCE)
        ring, y, sums = t.ring + part * s.ring_each, t.row + part * s.row_each, t.sums + part * t.sums_each
        fill(sums, t.sums_each // item, 0)
        units = (s.images + lanes - 1) // lanes * s.bands
        for unit in range(units * part // parts, units * (part + 1) // parts):
            images, source, target, first_row, end_row = unit_of(s, t.source, t.target, unit)
            fill(ring, s.ring_each // item, 0)
            fill(y, s.row_each // item, 0)
            lifted = 0
            for row in range(first_row, end_row):
                lifted = lift_rows(s, row, lifted, images, source, ring)
                size = width * kernels
                lift(target + row * size * item, s.target.height * size * item, images, size, y)
                for tap in range(s.kernel_height):
                    found = under(s, row, tap)
                    if found < 0:
                        continue
                    for k in range(0, kernels, at_once):
                        add_row(min(at_once, kernels - k), s.kernel_width * channels, width,
                                ring + found % s.ring_rows * s.ring_row, s.stride_wide * channels * VECTOR_BYTES,
                                y + k * VECTOR_BYTES, kernels * VECTOR_BYTES,
                                sums + tap * t.sums_plane + k * VECTOR_BYTES, kernels * VECTOR_BYTES)

    return weight_grad
