"""Versions count the writes to a piece of memory. `derived` keeps what kernels compute from a weight until the next
write."""
from __future__ import annotations

__all__ = ["Derived", "Version", "derived", "forget_derived"]

import weakref
from collections.abc import Callable
from typing import Any

from tinygan.context import CONTEXT


class Derived:
    """A cache of what kernels have computed from a piece of memory, by key. An entry is kept until the next write."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[int, Any]] = {}

    def get(self, key: Any, count: int, make: Callable[[], Any]) -> Any:
        """What `make()` returns; or its earlier result, if there has been no write since. count: the number of writes so
        far."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] == count:
            return kept[1]
        # Results from older values are dropped first, so that their memory is free for the new one.
        entries = list(self._kept.items())  # in one go, because another thread may add an entry
        self._kept = {k: other for k, other in entries if other[0] == count}
        del kept, entries
        made = make()
        self._kept[key] = count, made
        return made


class Version:
    """Counts the writes to one piece of memory. Views share it. `grad` refuses to use values that were saved before a
    write."""

    __slots__ = ("count", "derived")

    def __init__(self) -> None:
        self.count = 0
        self.derived = Derived()

    def derive(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make()` computes from the values. It is kept until they change."""
        count, listener = self.count, CONTEXT.get().listener
        return (self.derived if listener is None else listener.derived(self)).get(key, count, make)

    def watch(self, array: Any) -> None:
        """Let `derived` know that this array uses the memory whose writes are counted here."""
        known = _VERSIONS.get(id(array))
        if known is None or known() is not array or known.version is not self:
            _VERSIONS[id(array)] = _Known(array, self)


class _Known(weakref.ref):  # type: ignore[type-arg]
    """A weak reference to an array, with its version. It is removed from `_VERSIONS` when the array is freed."""

    __slots__ = ("key", "version")

    def __new__(cls, array: Any, version: Version) -> _Known:
        return super().__new__(cls, array, _forget)

    def __init__(self, array: Any, version: Version) -> None:
        super().__init__(array, _forget)  # type: ignore[call-arg]
        self.key = id(array)
        self.version = version


def _forget(known: _Known) -> None:
    if _VERSIONS.get(known.key) is known:  # (another array may have the same id by now)
        del _VERSIONS[known.key]


_VERSIONS: dict[int, _Known] = {}
"""The version of every array of a Parameter or Buffer, and of every view of one that an op has made, by the array's id."""


def forget_derived() -> None:
    """Forget all that kernels have computed from weights. It will be computed again when it is needed."""
    for known in list(_VERSIONS.values()):
        known.version.derived = Derived()


def derived(array: Any, key: Any, make: Callable[[], Any]) -> Any:
    """What `make()` computes from an array's values. For a weight (the array of a Parameter or Buffer, or a view of it) the
    result is kept under `key` until the next write. For any other array it is computed at every call.

    A weight and its views share one cache. So if it matters which of them a result belongs to, the key must say so, by
    address, shape and strides. A recorded step has a cache of its own, because every replay must compute the results again.
    """
    known = _VERSIONS.get(id(array))
    if known is None or known() is not array:
        return make()
    version, listener = known.version, CONTEXT.get().listener
    count = version.count  # read before the values, because another thread may write to them
    return (version.derived if listener is None else listener.derived(version)).get(key, count, make)
