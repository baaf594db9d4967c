"""Python functions that run the compiled convolutions: they ask the planner, provide memory and run the kernels. Importing
this module compiles what every training with convolutions needs, or loads it from the cache.

Images and maps are channels-last here, (N, H, W, C). `g` is a Geometry (see `ops.conv`).
"""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from tinygan.kernels.activations import CODES
from tinygan.kernels.cpu.batchnorm import compiled as normalization
from tinygan.kernels.cpu.conv import group_plans, grouped, grouped_tiles, lanes, planner, thin, tiled
from tinygan.kernels.cpu.conv.group_plans import GroupPlan
from tinygan.kernels.cpu.conv.lane_products import ROWS_AT_ONCE
from tinygan.kernels.cpu.conv.patches import LINE, Gather, make_gather
from tinygan.kernels.cpu.conv.planner import Convolution, TiledPlan
from tinygan.kernels.cpu.conv.weight_grad import Reorder, WeightGrad, make_reorder, make_weight_grad
from tinygan.kernels.cpu.conv.weights import Pack, make_pack
from tinygan.kernels.cpu.layout import compiled as layout
from tinygan.kernels.cpu.matmul import compiled as product
from tinygan.kernels.cpu.matmul import gemm, microkernel
from tinygan.kernels.cpu.runtime.arrays import REALS, address
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.simd import VECTOR_BYTES
from tinygan.kernels.cpu.runtime.workspace import Scratch, at_address, contiguous, empty, kept
from tinygan.kernels.winograd import DIRECT, Tile
from tinygan.versions import derived

Array = np.ndarray[Any, Any]
IDENTITY = CODES["identity"]


def _run(kernel: int, arguments: tuple[Any, ...]) -> None:
    pool.run(kernel, arguments, pool.size)


# The map of an image, and the image of a map


def conv2d(x: Array, weight: Array, g: Any, bias: Array | None, activation: int, slope: float) -> Array:
    """activation(x * weight + bias). activation: the code of a fused activation."""
    return _convolve(x, weight, g, False, None if bias is None else contiguous(bias), activation, slope)


def conv2d_input_grad(y: Array, weight: Array, g: Any, bias: Array | None = None) -> Array:
    """The adjoint in x, plus bias."""
    return _convolve(y, weight, g, True, None if bias is None else contiguous(bias), IDENTITY, 0.0)


def _convolve(source: Array, weight: Array, g: Any, adjoint: bool, bias: Array | None, activation: int,
              slope: float) -> Array:
    """The map of an image. If `adjoint`: the image of a map."""
    kernels, channels, images = weight.shape[0], weight.shape[1] * g.groups, source.shape[0]
    if not adjoint and planner.suits_thin(g, channels, kernels, source.dtype):
        return _convolve_thin(source, weight, g, bias, activation, slope)
    if planner.suits_lanes(g, channels, kernels, source, adjoint):
        return _convolve_lanes(source, weight, g, adjoint, bias, activation, slope)
    if planner.suits_groups(g, channels, kernels):
        return _convolve_groups(source, weight, g, adjoint, bias, activation, slope)
    if planner.is_pixelwise(g):
        return _convolve_pixels(source, weight, adjoint, bias, activation, slope)
    dtype, real, item = source.dtype, REALS[source.dtype], source.itemsize
    tile = planner.tile_on_cpu(g, channels, kernels)
    plan = planner.plan_tiles(dtype, g, tile, images, channels, kernels, adjoint, pool.size)
    sizes = plan.sizes
    target = empty((images, *(g.input if adjoint else g.output), channels if adjoint else kernels), dtype)
    source_at, target_at = address(source), address(target)
    per_group, source_bytes, target_bytes = kernels // g.groups, sizes.source.channels * item, sizes.target.channels * item
    for i in range(g.groups):
        group = weight[i * per_group:(i + 1) * per_group]
        kernel = contiguous(group) if plan.packs_as_needed else group
        u = None if plan.packs_as_needed else _packed(weight, group, plan)
        with Scratch(*plan.memory) as (v, products, weights, elements, patch):
            if plan.shares_channels:
                _run(make_gather(real), Gather(
                    side=sizes.source, tiles=sizes.tiles, pixels=source_at + i * source_bytes, v=v, v_row=sizes.v_row,
                    v_plane=sizes.v_plane, patch=patch, patch_each=sizes.patch_each))
            _run(tiled.make_convolve(real), tiled.Convolve(
                sizes=sizes, source=source_at + i * source_bytes, target=target_at + i * target_bytes,
                kernel=address(kernel) if u is None else 0, weights=weights if u is None else address(u),
                bias=0 if bias is None else address(bias) + i * target_bytes, activation=activation, slope=slope, v=v,
                products=products, patch=patch, elements=elements))
    return target


def _convolve_pixels(source: Array, weight: Array, adjoint: bool, bias: Array | None, activation: int,
                     slope: float) -> Array:
    """`_convolve` for kernels of one pixel: one matrix product, with a row for each pixel."""
    images, height, width, inputs = source.shape
    matrix = weight.reshape(weight.shape[:2])
    matrix = matrix if adjoint else matrix.T
    target = empty((images, height, width, matrix.shape[1]), source.dtype)
    product.rows_product(address(source), inputs, matrix, images * height * width, target, bias, activation, slope)
    return target


def _packed(whole: Array, weight: Array, plan: TiledPlan) -> Array:
    """The transformed and packed weight of one group, (K, C, kH, kW). whole: the weight of all groups. If it is a Parameter,
    the packed weight is kept until the Parameter changes."""
    def pack() -> Array:
        u = empty((plan.packed_bytes,), np.uint8)
        source = contiguous(weight)
        with Scratch(pool.size * plan.sizes.patch_each) as (elements,):
            _run(make_pack(REALS[weight.dtype]), Pack(
                weight=plan.sizes.weight, kernel=address(source), packed=address(u), elements=elements,
                elements_each=plan.sizes.patch_each))
        return u

    return derived(whole, (address(weight), weight.shape, weight.strides, *plan.key), pack)


def _convolve_lanes(source: Array, weight: Array, g: Any, adjoint: bool, bias: Array | None, activation: int,
                    slope: float) -> Array:
    """`_convolve` for few channels, with one image in each lane."""
    dtype, (kernels, channels) = source.dtype, weight.shape[:2]
    target = empty((source.shape[0], *(g.input if adjoint else g.output), channels if adjoint else kernels), dtype)
    rows = weight.transpose(2, 3, 0, 1) if adjoint else weight.transpose(2, 3, 1, 0)
    if adjoint:  # sort the columns of the kernel by phase, and reverse each phase
        rows = rows[:, [tap for phase in range(g.stride[1]) for tap in reversed(range(phase, g.kernel[1], g.stride[1]))]]
    rows = contiguous(rows)
    sizes = planner.plan_lanes(dtype, g, source.shape[0], channels, kernels, adjoint, pool.size)
    table_each = planner.table_bytes(g)
    with Scratch(*(pool.size * each for each in (sizes.ring_each, sizes.row_each, table_each))) as (ring, row, table):
        _run(lanes.make_convolve(REALS[dtype]), lanes.ConvolveLanes(
            sizes=sizes, source=address(source), target=address(target), weights=address(rows),
            bias=0 if bias is None else address(bias), activation=activation, slope=slope, ring=ring, row=row, table=table,
            table_each=table_each))
    return target


def _convolve_thin(x: Array, weight: Array, g: Any, bias: Array | None, activation: int, slope: float) -> Array:
    """The map of an image with few channels, with one kernel in each lane."""
    dtype, item, (kernels, channels) = x.dtype, x.itemsize, weight.shape[:2]
    y = empty((x.shape[0], *g.output, kernels), dtype)
    sizes = planner.plan_thin(dtype, g, x.shape[0], channels, kernels, pool.size)
    # (The weights are copied to where a cache line begins: vectors across two lines would take longer to read.)
    with Scratch(weight.size * item, kernels * item, pool.size * sizes.copy_each) as (weights, shift, copy):
        at_address(weights, (*g.kernel, channels, kernels), dtype)[...] = weight.transpose(2, 3, 1, 0)
        at_address(shift, (kernels,), dtype)[...] = 0 if bias is None else bias
        _run(thin.make_convolve(REALS[dtype]), thin.ConvolveThin(
            sizes=sizes, source=address(x), target=address(y), weights=weights, bias=shift, activation=activation,
            slope=slope, copy=copy))
    return y


def _convolve_groups(source: Array, weight: Array, g: Any, adjoint: bool, bias: Array | None, activation: int,
                     slope: float) -> Array:
    """`_convolve` for groups of few channels, with one channel in each lane."""
    dtype, kernels, channels = source.dtype, weight.shape[0], weight.shape[1] * g.groups
    plan = group_plans.plan_groups(dtype, g, source.shape[0], channels, kernels, adjoint, False, pool.size)
    real, tiles = REALS[dtype], plan.tiles
    packed = derived(weight, (address(weight), weight.shape, weight.strides, plan.tile, plan.packing),
                     lambda: _packed_groups(weight, plan))
    target = empty((source.shape[0], *(g.input if adjoint else g.output), channels if adjoint else kernels), dtype)
    bias_at = 0 if bias is None else address(bias)
    if tiles is None:
        with Scratch(pool.size * plan.sizes.source_each, pool.size * plan.sizes.target_each) as (image, out):
            _run(grouped.make_convolve(real, plan.slot, plan.rows, plan.pixels, plan.taps), grouped.ConvolveGroups(
                sizes=plan.sizes, source=address(source), target=address(target), weights=address(packed), bias=bias_at,
                activation=activation, slope=slope, image=image, out=out))
        return target
    with Scratch(pool.size * tiles.v_each, pool.size * tiles.patch_each) as (v, patch):
        _run(grouped_tiles.make_convolve(real, plan.slot), grouped_tiles.ConvolveTiles(
            sizes=tiles, source=address(source), target=address(target), weights=address(packed), bias=bias_at,
            finishes=int(bias is not None or activation != IDENTITY), activation=activation, slope=slope, v=v, patch=patch))
    return target


def _packed_groups(weight: Array, plan: GroupPlan) -> Array:
    """The packed weight of a convolution in groups. For tiles it is also transformed."""
    real, tiles, whole = REALS[weight.dtype], plan.tiles, contiguous(weight)
    pack = grouped.make_pack(real, plan.slot)
    packed = empty((plan.packed_bytes,), np.uint8)
    _run(pack, plan.packing._replace(weight=address(whole), packed=address(packed)))
    if tiles is None:
        return packed
    points = empty((plan.points_bytes,), np.uint8)
    _run(grouped_tiles.make_transform_weights(real), grouped_tiles.WeightPoints(
        packed=address(packed), weights=address(points), vectors=tiles.blocks * tiles.target.channels.vectors,
        source_vectors=tiles.source.channels.vectors, depth=tiles.depth, taps=plan.tile.r, n=tiles.n,
        transform=plan.weight_transform))
    return points


# The gradient of the weight


def conv2d_weight_grad(x: Array, y: Array, g: Any) -> Array:
    """The adjoint in weight."""
    images, channels, kernels, dtype, item = x.shape[0], x.shape[3], y.shape[3], x.dtype, x.itemsize
    if planner.suits_thin(g, channels, kernels, dtype):
        return _weight_grad_thin(x, y, g)
    if planner.suits_lanes(g, channels, kernels, x, False) and not planner.is_product(g):
        return _weight_grad_lanes(x, y, g)
    if planner.suits_groups(g, channels, kernels):
        return _weight_grad_groups(x, y, g)
    tile = planner.tile_on_cpu(g, channels, kernels)
    c = planner.convolution(REALS[dtype], g, tile, images, channels, kernels)
    gradient = empty((kernels, c.weight.channels, *g.kernel), dtype)
    v_rows = [planner.row_bytes(size * item) for size in (c.phases * c.weight.channels, c.weight.kernels)]
    image_bytes = tile.points * c.tiles.high * c.tiles.wide * sum(v_rows)
    chunks = max(1, min(images, -(-images * image_bytes // planner.GRADIENT_V_BYTES)))
    add = _add_direct_weight_grad if tile == DIRECT else _add_tiled_weight_grad
    for group in range(g.groups):
        for chunk in range(chunks):
            begin, end = images * chunk // chunks, images * (chunk + 1) // chunks
            add(g, c._replace(tiles=c.tiles._replace(images=end - begin)), tile, dtype, v_rows[0], v_rows[1],
                address(x[begin:]) + group * c.image.channels * item, address(y[begin:]) + group * c.map.channels * item,
                address(gradient) + group * c.weight.kernels * gradient.strides[0], chunk > 0)
    return gradient


def _add_tiled_weight_grad(g: Any, c: Convolution, tile: Tile, dtype: Any, x_row: int, y_row: int, x: int, y: int,
                           gradient: int, accumulate: bool) -> None:
    """Write the gradient from some images of a batch, or add it if `accumulate`. x_row, y_row: the bytes from row to row of
    V of the image and of the map. x, y, gradient: addresses."""
    real, item = REALS[dtype], dtype.itemsize
    rows, width, tiles = microkernel.ROWS, microkernel.columns(item), c.tiles.images * c.tiles.high * c.tiles.wide
    x_plane, y_plane = planner.plane_bytes(tiles, x_row), planner.plane_bytes(tiles, y_row)
    panels = max(1, planner.GRADIENT_PANELS_AT_ONCE // c.phases)
    products_row = planner.row_bytes(min(c.phases * panels, -(-c.phases * c.weight.channels // width)) * width * item)
    kernels_at_once = max(1, planner.GRADIENT_PRODUCTS_BYTES // (tile.points * products_row * rows)) * rows
    products_plane = planner.plane_bytes(kernels_at_once, products_row)
    products_each, patch_each = tile.points * products_plane, planner.patch_bytes(c, tile, item)
    beyond = (rows + width) * item  # an incomplete block of the micro-kernel reads this much after the end of its matrix
    with Scratch(tile.points * x_plane + beyond, tile.points * y_plane + beyond, pool.size * products_each,
                 pool.size * patch_each) as (image_v, map_v, products, patch):
        for side, pixels, v, row, plane in ((c.image, x, image_v, x_row, x_plane), (c.map, y, map_v, y_row, y_plane)):
            _run(make_gather(real), Gather(side=side, tiles=c.tiles, pixels=pixels, v=v, v_row=row, v_plane=plane,
                                           patch=patch, patch_each=patch_each))
        _run(make_weight_grad(real), WeightGrad(
            weight=c.weight, tiles=c.tiles, gradient=gradient, accumulate=accumulate, image_v=image_v, image_v_row=x_row,
            image_v_plane=x_plane, map_v=map_v, map_v_row=y_row, map_v_plane=y_plane, kernels_at_once=kernels_at_once,
            panels_at_once=panels, products=products, products_each=products_each, products_row=products_row,
            products_plane=products_plane, patch=patch, patch_each=patch_each))


def _add_direct_weight_grad(g: Any, c: Convolution, tile: Tile, dtype: Any, x_row: int, y_row: int, x: int, y: int,
                            gradient: int, accumulate: bool) -> None:
    """The same for the direct algorithm. Nearly all its time goes into sums over pixels. So these are cut into pieces, which
    the parts share."""
    item, real, kernels = dtype.itemsize, REALS[dtype], c.weight.kernels
    depth, count = c.phases * c.weight.channels, c.tiles.images * c.tiles.high * c.tiles.wide
    # V is the image as it lies in memory if each kernel covers the whole image, which is one row of V, or one pixel.
    one_row = (c.tiles.high, c.tiles.wide, c.image.height, c.image.width) == (1, 1, c.weight.height, c.weight.width)
    in_place = one_row or planner.is_pixelwise(g)
    if in_place:
        x_row = c.image.pixel_bytes * (c.image.height * c.image.width if one_row else 1)
    v_plane, patch_each = 0 if in_place else planner.plane_bytes(count, x_row), planner.patch_bytes(c, tile, item)
    kernel_bytes = c.weight.channels * c.weight.height * c.weight.width * item
    pieces = max(1, count // planner.DIRECT_GRADIENT_LEAST_TERMS)
    passes = -(-kernels * pieces * depth * item // planner.DIRECT_GRADIENT_PRODUCTS_BYTES)
    at_once = min(kernels, -(-kernels // passes // microkernel.ROWS) * microkernel.ROWS)  # whole blocks of rows
    starts = np.arange(pieces + 1) * count // pieces
    products_bytes = pieces * (at_once * depth * item + LINE) + LINE  # (the last vector reads beyond the products)
    longest = int(np.diff(starts).max())
    panels = planner.whole_lines(gemm.scratch_elements(at_once, depth, longest, False, False, dtype) * item)
    with Scratch(v_plane, products_bytes, pool.size * panels, pool.size * patch_each) as (v, products, memory, patch):
        if in_place:
            v = x
        else:
            _run(make_gather(real), Gather(side=c.image, tiles=c.tiles, pixels=x, v=v, v_row=x_row, v_plane=v_plane,
                                           patch=patch, patch_each=patch_each))
        for k in range(0, kernels, at_once):
            some = min(at_once, kernels - k)
            plane = planner.plane_bytes(some, depth * item)
            # The map need not be gathered: its pixels in memory already are the matrix that the product needs.
            _multiply_pieces(dtype, y + k * item, c.map.pixel_bytes, v, x_row, products, plane, starts, some, depth,
                             memory, panels)
            if pieces > 1:
                each = at_address(products, (pieces, plane // item), dtype)[:, :some * depth]
                np.sum(each[1:], axis=0, out=each[1])
                each[0] += each[1]
            _run(make_reorder(real), Reorder(
                weight=c.weight, kernels=some, gradient=gradient + k * kernel_bytes, accumulate=accumulate,
                products=products, products_plane=plane, patch=patch, patch_each=patch_each))


def _multiply_pieces(dtype: Any, y: int, y_row: int, v: int, v_row: int, products: int, plane: int, starts: Array,
                     kernels: int, depth: int, memory: int, memory_each: int) -> None:
    """For each piece, compute the product of y^T (kernels, rows) and V (rows, depth). A piece has the rows from one of
    `starts` to the next. plane: the bytes from product to product. y, v, products and memory are addresses; y_row, v_row
    and memory_each count bytes."""
    item, pieces = dtype.itemsize, len(starts) - 1
    table = kept(np.zeros(pieces, gemm.PRODUCTS))
    table["a"], table["a_row"], table["a_step"] = y + starts[:-1] * y_row, 1, y_row // item
    table["b"], table["b_step"], table["b_column"] = v + starts[:-1] * v_row, v_row // item, 1
    table["c"], table["c_stride"] = products + np.arange(pieces) * plane, depth
    table["m"], table["n"], table["k"] = kernels, depth, np.diff(starts)
    table["split_rows"] = int(kernels >= pool.size * microkernel.ROWS)
    _run(gemm.make_batch(REALS[dtype]), gemm.Batch(
        products=address(table), size=pieces, shares=_shares(pieces, pool.size), scratch=memory,
        scratch_elements=memory_each // item))


@lru_cache(1024)
def _shares(products: int, parts: int) -> int:
    """How many shares each product is cut into, so that no part has much more work than another. Every share packs the same
    matrix again, so fewer shares are better."""
    return next(shares for shares in range(1, parts + 1)
                if shares == parts or -(-products * shares // parts) * parts <= 1.1 * products * shares)


def _weight_grad_lanes(x: Array, y: Array, g: Any) -> Array:
    """The gradient of the weight for few channels, with one image in each lane."""
    channels, kernels, (height, width) = x.shape[3], y.shape[3], g.kernel
    sizes = planner.plan_lanes(x.dtype, g, x.shape[0], channels, kernels, False, pool.size)
    rows, lane_count = width * channels + ROWS_AT_ONCE, VECTOR_BYTES // x.itemsize
    plane = rows * kernels * VECTOR_BYTES
    each = (sizes.ring_each, sizes.row_each, height * plane)
    with Scratch(*(pool.size * size for size in each)) as (ring, row, sums):
        _run(lanes.make_weight_grad(REALS[x.dtype]), lanes.WeightGradLanes(
            sizes=sizes, source=address(x), target=address(y), ring=ring, row=row, sums=sums, sums_each=height * plane,
            sums_plane=plane))
        found = at_address(sums, (pool.size, height, rows, kernels, lane_count), x.dtype)
        gradient = found[:, :, :width * channels].sum((0, 4)).reshape(height, width, channels, kernels)
    return contiguous(gradient.transpose(3, 2, 0, 1))


def _weight_grad_thin(x: Array, y: Array, g: Any) -> Array:
    """The gradient of the weight for few channels and many kernels, with one kernel in each lane."""
    channels, kernels, (height, width) = x.shape[3], y.shape[3], g.kernel
    sizes = planner.plan_thin(x.dtype, g, x.shape[0], channels, kernels, pool.size)
    run = -(-sizes.run // sizes.taps) * sizes.taps
    plane = run * kernels * x.itemsize
    with Scratch(pool.size * sizes.copy_each, pool.size * height * plane) as (copy, sums):
        _run(thin.make_weight_grad(REALS[x.dtype]), thin.WeightGradThin(
            sizes=sizes, source=address(x), target=address(y), copy=copy, sums=sums, sums_each=height * plane,
            sums_plane=plane))
        found = at_address(sums, (pool.size, height, run, kernels), x.dtype).sum(0)
    return contiguous(found[:, :sizes.run].reshape(height, width, channels, kernels).transpose(3, 2, 0, 1))


def _weight_grad_groups(x: Array, y: Array, g: Any) -> Array:
    """The gradient of the weight for groups of few channels, with one channel in each lane."""
    channels, kernels, dtype, real = x.shape[3], y.shape[3], x.dtype, REALS[x.dtype]
    plan = group_plans.plan_groups(dtype, g, x.shape[0], channels, kernels, False, True, pool.size)
    tiles, gradient = plan.tiles, empty((kernels, channels // g.groups, *g.kernel), dtype)
    each = ((plan.sizes.source_each, plan.sizes.target_each, plan.sums_each, 0) if tiles is None else
            (tiles.v_each, tiles.patch_each, tiles.sums_each, tiles.points_each))
    with Scratch(*(pool.size * size for size in each)) as (first, second, sums, points):
        if tiles is None:
            _run(grouped.make_weight_grad(real, plan.slot, g.kernel[0], plan.taps), grouped.WeightGradGroups(
                sizes=plan.sizes, source=address(x), target=address(y), image=first, map=second, sums=sums,
                sums_each=plan.sums_each, kernels=plan.packing.depth))
        else:
            _run(grouped_tiles.make_weight_grad(real, plan.slot), grouped_tiles.WeightGradTiles(
                sizes=tiles, source=address(x), target=address(y), v=first, patch=second, points=points, sums=sums,
                transform=plan.weight_transform))
        _run(grouped.make_pack(real, plan.slot), plan.packing._replace(
            weight=address(gradient), packed=sums, packed_each=plan.sums_each))
    return gradient


# Every training with convolutions needs these.
for _make in (make_gather, make_pack, tiled.make_convolve, make_weight_grad, make_reorder, gemm.make_batch, layout.make,
              normalization.make):
    _make(REALS[np.dtype(np.float32)])
