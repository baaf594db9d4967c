"""The kernel that convolves by tiles. It gathers V for some tiles, multiplies V by the transformed weights U, and transforms
the products back to pixels.

    map = scatter(gather(image) U)          image = scatter(gather(map) U), the adjoint

A convolution of stride s is a sum of s x s convolutions of stride 1, one for each phase q of its image. (In one dimension
with s = 2 the phases are the even pixels and the odd pixels.) With a = s p + q,

    y[i] = sum_a x[s i + a] w[a] = sum_q sum_p x_q[i + p] w_q[p],   where x_q[i] = x[s i + q] and w_q[p] = w[s p + q].

At each point the sum over phases is like a sum over more channels. So one matrix product for each point covers all phases.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.cpu.conv.patches import LINE, Side, Tiles, gatherer, scatterer
from tinygan.kernels.cpu.conv.weights import Weight, packing
from tinygan.kernels.cpu.matmul import microkernel
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.simd import moves

ROWS = microkernel.ROWS


class Sizes(NamedTuple):
    """The arguments that depend only on sizes. `*_each` are the bytes of scratch memory for each part."""

    source: Side
    """The side that is read: the image, or for the adjoint the map."""
    target: Side
    """The side that is written."""
    tiles: Tiles
    weight: Weight
    rows_at_once: int
    """How many rows of tiles are gathered, multiplied and scattered before the next rows."""
    v_row: int
    """Bytes from row to row of V."""
    v_plane: int
    """Bytes from point to point of V."""
    v_each: int
    """If 0, V of all tiles was gathered before, and the parts share the channels of the target."""
    weights_each: int
    """If 0, all weights were packed before. Otherwise a part packs one phase of one block at a time, which stays in its
    cache."""
    elements_each: int
    """For a block of the weights before its transform. If 0, all weights were packed before."""
    products_row: int
    products_plane: int
    products_each: int
    patch_each: int


class Convolve(NamedTuple):
    """The arguments of the task `convolve`. All are addresses, except the sizes, the activation and its slope."""

    sizes: Sizes
    source: int
    target: int
    kernel: int
    """The weight (K, C, kH, kW). It is read only if weights are packed as needed."""
    weights: int
    """The packed weights, or scratch memory for them."""
    bias: int
    """One number for each channel of the target. 0 for no bias."""
    activation: int
    """The code of the activation. For the adjoint it is not used."""
    slope: float
    v: int
    products: int
    patch: int
    elements: int


@cache
def _multiplier(real: Any) -> Any:
    """The function `multiply_points` for elements of that type."""
    item = real.bitwidth // 8
    width = microkernel.columns(item)
    multiply = microkernel.make(real)

    @inline
    def multiply_points(s: Any, tiles: Any, depth: Any, v: Any, weights: Any, block: Any, blocks: Any, products: Any,
                        adding: Any) -> Any:
        """At each point, multiply the rows of V for some tiles by some blocks of weights, which have `depth` rows. `v` is
        the address of the first row, in the first of the columns to multiply. Write the products, or add them if
        `adding`."""
        zero, one, line = np.int64(0), np.int64(1), np.int64(LINE // item)
        plane, v_row, v_plane, row = s.weight.plane, s.v_row, s.v_plane, s.products_row
        products_plane = s.products_plane
        for p in range(s.tiles.n * s.tiles.n):
            for j in range(blocks):
                panel = weights + j * block + p * plane
                following = panel + block if j + 1 < blocks else panel - j * block + plane
                for k in range(0, tiles, ROWS):  # the last block may have rows beyond the tiles
                    source = v + p * v_plane + k * v_row
                    # Prefetch the next panel: one half with the first block of rows, one half with the second. The first
                    # panel also prefetches the next rows of V.
                    half = k // ROWS
                    then = source + ROWS * v_row
                    if k + ROWS >= tiles:
                        then = v + (p + 1) * v_plane
                    multiply(depth, source, v_row // item, one, panel, np.int64(width),
                             products + p * products_plane + k * row + j * width * item, row // item, adding,
                             following + half * depth * LINE, line if half * LINE < width * item else zero, then,
                             line if j == 0 else zero)

    return multiply_points


@inline
def share_of(s: Any, blocks: Any, part: Any, parts: Any) -> Any:
    """The share of a part: (begin, end) of its rows of tiles, and (first, end) of its blocks of channels."""
    images, high = s.tiles.images, s.tiles.high
    if s.v_each == 0:
        return np.int64(0), images * high, blocks * part // parts, blocks * (part + 1) // parts
    if s.target.overlap:  # the patches of an image overlap, so one part computes the whole image
        return images * part // parts * high, images * (part + 1) // parts * high, np.int64(0), blocks
    return images * high * part // parts, images * high * (part + 1) // parts, np.int64(0), blocks


@cache
def make_convolve(real: Any) -> int:
    """The address of the task for elements of that type."""
    item = real.bitwidth // 8
    width = microkernel.columns(item)
    gather, scatter, multiply_points = gatherer(real), scatterer(real), _multiplier(real)
    collect, transform_row = packing(real)
    copy, _, _, zero_out = moves(real)

    @inline
    def start_sums(t: Any, begin: Any, end: Any, low: Any, many: Any) -> Any:
        """Set the pixels of some images to the bias, in `many` channels from channel `low` on. Patches will be added to
        them."""
        side = t.sizes.target
        pixels = side.height * side.width
        for i in range(begin * pixels, end * pixels):
            pixel = t.target + i * side.pixel_bytes + low * item
            if t.bias:
                copy(t.bias + low * item, pixel, many)
            else:
                zero_out(pixel, many)

    @task(Convolve, str(real))
    def convolve(t: Any, part: Any, parts: Any) -> Any:
        """target = activation(source * weights + bias). For the adjoint there is no activation, and the products of one
        phase of the image are transformed back before those of the next phase are computed."""
        s, weight = t.sizes, t.sizes.weight
        adjoint, as_needed = weight.adjoint != 0, s.weights_each != 0
        phases, wide = weight.phases_high * weight.phases_wide, s.tiles.wide
        rows, channels = s.source.channels, s.target.channels
        # Forward there is one product for each point, which sums over the channels of all phases. If weights are packed as
        # needed, it is computed phase by phase. The adjoint has one product for each point and phase, which sums over the
        # channels of the map.
        outputs, inputs = (phases, np.int64(1)) if adjoint else (np.int64(1), phases if as_needed else np.int64(1))
        depth = rows if adjoint or as_needed else phases * rows
        block, row_elements = weight.n * weight.n * weight.plane, phases * weight.taps * weight.taps * width * item
        begin, end, first, last = share_of(s, (channels + width - 1) // width, part, parts)
        v, products = t.v + part * s.v_each, t.products + part * s.products_each
        patch, elements = t.patch + part * s.patch_each, t.elements + part * s.elements_each
        slope = real(t.slope)
        at_once = np.int64(1) if as_needed else max(last - first, np.int64(1))
        if adjoint:
            start_sums(t, begin // s.tiles.high, end // s.tiles.high, first * width,
                       min(last * width, channels) - first * width)
        for i in range(begin, end, s.rows_at_once):
            stop = min(i + s.rows_at_once, end)
            if s.v_each:
                gather(s.source, s.tiles, t.source, i, stop, v, s.v_row, s.v_plane, patch)
            for j in range(first, last, at_once):
                blocks = min(j + at_once, last) - j
                low, many = j * width, min((j + blocks) * width, channels) - j * width
                weights = t.weights + j * block
                if as_needed:
                    weights = t.weights + part * s.weights_each
                    for r in range(rows):
                        collect(weight, t.kernel, j, r, elements + r * row_elements)
                for q in range(outputs):
                    for d in range(inputs):
                        if as_needed:
                            for r in range(rows):
                                transform_row(weight, q + d, elements + r * row_elements, weights + r * width * item)
                        panels = weights if as_needed else weights + q * depth * width * item
                        multiply_points(s, (stop - i) * wide, depth, v + d * depth * item, panels, block, blocks,
                                        products, d)
                    scatter(s.target, s.tiles, t.target, i, stop, q, products, s.products_row, s.products_plane, low, many,
                            t.bias, t.activation, slope, patch)

    return convolve
