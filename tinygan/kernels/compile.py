"""Compilation of the kernels by Numba: on first use, kept on disk, keyed by the text of every file in this folder.

A kernel file decorates its functions with `jit` (a helper, inlined into its callers) or `parallel` (a block function,
run by `threads.run`). Neither imports Numba: the first call of a kernel does, and puts the compiled functions in the
place of these decorated ones, in the globals of the files that use them.
"""
from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEPT_CACHES = 3  # of other versions of the kernels: a developer's edits should not fill the disk
NO_NAN_LOST = {"contract", "reassoc", "nsz"}  # all of "fast" that keeps infinities and NaN
_LOCK = threading.RLock()


class Lazy:
    """A function that Numba compiles once somebody needs it."""

    def __init__(self, function: Callable[..., Any], fastmath: Any) -> None:
        self.function = function
        self.fastmath = fastmath
        self.compiled: Any = None

    def resolve(self) -> Any:
        """The Numba dispatcher of this function, whose globals then hold dispatchers too."""
        if self.compiled is None:
            import numba

            self.compiled = numba.njit(nogil=True, error_model="numpy", fastmath=self.fastmath)(self.function)
            names = self.function.__globals__
            for name, value in list(names.items()):
                if isinstance(value, Lazy | Native):
                    names[name] = value.resolve()
        return self.compiled


class Parallel(Lazy):
    """A block function `block(*args, chunk, chunks)`; `driver` runs all of its chunks (see `threads.run`)."""

    driver: Any = None

    def build(self) -> Any:
        with _LOCK:
            if self.driver is None:
                native = importlib.import_module("tinygan.kernels.native")
                driver = native.driver_of(self.resolve())
                driver._cache = disk_cache(f"{self.function.__module__}.{self.function.__name__}")
                self.driver = driver
            return self.driver


class Native:
    """A name in native.py, which cannot be imported without Numba."""

    def __init__(self, name: str) -> None:
        self.name = name

    def resolve(self) -> Any:
        return getattr(importlib.import_module("tinygan.kernels.native"), self.name)


def jit(function: Callable[..., Any]) -> Any:
    """For helpers of kernels. They keep the order of operations that they are written in, block functions need not."""
    return Lazy(function, {"contract", "nsz"})


def parallel(function: Callable[..., Any]) -> Parallel:
    """For block functions: `function(*args, chunk, chunks)` does its share, number `chunk` of `chunks`, of the work."""
    return Parallel(function, NO_NAN_LOST)


def sources_hash() -> str:
    """What the compiled code depends on: every kernel file, the compiler and the interpreter."""
    import llvmlite
    import numba
    import numpy as np

    digest = hashlib.sha256(repr((numba.__version__, llvmlite.__version__, np.__version__, sys.version,
                                  platform.machine())).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def user_cache() -> Path:
    """Where this user's programs keep what they can make again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tinygan"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tinygan"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinygan"


class Folder:
    """The folder of this version's kernels, or none (`path` is None) where nothing can be kept."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.announced = False
        try:
            path = user_cache() / f"kernels-{sources_hash()}"
            fresh = not path.exists()
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
            os.utime(path)
            self.path = path
            if fresh:
                self._forget_old_versions()
        except (OSError, RuntimeError):  # RuntimeError: this user has no home
            pass

    def _forget_old_versions(self) -> None:
        assert self.path is not None
        others = [path for path in self.path.parent.glob("kernels-*") if path != self.path]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[KEPT_CACHES:]:
            shutil.rmtree(path, ignore_errors=True)

    def announce(self) -> None:
        if not self.announced:
            self.announced = True
            where = f"cached in {self.path}" if self.path else "no cache folder can be written, so at every start"
            print(f"tinygan: compiling kernels for this machine, up to 20 seconds, once; {where}".replace(
                ", once; no cache", "; no cache"), file=sys.stderr, flush=True)


_FOLDER: Folder | None = None


def disk_cache(name: str) -> Any:
    """A cache in Numba's sense for one function: a file a signature, written under another name and then renamed."""
    global _FOLDER
    from numba.core.caching import NullCache
    from numba.core.compiler import CompileResult
    from numba.core.serialize import dumps

    if _FOLDER is None:
        _FOLDER = Folder()
    folder = _FOLDER

    class DiskCache(NullCache):  # type: ignore[misc]
        def _file(self, signature: Any, codegen: Any) -> Path:
            assert folder.path is not None
            key = hashlib.sha256(repr((signature, codegen.magic_tuple())).encode()).hexdigest()[:16]
            return folder.path / f"{name}-{key}.bin"

        def load_overload(self, signature: Any, target_context: Any) -> Any:
            target_context.refresh()
            if folder.path is not None:
                try:
                    payload = self._file(signature, target_context.codegen()).read_bytes()
                    digest, data = payload[:32], payload[32:]
                    if hashlib.sha256(data).digest() == digest:
                        return CompileResult._rebuild(target_context, *pickle.loads(data))
                except OSError:
                    pass
            folder.announce()
            return None

        def save_overload(self, signature: Any, result: Any) -> None:
            if folder.path is None:
                return
            data = dumps(result._reduce())
            path = self._file(signature, result.codegen)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, temporary = tempfile.mkstemp(dir=path.parent)
                try:
                    with os.fdopen(handle, "wb") as file:
                        file.write(hashlib.sha256(data).digest() + data)
                    os.replace(temporary, path)
                except OSError:
                    os.unlink(temporary)
            except OSError:  # a full disk, a folder that another process has just removed
                pass

    return DiskCache()
