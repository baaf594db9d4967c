"""Addresses of arrays, for Python; pointers and arrays at addresses, for kernels."""
from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import intrinsic, typeof_impl

from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.recorded import ACTIVE, RecordedArray, host

Array = np.ndarray[Any, Any]
REALS = {np.dtype(np.float32): types.float32, np.dtype(np.float64): types.float64}
"""The Numba type of each dtype that kernels compute in."""

_byte_of = ctypes.c_char.from_buffer


def address(array: Array) -> int:
    """The address of an array's first element. (The first way is seven times as fast, but does not work for all arrays.)"""
    try:
        return ctypes.addressof(_byte_of(array))  # type: ignore[arg-type]  # arrays are buffers
    except (TypeError, ValueError, BufferError):  # read-only, not contiguous, empty
        return int(array.__array_interface__["data"][0])


def pointer_to(real: Any) -> Any:
    """A function for kernels, (address): a pointer to elements of that type at the address."""
    @intrinsic
    def pointer(typing: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(real).as_pointer())

        return types.CPointer(real)(types.int64), code

    return pointer


@cache
def array_at(real: Any) -> Any:
    """A function for kernels, (address, size): the array of that many elements at an address."""
    pointer = pointer_to(real)

    @inline
    def at(address: Any, size: Any) -> Any:
        return carray(pointer(address), (size,))

    return at


@typeof_impl.register(RecordedArray)
def numba_type(array: RecordedArray, purpose: Any) -> Any:
    """Numba is about to run a user's function on the array."""
    if ACTIVE.recorder is not None:
        raise RuntimeError("a function that Numba compiled inside a capture: no replay would run it again. Use ops or NumPy "
                           "there, or do not capture the step (`tinygan train --no-capture`)")
    return typeof_impl(host(array), purpose)
