"""What holds for the code that runs now, in this thread or task: recording, train/eval overrides, buffer updates, the key.

One `ContextVar` holds one immutable `Context`. Threads start from the default and asyncio tasks from a copy, so a
`no_grad` in one of them is never seen by another.
"""
from __future__ import annotations

__all__ = ["detect_anomaly", "enable_grad", "is_recording", "no_grad", "override"]

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tinygan.listening import Listener
    from tinygan.random import KeyStream


def _fusion_at_start() -> bool:
    chosen = os.environ.get("TINYGAN_FUSION", "1")
    if chosen not in ("0", "1"):
        raise ValueError(f"TINYGAN_FUSION: expected 0 or 1, got {chosen!r}")
    return chosen == "1"


class Context(NamedTuple):
    recording: bool = True
    """Whether ops on Tensors that require a gradient record nodes."""
    training: dict[object, bool] | None = None
    """Train/eval overrides, by `Module._identity`."""
    updating: frozenset[object] | None = None
    """The modules whose buffers move; None: every module in training."""
    keys: KeyStream | None = None
    """Where dropout and first-use initialisation draw from; None: the process's default stream."""
    detect_anomaly: bool = False
    """Whether the first NaN or infinity is an error that names the op and the user's line."""
    conv_algorithm: str = "auto"
    """How convolutions are computed: "auto", "direct" or "tiled"."""
    matmul_precision: str = "float32"
    """What a GPU computes float32 products in: "float32" or "tf32"."""
    fusion: bool = _fusion_at_start()
    """Whether what `tinygan.fusion` has a fused op for runs as that op."""
    listener: Listener | None = None
    """Who is told what a step does, to record it (see `tinygan.listening`); None: nobody."""
    reads: list[Any] | None = None
    """Where `apply` notes the versions of the Parameters and Buffers that it meets; None: nowhere."""

    def what_decides_a_step(self) -> Context:
        """All fields that change what a step computes. When one of them changes, a captured step is recorded again."""
        return self._replace(keys=None, listener=None, reads=None)


CONTEXT: ContextVar[Context] = ContextVar("tinygan", default=Context())


@contextmanager
def override(**changes: Any) -> Iterator[None]:
    """Run the body (or the decorated function) with some fields of the context changed."""
    token = CONTEXT.set(CONTEXT.get()._replace(**changes))
    try:
        yield
    finally:
        CONTEXT.reset(token)


def no_grad() -> Any:
    """`with no_grad():` records nothing in the body, so what it computes is a constant to `grad`. Also a decorator."""
    return override(recording=False)


def enable_grad() -> Any:
    """`with enable_grad():` records again inside a `no_grad`."""
    return override(recording=True)


def detect_anomaly() -> Any:
    """`with detect_anomaly():` the first NaN or infinity, forward or backward, raises `FloatingPointError` naming the
    op and the line of the user's code that called it; in a vjp that is made of several ops also that one of them. An array
    that was overwritten after an op saved it, and before the gradient is computed, is a `RuntimeError` that names the same.
    Every result is checked and every saved array summed, so expect half the speed."""
    return override(detect_anomaly=True)


def is_recording() -> bool:
    """Whether ops record nodes here."""
    return CONTEXT.get().recording
