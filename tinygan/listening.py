"""What a training step says while it is recorded, so that it can be replayed.

A replay does the arithmetic of the recorded step again, on the same memory, without running the Python code. What that code
decided from step to step must be decided again: keys, learning rates, counts. So the engine says what it does at a few named
points, and the context's listener notes it. Nobody listens as a rule; then each point costs one look at the context. The one
listener is `tinygan.capture.Recording`.
"""
from __future__ import annotations

__all__ = ["Listener", "advanced", "is_recording_step", "read_by_host", "relies_on"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tinygan.context import CONTEXT

if TYPE_CHECKING:
    from tinygan.tensor import Tensor
    from tinygan.versions import Derived, Version


class Listener(Protocol):
    """What the engine tells whoever records a step."""

    def uses(self, tensor: Tensor) -> None:
        """The memory of a Parameter or Buffer is read or written: a replay will use the same memory."""

    def feed(self, value: Any) -> Any:
        """The host hands a value, or what a function returns, to the kernels. Returns an array that holds it, and that is
        filled again before every replay."""

    def advanced(self, action: Callable[[], None]) -> None:
        """The host has done something, such as to advance a count, that it must do again before every replay."""

    def relies_on(self, predicate: Callable[[], bool]) -> None:
        """The recording is good only while this holds."""

    def derived(self, version: Version) -> Derived:
        """Where to keep what is made of a weight's values in this recording: every replay makes it anew."""

    def read_by_host(self, caller: str) -> None:
        """The host is about to read a value that the step computes: an error, for a replay could not know what follows."""


def advanced(action: Callable[[], None]) -> None:
    """The host has done `action`. If a step is being recorded, it is done again before every replay, in the same order."""
    listener = CONTEXT.get().listener
    if listener is not None:
        listener.advanced(action)


def relies_on(predicate: Callable[[], bool]) -> None:
    """If a step is being recorded, the recording is good only while `predicate()` is true; else it is recorded again."""
    listener = CONTEXT.get().listener
    if listener is not None:
        listener.relies_on(predicate)


def read_by_host(caller: str) -> None:
    """`caller` is about to read a computed value: a RuntimeError if a step is being recorded."""
    listener = CONTEXT.get().listener
    if listener is not None:
        listener.read_by_host(caller)


def is_recording_step() -> bool:
    """Whether a step is being recorded here: for an error message about what cannot be part of it, and for a check of
    values, which cannot be read then."""
    return CONTEXT.get().listener is not None
