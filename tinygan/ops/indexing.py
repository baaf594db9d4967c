"""Indexing: `getitem` and its adjoint `scatter_add`, and the embedding lookup built on them."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.graph import op
from tinygan.tensor import Tensor, as_array

Shape = tuple[int, ...]


@op(view=True)
def _getitem(B: Any, x: Any, index: Any, shape: Shape) -> Any:
    return x[index]


@_getitem.vjp
def _(needs: Any, g: Any, index: Any, shape: Shape) -> Any:
    return (_scatter_add(g, index=index, shape=shape),)


@op()
def _scatter_add(B: Any, g: Any, index: Any, shape: Shape) -> Any:
    out = B.xp.zeros(shape, g.dtype)
    if _is_basic(index):
        out[index] = g
    else:
        B.xp.add.at(out, index, g)  # an index may repeat: its gradients accumulate
    return out


@_scatter_add.vjp
def _(needs: Any, g: Any, index: Any, shape: Shape) -> Any:
    return (_getitem(g, index=index, shape=shape),)


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, slice | int | np.integer) for part in parts)


def getitem(x: Any, index: Any) -> Any:
    """x[index] as NumPy has it: slices, integers, None, ..., integer arrays and masks, Tensors of integers or booleans.

    Raises IndexError where NumPy does. The gradient of an element that is picked several times is the sum.
    """
    if isinstance(index, tuple):
        index = tuple([_plain(part) for part in index])
    else:
        index = _plain(index)
    return _getitem(x, index=index, shape=x.shape)


def _plain(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part.array
    return np.asarray(part, dtype=None if part else np.intp) if isinstance(part, list) else part


def scatter_add(values: Any, index: Any, shape: Shape) -> Any:
    """The adjoint of `getitem`: zeros of `shape` with `values` added at `index`, repeated places adding up."""
    return _scatter_add(values, index=index, shape=tuple(shape))


def embedding(weight: Any, indices: Any) -> Any:
    """Rows of weight (count, dimension) by integer indices of any shape -> (*indices.shape, dimension)."""
    indices = np.asarray(indices) if isinstance(indices, list | int) else as_array(indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"embedding: indices should be integers, got {indices.dtype}")
    count = weight.shape[0]
    if indices.size and not (indices.min() >= 0 and indices.max() < count):
        raise IndexError(f"embedding: indices from {indices.min()} to {indices.max()}, expected 0 to {count - 1} "
                         f"(weight {weight.shape})")
    return _getitem(weight, index=indices, shape=weight.shape)
