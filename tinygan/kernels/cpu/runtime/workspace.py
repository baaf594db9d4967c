"""Memory that is reused from step to step: `empty` for results, `Scratch` for the temporary memory of a kernel.

Fresh memory is slow, because the system provides it page by page and fills it with zeros. So a large array is a view of a
buffer, and each thread keeps a list of its buffers. The reference count of a buffer tells when its last view is gone. Then
the next array of that size gets the buffer. Nobody has to free anything.
"""
from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

REUSED_FROM_BYTES = 65536  # for smaller arrays NumPy's own cache of memory blocks is as fast
ALIGNMENT_BYTES = 64
Array = np.ndarray[Any, Any]


class _Buffer:
    """Aligned memory of that many bytes, and the time of its last use (see `_Buffers.clock`)."""

    __slots__ = ("memory", "offset", "size", "start", "used")

    def __init__(self, size: int) -> None:
        self.memory = np.empty(size + ALIGNMENT_BYTES, np.uint8)
        self.size = size
        place = self.memory.ctypes.data  # (asking NumPy for it takes a microsecond, so ask once)
        self.offset = -place % ALIGNMENT_BYTES
        self.start = place + self.offset
        self.used = 0

    def references(self) -> int:
        return sys.getrefcount(self.memory)


REFERENCES_WHEN_FREE = _Buffer(1).references()  # of a buffer without views (the number differs between Python versions)
MOST_HELD_PER_PEAK = 3  # a thread holds at most this many times the most memory that was ever in use


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_size: dict[int, list[_Buffer]] = {}
        self.clock = 0  # counts the arrays that got memory
        self.peak = 0  # the most bytes that were in use, the new buffer included, when one had to be made
        # These differ while a step is recorded (see `private`).
        self.reused_from = REUSED_FROM_BYTES
        self.kind: type[Array] = np.ndarray
        self.private: Private | None = None


_BUFFERS = _Buffers()


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array. A large one is aligned to 64 bytes."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < _BUFFERS.reused_from:
        return np.empty(shape, dtype)
    for buffer in _BUFFERS.by_size.get(size, ()):
        if buffer.references() == REFERENCES_WHEN_FREE:
            break
    else:
        if _BUFFERS.private is None:
            _make_room(size)
        buffer = _Buffer(size)
        _BUFFERS.by_size.setdefault(size, []).append(buffer)
    _BUFFERS.clock += 1
    buffer.used = _BUFFERS.clock
    return _BUFFERS.kind(shape, dtype, buffer.memory, buffer.offset)


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of zeros."""
    if _BUFFERS.private is None:
        return np.zeros(shape, dtype)
    x = empty(shape, dtype)
    x[...] = 0
    return x


def contiguous(x: Array) -> Array:
    """x, or a C-contiguous copy."""
    return x if x.flags.c_contiguous else x.copy()


def of_dtype(x: Any, dtype: Any) -> Array:
    """x, an array or a number, as an array of that dtype."""
    return x.astype(dtype, copy=False) if isinstance(x, np.ndarray) else np.asarray(x, dtype)


def at_address(start: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """The C-contiguous array at an address. It does not keep the memory there alive."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return _BUFFERS.kind(shape, dtype, (ctypes.c_char * size).from_address(start))


def kept(table: Any) -> Any:
    """A table of arguments, or a buffer, whose address a kernel gets. If a step is being recorded, the recording keeps it
    alive."""
    if _BUFFERS.private is not None:
        _BUFFERS.private.kept.append(table)
    return table


def aligned(size: int) -> Array:
    """An array of that many bytes, aligned to 64 bytes."""
    buffer = _Buffer(size)
    return buffer.memory[buffer.offset:buffer.offset + size]


def is_dense(x: Array) -> bool:
    """Whether the elements fill one piece of memory without gaps: in row-major order, or images in channels-last order."""
    return x.flags.c_contiguous or (x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous)


def empty_like(x: Array) -> Array:
    """An uninitialised array with the shape, the dtype and the order of elements of x, which must be dense."""
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    n, c, height, width = x.shape
    return empty((n, height, width, c), x.dtype).transpose(0, 3, 1, 2)


class Private:
    """The memory of one recorded step. It lives as long as this object."""

    def __init__(self) -> None:
        self.by_size: dict[int, list[_Buffer]] = {}
        self.kept: list[Any] = []
        for size, buffers in _BUFFERS.by_size.items():  # begin with what the thread does not need now
            self.by_size[size] = [buffer for buffer in buffers if buffer.references() == REFERENCES_WHEN_FREE]
            buffers[:] = [buffer for buffer in buffers if buffer.references() != REFERENCES_WHEN_FREE]
            for buffer in self.by_size[size]:
                buffer.used = 0

    def end(self) -> None:
        """Free what has not been used."""
        for buffers in self.by_size.values():
            buffers[:] = [buffer for buffer in buffers if buffer.used]

    def owns(self, place: int) -> bool:
        """Whether this address is in this memory."""
        return any(0 <= place - buffer.start < max(size, 1) for size, buffers in self.by_size.items() for buffer in buffers)

    @property
    def bytes(self) -> int:
        """The size of the memory."""
        scratch = {id(buffer): buffer.size for buffer in self.kept if isinstance(buffer, _Buffer)}
        return sum(size * len(buffers) for size, buffers in self.by_size.items()) + sum(scratch.values())


@contextmanager
def private(kind: type[Array]) -> Iterator[Private]:
    """In the body, every array of this thread, small ones too, is of that type and gets memory that is used for nothing
    else, also after the body. Only arrays of the body share it among themselves. It begins with the memory that earlier
    arrays have left."""
    before = vars(_BUFFERS).copy()
    memory = Private()
    vars(_BUFFERS).update(by_size=memory.by_size, reused_from=0, kind=kind, private=memory)
    try:
        yield memory
    finally:
        vars(_BUFFERS).update(before)
        _KEPT.buffer = _NOTHING
        memory.end()


def _make_room(size: int) -> None:
    """Free the least recently used free buffers if the thread would hold too much with `size` bytes more. Otherwise, if the
    sizes of arrays keep changing, the memory would fill up with old buffers."""
    every = [(size, buffer) for size, buffers in _BUFFERS.by_size.items() for buffer in buffers]
    free = [(size, buffer) for size, buffer in every if buffer.references() == REFERENCES_WHEN_FREE]
    held = size + sum(size for size, _ in every)
    _BUFFERS.peak = max(_BUFFERS.peak, held - sum(size for size, _ in free))
    for size, buffer in sorted(free, key=lambda pair: pair[1].used):
        if held <= MOST_HELD_PER_PEAK * _BUFFERS.peak:
            break
        held -= size
        _BUFFERS.by_size[size].remove(buffer)
        if not _BUFFERS.by_size[size]:
            del _BUFFERS.by_size[size]


_NOTHING = _Buffer(0)


class _Kept(threading.local):
    buffer = _NOTHING


_KEPT = _Kept()
MOST_KEPT_BYTES = 128 * 2**20  # of scratch memory that a thread keeps after use


class Scratch:
    """`with Scratch(*sizes) as addresses:` gives the body pieces of memory of these sizes in bytes. The thread keeps the
    memory for the next `Scratch`. A `Scratch` inside another one, for example in a signal handler, gets its own memory."""

    __slots__ = ("_buffer", "_sizes")

    def __init__(self, *sizes: int) -> None:
        self._sizes = [-(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for size in sizes]

    def __enter__(self) -> list[int]:
        size = sum(self._sizes)
        self._buffer, _KEPT.buffer = _KEPT.buffer, _NOTHING
        if self._buffer.size < size:
            self._buffer = _NOTHING  # the old memory is freed before the new is allocated
            self._buffer = _Buffer(size)
        kept(self._buffer)
        place = self._buffer.start
        addresses = []
        for size in self._sizes:
            addresses.append(place)
            place += size
        return addresses

    def __exit__(self, *_: object) -> None:
        most = MOST_KEPT_BYTES if _BUFFERS.private is None else math.inf
        if _KEPT.buffer.size < self._buffer.size <= most:
            _KEPT.buffer = self._buffer
