"""The share of a loop that one part of a task computes."""
from __future__ import annotations

from typing import Any

from tinygan.kernels.cpu.runtime.compiling import inline

GRAIN_ELEMENTS = 16
"""Every share begins at a multiple of this many elements, so that no two threads write to the same cache line."""


@inline
def share(count: Any, part: Any, parts: Any) -> Any:
    """(first, end) of share number `part`, if `count` elements are divided into `parts` shares."""
    units = (count + GRAIN_ELEMENTS - 1) // GRAIN_ELEMENTS
    return min(count, units * part // parts * GRAIN_ELEMENTS), min(count, units * (part + 1) // parts * GRAIN_ELEMENTS)
