"""Memory that is used again from step to step: `empty` for results, `Scratch` for what a kernel needs meanwhile.

Large fresh memory is slow: the system hands it out page by page, zeroed. So large arrays are views of buffers that stay
in a list of their thread; a buffer whose reference count says that no view is left is free for the next array of its
size. Nobody gives anything back explicitly.
"""
from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np

SMALL = 65536  # bytes: below, NumPy's own cache of blocks does as well
ALIGNMENT = 64
Array = np.ndarray[Any, Any]


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_size: dict[int, list[Array]] = {}
        self.peak = 0  # bytes: the most that was in use when a buffer had to be made


_BUFFERS = _Buffers()


def _free(buffers: list[Array]) -> Array | None:
    for buffer in buffers:
        if sys.getrefcount(buffer) == _UNUSED:
            return buffer
    return None


def _calibrate() -> int:
    """The reference count of a buffer without views, seen from the loop in `_free` (it differs between Pythons)."""
    for buffer in [np.empty(1, np.uint8)]:
        return sys.getrefcount(buffer)
    raise AssertionError


_UNUSED = _calibrate()


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array, 64-byte aligned if large."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    buffer = _free(_BUFFERS.by_size.get(size, []))
    if buffer is None:
        _trim()
        buffer = np.empty(size + ALIGNMENT, np.uint8)
        _BUFFERS.by_size.setdefault(size, []).append(buffer)
    return np.ndarray(shape, dtype, buffer, -buffer.ctypes.data % ALIGNMENT)


def _trim() -> None:
    """Forget the free buffers if they are more than was ever in use, as they become where sizes keep changing."""
    used = free = 0
    for size, buffers in _BUFFERS.by_size.items():
        for buffer in buffers:
            if sys.getrefcount(buffer) == _UNUSED:
                free += size
            else:
                used += size
    _BUFFERS.peak = max(_BUFFERS.peak, used)
    if free > _BUFFERS.peak:
        _BUFFERS.peak = used
        for size, buffers in list(_BUFFERS.by_size.items()):
            kept = []
            for buffer in buffers:  # a loop like the one that _UNUSED was counted in
                if sys.getrefcount(buffer) != _UNUSED:
                    kept.append(buffer)  # noqa: PERF401
            if kept:
                _BUFFERS.by_size[size] = kept
            else:
                del _BUFFERS.by_size[size]


class _Kept(threading.local):
    memory = np.empty(0, np.uint8)


_KEPT = _Kept()
_NOTHING = np.empty(0, np.uint8)
MOST_KEPT = 128 * 2**20  # bytes of scratch memory that a thread keeps


class Scratch:
    """`with Scratch(*sizes) as addresses:` pieces of that many bytes for the body. A thread keeps the memory for the next
    one; one inside another (in a signal handler, say) has memory of its own."""

    __slots__ = ("_memory", "_sizes")

    def __init__(self, *sizes: int) -> None:
        self._sizes = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]

    def __enter__(self) -> list[int]:
        size = sum(self._sizes) + ALIGNMENT
        self._memory, _KEPT.memory = _KEPT.memory, _NOTHING
        if self._memory.size < size:
            self._memory = _NOTHING  # the old memory is free for the new
            self._memory = np.empty(size, np.uint8)
        place = self._memory.ctypes.data
        place += -place % ALIGNMENT
        addresses = []
        for size in self._sizes:
            addresses.append(place)
            place += size
        return addresses

    def __exit__(self, *_: object) -> None:
        if _KEPT.memory.size < self._memory.size <= MOST_KEPT:
            _KEPT.memory = self._memory
