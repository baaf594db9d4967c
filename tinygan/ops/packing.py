"""Many arrays in one: `pack` joins them into one axis, and `unpacked` gives back one of them in its shape, as a view."""
from __future__ import annotations

__all__ = ["cut", "pack", "unpacked"]

import math
from collections.abc import Sequence
from typing import Any

from tinygan.graph import op
from tinygan.making import X
from tinygan.ops.shape import integers
from tinygan.tensor import shape_of

Shape = tuple[int, ...]


@op()
def _pack(B: Any, *arrays: Any, shapes: tuple[Shape, ...]) -> Any:
    return B.xp.concatenate([a.reshape(-1) for a in arrays])


@_pack.vjp
def _(needs: Any, g: Any, shapes: tuple[Shape, ...]) -> Any:
    parts, start = [], 0
    for need, shape in zip(needs, shapes, strict=True):
        parts.append(need and _unpacked(g, start=start, shape=shape, whole=g.shape))
        start += math.prod(shape)
    return parts


@op(view=True)
def _unpacked(B: Any, x: Any, start: int, shape: Shape, whole: Shape) -> Any:
    return x.reshape(-1)[start:start + math.prod(shape)].reshape(shape)


@_unpacked.vjp
def _(needs: Any, g: Any, start: int, shape: Shape, whole: Shape) -> Any:
    return (_placed(g, start=start, shape=shape, whole=whole),)


@op()
def _placed(B: Any, g: Any, start: int, shape: Shape, whole: Shape) -> Any:
    out = B.xp.zeros(whole, g.dtype)
    out.reshape(-1)[start:start + g.size] = g.reshape(-1)
    return out


@_placed.vjp
def _(needs: Any, g: Any, start: int, shape: Shape, whole: Shape) -> Any:
    return (_unpacked(g, start=start, shape=shape, whole=whole),)


def pack(arrays: Sequence[Any]) -> Any:
    """The elements of all arrays, each in row-major order, one after the other: (total,)."""
    if not arrays:
        raise ValueError("pack: needs at least one input")
    if len(arrays) == 1 and len(shape_of("pack", arrays[0])) == 1:
        return arrays[0]
    return _pack(*arrays, shapes=tuple([shape_of("pack", a) for a in arrays]))


def unpacked(x: X, start: int, shape: Sequence[int]) -> X:
    """The elements of x (of any shape, in row-major order) from number `start` on, as an array of that shape (a view)."""
    whole, shape = shape_of("unpacked", x), integers("unpacked", "shape", shape)
    if start < 0 or min(shape, default=0) < 0 or start + math.prod(shape) > math.prod(whole):
        raise ValueError(f"unpacked: an input of shape {whole} does not hold an array of shape {shape} from element {start} "
                         "on")
    return _unpacked(x, start=start, shape=shape, whole=whole)


def cut(x: Any, start: int, shape: Shape) -> Any:
    """`unpacked` without its checks."""
    return _unpacked(x, start=start, shape=shape, whole=x.shape)
