"""The kernels for the gradient of a weight by tiles. At each point there is a product of two matrices V, which sums over all
tiles:

    gradient(k, c) = from_points(sum over tiles t of V_map(t, k) * V_image(t, c))

The task `weight_grad` computes the products for a block of kernels and channels, and transforms them back while they are in
the cache. For the direct algorithm `matmul` computes the products, and the task `reorder` brings them into the order of the
weight.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.cpu.conv.patches import LINE, Tiles
from tinygan.kernels.cpu.conv.weights import Weight, gradient_writer
from tinygan.kernels.cpu.matmul import microkernel
from tinygan.kernels.cpu.runtime.arguments import task
from tinygan.kernels.cpu.runtime.simd import lanes_of

ROWS = microkernel.ROWS


class WeightGrad(NamedTuple):
    """The arguments of the task `weight_grad`. `*_row` are bytes from row to row, `*_plane` bytes from point to point."""

    weight: Weight
    tiles: Tiles
    gradient: int
    """Address of the weight's gradient (K, C, kH, kW)."""
    accumulate: int
    """1: add to the gradient. 0: write it."""
    image_v: int
    """Address of V of the images (points, tiles, channels of all phases)."""
    image_v_row: int
    image_v_plane: int
    map_v: int
    """Address of V of the maps (points, tiles, kernels)."""
    map_v_row: int
    map_v_plane: int
    kernels_at_once: int
    """The kernels of a block, a multiple of the rows of the micro-kernel."""
    panels_at_once: int
    """The panels of a block in each phase. A panel has as many columns as the micro-kernel."""
    products: int
    """Address of scratch memory for the products of a block."""
    products_each: int
    """Bytes of this memory for each part."""
    products_row: int
    products_plane: int
    patch: int
    """Address of scratch memory for the taps of a kernel."""
    patch_each: int
    """Bytes of this memory for each part."""


class Reorder(NamedTuple):
    """The arguments of the task `reorder`."""

    weight: Weight
    kernels: int
    """The number of kernels to write."""
    gradient: int
    """Address of the gradient of the first of them."""
    accumulate: int
    """1: add to the gradient. 0: write it."""
    products: int
    """Address of the products (points, kernels, channels of all phases)."""
    products_plane: int
    """Bytes from point to point."""
    patch: int
    """Address of scratch memory for the taps of a kernel."""
    patch_each: int
    """Bytes of this memory for each part."""


@cache
def make_weight_grad(real: Any) -> int:
    """The address of the task for elements of that type."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    width = microkernel.columns(item)
    multiply, write_gradient = microkernel.make(real), gradient_writer(real)

    @task(WeightGrad, str(real))
    def weight_grad(t: Any, part: Any, parts: Any) -> Any:
        weight = t.weight
        zero, one = np.int64(0), np.int64(1)
        kernels, channels, phases = weight.kernels, weight.channels, weight.phases_high * weight.phases_wide
        kernels_at_once, panels_at_once, points = t.kernels_at_once, t.panels_at_once, t.tiles.n * t.tiles.n
        gradient, accumulate, patch = t.gradient, t.accumulate != 0, t.patch + part * t.patch_each
        tiles = t.tiles.images * t.tiles.high * t.tiles.wide
        product, row, plane = t.products + part * t.products_each, t.products_row, t.products_plane
        x_row, x_plane, y_row, y_plane = t.image_v_row, t.image_v_plane, t.map_v_row, t.map_v_plane
        # Usually a panel of columns is in one phase. But if a block has all channels, its columns are those of all phases,
        # one after another, and a panel may reach into the next phase.
        block = panels_at_once * width
        whole = channels <= block
        panels, phase_step = phases * panels_at_once, block
        if whole:
            panels, phase_step = (phases * channels + width - 1) // width, channels
        high = (kernels + kernels_at_once - 1) // kernels_at_once
        units = (channels + block - 1) // block * high
        for unit in range(units * part // parts, units * (part + 1) // parts):
            k0, c0 = unit % high * kernels_at_once, unit // high * block
            k1, c1 = min(k0 + kernels_at_once, kernels), min(c0 + block, channels)
            for p in range(points):
                x, y = t.image_v + p * x_plane, t.map_v + p * y_plane
                for j in range(panels):
                    column = j * width
                    if not whole:
                        column = j // panels_at_once * channels + c0 + j % panels_at_once * width
                    for k in range(k0, k1, ROWS):
                        # Prefetch the same rows and columns of the next point: one half of a panel with the first block of
                        # rows, one half with the second.
                        half = (k - k0) // ROWS
                        right, left = x + column * item, y + k * item
                        multiply(tiles, left, one, y_row // item, right, x_row // item,
                                 product + p * plane + (k - k0) * row + j * width * item, row // item, zero,
                                 right + x_plane + half * LINE, x_row // item if half * LINE < width * item else zero,
                                 left + y_plane, y_row // item if j == 0 else zero)
            for k in range(k0, k1):
                for c in range(c0, c1, lanes):
                    write_gradient(weight, product + (k - k0) * row + (c - c0) * item, phase_step * item, plane, gradient, k,
                                   c, accumulate, patch)

    return weight_grad


@cache
def make_reorder(real: Any) -> int:
    """The address of the task that writes the products of the direct algorithm to the gradient."""
    item, lanes = real.bitwidth // 8, lanes_of(real)
    write_gradient = gradient_writer(real)

    @task(Reorder, str(real))
    def reorder(t: Any, part: Any, parts: Any) -> Any:
        weight, channels, phases = t.weight, t.weight.channels, t.weight.phases_high * t.weight.phases_wide
        products, plane, gradient, patch = t.products, t.products_plane, t.gradient, t.patch + part * t.patch_each
        accumulate = t.accumulate != 0
        blocks = (channels + lanes - 1) // lanes
        for unit in range(t.kernels * blocks * part // parts, t.kernels * blocks * (part + 1) // parts):
            k, c = unit // blocks, unit % blocks * lanes
            write_gradient(weight, products + (k * phases * channels + c) * item, channels * item, plane, gradient, k, c,
                           accumulate, patch)

    return reorder
