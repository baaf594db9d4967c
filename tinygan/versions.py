"""How often a piece of memory has been written to, and what kernels have made of the values that it holds."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
