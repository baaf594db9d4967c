"""Kernels between a weight (K, C, kH, kW) and points: `pack` transforms weights, `write_gradient` transforms their
gradient back.

The packed weights U consist of blocks. A block has as many columns as the micro-kernel of matrix products (the last block is
filled up with zeros). For each of the n x n points, and there for each phase, it has one row for each channel that a product
sums over. In the forward pass the columns are kernels and the rows are channels of the image; for the adjoint it is the
other way round.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.cpu.conv.tile_transforms import apply_transform
from tinygan.kernels.cpu.matmul import microkernel
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.arrays import array_at
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.simd import lanes_of, moves, square_transpose


class Weight(NamedTuple):
    """A weight (K, C, kH, kW) of one group, and how it is transformed."""

    kernels: int
    channels: int
    height: int
    width: int
    phases_high: int
    """The number of phases from top to bottom."""
    phases_wide: int
    """The number of phases from left to right."""
    taps: int
    """r, the taps of a phase in one dimension. A phase with fewer taps is filled up with zeros."""
    n: int
    """The number of points in one dimension."""
    adjoint: int
    """1: products sum over kernels. 0: products sum over channels."""
    plane: int
    """The bytes from point to point in a block of U."""
    to_points: int
    """Address of the transform from taps to points."""
    from_points: int
    """Address of the transform from products at all points to the taps' gradient."""


class Pack(NamedTuple):
    """The arguments of the task `pack`."""

    weight: Weight
    kernel: int
    """Address of the weight, C-contiguous."""
    packed: int
    """Address of U."""
    elements: int
    """Address of scratch memory for the taps in one row of a block."""
    elements_each: int
    """Bytes of this memory for each part."""


class Packing(NamedTuple):
    """The two steps of packing one row of one block."""

    collect: Any
    transform_row: Any


@cache
def packing(real: Any) -> Packing:
    """The functions for elements of that type."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    width = microkernel.columns(item)
    square, at, zero = square_transpose(real), array_at(real), moves(real).zero

    @inline
    def collect(weight: Any, kernel: Any, block: Any, i: Any, target: Any) -> Any:
        """Copy the weights of row i of a block to the target, not yet transformed: (taps of all phases, columns)."""
        kernels, channels, height, kernel_width = weight.kernels, weight.channels, weight.height, weight.width
        taps, side = height * kernel_width, weight.phases_wide * weight.taps
        columns, row_step, column_step = kernels, taps, channels * taps
        if weight.adjoint:
            columns, row_step, column_step = channels, channels * taps, taps
        size = weight.phases_high * weight.taps * side * width
        begin, many = i * row_step + block * width * column_step, min(np.int64(width), columns - block * width)
        if side == kernel_width and taps % lanes == 0 and many == width:
            for k in range(0, width, lanes):
                for tap in range(0, taps, lanes):
                    square(kernel + (begin + k * column_step + tap) * item, column_step * item,
                           target + (tap * width + k) * item, np.int64(width * item))
            return
        zero(target, size)  # taps beyond the kernel and columns beyond the weight stay 0
        source, elements = at(kernel, kernels * channels * taps), at(target, size)
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
    def transform_row(weight: Any, phase: Any, elements: Any, target: Any) -> Any:
        """Transform one row of a phase and write it at all points."""
        high, wide, n, r = weight.phases_high, weight.phases_wide, weight.n, weight.taps
        side = wide * r
        corner = elements + (phase // wide * side + phase % wide) * width * item
        for k in range(0, width, lanes):
            apply_transform(weight.to_points, corner + k * item, high * side * width * item, wide * width * item,
                            target + k * item, n * weight.plane, weight.plane)

    return Packing(collect, transform_row)


@cache
def make_pack(real: Any) -> int:
    """The address of the task that packs all blocks."""
    item = real.bitwidth // 8
    width = microkernel.columns(item)
    collect, transform_row = packing(real)

    @task(Pack, str(real))
    def pack(t: Any, part: Any, parts: Any) -> Any:
        weight = t.weight
        rows, columns = weight.channels, weight.kernels
        if weight.adjoint:
            rows, columns = columns, rows
        elements = t.elements + part * t.elements_each
        block_bytes = weight.n * weight.n * weight.plane
        units = (columns + width - 1) // width * rows
        for unit in range(units * part // parts, units * (part + 1) // parts):
            block, i = unit // rows, unit % rows
            collect(weight, t.kernel, block, i, elements)
            for phase in range(weight.phases_high * weight.phases_wide):
                transform_row(weight, phase, elements, t.packed + block * block_bytes + (phase * rows + i) * width * item)

    return pack


@cache
def gradient_writer(real: Any) -> Any:
    """The function `write_gradient` for elements of that type."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    vector = lanes * item
    square, at, move = square_transpose(real), array_at(real), moves(real).move

    @inline
    def write_gradient(weight: Any, source: Any, phase_step: Any, plane: Any, kernel: Any, k: Any, c: Any, adding: Any,
                       patch: Any) -> Any:
        """Write the gradient of the taps of kernel k, in a vector of channels from c on. If `adding`, add it.

        `source` is the address of their products, phase_step the bytes from phase to phase, plane those from point to point.
        """
        high, wide, height, kernel_width = weight.phases_high, weight.phases_wide, weight.height, weight.width
        n, r, channels = weight.n, weight.taps, weight.channels
        side, taps = wide * r, height * kernel_width
        count = min(np.int64(lanes), channels - c)
        target = kernel + (k * channels + c) * taps * item
        for q in range(high * wide):
            corner = patch + (q // wide * side + q % wide) * vector
            apply_transform(weight.from_points, source + q * phase_step, n * plane, plane, corner, high * side * vector,
                            wide * vector)
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

    return write_gradient
