"""Padding: a frame around arrays, filled with a value, or with what lies inside, reflected, repeated or wrapped around."""
from __future__ import annotations

__all__ = ["PADDINGS", "pad"]

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tinygan.graph import op
from tinygan.making import X
from tinygan.ops.indexing import getitem
from tinygan.ops.shape import broadcast_to, concatenate, integers
from tinygan.tensor import shape_of

Shape = tuple[int, ...]


@op()
def _pad(B: Any, x: Any, widths: tuple[tuple[int, int], ...], value: float) -> Any:
    shape = tuple([before + n + after for n, (before, after) in zip(x.shape, widths, strict=True)])
    padded = B.xp.full(shape, value, x.dtype)
    padded[_inner(x.shape, widths)] = x
    return padded


@_pad.vjp
def _(needs: Any, g: Any, widths: tuple[tuple[int, int], ...], value: float) -> Any:
    inner = tuple([n - before - after for n, (before, after) in zip(g.shape, widths, strict=True)])
    return (getitem(g, _inner(inner, widths)),)


def _inner(shape: Shape, widths: tuple[tuple[int, int], ...]) -> tuple[slice, ...]:
    return tuple([slice(before, before + n) for n, (before, _) in zip(shape, widths, strict=True)])


class Padding(NamedTuple):
    """A way to continue an array along an axis of size n. fill(x, axis, n, before, after): the parts to put before and after
    x, which has n elements there."""

    fill: Callable[[Any, int, int, int, int], tuple[Any, Any]]
    most: Callable[[int], int | None]
    """The widest frame, by n. None: of any width."""
    why: str
    """For the error about a wider one: what it may be at most."""


def _part(x: Any, axis: int, *where: int | None) -> Any:
    """x cut along the axis: where is start, end and step."""
    return getitem(x, (*[slice(None)] * axis, slice(*where)))


def _reflected(x: Any, axis: int, n: int, before: int, after: int) -> tuple[Any, Any]:
    end = n - 2 - after
    return _part(x, axis, before, 0, -1), _part(x, axis, n - 2, end if end >= 0 else None, -1)


def _repeated(x: Any, axis: int, n: int, before: int, after: int) -> tuple[Any, Any]:
    def many(edge: Any, count: int) -> Any:
        return broadcast_to(edge, (*edge.shape[:axis], count, *edge.shape[axis + 1:]))

    return many(_part(x, axis, 0, 1), before), many(_part(x, axis, n - 1, n), after)


def _wrapped(x: Any, axis: int, n: int, before: int, after: int) -> tuple[Any, Any]:
    return _part(x, axis, n - before, n), _part(x, axis, 0, after)


PADDINGS = {
    "reflect": Padding(_reflected, lambda n: max(n - 1, 0), "one less than the axis"),  # c b a b c b a
    "replicate": Padding(_repeated, lambda n: None if n else 0, "0, because the axis is empty"),  # a a a b c c c
    "circular": Padding(_wrapped, lambda n: n, "the axis"),  # b c a b c a b
}
"""The modes of `pad` but "constant", with an example of a, b, c that is padded by 2."""


def pad(x: X, widths: Sequence[tuple[int, int]], value: float = 0.0, mode: str = "constant") -> X:
    """x with a frame around it. widths: (before, after) for every axis, none negative.

    mode, with PyTorch's names: "constant" fills the frame with `value`, "reflect" with what lies inside, mirrored at the
    elements of the edge (which do not occur twice), "replicate" with copies of the edge, "circular" with what lies at the
    other end. Raises ValueError if a frame that reflects is not narrower than x, or one that wraps around is wider."""
    shape = shape_of("pad", x)
    pairs = tuple([integers("pad", "widths", pair) for pair in widths]) if isinstance(widths, Iterable) else ()
    if len(pairs) != len(shape) or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ValueError(f"pad: widths should be a pair (before, after), not negative, for each axis of the input, got "
                         f"{widths} (input {shape})")
    if mode == "constant":
        return _pad(x, widths=pairs, value=value)
    if mode not in PADDINGS:
        raise ValueError(f"pad: unknown mode {mode!r}, expected one of constant, {', '.join(PADDINGS)}")
    if value != 0:
        raise ValueError(f'pad: value is for mode "constant", got {value} and mode {mode!r}')
    fill, most, why = PADDINGS[mode]
    for axis, (n, pair) in enumerate(zip(shape, pairs, strict=True)):
        limit = most(n)
        if limit is not None and max(pair) > limit:
            raise ValueError(f"pad: in mode {mode!r} the widths should be at most {why}, got {pair} for axis {axis} (input "
                             f"{shape})")
        if any(pair):
            before, after = fill(x, axis, n, *pair)
            x = concatenate([before, x, after], axis)
    return x
