"""The share of a loop that one part of a task does."""
from __future__ import annotations

from typing import Any

from tinygan.kernels.cpu.runtime.compiling import inline

GRAIN = 16
"""Shares begin at multiples of so many elements, so that no two threads write to one cache line."""


@inline
def share(count: Any, part: Any, parts: Any) -> Any:
    """(first, end) of the part-th of `parts` shares of `count` elements."""
    units = (count + GRAIN - 1) // GRAIN
    return min(count, units * part // parts * GRAIN), min(count, units * (part + 1) // parts * GRAIN)
