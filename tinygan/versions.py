"""How often a piece of memory has been written to, and what kernels have made of the values that it holds."""
from __future__ import annotations

__all__ = ["Derived", "Version", "derived"]

import weakref
from collections.abc import Callable
from typing import Any

from tinygan.context import CONTEXT


class Derived:
    """What kernels have made of a piece of memory, by keys of theirs. It is kept until the next write."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[int, Any]] = {}

    def get(self, key: Any, count: int, make: Callable[[], Any]) -> Any:
        """What `make()` returns, or returned after the same number of writes."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] == count:
            return kept[1]
        # What was made of older values goes, and its memory is free for the next.
        entries = list(self._kept.items())  # (at once, because another thread may add one)
        self._kept = {k: other for k, other in entries if other[0] == count}
        del kept
        made = make()
        self._kept[key] = count, made
        return made


class Version:
    """Counts the writes to one piece of memory; views share it, and `grad` refuses what was saved before a write."""

    __slots__ = ("count", "derived")

    def __init__(self) -> None:
        self.count = 0
        self.derived = Derived()

    def derive(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make()` makes of the values, kept until they change."""
        count, listener = self.count, CONTEXT.get().listener
        return (self.derived if listener is None else listener.derived(self)).get(key, count, make)

    def watch(self, array: Any) -> None:
        """This array lies in the memory whose writes are counted here: `derived` will know it."""
        known = _VERSIONS.get(id(array))
        if known is None or known() is not array or known.version is not self:
            _VERSIONS[id(array)] = _Known(array, self)


class _Known(weakref.ref):  # type: ignore[type-arg]
    """A weak reference to an array, with its version. The entry goes with the array."""

    __slots__ = ("key", "version")

    def __new__(cls, array: Any, version: Version) -> _Known:
        return super().__new__(cls, array, _forget)

    def __init__(self, array: Any, version: Version) -> None:
        super().__init__(array, _forget)  # type: ignore[call-arg]
        self.key = id(array)
        self.version = version


def _forget(known: _Known) -> None:
    if _VERSIONS.get(known.key) is known:  # (by now another array may have that id)
        del _VERSIONS[known.key]


_VERSIONS: dict[int, _Known] = {}
"""The version of every array of a Parameter or Buffer, and of every view of one that an op has made, by the array's id."""


def derived(array: Any, key: Any, make: Callable[[], Any]) -> Any:
    """What `make()` makes of an array's values. For a weight (the array of a Parameter or Buffer, or a view of it) it is
    kept until the next write, by `key`; for any other array it is made at every call. A weight and its views share what is
    kept, so the key says which of them it is of, where that matters: by address, shape and strides.

    A step that is recorded makes its own: every replay must make it again, of the values that it finds.
    """
    known = _VERSIONS.get(id(array))
    if known is None or known() is not array:
        return make()
    version, listener = known.version, CONTEXT.get().listener
    count = version.count  # before the values are read: another thread may write to them
    return (version.derived if listener is None else listener.derived(version)).get(key, count, make)
