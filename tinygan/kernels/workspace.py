"""`empty(shape, dtype)`: memory for results that is used again from step to step.

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
TRIM_EVERY = 256  # allocations


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_size: dict[int, list[np.ndarray]] = {}
        self.count = 0


_BUFFERS = _Buffers()


def _free(buffers: list[np.ndarray]) -> np.ndarray | None:
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


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised array, 64-byte aligned if large."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    buffers = _BUFFERS.by_size.setdefault(size, [])
    buffer = _free(buffers)
    _BUFFERS.count += 1
    if buffer is None or _BUFFERS.count % TRIM_EVERY == 0:
        _trim()
    if buffer is None:
        buffer = np.empty(size + ALIGNMENT, np.uint8)
        buffers.append(buffer)
    return np.ndarray(shape, dtype, buffer, -buffer.ctypes.data % ALIGNMENT)


def _trim() -> None:
    """Forgets the free buffers when they are more than those in use."""
    used = free = 0
    for size, buffers in _BUFFERS.by_size.items():
        idle = sum(sys.getrefcount(buffer) == _UNUSED for buffer in buffers)
        free += idle * size
        used += (len(buffers) - idle) * size
    if free > used:
        for buffers in _BUFFERS.by_size.values():
            buffers[:] = [buffer for buffer in buffers if sys.getrefcount(buffer) != _UNUSED]
