"""The engine's one pool of threads: `run(block, chunks, *args)`.

Waking a sleeping thread takes longer than many kernels do, so helpers stay awake, spinning outside the interpreter lock,
for a fraction of a millisecond after the last work; then they sleep until the next. Two threads that call kernels at
once: the second runs its whole kernel itself. A forked child starts its own helpers. Nothing here touches Numba's own
threads, so `prange` in the user's code keeps the threading layer it would have had.
"""
from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.kernels.compile import Parallel, disk_cache

STATE_SIZE, DONE, STOP = 512, 8, 16  # of the state, see native.py
SPINS = 200_000  # looks at the state before giving up, some nanoseconds each
NAP = 2e-5  # seconds


def _new_state() -> np.ndarray:
    return np.zeros(STATE_SIZE, np.int64)


class _Local(threading.local):
    """The state of work that a thread does alone."""

    def __init__(self) -> None:
        self.state = _new_state()


class Pool:
    """The helpers, and the state through which they get their work. `workers` counts the calling thread too."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.state = _new_state()
        self.lock = threading.Lock()
        self.alone = _Local()
        self.sleeping: list[threading.Lock] = []
        self.helpers: list[threading.Thread] = []
        self.chunks = 0  # of the work at hand, and its arguments, alive until all helpers are done with them
        self.args: tuple[Any, ...] = ()

    def run(self, block: Parallel, chunks: int, *args: Any) -> None:
        """Calls `block(*args, chunk, chunks)` for every chunk below `chunks`, on all threads."""
        driver = block.driver or block.build()
        if chunks == 1 or not self.lock.acquire(blocking=False):
            driver(self.alone.state, chunks, 0, *args)
            return
        try:
            self._wait()  # for work that an exception (Ctrl-C) left behind
            if len(self.helpers) + 1 < self.workers:
                self._start()
            self.args, self.chunks = args, chunks
            while self.sleeping:
                self.sleeping.pop().release()
            if not driver(self.state, chunks, SPINS, *args):
                self._wait()
            self.args = ()
        finally:
            self.lock.release()

    def _wait(self) -> None:
        while self.state[DONE] < self.chunks:
            time.sleep(NAP)  # leaves the core to a helper that lost its own to another process

    def _start(self) -> None:
        serve = _compiled_serve()
        while len(self.helpers) + 1 < self.workers:
            helper = threading.Thread(target=self._help, args=(serve,), name="tinygan-kernels", daemon=True)
            self.helpers.append(helper)
            helper.start()

    def _help(self, serve: Callable[..., None]) -> None:
        state, bell = self.state, threading.Lock()
        bell.acquire()
        while not state[STOP]:
            serve(state, SPINS)
            self.sleeping.append(bell)
            bell.acquire()

    def stop(self) -> None:
        """Ends the helpers. Later work is done by its callers."""
        self.state[STOP] = 1
        self.workers = 1
        for helper in self.helpers:
            while helper.is_alive():
                while self.sleeping:
                    self.sleeping.pop().release()
                helper.join(0.001)


def _compiled_serve() -> Callable[..., None]:
    from tinygan.kernels import native

    if type(native.serve._cache).__name__ == "NullCache":
        native.serve._cache = disk_cache("tinygan.kernels.native.serve")
    return native.serve  # type: ignore[no-any-return]


def _workers() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(1, int(os.environ.get("TINYGAN_THREADS") or available)), 1024)


POOL = Pool(_workers())


def run(block: Parallel, chunks: int, *args: Any) -> None:
    """Calls `block(*args, chunk, chunks)` for every chunk below `chunks`, on all threads of the pool.

    args: arrays that are C-contiguous, writable and aligned (see `plain`), Python ints and floats.
    """
    POOL.run(block, chunks, *args)


def thread_count() -> int:
    """How many threads share a kernel: one a core that this process may use, or TINYGAN_THREADS."""
    return POOL.workers


def chunks_for(size: int, grain: int = 16384) -> int:
    """Into how many chunks to cut work on `size` elements, of which `grain` are worth a thread."""
    return min(POOL.workers, 1 + size // grain)


class _Plain:
    """An array interface onto the memory of a read-only array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def plain(array: np.ndarray) -> np.ndarray:
    """The array as kernels want it, for reading: C-contiguous, aligned, of the one type that is compiled; copied only if it
    must be."""
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        return array.copy()
    return array if flags.writeable else np.asarray(_Plain(array))


def _after_fork() -> None:
    global POOL
    POOL = Pool(POOL.workers)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: POOL.stop())
