"""Products of strided matrices on the device.

Other modules build on `batched(device, a, b, out)`: out[p] = a[p] @ b[p] for a (P, M, K), b (P, K, N), out (P, M, N). The
matrices may have any strides. Operands with neither contiguous rows nor contiguous columns are copied first. The first axis
may have any stride, even 0. If there are too few tiles to keep all multiprocessors busy, the sums over K are split into
parts, and the parts are added in a fixed order.
"""
from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from tinygan.kernels.activations import CODES, IDENTITY
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device

TILES = {"large": (128, 128), "small": (64, 64), "narrow": (256, 16)}
"""The rows and columns of each kind of tile, as in product.cuh."""
RELATIVE_SPEED = {"large": 1.0, "small": 0.7, "narrow": 0.6}
"""Multiplications in a given time, relative to large tiles. Smaller tiles read more from shared memory for each
multiplication."""
SPEED_OF_ONE_BLOCK = 0.75
"""The relative speed of a multiprocessor with only one block. While this block waits for memory, no other one multiplies."""
PRODUCTS_PER_KERNEL_START = 300_000  # multiplications of a multiprocessor in the time that it takes to start one more kernel
LEAST_TERMS_OF_A_PART = 256  # a sum is split into parts with at least so many terms
MOST_BLOCKS_ALONG_Z = 65535  # CUDA allows no more; a block loops over further products
VARIANTS = tuple((f"A_ALONG_K={a}", f"B_ALONG_K={b}", f"WIDTH={width}") for a in (0, 1) for b in (0, 1) for width in (1, 4))
"""The sets of macros with which products.cu is compiled. TF32=1 may be added."""


def precision_defines(device: Device, dtype: Any) -> tuple[str, ...]:
    """The macro that lets tensor cores multiply, if TF32 was asked for."""
    return ("TF32=1",) if dtype.itemsize == 4 and device.precision == "tf32" else ()


def wide(device: Device, sizes: tuple[int, ...], *arrays: Array) -> int:
    """How many numbers a thread reads at once: 4 if all `sizes` are multiples of 4 and the arrays are aligned, else 1."""
    return 1 if any(size % 4 for size in sizes) or any(device.address(x) % 16 for x in arrays) else 4


class Plan(NamedTuple):
    """How a product is computed: the kind of tile, the number of tiles, and the number of parts that its sums are split
    into."""

    tile: str
    tiles: int
    parts: int


class Layout(NamedTuple):
    """The sizes and strides of batched products. products.cu has a struct with the same names. Strides count elements."""

    batches: int
    rows: int
    columns: int
    depth: int
    a_batch: int
    b_batch: int
    out_batch: int
    a_stride: int
    b_stride: int
    out_stride: int
    part_stride: int = 0


class PartsLayout(NamedTuple):
    """The same for a sum of parts. Each part has `size` elements, (P, rows, columns). The strides are those of `out`."""

    parts: int
    size: int
    rows: int
    columns: int
    out_batch: int
    out_stride: int


class VectorLayout(NamedTuple):
    """The same for a matrix (rows, depth) times a vector. bias_stride: 1 if the bias has an element for each row, else 0."""

    rows: int
    depth: int
    stride: int
    vector_stride: int
    out_stride: int
    bias_stride: int


def plan(device: Device, dtype: Any, batch: int, rows: int, columns: int, depth: int) -> Plan:
    """The plan for `batch` products (rows, depth) @ (depth, columns)."""
    return _fastest(device.sms, dtype.itemsize, batch, rows, columns, depth)


@lru_cache(10_000)
def _fastest(sms: int, itemsize: int, batch: int, rows: int, columns: int, depth: int) -> Plan:
    """The plan that takes the least time, by a rough estimate. It counts the multiplications of the busiest multiprocessor,
    including those that tiles waste at the edges, and the additions of the parts."""
    def time(planned: Plan) -> float:
        height, width = TILES[planned.tile]
        turns = -(-planned.tiles * batch * planned.parts // sms)
        speed = RELATIVE_SPEED[planned.tile] * (SPEED_OF_ONE_BLOCK if turns == 1 else 1)
        multiplications = turns * height * width * (depth / planned.parts + 16) / speed
        additions = PRODUCTS_PER_KERNEL_START + 75 * planned.parts * batch * rows * columns / sms
        return multiplications + (planned.parts > 1) * additions

    plans = []
    for tile, (height, width) in TILES.items():
        if tile != "large" or itemsize == 4:  # large tiles of float64 would need too many registers
            tiles = -(-rows // height) * -(-columns // width)
            most = min(depth // LEAST_TERMS_OF_A_PART, 2 * sms)
            fitting = {turns * sms // max(1, tiles * batch) for turns in (1, 2, 4)}
            plans += [Plan(tile, tiles, parts) for parts in sorted({1, most, *fitting}) if parts == 1 or 1 < parts <= most]
    return min(plans, key=time)


def _strides(x: Array) -> tuple[int, ...]:
    """The strides in elements. The stride of an axis of length 1 has no meaning and is set to 0."""
    return tuple(stride // x.itemsize if size > 1 else 0 for stride, size in zip(x.strides, x.shape, strict=True))


def _operand(device: Device, x: Array) -> tuple[Array, bool, int, int]:
    """(x or a copy, whether its rows are contiguous, the stride of the other axis, the stride of the first axis). If the
    rows are not contiguous, the columns are."""
    (batch, row, column), (_, rows, columns) = _strides(x), x.shape
    if min(row, column) >= 0 and max(rows * row, columns * column) < 2**31:
        if row == 1 or (rows == 1 and column != 1):
            return x, False, column, batch
        if column == 1 or columns == 1:
            return x, True, row, batch
    if rows * columns >= 2**31:
        raise ValueError(f"matmul: a matrix of {rows} x {columns} elements, expected at most 2^31 - 1 (what an int indexes);"
                         " split the matrix")
    return device.xp.ascontiguousarray(x), True, columns, rows * columns


def batched(device: Device, a: Array, b: Array, out: Array, bias: Array | None = None, activation_name: str = "identity",
            slope: float = 0.0) -> Array:
    """out[p] = activation(a[p] @ b[p] + bias), as the module says. bias: (N,), contiguous. Returns `out`."""
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
    layout = Layout(batches=batches, rows=rows, columns=columns, depth=depth, a_batch=a_batch, b_batch=b_batch,
                    out_batch=out_batch, a_stride=a_stride, b_stride=b_stride, out_stride=row)
    to = out
    if parts > 1:
        to = device.empty((parts, *out.shape), out.dtype)
        layout = layout._replace(out_batch=rows * columns, out_stride=columns, part_stride=out.size)
    finish = CODES[activation_name] if parts == 1 else IDENTITY, float(slope)
    along, across = depth if a_along else rows, columns if b_across else depth
    width = wide(device, (along, across, a_stride, b_stride, a_batch, b_batch), a, b)
    defines = (f"A_ALONG_K={int(a_along)}", f"B_ALONG_K={int(not b_across)}", f"WIDTH={width}",
               *precision_defines(device, out.dtype))
    device.launch("matmul/products", f"product_{tile}", (tiles, parts, min(batches, MOST_BLOCKS_ALONG_Z)), THREADS, a, b, to,
                  bias if parts == 1 else None, layout, *finish, dtype=out.dtype, defines=defines)
    if parts > 1:
        add_parts(device, to, out, bias, (rows, columns), (out_batch, row), CODES[activation_name], float(slope))
    return out


def add_parts(device: Device, parts: Array, out: Array, bias: Array | None, matrix: tuple[int, int],
              strides: tuple[int, int], kind: int = IDENTITY, slope: float = 0.0) -> None:
    """out = activation(the sum of the parts + bias): parts (parts, P, M, N), C-contiguous; out (P, M, N). matrix: (M, N).
    strides: those of the first two axes of out."""
    layout = PartsLayout(parts.shape[0], out.size, *matrix, *strides)
    device.each("matmul/products", "add_parts", out.size, parts, out, bias, layout, kind, slope, dtype=out.dtype)


def _vector(device: Device, a: Array, b: Array, out: Array, bias: Array | None, kind: int, slope: float) -> Array:
    """out (1, M, N) = a (M, K) @ b (K, N), where M or N is 1."""
    is_column = b.shape[1] == 1  # else a is one row, and out = (b.T @ a.T).T
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
    layout = VectorLayout(rows=many, depth=depth, stride=row_stride, vector_stride=step, out_stride=out_stride,
                          bias_stride=int(not is_column))
    device.launch("matmul/products", "matrix_vector", -(-many * 32 // THREADS), THREADS, matrix, vector, out, bias, layout,
                  kind, slope, dtype=out.dtype)
    return out


def _column_parts(device: Device, x: Array, vector: Array | None, out: Array | None = None) -> Array:
    """The sums of the columns of x (K, N), after row k is multiplied by vector[k] (None: 1). Each part sums some of the
    rows: (parts, N). out: the array to use if one part is enough."""
    depth, columns = x.shape
    blocks = -(-columns // 32)
    parts = max(1, min(depth // LEAST_TERMS_OF_A_PART, -(-4 * device.sms // blocks)))
    if out is None or parts > 1:
        out = device.empty((parts, columns), x.dtype)
    step = 0 if vector is None else _strides(vector)[0]
    device.launch("matmul/products", "vector_matrix", (blocks, parts), THREADS, x, vector, out, depth, columns,
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
