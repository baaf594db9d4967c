"""Kernels on the CPU, for tests without a GPU: the same CUDA source compiled by g++ against `emulator.hpp`."""
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

from tinygan.cache import cache_folder
from tinygan.kernels.cuda.runtime.launcher import FOLDER, Dim, converted, dims, real_of

_HEADER = Path(__file__).with_name("emulator.hpp")


class EmulatorError(RuntimeError):
    """A kernel file that g++ does not take, or no g++."""


class Emulator:
    """A launcher on NumPy arrays. sanitize: "address" or "thread" for the compiler's sanitizer (the process must have been
    started with its library preloaded); the latter runs a host thread for every thread of a block. folder: of the kernel
    files."""

    def __init__(self, sanitize: str | None = None, folder: Path = FOLDER) -> None:
        self.sanitize = sanitize
        self.folder = folder
        self.launched: set[tuple[str, str]] = set()  # (file, kernel): for a test that all are tested
        self._libraries: dict[Any, ctypes.CDLL] = {}
        self._lock = threading.Lock()

    def launch(self, file: str, kernel: str, grid: Dim, block: Dim, arguments: Sequence[Any], dtype: Any,
               shared: int = 0, defines: tuple[str, ...] = ()) -> None:
        with self._lock:  # blocks' shared memory is static
            library = self._library(file, real_of(dtype), defines)
            expected = getattr(library, f"parameters_{kernel}")()
            if expected != len(arguments):
                raise TypeError(f"{kernel}: {len(arguments)} arguments for {expected} parameters")
            keep = [self._argument(kernel, a) for a in arguments]
            pointers = (ctypes.c_void_p * len(keep))(*[ctypes.addressof(a) for a in keep])
            function = getattr(library, f"emulate_{kernel}")
            function((ctypes.c_uint * 3)(*dims(grid)), (ctypes.c_uint * 3)(*dims(block)), ctypes.c_uint(shared), pointers)
            self.launched.add((file, kernel))

    @staticmethod
    def _argument(kernel: str, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.ndim + value.size > 0:
            return ctypes.c_void_p(value.ctypes.data)
        value = converted(kernel, value)
        return {np.int32: ctypes.c_int, np.float64: ctypes.c_double, np.uintp: ctypes.c_void_p}[type(value)](value.item())

    def _library(self, file: str, real: str, defines: tuple[str, ...]) -> ctypes.CDLL:
        key = (file, real, defines)
        if key not in self._libraries:
            self._libraries[key] = ctypes.CDLL(str(self._built(file, real, defines)))
        return self._libraries[key]

    def _built(self, file: str, real: str, defines: tuple[str, ...]) -> Path:
        flags = ["-std=c++20", "-O1", "-g", "-fPIC", "-shared", "-fno-gnu-unique", "-ffp-contract=off", "-Wall",
                 "-Wno-unknown-pragmas", "-Wno-unused-function", "-Werror", f"-I{FOLDER}", f"-DREAL={real}",
                 *(f"-D{define}" for define in defines)]
        if self.sanitize:
            flags += [f"-fsanitize={self.sanitize}"] + (["-DHOST_THREADS"] if self.sanitize == "thread" else [])
        headers = {*self.folder.rglob("*.cuh"), *FOLDER.rglob("*.cuh"), _HEADER}
        sources = [self.folder / f"{file}.cu", *sorted(headers)]
        told = hashlib.blake2b(repr((flags, [path.read_bytes() for path in sources])).encode(), digest_size=12).hexdigest()
        target = cache_folder() / "emulator" / f"{file.replace('/', '-')}-{told}.so"
        if not target.exists():
            compiler = shutil.which("g++")
            if compiler is None:
                raise EmulatorError("the CUDA emulator needs g++")
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=target.parent, suffix=".so")
            os.close(handle)
            source = ["-include", str(_HEADER), "-x", "c++", str(self.folder / f"{file}.cu")]
            command = [compiler, *flags, *source, "-o", part]
            preload = {"LD_PRELOAD": ""} if self.sanitize else {}  # the sanitizer is for kernels, not for the compiler
            done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **preload})
            if done.returncode:
                Path(part).unlink()
                raise EmulatorError(f"{file}.cu as {real}:\n{done.stderr}")
            os.replace(part, target)
        return target
