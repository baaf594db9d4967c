"""Look up a name that a user gives in the table of known names."""
from __future__ import annotations

__all__ = ["lookup"]

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def lookup(table: Mapping[str, T], caller: str, argument: str, name: str) -> T:
    """`table[name]`. Raises ValueError, which lists the known names, if the name is not in the table."""
    if not isinstance(name, str):
        raise ValueError(f"{caller}: {argument} should be a name, one of {', '.join(table)}, got {type(name).__name__}")
    if name not in table:
        raise ValueError(f"{caller}: unknown {argument} {name!r}, expected one of {', '.join(table)}")
    return table[name]
