"""Memory that is used again from step to step: `empty` for results, `Scratch` for what a kernel needs meanwhile.

Large fresh memory is slow: the system hands it out page by page, zeroed. So large arrays are views of buffers, and each
thread keeps a list of its buffers. When the last view of a buffer is gone, which its reference count says, the next array of
that size gets it. Nobody gives anything back explicitly.
"""
from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np

REUSED_FROM = 65536  # bytes: for smaller arrays NumPy's own cache of blocks does as well
ALIGNMENT = 64
Array = np.ndarray[Any, Any]


class _Buffer:
    """Aligned memory of that many bytes, and when it was last handed out."""

    __slots__ = ("memory", "offset", "size", "start", "used")

    def __init__(self, size: int) -> None:
        self.memory = np.empty(size + ALIGNMENT, np.uint8)
        self.size = size
        place = self.memory.ctypes.data  # (to ask for it takes a microsecond)
        self.offset = -place % ALIGNMENT
        self.start = place + self.offset
        self.used = 0

    def references(self) -> int:
        return sys.getrefcount(self.memory)


UNUSED = _Buffer(1).references()  # without views (the number differs between Pythons)
MOST_HELD = 3  # times the most that was ever in use: beyond, free buffers are given back


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_size: dict[int, list[_Buffer]] = {}
        self.clock = 0  # how often memory was handed out
        self.peak = 0  # bytes: the most that was in use, with the buffer that had to be made then


_BUFFERS = _Buffers()


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array, 64-byte aligned if large."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < REUSED_FROM:
        return np.empty(shape, dtype)
    for buffer in _BUFFERS.by_size.get(size, ()):
        if buffer.references() == UNUSED:
            break
    else:
        _make_room(size)
        buffer = _Buffer(size)
        _BUFFERS.by_size.setdefault(size, []).append(buffer)
    _BUFFERS.clock += 1
    buffer.used = _BUFFERS.clock
    return np.ndarray(shape, dtype, buffer.memory, buffer.offset)


def is_dense(x: Array) -> bool:
    """Whether the elements fill one piece of memory, row-major or, images of four axes, channels-last."""
    return x.flags.c_contiguous or (x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous)


def empty_like(x: Array) -> Array:
    """An uninitialised array of the shape and dtype of x, which is dense, and with its elements in the same order."""
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    n, c, height, width = x.shape
    return empty((n, height, width, c), x.dtype).transpose(0, 3, 1, 2)


def _make_room(size: int) -> None:
    """Give the least recently used free buffers back to the system. Otherwise there would be ever more of them where sizes
    keep changing."""
    every = [(size, buffer) for size, buffers in _BUFFERS.by_size.items() for buffer in buffers]
    free = [(size, buffer) for size, buffer in every if buffer.references() == UNUSED]
    held = size + sum(size for size, _ in every)
    _BUFFERS.peak = max(_BUFFERS.peak, held - sum(size for size, _ in free))
    for size, buffer in sorted(free, key=lambda pair: pair[1].used):
        if held <= MOST_HELD * _BUFFERS.peak:
            break
        held -= size
        _BUFFERS.by_size[size].remove(buffer)
        if not _BUFFERS.by_size[size]:
            del _BUFFERS.by_size[size]


_NOTHING = _Buffer(0)


class _Kept(threading.local):
    buffer = _NOTHING


_KEPT = _Kept()
MOST_KEPT = 128 * 2**20  # bytes of scratch memory that a thread keeps


class Scratch:
    """`with Scratch(*sizes) as addresses:` pieces of that many bytes for the body. A thread keeps the memory for the next
    one; one inside another (in a signal handler, say) has memory of its own."""

    __slots__ = ("_buffer", "_sizes")

    def __init__(self, *sizes: int) -> None:
        self._sizes = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]

    def __enter__(self) -> list[int]:
        size = sum(self._sizes)
        self._buffer, _KEPT.buffer = _KEPT.buffer, _NOTHING
        if self._buffer.size < size:
            self._buffer = _NOTHING  # the old memory is free for the new
            self._buffer = _Buffer(size)
        place = self._buffer.start
        addresses = []
        for size in self._sizes:
            addresses.append(place)
            place += size
        return addresses

    def __exit__(self, *_: object) -> None:
        if _KEPT.buffer.size < self._buffer.size <= MOST_KEPT:
            _KEPT.buffer = self._buffer
