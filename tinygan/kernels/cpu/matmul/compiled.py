"""Python functions that run the compiled matrix products, for arrays that are not empty. Importing this module compiles the
kernel that every training needs, or loads it from the cache."""
from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from tinygan.kernels.activations import CODES
from tinygan.kernels.cpu.activations.compiled import activation_forward
from tinygan.kernels.cpu.matmul import gemm, thin
from tinygan.kernels.cpu.matmul.gemm import Product
from tinygan.kernels.cpu.matmul.thin import ThinProduct
from tinygan.kernels.cpu.runtime.arrays import REALS, address
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import Scratch, contiguous, empty

Array = np.ndarray[Any, Any]
IDENTITY = CODES["identity"]
SHARED_FROM_PRODUCTS = 200_000  # multiplications: with fewer, waking the workers takes longer than they save
MOST_TERMS_IN_SEQUENCE = 8192  # a sum of more terms is cut into parts: adding them one after another would lose digits
TERMS_OF_A_PART = 2048  # of such a longer sum
MOST_COLUMNS_NARROW = 4
"""A product with at most this many columns is narrow: its left matrix is read in place, and its right matrix is packed."""


@cache
def _gemm(dtype: Any) -> int:
    return gemm.make(REALS[dtype])


@cache
def _thin(dtype: Any) -> int:
    return thin.make(REALS[dtype])


def _strides(x: Array) -> tuple[Array, int, int]:
    """(x or a copy, its two strides in elements). x is copied if neither axis is contiguous."""
    row, column = x.strides
    item = x.itemsize
    if (column == item or row == item) and row > 0 and column > 0 and not (row % item or column % item):
        return x, row // item, column // item
    x = contiguous(x)
    return x, max(x.shape[1], 1), 1


def product(a: Array, b: Array, out: Array | None = None, bias: Array | None = None, activation: int = IDENTITY,
            slope: float = 0.0) -> Array:
    """activation(a @ b + bias) for 2-D arrays of one dtype. bias: (columns of b,) or None. If there is a bias, the columns
    of b must be contiguous, as in the transpose of a C-ordered array. activation: the code of a fused activation. out: a
    C-contiguous array for the result, or None."""
    m, k = a.shape
    n = b.shape[1]
    if k > MOST_TERMS_IN_SEQUENCE:
        return _long_product(a, b, out, bias, activation, slope)
    if out is None:
        out = empty((m, n), a.dtype)
    a, a_row, a_column = _strides(a)
    b, b_row, b_column = _strides(b)
    narrow = bias is None and n <= MOST_COLUMNS_NARROW and m > gemm.ROWS
    staged = bias is not None or (b_row == 1 and k > 1 and not narrow)
    if staged:  # compute C^T = B^T A^T: the rows of B^T are contiguous, so they can be read in place
        m, n = n, m
        a, a_row, a_step, b, b_step, b_column = b, b_column, b_row, a, a_column, a_row
    else:
        a_step, b_step = a_column, b_row
    direct = a_step == 1
    parts = 1 if m * n * k < SHARED_FROM_PRODUCTS else pool.size
    # The parts share the rows of C, and each packs all of B, where B is cheap to pack: in the gradient of a weight.
    split_rows = not staged and (not direct or narrow)
    elements = gemm.scratch_elements(m, n, k, direct, staged, out.dtype)
    with Scratch(parts * elements * out.itemsize) as (memory,):
        pool.run(_gemm(out.dtype), Product(
            a=address(a), a_row=a_row, a_step=a_step, b=address(b), b_step=b_step, b_column=b_column, c=address(out),
            c_stride=out.shape[1], staged=staged, m=m, n=n, k=k, split_rows=split_rows,
            bias=0 if bias is None else address(bias), activation=activation, slope=slope, scratch=memory,
            scratch_elements=elements), parts)
    return out


def rows_product(a: int, a_row: int, b: Array, rows: int, out: Array, bias: Array | None = None, activation: int = IDENTITY,
                 slope: float = 0.0) -> None:
    """Write activation(A @ b + bias) to `out` (rows, columns of b), which is C-contiguous. A has many rows, which lie at the
    address a and a_row elements apart. b: a small array, or the transpose of one. bias: (columns of b,) or None."""
    (k, n), (b, b_row, b_column) = b.shape, _strides(b)
    elements = gemm.scratch_elements(rows, n, k, True, False, out.dtype)
    parts = 1 if rows * n * k < SHARED_FROM_PRODUCTS else pool.size
    with Scratch(parts * elements * out.itemsize) as (memory,):
        pool.run(_gemm(out.dtype), Product(
            a=a, a_row=a_row, a_step=1, b=address(b), b_step=b_row, b_column=b_column, c=address(out), c_stride=n, staged=0,
            m=rows, n=n, k=k, split_rows=1, bias=0 if bias is None else address(bias), activation=activation, slope=slope,
            scratch=memory, scratch_elements=elements), parts)


def _long_product(a: Array, b: Array, out: Array | None, bias: Array | None, activation: int, slope: float) -> Array:
    """`product` for long sums, which are cut into parts of TERMS_OF_A_PART terms."""
    y = product(a[:, :TERMS_OF_A_PART], b[:TERMS_OF_A_PART], out)
    for start in range(TERMS_OF_A_PART, a.shape[1], TERMS_OF_A_PART):
        y += product(a[:, start:start + TERMS_OF_A_PART], b[start:start + TERMS_OF_A_PART])
    if bias is not None:
        y += bias
    return y if activation == IDENTITY else activation_forward(y, activation, slope, y)


def dense_product(x: Array, weight: Array, bias: Array, activation: int, slope: float, out: Array | None = None) -> Array:
    """activation(x @ weight.T + bias): x (N, in), weight (out, in), in any memory order. activation: the code of a fused
    activation."""
    if weight.shape[0] > MOST_COLUMNS_NARROW:
        return product(x, weight.T, out, bias, activation, slope)
    y = product(x, weight.T, out)
    y += bias
    return y if activation == IDENTITY else activation_forward(y, activation, slope, y)


def thin_product(a: Array, b: Array, out: Array | None = None, bias: Array | None = None, activation: int = IDENTITY,
                 slope: float = 0.0) -> Array:
    """`product` for a matrix `a` with few columns. b may have any memory order."""
    (m, k), n = a.shape, b.shape[1]
    if out is None:
        out = empty((m, n), a.dtype)
    a, b = contiguous(a), contiguous(b)
    bias = None if bias is None else contiguous(bias)
    pool.run(_thin(a.dtype), ThinProduct(
        a=address(a), b=address(b), bias=0 if bias is None else address(bias), out=address(out), m=m, k=k, n=n,
        activation=activation, slope=slope), pool.parts(m * n))
    return out


_gemm(np.dtype(np.float32))
