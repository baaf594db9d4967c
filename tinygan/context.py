"""The settings of this thread or task: whether ops are recorded, train/eval overrides, buffer updates, the key, and others.

One `ContextVar` holds one immutable `Context`. A new thread starts with the default, and an asyncio task with a copy. So
`no_grad` in one thread or task does not affect another.
"""
from __future__ import annotations

__all__ = ["enable_grad", "is_recording", "no_grad", "override"]

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tinygan.distributed import Part
    from tinygan.listening import Listener
    from tinygan.random import KeyStream
    from tinygan.watching import Watcher


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
    """The modules whose buffers may be updated, by `Module._identity`; None: every module in training."""
    keys: KeyStream | None = None
    """The keys for dropout and for parameters that are drawn at first use; None: the process's default stream."""
    watcher: Watcher | None = None
    """The object that is told of every op, forward and backward (see `tinygan.watching`), such as that of `detect_anomaly`.
    None: nobody watches."""
    conv_algorithm: str = "auto"
    """How convolutions are computed: "auto", "direct" or "tiled"."""
    matmul_precision: str = "float32"
    """The precision of float32 products and convolutions on a GPU: "float32" or "tf32"."""
    fusion: bool = _fusion_at_start()
    """Whether the fused ops of `tinygan.fusion` run in place of the definitions in `tinygan.ops` and `tinygan.nn`."""
    listener: Listener | None = None
    """The object that records what a training step does (see `tinygan.listening`); None: no step is being recorded."""
    part: Part | None = None
    """Which part of each batch this process has in a training step (see `tinygan.distributed`); None: all of it."""
    checkpoint_versions: list[Any] | None = None
    """Inside `checkpoint`: a list to which `apply` adds the versions of the Parameters and Buffers that it uses. None: there
    is no checkpoint to tell."""

    def what_decides_a_step(self) -> Context:
        """All fields that change what a step computes. When one of them changes, a captured step is recorded again."""
        return self._replace(keys=None, listener=None, checkpoint_versions=None)


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
    """`with no_grad():` records nothing in the body, so its results are constants to `grad`. Also a decorator."""
    return override(recording=False)


def enable_grad() -> Any:
    """`with enable_grad():` records again inside a `no_grad`."""
    return override(recording=True)


def is_recording() -> bool:
    """Whether ops record nodes here."""
    return CONTEXT.get().recording
