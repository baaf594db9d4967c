"""Compiles and starts kernels: here on a GPU, through CuPy. `emulator/launcher.py` does the same on the CPU.

    launcher.launch("activations", "activation", grid=8, block=256, arguments=(x, out, 2000, 1, 0.0), dtype=x.dtype)

A file is compiled at its first use, for the dtype of its arrays. Python's arguments become these arguments in CUDA:
    an array            a pointer to its first element
    None                a null pointer
    an int              int
    a float             double
    a NamedTuple        a struct of ints, by value; the kernel file has a struct of the same name with the same fields
The activations are inserted before each file (see `activation_source`).
"""
from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tinygan.kernels.cuda.runtime.activation_source import cuda_source

Dim = int | tuple[int, ...]
FOLDER = Path(__file__).parents[1]
"""The name of a kernel file is its path in this folder, without the ending ".cu"."""
FILES = tuple(sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.cu")))
STANDARD = "-std=c++17"


class Launcher(Protocol):
    def launch(self, file: str, kernel: str, grid: Dim, block: Dim, arguments: Sequence[Any], dtype: Any,
               shared: int = 0, defines: tuple[str, ...] = ()) -> None:
        """Start `kernel` of `file`.cu. grid: the number of blocks; block: the number of threads in a block; both in up to
        three dimensions. shared: the bytes of dynamic shared memory. defines: macros that the file is compiled with. Raises
        ValueError for a number that does not fit into an int."""


def source_of(file: str, folder: Path = FOLDER) -> str:
    """The text that is compiled for `file`.cu. The activations are inserted before it, and its lines keep their numbers.
    Raises ValueError if an activation's record lacks a formula."""
    text = (folder / f"{file}.cu").read_text(encoding="utf-8")
    return f'#include "runtime/common.cuh"\n{cuda_source()}#line 1 "{file}.cu"\n{text}'


def real_of(dtype: Any) -> str:
    """The C type of an array's elements."""
    return {"float32": "float", "float64": "double"}[np.dtype(dtype).name]


def dims(value: Dim) -> tuple[int, int, int]:
    """The size of a grid or block in three dimensions. Raises ValueError if a number is not between 1 and 2^31 - 1."""
    given = (value,) if isinstance(value, int) else value
    if not all(0 < n < 2**31 for n in given):
        raise ValueError(f"launch: a grid or block of {given}, expected numbers from 1 to 2^31 - 1")
    return (*given, *(1,) * (3 - len(given)))  # type: ignore[return-value]


@cache
def struct_of(fields: tuple[str, ...]) -> np.dtype[Any]:
    """The NumPy dtype of a struct of ints with these fields."""
    return np.dtype([(field, np.int32) for field in fields])


def converted(kernel: str, value: Any) -> Any:
    """An argument in the form that CuPy takes. Numbers become NumPy numbers, None an address of 0, and a NamedTuple an array
    of one struct; CuPy passes them by value. Arrays are returned unchanged."""
    if isinstance(value, tuple):
        return _converted_struct(kernel, value)
    if value is None:
        return np.uintp(0)
    if isinstance(value, bool | int | np.integer):
        if not -2**31 <= value < 2**31:
            raise ValueError(f"{kernel}: {value} does not fit into an int; split the batch")
        return np.int32(value)
    if isinstance(value, float | np.floating):
        return np.float64(value)
    return value


def _converted_struct(kernel: str, value: Any) -> Any:
    try:
        return np.array([tuple(value)], struct_of(value._fields))
    except OverflowError:
        raise ValueError(f"{kernel}: {value} has a number that does not fit into an int; split the batch") from None


class CupyLauncher:
    """Compiles kernels with NVRTC and starts them with CuPy, on the GPU with that index and on the thread's current stream.
    That GPU must be the thread's current GPU."""

    def __init__(self, cupy: Any, index: int = 0) -> None:
        self._cupy, self._index = cupy, index
        self._kernels: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def launch(self, file: str, kernel: str, grid: Dim, block: Dim, arguments: Sequence[Any], dtype: Any,
               shared: int = 0, defines: tuple[str, ...] = ()) -> None:
        current = self._cupy.cuda.runtime.getDevice()
        if current != self._index:
            raise RuntimeError(f"{kernel}: its arrays are on cuda:{self._index}, but this thread works on cuda:{current}; "
                               f"choose with cupy.cuda.Device({self._index}).use()")
        key = (file, kernel, np.dtype(dtype).char, defines)
        function = self._kernels.get(key) or self._compiled(key, file, kernel, dtype, defines)
        if shared > 48 * 1024 and function.max_dynamic_shared_size_bytes < shared:
            function.max_dynamic_shared_size_bytes = shared
        function(dims(grid), dims(block), tuple([converted(kernel, a) for a in arguments]), shared_mem=shared)

    def _compiled(self, key: Any, file: str, kernel: str, dtype: Any, defines: tuple[str, ...]) -> Any:
        with self._lock:
            # CuPy's cache compares the source and the options. A hash of the headers in the options makes it notice their
            # changes, too.
            headers = hashlib.blake2b(b"".join(path.read_bytes() for path in sorted(FOLDER.rglob("*.cuh"))), digest_size=8)
            options = (STANDARD, f"-I{FOLDER}", f"-DREAL={real_of(dtype)}", f"-DHEADERS_{headers.hexdigest()}",
                       *(f"-D{define}" for define in defines))
            module = self._cupy.RawModule(code=source_of(file), options=options)
            function = self._kernels[key] = module.get_function(kernel)
            return function
