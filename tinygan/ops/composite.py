"""Functions that are defined by several ops and may run as one op."""
from __future__ import annotations

__all__ = ["Composite"]

from collections.abc import Callable
from functools import update_wrapper
from typing import Generic, ParamSpec, TypeVar

from tinygan.context import CONTEXT

P = ParamSpec("P")
R = TypeVar("R")


class Composite(Generic[P, R]):
    """Decorator for a function that is defined in ops. `@name.fused` then registers a faster function with the same
    arguments, whose result is the same up to rounding. It runs instead of the definition while fusion is on (the default).
    The faster functions are in `tinygan.fusion`. `tg.fusion(False)` runs the definitions.
    """

    __slots__ = ("__dict__", "_fused", "definition")

    def __init__(self, definition: Callable[P, R]) -> None:
        update_wrapper(self, definition)
        self.definition = definition
        self._fused = definition

    def fused(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorator: `function` runs instead of the definition while fusion is on."""
        self._fused = function
        return function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return (self._fused if CONTEXT.get().fusion else self.definition)(*args, **kwargs)
