"""What an op has read that may be overwritten before its vjp runs. It is noted with its version, and `grad` compares."""
from __future__ import annotations

__all__ = ["Checksum", "Read", "reads", "refuse_stale", "watched"]

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from tinygan.backends import backend_of
from tinygan.tensor import Tensor
from tinygan.versions import Version

if TYPE_CHECKING:
    from tinygan.graph import Node


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


def refuse_stale(node: Node, read: Read) -> NoReturn:
    """The error for a node that needs what has been overwritten."""
    if isinstance(read.version, Checksum):
        raise RuntimeError(f"grad: {node.op} needs the values that an array of shape {read.shape} had when it ran, and they "
                           f"have been overwritten since; the op was called from {node.line or 'inside a checkpoint'}")
    raise RuntimeError(f"grad: {node.op} needs the values that a Parameter or Buffer of shape {read.shape} had when it "
                       "ran, and they have been overwritten since (by assign or an optimiser's step)")
