"""How often a piece of memory has been written to, and what kernels have made of the values that it holds."""
from __future__ import annotations

__all__ = ["Checksum", "Derived", "Read", "Version", "watched"]

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygan.backends import backend_of
from tinygan.context import CONTEXT


class Derived:
    """What kernels have made of a piece of memory, by keys of theirs, and keep until the next write."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[int, Any]] = {}

    def get(self, key: Any, count: int, make: Callable[[], Any]) -> Any:
        """What `make()` returns, or returned after the same number of writes."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] == count:
            return kept[1]
        # What was made of older values goes, and its memory is free for the next.
        self._kept = {k: other for k, other in self._kept.items() if other[0] == count}
        del kept
        made = make()
        self._kept[key] = count, made
        return made


class Version:
    """Counts the writes to one piece of memory; views share it, and `grad` refuses what was saved before a write."""

    __slots__ = ("_derived", "count")

    def __init__(self) -> None:
        self.count = 0
        self._derived = Derived()

    def derive(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make()` makes of the values, kept until they change. What a capture uses, it makes itself: every replay has
        to make it again."""
        count, capture = self.count, CONTEXT.get().capture  # before the values: another thread may write to them
        return (self._derived if capture is None else capture.derived(self)).get(key, count, make)


class Checksum:
    """Stands in for a Version where nobody counts the writes, under `detect_anomaly`: the count is a checksum."""

    __slots__ = ("_array", "_backend")

    def __init__(self, array: Any, backend: Any) -> None:
        self._array, self._backend = array, backend

    @property
    def count(self) -> int:
        return zlib.crc32(self._backend.to_numpy(self._array).tobytes())


class Read(NamedTuple):
    """That the values of a Parameter or Buffer (or a view of one) were used, and at which version; under `detect_anomaly`
    those of any other array, too."""

    version: Version | Checksum
    seen: int
    shape: tuple[int, ...]


def watched(values: Any) -> tuple[Read, ...]:
    """The arrays among the values, lists, tuples and dicts included, and their checksums."""
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
