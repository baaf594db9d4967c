"""Compiles and starts kernels on the CPU, for tests without a GPU. g++ compiles the same CUDA source, with `emulator.hpp`.

`Emulator` has the interface of `CupyLauncher` in `runtime/launcher.py`.
"""
from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.cache import cache_folder, replace
from tinygan.kernels.cuda.runtime.launcher import FOLDER, Dim, converted, dims, real_of, source_of

_HEADER = Path(__file__).with_name("emulator.hpp")


class EmulatorError(RuntimeError):
    """There is no g++, or it cannot compile a kernel file."""


class Emulator:
    """A launcher for NumPy arrays.

    sanitize: "address" or "thread", to check kernels with the compiler's sanitizer of that name. The process must have been
    started with the sanitizer's library preloaded. With "thread", the threads of a block are threads of the host. folder:
    the folder of the kernel files.
    """

    def __init__(self, sanitize: str | None = None, folder: Path = FOLDER) -> None:
        self.sanitize = sanitize
        self.folder = folder
        self.launched: set[tuple[str, str]] = set()  # (file, kernel), for a test that all kernels are tested
        self._libraries: dict[Any, ctypes.CDLL] = {}
        self._lock = threading.Lock()

    def launch(self, file: str, kernel: str, grid: Dim, block: Dim, arguments: Sequence[Any], dtype: Any,
               shared: int = 0, defines: tuple[str, ...] = ()) -> None:
        with self._lock:  # a kernel's shared memory is static, so only one launch may run at a time
            library = self._library(file, real_of(dtype), defines)
            keep = [self._argument(kernel, a) for a in arguments]
            self._check(library, kernel, keep)
            pointers = (ctypes.c_void_p * len(keep))(*[ctypes.addressof(a) for a in keep])
            function = getattr(library, f"emulate_{kernel}")
            function((ctypes.c_uint * 3)(*dims(grid)), (ctypes.c_uint * 3)(*dims(block)), ctypes.c_uint(shared), pointers)
            self.launched.add((file, kernel))

    @staticmethod
    def _argument(kernel: str, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.ndim + value.size > 0:
            return ctypes.c_void_p(value.ctypes.data)
        value = converted(kernel, value)
        if isinstance(value, np.ndarray):  # a struct
            return (ctypes.c_int * len(value.dtype)).from_buffer_copy(value.tobytes())
        return {np.int32: ctypes.c_int, np.float64: ctypes.c_double, np.uintp: ctypes.c_void_p}[type(value)](value.item())

    @staticmethod
    def _check(library: ctypes.CDLL, kernel: str, arguments: list[Any]) -> None:
        """Raises TypeError if the arguments differ from the kernel's parameters in number or size (a GPU does not check)."""
        count = getattr(library, f"parameters_{kernel}")(None)
        if count != len(arguments):
            raise TypeError(f"{kernel}: got {len(arguments)} arguments, expected {count}")
        sizes = (ctypes.c_size_t * max(count, 1))()
        getattr(library, f"parameters_{kernel}")(sizes)
        for place, (argument, size) in enumerate(zip(arguments, sizes, strict=False)):
            if ctypes.sizeof(argument) != size:
                raise TypeError(f"{kernel}: argument {place} has {ctypes.sizeof(argument)} bytes, expected {size}")

    def _library(self, file: str, real: str, defines: tuple[str, ...]) -> ctypes.CDLL:
        key = (file, real, defines)
        if key not in self._libraries:
            self._libraries[key] = ctypes.CDLL(str(self._built(file, real, defines)))
        return self._libraries[key]

    def _built(self, file: str, real: str, defines: tuple[str, ...]) -> Path:
        # The C library's check of longjmp (_FORTIFY_SOURCE) takes a jump to another fibre's stack for an error.
        flags = ["-std=c++17", "-O1", "-U_FORTIFY_SOURCE", "-fPIC", "-shared", "-fno-gnu-unique", "-ffp-contract=off",
                 "-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Werror", f"-DREAL={real}",
                 *(f"-D{define}" for define in defines)]
        if self.sanitize:
            flags += ["-g", f"-fsanitize={self.sanitize}"]
        if self.sanitize == "thread":
            flags += ["-DHOST_THREADS", "-std=c++20"]
        source = source_of(file, self.folder)
        # Not the paths of the folders: all copies of tinygan with the same kernels share the cache.
        headers = [[(path.relative_to(folder).as_posix(), path.read_bytes()) for path in sorted(folder.rglob("*.cuh"))]
                   for folder in dict.fromkeys((FOLDER, self.folder))]
        key = repr((flags, source, headers, _HEADER.read_bytes()))
        told = hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
        target = cache_folder() / "emulator" / f"{file.replace('/', '-')}-{told}.so"
        if not target.exists():
            compiler = shutil.which("g++")
            if compiler is None:
                raise EmulatorError("the CUDA emulator needs g++")
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=target.parent, suffix=".so")
            os.close(handle)
            command = [compiler, *flags, f"-I{FOLDER}", f"-I{self.folder}", "-include", str(_HEADER), "-x", "c++", "-", "-o",
                       part]
            preload = {"LD_PRELOAD": ""} if self.sanitize else {}  # the sanitizer must not check the compiler itself
            done = subprocess.run(command, input=source, capture_output=True, text=True, check=False,
                                  env={**os.environ, **preload})
            if done.returncode:
                Path(part).unlink()
                raise EmulatorError(f"{file}.cu as {real}:\n{done.stderr}")
            replace(part, target)
        return target
