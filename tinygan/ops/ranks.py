"""Ops over the processes that train one GAN together (see `tinygan.distributed`). Without such processes they do nothing.

Let L_r be the loss of rank r, a mean over its own examples. What the ranks minimise together is the mean of all L_r. Each
rank backpropagates its own L_r. So at every point, its gradient is its own share, and the whole gradient is the mean over
the ranks. A value that depends on the examples of all ranks passes its gradient on to all of them: these ops do that.
"""
from __future__ import annotations

__all__ = ["mean_numbers_over_ranks", "mean_over_ranks", "means_over_ranks", "of_all_ranks", "own_examples"]

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygan.context import CONTEXT
from tinygan.distributed.world import Part
from tinygan.graph import op
from tinygan.making import X
from tinygan.ops.elementwise import astype
from tinygan.ops.packing import cut, pack
from tinygan.ops.shape import stack


@op()
def _mean_over_ranks(B: Any, x: Any, part: Part) -> Any:
    return part.world.mean(x)


@_mean_over_ranks.vjp
def _(needs: Any, g: Any, part: Part) -> Any:
    return (_mean_over_ranks(g, part=part),)


@op()
def _of_all_ranks(B: Any, x: Any, part: Part) -> Any:
    return part.joined(part.world.gather(x))


@_of_all_ranks.vjp
def _(needs: Any, g: Any, part: Part) -> Any:
    return (_own_examples_of_sum(g, part=part),)


@op()
def _own_examples_of_sum(B: Any, g: Any, part: Part) -> Any:
    return part.own(part.world.mean(g)) * g.dtype.type(part.world.size)


@_own_examples_of_sum.vjp
def _(needs: Any, h: Any, part: Part) -> Any:
    return (_of_all_ranks(h, part=part),)


@op()
def _own_examples(B: Any, x: Any, part: Part) -> Any:
    return part.own(x)


@_own_examples.vjp
def _(needs: Any, g: Any, part: Part) -> Any:
    return (_placed(g, part=part),)


@op()
def _placed(B: Any, g: Any, part: Part) -> Any:
    zeros = B.xp.zeros((part.world.size, *g.shape), g.dtype)
    zeros[part.world.rank] = g
    return part.joined(zeros)


@_placed.vjp
def _(needs: Any, h: Any, part: Part) -> Any:
    return (_own_examples(h, part=part),)


def mean_over_ranks(x: X) -> X:
    """The mean over the ranks of their values x, which have the same shape everywhere."""
    part = CONTEXT.get().part
    return x if part is None else _mean_over_ranks(x, part=part)


def means_over_ranks(arrays: list[Any]) -> list[Any]:
    """`mean_over_ranks` of each of these arrays, by one reduction of all."""
    if CONTEXT.get().part is None:
        return arrays
    found, start = [], 0
    packed = mean_over_ranks(pack(arrays))
    for a in arrays:
        found.append(cut(packed, start, a.shape))
        start += a.size
    return found


def mean_numbers_over_ranks(numbers: Sequence[Any]) -> Sequence[Any]:
    """The means over the ranks of several numbers, floats or arrays of one number, by one reduction."""
    part = CONTEXT.get().part
    if part is None:
        return numbers
    means: Any = mean_over_ranks(stack([np.asarray(x) if isinstance(x, float) else astype(x, np.float64) for x in numbers]))
    return list(means)


def of_all_ranks(x: X) -> X:
    """The examples of all ranks: x (n, ...) -> (size * n, ...), in the order that they have in one process."""
    part = CONTEXT.get().part
    return x if part is None else _of_all_ranks(x, part=part)


def own_examples(x: X) -> X:
    """The examples of this rank: the reverse of `of_all_ranks`."""
    part = CONTEXT.get().part
    return x if part is None else _own_examples(x, part=part)
