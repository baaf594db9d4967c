"""Ops that change shapes, join and cut arrays, and `broadcast_to` with its adjoint `sum_to`."""
from __future__ import annotations

__all__ = ["broadcast_to", "checked_axes", "checked_axis", "concatenate", "expand_dims", "flatten", "flip", "integers",
           "reshape", "split", "squeeze", "stack", "sum_to", "swap_last", "transpose", "tril", "triu", "unbroadcast"]

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from tinygan.graph import op
from tinygan.making import X
from tinygan.tensor import shape_of

Shape = tuple[int, ...]


def integers(caller: str, what: str, values: Any) -> tuple[int, ...]:
    """An integer or a sequence of integers, as a tuple of Python's integers."""
    if type(values) is int:
        return (values,)
    try:
        return tuple([operator.index(v) for v in (values if isinstance(values, Iterable) else (values,))])
    except TypeError:
        raise TypeError(f"{caller}: {what} should be an integer or integers, got {values!r}") from None


def checked_axes(caller: str, axis: Any, shape: Shape, rank: int | None = None) -> tuple[int, ...]:
    """`axis`, one integer or several, as distinct axes that are counted from the front. The array has `rank` axes (None: as
    many as `shape`). Error messages quote `shape`."""
    n = len(shape) if rank is None else rank
    axes = integers(caller, "axis", axis)
    for a in axes:
        if not -n <= a < n:
            raise ValueError(f"{caller}: axis {a} is out of range for an input of shape {shape}")
    axes = tuple([a % n for a in axes])
    if len(set(axes)) != len(axes):
        raise ValueError(f"{caller}: axis {axis} names the same axis of an input of shape {shape} twice")
    return axes


def checked_axis(caller: str, axis: Any, shape: Shape, rank: int | None = None) -> int:
    """As `checked_axes`, for a single axis."""
    axes = checked_axes(caller, axis, shape, rank)
    if len(axes) != 1:
        raise TypeError(f"{caller}: axis should be one integer, got {axis!r}")
    return axes[0]


@op(view=True)
def _reshape(B: Any, x: Any, shape: Shape, original: Shape) -> Any:
    return B.reshape(x, shape)


@_reshape.vjp
def _(needs: Any, g: Any, shape: Shape, original: Shape) -> Any:
    return (_reshape(g, shape=original, original=shape),)


def reshape(x: X, shape: int | Sequence[int]) -> X:
    """The elements of x, in row-major order, in another shape. One entry of the shape may be -1: it is then computed."""
    original, wanted = shape_of("reshape", x), integers("reshape", "shape", shape)
    shape = wanted
    if wanted.count(-1) == 1:
        known = math.prod([n for n in wanted if n != -1])
        if known and math.prod(original) % known == 0:
            shape = tuple([math.prod(original) // known if n == -1 else n for n in wanted])
    if math.prod(shape) != math.prod(original) or min(shape, default=0) < 0:
        raise ValueError(f"reshape: {original} has {math.prod(original)} elements, which do not fit into {wanted}")
    return _reshape(x, shape=shape, original=original)


@op(view=True)
def _transpose(B: Any, x: Any, axes: Shape) -> Any:
    return x.transpose(axes)


@_transpose.vjp
def _(needs: Any, g: Any, axes: Shape) -> Any:
    return (_transpose(g, axes=tuple(sorted(range(len(axes)), key=axes.__getitem__))),)


def transpose(x: X, axes: Sequence[int] | None = None) -> X:
    """x with its axes in another order (None: reversed)."""
    shape = shape_of("transpose", x)
    order = tuple(range(len(shape)))[::-1] if axes is None else checked_axes("transpose", axes, shape)
    if len(order) != len(shape):
        raise ValueError(f"transpose: axes {axes} should name each axis of an input of shape {shape} once")
    return _transpose(x, axes=order)


def flatten(x: X, start: int = 0) -> X:
    """x with all axes from `start` on joined into one: flatten(x, 1) keeps the batch, (N, C, H, W) -> (N, C * H * W)."""
    shape: Shape = shape_of("flatten", x)
    start = checked_axis("flatten", start, shape, len(shape) or 1)
    return reshape(x, (*shape[:start], math.prod(shape[start:])))


def swap_last(x: X) -> X:
    """x with its last two axes exchanged."""
    n: int = len(x.shape)
    return _transpose(x, axes=(*range(n - 2), n - 1, n - 2))


@op(view=True)
def _broadcast_to(B: Any, x: Any, shape: Shape, original: Shape) -> Any:
    return B.xp.broadcast_to(x, shape)


@_broadcast_to.vjp
def _(needs: Any, g: Any, shape: Shape, original: Shape) -> Any:
    return (sum_to(g, original),)


def broadcast_to(x: X, shape: int | Sequence[int]) -> X:
    """x repeated along new leading axes and along axes of size 1 (a view: nothing is copied)."""
    original, shape = shape_of("broadcast_to", x), integers("broadcast_to", "shape", shape)
    check_broadcast("broadcast_to", original, shape)
    return _broadcast_to(x, shape=shape, original=original)


def check_broadcast(caller: str, small: Shape, large: Shape) -> None:
    new = len(large) - len(small)
    if new < 0 or min(large, default=0) < 0 or any(n not in (1, large[i + new]) for i, n in enumerate(small)):
        raise ValueError(f"{caller}: the shape {small} does not broadcast to {large}")


@op(view=True)
def _sum_to(B: Any, x: Any, shape: Shape, original: Shape) -> Any:
    new = len(original) - len(shape)
    axes = (*range(new), *[i + new for i, n in enumerate(shape) if n == 1 and original[i + new] != 1])
    return B.sum(x, axes, False).reshape(shape)


@_sum_to.vjp
def _(needs: Any, g: Any, shape: Shape, original: Shape) -> Any:
    return (broadcast_to(g, original),)


def sum_to(x: X, shape: int | Sequence[int]) -> X:
    """The adjoint of `broadcast_to`: x summed to `shape`, over the axes along which `shape` would broadcast to x's shape."""
    original, shape = shape_of("sum_to", x), integers("sum_to", "shape", shape)
    check_broadcast("sum_to", shape, original)
    return _sum_to(x, shape=shape, original=original)


def unbroadcast(x: X, shape: Shape) -> X:
    """`sum_to` without its checks, for `grad`."""
    return _sum_to(x, shape=shape, original=x.shape)


def expand_dims(x: X, axis: int) -> X:
    """x with a new axis of size 1, which is axis number `axis` of the result."""
    shape: Shape = shape_of("expand_dims", x)
    axis = checked_axis("expand_dims", axis, shape, len(shape) + 1)
    return reshape(x, (*shape[:axis], 1, *shape[axis:]))


def squeeze(x: X, axis: int | Sequence[int] | None = None) -> X:
    """x without the given axes, which must have size 1 (None: without all axes of size 1)."""
    shape = shape_of("squeeze", x)
    if axis is None:
        return reshape(x, [n for n in shape if n != 1])
    axes = checked_axes("squeeze", axis, shape)
    for a in axes:
        if shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} of an input of shape {shape} is not of size 1")
    return reshape(x, [n for i, n in enumerate(shape) if i not in axes])


@op()
def _concatenate(B: Any, *arrays: Any, axis: int, sizes: Shape) -> Any:
    return B.xp.concatenate(arrays, axis)


@_concatenate.vjp
def _(needs: Any, g: Any, axis: int, sizes: Shape) -> Any:
    return _parts(g, sizes, axis, needs)


def concatenate(tensors: Sequence[X], axis: int = 0) -> X:
    """The inputs joined along an existing axis; their other axes must agree."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("concatenate: needs at least one input")
    shapes = [shape_of("concatenate", x) for x in tensors]
    n = len(shapes[0])
    axis = checked_axis("concatenate", axis, shapes[0])
    for shape in shapes:
        if len(shape) != n or (shape[:axis], shape[axis + 1:]) != (shapes[0][:axis], shapes[0][axis + 1:]):
            raise ValueError(f"concatenate: inputs of shapes {shapes[0]} and {shape} differ in other axes than axis {axis}")
    return _concatenate(*tensors, axis=axis, sizes=tuple([shape[axis] for shape in shapes]))


def stack(tensors: Sequence[X], axis: int = 0) -> X:
    """Inputs of one shape joined along a new axis."""
    shapes = [shape_of("stack", x) for x in tensors]
    if not shapes or any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"stack: needs one or more inputs of one shape, got {shapes}")
    axis = checked_axis("stack", axis, shapes[0], len(shapes[0]) + 1)
    return concatenate([expand_dims(x, axis) for x in tensors], axis)


def split(x: X, sizes: int | Sequence[int], axis: int = 0) -> list[X]:
    """x cut along `axis` into views. sizes: the number of equal parts, or a sequence of the parts' sizes."""
    shape = shape_of("split", x)
    axis = checked_axis("split", axis, shape)
    n, parts = shape[axis], integers("split", "sizes", sizes)
    if not isinstance(sizes, Iterable):
        count, = parts
        if count < 1 or n % count:
            raise ValueError(f"split: axis {axis} of an input of shape {shape} does not divide into {count} parts")
        parts = (n // count,) * count
    if sum(parts) != n or min(parts, default=0) < 0:
        raise ValueError(f"split: sizes {parts} do not add up to axis {axis} of an input of shape {shape}")
    return _parts(x, parts, axis)


def _parts(x: Any, sizes: Sequence[int], axis: int, needs: Sequence[bool] | None = None) -> list[Any]:
    """x cut along the axis into parts of these sizes. A part that `needs` does not mark is None."""
    from tinygan.ops.indexing import getitem

    before = (slice(None),) * (axis % len(x.shape))
    parts, start = [], 0
    for size, need in zip(sizes, needs or [True] * len(sizes), strict=True):
        parts.append(getitem(x, (*before, slice(start, start + size))) if need else None)
        start += size
    return parts


def flip(x: X, axis: int | Sequence[int]) -> X:
    """x in reverse order along one axis or several (a view)."""
    from tinygan.ops.indexing import getitem

    shape = shape_of("flip", x)
    axes = checked_axes("flip", axis, shape)
    return getitem(x, tuple([slice(None, None, -1 if i in axes else None) for i in range(len(shape))]))


@op(integers=True)
def _triangle(B: Any, x: Any, diagonal: int, lower: bool) -> Any:
    mask = B.xp.tri(*x.shape[-2:], diagonal if lower else diagonal - 1, bool)
    return B.xp.where(mask if lower else ~mask, x, x.dtype.type(0))


@_triangle.vjp
def _(needs: Any, g: Any, diagonal: int, lower: bool) -> Any:
    return (_triangle(g, diagonal=diagonal, lower=lower),)


def tril(x: X, diagonal: int = 0) -> X:
    """The lower triangle of each matrix (..., M, N), with 0 above it. diagonal: the highest diagonal that is kept. 0 is the
    main diagonal, 1 the one above it, -1 the one below."""
    return _triangle(x, diagonal=_checked_diagonal("tril", x, diagonal), lower=True)


def triu(x: X, diagonal: int = 0) -> X:
    """The upper triangle of each matrix (..., M, N), with 0 below it. diagonal: the lowest diagonal that is kept. 0 is the
    main diagonal, 1 the one above it, -1 the one below."""
    return _triangle(x, diagonal=_checked_diagonal("triu", x, diagonal), lower=False)


def _checked_diagonal(caller: str, x: Any, diagonal: Any) -> int:
    shape, numbers = shape_of(caller, x), integers(caller, "diagonal", diagonal)
    if len(shape) < 2:
        raise ValueError(f"{caller}: the input should be one matrix or several, of shape (..., M, N), got {shape}")
    if len(numbers) != 1:
        raise TypeError(f"{caller}: diagonal should be one integer, got {diagonal!r}")
    return numbers[0]
