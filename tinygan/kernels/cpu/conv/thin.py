"""The kernels for convolutions with few channels and many kernels. They compute the sum of the definition, with one kernel
in each lane of a vector register.

These are the matrix products of the direct algorithm, but no matrix of patches is made. The pixels under one row of a kernel
lie one after the other in memory, with all their channels, so the innermost loops read them where they are. Only the rows of
the image are copied, a band at a time, to put zeros around them. The vectors are the kernels of one pixel of the map, which
lie one after the other, too. So nothing is transposed, and the map is read or written in the order in which it lies in
memory.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from tinygan.kernels.cpu.activations.functions import activate_fused
from tinygan.kernels.cpu.conv.thin_products import (
    PIXEL_VECTORS,
    PIXELS_AT_ONCE,
    TAP_VECTORS,
    TAPS_AT_ONCE,
    pixel_products,
    tap_products,
)
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import array_at
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.simd import lanes_of, moves


class ThinSizes(NamedTuple):
    """The sizes of a convolution, for both tasks."""

    images: int
    height: int
    width: int
    channels: int
    map_height: int
    map_width: int
    kernels: int
    stride_high: int
    stride_wide: int
    top: int
    """The padding above the image."""
    left: int
    """The padding to the left of the image."""
    dilation: int
    """The rows of the image from one row of the kernel to the next."""
    kernel_height: int
    run: int
    """The elements under one row of the kernel: its columns times the channels."""
    band: int
    """The rows of the map that are computed from one copy of rows of the image."""
    row: int
    """The bytes of a copied row."""
    copy_each: int
    """The bytes of the copied rows, for each part."""
    taps: int
    """In the gradient of the weight: so many taps are summed at once."""


class ConvolveThin(NamedTuple):
    """The arguments of the task `convolve`."""

    sizes: ThinSizes
    source: int
    target: int
    weights: int
    """(kernel height, kernel width, channels, kernels)."""
    bias: int
    """One number for each kernel."""
    activation: int
    """The code of the activation."""
    slope: float
    copy: int
    """Scratch memory for the copied rows of an image."""


class WeightGradThin(NamedTuple):
    """The arguments of the task `weight_grad`."""

    sizes: ThinSizes
    source: int
    target: int
    """The map, which is read here, too."""
    copy: int
    """Scratch memory for the copied rows of an image."""
    sums: int
    """Address of the sums, (kernel height, run rounded up to whole `taps`, kernels) for each part."""
    sums_each: int
    sums_plane: int
    """The bytes from one row of the kernel to the next."""


@cache
def _bands(real: Any) -> Any:
    """Functions for kernels, (band_of, copy_rows). A unit of work is a band of rows of the map of one image."""
    item = real.bitwidth // 8
    copy, _, _, zero = moves(real)

    @inline
    def band_of(s: Any, unit: Any) -> Any:
        """The image of a unit of work and (first, end) of its rows of the map."""
        bands = (s.map_height + s.band - 1) // s.band
        first = unit % bands * s.band
        return unit // bands, first, min(first + s.band, s.map_height)

    @inline
    def copy_rows(s: Any, source: Any, image: Any, first: Any, end: Any, target: Any) -> Any:
        """Copy the rows of an image that the rows of the map from first to end need. Rows outside are zero. (The columns to
        the left and to the right of the image are zero already.)"""
        size = s.width * s.channels
        begin = first * s.stride_high - s.top
        for i in range((end - first - 1) * s.stride_high + (s.kernel_height - 1) * s.dilation + 1):
            place = target + i * s.row + s.left * s.channels * item
            if 0 <= begin + i < s.height:
                copy(source + (image * s.height + begin + i) * size * item, place, size)
            else:
                zero(place, size)

    return band_of, copy_rows


@cache
def _row_products(real: Any, at_once: tuple[int, ...]) -> Any:
    """A function for kernels: `pixel_products` for all pixels of a row, for as many at once as possible."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    pixels, fewer = at_once[0], _row_products(real, at_once[1:]) if at_once[1:] else None
    several, single = pixel_products(real, pixels, PIXEL_VECTORS), pixel_products(real, pixels, 1)
    widest = PIXEL_VECTORS * lanes

    @inline
    def multiply(s: Any, x: Any, weights: Any, bias: Any, y: Any) -> Any:
        if s.map_width < pixels:
            if fewer is not None:
                fewer(s, x, weights, bias, y)
            return
        rows, x_row, x_pixel = s.kernel_height, s.row * s.dilation, s.stride_wide * s.channels * item
        y_pixel = s.kernels * item
        for i in range(0, s.map_width, pixels):
            first = min(i, s.map_width - pixels)  # the last block computes some pixels a second time
            left, out = x + first * x_pixel, y + first * y_pixel
            k = 0
            while k + widest <= s.kernels:
                several((rows, s.run, left, x_row, x_pixel, weights + k * item, y_pixel, bias + k * item, out + k * item,
                         y_pixel))
                k += widest
            while k < s.kernels:
                single((rows, s.run, left, x_row, x_pixel, weights + k * item, y_pixel, bias + k * item, out + k * item,
                        y_pixel))
                k += lanes

    return multiply


@cache
def make_convolve(real: Any) -> int:
    """The address of the task for elements of that type. It computes target = activation(source * weights + bias)."""
    item = real.bitwidth // 8
    (band_of, copy_rows), multiply = _bands(real), _row_products(real, PIXELS_AT_ONCE)
    at, activate, zero = array_at(real), activate_fused(real), moves(real).zero

    @task(ConvolveThin, str(real))
    def convolve(t: Any, part: Any, parts: Any) -> Any:
        s = t.sizes
        x, size, slope = t.copy + part * s.copy_each, s.map_width * s.kernels, real(t.slope)
        zero(x, s.copy_each // item)
        units = (s.map_height + s.band - 1) // s.band * s.images
        for unit in range(units * part // parts, units * (part + 1) // parts):
            image, first, end = band_of(s, unit)
            copy_rows(s, t.source, image, first, end, x)
            for row in range(first, end):
                y = t.target + (image * s.map_height + row) * size * item
                multiply(s, x + (row - first) * s.stride_high * s.row, t.weights, t.bias, y)
                activate(t.activation, at(y, size), slope)

    return convolve


@cache
def _band_sums(real: Any, at_once: tuple[int, ...]) -> Any:
    """A function for kernels: `tap_products` for all taps of a row of the kernel, for `s.taps` at once."""
    item, lanes, taps = real.bitwidth // 8, lanes_of(real), at_once[0]
    other = _band_sums(real, at_once[1:]) if at_once[1:] else None
    several, single, widest = tap_products(real, taps, TAP_VECTORS), tap_products(real, taps, 1), TAP_VECTORS * lanes

    @inline
    def add(s: Any, rows: Any, x: Any, y: Any, sums: Any) -> Any:
        if s.taps != taps:
            if other is not None:
                other(s, rows, x, y, sums)
            return
        x_row, x_pixel, y_pixel = s.stride_high * s.row, s.stride_wide * s.channels * item, s.kernels * item
        for i in range(0, s.run, taps):
            left, out = x + i * item, sums + i * y_pixel
            k = 0
            while k + widest <= s.kernels:
                several((rows, s.map_width, left, x_row, x_pixel, y + k * item, y_pixel, out + k * item, y_pixel))
                k += widest
            while k < s.kernels:
                single((rows, s.map_width, left, x_row, x_pixel, y + k * item, y_pixel, out + k * item, y_pixel))
                k += lanes

    return add


@cache
def make_weight_grad(real: Any) -> int:
    """The address of the task for elements of that type. Each part computes, for each weight, the sum of image times map
    over its bands."""
    item = real.bitwidth // 8
    (band_of, copy_rows), add, zero = _bands(real), _band_sums(real, TAPS_AT_ONCE), moves(real).zero

    @task(WeightGradThin, str(real))
    def weight_grad(t: Any, part: Any, parts: Any) -> Any:
        s = t.sizes
        x, sums = t.copy + part * s.copy_each, t.sums + part * t.sums_each
        zero(x, s.copy_each // item)
        zero(sums, t.sums_each // item)
        units = (s.map_height + s.band - 1) // s.band * s.images
        for unit in range(units * part // parts, units * (part + 1) // parts):
            image, first, end = band_of(s, unit)
            copy_rows(s, t.source, image, first, end, x)
            y = t.target + (image * s.map_height + first) * s.map_width * s.kernels * item
            for tap in range(s.kernel_height):
                add(s, end - first, x + tap * s.dilation * s.row, y, sums + tap * t.sums_plane)

    return weight_grad
