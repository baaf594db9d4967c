"""A count that a replayed step advances, too."""
from __future__ import annotations

__all__ = ["Count"]

from tinygan.listening import advanced


class Count:
    """How often something has happened. `value` is an integer, which may be set when a state is loaded.

    A step that is recorded (`tinygan.capture`) advances the count again before every replay.
    """

    __slots__ = ("value",)

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Count({self.value})"

    def advance(self) -> None:
        """Add one."""
        self.value += 1
        advanced(self.advance)
