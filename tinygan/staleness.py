"""What an op has read that may be overwritten before its vjp runs. It is noted with its version, and `grad` compares."""
from __future__ import annotations

__all__ = ["Checksum", "Read", "check_fresh", "note_uses", "reads", "watched"]

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinygan.backends import backend_of
from tinygan.context import CONTEXT
from tinygan.tensor import Tensor
from tinygan.versions import Version

if TYPE_CHECKING:
    from tinygan.graph import Node, Op


class Checksum:
    """Stands in for a Version where nobody counts the writes, under `detect_anomaly`: the count is a checksum."""

    __slots__ = ("_array", "_backend")

    def __init__(self, array: Any, backend: Any) -> None:
        self._array, self._backend = array, backend

    @property
    def count(self) -> int:
        return zlib.crc32(self._backend.to_numpy(self._array).tobytes())


class Read(NamedTuple):
    """An op used the values of a Parameter or Buffer (or of a view of one) when they had this version. Under
    `detect_anomaly` there is such a note of every other array, too."""

    version: Version | Checksum
    seen: int
    shape: tuple[int, ...]


def reads(inputs: Iterable[Any]) -> tuple[Read, ...]:
    """The Parameters and Buffers among an op's inputs, and views of them."""
    return tuple([Read(x.version, x.version.count, x.shape) for x in inputs
                  if isinstance(x, Tensor) and x.version is not None])


def watched(values: Any) -> tuple[Read, ...]:
    """The arrays among the values (in lists, tuples and dicts, too) with their checksums."""
    if isinstance(values, dict):
        values = tuple(values.values())
    if isinstance(values, list | tuple):
        return tuple([read for value in values for read in watched(value)])
    try:
        backend = backend_of(values)
    except TypeError:
        return ()
    if isinstance(values, np.generic):
        return ()
    checksum = Checksum(values, backend)
    return (Read(checksum, checksum.count, values.shape),)


def note_uses(op: Op, inputs: Iterable[Any], result: Tensor) -> None:
    """An op has read a Parameter or Buffer. A view of one carries its version, and goes stale with it. Whoever records a
    step, and a `checkpoint`, are told."""
    context = CONTEXT.get()
    for x in inputs:
        if isinstance(x, Tensor) and x.version is not None:
            if op.view and backend_of(result.array).xp.may_share_memory(result.array, x.array):
                result.version = x.version
                x.version.watch(result.array)
            if context.listener is not None:
                context.listener.uses(x)
    if context.reads is not None:
        context.reads.extend(reads(inputs))


def check_fresh(node: Node) -> None:
    """RuntimeError if what the node saved has been overwritten since."""
    for version, seen, shape in node.versions:
        if version.count == seen:
            continue
        if isinstance(version, Checksum):
            raise RuntimeError(f"grad: {node.op} needs the values that an array of shape {shape} had when it ran, and they "
                               f"have been overwritten since; the op was called from {node.line or 'inside a checkpoint'}")
        raise RuntimeError(f"grad: {node.op} needs the values that a Parameter or Buffer of shape {shape} had when it "
                           "ran, and they have been overwritten since (by assign or an optimiser's step)")
