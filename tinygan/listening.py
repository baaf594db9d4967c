"""How the engine tells a listener what a training step does, so that the step can be recorded and replayed.

A replay does the arithmetic of the recorded step again, on the same memory, without running the Python code. But some values
must be new in every step: keys, learning rates, counts. So the engine calls the context's listener at a few named points,
and the listener notes what must be done again. Usually there is no listener; then a point costs one look at the context. The
only listener is `tinygan.capture.Recording`.
"""
from __future__ import annotations

__all__ = ["Listener", "advanced", "is_recording_step", "read_by_host", "relies_on", "seen", "used"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tinygan.context import CONTEXT

if TYPE_CHECKING:
    from tinygan.backends import Backend
    from tinygan.tensor import Tensor
    from tinygan.versions import Derived, Version


class Listener(Protocol):
    """The calls that the engine makes to the object that records a step."""

    backend: Backend
    """The device whose work is recorded."""

    def uses(self, tensor: Tensor) -> None:
        """The memory of a Parameter or Buffer is read or written. A replay will use the same memory."""

    def constant(self, array: Any) -> Any:
        """An op is about to read an array of the host that no op has computed. Returns it, or another array on its memory. A
        replay will use the same memory."""

    def feed(self, value: Any) -> Any:
        """The host passes a value, or what a function returns, to the kernels. Returns an array that holds the value. A
        function is called again before every replay."""

    def advanced(self, action: Callable[[], None]) -> None:
        """The host has done `action`, such as advancing a count. It must do it again before every replay."""

    def relies_on(self, predicate: Callable[[], bool]) -> None:
        """The recording is valid only while `predicate()` is true."""

    def derived(self, version: Version) -> Derived:
        """The cache for what this recording computes from a weight's values. Every replay computes it again."""

    def read_by_host(self, caller: str) -> None:
        """The host is about to read a value that the step computes. This is an error: a replay could not react to it."""


def used(tensor: Tensor) -> None:
    """The array of a Parameter or Buffer is about to be read or written. If a step is being recorded, read the tensor's
    array only after this call: the recording may have exchanged it for one that tells of its uses."""
    listener = CONTEXT.get().listener
    if listener is not None:
        listener.uses(tensor)


def seen(array: Any) -> Any:
    """The array, which lives on after the step, for a function that is not an op. If a step is being recorded, it is one on
    the same memory that tells of its uses."""
    listener = CONTEXT.get().listener
    return array if listener is None else listener.backend.device.seen(array)


def advanced(action: Callable[[], None]) -> None:
    """The host has done `action`. If a step is being recorded, every replay starts with these actions, in the same order."""
    listener = CONTEXT.get().listener
    if listener is not None:
        listener.advanced(action)


def relies_on(predicate: Callable[[], bool]) -> None:
    """If a step is being recorded, the recording is valid only while `predicate()` is true; after that, the step is recorded
    again."""
    listener = CONTEXT.get().listener
    if listener is not None:
        listener.relies_on(predicate)


def read_by_host(caller: str) -> None:
    """`caller` is about to read a computed value. Raises RuntimeError if a step is being recorded."""
    listener = CONTEXT.get().listener
    if listener is not None:
        listener.read_by_host(caller)


def is_recording_step() -> bool:
    """Whether a step is being recorded. Callers use it to refuse what cannot be replayed, and to skip checks that would read
    values."""
    return CONTEXT.get().listener is not None
