"""Matrix products on the device, and the fully connected layer.

`batched(device, a, b, out)` is what others build on: out[p] = a[p] @ b[p] for a (P, M, K), b (P, K, N), out (P, M, N), each
with any strides: of the last two axes either may be the one whose numbers lie side by side (others are copied first), and
the first may have any stride, 0 too. It returns `out`. Sums are split where there are too few tiles for the multiprocessors,
and added up in a fixed order.
"""
from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygan.kernels.activations import CODES
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device

__all__ = ["dense", "dense_parameter_grads", "matmul"]

TILES = {"large": (128, 128), "small": (64, 64), "narrow": (256, 16)}
"""Rows and columns, as in product.cuh."""
SPEED = {"large": 1.0, "small": 0.7, "narrow": 0.6}
"""Beside each other: what is read from shared memory for each multiplication decides."""
ALONE = 0.75  # the speed of a block that has a multiprocessor to itself, with nobody to multiply while it waits
SECOND_KERNEL = 300_000  # multiplications of a multiprocessor in the time that one more kernel takes
SHORTEST = 256  # numbers of a sum worth a part of their own
MOST_BATCHES = 65535  # blocks along a grid's third axis; further ones are taken by a loop
VARIANTS = tuple((f"A_ALONG_K={a}", f"B_ALONG_K={b}", f"WIDTH={width}") for a in (0, 1) for b in (0, 1) for width in (1, 4))
"""What products.cu is compiled with, beside TF32=1."""


def precision_defines(device: Device, dtype: Any) -> tuple[str, ...]:
    """The macro that has tensor cores multiply, where that was asked for."""
    return ("TF32=1",) if dtype.itemsize == 4 and device.precision == "tf32" else ()


def wide(device: Device, sizes: tuple[int, ...], *arrays: Array) -> int:
    """How many numbers to read at once: four, if the sizes along memory, and where arrays begin, allow it."""
    return 1 if any(size % 4 for size in sizes) or any(device.address(x) % 16 for x in arrays) else 4


class Plan(NamedTuple):
    """How a product is computed: in tiles of this name and number, each in so many parts of its sum."""

    tile: str
    tiles: int
    parts: int


def plan(device: Device, dtype: Any, batch: int, rows: int, columns: int, depth: int) -> Plan:
    """For so many products (rows, depth) @ (depth, columns)."""
    return _fastest(device.sms, dtype.itemsize, batch, rows, columns, depth)


@lru_cache(10_000)
def _fastest(sms: int, itemsize: int, batch: int, rows: int, columns: int, depth: int) -> Plan:
    """The plan of the least time by a rough estimate: multiplications of the multiprocessor that has most to do, with what a
    tile wastes at the edges, and the additions of the parts."""
    def time(planned: Plan) -> float:
        height, width = TILES[planned.tile]
        turns = -(-planned.tiles * batch * planned.parts // sms)
        speed = SPEED[planned.tile] * (ALONE if turns == 1 else 1)
        multiplications = turns * height * width * (depth / planned.parts + 16) / speed
        return multiplications + (planned.parts > 1) * (SECOND_KERNEL + 75 * planned.parts * batch * rows * columns / sms)

    plans = []
    for tile, (height, width) in TILES.items():
        if tile != "large" or itemsize == 4:  # large tiles of float64 would need more registers than there are
            tiles = -(-rows // height) * -(-columns // width)
            most = min(depth // SHORTEST, 2 * sms)
            fitting = {turns * sms // max(1, tiles * batch) for turns in (1, 2, 4)}
            plans += [Plan(tile, tiles, parts) for parts in sorted({1, most, *fitting}) if parts == 1 or 1 < parts <= most]
    return min(plans, key=time)


def _strides(x: Array) -> tuple[int, ...]:
    """In elements. Of an axis of length 1, whose stride means nothing, 0."""
    return tuple(stride // x.itemsize if size > 1 else 0 for stride, size in zip(x.strides, x.shape, strict=True))


def _operand(device: Device, x: Array) -> tuple[Array, bool, int, int]:
    """(x or a copy, whether its last axis is the one whose numbers lie side by side, the other's stride, the first's)."""
    (batch, row, column), (_, rows, columns) = _strides(x), x.shape
    if min(row, column) >= 0 and max(rows * row, columns * column) < 2**31:
        if row == 1 or (rows == 1 and column != 1):
            return x, False, column, batch
        if column == 1 or columns == 1:
            return x, True, row, batch
    if rows * columns >= 2**31:
        raise ValueError(f"a matrix of {rows} x {columns} is larger than an index can tell; split it")
    return device.xp.ascontiguousarray(x), True, columns, rows * columns


def batched(device: Device, a: Array, b: Array, out: Array, bias: Array | None = None, activation_name: str = "identity",
            slope: float = 0.0) -> Array:
    """out[p] = activation(a[p] @ b[p] + bias), see above; bias (N,) is contiguous, and what it is added to is one row."""
    if not out.size:
        return out
    out_batch, row, column = _strides(out)
    if column not in (0, 1) or row < 0:
        if row == 1 and column > 0 and bias is None:
            batched(device, b.transpose(0, 2, 1), a.transpose(0, 2, 1), out.transpose(0, 2, 1), None, activation_name, slope)
        else:
            out[...] = batched(device, a, b, device.empty(out.shape, out.dtype), bias, activation_name, slope)
        return out
    (batches, rows, depth), columns = a.shape, b.shape[2]
    if batches == 1 and min(rows, columns) == 1:
        return _vector(device, a[0], b[0], out, bias, CODES[activation_name], float(slope))
    a, a_along, a_stride, a_batch = _operand(device, a)
    b, b_across, b_stride, b_batch = _operand(device, b)
    tile, tiles, parts = plan(device, out.dtype, batches, rows, columns, depth)
    to, part_stride, lying = out, 0, (out_batch, row)
    if parts > 1:
        to, part_stride, lying = device.empty((parts, *out.shape), out.dtype), out.size, (rows * columns, columns)
    finish = CODES[activation_name] if parts == 1 else 0, float(slope)
    along, across = depth if a_along else rows, columns if b_across else depth
    width = wide(device, (along, across, a_stride, b_stride, a_batch, b_batch), a, b)
    defines = (f"A_ALONG_K={int(a_along)}", f"B_ALONG_K={int(not b_across)}", f"WIDTH={width}",
               *precision_defines(device, out.dtype))
    device.launch("matmul/products", f"product_{tile}", (tiles, parts, min(batches, MOST_BATCHES)), THREADS, a, b, to,
                  bias if parts == 1 else None, batches, rows, columns, depth, a_batch, b_batch, lying[0], a_stride,
                  b_stride, lying[1], part_stride, *finish, dtype=out.dtype, defines=defines)
    if parts > 1:
        add_parts(device, to, out, bias, (rows, columns), (out_batch, row), CODES[activation_name], float(slope))
    return out


def add_parts(device: Device, parts: Array, out: Array, bias: Array | None, size: tuple[int, int], lying: tuple[int, int],
              kind: int = 0, slope: float = 0.0) -> None:
    """out (P, M, N), size (M, N), lying as the strides of its first axes tell = the sum of parts (parts, P, M, N)."""
    device.each("matmul/products", "add_parts", out.size, parts, out, bias, parts.shape[0], out.size, *size, *lying,
                kind, slope, dtype=out.dtype)


def _vector(device: Device, a: Array, b: Array, out: Array, bias: Array | None, kind: int, slope: float) -> Array:
    """out (1, M, N) = a (M, K) @ b (K, N), where M or N is 1."""
    is_column = b.shape[1] == 1
    matrix, vector = (a, b[:, 0]) if is_column else (b.T, a[0])  # (many, K), (K,)
    (many, depth), (row_stride, k_stride), (step,) = matrix.shape, _strides(matrix), _strides(vector)
    out_stride = _strides(out)[1 if is_column else 2]
    if min(step, row_stride, k_stride) < 0:
        a, b = device.xp.ascontiguousarray(a), device.xp.ascontiguousarray(b)
        return _vector(device, a, b, out, bias, kind, slope)
    if row_stride == 1 and k_stride > 1:
        parts = _column_parts(device, matrix.T, vector)
        add_parts(device, parts, out, bias, out.shape[1:], (0, out_stride), kind, slope)
        return out
    if k_stride not in (0, 1) or (k_stride == 0 and depth > 1):
        matrix, row_stride = device.xp.ascontiguousarray(matrix), depth
    device.launch("matmul/products", "matrix_vector", -(-many * 32 // THREADS), THREADS, matrix, vector, out, bias, many,
                  depth, row_stride, step, out_stride, int(not is_column), kind, slope, dtype=out.dtype)
    return out


def _column_parts(device: Device, x: Array, vector: Array | None, out: Array | None = None) -> Array:
    """Sums over parts of the rows of x (K, N), each times its number of vector (K,): (parts, N). out: where they should lie
    if one part is enough."""
    depth, columns = x.shape
    blocks = -(-columns // 32)
    parts = max(1, min(depth // SHORTEST, -(-4 * device.sms // blocks)))
    if out is None or parts > 1:
        out = device.empty((parts, columns), x.dtype)
    step = 0 if vector is None else _strides(vector)[0]
    device.launch("matmul/products", "column_sums", (blocks, parts), THREADS, x, vector, out, depth, columns,
                  _strides(x)[0], step, columns, dtype=x.dtype)
    return out


def column_sums(device: Device, x: Array, out: Array | None = None) -> Array:
    """The sums of the columns of x (K, N), C-contiguous: (N,)."""
    if out is None:
        out = device.empty(x.shape[1:], x.dtype)
    if out.size:
        parts = _column_parts(device, x, None, out)
        if parts is not out:
            add_parts(device, parts, out, None, (1, out.size), (0, 0))
    return out


def matmul(device: Device, a: Array, b: Array, out: Array | None = None) -> Array:
    """a @ b, leading axes broadcast."""
    shape = (*_broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    y = device.empty(shape, a.dtype) if out is None or (out.ndim > 3 and not out.flags.c_contiguous) else out
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous and y.flags.c_contiguous:  # one product of many rows
        rows = math.prod(a.shape[:-1])
        batched(device, a.reshape(1, rows, a.shape[-1]), b[None], y.reshape(1, rows, shape[-1]))
    else:
        a, b = (_three(device, x, shape[:-2]) for x in (a, b))
        batched(device, a, b, y[None] if y.ndim == 2 else y.reshape(math.prod(shape[:-2]), *shape[-2:]))
    if out is not None and y is not out:
        out[...] = y
    return y if out is None else out


def _broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    if first == second:
        return first
    return np.broadcast_shapes(first, second)


def _three(device: Device, x: Array, leading: tuple[int, ...]) -> Array:
    """x (..., rows, columns), its leading axes broadcast and made one."""
    if x.ndim == 2:
        return device.xp.broadcast_to(x, (math.prod(leading), *x.shape)) if leading else x[None]
    if x.shape[:-2] != leading:
        x = device.xp.broadcast_to(x, (*leading, *x.shape[-2:]))
    return x if x.ndim == 3 else x.reshape(math.prod(leading), *x.shape[-2:])


def dense(device: Device, x: Array, weight: Array, bias: Array, activation_name: str, slope: float,
          out: Array | None = None) -> Array:
    """activation(x @ weight.T + bias): x (N, in), weight (out, in), bias (out,) -> (N, out)."""
    y = device.empty((x.shape[0], weight.shape[0]), x.dtype) if out is None else out
    batched(device, x[None], weight.T[None], y[None], device.xp.ascontiguousarray(bias), activation_name, slope)
    return y


def dense_parameter_grads(device: Device, x: Array, y: Array) -> Array:
    """y.T @ x and the sums of y's columns, one after the other: x (N, in), y (N, out) -> (out * in + out,). (Whoever keeps
    one keeps the memory of both.)"""
    both = device.empty((y.shape[1] * (x.shape[1] + 1),), y.dtype)
    weight, bias = both[:y.shape[1] * x.shape[1]], both[y.shape[1] * x.shape[1]:]
    matmul(device, y.T, x, out=weight.reshape(y.shape[1], x.shape[1]))
    column_sums(device, device.xp.ascontiguousarray(y), bias)
    return both
