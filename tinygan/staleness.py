"""Values that an op has saved may be overwritten before its vjp runs. So a node notes their versions (the version of a
piece of memory counts the writes to it), and `grad` raises an error if one of them has changed."""
from __future__ import annotations

__all__ = ["Checksum", "UsedVersion", "check_fresh", "checksums", "note_uses", "told_uses", "used_versions"]

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
    """Stands in for a Version under `detect_anomaly`, for arrays whose writes are not counted: its count is a checksum."""

    __slots__ = ("_array", "_backend")

    def __init__(self, array: Any, backend: Any) -> None:
        self._array, self._backend = array, backend

    @property
    def count(self) -> int:
        return zlib.crc32(self._backend.to_numpy(self._array).tobytes())


class UsedVersion(NamedTuple):
    """A note that an op has used the values of a Parameter or Buffer, or of a view of one: its version, and the count at
    that time. Under `detect_anomaly` there are such notes for all other arrays too."""

    version: Version | Checksum
    used_count: int
    shape: tuple[int, ...]


def used_versions(inputs: Iterable[Any]) -> tuple[UsedVersion, ...]:
    """Notes of the Parameters, Buffers and views of them among an op's inputs."""
    return tuple([UsedVersion(x.version, x.version.count, x.shape) for x in inputs
                  if isinstance(x, Tensor) and x.version is not None])


def checksums(values: Any) -> tuple[UsedVersion, ...]:
    """Notes of all arrays in `values`, which may be nested in lists, tuples and dicts, with their checksums."""
    if isinstance(values, dict):
        values = tuple(values.values())
    if isinstance(values, list | tuple):
        return tuple([note for value in values for note in checksums(value)])
    try:
        backend = backend_of(values)
    except TypeError:
        return ()
    if isinstance(values, np.generic):
        return ()
    checksum = Checksum(values, backend)
    return (UsedVersion(checksum, checksum.count, values.shape),)


def told_uses(inputs: Iterable[Any], arrays: list[Any]) -> list[Any]:
    """Tell the listener that records a step which Parameters, Buffers and constants an op is about to read. Returns the op's
    arrays: the listener may have put others in their place."""
    listener = CONTEXT.get().listener
    assert listener is not None
    found = [listener.constant(array) if type(array) is np.ndarray else array for array in arrays]
    for i, x in enumerate(inputs):
        if isinstance(x, Tensor) and x.version is not None:
            listener.uses(x)
            found[i] = x.array
    return found


def note_uses(op: Op, inputs: Iterable[Any], result: Tensor) -> None:
    """Called when an op has used Parameters or Buffers. A view of one gets its version, so it becomes stale at the same
    time. Also tells the `checkpoint` that this op runs in."""
    context = CONTEXT.get()
    for x in inputs:
        if op.view and isinstance(x, Tensor) and x.version is not None and (
                backend_of(result.array).xp.may_share_memory(result.array, x.array)):
            result.version = x.version
            x.version.watch(result.array)
    if context.checkpoint_versions is not None:
        context.checkpoint_versions.extend(used_versions(inputs))


def check_fresh(node: Node) -> None:
    """Raise RuntimeError if a value that the node saved has been overwritten."""
    for version, used_count, shape in node.saved_versions:
        if version.count == used_count:
            continue
        if isinstance(version, Checksum):
            raise RuntimeError(f"grad: {node.op} needs the values that an array of shape {shape} had when it ran, and they "
                               f"have been overwritten since; the op was called from {node.line or 'inside a checkpoint'}")
        raise RuntimeError(f"grad: {node.op} needs the values that a Parameter or Buffer of shape {shape} had when it "
                           "ran, and they have been overwritten since (by assign or an optimiser's step)")
