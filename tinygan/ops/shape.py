"""Ops that move elements without computing: shapes, joining, padding; and the pair `broadcast_to` / `sum_to`."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinygan.graph import op

Shape = tuple[int, ...]


@op(view=True)
def _reshape(B: Any, x: Any, shape: Shape, original: Shape) -> Any:
    return x.reshape(shape)


@_reshape.vjp
def _(needs: Any, g: Any, shape: Shape, original: Shape) -> Any:
    return (_reshape(g, shape=original, original=shape),)


def reshape(x: Any, shape: Sequence[int]) -> Any:
    """The elements of x in row-major order under another shape; one entry may be -1."""
    original, shape = x.shape, tuple(shape)
    if -1 in shape:
        known = math.prod([n for n in shape if n != -1])
        if known and math.prod(original) % known == 0:
            shape = tuple([math.prod(original) // known if n == -1 else n for n in shape])
    if math.prod(shape) != math.prod(original) or min(shape, default=0) < 0:
        raise ValueError(f"reshape: {original} has {math.prod(original)} elements, which {shape} does not hold")
    return _reshape(x, shape=shape, original=original)


@op(view=True)
def _transpose(B: Any, x: Any, axes: Shape) -> Any:
    return x.transpose(axes)


@_transpose.vjp
def _(needs: Any, g: Any, axes: Shape) -> Any:
    return (_transpose(g, axes=tuple(sorted(range(len(axes)), key=axes.__getitem__))),)


def transpose(x: Any, axes: Sequence[int] | None = None) -> Any:
    """x with its axes in another order (None: reversed)."""
    n = len(x.shape)
    axes = tuple(range(n))[::-1] if axes is None else tuple([a % n if -n <= a < n else a for a in axes])
    if sorted(axes) != list(range(n)):
        raise ValueError(f"transpose: {axes} does not name each axis of an input of shape {x.shape} once")
    return _transpose(x, axes=axes)


def swap_last(x: Any) -> Any:
    """x with its last two axes exchanged."""
    n = len(x.shape)
    return _transpose(x, axes=(*range(n - 2), n - 1, n - 2))


@op(view=True)
def _broadcast_to(B: Any, x: Any, shape: Shape, original: Shape) -> Any:
    return B.xp.broadcast_to(x, shape)


@_broadcast_to.vjp
def _(needs: Any, g: Any, shape: Shape, original: Shape) -> Any:
    return (sum_to(g, original),)


def broadcast_to(x: Any, shape: Sequence[int]) -> Any:
    """x repeated along new leading axes and along axes of size 1 (a view: nothing is copied)."""
    return _broadcast_to(x, shape=tuple(shape), original=x.shape)


@op(view=True)
def _sum_to(B: Any, x: Any, shape: Shape, original: Shape) -> Any:
    new = len(original) - len(shape)
    axes = tuple([*range(new), *[i + new for i, n in enumerate(shape) if n == 1 and original[i + new] != 1]])
    return B.xp.sum(x, axes).reshape(shape)


@_sum_to.vjp
def _(needs: Any, g: Any, shape: Shape, original: Shape) -> Any:
    return (broadcast_to(g, original),)


def sum_to(x: Any, shape: Sequence[int]) -> Any:
    """The adjoint of `broadcast_to`: x summed over the axes along which `shape` would be repeated to become x's."""
    return _sum_to(x, shape=tuple(shape), original=x.shape)


def expand_dims(x: Any, axis: int) -> Any:
    """x with a new axis of size 1 at position `axis` of the result."""
    n = len(x.shape) + 1
    if not -n <= axis < n:
        raise ValueError(f"expand_dims: axis {axis} is out of range for an input of shape {x.shape}")
    axis %= n
    return reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Any:
    """x without the named axes of size 1 (None: without any of size 1)."""
    shape = x.shape
    if axis is None:
        return reshape(x, [n for n in shape if n != 1])
    axes = set()
    for a in [axis] if isinstance(axis, int) else axis:
        if not -len(shape) <= a < len(shape) or shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} of an input of shape {shape} is not of size 1")
        axes.add(a % len(shape))
    return reshape(x, [n for i, n in enumerate(shape) if i not in axes])


@op()
def _concatenate(B: Any, *arrays: Any, axis: int, sizes: Shape) -> Any:
    return B.xp.concatenate(arrays, axis)


@_concatenate.vjp
def _(needs: Any, g: Any, axis: int, sizes: Shape) -> Any:
    return [need and part for need, part in zip(needs, _parts(g, sizes, axis), strict=True)]


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Any:
    """The inputs joined along an existing axis; their other axes must agree."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("concatenate: needs at least one input")
    shapes = [x.shape for x in tensors]
    n = len(shapes[0])
    if not -n <= axis < n:
        raise ValueError(f"concatenate: axis {axis} is out of range for inputs of shape {shapes[0]}")
    axis %= n
    for shape in shapes:
        if len(shape) != n or (shape[:axis], shape[axis + 1:]) != (shapes[0][:axis], shapes[0][axis + 1:]):
            raise ValueError(f"concatenate: inputs of shapes {shapes[0]} and {shape} differ beside axis {axis}")
    return _concatenate(*tensors, axis=axis, sizes=tuple([shape[axis] for shape in shapes]))


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """Inputs of one shape joined along a new axis."""
    return concatenate([expand_dims(x, axis) for x in tensors], axis)


def split(x: Any, sizes: int | Sequence[int], axis: int = 0) -> list[Any]:
    """x cut along `axis` into that many equal parts (an integer), or into parts of the given sizes (views)."""
    n = x.shape[axis]
    if isinstance(sizes, int):
        if sizes < 1 or n % sizes:
            raise ValueError(f"split: axis {axis} of an input of shape {x.shape} does not divide into {sizes} parts")
        sizes = [n // sizes] * sizes
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise ValueError(f"split: sizes {list(sizes)} do not add up to axis {axis} of an input of shape {x.shape}")
    return _parts(x, sizes, axis)


def _parts(x: Any, sizes: Sequence[int], axis: int) -> list[Any]:
    from tinygan.ops.indexing import getitem

    before = (slice(None),) * (axis % len(x.shape))
    parts, start = [], 0
    for size in sizes:
        parts.append(getitem(x, (*before, slice(start, start + size))))
        start += size
    return parts


def flip(x: Any, axis: int | Sequence[int]) -> Any:
    """x in reverse order along one or several axes (a view)."""
    from tinygan.ops.indexing import getitem

    axes = [a % len(x.shape) for a in ([axis] if isinstance(axis, int) else axis)]
    return getitem(x, tuple([slice(None, None, -1 if i in axes else None) for i in range(len(x.shape))]))


@op()
def _pad(B: Any, x: Any, widths: tuple[tuple[int, int], ...], value: float) -> Any:
    shape = tuple([before + n + after for n, (before, after) in zip(x.shape, widths, strict=True)])
    padded = B.xp.full(shape, value, x.dtype)
    padded[_inner(x.shape, widths)] = x
    return padded


@_pad.vjp
def _(needs: Any, g: Any, widths: tuple[tuple[int, int], ...], value: float) -> Any:
    from tinygan.ops.indexing import getitem

    inner = tuple([n - before - after for n, (before, after) in zip(g.shape, widths, strict=True)])
    return (getitem(g, _inner(inner, widths)),)


def _inner(shape: Shape, widths: tuple[tuple[int, int], ...]) -> tuple[slice, ...]:
    return tuple([slice(before, before + n) for n, (before, _) in zip(shape, widths, strict=True)])


def pad(x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """x surrounded by `value`. widths: (before, after) for every axis, none negative."""
    pairs = tuple([(int(before), int(after)) for before, after in widths])
    if len(pairs) != len(x.shape) or any(n < 0 for pair in pairs for n in pair):
        raise ValueError(f"pad: widths {pairs} should be a pair of non-negative numbers for each axis of {x.shape}")
    return _pad(x, widths=pairs, value=value)
