"""Indexing: `getitem` and its adjoint `scatter_add`, and the embedding lookup built on them."""
from __future__ import annotations

__all__ = ["embedding", "gather", "getitem", "range_error", "scatter_add"]

from typing import Any

import numpy as np

from tinygan.backends import backend_of
from tinygan.graph import op
from tinygan.listening import is_recording_step
from tinygan.making import X
from tinygan.ops.shape import broadcast_to, check_broadcast, checked_axis, integers, reshape
from tinygan.tensor import Tensor, as_array, shape_of

Shape = tuple[int, ...]
_AS_LIST = " (a Tensor made from a list is float32: give the list itself, or Tensor(list, dtype=int))"


@op(view=True)
def _getitem(B: Any, x: Any, index: Any, shape: Shape) -> Any:
    return x[_beside(B, index)]


@_getitem.vjp
def _(needs: Any, g: Any, index: Any, shape: Shape) -> Any:
    return (_scatter_add(g, index=index, shape=shape),)


@op()
def _scatter_add(B: Any, g: Any, index: Any, shape: Shape) -> Any:
    out = B.xp.zeros(shape, g.dtype)
    if _is_basic(index):
        out[index] = g
    else:
        B.add_at(out, _beside(B, index), g)  # an index may occur several times: its gradients are added
    return out


@_scatter_add.vjp
def _(needs: Any, g: Any, index: Any, shape: Shape) -> Any:
    return (_getitem(g, index=index, shape=shape),)


def _beside(B: Any, index: Any) -> Any:
    """The index, with its arrays on x's device."""
    if isinstance(index, tuple):
        return tuple([_beside(B, part) for part in index])
    return B.asarray(index) if type(index) is np.ndarray and B.array_type is not np.ndarray else index


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, slice | int | np.integer) for part in parts)


def getitem(x: X, index: Any) -> X:
    """x[index] as in NumPy: slices, integers, None, `...`, integer arrays, masks, and Tensors of integers or booleans.

    Raises IndexError where NumPy does. On a GPU it does as CuPy: out-of-range elements of an integer array are taken modulo
    the size. If an element is picked several times, its gradients are added.
    """
    return _getitem(x, index=_plain_index("getitem", index), shape=shape_of("getitem", x))


def _plain_index(caller: str, index: Any) -> Any:
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, Tensor) and part.dtype.kind == "f":
            raise IndexError(f"{caller}: an index should be of integers or booleans, got {part.dtype}{_AS_LIST}")
    return tuple([_plain(part) for part in index]) if isinstance(index, tuple) else _plain(index)


def _plain(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part.array
    return np.asarray(part, dtype=None if part else np.intp) if isinstance(part, list | range) else part


def range_error(indices: Any, count: int) -> str:
    """What is wrong with indices that should be from 0 to count - 1. It is "" if they are right, and also while a step is
    recorded, because they cannot be read then."""
    if not indices.size or is_recording_step():
        return ""
    low, high = int(indices.min()), int(indices.max())
    return "" if low >= 0 and high < count else f"from {low} to {high}, expected 0 to {count - 1}"


def scatter_add(values: X, index: Any, shape: Shape) -> X:
    """The adjoint of `getitem`: zeros of `shape`, to which `values` are added at `index`. Values at the same place add up.

    values: of the shape of `zeros[index]`, or of a shape that broadcasts to it.
    """
    shape_of("scatter_add", values)
    index, shape = _plain_index("scatter_add", index), integers("scatter_add", "shape", shape)
    xp = backend_of(as_array(values)).xp
    picked = _getitem(xp.broadcast_to(xp.zeros((), np.float32), shape), index=index, shape=shape).shape
    check_broadcast("scatter_add", values.shape, picked)
    return _scatter_add(broadcast_to(values, picked), index=index, shape=shape)


def embedding(weight: X, indices: Any) -> X:
    """The rows of weight (count, ...) at integer indices of any shape -> (*indices.shape, ...)."""
    indices = _plain(indices)
    if not hasattr(indices, "dtype"):
        indices = np.asarray(indices)
    if not shape_of("embedding", weight):
        raise ValueError(f"embedding: weight should be of shape (count, ...), got {weight.shape}")
    if indices.dtype.kind not in "iu":
        raise TypeError(f"embedding: indices should be integers, got {indices.dtype}{_AS_LIST}")
    wrong = range_error(indices, weight.shape[0])
    if wrong:
        raise IndexError(f"embedding: indices {wrong} (weight {weight.shape})")
    return _getitem(weight, index=indices, shape=weight.shape)


@op(integers=True)
def _gather(B: Any, x: Any, index: Any, axis: int, shape: Shape) -> Any:
    return B.xp.take_along_axis(x[_corner(index.shape, axis)], B.asarray(index), axis)


@_gather.vjp
def _(needs: Any, g: Any, index: Any, axis: int, shape: Shape) -> Any:
    return (_scatter_along(g, index=index, axis=axis, shape=shape),)


@op()
def _scatter_along(B: Any, g: Any, index: Any, axis: int, shape: Shape) -> Any:
    near = (*index.shape[:axis], shape[axis], *index.shape[axis + 1:])
    sums = B.sums_along(g, B.asarray(index), axis, shape[axis]).reshape(near)
    if near == shape:
        return sums
    out = B.xp.zeros(shape, g.dtype)
    out[_corner(near, axis)] = sums
    return out


@_scatter_along.vjp
def _(needs: Any, g: Any, index: Any, axis: int, shape: Shape) -> Any:
    return (_gather(g, index=index, axis=axis, shape=shape),)


def _corner(shape: Shape, axis: int) -> tuple[slice, ...]:
    """An index of the first shape[i] places along every axis i but `axis`."""
    return tuple([slice(None if i == axis else n) for i, n in enumerate(shape)])


def gather(x: X, axis: int, index: Any) -> X:
    """Elements of x picked along one axis: for three axes and axis=1, out[i, j, k] = x[i, index[i, j, k], k].

    index: integers from 0 to x.shape[axis] - 1. It has as many axes as x, and along the other axes it is not longer than x.
    The result has the shape of index. If an element is picked several times, its gradients are added, always in the same
    order. As `torch.gather`. Raises IndexError for an index out of range, unless the step is being recorded.
    """
    shape, index = shape_of("gather", x), _plain(index)
    axis = checked_axis("gather", axis, shape, len(shape) or 1)
    if not hasattr(index, "dtype"):
        index = np.asarray(index)
    if index.dtype.kind not in "iu":
        raise TypeError(f"gather: index should be integers, got {index.dtype}{_AS_LIST}")
    if index.ndim != len(shape) or any(n > m for i, (n, m) in enumerate(zip(index.shape, shape, strict=True)) if i != axis):
        raise ValueError(f"gather: index should have as many axes as the input, and be no longer than it except along axis "
                         f"{axis}, got {index.shape} (input {shape})")
    wrong = range_error(index, shape[axis] if shape else 1)
    if wrong:
        raise IndexError(f"gather: index {wrong} (input {shape}, axis {axis})")
    if not shape:
        return reshape(gather(reshape(x, 1), 0, index.reshape(1)), ())
    return _gather(x, index=index.astype(np.int64, copy=False), axis=axis, shape=shape)
