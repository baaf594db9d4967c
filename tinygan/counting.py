"""A count that also advances when a recorded training step is replayed."""
from __future__ import annotations

__all__ = ["Count"]

from tinygan.listening import advanced


class Count:
    """How often something has happened. `value` is an integer; loading a state sets it.

    If a recorded step (`tinygan.capture`) advances the count, every replay advances it again.
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
