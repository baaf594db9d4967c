"""`prod` and `cumsum`: products and running sums along an axis."""
from __future__ import annotations

__all__ = ["cumsum", "prod"]

import math
from typing import Any

import numpy as np

from tinygan.graph import op
from tinygan.making import X
from tinygan.ops.elementwise import mul
from tinygan.ops.indexing import getitem
from tinygan.ops.padding import pad
from tinygan.ops.reduce import Axes, _checked
from tinygan.ops.shape import checked_axis, reshape, transpose
from tinygan.pullback import pullback
from tinygan.tensor import Axis, shape_of


@op(saves=(0,), integers=True)
def _prod(B: Any, x: Any, axis: Axes, keepdims: bool) -> Any:
    return B.xp.prod(x, axis, keepdims=keepdims)


@_prod.vjp
def _(needs: Any, g: Any, x: Any, axis: Axes, keepdims: bool) -> Any:
    def product(x: Any) -> Any:
        return reshape(_halved(x, tuple(range(len(x.shape))) if axis is None else axis), g.shape)

    return pullback(product, [x], g, needs)


def _halved(x: Any, axes: tuple[int, ...]) -> Any:
    """The product over the axes: multiply one half of the elements by the other half, until one is left. So the derivative
    for an element is the product of the others, without a division. It is right even if some elements are 0."""
    kept = [i for i in range(len(x.shape)) if i not in axes]
    rows, count = math.prod([x.shape[i] for i in kept]), math.prod([x.shape[i] for i in axes])
    x = reshape(transpose(x, (*axes, *kept)), (count, rows))
    n = 1 << (count - 1).bit_length() if count else 1
    x = pad(x, ((0, n - count), (0, 0)), 1.0)
    while n > 1:
        n //= 2
        x = mul(getitem(x, slice(0, n)), getitem(x, slice(n, None)))
    return x


def prod(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The product over `axis`. Its gradient is right even if elements are 0. The product of integers is an integer, and the
    product of no elements is 1."""
    return _prod(x, axis=_checked("prod", x, axis), keepdims=keepdims)


@op(integers=True)
def _cumsum(B: Any, x: Any, axis: int, backward: bool) -> Any:
    kind = x.dtype.kind
    wide = np.float64 if kind == "f" else np.uint64 if kind == "u" else np.int64  # (float32 would lose digits)
    if not x.ndim or not x.size:
        return x.astype(x.dtype if kind == "f" else wide)
    ordered = B.xp.flip(x, axis) if backward else x
    sums = B.xp.cumsum(ordered, axis, dtype=wide).astype(x.dtype if kind == "f" else wide)
    return B.xp.flip(sums, axis) if backward else sums


@_cumsum.vjp
def _(needs: Any, g: Any, axis: int, backward: bool) -> Any:
    return (_cumsum(g, axis=axis, backward=not backward),)


def cumsum(x: X, axis: int | None = None) -> X:
    """The running sums along `axis`: of the first element, the first two, the first three, ... The result has x's shape.
    axis None: along the flattened array, as in NumPy. The sums of integers and booleans are integers."""
    shape = shape_of("cumsum", x)
    if axis is None:
        return _cumsum(reshape(x, math.prod(shape)), axis=0, backward=False)
    axis = checked_axis("cumsum", axis, shape, len(shape) or 1)
    return _cumsum(x, axis=axis, backward=False)
