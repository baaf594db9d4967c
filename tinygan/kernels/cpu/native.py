"""The compiled kernels behind Python functions. Importing this module compiles them, or loads them from the cache."""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from tinygan.kernels.activations import CODES, IDENTITY
from tinygan.kernels.cpu.activations import compiled as elementwise
from tinygan.kernels.cpu.matmul import gemm, thin
from tinygan.kernels.cpu.matmul.thin import ThinProduct
from tinygan.kernels.cpu.optimizers import compiled as optimizers
from tinygan.kernels.cpu.perceptron import compiled as mlp
from tinygan.kernels.cpu.runtime.arrays import REALS, address
from tinygan.kernels.cpu.runtime.pool import pool
from tinygan.kernels.cpu.runtime.workspace import Scratch, empty

Array = np.ndarray[Any, Any]
ALONE = 32 * 1024  # elements of an elementwise task, below which sharing it costs more than it gives
ALONE_PRODUCT = 200_000  # multiplications of a matrix product, likewise
DEEP, PART = 8192, 2048  # terms of a sum from which on it is made of parts, and terms of a part
NARROW = 4  # columns of a product, up to which it is the left matrix that is read in place


@cache
def _gemm(dtype: Any) -> int:
    return gemm.make(REALS[dtype])


@cache
def _forward(dtype: Any) -> int:
    return elementwise.make_forward(REALS[dtype])


@cache
def _backward(dtype: Any) -> int:
    return elementwise.make_backward(REALS[dtype])


@cache
def _optimizer(rule: str, dtype: Any) -> int:
    return optimizers.make(rule, REALS[dtype])


@cache
def _adam_grad(dtype: Any) -> int:
    return optimizers.make_adam_grad(REALS[dtype])


@cache
def _bce(dtype: Any) -> tuple[int, int, int]:
    return elementwise.make_bce(REALS[dtype])


@cache
def _mlp(dtype: Any) -> dict[str, int]:
    return mlp.make(REALS[dtype])._asdict()


_NUMBERS: dict[tuple[float, Any], tuple[Array, int]] = {}


def number(value: float, dtype: Any) -> int:
    """The address of a constant."""
    if (value, dtype) not in _NUMBERS:
        array = np.array([value], dtype)
        _NUMBERS.setdefault((value, dtype), (array, address(array)))  # never replaced: another thread may be using it
    return _NUMBERS[value, dtype][1]


def _strides(x: Array) -> tuple[Array, int, int]:
    """x, or a copy if neither of its two axes is contiguous, with its strides in elements."""
    row, column = x.strides
    item = x.itemsize
    if (column == item or row == item) and row > 0 and column > 0 and not (row % item or column % item):
        return x, row // item, column // item
    x = np.ascontiguousarray(x)
    return x, max(x.shape[1], 1), 1


def product(a: Array, b: Array, out: Array | None = None, bias: Array | None = None, activation: int = IDENTITY,
            slope: float = 0.0) -> Array:
    """activation(a @ b + bias) for 2-D arrays of one dtype, not empty; bias (columns of b,) or None, and with it b must
    have contiguous columns (be the transpose of a C-ordered array). out is C-contiguous."""
    m, k = a.shape
    n = b.shape[1]
    if k > DEEP:
        return _deep_product(a, b, out, bias, activation, slope)
    if out is None:
        out = empty((m, n), a.dtype)
    a, a_row, a_column = _strides(a)
    b, b_row, b_column = _strides(b)
    narrow = bias is None and n <= NARROW and m > gemm.ROWS
    staged = bias is not None or (b_row == 1 and k > 1 and not narrow)
    if staged:  # C^T = B^T A^T: the rows of B^T are contiguous and are read in place
        m, n = n, m
        a, a_row, a_step, b, b_step, b_column = b, b_column, b_row, a, a_column, a_row
    else:
        a_step, b_step = a_column, b_row
    direct = a_step == 1
    parts = 1 if m * n * k < ALONE_PRODUCT else pool.size
    # Rows of C are shared out where B is what all parts can pack cheaply: in the gradient of a weight.
    split_rows = not staged and (not direct or narrow)
    words = gemm.scratch_elements(m, n, k, direct, staged, out.dtype)
    with Scratch(parts * words * out.itemsize) as (memory,):
        pool.run(_gemm(out.dtype), (
            address(a), a_row, a_step, address(b), b_step, b_column, address(out), out.shape[1], staged, m, n, k, split_rows,
            0 if bias is None else address(bias), activation, number(slope, out.dtype), memory, words), parts)
    return out


def _deep_product(a: Array, b: Array, out: Array | None, bias: Array | None, activation: int, slope: float) -> Array:
    """The same in parts of the sums: thousands of terms added one after another would lose digits."""
    y = product(a[:, :PART], b[:PART], out)
    for start in range(PART, a.shape[1], PART):
        y += product(a[:, start:start + PART], b[start:start + PART])
    if bias is not None:
        y += bias
    return y if activation == IDENTITY else activation_forward(y, activation, slope, y)


def thin_product(a: Array, b: Array, out: Array | None = None, bias: Array | None = None, activation: int = IDENTITY,
                 slope: float = 0.0) -> Array:
    """The same for a of 1 to `thin.MOST` columns and any b."""
    (m, k), n = a.shape, b.shape[1]
    if out is None:
        out = empty((m, n), a.dtype)
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    bias = None if bias is None else np.ascontiguousarray(bias)
    pool.run(thin.make(REALS[a.dtype]), ThinProduct(
        a=address(a), b=address(b), bias=0 if bias is None else address(bias), out=address(out), m=m, k=k, n=n,
        activation=activation, slope=slope), 1 if m * n < ALONE else pool.size)
    return out


def activation_forward(x: Array, code: int, slope: float, out: Array) -> Array:
    """relu, leaky_relu or (float32 only) tanh of a contiguous array, into `out`."""
    pool.run(_forward(x.dtype), (address(x), 0, address(out), x.size, code, number(slope, x.dtype)),
             1 if x.size < ALONE else pool.size)
    return out


def activation_backward(g: Array, x: Array, code: int, slope: float, out: Array) -> Array:
    """g times the activation's slope at x; all contiguous, in the same order."""
    pool.run(_backward(g.dtype), (address(x), address(g), address(out), g.size, code, number(slope, g.dtype)),
             1 if g.size < ALONE else pool.size)
    return out


def _filled(targets: Any, logits: Array) -> Array:
    """The targets as an array like the logits."""
    if isinstance(targets, np.ndarray) and targets.shape == logits.shape:
        return np.ascontiguousarray(targets, logits.dtype)
    filled = np.empty(logits.shape, logits.dtype)
    filled[...] = targets
    return filled


def bce_with_logits(logits: Array, targets: Any) -> Any:
    """mean(softplus(logits) - targets * logits), for an array of targets or one number."""
    logits, mean = np.ascontiguousarray(logits), np.empty(1)
    targets = _filled(targets, logits)
    pool.run(_bce(logits.dtype)[0], (address(logits), address(targets), 0, address(mean), logits.size), 1)
    return logits.dtype.type(mean[0])


def bce_with_logits_grad(g: Array, logits: Array, targets: Any) -> Array:
    """g * (sigmoid(logits) - targets) / size; g is one number."""
    return _bce_slopes(_bce(logits.dtype)[1], g, logits, _filled(targets, logits))


def bce_with_logits_curvature(gg: Array, g: Array, logits: Array) -> Array:
    """gg * g / size * p * (1 - p), for p = sigmoid(logits); g is one number."""
    return _bce_slopes(_bce(logits.dtype)[2], g, logits, np.ascontiguousarray(gg))


def _bce_slopes(task: int, g: Array, logits: Array, other: Array) -> Array:
    logits, out, g = np.ascontiguousarray(logits), np.empty(logits.shape, logits.dtype), np.asarray(g, logits.dtype)
    pool.run(task, (address(logits), address(other), address(g), address(out), logits.size), 1)
    return out


def optimizer_step(rule: str, settings: Array, parameters: Sequence[Array], gradients: Sequence[Array],
                   *slots: Sequence[Array]) -> None:
    """Update C-contiguous parameters and slots of one dtype in place. settings: float64, as the rule has them."""
    gradients = [np.ascontiguousarray(g) for g in gradients]
    second = slots[1] if len(slots) > 1 else slots[0]
    table = np.array([[address(p), address(g), address(a), address(b), p.size]
                      for p, g, a, b in zip(parameters, gradients, slots[0], second, strict=True)], np.int64)
    total = sum([p.size for p in parameters])
    pool.run(_optimizer(rule, parameters[0].dtype), (address(table), len(table), total, address(settings)),
             1 if total < ALONE else pool.size)


def adam_backward(g: Array, packed: Array, gradient: Array, settings: Array) -> Array:
    """See `backends.cpu.adam_grad`."""
    g, packed, gradient = np.ascontiguousarray(g), np.ascontiguousarray(packed), np.ascontiguousarray(gradient)
    out = empty((4, *packed.shape[1:]), packed.dtype)
    pool.run(_adam_grad(packed.dtype), (
        address(g), address(packed), address(gradient), address(out), gradient.size, address(settings)),
        1 if gradient.size < ALONE else pool.size)
    return out


@cache
def _mlp_table(layers: tuple[Any, ...]) -> tuple[Array, int, int, int, int]:
    """The table that `kernels.mlp` is told; how many weights there are; how wide the layers are in all, and at most; how
    many elements of memory a part needs."""
    rows, size = [], 0
    for layer in layers:
        rows.append([layer.inputs, layer.outputs, CODES[layer.activation], size])
        size += layer.outputs * (layer.inputs + 1)
    slopes = np.array([layer.slope for layer in layers], np.float64).view(np.int64)
    outputs = [layer.outputs for layer in layers]
    widths, widest = sum(outputs), max(layers[0].inputs, *outputs)
    memory = mlp.scratch_elements(layers[0].inputs, widths, widest)
    return np.append(np.array(rows, np.int64), slopes), size, widths, widest, memory


def multilayer(task: str, x: Array, weights: Array, layers: tuple[Any, ...], outputs: bool, by: tuple[bool, bool],
               g: Array | None = None, directions: Array | None = None, along: tuple[bool, bool] = (False, False)) -> Array:
    """Run a task of `kernels.mlp` on x (N, in), the weights, g (N, out), and directions: those `along` x and the weights,
    one behind the other. Its results likewise: of the size of the outputs or not; `by` x and the weights, or not."""
    examples, dtype = len(x), x.dtype
    table, size, widths, widest, elements = _mlp_table(layers)
    parts = 1 if examples * size < ALONE_PRODUCT else pool.size
    x, weights, item = np.ascontiguousarray(x), np.ascontiguousarray(weights), dtype.itemsize
    x_direction = direction = 0
    if g is not None:
        g = np.ascontiguousarray(g)
    if directions is not None:
        directions = np.ascontiguousarray(directions)
        x_direction = address(directions) if along[0] else 0
        direction = address(directions) + along[0] * x.size * item if along[1] else 0
    first = examples * layers[-1].outputs if outputs else 0
    last = first + x.size if by[0] else first
    out = empty((last + size if by[1] else last,), dtype)
    partial = out[last:] if parts == 1 or not by[1] else np.empty((parts, size), dtype)
    start = address(out)
    with Scratch(parts * elements * item) as (memory,):
        pool.run(_mlp(dtype)[task], (
            address(x), address(weights), 0 if g is None else address(g), x_direction, direction, start,
            start + first * item if by[0] else 0, address(partial) if by[1] else 0, memory, elements * item, examples,
            address(table), len(layers), size, widths, widest), parts)
    if by[1] and parts > 1:
        np.add.reduce(partial, 0, out=out[last:])
    return out


# What every training needs.
for _make in (_gemm, _forward, _backward):
    _make(np.dtype(np.float32))
_optimizer("adam", np.dtype(np.float32))
